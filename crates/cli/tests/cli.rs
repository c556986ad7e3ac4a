//! The program as its users run it: verbs, exit codes, and what is and is not written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Stdio},
    sync::LazyLock,
};

use serde_json::Value;
use tempfile::TempDir;

use common::*;

const ROWS: usize = 1500;
/// At a size that is enough for so few rows.
const COMPRESS: &str = "compress base.npy --ratio 0.12 --backend cpu";

/// Vectors and their compressed file, made once for all tests.
struct Store {
    files: Files,
    report: Value,
}

static STORE: LazyLock<Store> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let write = |to: &str, from: &str, rows| {
        write_npy(dir.path().join(to), "|i1", (rows, DIM), &values(from, rows));
    };
    write("base.npy", "base.i8.npy", ROWS);
    write("queries.npy", "queries.i8.npy", 40);
    write("sample.npy", "queries-train.i8.npy", 200);
    let args = "-o base.vlc --queries sample.npy --meta model=all-MiniLM-L6-v2 --threads 2 --seed 7";
    let report = json(&dir, &format!("{COMPRESS} {args}"));
    Store { files: Files::of(&dir), report }
});

fn store() -> TempDir {
    STORE.files.copy()
}

#[test]
fn every_verb_has_help_with_examples() {
    let dir = tempfile::tempdir().unwrap();
    let all = text(&dir, "--help");
    let verbs = "compress query eval info verify decode append delete compact train merge transcode devices health test \
                 test-gpu test-cuda demo completions";
    for verb in verbs.split_whitespace() {
        assert!(all.contains(&format!("\n  {verb} ")), "{verb} in {all}");
        let help = text(&dir, &format!("{verb} --help"));
        assert!(help.contains("Usage: vlc ") && help.contains("Examples:"), "{help}");
    }
    assert!(text(&dir, "--version").starts_with("vlc "));
}

#[test]
fn usage_errors_exit_2() {
    let dir = store();
    assert_fails(&dir, "query base.vlc queries.npy -k 0", 2);
    assert_fails(&dir, "query base.vlc queries.npy -o x.npy --scores x.npy", 2);
    assert_fails(&dir, "compress base.npy -o x.vlc --ratio 0.1 --bytes 46", 2);
    assert_fails(&dir, "compress base.npy -o x.vlc --ratio 0", 2);
    assert_fails(&dir, "compress base.npy -o x.vlc --bytes nan", 2);
    assert_fails(&dir, "compress base.npy -o x.vlc --meta vlc.x=1", 2);
    assert_fails(&dir, "decode base.vlc -o x.npy --rows 5..5", 2);
    assert_fails(&dir, "decode base.vlc -o x.npy --rows 0..1501", 2);
    assert_fails(&dir, "no-such-verb", 2);
    assert_code(&run(&dir, ""), 2);
}

#[test]
fn inputs_are_never_replaced() {
    let dir = store();
    assert_fails(&dir, "compress base.npy -o base.npy", 2);
    assert_fails(&dir, "decode base.vlc -o ./base.vlc", 2);
    assert_fails(&dir, "query base.vlc queries.npy -o queries.npy", 2);
}

#[test]
fn a_budget_too_small_exits_2_and_names_the_least() {
    let stderr = assert_fails(&store(), "compress base.npy -o x.vlc --bytes 0.1 --backend cpu", 2);
    assert!(stderr.contains("--ratio"), "{stderr}");
}

/// A store of one row: what is advised is taken.
#[test]
fn the_budget_that_is_advised_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    write_npy(dir.path().join("one.npy"), "|i1", (1, 16), &[1; 16]);
    let stderr = assert_fails(&dir, "compress one.npy -o o.vlc --backend cpu", 2);
    let advice = stderr.split("ask for ").nth(1).unwrap().split(" or more").next().unwrap();
    text(&dir, &format!("compress one.npy -o o.vlc --backend cpu {advice}"));
    text(&dir, "verify o.vlc");
}

