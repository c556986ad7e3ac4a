//! The life of a store as users of the program lead it: models, shards, appending, deleting, ids.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::{fs, path::Path, process::Stdio, sync::LazyLock};

use serde_json::{Value, json as object};
use tempfile::TempDir;

use common::*;

/// Rows of the first and of the second part.
const PARTS: [usize; 2] = [900, 600];
const ROWS: usize = PARTS[0] + PARTS[1];
const TRAIN: &str = "train base.npy -o model.vlc --ratio 0.12 --backend cpu --seed 3";

/// Vectors in two parts, queries, and a model.
static FILES: LazyLock<Files> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let all = values("base.i8.npy", ROWS);
    let (first, second) = all.split_at(PARTS[0] * DIM);
    let write = |name: &str, rows, values: &[u8]| write_npy(dir.path().join(name), "|i1", (rows, DIM), values);
    write("base.npy", ROWS, &all);
    write("first.npy", PARTS[0], first);
    write("second.npy", PARTS[1], second);
    write("queries.npy", 40, &values("queries.i8.npy", 40));
    let report = json(&dir, TRAIN);
    assert_fields(&report, "dim file_bytes energy model seconds backend");
    assert_eq!(report["file_bytes"], fs::metadata(dir.path().join("model.vlc")).unwrap().len());
    Files::of(&dir)
});

fn files() -> TempDir {
    FILES.copy()
}

/// Writes ids as text: one of `name` for each row.
fn write_ids(dir: &TempDir, file: &str, rows: std::ops::Range<usize>, name: impl Fn(usize) -> String) {
    let lines: String = rows.map(|row| name(row) + "\n").collect();
    fs::write(dir.path().join(file), lines).unwrap();
}

/// The ids found for each query, as text.
#[track_caller]
fn found(dir: &TempDir, index: &str, options: &str) -> Vec<Vec<String>> {
    let answer = json(dir, &format!("query {index} queries.npy -k 5 --backend cpu {options}"));
    let id = |id: &Value| id.as_str().map_or_else(|| id.to_string(), str::to_owned);
    let ids = answer["ids"].as_array().unwrap().iter();
    ids.map(|ids| ids.as_array().unwrap().iter().map(id).collect()).collect()
}

