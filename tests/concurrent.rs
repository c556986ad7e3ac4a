//! One writer and eight readers in two processes: every answer belongs to one commit.
//!
//! A few seconds; `VLC_SECONDS=300` for more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use vlc::{Config, EncodeOptions, Error, Filter, Ids, Index, Metric, SearchOptions, Store};

use common::{clustered, config};

const DIM: usize = 8;
/// Rows the store holds between two turns of the writer, which adds so many and deletes as many.
const WINDOW: u64 = 60;
const STEP: u64 = 7;

fn seconds() -> Duration {
    let given = std::env::var("VLC_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(given.unwrap_or(4))
}

fn ids(range: std::ops::Range<u64>) -> Ids {
    range.collect()
}

/// The writer: the live ids are always a range, `STEP` longer between the two commits of a turn. Gives the number of commits.
fn write(path: &Path, until: Instant) -> usize {
    let rows = clustered(3, STEP as usize, DIM);
    let (mut first, mut behind, mut commits) = (0, WINDOW, 0);
    while Instant::now() < until {
        let mut store = Store::open(path).unwrap();
        // A second writer is told who the first is.
        if commits % 50 == 0 {
            match Store::open(path) {
                Err(Error::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
                other => panic!("a second writer: {other:?}"),
            }
        }
        for _ in 0..5 {
            let new = ids(behind..behind + STEP);
            store.append(&rows.view(), &EncodeOptions { ids: Some(&new), ..EncodeOptions::default() }).unwrap();
            behind += STEP;
            assert_eq!(store.delete(&ids(first..first + STEP)).unwrap().deleted, STEP);
            first += STEP;
            commits += 2;
        }
        if commits % 70 == 0 {
            store.compact().unwrap();
        }
    }
    commits
}

/// Opens the store again and again, and asks for everything in it.
fn read(path: &Path, until: Instant, copied: bool) -> usize {
    let (mut last, mut generation, mut answers) = (0, 0, 0);
    while Instant::now() < until {
        let (now, mut found) =
            if copied { everything(&Index::read(path).unwrap()) } else { everything(&Index::open(path).unwrap()) };
        found.sort_unstable();
        let (from, len) = (found[0], found.len() as u64);
        assert!(len == WINDOW || len == WINDOW + STEP, "{len} rows");
        assert_eq!(found, (from..from + len).collect::<Vec<_>>(), "rows of two commits");
        assert!(from >= last && now >= generation, "back in time");
        (last, generation) = (from, now);
        answers += 1;
    }
    answers
}

/// The generation of an index and the ids of all its rows, found by a search, which must be those that it lists.
fn everything<D: AsRef<[u8]> + Sync>(index: &Index<D>) -> (u64, Vec<u64>) {
    let searcher = index;
    let query = clustered(5, 1, DIM);
    let found = searcher.search(query.view(), &SearchOptions::new(index.len() + 10)).unwrap().ids.into_vec();
    let Ids::Numbers(mut listed) = index.ids(0..index.len()).unwrap() else { panic!("numbers went in") };
    let denied = Ids::Numbers(vec![listed[0]]);
    let filter = index.filter(Filter::Deny(&denied)).unwrap();
    let some = searcher.search(query.view(), &SearchOptions::new(10_000).filtered(&filter)).unwrap();
    assert_eq!(some.ids.dim(), listed.len() - 1);
    assert!(!some.ids.as_slice().contains(&listed[0]));
    let mut sorted = found.clone();
    sorted.sort_unstable();
    listed.sort_unstable();
    assert_eq!(sorted, listed);
    (index.info().generation, found)
}

/// What a process of readers does; run by the test below in another process.
#[test]
fn readers() {
    let Ok(path) = std::env::var("VLC_READERS_OF") else { return };
    let until = Instant::now() + seconds();
    println!("answers: {}", four(Path::new(&path), until));
}

fn four(path: &Path, until: Instant) -> usize {
    let answers = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for reader in 0..4 {
            let answers = &answers;
            scope.spawn(move || answers.fetch_add(read(path, until, reader == 3), Ordering::Relaxed));
        }
    });
    answers.into_inner()
}

#[test]
fn every_answer_belongs_to_one_commit() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("store.vlc");
    let first = ids(0..WINDOW);
    let settings = Config { ids: Some(&first), ..config(Metric::Cosine, 0.9) };
    vlc::compress_to(&clustered(1, WINDOW as usize, DIM).view(), &path, &settings).unwrap();
    let until = Instant::now() + seconds();
    let mut other = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "readers", "--nocapture"])
        .env("VLC_READERS_OF", &path)
        .spawn()
        .unwrap();
    let (commits, answers) = std::thread::scope(|scope| {
        let readers = scope.spawn(|| four(&path, until));
        let commits = write(&path, until + Duration::from_millis(500));
        (commits, readers.join().unwrap())
    });
    assert!(other.wait().unwrap().success());
    println!("{commits} commits, {answers} answers in this process");
    assert!(commits > 20 && answers > 20, "{commits} commits, {answers} answers");
    Index::open(&path).unwrap().verify().unwrap();
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["store.vlc"]);
}