/// Where rows stood in for queries, every line with the recall says so.
#[test]
fn recall_of_rows_is_not_passed_off_as_that_of_queries() {
    let dir = store();
    let says = |text: &str| {
        let line =
            text.lines().find(|line| line.contains("recall@10")).unwrap_or_else(|| panic!("no recall in {text}"));
        line.contains("stood in for queries")
    };
    let output = run(&dir, &format!("{COMPRESS} -o rows.vlc"));
    let stderr = assert_code(&output, 0);
    assert!(says(&stderr) && says(&String::from_utf8_lossy(&output.stdout)), "{stderr}");
    assert!(says(&text(&dir, "info rows.vlc")) && !says(&text(&dir, "info base.vlc")));
    assert!(says(&text(&dir, &format!("{COMPRESS} -o x.vlc --dry-run"))));
    assert!(!says(&text(&dir, &format!("{COMPRESS} -o x.vlc --dry-run --queries sample.npy"))));
    let plan = json(&dir, &format!("{COMPRESS} -o x.vlc --dry-run"));
    assert_eq!(
        (&plan["expected_recall_source"], &json(&dir, "info rows.vlc")["recall"]["source"]),
        (&"rows".into(), &"rows".into())
    );
}

#[test]
fn bad_vectors_exit_3() {
    let dir = store();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("bad.npy"), b"this is not an array").unwrap();
    fs::write(at("vectors.xyz"), b"0 1 2").unwrap();
    write_npy(at("narrow.npy"), "|i1", (2, 3), &[1, 2, 3, 4, 5, 6]);
    write_npy(at("short.npy"), "|i1", (10, DIM), &values("base.i8.npy", 10));
    let mut nan: Vec<f32> = values("base.i8.npy", ROWS).iter().map(|v| f32::from(v.cast_signed())).collect();
    nan[DIM + 16] = f32::NAN;
    let nan: Vec<u8> = nan.iter().flat_map(|v| v.to_le_bytes()).collect();
    write_npy(at("nan.npy"), "<f4", (ROWS, DIM), &nan);

    assert_fails(&dir, "compress bad.npy -o x.vlc", 3);
    assert_fails(&dir, "compress vectors.xyz -o x.vlc", 3);
    assert_fails(&dir, "compress base.npy -o x.vlc --queries narrow.npy", 3);
    assert_fails(&dir, "query base.vlc narrow.npy", 3);
    assert_fails(&dir, "eval base.vlc --base short.npy --queries queries.npy", 3);
    assert_fails(&dir, "eval base.vlc --base base.npy --queries narrow.npy", 3);
    let stderr = assert_fails(&dir, "compress nan.npy -o x.vlc --ratio 0.12 --backend cpu", 3);
    assert!(stderr.contains("row 1") && stderr.contains("column 16"), "{stderr}");
}

#[test]
fn corrupt_files_exit_4() {
    let dir = store();
    let good = fs::read(dir.path().join("base.vlc")).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(dir.path().join("flipped.vlc"), flipped).unwrap();
    fs::write(dir.path().join("cut.vlc"), &good[..good.len() - 1]).unwrap();
    fs::write(dir.path().join("text.vlc"), "no compressed file, though as long as the header of one").unwrap();

    assert_fails(&dir, "verify flipped.vlc", 4);
    for file in ["cut.vlc", "text.vlc"] {
        assert_fails(&dir, &format!("info {file}"), 4);
        assert_fails(&dir, &format!("verify {file}"), 4);
        assert_fails(&dir, &format!("query {file} queries.npy"), 4);
        assert_fails(&dir, &format!("decode {file} -o x.npy"), 4);
        assert_fails(&dir, &format!("eval {file} --base base.npy --queries queries.npy"), 4);
    }
}

#[test]
fn missing_files_exit_5() {
    let dir = store();
    assert_fails(&dir, "compress none.npy -o x.vlc", 5);
    assert_fails(&dir, "compress base.npy -o none/x.vlc", 5);
    assert_fails(&dir, "info none.vlc", 5);
    let stderr = assert_fails(&dir, "query base.vlc none.npy", 5);
    // The system's message is there once, not once for each error of the chain.
    assert_eq!(stderr.matches("none.npy").count(), 1, "{stderr}");
}

