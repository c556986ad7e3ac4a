//! Where outputs go, and what they never replace.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::{
    fs::{self, File},
    process::Stdio,
    sync::LazyLock,
};

use serde_json::Value;
use tempfile::TempDir;

use common::*;

const ROWS: usize = 300;
const QUERY: &str = "query a.vlc queries.npy -k 3 --backend cpu";

/// Vectors, queries, a model, a store made with it, and one that refers to it.
static FILES: LazyLock<Files> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    write_npy(dir.path().join("base.npy"), "|i1", (ROWS, DIM), &values("base.i8.npy", ROWS));
    write_npy(dir.path().join("queries.npy"), "|i1", (7, DIM), &values("queries.i8.npy", 7));
    text(&dir, "train base.npy -o model.vlc --ratio 40% --decoder off --backend cpu -q");
    text(&dir, "compress base.npy -o a.vlc --model model.vlc --backend cpu -q");
    text(&dir, "compress base.npy -o refers.vlc --model model.vlc --refer --backend cpu -q");
    Files::of(&dir)
});

fn files() -> TempDir {
    FILES.copy()
}

/// The bytes of an .npy file on stdout.
#[track_caller]
fn array(dir: &TempDir, args: &str) -> Vec<u8> {
    let output = run(dir, args);
    assert_code(&output, 0);
    assert!(output.stdout.starts_with(b"\x93NUMPY"), "{}", String::from_utf8_lossy(&output.stdout));
    output.stdout
}

#[test]
fn what_is_there_is_replaced_on_demand_alone() {
    let dir = files();
    fs::write(dir.path().join("notes.txt"), "kept").unwrap();
    fs::write(dir.path().join("empty"), "").unwrap();
    fs::write(dir.path().join("broken.vlc"), &read(&dir, "a.vlc")[..90]).unwrap();
    let verbs = [
        "compress base.npy --ratio 40% --backend cpu -o",
        "train base.npy --ratio 40% --backend cpu -o",
        "merge refers.vlc -o",
        "transcode refers.vlc --ratio 50% --backend cpu -o",
    ];
    for (file, what) in [
        ("a.vlc", "a store of 300 vectors x 384"),
        ("model.vlc", "a model file that others may refer to"),
        ("notes.txt", "a file that is no store"),
        ("empty", "a file that is no store"),
        ("broken.vlc", "a .vlc file that cannot be opened ("),
    ] {
        let before = read(&dir, file);
        for verb in verbs {
            let stderr = assert_fails(&dir, &format!("{verb} {file}"), 2);
            assert!(stderr.contains(&format!("{file} is there already, {what}")), "{stderr}");
            assert!(stderr.contains("--force"), "{stderr}");
        }
        assert_eq!(read(&dir, file), before);
    }
    // What it was no longer is.
    assert!(assert_fails(&dir, "compress base.npy -o x.vlc --no-clobber", 2).contains("--no-clobber"));
    // A plan replaces nothing.
    assert!(text(&dir, "compress base.npy --ratio 40% --backend cpu -o a.vlc --dry-run").contains("at most"));
    assert_eq!(json(&dir, "merge refers.vlc -o notes.txt --force")["n"], ROWS);
    text(&dir, "verify notes.txt");
    // With --force too, an input stays.
    assert!(assert_fails(&dir, "merge refers.vlc -o refers.vlc --force", 2).contains("input"));
}

#[cfg(unix)]
#[test]
fn a_write_protected_file_is_no_exception() {
    use std::os::unix::fs::PermissionsExt;
    let dir = files();
    let path = dir.path().join("a.vlc");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    let stderr = assert_fails(&dir, "merge refers.vlc -o a.vlc", 2);
    assert!(stderr.contains("a write-protected store of 300 vectors"), "{stderr}");
}

#[test]
fn results_never_replace_a_store() {
    let dir = files();
    // By what it holds, whatever its name, and by its name, whatever became of what it held.
    fs::copy(dir.path().join("a.vlc"), dir.path().join("copy.npy")).unwrap();
    fs::write(dir.path().join("lost.vlc"), "nothing is left of it").unwrap();
    for file in ["refers.vlc", "model.vlc", "copy.npy", "lost.vlc"] {
        for args in [
            format!("{QUERY} -o {file}"),
            format!("{QUERY} -o {file} --embedding-model m --force"),
            format!("{QUERY} --scores {file}"),
            format!("decode a.vlc -o {file}"),
            format!("decode a.vlc -o x.npy --ids {file}"),
        ] {
            let stderr = assert_fails(&dir, &args, 2);
            assert!(stderr.contains("never replaced by results"), "{stderr}");
        }
    }
    // Nor an input, whichever it is.
    fs::write(dir.path().join("ids.txt"), "1\n2\n").unwrap();
    for args in [
        format!("{QUERY} --allow ids.txt -o ids.txt"),
        "decode a.vlc -o x.npy --select ids.txt --ids ids.txt".into(),
        "decode a.vlc -o a.vlc".into(),
        format!("{QUERY} -o queries.npy"),
    ] {
        assert!(assert_fails(&dir, &args, 2).contains("is an input too"));
    }
    // Ordinary results are replaced.
    for _ in 0..2 {
        text(&dir, &format!("{QUERY} -o hits.npy --scores scores.npy"));
        text(&dir, "decode a.vlc -o x.npy --ids left.txt");
    }
}