#[test]
fn a_store_lives() {
    let dir = files();
    // Shards, encoded by two processes at once, are what one process makes of all.
    let spawn = |part: &str| {
        let args = format!("compress {part}.npy -o {part}.vlc --model model.vlc --backend cpu -q");
        vlc(&args).current_dir(&dir).stdout(Stdio::null()).spawn().unwrap()
    };
    for mut shard in ["first", "second"].map(spawn) {
        assert!(shard.wait().unwrap().success());
    }
    let whole = json(&dir, "compress base.npy -o whole.vlc --model model.vlc --backend cpu");
    assert_fields(&whole, "dim file_bytes bytes_per_vector ratio energy model seconds backend peak_rss_bytes");
    assert_eq!(whole["n"], ROWS);
    let merged = json(&dir, "merge first.vlc second.vlc -o merged.vlc");
    assert_eq!((&merged["n"], &merged["model"]), (&whole["n"], &whole["model"]));
    assert!(read(&dir, "merged.vlc") == read(&dir, "whole.vlc"), "merging gave other bytes");

    // Appending, in a file of its own model. What it finds is what the merged one finds.
    let appended = json(&dir, "append first.vlc second.npy --backend cpu");
    assert_fields(&appended, "file_bytes bytes_per_vector energy trained_energy seconds backend");
    assert_eq!(
        object!([appended["rows"], appended["first_row"], appended["n"]]),
        object!([PARTS[1], PARTS[0], ROWS])
    );
    assert_eq!(appended["drifted"], false, "{appended}");
    assert_eq!(found(&dir, "first.vlc", ""), found(&dir, "whole.vlc", ""));
    assert_eq!(found(&dir, "first.vlc", "--no-mmap"), found(&dir, "whole.vlc", ""));
    let recall = |index: &str| {
        json(&dir, &format!("eval {index} --base base.npy --queries queries.npy"))["recall_at_k"].clone()
    };
    assert_eq!(recall("first.vlc"), recall("whole.vlc"));
    let info = json(&dir, "info first.vlc");
    assert_eq!(object!([info["generation"], info["n"], info["next_row"]]), object!([2, ROWS, ROWS]));
    assert_eq!(
        object!([info["ids"], info["model_hash"], info["model_file"]]),
        object!(["rows", whole["model"], null])
    );
    let history: Vec<_> =
        info["appended"].as_array().unwrap().iter().map(|a| (&a["first_row"], &a["rows"])).collect();
    assert_eq!(history, [(&0.into(), &PARTS[0].into()), (&PARTS[0].into(), &PARTS[1].into())]);
    assert_eq!(info["appended"][1]["energy"], appended["energy"]);
    assert!(text(&dir, "info first.vlc").contains("x trained"));

    // Deleting the best hit of each query: it is not found again, the others are.
    let before = found(&dir, "first.vlc", "");
    let gone: Vec<String> = before.iter().map(|ids| ids[0].clone()).collect();
    fs::write(dir.path().join("gone.txt"), gone.join("\n")).unwrap();
    let deleted = json(&dir, &format!("delete first.vlc {} --ids gone.txt", gone[0]));
    let distinct = gone.iter().collect::<std::collections::HashSet<_>>().len();
    assert_eq!(
        object!([deleted["deleted"], deleted["missing"], deleted["n"]]),
        object!([distinct, 0, ROWS - distinct])
    );
    let stderr = assert_fails(&dir, "eval first.vlc --base base.npy --queries queries.npy", 3);
    assert!(stderr.contains("deleted"), "{stderr}");

    // What is deleted is not decoded.
    assert_eq!(json(&dir, "decode first.vlc -o left.npy --ids left.txt")["rows"], ROWS - distinct);
    let left: Vec<String> =
        fs::read_to_string(dir.path().join("left.txt")).unwrap().lines().map(str::to_owned).collect();
    let expected: Vec<String> = (0..ROWS).map(|row| row.to_string()).filter(|row| !gone.contains(row)).collect();
    assert_eq!(left, expected);

    // Compacting changes no answer, and takes less.
    let compacted = json(&dir, "compact first.vlc");
    assert_fields(&compacted, "bytes_per_vector seconds");
    assert_eq!(compacted["n"], ROWS - distinct);
    assert!(compacted["file_bytes"].as_u64() < compacted["file_bytes_before"].as_u64(), "{compacted}");
    assert_eq!(compacted["file_bytes"], read(&dir, "first.vlc").len());
    let after = found(&dir, "first.vlc", "");
    assert!(after.iter().flatten().all(|id| !gone.contains(id)));
    let info = json(&dir, "info first.vlc");
    assert_eq!(object!([info["deleted"], info["dead_bytes"], info["segments_of_rows"]]), object!([0, 0, 1]));
    assert_eq!(info["next_row"], ROWS);
    assert_eq!(json(&dir, "verify first.vlc")["uncommitted_bytes"], 0);

    // Smaller, with the same ids.
    let small = json(&dir, "transcode first.vlc -o small.vlc --ratio 0.1 --backend cpu");
    assert_fields(&small, "ratio anchors energy recall plan_seconds peak_rss_bytes");
    assert!(small["ratio"].as_f64().unwrap() <= 0.1 && small["n"] == ROWS - distinct, "{small}");
    let ids = found(&dir, "small.vlc", "");
    assert!(ids.iter().flatten().all(|id| !gone.contains(id)));
    let shared = ids.iter().zip(&after).filter(|(a, b)| a.iter().any(|id| b.contains(id))).count();
    assert!(shared >= 35, "{shared} of 40 queries have a hit in common");
}

