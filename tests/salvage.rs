//! What is sound of a damaged file is saved, and what is not is told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::{collections::BTreeMap, fs, path::Path};

use vlc::{Config, EncodeOptions, Error, Ids, Index, Metric, SalvageReport, Store, compress_to, salvage};
use vlc_reference::container;

use common::{Random, clustered, config};

const DIM: usize = 16;
/// Enough for codes, row numbers and ids of several parts.
const ROWS: usize = 60_000;

type Contents = BTreeMap<String, Vec<u32>>;

fn contents(path: &Path) -> Contents {
    let index = Index::open(path).unwrap();
    index.verify().unwrap();
    let n = index.len();
    let ids: Vec<String> = match index.ids(0..n).unwrap() {
        Ids::Numbers(ids) => ids.iter().map(u64::to_string).collect(),
        Ids::Text(ids) => ids,
    };
    let decoded = index.decode(0..n).unwrap();
    let row = |i: usize| decoded.row(i).iter().map(|v| v.to_bits()).collect();
    ids.into_iter().enumerate().map(|(i, id)| (id, row(i))).collect()
}

fn name(row: usize) -> String {
    format!("document {row}")
}

/// A store of two segments; some rows of the first are deleted.
fn store(path: &Path, named: bool) {
    let rows = clustered(4, ROWS + 500, DIM);
    let ids = |range: std::ops::Range<usize>| named.then(|| Ids::Text(range.map(name).collect()));
    let (first, later) = (ids(0..ROWS), ids(ROWS..ROWS + 500));
    let mut settings = Config { ids: first.as_ref(), ..config(Metric::Cosine, 0.2) };
    if named {
        settings.budget = vlc::Budget::BytesPerVector(30.0);
    }
    settings.decoder = vlc::Decoder::Off;
    // So many that row numbers take more than a byte each.
    settings.annealing.anchors = Some(1000);
    settings.metadata = [("source".to_string(), "test".to_string())].into();
    compress_to(&rows.view().slice(0..ROWS), path, &settings).unwrap();
    let mut store = Store::open(path).unwrap();
    let options = EncodeOptions { ids: later.as_ref(), ..EncodeOptions::default() };
    store.append(&rows.view().slice(ROWS..ROWS + 500), &options).unwrap();
    let gone = if named { Ids::Text((100..150).map(name).collect()) } else { (100..150).collect() };
    assert_eq!(store.delete(&gone).unwrap().deleted, 50);
}

/// Where a section of a segment lies.
fn place(file: &[u8], kind: &[u8; 4], segment: usize) -> std::ops::Range<usize> {
    let all = container::sections(file).unwrap();
    let found = all.iter().find(|s| s.kind == *kind && s.segment == segment).unwrap();
    found.offset..found.offset + found.bytes.len()
}

fn ids(report: &SalvageReport) -> Vec<String> {
    match &report.lost_ids {
        Ids::Numbers(ids) => ids.iter().map(u64::to_string).collect(),
        Ids::Text(ids) => ids.clone(),
    }
}