#[test]
fn a_missing_device_exits_6() {
    let dir = store();
    let devices = json(&dir, "devices");
    let devices = devices["devices"].as_array().unwrap();
    let available = |backend| devices.iter().any(|d| d["backend"] == backend && d["available"] == true);
    assert!(available("cpu"));
    for (backend, verb) in [("wgpu", "test-gpu"), ("cuda", "test-cuda")] {
        if available(backend) {
            continue;
        }
        let args = format!("compress base.npy -o x.vlc --ratio 0.12 --backend {backend}");
        let stderr = assert_fails(&dir, &args, 6);
        assert!(stderr.contains(backend), "{stderr}");
        assert_fails(&dir, &format!("query base.vlc queries.npy --backend {backend}"), 6);
        assert_fails(&dir, verb, 6);
    }
}

#[test]
fn compress_reports() {
    let report = &STORE.report;
    assert_fields(report, "n dim file_bytes bytes_per_vector ratio anchors code_bytes energy anchor_energy");
    assert_fields(report, "train_seconds encode_seconds seconds backend peak_rss_bytes recall");
    assert_eq!((&report["n"], &report["dim"]), (&ROWS.into(), &DIM.into()));
    assert_eq!(report["backend"], "cpu");
    let bytes = fs::metadata(store().path().join("base.vlc")).unwrap().len();
    assert_eq!(report["file_bytes"], bytes);
    assert!(bytes as f64 <= 0.12 * (ROWS * DIM * 4) as f64, "{bytes}");
    #[cfg(target_os = "linux")]
    assert!(report["peak_rss_bytes"].as_u64().unwrap() > 1 << 20);
}

#[test]
fn compress_prints_its_plan_and_repeats_itself() {
    let dir = store();
    let args = "-o again.vlc --queries sample.npy --meta model=all-MiniLM-L6-v2 --threads 1 --seed 7";
    let output = run(&dir, &format!("{COMPRESS} {args}"));
    let stderr = assert_code(&output, 0);
    assert!(stderr.contains("peak memory") && stderr.contains("recall@10"), "{stderr}");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("again.vlc: 1,500 vectors x 384"));
    let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
    assert!(read("again.vlc") == read("base.vlc"), "the same settings gave other bytes");

    let output = run(&dir, &format!("{COMPRESS} -o again.vlc --force -q"));
    assert_eq!(assert_code(&output, 0), "");
}

#[test]
fn a_dry_run_writes_nothing() {
    let dir = store();
    let before = listing(&dir);
    let plan = json(&dir, &format!("{COMPRESS} -o x.vlc --dry-run"));
    assert_fields(&plan, "file_bytes ratio expected_recall anchors model_bytes code_bytes peak_memory_bytes");
    assert!(text(&dir, &format!("{COMPRESS} -o x.vlc --dry-run")).contains("at most"));
    assert_eq!(listing(&dir), before);
}

#[test]
fn query_prints_lines_or_writes_arrays() {
    let dir = store();
    let text = text(&dir, "query base.vlc queries.npy -k 3 --backend cpu");
    let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split('\t').collect()).collect();
    assert_eq!(lines.len(), 40 * 3);
    assert!(lines.iter().all(|l| l.len() == 4));
    assert_eq!((lines[4][0], lines[4][1]), ("1", "2"));
    let ids: Vec<i64> = lines.iter().map(|l| l[2].parse().unwrap()).collect();
    let scores: Vec<f32> = lines.iter().map(|l| l[3].parse().unwrap()).collect();

    let args = "-k 3 --backend cpu --threads 1 -o ids.npy --scores scores.npy";
    let report = json(&dir, &format!("query base.vlc queries.npy {args}"));
    assert_fields(&report, "queries k seconds queries_per_second backend");
    assert_eq!((&report["queries"], &report["k"]), (&40.into(), &3.into()));
    let written = read_npy(dir.path().join("ids.npy"), "<i8", (40, 3));
    assert_eq!(written, ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<_>>());
    assert_eq!(floats(&read_npy(dir.path().join("scores.npy"), "<f4", (40, 3))), scores);
    // As the help says, a file of that name is replaced.
    json(&dir, &format!("query base.vlc queries.npy {args}"));

    let report = json(&dir, "query base.vlc queries.npy -k 3 --backend cpu");
    assert_eq!(report["ids"][1][1], ids[4]);
    // More than there are.
    let report = json(&dir, "query base.vlc queries.npy -k 2000 --backend cpu");
    assert_eq!(report["ids"][0].as_array().unwrap().len(), ROWS);
}