#[test]
fn deleted_rows_are_not_found() {
    let dir = files();
    text(&dir, "compress first.npy -o a.vlc --model model.vlc --backend cpu -q");
    let before = found(&dir, "a.vlc", "");
    let gone: Vec<String> = before.iter().map(|ids| ids[0].clone()).collect();
    text(&dir, &format!("delete a.vlc {}", gone.join(" ")));
    let after = found(&dir, "a.vlc", "");
    assert!(after.iter().flatten().all(|id| !gone.contains(id)), "a deleted row was found");
    for (before, after) in before.iter().zip(&after) {
        // The others keep their places, and what was behind them moves up.
        let kept: Vec<_> = before.iter().filter(|id| !gone.contains(id)).collect();
        assert_eq!(after.len(), 5);
        assert_eq!(kept, after.iter().take(kept.len()).collect::<Vec<_>>());
    }
    text(&dir, "compact a.vlc");
    assert_eq!(found(&dir, "a.vlc", ""), after);
}

#[test]
fn missing_ids_are_told() {
    let dir = files();
    text(&dir, "compress first.npy -o a.vlc --model model.vlc --backend cpu -q");
    let output = run(&dir, "delete a.vlc 5 5000 6 5001 --json");
    let stderr = assert_code(&output, 0);
    assert!(stderr.contains("2 of 4 ids are not there: 5000, 5001"), "{stderr}");
    let deleted: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&deleted["deleted"], &deleted["missing"]), (&2.into(), &2.into()));
    // Strict, those that are there go all the same.
    let output = run(&dir, "delete a.vlc 7 5 --strict --json");
    assert!(assert_code(&output, 3).contains("1 of 2 ids are not there: 5"));
    let deleted: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&deleted["deleted"], &deleted["n"]), (&1.into(), &(PARTS[0] - 3).into()));
    assert_code(&run(&dir, "delete a.vlc 8 --strict"), 0);

    assert_fails(&dir, "delete a.vlc", 2);
    assert_fails(&dir, "delete a.vlc x", 2);
    fs::write(dir.path().join("x.txt"), "9\nnine\n").unwrap();
    assert!(assert_fails(&dir, "delete a.vlc --ids x.txt", 3).contains("x.txt: line 2"));
    assert_eq!(json(&dir, "info a.vlc")["n"], PARTS[0] - 4);
}

#[test]
fn a_store_may_be_emptied() {
    let dir = files();
    write_npy(dir.path().join("few.npy"), "|i1", (3, DIM), &values("base.i8.npy", 3));
    text(&dir, "compress few.npy -o a.vlc --model model.vlc --backend cpu -q");
    assert_eq!(json(&dir, "delete a.vlc 0 1 2")["n"], 0);
    for _ in 0..2 {
        let info = json(&dir, "info a.vlc");
        assert_eq!(object!([info["n"], info["next_row"]]), object!([0, 3]));
        assert_eq!(object!([info["bytes_per_vector"], info["ratio"]]), object!([null, null]));
        assert!(text(&dir, "info a.vlc").contains("no vectors"));
        assert_eq!(found(&dir, "a.vlc", ""), vec![Vec::<String>::new(); 40]);
        assert_eq!(json(&dir, "compact a.vlc")["bytes_per_vector"], Value::Null);
    }
    // Numbers are not given twice.
    assert_eq!(json(&dir, "append a.vlc few.npy --backend cpu")["first_row"], 3);
    let info = json(&dir, "info model.vlc");
    assert_eq!(object!([info["n"], info["bytes_per_vector"], info["segments_of_rows"]]), object!([0, null, 0]));
}

