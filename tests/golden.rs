//! Files written by earlier builds are read for ever: they open, verify, and answer as they did.
//!
//! `VLC_BLESS=1 cargo test --test golden` writes those of the newest version anew; only while no build with it is out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::{fmt::Write as _, fs, path::PathBuf};

use vlc::{CodeKind, Config, EncodeOptions, Hit, Ids, Index, Mat, Metric, Store};
use vlc_reference::Id;

use common::{Random, clustered, config, name};

const K: usize = 5;
const DIM: usize = 12;
const ROWS: usize = 500;

struct Golden {
    name: &'static str,
    version: u32,
    metric: Metric,
    code: CodeKind,
    charts: usize,
    /// Rows that were deleted.
    deleted: usize,
}

const FILES: [Golden; 15] = {
    use CodeKind::{Chain, Pq8};
    use Metric::{Cosine, Dot, L2};
    [
        Golden { name: "v1-cosine", version: 1, metric: Cosine, code: Chain, charts: 1, deleted: 0 },
        Golden { name: "v1-dot", version: 1, metric: Dot, code: Chain, charts: 2, deleted: 0 },
        Golden { name: "v1-l2", version: 1, metric: L2, code: Chain, charts: 1, deleted: 0 },
        Golden { name: "v1-pq8", version: 1, metric: Cosine, code: Pq8, charts: 1, deleted: 0 },
        Golden { name: "v2-cosine", version: 2, metric: Cosine, code: Chain, charts: 1, deleted: 0 },
        Golden { name: "v2-l2", version: 2, metric: L2, code: Chain, charts: 2, deleted: 0 },
        Golden { name: "v2-pq8", version: 2, metric: Cosine, code: Pq8, charts: 1, deleted: 0 },
        // Appended to and deleted from.
        Golden { name: "v2-ids", version: 2, metric: Dot, code: Chain, charts: 1, deleted: 40 },
        Golden { name: "v2-text", version: 2, metric: Cosine, code: Chain, charts: 1, deleted: 0 },
        // Appended to, with rows of other lengths.
        Golden { name: "v3-cosine", version: 3, metric: Cosine, code: Chain, charts: 1, deleted: 0 },
        Golden { name: "v3-l2", version: 3, metric: L2, code: Chain, charts: 2, deleted: 0 },
        // Appended to and deleted from.
        Golden { name: "v3-ids", version: 3, metric: Dot, code: Chain, charts: 1, deleted: 40 },
        Golden { name: "v3-text", version: 3, metric: Cosine, code: Chain, charts: 1, deleted: 0 },
        Golden { name: "v3-lengths", version: 3, metric: Dot, code: Chain, charts: 1, deleted: 0 },
        // Rows of one length, which are not kept one by one.
        Golden { name: "v3-scores", version: 3, metric: L2, code: Chain, charts: 1, deleted: 0 },
    ]
};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The queries, the same for every file: sums and products of a pinned generator, nothing a library could change.
fn queries() -> Mat {
    Random(99).mat(6, DIM)
}

/// One line a query: id and score of each row found.
fn text(answers: &[Vec<Hit>]) -> String {
    let mut out = String::new();
    for hits in answers {
        let words: Vec<String> = hits.iter().map(|hit| format!("{}:{:.6}", hit.id, hit.score)).collect();
        writeln!(out, "{}", words.join(" ")).unwrap();
    }
    out
}

/// The id of a row; none is its number.
fn number(row: usize) -> u64 {
    1_000_000_007 * (row as u64 + 3) % 65_521 + 70_000
}

fn string(row: usize) -> String {
    format!("doc/{row}#{}", "é".repeat(row % 3))
}

