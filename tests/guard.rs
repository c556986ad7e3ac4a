//! Mapped files that another program truncates: with the guard an error, without it the signal that there always was.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use vlc::{
    EncodeOptions, Error, Index, Metric, ParseError, Store, guard_mappings,
    measure::exact_neighbors,
    merge,
    read::{RowSource, VectorFile},
};

use common::{
    Random, clustered, config,
    sections::{assemble, part, sections, segm},
};

const DIM: usize = 8;
/// Rows of the large file: enough that a search is mostly a scan.
const ROWS: u64 = 4 << 20;
/// What a child says that ends as it should.
const REFUSED: i32 = 77;

/// A file of many rows, all in one cell.
fn large(path: &Path) {
    let index = vlc::compress(clustered(21, 300, DIM).view(), &config(Metric::Cosine, 0.5)).unwrap();
    let mut parts = sections(index.bytes());
    let block = part(&mut parts, b"CODE").len() / 10;
    *part(&mut parts, b"SEGM") = segm(ROWS, 0, ROWS);
    let cells = part(&mut parts, b"CELL").len() / 8;
    *part(&mut parts, b"CELL") = (0..cells).flat_map(|k| (ROWS * (k > 0) as u64).to_le_bytes()).collect();
    part(&mut parts, b"ROWS").clear();
    *part(&mut parts, b"CODE") = vec![0; block * (ROWS / 32) as usize];
    fs::write(path, assemble(&parts)).unwrap();
}

/// Vectors of 4 KiB each, in a file of raw float32 with a header.
fn vectors(path: &Path, rows: usize, dim: usize) {
    let mut bytes = [rows as u32, dim as u32].map(u32::to_le_bytes).concat();
    let values = Random(3).mat(rows, dim);
    bytes.extend(values.as_slice().iter().flat_map(|v| v.to_le_bytes()));
    fs::write(path, bytes).unwrap();
}

fn truncate(path: &Path) {
    File::options().write(true).open(path).unwrap().set_len(4096).unwrap();
}

/// Rows of a file that shrinks before they are read.
struct Shrinking {
    file: VectorFile,
    path: PathBuf,
    reads: std::sync::atomic::AtomicUsize,
}

impl RowSource for Shrinking {
    fn rows(&self) -> usize {
        self.file.rows()
    }
    fn dim(&self) -> usize {
        self.file.dim()
    }
    fn read(&self, start: usize, out: &mut [f32]) -> Result<(), Error> {
        if self.reads.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
            truncate(&self.path);
        }
        self.file.read(start, out)
    }
}

fn shrinking(path: &Path) -> Shrinking {
    Shrinking { file: VectorFile::open(path).unwrap(), path: path.to_owned(), reads: 0.into() }
}

/// Runs `call` again and again until it gives an error.
fn until_refused(mut call: impl FnMut() -> Result<(), Error>) -> Error {
    println!("ready");
    loop {
        if let Err(error) = call() {
            return error;
        }
    }
}

fn is_of_store(error: &Error) -> bool {
    use ParseError::{Length, Shrunk};
    matches!(error, Error::Format { source: Length { .. } | Shrunk, .. })
}