#[test]
fn ids_of_numbers_go_through() {
    let dir = files();
    let compress = "compress first.npy --model model.vlc --backend cpu";
    text(&dir, &format!("{compress} -o plain.vlc -q"));
    let own = |row: usize| (row as u64 * 1_000_003 + 17).to_string();
    write_ids(&dir, "ids.txt", 0..PARTS[0], own);
    text(&dir, &format!("{compress} -o a.vlc --ids ids.txt -q"));
    let expected: Vec<Vec<String>> = found(&dir, "plain.vlc", "")
        .iter()
        .map(|ids| ids.iter().map(|row| own(row.parse().unwrap())).collect())
        .collect();
    assert_eq!(found(&dir, "a.vlc", ""), expected);
    assert_eq!(json(&dir, "info a.vlc")["ids"], "numbers");

    // As an array, as lines, and back into the program.
    let wide: Vec<u8> = expected.iter().flatten().flat_map(|id| id.parse::<i64>().unwrap().to_le_bytes()).collect();
    text(&dir, "query a.vlc queries.npy -k 5 --backend cpu -o hits.npy");
    assert_eq!(read_npy(dir.path().join("hits.npy"), "<i8", (40, 5)), wide);
    text(&dir, "query a.vlc queries.npy -k 5 --backend cpu -o hits.txt");
    let lines: String = expected.iter().map(|ids| ids.join("\t") + "\n").collect();
    assert_eq!(fs::read_to_string(dir.path().join("hits.txt")).unwrap(), lines);
    text(&dir, "decode a.vlc -o x.npy --rows 100..200 --ids some.npy");
    assert_eq!(json(&dir, "delete a.vlc --ids some.npy")["deleted"], 100);

    // New rows need ids, one each, none of them there.
    assert_fails(&dir, "append a.vlc second.npy --backend cpu", 2);
    assert!(
        assert_fails(&dir, "append a.vlc second.npy --backend cpu --ids ids.txt", 3).contains("900 ids for 600 rows")
    );
    write_ids(&dir, "twice.txt", 0..PARTS[1], own);
    assert!(assert_fails(&dir, "append a.vlc second.npy --backend cpu --ids twice.txt", 3).contains("already"));
    write_ids(&dir, "more.txt", PARTS[0]..ROWS, own);
    assert_eq!(json(&dir, "append a.vlc second.npy --backend cpu --ids more.txt")["n"], ROWS - 100);
    assert!(found(&dir, "a.vlc", "").iter().flatten().any(|id| id.parse::<u64>().unwrap() > 900 * 1_000_003 + 17));
    assert_fails(&dir, "append plain.vlc second.npy --backend cpu --ids more.txt", 2);

    // An id that an array cannot hold.
    write_npy(dir.path().join("one.npy"), "|i1", (1, DIM), &values("base.i8.npy", 1));
    fs::write(dir.path().join("high.txt"), (1_u64 << 63).to_string()).unwrap();
    text(&dir, "compress one.npy -o one.vlc --model model.vlc --ids high.txt --backend cpu -q");
    assert!(assert_fails(&dir, "query one.vlc queries.npy --backend cpu -o x.npy", 2).contains("2^63"));
    assert_eq!(found(&dir, "one.vlc", "")[0], [(1_u64 << 63).to_string()]);
}

#[test]
fn ids_of_text_go_through() {
    let dir = files();
    let own = |row: usize| format!("docs/page {row}#é");
    write_ids(&dir, "ids.txt", 0..PARTS[0], own);
    text(&dir, "compress first.npy -o a.vlc --ids ids.txt --ratio 0.12 --seed 3 --backend cpu -q");
    assert_eq!(json(&dir, "info a.vlc")["ids"], "text");
    let ids = found(&dir, "a.vlc", "");
    assert!(ids.iter().flatten().all(|id| id.starts_with("docs/page ") && id.ends_with("#é")), "{ids:?}");
    let lines = text(&dir, "query a.vlc queries.npy -k 5 --backend cpu -q");
    assert_eq!(lines.lines().next().unwrap().split('\t').nth(2), Some(&*ids[0][0]));
    let stderr = assert_fails(&dir, "query a.vlc queries.npy --backend cpu -o x.npy", 2);
    assert!(stderr.contains(".txt"), "{stderr}");
    text(&dir, "query a.vlc queries.npy -k 5 --backend cpu -o hits.txt");
    let lines: String = ids.iter().map(|ids| ids.join("\t") + "\n").collect();
    assert_eq!(fs::read_to_string(dir.path().join("hits.txt")).unwrap(), lines);
    // Recall is that of row numbers all the same.
    let recall = json(&dir, "eval a.vlc --base first.npy --queries queries.npy --backend cpu");
    assert!(recall["recall_at_k"].as_f64().unwrap() > 0.4, "{recall}");

    assert_fails(&dir, "decode a.vlc -o x.npy --ids y.npy", 2);
    // Numbers in a file for such a store are text.
    write_ids(&dir, "more.txt", 0..PARTS[1], |row| row.to_string());
    json(&dir, "append a.vlc second.npy --ids more.txt --backend cpu");
    assert_eq!(json(&dir, "delete a.vlc 7 --ids ids.txt")["deleted"], 1 + PARTS[0]);
    text(&dir, "compact a.vlc");
    text(&dir, "decode a.vlc -o x.npy --ids left.txt");
    let left: String = (0..PARTS[1]).filter(|row| *row != 7).map(|row| format!("{row}\n")).collect();
    assert_eq!(fs::read_to_string(dir.path().join("left.txt")).unwrap(), left);

    text(&dir, "compress second.npy -o b.vlc --model model.vlc --ids more.txt --text-ids --backend cpu -q");
    assert_eq!(json(&dir, "info b.vlc")["ids"], "text");
    fs::write(dir.path().join("bad.txt"), "a\n\nb\n").unwrap();
    assert!(assert_fails(&dir, "compress second.npy -o c.vlc --ids bad.txt", 3).contains("bad.txt: line 2"));
    assert_fails(&dir, "compress second.npy -o c.vlc --ids none.txt", 5);
}

