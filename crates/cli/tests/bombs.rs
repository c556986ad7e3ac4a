//! Small files that claim much, and files that shrink while they are read: the program says no, in time and within its memory.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use common::*;

/// Address space that the program gets, in KiB: its code and the stacks of its threads count.
const KIBIBYTES: &str = "3000000";

/// Runs the program in little address space, where an allocation that is refused would end it.
fn limited(dir: &TempDir, args: &str) -> Output {
    let program = assert_cmd::cargo::cargo_bin!("vlc");
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -v {KIBIBYTES} && exec \"$0\" \"$@\"")]).arg(program);
    command.args(args.split_whitespace()).env("NO_COLOR", "1").current_dir(dir);
    let start = Instant::now();
    let output = command.output().unwrap();
    assert!(start.elapsed() < Duration::from_secs(30), "{args}: {:?}", start.elapsed());
    output
}

fn bomb(dir: &TempDir) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/bombs/rows-without-bytes.vlc");
    fs::copy(from, dir.path().join("bomb.vlc")).unwrap();
    let values: Vec<u8> = (1..=20u8).collect();
    write_npy(dir.path().join("rows.npy"), "|i1", (5, 4), &values);
    fs::write(dir.path().join("ids.txt"), "1\n2\n").unwrap();
}

/// A kilobyte that claims 2^40 rows.
#[test]
fn rows_without_bytes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    bomb(&dir);
    let before = listing(&dir);
    for args in [
        "info bomb.vlc",
        "verify bomb.vlc",
        "query bomb.vlc rows.npy --backend cpu",
        "query bomb.vlc rows.npy --backend cpu -k 4000000000 -o out.npy",
        "query bomb.vlc rows.npy --backend cpu --deny ids.txt",
        "query bomb.vlc rows.npy --backend cpu --no-mmap",
        "eval bomb.vlc --base rows.npy --queries rows.npy --backend cpu",
        "decode bomb.vlc -o out.npy",
        "decode bomb.vlc -o out.npy --ids out.txt --rows 0..5",
        "append bomb.vlc rows.npy --backend cpu",
        "delete bomb.vlc --ids ids.txt",
        "compact bomb.vlc",
        "merge bomb.vlc bomb.vlc -o out.vlc",
        "transcode bomb.vlc -o out.vlc --ratio 0.5 --backend cpu",
        "compress rows.npy -o out.vlc --model bomb.vlc --backend cpu",
    ] {
        let stderr = assert_code(&limited(&dir, args), 4);
        assert!(stderr.contains("take no bytes"), "{args}: {stderr}");
        assert_eq!(listing(&dir), before, "{args}");
    }
}

/// A small file, and many queries to keep the program at work.
fn store(dir: &TempDir) {
    write_npy(dir.path().join("base.npy"), "|i1", (1500, DIM), &values("base.i8.npy", 1500));
    let queries = values("queries.i8.npy", 40);
    write_npy(dir.path().join("queries.npy"), "|i1", (40, DIM), &queries);
    write_npy(dir.path().join("many.npy"), "|i1", (400_000, DIM), &queries.repeat(10_000));
    text(dir, "compress base.npy --ratio 0.12 --backend cpu -o base.vlc --decoder off");
}

#[test]
fn more_hits_than_rows_may_be_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    store(&dir);
    let output = limited(&dir, "query base.vlc queries.npy --backend cpu -k 4000000000 -o ids.npy");
    assert_code(&output, 0);
    read_npy(dir.path().join("ids.npy"), "<i8", (40, 1500));
}

/// Whatever is read when another program truncates the file: exit 4 or, for vectors, 5; never a signal.
#[test]
fn files_that_shrink_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    store(&dir);
    let whole = fs::read(dir.path().join("base.vlc")).unwrap();
    for round in 0..6u64 {
        fs::write(dir.path().join("base.vlc"), &whole).unwrap();
        let mut command = vlc("query base.vlc many.npy --backend cpu --batch 64 -o ids.npy");
        let child = command.current_dir(&dir).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(600 + 37 * round));
        fs::OpenOptions::new().write(true).open(dir.path().join("base.vlc")).unwrap().set_len(4096).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.signal(), None);
        let stderr = assert_code(&output, 4);
        assert!(stderr.contains("base.vlc"), "{stderr}");
        assert!(!dir.path().join("ids.npy").exists());
    }
}