/// All levels of vector instructions give the same bytes and the same answers.
#[test]
fn instructions_do_not_matter() {
    let dir = store();
    let with = |level: &str, args: &str| {
        let output = vlc(args).env("VLC_SIMD", level).current_dir(dir.path()).output().unwrap();
        // A machine without these instructions says so.
        let missing = String::from_utf8_lossy(&output.stderr).contains("does not have these instructions");
        (!missing).then(|| assert_code(&output, 0)).map(|_| output.stdout)
    };
    // Few rows: the portable loops take their time.
    write_npy(dir.path().join("few.npy"), "|i1", (300, DIM), &values("base.i8.npy", 300));
    let mut expected: Option<(Vec<u8>, Vec<u8>)> = None;
    let mut levels = 0;
    for level in ["portable", "avx2", "avx512", "neon"] {
        let made = with(level, &format!("compress few.npy --ratio 0.4 --backend cpu -o {level}.vlc"));
        if made.is_none() {
            continue;
        }
        levels += 1;
        let hits = with(level, &format!("query {level}.vlc queries.npy -k 20")).unwrap();
        let found = (fs::read(dir.path().join(format!("{level}.vlc"))).unwrap(), hits);
        match &expected {
            None => expected = Some(found),
            Some(expected) => assert!(*expected == found, "{level} differs from portable"),
        }
    }
    assert!(levels >= 2 || cfg!(not(any(target_arch = "x86_64", target_arch = "aarch64"))), "{levels}");
    assert!(with("portable", "devices").is_some_and(|out| String::from_utf8_lossy(&out).contains("portable")));
    let refused = vlc("query portable.vlc queries.npy").env("VLC_SIMD", "sse9").current_dir(dir.path()).output();
    assert!(assert_code(&refused.unwrap(), 2).contains("VLC_SIMD=sse9"));
}

#[test]
fn queries_look_at_as_much_as_they_are_told_to() {
    let dir = store();
    json(&dir, &format!("{COMPRESS} --queries queries.npy -o a.vlc"));
    let all = json(&dir, "query a.vlc queries.npy -k 5");
    assert_eq!(all["probe"], "all");
    assert_eq!(json(&dir, "query a.vlc queries.npy -k 5 --probe 65536")["ids"], all["ids"]);
    assert_eq!(json(&dir, "query a.vlc queries.npy -k 5 --batch 1")["ids"], all["ids"]);
    let one = json(&dir, "query a.vlc queries.npy -k 5 --probe 1");
    assert!(one["ids"].as_array().unwrap().iter().all(|ids| ids.as_array().unwrap().len() == 5));
    let recall = |probe: &str| {
        let found = json(&dir, &format!("eval a.vlc --base base.npy --queries queries.npy --probe {probe}"));
        assert_eq!(found["probe"], probe);
        found["recall_at_k"].as_f64().unwrap()
    };
    assert!(recall("1") <= recall("all"));
    assert!(recall("auto") >= recall("all") - 0.005 - 0.01, "300 queries measure to a hundredth");
    assert_fails(&dir, "query a.vlc queries.npy --probe 0", 2);
    assert_fails(&dir, "query a.vlc queries.npy --probe most", 2);
}

#[test]
fn eval_measures() {
    let dir = store();
    let args = "eval base.vlc --base base.npy --queries queries.npy --backend cpu";
    let report = json(&dir, args);
    assert_fields(&report, "bytes_per_vector ratio queries_per_second truth_seconds backend");
    let share = |name: &str| report[name].as_f64().unwrap();
    assert!(share("recall_at_k") <= share("recall_k_at_30") && share("recall_k_at_30") <= share("recall_k_at_100"));
    assert!(share("recall_best") >= share("recall_at_k") && share("recall_best") <= 1.0, "{report}");
    let (similar, worst) = (share("similarity_ratio"), share("similarity_ratio_worst"));
    assert!(0.0 < worst && worst <= similar && similar <= 1.0 + 1e-6, "{report}");
    let at_k = report["recall_at_k"].as_f64().unwrap();
    let at_100 = report["recall_k_at_100"].as_f64().unwrap();
    assert!(at_k > 0.4 && at_k <= at_100 && at_100 > 0.8 && at_100 <= 1.0, "{report}");
    assert!(text(&dir, args).starts_with("recall@10"));
}