#[test]
fn vectors_of_another_embedding_model_are_refused() {
    let dir = files();
    let compress = "compress first.npy -o a.vlc --model model.vlc --backend cpu -q";
    text(&dir, &format!("{compress} --embedding-model minilm --embedding-hash 1f"));
    let info = json(&dir, "info a.vlc");
    assert_eq!(info["embedding"], object!({"name": "minilm", "hash": "1f"}));
    let query = "query a.vlc queries.npy -k 5 --backend cpu";
    let append = "append a.vlc second.npy --backend cpu";
    for other in ["--embedding-model mpnet", "--embedding-model minilm --embedding-hash 2f"] {
        for verb in [query, append] {
            let stderr = assert_fails(&dir, &format!("{verb} {other}"), 2);
            assert!(stderr.contains("minilm"), "{stderr}");
        }
        let forced = run(&dir, &format!("{query} {other} --force"));
        assert!(assert_code(&forced, 0).contains("warning"));
    }
    for same in ["", "--embedding-model minilm", "--embedding-model minilm --embedding-hash 1f"] {
        assert_eq!(found(&dir, "a.vlc", same).len(), 40);
    }
    assert!(assert_code(&run(&dir, &format!("{append} --embedding-model mpnet --force")), 0).contains("warning"));
    assert_eq!(json(&dir, "info a.vlc")["n"], ROWS);
    assert_fails(&dir, "query a.vlc queries.npy --embedding-hash 1f", 2);
    assert_fails(&dir, "query a.vlc queries.npy --force", 2);
}

#[test]
fn one_writer_at_a_time() {
    let dir = files();
    text(&dir, "compress first.npy -o a.vlc --model model.vlc --backend cpu -q");
    let held = vlc::Store::open(dir.path().join("a.vlc")).unwrap();
    let pid = format!("process {}", std::process::id());
    for args in ["append a.vlc second.npy --backend cpu", "delete a.vlc 1", "compact a.vlc"] {
        let stderr = assert_fails(&dir, args, 5);
        assert!(stderr.contains("locked by") && stderr.contains(&pid), "{stderr}");
    }
    let stderr = assert_fails(&dir, "compress second.npy -o a.vlc --force --model model.vlc --backend cpu", 5);
    assert!(stderr.contains(&pid), "{stderr}");
    // Readers need no lock.
    assert_eq!(found(&dir, "a.vlc", "").len(), 40);
    drop(held);
    assert_eq!(json(&dir, "delete a.vlc 1")["deleted"], 1);
}

