//! Files written by earlier builds are read for ever: they open, verify, and answer as they did.
//!
//! `VLC_BLESS=1 cargo test --test golden` writes new ones; only for a new version of the format.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::{fmt::Write as _, fs, path::PathBuf};

use common::{Random, clustered, config};
use vlc::{CodeKind, Config, Hit, Index, Mat, Metric};

const K: usize = 5;
const DIM: usize = 12;

struct Golden {
    name: &'static str,
    metric: Metric,
    code: CodeKind,
    charts: usize,
}

const FILES: [Golden; 4] = [
    Golden { name: "v1-cosine", metric: Metric::Cosine, code: CodeKind::Chain, charts: 1 },
    Golden { name: "v1-dot", metric: Metric::Dot, code: CodeKind::Chain, charts: 2 },
    Golden { name: "v1-l2", metric: Metric::L2, code: CodeKind::Chain, charts: 1 },
    Golden { name: "v1-pq8", metric: Metric::Cosine, code: CodeKind::Pq8, charts: 1 },
];

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

fn bless(golden: &Golden) {
    let rows = clustered(77, 500, DIM);
    let mut settings = Config { code: golden.code, charts: Some(golden.charts), ..config(golden.metric, 0.4) };
    settings.annealing.anchors = Some(9);
    settings.metadata = [("golden".to_string(), golden.name.to_string())].into();
    let index = vlc::compress(rows.view(), &settings).unwrap();
    index.verify().unwrap();
    fs::create_dir_all(path("")).unwrap();
    vlc::write_index(&index, path(&format!("{}.vlc", golden.name))).unwrap();
    let queries = queries();
    let answers: Vec<Vec<Hit>> = (0..queries.rows()).map(|q| index.query(queries.row(q), K).unwrap()).collect();
    fs::write(path(&format!("{}.txt", golden.name)), text(&answers)).unwrap();
}

#[test]
fn files_of_version_1_are_read() {
    for golden in &FILES {
        if std::env::var_os("VLC_BLESS").is_some_and(|v| v == "1") {
            bless(golden);
        }
        let file = path(&format!("{}.vlc", golden.name));
        assert!(fs::metadata(&file).unwrap().len() < 16 << 10);
        let index = Index::open(&file).unwrap();
        index.verify().unwrap();
        let info = index.info();
        assert_eq!((info.version, info.n, info.dim), (1, 500, DIM as u32));
        assert_eq!((info.metric, info.code, info.charts as usize), (golden.metric, golden.code, golden.charts));
        assert_eq!(info.metadata["golden"], golden.name);

        let reference = vlc_reference::parse(index.bytes()).unwrap();
        let queries = queries();
        let expected = fs::read_to_string(path(&format!("{}.txt", golden.name))).unwrap();
        assert_eq!(expected.lines().count(), queries.rows());
        for (q, line) in expected.lines().enumerate() {
            let hits = index.query(queries.row(q), K).unwrap();
            let by_reference = reference.search(&common::wide(queries.row(q)), K);
            assert_eq!(line.split(' ').count(), K);
            for ((word, hit), (row, score)) in line.split(' ').zip(&hits).zip(by_reference) {
                let place = format!("{}, query {q}: {line}", golden.name);
                let (id, expected) = word.split_once(':').unwrap();
                let expected: f64 = expected.parse().unwrap();
                assert_eq!(hit.id, id.parse::<u64>().unwrap(), "{place}");
                assert_eq!(row, id.parse::<usize>().unwrap(), "{place}, the reference");
                let tolerance = 1e-4 * expected.abs().max(1.0);
                assert!((f64::from(hit.score) - expected).abs() <= tolerance, "{place}: {hit:?}");
                assert!((score - expected).abs() <= tolerance, "{place}, the reference: {score}");
            }
        }
    }
}