#[test]
fn info_and_verify_tell() {
    let dir = store();
    let info = json(&dir, "info base.vlc");
    assert_fields(&info, "version code charts symbols recall probe_cells sections training_rows seed");
    assert_eq!((&info["n"], &info["metric"]), (&ROWS.into(), &"cosine".into()));
    assert_eq!(info["metadata"]["model"], "all-MiniLM-L6-v2");
    let text_of = text(&dir, "info base.vlc");
    assert!(text_of.contains("\nprobing "), "{text_of}");
    assert!(text_of.contains("1,500 x 384") && text_of.contains("model = all-MiniLM-L6-v2"), "{text_of}");

    assert_eq!(text(&dir, "verify base.vlc"), "base.vlc: ok\n");
    assert_eq!(json(&dir, "verify base.vlc")["ok"], true);
}

#[test]
fn decode_comes_close() {
    let dir = store();
    assert_eq!(json(&dir, "decode base.vlc -o all.npy")["rows"], ROWS);
    text(&dir, "decode base.vlc -o some.npy --rows 100..105 --threads 1");
    let all = read_npy(dir.path().join("all.npy"), "<f4", (ROWS, DIM));
    let some = read_npy(dir.path().join("some.npy"), "<f4", (5, DIM));
    assert_eq!(some, all[100 * DIM * 4..105 * DIM * 4]);

    let (mut dot, mut a, mut b) = (0.0, 0.0, 0.0);
    for (x, y) in floats(&all).into_iter().zip(values("base.i8.npy", ROWS)) {
        let (x, y) = (f64::from(x), f64::from(y.cast_signed()));
        (dot, a, b) = (dot + x * y, a + x * x, b + y * y);
    }
    assert!(dot / (a * b).sqrt() > 0.8, "cosine {}", dot / (a * b).sqrt());
}

#[test]
fn a_closed_stdout_is_no_error() {
    let dir = store();
    let verbs = ["completions bash", "info base.vlc", "query base.vlc queries.npy -q --backend cpu"];
    for args in verbs {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = vlc(args).current_dir(&dir).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        assert_eq!(assert_code(&output.wait_with_output().unwrap(), 0), "");
    }
}

#[test]
fn completions_know_the_verbs() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(text(&dir, &format!("completions {shell}")).contains("compress"));
    }
}

#[test]
fn the_demo_runs() {
    let dir = tempfile::tempdir().unwrap();
    let demo = json(&dir, "demo --backend cpu");
    assert_eq!(demo["float32_bytes"], 5000 * DIM * 4);
    let runs = demo["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2);
    for run in runs {
        assert!(run["ratio"].as_f64() <= run["asked_ratio"].as_f64(), "{run}");
        assert!(run["recall"].as_f64().unwrap() > 0.2, "{run}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_leaves_nothing_behind() {
    use std::io::{BufRead, BufReader};

    // Started with SIGHUP, SIGINT or SIGTERM ignored (nohup, a script's background), the program leaves them so.
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|l| l.strip_prefix("SigIgn:")).unwrap();
    if u64::from_str_radix(ignored.trim(), 16).unwrap() & 0b100_0000_0000_0011 != 0 {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut child = vlc("compress -o out.vlc --ratio 0.1 --backend cpu")
        .arg(embedded("base.i8.npy"))
        .current_dir(&dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    // The last line of the plan: from here on there is work to stop.
    assert!(stderr.any(|line| line.starts_with("peak memory")));
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let rest: Vec<String> = stderr.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("cancelled")), "{rest:?}");
    assert_eq!(listing(&dir), BTreeSet::new());
}