#[test]
fn a_model_stays_in_its_file_on_demand() {
    let dir = files();
    text(&dir, "compress first.npy -o whole.vlc --model model.vlc --backend cpu -q");
    text(&dir, "compress first.npy -o a.vlc --model model.vlc --refer --backend cpu -q");
    assert!(read(&dir, "a.vlc").len() + read(&dir, "model.vlc").len() < read(&dir, "whole.vlc").len() + 2048);
    assert_eq!(json(&dir, "info a.vlc")["model_file"], "model.vlc");
    assert_eq!(found(&dir, "a.vlc", ""), found(&dir, "whole.vlc", ""));
    json(&dir, "append a.vlc second.npy --backend cpu");
    text(&dir, "verify a.vlc");

    fs::create_dir(dir.path().join("away")).unwrap();
    fs::rename(dir.path().join("model.vlc"), dir.path().join("away/m.vlc")).unwrap();
    for args in [
        "info a.vlc",
        "verify a.vlc",
        "query a.vlc queries.npy",
        "decode a.vlc -o x.npy",
        "eval a.vlc --base base.npy --queries queries.npy",
        "append a.vlc second.npy",
        "delete a.vlc 1",
        "compact a.vlc",
    ] {
        let stderr = assert_fails(&dir, args, 4);
        assert!(stderr.contains("model.vlc") && stderr.contains("--model"), "{stderr}");
        text(&dir, &format!("{args} --model away/m.vlc"));
    }
    // Any file with the model will do, and no other model.
    text(&dir, "info a.vlc --model whole.vlc");
    text(&dir, "compress first.npy -o other.vlc --ratio 0.2 --backend cpu -q");
    let stderr = assert_fails(&dir, "info a.vlc --model other.vlc", 4);
    assert!(stderr.contains("not the model"), "{stderr}");
}