fn bless(golden: &Golden) {
    let rows = clustered(77, ROWS, DIM);
    let mut settings = Config { code: golden.code, charts: Some(golden.charts), ..config(golden.metric, 0.4) };
    settings.annealing.anchors = Some(9);
    settings.metadata = [("golden".to_string(), golden.name.to_string())].into();
    let (first, later): (Ids, Ids) = ((0..400).map(number).collect(), (400..ROWS).map(number).collect());
    let strings: Ids = (0..ROWS).map(string).collect();
    let file = path(&format!("{}.vlc", golden.name));
    if golden.deleted > 0 {
        let directory = tempfile::tempdir().unwrap();
        let grown = directory.path().join("grown.vlc");
        settings.ids = Some(&first);
        vlc::compress_to(&rows.view().slice(0..400), &grown, &settings).unwrap();
        let mut store = Store::open(&grown).unwrap();
        let options = EncodeOptions { ids: Some(&later), ..EncodeOptions::default() };
        store.append(&rows.view().slice(400..ROWS), &options).unwrap();
        let gone: Ids = (0..golden.deleted).map(|i| number(i * 12 + 5)).collect();
        assert_eq!(store.delete(&gone).unwrap().deleted as usize, golden.deleted);
        drop(store);
        fs::copy(grown, &file).unwrap();
    } else if golden.name == "v3-lengths" {
        vlc::compress_to(&rows.view().slice(0..400), &file, &settings).unwrap();
        let long: Vec<f32> = rows.view().slice(400..ROWS).as_slice().iter().map(|v| 40.0 * v).collect();
        let long = Mat::new(long, ROWS - 400, DIM).unwrap();
        Store::open(&file).unwrap().append(&long.view(), &EncodeOptions::default()).unwrap();
    } else if golden.name == "v3-scores" {
        let mut rows = rows;
        for i in 0..ROWS {
            let length = rows.row(i).iter().map(|v| v * v).sum::<f32>().sqrt();
            rows.row_mut(i).iter_mut().for_each(|v| *v /= length);
        }
        vlc::write_index(&vlc::compress(rows.view(), &settings).unwrap(), &file).unwrap();
    } else {
        settings.ids = (golden.name == "v3-text").then_some(&strings);
        vlc::write_index(&vlc::compress(rows.view(), &settings).unwrap(), &file).unwrap();
    }
    let index = Index::open(&file).unwrap();
    index.verify().unwrap();
    let queries = queries();
    let answers: Vec<Vec<Hit>> = (0..queries.rows()).map(|q| index.query(queries.row(q), K).unwrap()).collect();
    fs::write(path(&format!("{}.txt", golden.name)), text(&answers)).unwrap();
}

#[test]
fn files_of_every_version_are_read() {
    for golden in &FILES {
        if golden.version == vlc::FORMAT_VERSION && std::env::var_os("VLC_BLESS").is_some_and(|v| v == "1") {
            bless(golden);
        }
        let file = path(&format!("{}.vlc", golden.name));
        assert!(fs::metadata(&file).unwrap().len() < 16 << 10);
        let index = Index::open(&file).unwrap();
        index.verify().unwrap();
        let info = index.info();
        assert_eq!((info.version, info.dim), (golden.version, DIM as u32));
        assert_eq!(info.n as usize, ROWS - golden.deleted);
        assert_eq!((info.metric, info.code, info.charts as usize), (golden.metric, golden.code, golden.charts));
        assert_eq!(info.metadata["golden"], golden.name);

        let reference = vlc_reference::Store::parse(index.bytes()).unwrap();
        assert!(reference.ids_differ());
        common::assert_store_rows(&index, &reference);
        for row in &reference.rows {
            let expected = match golden.name {
                "v2-ids" | "v3-ids" => Id::Number(number(row.number)),
                "v2-text" | "v3-text" => Id::Text(string(row.number)),
                _ => Id::Number(row.number as u64),
            };
            assert_eq!(row.id, expected, "{}", golden.name);
        }
        if golden.deleted > 0 {
            assert_eq!((reference.segments.len(), reference.history.len()), (2, 1));
            assert_eq!(reference.generation, 3);
        }
        let own_scales: Vec<bool> = reference.segments.iter().map(|s| !s.file.gain_pieces.is_empty()).collect();
        let outside = ["v3-lengths", "v3-ids"].contains(&golden.name);
        assert_eq!(own_scales.contains(&true), outside, "{}: {own_scales:?}", golden.name);
        let scores = info.sections.iter().any(|(kind, _)| kind == "SCOR");
        assert_eq!(scores, golden.name == "v3-scores", "{}", golden.name);
        let queries = queries();
        let expected = fs::read_to_string(path(&format!("{}.txt", golden.name))).unwrap();
        assert_eq!(expected.lines().count(), queries.rows());
        for (q, line) in expected.lines().enumerate() {
            let hits = index.query(queries.row(q), K).unwrap();
            let by_reference = reference.search(&common::wide(queries.row(q)), K);
            assert_eq!(line.split(' ').count(), K);
            for ((word, hit), (rank, score)) in line.split(' ').zip(&hits).zip(by_reference) {
                let place = format!("{}, query {q}: {line}", golden.name);
                let (id, expected) = word.split_once(':').unwrap();
                let (id, expected): (u64, f64) = (id.parse().unwrap(), expected.parse().unwrap());
                assert_eq!(hit.id, id, "{place}");
                assert_eq!(name(&reference.rows[rank]), id, "{place}, the reference");
                let tolerance = 1e-4 * expected.abs().max(1.0);
                assert!((f64::from(hit.score) - expected).abs() <= tolerance, "{place}: {hit:?}");
                assert!((score - expected).abs() <= tolerance, "{place}, the reference: {score}");
            }
        }
    }
}