#[test]
fn the_ending_says_what_is_written() {
    let dir = files();
    let listed = text(&dir, QUERY);
    let answer = json(&dir, QUERY);
    text(&dir, &format!("{QUERY} -o hits.tsv"));
    assert_eq!(read(&dir, "hits.tsv"), listed.as_bytes());
    // The summary goes to stdout, without what is in the file.
    assert_eq!(json(&dir, &format!("{QUERY} -o hits.JSON")).get("ids"), None);
    let file: Value = serde_json::from_slice(&read(&dir, "hits.JSON")).unwrap();
    assert_eq!((&file["ids"], &file["scores"], &file["k"]), (&answer["ids"], &answer["scores"], &answer["k"]));
    for args in ["-o hits.csv", "-o hits", "-o hits.npz", "-o hits.vlc"] {
        let stderr = assert_fails(&dir, &format!("{QUERY} {args}"), 2);
        assert!(stderr.contains(".npy, .txt, .tsv, .json"), "{stderr}");
    }
    assert!(assert_fails(&dir, &format!("{QUERY} --scores s.txt"), 2).contains("one of .npy"));
    assert!(assert_fails(&dir, "decode a.vlc -o x.fvecs", 2).contains("one of .npy"));
    assert!(assert_fails(&dir, "decode a.vlc -o x.npy --ids x.json", 2).contains("one of .npy, .txt"));

    // An id that would break a line or a column goes into none.
    let ids: String = (0..ROWS).map(|row| format!("a\tb {row}\n")).collect();
    fs::write(dir.path().join("ids.txt"), ids).unwrap();
    text(&dir, "compress base.npy -o named.vlc --model model.vlc --ids ids.txt --backend cpu -q");
    let query = "query named.vlc queries.npy -k 3 --backend cpu";
    for file in ["hits.tsv", "hits.txt"] {
        assert!(assert_fails(&dir, &format!("{query} -o {file}"), 2).contains("a tab or a line break"));
    }
    text(&dir, &format!("{query} -o named.json"));
    assert!(String::from_utf8(read(&dir, "named.json")).unwrap().contains("\"a\\tb "));
}

#[test]
fn a_dash_is_standard_output() {
    let dir = files();
    let listed = text(&dir, QUERY);
    text(&dir, &format!("{QUERY} -o hits.npy --scores scores.npy"));
    text(&dir, "decode a.vlc -o all.npy --ids all.txt");
    let mut names = vec!["-"];
    if cfg!(target_os = "linux") {
        names.extend(["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"]);
    }
    for name in names {
        assert_eq!(text(&dir, &format!("{QUERY} -o {name}")), listed);
        assert_eq!(array(&dir, &format!("{QUERY} -o hits.txt --scores {name}")), read(&dir, "scores.npy"));
        assert_eq!(array(&dir, &format!("decode a.vlc -o {name}")), read(&dir, "all.npy"));
        assert_eq!(text(&dir, &format!("decode a.vlc -o x.npy --ids {name}")).as_bytes(), read(&dir, "all.txt"));
        // Two at once, or beside an object.
        for args in [
            format!("{QUERY} -o {name} --scores {name}"),
            format!("{QUERY} --scores {name}"),
            format!("decode a.vlc -o {name} --ids -"),
            format!("{QUERY} -o {name} --json"),
            format!("decode a.vlc -o x.npy --ids {name} --json"),
        ] {
            assert!(assert_fails(&dir, &args, 2).contains("standard output"), "{args}");
        }
        // A store is a file.
        for verb in ["compress base.npy", "train base.npy", "merge a.vlc", "transcode a.vlc --ratio 50%"] {
            for force in ["", "--force"] {
                let stderr = assert_fails(&dir, &format!("{verb} {force} -o {name}"), 2);
                assert!(stderr.contains("a store is a file"), "{stderr}");
            }
        }
        for args in ["append - base.npy", "delete - 1", "compact -", "info -", "verify -", "compress - -o x.vlc"] {
            let stderr =
                assert_fails(&dir, &args.replace(" -", &format!(" {name}")).replace(&format!("{name}o"), "-o"), 2);
            assert!(stderr.contains("files are mapped"), "{stderr}");
        }
    }
    for args in [
        "query a.vlc -",
        "query a.vlc queries.npy --allow -",
        "query a.vlc queries.npy --model -",
        "decode a.vlc -o x.npy --select -",
        "delete a.vlc --ids -",
        "eval a.vlc --base - --queries queries.npy",
        "eval a.vlc --base base.npy --queries -",
        "compress base.npy -o x.vlc --queries -",
        "compress base.npy -o x.vlc --ids -",
        "merge a.vlc - -o x.vlc",
    ] {
        assert!(assert_fails(&dir, args, 2).contains("files are mapped"), "{args}");
    }
    // A file of that name.
    fs::rename(dir.path().join("a.vlc"), dir.path().join("-")).unwrap();
    text(&dir, "verify ./-");
}