#[test]
fn damage_costs_the_rows_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let (bad, out) = (folder.path().join("bad.vlc"), folder.path().join("out.vlc"));
    let mut random = Random(3);
    for named in [false, true] {
        store(&bad, named);
        let good = fs::read(&bad).unwrap();
        let all = contents(&bad);
        assert_eq!(all.len(), ROWS + 450);
        let kinds: &[&[u8; 4]] = if named { &[b"CODE", b"ROWS", b"IDSS"] } else { &[b"CODE", b"ROWS"] };
        for kind in kinds {
            for _ in 0..4 {
                let range = place(&good, kind, 0);
                assert!(range.len() > 1 << 16, "{} has {} bytes", kind.escape_ascii(), range.len());
                let mut damaged = good.clone();
                damaged[range.start + 8 + random.below(range.len() - 8)] ^= 1 << random.below(8);
                fs::write(&bad, &damaged).unwrap();
                let report = salvage(&bad, &out, None, None).unwrap();
                let found = contents(&out);
                // What is there is as it was, and what is not there is told.
                assert!(found.iter().all(|(id, row)| all.get(id) == Some(row)), "{}", kind.escape_ascii());
                assert_eq!(report.rows as usize, found.len());
                assert_eq!(report.rows + report.lost, all.len() as u64, "{report:?}");
                assert!(report.lost > 0 && report.latest && report.problems.len() == 1, "{:?}", report.problems);
                assert!(report.problems[0].contains(std::str::from_utf8(*kind).unwrap()), "{:?}", report.problems);
                // A part of it: the sections have two parts or more, of which the last may be small.
                assert!(report.rows as usize > ROWS / 6, "{} of {}: {}", report.rows, all.len(), kind.escape_ascii());
                if *kind == b"CODE" {
                    let mut expected: Vec<String> =
                        all.keys().filter(|id| !found.contains_key(*id)).cloned().collect();
                    let mut told = ids(&report);
                    expected.sort();
                    told.sort();
                    assert_eq!(told, expected);
                }
                assert_eq!(Index::open(&out).unwrap().info().metadata["source"], "test");
            }
        }
        // The second segment is of one part: with it go its rows, and no other.
        let mut damaged = good.clone();
        damaged[place(&good, b"CODE", 1).start + 5] ^= 4;
        fs::write(&bad, &damaged).unwrap();
        let report = salvage(&bad, &out, None, None).unwrap();
        assert_eq!((report.rows, report.lost), (ROWS as u64 - 50, 500));
        // A whole file is saved whole.
        fs::write(&bad, &good).unwrap();
        let report = salvage(&bad, &out, None, None).unwrap();
        assert_eq!((report.lost, report.problems.len()), (0, 0));
        assert!(contents(&out) == all);
        // Appending goes on behind what was there.
        assert_eq!(Index::open(&out).unwrap().info().next_row, ROWS as u64 + if named { 450 } else { 500 });
    }
}

#[test]
fn what_can_be_done_without_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let (bad, out, copy) =
        (folder.path().join("bad.vlc"), folder.path().join("out.vlc"), folder.path().join("copy.vlc"));
    store(&bad, false);
    let good = fs::read(&bad).unwrap();
    let all = contents(&bad);
    fs::write(&copy, &good).unwrap();
    let with = |kind: &[u8; 4], segment: usize| {
        let mut damaged = good.clone();
        damaged[place(&good, kind, segment).start] ^= 1;
        fs::write(&bad, &damaged).unwrap();
    };
    for kind in [b"KEYV", b"HIST", b"TOMB"] {
        with(kind, 0);
        let report = salvage(&bad, &out, None, None).unwrap();
        assert_eq!(report.problems.len(), 1, "{report:?}");
        let deleted = if kind == b"TOMB" { 50 } else { 0 };
        assert_eq!((report.rows, report.lost), (all.len() as u64 + deleted, 0), "{}", kind.escape_ascii());
        let found = contents(&out);
        assert!(all.iter().all(|(id, row)| found.get(id) == Some(row)));
    }
    // A segment without its cells is gone, the other is not.
    with(b"CELL", 0);
    let report = salvage(&bad, &out, None, None).unwrap();
    assert_eq!((report.rows, report.lost), (500, ROWS as u64));
    assert!(contents(&out).iter().all(|(id, row)| all.get(id) == Some(row)));
    // Without the model nothing can be read, but for what a copy still has.
    for kind in [b"META", b"MEAN", b"CHRT", b"ANCH", b"SIDE"] {
        with(kind, 0);
        let _ = fs::remove_file(&out);
        let error = salvage(&bad, &out, None, None).unwrap_err();
        assert!(error.to_string().contains(std::str::from_utf8(kind).unwrap()), "{error}");
        assert!(!out.exists());
        let report = salvage(&bad, &out, Some(&copy), None).unwrap();
        assert_eq!((report.lost, report.problems.len()), (0, 0));
        assert!(contents(&out) == all);
    }
    with(b"CODE", 0);
    assert_eq!(salvage(&bad, &out, Some(&copy), None).unwrap().lost, 0);
    assert!(contents(&out) == all);
}