/// What a child process does in `folder`; whether it ended as it should.
fn child(job: &str, folder: &Path) -> bool {
    let [store, rows, out] = ["large.vlc", "rows.fbin", "out.vlc"].map(|name| folder.join(name));
    let (job, guarded) = job.strip_prefix("bare-").map_or((job, true), |job| (job, false));
    if job == "handed-on" {
        extern "C" fn leave(_: libc::c_int) {
            // SAFETY: may be called in a handler.
            unsafe { libc::_exit(REFUSED) }
        }
        // SAFETY: a handler that only ends the process.
        unsafe { libc::signal(libc::SIGBUS, leave as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    }
    assert!(!guarded || (guard_mappings() && guard_mappings()));
    let query = [0.5; DIM];
    match job {
        "search" => {
            let index = Index::open(&store).unwrap();
            is_of_store(&until_refused(|| index.query(&query, 10).map(drop)))
        }
        "decode" => {
            let index = Index::open(&store).unwrap();
            is_of_store(&until_refused(|| index.decode_each(0..index.len(), |_| Ok(()))))
        }
        "verify" => {
            let index = Index::open(&store).unwrap();
            is_of_store(&until_refused(|| index.verify()))
        }
        "open" => is_of_store(&until_refused(|| Index::open(&store)?.query(&query, 10).map(drop))),
        "merge" => {
            let error = until_refused(|| merge(&[&store], &out, None).map(drop));
            // What an earlier round wrote is whole.
            is_of_store(&error) && (!out.exists() || Index::open(&out).unwrap().verify().is_ok())
        }
        // What was read is no answer, though nothing has failed.
        "bytes" => {
            let index = Index::open(&store).unwrap();
            index.check_whole().unwrap();
            truncate(&store);
            let zeros = index.bytes()[1 << 20..].iter().all(|&b| b == 0);
            zeros && is_of_store(&index.check_whole().unwrap_err())
        }
        "vectors" => {
            let file = VectorFile::open(&rows).unwrap();
            truncate(&rows);
            let error = file.read(file.rows() - 1, &mut vec![0.0; file.dim()]).unwrap_err();
            matches!(&error, Error::Io { path, .. } if *path == rows) && error.to_string().contains("shorter")
        }
        "exact" => {
            let queries = Random(5).mat(3, DIM);
            let error = exact_neighbors(&shrinking(&rows), queries.view(), 10, Metric::Cosine).unwrap_err();
            matches!(&error, Error::Io { path, .. } if *path == rows)
        }
        "append" => {
            let before = fs::read(&store).unwrap();
            let mut writer = Store::open(&store).unwrap();
            let error = writer.append(&shrinking(&rows), &EncodeOptions::default()).unwrap_err();
            matches!(&error, Error::Io { path, .. } if *path == rows) && fs::read(&store).unwrap() == before
        }
        // A mapping that is not of this library.
        "foreign" | "handed-on" => {
            let file = File::open(&rows).unwrap();
            // SAFETY: truncated on purpose, to see the process end.
            let map = unsafe { memmap2::Mmap::map(&file) }.unwrap();
            truncate(&rows);
            map[map.len() - 1] == 0
        }
        other => panic!("{other}"),
    }
}

/// Not a test by itself: what the others start.
#[test]
fn as_a_child() {
    if let (Ok(job), Ok(folder)) = (std::env::var("VLC_GUARD_JOB"), std::env::var("VLC_GUARD_FOLDER")) {
        let code = if child(&job, Path::new(&folder)) { REFUSED } else { 1 };
        std::process::exit(code);
    }
}

fn start(job: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "as_a_child", "--nocapture"]);
    command.env("VLC_GUARD_JOB", job).env("VLC_GUARD_FOLDER", folder).stderr(Stdio::null()).stdout(Stdio::piped());
    command
}

/// Starts a child that works on the large file, and truncates that after a while.
fn truncated_meanwhile(job: &str, folder: &Path, after: Duration) -> ExitStatus {
    let store = folder.join("large.vlc");
    large(&store);
    let mut child = start(job, folder).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("ready")), "{job} did not start");
    std::thread::sleep(after);
    truncate(&store);
    child.wait().unwrap()
}

#[test]
fn running_calls_end_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..8 {
        let after = Duration::from_micros(3_000 + 1_713 * round);
        let status = truncated_meanwhile("search", folder.path(), after);
        assert_eq!(status.code(), Some(REFUSED), "search, round {round}: {status}");
    }
    for job in ["decode", "verify", "open", "merge"] {
        for round in 0..3 {
            let status = truncated_meanwhile(job, folder.path(), Duration::from_micros(5_000 + 2_713 * round));
            assert_eq!(status.code(), Some(REFUSED), "{job}, round {round}: {status}");
        }
    }
}

#[test]
fn nothing_is_answered_from_zeros() {
    let folder = tempfile::tempdir().unwrap();
    for job in ["bytes", "vectors", "exact", "append"] {
        large(&folder.path().join("large.vlc"));
        vectors(&folder.path().join("rows.fbin"), 20_000, DIM);
        let status = start(job, folder.path()).output().unwrap().status;
        assert_eq!(status.code(), Some(REFUSED), "{job}: {status}");
    }
}

/// Without the guard, and for what is not its own, the process ends as it always did.
#[test]
fn other_faults_end_the_process() {
    let folder = tempfile::tempdir().unwrap();
    for job in ["bare-bytes", "bare-vectors", "bare-foreign", "foreign"] {
        large(&folder.path().join("large.vlc"));
        vectors(&folder.path().join("rows.fbin"), 20_000, DIM);
        let status = start(job, folder.path()).output().unwrap().status;
        assert_eq!(status.signal(), Some(libc::SIGBUS), "{job}: {status}");
    }
    // To whoever asked for it before.
    vectors(&folder.path().join("rows.fbin"), 20_000, DIM);
    let status = start("handed-on", folder.path()).output().unwrap().status;
    assert_eq!(status.code(), Some(REFUSED), "{status}");
    let dead = (0..3).filter(|_| {
        truncated_meanwhile("bare-search", folder.path(), Duration::from_millis(5)).signal() == Some(libc::SIGBUS)
    });
    assert!(dead.count() > 0, "the tests above show nothing");
}
