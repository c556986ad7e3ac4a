//! Damaged and made-up files: an error from open or verify, never a panic, never memory out of proportion.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/memory.rs"]
mod memory;

mod damage;
mod made_up;
mod refused;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::LazyLock,
};

use vlc::{CodeKind, Config, EncodeOptions, Error, Ids, Index, Metric, Store};
use vlc_reference::container;

use common::{
    Random, clustered, config,
    sections::{Section, assemble, hist, part, section, sections, segm, tomb},
};
use memory::peak_of;

/// The most memory that opening may take beyond what was held before.
const OPEN_MEMORY: usize = 16 << 20;

/// Opens and drops an index within the limit of memory.
#[track_caller]
fn open(bytes: &[u8]) -> Result<Index<&[u8]>, Error> {
    let (index, peak) = peak_of(|| Index::from_bytes(bytes));
    assert!(peak < OPEN_MEMORY, "opening {} bytes took {peak} bytes of memory", bytes.len());
    index
}

/// Rows of a small file.
const ROWS: usize = 300;

fn make(metric: Metric, code: CodeKind, charts: usize, ratio: f64, ids: Option<&Ids>) -> Vec<u8> {
    let mut settings = Config { code, ids, charts: Some(charts), ..config(metric, ratio) };
    settings.annealing.anchors = Some(5);
    settings.metadata = [("model".to_string(), "small".to_string())].into();
    let index = vlc::compress(clustered(21, ROWS, 8).view(), &settings).unwrap();
    assert!(index.bytes().len() < 14 << 10, "{} bytes", index.bytes().len());
    index.bytes().to_vec()
}

fn is_model(s: &Section) -> bool {
    s.segment == 0 && container::OF_FILE.contains(&&s.kind)
}

/// Two segments of the same rows, some of the first deleted, with a history and bytes of an earlier commit.
fn two_segments(one: &[u8]) -> Vec<u8> {
    let mut all = sections(one);
    let again: Vec<Section> =
        all.iter().filter(|s| !is_model(s)).map(|s| Section { segment: 1, ..s.clone() }).collect();
    all.push(section(b"TOMB", 0, tomb(ROWS, &[0, 5, 6, 7, 64, 100, 101, 102, 255, 298, 299])));
    all.push(section(b"DEAD", 3, b"what an earlier commit had".to_vec()));
    let segment = all.len();
    all.extend(again);
    *part(&mut all[segment..], b"SEGM") = segm(ROWS as u64, ROWS as u64, ROWS as u64);
    all.push(section(b"HIST", 0, hist(&[(300, 200, 1 << 31), (500, 100, 1 << 80)])));
    assemble(&all)
}

/// A file that was appended to, as it is before and after rows are deleted: the second has a slot and bytes more.
fn grown(one: &[u8]) -> [Vec<u8>; 2] {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("grown.vlc");
    std::fs::write(&path, one).unwrap();
    let mut store = Store::open(&path).unwrap();
    store.append(&clustered(22, 70, 8).view(), &EncodeOptions::default()).unwrap();
    let before = std::fs::read(&path).unwrap();
    store.delete(&(280..330).collect()).unwrap();
    [before, std::fs::read(&path).unwrap()]
}

static SMALL: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let plain = make(Metric::Cosine, CodeKind::Chain, 1, 0.5, None);
    let numbers: Ids = (0..ROWS as u64).map(|i| (i * 7919) % 5003 + ((i / 200) << 40)).collect();
    let text: Ids = (0..ROWS).map(|i| format!("row {i}{}", "é".repeat(i % 4))).collect();
    let model: Vec<Section> = sections(&plain).into_iter().filter(is_model).collect();
    let [appended, deleted] = grown(&plain);
    vec![
        make(Metric::L2, CodeKind::Chain, 2, 0.75, None),
        make(Metric::Dot, CodeKind::Pq8, 1, 0.8, None),
        make(Metric::Cosine, CodeKind::Chain, 1, 0.6, Some(&numbers)),
        make(Metric::Cosine, CodeKind::Chain, 1, 0.9, Some(&text)),
        two_segments(&plain),
        assemble(&model),
        appended,
        deleted,
        plain,
    ]
});

/// The one of them that is of one segment and one commit, without anything beside.
fn plain() -> &'static Vec<u8> {
    &SMALL[SMALL.len() - 1]
}

/// Files that earlier builds wrote, of every version.
static GOLDEN: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut paths = common::listing(&directory);
    paths.retain(|path| path.extension().is_some_and(|e| e == "vlc"));
    let files: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(files.len() >= 9 && files.iter().all(|file| file.len() <= 32 << 10));
    files
});

fn version(file: &[u8]) -> u8 {
    file[8]
}

/// Everything that an index answers about a few queries.
fn answers(index: &Index<&[u8]>) -> Vec<Vec<vlc::Hit>> {
    let queries = Random(8).mat(3, index.dim());
    (0..3).map(|q| index.query(queries.row(q), 20).unwrap()).collect()
}

/// Asks and decodes; what comes out may be wrong or an error.
fn exercise<D: AsRef<[u8]>>(index: &Index<D>) {
    let (n, dim) = (index.len(), index.dim());
    let query = vec![0.5; dim];
    for k in [1, 10, n] {
        if let Ok(found) = index.query(&query, k) {
            assert!(found.len() <= k.min(n));
            found.iter().for_each(|hit| _ = index.text_id(hit.id));
        }
    }
    let decoded = index.decode(0..n.min(40)).unwrap();
    assert_eq!(decoded.dim(), dim);
    let _ = index.decode(n.max(1) - 1..n).unwrap();
    match index.ids(0..n) {
        Ok(ids) => assert!(ids.len() <= n),
        Err(error) => assert!(matches!(error, Error::Format { .. }) && index.verify().is_err(), "{error}"),
    }
    let _ = index.info();
}

/// Opens, verifies and uses a made-up file; a panic names the case.
#[track_caller]
fn survives(bytes: &[u8], case: &str) -> bool {
    let outcome = catch_unwind(AssertUnwindSafe(|| match open(bytes) {
        Ok(index) => {
            let sound = index.verify().is_ok();
            exercise(&index);
            sound
        }
        Err(error) => {
            assert!(matches!(error, Error::Format { .. }));
            assert!(!error.to_string().is_empty());
            false
        }
    }));
    outcome.unwrap_or_else(|_| panic!("panicked on {case}"))
}