/// Without the scale of its lengths a segment is gone, the other is not.
#[test]
fn lengths_on_a_lost_scale() {
    let folder = tempfile::tempdir().unwrap();
    let (bad, out) = (folder.path().join("bad.vlc"), folder.path().join("out.vlc"));
    let mut rows = clustered(4, 900, DIM);
    (800..900).for_each(|i| rows.row_mut(i).iter_mut().for_each(|v| *v *= 100.0));
    compress_to(&rows.view().slice(0..800), &bad, &config(Metric::Dot, 0.8)).unwrap();
    Store::open(&bad).unwrap().append(&rows.view().slice(800..900), &EncodeOptions::default()).unwrap();
    let all = contents(&bad);
    let mut damaged = fs::read(&bad).unwrap();
    let scale = place(&damaged, b"GAIN", 1).start;
    damaged[scale] ^= 1;
    fs::write(&bad, &damaged).unwrap();
    let report = salvage(&bad, &out, None, None).unwrap();
    assert_eq!((report.rows, report.lost), (800, 100), "{report:?}");
    assert!(report.problems.iter().any(|text| text.contains("GAIN of segment 1")), "{report:?}");
    let found = contents(&out);
    assert!(found.len() == 800 && found.iter().all(|(id, row)| all.get(id) == Some(row)));
}

#[test]
fn an_earlier_commit_is_better_than_none() {
    let folder = tempfile::tempdir().unwrap();
    let (bad, out) = (folder.path().join("bad.vlc"), folder.path().join("out.vlc"));
    let rows = clustered(4, 900, DIM);
    compress_to(&rows.view().slice(0..800), &bad, &config(Metric::Cosine, 0.8)).unwrap();
    Store::open(&bad).unwrap().append(&rows.view().slice(800..900), &EncodeOptions::default()).unwrap();
    let good = fs::read(&bad).unwrap();
    // The table of the last commit, then its slot.
    let end = good.len();
    let slot = 64 + 64 * (Index::open(&bad).unwrap().info().generation as usize % 2);
    for at in [end - 3, slot + 2] {
        let mut damaged = good.clone();
        damaged[at] ^= 8;
        fs::write(&bad, &damaged).unwrap();
        assert!(Index::open(&bad).is_err());
        let report = salvage(&bad, &out, None, None).unwrap();
        assert_eq!((report.rows, report.latest, report.generation), (800, false, 1), "{report:?}");
        assert!(report.problems.iter().any(|text| text.contains("a later commit")), "{report:?}");
        assert_eq!(contents(&out).len(), 800);
    }
    // The header says which version it is; slots say so too.
    let mut damaged = good.clone();
    damaged[57] ^= 1;
    fs::write(&bad, &damaged).unwrap();
    let report = salvage(&bad, &out, None, None).unwrap();
    assert_eq!(report.rows, 900);
    // No header, no table: nothing.
    fs::write(&bad, &good[..good.len() / 2]).unwrap();
    assert!(matches!(salvage(&bad, &out, None, None), Err(Error::Format { .. })));
    fs::write(&bad, b"something else").unwrap();
    assert!(matches!(salvage(&bad, &out, None, None), Err(Error::Format { .. })));
}

/// Whatever is damaged, salvage does not panic, and what it writes is sound.
#[test]
fn any_damage() {
    let folder = tempfile::tempdir().unwrap();
    let (bad, out) = (folder.path().join("bad.vlc"), folder.path().join("out.vlc"));
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut random = Random(8);
    let (mut saved, mut refused) = (0, 0);
    for file in common::listing(&golden).into_iter().filter(|path| path.extension().is_some_and(|e| e == "vlc")) {
        let good = fs::read(&file).unwrap();
        for _ in 0..60 {
            let mut damaged = good.clone();
            for _ in 0..1 + random.below(3) {
                let at = random.below(damaged.len());
                match random.below(3) {
                    0 => damaged[at] ^= 1 << random.below(8),
                    1 => damaged[at..(at + 64).min(good.len())].fill(0),
                    _ => damaged.truncate(at.max(good.len() / 2)),
                }
                if damaged.len() < good.len() {
                    break;
                }
            }
            fs::write(&bad, &damaged).unwrap();
            match salvage(&bad, &out, None, None) {
                Ok(report) => {
                    assert_eq!(contents(&out).len() as u64, report.rows);
                    saved += 1;
                }
                Err(error) => {
                    assert!(matches!(error, Error::Format { .. } | Error::Input(_)), "{error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(saved > 100 && refused > 100, "{saved} saved, {refused} refused");
}