/// As root, a file was put in the place of `/dev/stdout`.
#[cfg(target_os = "linux")]
#[test]
fn standard_output_stays_what_it_is() {
    let dir = files();
    let listed = text(&dir, QUERY);
    let kind = || fs::symlink_metadata("/dev/stdout").unwrap().file_type();
    let before = kind();
    for (args, first) in [
        (format!("{QUERY} -o /dev/stdout"), listed.as_bytes()),
        (format!("{QUERY} -o /dev/fd/1"), listed.as_bytes()),
        ("decode a.vlc -o /dev/stdout".into(), b"\x93NUMPY".as_slice()),
    ] {
        let path = dir.path().join("redirected");
        let status = vlc(&args).current_dir(&dir).stdout(File::create(&path).unwrap()).stderr(Stdio::null()).status();
        assert!(status.unwrap().success());
        assert!(fs::read(&path).unwrap().starts_with(first), "{args}");
    }
    assert_eq!(kind(), before);
    // Whoever has gone from the other end is not told.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output =
        vlc("decode a.vlc -o - -q").current_dir(&dir).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(assert_code(&output, 0), "");
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = vlc("decode a.vlc -o - -q").current_dir(&dir).stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert!(assert_code(&output, 5).contains("stdout"));
}

#[cfg(target_os = "linux")]
#[test]
fn devices_and_pipes_are_written_to() {
    use std::os::unix::fs::FileTypeExt;
    let dir = files();
    let listed = text(&dir, QUERY);
    let kind = |path: &str| fs::symlink_metadata(path).unwrap().file_type();
    text(&dir, &format!("{QUERY} -o /dev/null --scores hits.npy"));
    text(&dir, "decode a.vlc -o /dev/null");
    for args in [format!("{QUERY} -o /dev/full"), "decode a.vlc -o /dev/full".into()] {
        assert!(assert_fails(&dir, &args, 5).contains("/dev/full"));
    }
    for verb in ["compress base.npy", "train base.npy", "merge a.vlc", "transcode a.vlc --ratio 50%"] {
        let stderr = assert_fails(&dir, &format!("{verb} --force -o /dev/null"), 2);
        assert!(stderr.contains("not a regular file"), "{stderr}");
    }
    assert!(kind("/dev/null").is_char_device() && kind("/dev/full").is_char_device());

    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (args, expected) in [(format!("{QUERY} -o pipe"), listed.into_bytes()), {
        text(&dir, "decode a.vlc -o all.npy");
        ("decode a.vlc -o pipe".into(), read(&dir, "all.npy"))
    }] {
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        text(&dir, &args);
        assert_eq!(reader.join().unwrap(), expected);
    }
    assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
    assert_fails(&dir, "merge a.vlc -o pipe --force", 2);
}

/// What a killed `decode` left is gone after the next, and its neighbours' is not.
#[cfg(target_os = "linux")]
#[test]
fn a_killed_run_leaves_nothing_for_long() {
    let dir = files();
    let left = dir.path().join(".hits.npy.vlc-tmp");
    // Killed while it writes: stopped by a pipe that nobody reads to the end, with a file of ids that is not whole yet.
    let pipe = dir.path().join("pipe.npy");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut child = vlc("decode a.vlc -o pipe.npy --ids hits.npy").current_dir(&dir).spawn().unwrap();
    let _reader = File::open(&pipe).unwrap();
    assert!(left.exists());
    let stderr = assert_fails(&dir, &format!("{QUERY} -o hits.npy"), 5);
    assert!(stderr.contains("locked by another process"), "{stderr}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(left.exists() && !dir.path().join("hits.npy").exists());
    text(&dir, &format!("{QUERY} -o hits.npy"));
    assert!(!left.exists() && dir.path().join("hits.npy").exists());
}
