//! What is written is what the reference reads, decodes and finds; on real embeddings and on small random stores.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::LazyLock;

use vlc::{Budget, CodeKind, Compute, Config, Index, Mat, Metric, QuerySource, SearchOptions};
use vlc_reference::distance;

use common::{Random, assert_answers, assert_decodes, config, example, reference, scaled, wide};

static BASE: LazyLock<Mat> = LazyLock::new(|| example("base.i8.npy"));
static QUERIES: LazyLock<Mat> = LazyLock::new(|| example("queries.i8.npy"));
static SAMPLE: LazyLock<Mat> = LazyLock::new(|| example("queries-train.i8.npy"));

/// The first columns of some rows: real data of a size that trains in no time.
fn narrow(rows: &Mat, count: usize) -> Mat {
    let values = (0..count).flat_map(|i| rows.row(i)[..64].to_vec()).collect();
    Mat::new(values, count, 64).unwrap()
}

fn recall_of<D: AsRef<[u8]>>(index: &Index<D>, rows: &Mat, queries: &Mat) -> f64 {
    let truth = vlc::measure::exact_neighbors(&rows.view(), queries.view(), 10, index.metric()).unwrap();
    let found = index.search(queries.view(), &SearchOptions::new(10)).unwrap();
    vlc::measure::recall(&found, &truth, 10)
}

/// The whole of it at one size; gives the recall.
fn assert_round_trip(ratio: f64, config: &Config<'_>) -> f64 {
    let index = vlc::compress(BASE.view(), config).unwrap();
    let budget = (ratio * 4.0 * 384.0 * 5000.0) as usize;
    assert!(index.bytes().len() <= budget, "{} bytes, {budget} were allowed", index.bytes().len());
    index.verify().unwrap();
    let file = reference(&index);
    assert_decodes(&index, &file, 0..300);
    assert_decodes(&index, &file, 4990..5000);
    let some = QUERIES.view().slice(0..60);
    assert_answers(&file, some, &index.search(some, &SearchOptions::new(10)).unwrap(), 10);

    let measured = recall_of(&index, &BASE, &QUERIES);
    let held = index.info().recall.expect("recall is measured on held-out queries");
    assert_eq!(held.k, 10);
    assert!(held.queries >= 100);
    assert!((f64::from(held.recall) - measured).abs() <= 0.06, "{held:?} stored, {measured} measured");
    measured
}

#[test]
fn real_cosine_at_six_percent() {
    let with_queries = Config { queries: Some(SAMPLE.view()), ..config(Metric::Cosine, 0.06) };
    let recall = assert_round_trip(0.06, &with_queries);
    assert!(recall >= 0.80, "recall {recall}");
}

#[test]
fn real_cosine_at_ten_percent_without_queries() {
    let settings = Config { queries: None, ..config(Metric::Cosine, 0.10) };
    let index = vlc::compress(BASE.view(), &settings).unwrap();
    assert_eq!(index.info().recall.unwrap().source, QuerySource::Rows);
    assert!(index.info().ratio <= 0.10);
    let file = reference(&index);
    let some = QUERIES.view().slice(0..40);
    assert_answers(&file, some, &index.search(some, &SearchOptions::new(10)).unwrap(), 10);
    let recall = recall_of(&index, &BASE, &QUERIES);
    assert!(recall >= 0.85, "recall {recall}");
}

/// Rows of all lengths: search on codes is as good as measuring against the decoded rows.
fn assert_lengths_are_served(metric: Metric) {
    let rows = scaled(BASE.view().slice(0..3000), 5);
    let queries = scaled(QUERIES.view().slice(0..300), 6);
    let index = vlc::compress(rows.view(), &config(metric, 0.12)).unwrap();
    index.verify().unwrap();
    let file = reference(&index);
    assert_decodes(&index, &file, 1000..1100);
    let some = queries.view().slice(0..40);
    assert_answers(&file, some, &index.search(some, &SearchOptions::new(10)).unwrap(), 10);

    let truth = vlc::measure::exact_neighbors(&rows.view(), queries.view(), 10, metric).unwrap();
    let found = index.search(queries.view(), &SearchOptions::new(10)).unwrap();
    let ours = vlc::measure::recall(&found, &truth, 10);
    let (decoded, dim) = (file.decode_all(), rows.dim());
    let squares: Vec<f64> = decoded.chunks_exact(dim).map(|x| distance::dot(x, x)).collect();
    let mut theirs = 0.0;
    for q in 0..queries.rows() {
        let query = wide(queries.row(q));
        // As `search_exact_metric`, with the rows decoded once; |q|^2 is the same for all rows.
        let scores: Vec<f64> = decoded
            .chunks_exact(dim)
            .zip(&squares)
            .map(|(x, square)| match metric {
                Metric::L2 => 2.0 * distance::dot(&query, x) - square,
                _ => distance::dot(&query, x),
            })
            .collect();
        let best: Vec<usize> = distance::largest(&scores, 10).iter().map(|b| b.0).collect();
        let truth: Vec<usize> = truth.ids.row(q).iter().map(|&id| id as usize).collect();
        theirs += distance::recall(&best, &truth, 10) / queries.rows() as f64;
    }
    assert!(ours >= theirs - 0.02, "{metric:?}: recall {ours} on codes, {theirs} on decoded rows");
    assert!(ours >= 0.6, "{metric:?}: recall {ours}");
}