#[test]
fn a_model_that_is_outgrown_is_told() {
    let dir = files();
    // Rows unlike any it was trained on.
    let noise: Vec<u8> = (0..200 * DIM as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    write_npy(dir.path().join("noise.npy"), "|i1", (200, DIM), &noise);
    text(&dir, "compress first.npy -o a.vlc --model model.vlc --backend cpu -q");
    let output = run(&dir, "append a.vlc noise.npy --backend cpu --json");
    let stderr = assert_code(&output, 0);
    assert!(stderr.contains("warning") && stderr.contains("vlc train"), "{stderr}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["drifted"], true);
    assert!(report["energy"].as_f64().unwrap() > 1.2 * report["trained_energy"].as_f64().unwrap(), "{report}");
}

/// Rows as float32, times a factor.
fn write_times(dir: &TempDir, to: &str, rows: std::ops::Range<usize>, factor: f32) {
    let all = values("base.i8.npy", rows.end);
    let rows_of = all[rows.start * DIM..].iter().flat_map(|v| (factor * f32::from(v.cast_signed())).to_le_bytes());
    write_npy(dir.path().join(to), "<f4", (rows.len(), DIM), &rows_of.collect::<Vec<_>>());
}

#[test]
fn rows_of_other_lengths_are_told_with_numbers() {
    let dir = tempfile::tempdir().unwrap();
    write_times(&dir, "a.npy", 0..400, 0.01);
    write_times(&dir, "same.npy", 400..500, 0.01);
    write_times(&dir, "long.npy", 400..500, 1.0);
    let train = "--metric dot --ratio 0.3 --expected-rows 800 --decoder off --backend cpu -q";
    text(&dir, &format!("compress a.npy -o a.vlc {train}"));
    let verbs = [
        ("append a.vlc same.npy", false),
        ("append a.vlc long.npy", true),
        ("compress same.npy -o same.vlc --model a.vlc", false),
        ("compress long.npy -o long.vlc --model a.vlc", true),
    ];
    for (verb, told) in verbs {
        let output = run(&dir, &format!("{verb} --backend cpu --json"));
        let stderr = assert_code(&output, 0);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let range = |name: &str| [0, 1].map(|i| report[name][i].as_f64().unwrap());
        let ([least, most], [lo, hi]) = (range("trained_lengths"), range("lengths"));
        let factor = if told { 100.0 } else { 1.0 };
        assert!(lo > 0.5 * factor * least && hi < 2.0 * factor * most, "{verb}: {report}");
        assert_eq!(stderr.contains("lengths"), told, "{verb}: {stderr}");
        assert!(!told || (stderr.contains("warning") && stderr.contains("the model was trained on")), "{stderr}");
        assert_fields(&report, "energy trained_energy drifted");
    }
}

#[test]
fn a_model_that_does_not_fit_is_told_when_rows_are_encoded_with_it() {
    let dir = files();
    let noise: Vec<u8> = (0..200 * DIM as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    write_npy(dir.path().join("noise.npy"), "|i1", (200, DIM), &noise);
    let output = run(&dir, "compress noise.npy -o n.vlc --model model.vlc --backend cpu --json");
    let stderr = assert_code(&output, 0);
    assert!(stderr.contains("warning") && stderr.contains("fits these rows badly"), "{stderr}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["drifted"], true);
    assert_eq!(json(&dir, "compress first.npy -o f.vlc --model model.vlc --backend cpu")["drifted"], false);
}

#[test]
fn usage_of_models_is_checked() {
    let dir = files();
    for option in [
        "--ratio 0.1",
        "--bytes 50",
        "--metric l2",
        "--queries queries.npy",
        "--anchors 9",
        "--charts 1",
        "--code pq8",
        "--seed 2",
    ] {
        assert_fails(&dir, &format!("compress first.npy -o x.vlc --model model.vlc {option}"), 2);
    }
    assert_fails(&dir, "compress first.npy -o x.vlc --refer", 2);
    assert_fails(&dir, "compress first.npy -o x.vlc --text-ids", 2);
    assert_fails(&dir, "compress first.npy -o model.vlc --model model.vlc", 2);
    assert_fails(&dir, "transcode model.vlc -o x.vlc", 2);
    assert_fails(&dir, "transcode model.vlc -o x.vlc --ratio 0.1", 2);
    assert_fails(&dir, "merge -o x.vlc", 2);
    text(&dir, "compress first.npy -o a.vlc --model model.vlc --backend cpu -q");
    text(&dir, "compress second.npy -o b.vlc --ratio 0.2 --backend cpu -q");
    assert!(assert_fails(&dir, "merge a.vlc b.vlc -o x.vlc", 2).contains("models"));
    assert_fails(&dir, "merge a.vlc b.vlc -o a.vlc", 2);
    assert_fails(&dir, "merge a.vlc none.vlc -o x.vlc", 5);
    assert_fails(&dir, "append a.vlc none.npy", 5);
    assert_fails(&dir, "append none.vlc second.npy", 5);
    assert_fails(&dir, "append queries.npy second.npy", 4);
    write_npy(dir.path().join("narrow.npy"), "|i1", (2, 3), &[1, 2, 3, 4, 5, 6]);
    assert_fails(&dir, "append a.vlc narrow.npy --backend cpu", 3);
    assert_fails(&dir, "compress narrow.npy -o x.vlc --model model.vlc --backend cpu", 3);
    assert_fails(&dir, "compress second.npy -o x.vlc --model queries.npy --backend cpu", 4);
}

#[test]
fn an_uncommitted_tail_is_no_damage() {
    let dir = files();
    text(&dir, "compress first.npy -o a.vlc --model model.vlc --backend cpu -q");
    let path = dir.path().join("a.vlc");
    let sound = read(&dir, "a.vlc");
    fs::write(&path, [&sound[..], &[7; 100]].concat()).unwrap();
    let output = run(&dir, "verify a.vlc --json");
    assert!(assert_code(&output, 0).contains("100 bytes behind the last commit"));
    let verified: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&verified["file_bytes"], &verified["uncommitted_bytes"]), (&sound.len().into(), &100.into()));
    json(&dir, "delete a.vlc 1");
    assert_eq!(json(&dir, "verify a.vlc")["uncommitted_bytes"], 0);
    assert!(Path::new(&path).metadata().unwrap().len() > sound.len() as u64);
}