#[test]
fn l2_on_rows_of_all_lengths() {
    assert_lengths_are_served(Metric::L2);
}

#[test]
fn dot_on_rows_of_all_lengths() {
    assert_lengths_are_served(Metric::Dot);
}

#[test]
fn several_charts_and_pq8() {
    let rows = BASE.view().slice(0..2000);
    let queries = QUERIES.view().slice(0..40);
    for (charts, code) in [(Some(2), CodeKind::Chain), (Some(3), CodeKind::Chain), (None, CodeKind::Pq8)] {
        let mut settings = Config { charts, code, ..config(Metric::Cosine, 0.2) };
        settings.annealing.anchors = Some(64);
        let index = vlc::compress(rows, &settings).unwrap();
        let info = index.info();
        assert_eq!((info.charts as usize, info.code), (charts.unwrap_or(1), code));
        assert!(info.ratio <= 0.2, "{}", info.ratio);
        index.verify().unwrap();
        let file = reference(&index);
        let mut used: Vec<usize> = file.labels.iter().map(|&k| file.chart_of[k]).collect();
        used.sort_unstable();
        used.dedup();
        assert!(charts.is_none() || used.len() > 1, "one chart has all rows");
        assert_decodes(&index, &file, 500..600);
        assert_answers(&file, queries, &index.search(queries, &SearchOptions::new(10)).unwrap(), 10);
        // One at a time as all together.
        let alone = index.query(queries.row(3), 10).unwrap();
        let batch = index.search(queries, &SearchOptions::new(10)).unwrap();
        assert!(alone.iter().zip(batch.ids.row(3)).all(|(hit, id)| hit.id == *id));
    }
}

#[test]
fn bytes_do_not_depend_on_threads_or_on_the_run() {
    let directory = tempfile::tempdir().unwrap();
    let (rows, sample, queries) = (narrow(&BASE, 1500), narrow(&SAMPLE, 200), narrow(&QUERIES, 5));
    let rows = rows.view();
    for (metric, code) in [(Metric::Cosine, CodeKind::Chain), (Metric::L2, CodeKind::Pq8)] {
        let with = |threads| Config {
            compute: Compute { threads, ..Compute::default() },
            code,
            queries: Some(sample.view()),
            metadata: [("model".to_string(), "minilm".to_string())].into(),
            ..config(metric, 0.4)
        };
        let one = vlc::compress(rows, &with(Some(1))).unwrap();
        let two = vlc::compress(rows, &with(Some(2))).unwrap();
        let again = vlc::compress(rows, &with(None)).unwrap();
        assert!(one.bytes() == two.bytes(), "{metric:?}: 1 and 2 threads differ");
        assert!(one.bytes() == again.bytes(), "{metric:?}: two runs differ");
        let path = directory.path().join("out.vlc");
        let report = vlc::compress_to(&rows, &path, &with(Some(2))).unwrap();
        let file = std::fs::read(&path).unwrap();
        assert!(one.bytes() == file, "{metric:?}: compress and compress_to differ");
        assert_eq!(report.file_bytes, file.len() as u64);
        assert_eq!(report.recall, one.info().recall);
        let other = vlc::compress(rows, &Config { seed: 2, ..with(None) }).unwrap();
        assert!(one.bytes() != other.bytes(), "{metric:?}: the seed has no effect");

        // Written once more from memory it is the same file, and a mapped one answers alike.
        let copy = directory.path().join("copy.vlc");
        vlc::write_index(&one, &copy).unwrap();
        let mapped = Index::open(&copy).unwrap();
        assert!(mapped.bytes() == one.bytes());
        assert_eq!(
            mapped.search(queries.view(), &SearchOptions::new(7)).unwrap(),
            one.search(queries.view(), &SearchOptions::new(7)).unwrap()
        );
        assert_eq!(mapped.info().metadata["model"], "minilm");
    }
}

#[test]
fn the_plan_is_kept() {
    let rows = narrow(&BASE, 2000);
    let rows = rows.view();
    let settings = config(Metric::Cosine, 0.4);
    let plan = vlc::plan(&rows, &settings).unwrap();
    let info = vlc::compress(rows, &settings).unwrap().info();
    assert_eq!(plan.anchors, info.anchors as usize);
    assert!(plan.file_bytes as f64 <= 0.4 * 4.0 * 64.0 * 2000.0);
    let off = (plan.file_bytes as f64 / info.file_bytes as f64 - 1.0).abs();
    assert!(off < 0.05, "{} bytes planned, {} written", plan.file_bytes, info.file_bytes);
}

/// Small stores of every kind, with copies of rows, constant columns and rows of zeros.
mod any_small_store {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    struct Store {
        seed: u64,
        n: usize,
        d: usize,
        metric: Metric,
        code: CodeKind,
        ratio: f64,
        copies: bool,
        constants: bool,
        queries: usize,
        charts: Option<usize>,
    }

    fn stores() -> impl Strategy<Value = Store> {
        let metric = prop_oneof![Just(Metric::Cosine), Just(Metric::Dot), Just(Metric::L2)];
        let code = prop_oneof![3 => Just(CodeKind::Chain), 1 => Just(CodeKind::Pq8)];
        let n = prop_oneof![1usize..40, 1usize..400];
        let flags = (any::<bool>(), any::<bool>(), 0usize..20, prop_oneof![Just(None), (1usize..4).prop_map(Some)]);
        (any::<u64>(), n, 1usize..24, metric, code, 0.3f64..2.0, flags).prop_map(
            |(seed, n, d, metric, code, ratio, (copies, constants, queries, charts))| {
                // Few rows hardly fit a small budget; leave them room in every other case.
                let ratio = if seed % 2 == 0 { ratio * (1.0 + 1500.0 / (n * d) as f64) } else { ratio };
                Store { seed, n, d, metric, code, ratio, copies, constants, queries, charts }
            },
        )
    }

    impl Store {
        fn rows(&self) -> Mat {
            let mut random = Random(self.seed);
            let mut rows = random.mat(self.n, self.d);
            for i in 0..self.n {
                if self.copies && i > 0 && random.below(3) > 0 {
                    let copy = rows.row(random.below(i)).to_vec();
                    rows.row_mut(i).copy_from_slice(&copy);
                }
                if self.constants {
                    rows.row_mut(i).iter_mut().step_by(2).for_each(|v| *v = 0.75);
                }
                if self.metric != Metric::Cosine && random.below(20) == 0 {
                    rows.row_mut(i).fill(0.0);
                }
            }
            rows
        }
    }

    fn assert_holds(store: &Store) {
        let rows = store.rows();
        let sample = Random(!store.seed).mat(store.queries, store.d);
        let mut settings = config(store.metric, store.ratio);
        settings.code = store.code;
        settings.charts = store.charts;
        settings.queries = (store.queries > 0).then(|| sample.view());
        settings.seed = store.seed;
        let index = match vlc::compress(rows.view(), &settings) {
            Ok(index) => index,
            Err(vlc::Error::Budget { smallest, smallest_ratio, .. }) => {
                assert!(smallest_ratio > store.ratio && smallest > 0.0);
                return;
            }
            Err(e) => panic!("{e}"),
        };
        let budget = store.ratio * (4 * store.n * store.d) as f64;
        assert!(index.bytes().len() as f64 <= budget, "{} bytes of {budget}", index.bytes().len());
        index.verify().unwrap();
        let file = reference(&index);
        assert_eq!((index.len(), index.dim()), (store.n, store.d));
        assert!(index.decode(0..store.n).unwrap().as_slice().iter().all(|v| v.is_finite()));
        assert_decodes(&index, &file, 0..store.n);
        let queries = Random(store.seed ^ 7).mat(3, store.d);
        for k in [1, 10, store.n, store.n + 1] {
            let found = index.search(queries.view(), &SearchOptions::new(k)).unwrap();
            assert_answers(&file, queries.view(), &found, k);
        }
        let info = index.info();
        assert!(info.energy.is_finite() && info.energy <= info.anchor_energy + 1e-6, "{info:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn compresses_or_says_why_not(store in stores()) {
            assert_holds(&store);
        }
    }
}

#[test]
fn a_budget_in_bytes_is_the_same_as_one_in_shares() {
    let rows = narrow(&BASE, 800);
    let share = vlc::compress(rows.view(), &config(Metric::Cosine, 0.5)).unwrap();
    let bytes = Config { budget: Budget::BytesPerVector(0.5 * 4.0 * 64.0), ..config(Metric::Cosine, 0.5) };
    assert!(vlc::compress(rows.view(), &bytes).unwrap().bytes() == share.bytes());
}
