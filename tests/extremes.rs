//! Values at the ends of what float32 holds, stores of which little is left, and scores: refused by name or right, on every backend.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use vlc::{
    Backend, Budget, CodeKind, Compute, Config, Decoder, DecoderShape, DeviceChoice, EncodeOptions, Error, Index,
    Mat, MatRef, Metric, Neighbors, SearchOptions, Store,
    device::health,
    measure::{exact_neighbors, recall},
};

use common::{Random, clustered, config, example, roomy, works};

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::L2];

fn copy(rows: MatRef<'_>) -> Mat {
    Mat::new(rows.as_slice().to_vec(), rows.rows(), rows.dim()).unwrap()
}

fn times(rows: MatRef<'_>, factor: f32) -> Mat {
    Mat::new(rows.as_slice().iter().map(|v| v * factor).collect(), rows.rows(), rows.dim()).unwrap()
}

/// The row that an error names.
#[track_caller]
fn refused<T>(result: Result<T, Error>) -> (u64, String) {
    match result.map(|_| ()) {
        Err(Error::Input(error)) => (error.row.expect("the row is named"), error.message),
        other => panic!("{other:?}"),
    }
}

/// One damaged cell of a store of l2: the other rows are found as if it were not there, or it is named.
#[test]
fn an_outlier_is_served_or_named() {
    let rows = copy(example("base.i8.npy").view().slice(0..1500));
    let queries = copy(example("queries.i8.npy").view().slice(0..100));
    let settings = Config { decoder: Decoder::Off, ..config(Metric::L2, 0.0833) };
    let of = |rows: &Mat| {
        let index = vlc::compress(rows.view(), &settings).unwrap();
        let found = index.search(queries.view(), &SearchOptions::new(10)).unwrap();
        assert!(found.scores.as_slice().iter().all(|s| s.is_finite() && *s <= 0.0), "a squared distance below 0");
        let truth = exact_neighbors(&rows.view(), queries.view(), 21, Metric::L2).unwrap();
        (recall(&found, &truth, 10), f64::from(index.info().recall.unwrap().recall))
    };
    let (clean, stated) = of(&rows);
    for value in [65_504.0, -1e6, 1e17] {
        let mut rows = rows.clone();
        rows.row_mut(7)[3] = value;
        let (found, said) = of(&rows);
        println!("{value}: recall {found:.3} (clean {clean:.3}), stated {said:.3} ({stated:.3})");
        assert!((found - clean).abs() < 0.03, "{value}: recall {found}, without the cell {clean}");
        assert!((said - stated).abs() < 0.05, "{value}: stated {said}, without the cell {stated}");
    }
    for metric in [Metric::L2, Metric::Dot] {
        let mut rows = rows.clone();
        rows.row_mut(7)[3] = 3e38;
        let (row, message) = refused(vlc::compress(rows.view(), &Config { metric, ..settings.clone() }));
        assert!(row == 7 && message.contains("3.000e38"), "{row}: {message}");
        let (row, _) = refused(exact_neighbors(&rows.view(), queries.view(), 10, metric));
        assert_eq!(row, 7);
    }
    // The cosine knows no lengths.
    let mut rows = rows;
    rows.row_mut(7)[3] = 3e38;
    vlc::compress(rows.view().slice(0..300), &config(Metric::Cosine, 0.2)).unwrap();
}

#[test]
fn rows_and_queries_whose_scores_would_overflow_or_vanish_are_named_or_right() {
    let (rows, queries) = (clustered(71, 400, 8), clustered(72, 20, 8));
    for metric in METRICS {
        let answers = |rows: &Mat, queries: &Mat| -> Result<Neighbors, Error> {
            vlc::compress(rows.view(), &roomy(metric))?.search(queries.view(), &SearchOptions::new(10))
        };
        let plain = answers(&rows, &queries).unwrap();
        for factor in [3e19, 1e-25, 1e15, 1e-15] {
            let scaled = times(rows.view(), factor);
            let moved = if metric == Metric::L2 { times(queries.view(), factor) } else { queries.clone() };
            match answers(&scaled, &moved) {
                Ok(found) => {
                    let same =
                        (0..20).map(|q| plain.ids.row(q).iter().filter(|id| found.ids.row(q).contains(id)).count());
                    let same = same.sum::<usize>();
                    assert!(same > 180, "{metric:?}, {factor}: {same} of 200 rows are found as ever");
                    assert!(found.scores.as_slice().iter().all(|s| s.is_finite()));
                }
                Err(error) => {
                    assert!(metric != Metric::Cosine && !(1e-16..1e16).contains(&factor), "{metric:?}: {error}");
                    refused(Err::<(), _>(error));
                }
            }
        }
        let index = vlc::compress(rows.view(), &roomy(metric)).unwrap();
        for factor in [1e38, 1e-38] {
            let mut queries = times(queries.view(), 1.0);
            queries.row_mut(4).iter_mut().for_each(|v| *v = factor * v.clamp(-1.0, 1.0));
            match index.search(queries.view(), &SearchOptions::new(10)) {
                Ok(found) => assert!(found.scores.as_slice().iter().all(|s| s.is_finite()), "{metric:?}, {factor}"),
                Err(error) => assert_eq!(refused(Err::<(), _>(error)).0, 4),
            }
            let result = index.search(queries.view(), &SearchOptions::new(10));
            assert_eq!(result.is_err(), metric != Metric::Cosine && !(metric == Metric::L2 && factor < 1.0));
        }
    }
}

/// Rows that are appended are held to the same.
#[test]
fn rows_too_long_are_not_appended() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l2.vlc");
    let rows = clustered(73, 300, 8);
    vlc::compress_to(&rows.view(), &path, &roomy(Metric::L2)).unwrap();
    let before = std::fs::read(&path).unwrap();
    let mut more = clustered(74, 50, 8);
    more.row_mut(9)[2] = -2e18;
    let (row, message) = refused(Store::open(&path).unwrap().append(&more.view(), &EncodeOptions::default()));
    assert!(row == 9 && message.contains("2.000e18"), "{row}: {message}");
    assert!(std::fs::read(&path).unwrap() == before);
}

/// What is estimated to be nearer than can be is not said to be.
#[test]
fn scores_are_such_as_can_be() {
    for metric in METRICS {
        for ratio in [0.15, 0.3, 1.0] {
            let rows = clustered(75, 600, 12);
            let index = vlc::compress(rows.view(), &config(metric, ratio)).unwrap();
            let found = index.search(rows.view(), &SearchOptions::new(10)).unwrap();
            for (q, row) in found.scores.as_slice().chunks_exact(10).enumerate() {
                let bound = match metric {
                    Metric::Cosine => 1.0,
                    Metric::L2 => 0.0,
                    _ => f32::INFINITY,
                };
                assert!(row.iter().all(|s| *s <= bound), "{metric:?}, {ratio}, query {q}: {row:?}");
                assert!(row.windows(2).all(|w| w[0] >= w[1]));
            }
            let truth = exact_neighbors(&rows.view(), rows.view(), 3, metric).unwrap();
            let most = truth.scores.as_slice().iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert!(metric == Metric::Dot || most <= if metric == Metric::L2 { 0.0 } else { 1.0 }, "{most}");
        }
    }
}

/// A query has the same answer, to the last bit, whatever comes with it and however many threads there are.
#[test]
fn scores_do_not_depend_on_the_batch() {
    let (rows, all) = (example("base.i8.npy"), example("queries.i8.npy"));
    let rows = rows.view().slice(0..2500);
    let some: Vec<f32> = (0..1000).flat_map(|q| all.row(q % all.rows()).to_vec()).collect();
    let queries = Mat::new(some, 1000, all.dim()).unwrap();
    let plain = Config { decoder: Decoder::Off, ..config(Metric::Cosine, 0.06) };
    for settings in [
        plain.clone(),
        Config { metric: Metric::L2, ..plain.clone() },
        Config { metric: Metric::Dot, code: CodeKind::Pq8, ..plain.clone() },
        Config { refine: Some(24), ..plain.clone() },
        Config {
            decoder: Decoder::Of(DecoderShape { width: 32, layers: 1, bits: 4 }),
            budget: Budget::CodeBytes(30.0),
            ..plain
        },
    ] {
        let index = vlc::compress(rows, &settings).unwrap();
        let search = |queries| index.search(queries, &SearchOptions::new(10)).unwrap();
        let whole = search(queries.view());
        for threads in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for size in [1, 2, 3, 5, 8, 16, 31, 32, 33, 1000] {
                for start in [0, 40, 990].into_iter().filter(|start| start + size <= 1000) {
                    let part = queries.view().slice(start..start + size);
                    let found = pool.install(|| search(part));
                    for q in 0..size {
                        let place = format!("{:?}, batch of {size}, query {}", settings.metric, start + q);
                        assert_eq!(found.ids.row(q), whole.ids.row(start + q), "{place}");
                        let bits = |row: &[f32]| row.iter().map(|s| s.to_bits()).collect::<Vec<_>>();
                        assert_eq!(bits(found.scores.row(q)), bits(whole.scores.row(start + q)), "{place}");
                    }
                }
            }
        }
    }
}

/// Rows of which little is left.
fn poor(kind: usize, n: usize, d: usize) -> Mat {
    let mut random = Random(80 + kind as u64);
    match kind {
        // All zero; all the same; constant columns; of rank three; a few different ones; ordinary ones.
        0 => Mat::zeros(n, d),
        1 => Mat::new([0.25, -3.0, 1.5].into_iter().cycle().take(d).collect::<Vec<_>>().repeat(n), n, d).unwrap(),
        2 => {
            let mut rows = random.mat(n, d);
            (0..n).for_each(|i| rows.row_mut(i)[d.div_ceil(2)..].fill(0.75));
            rows
        }
        3 => {
            let (weights, directions) = (random.mat(n, 3), random.mat(3, d));
            let mut rows = Mat::zeros(n, d);
            for i in 0..n {
                for (k, weight) in weights.row(i).iter().enumerate() {
                    rows.row_mut(i).iter_mut().zip(directions.row(k)).for_each(|(v, x)| *v += weight * x);
                }
            }
            rows
        }
        4 => {
            let few = random.mat(3, d);
            Mat::new((0..n).flat_map(|i| few.row(i * i % 3).to_vec()).collect(), n, d).unwrap()
        }
        _ => clustered(90, n, d),
    }
}

/// What a cosine cannot be taken of.
fn has_zero_row(rows: &Mat) -> bool {
    (0..rows.rows()).any(|i| rows.row(i).iter().all(|v| *v == 0.0))
}

/// Stores of all these kinds answer as the reference does, or say which row cannot be used.
#[test]
fn stores_of_which_little_is_left_answer() {
    for d in [1, 2, 5, 40] {
        let sizes: &[usize] = if d <= 2 {
            &[1, 2, 3, 4, 5, 8, 15, 16, 17, 20, 21, 31, 33, 64, 100, 255, 256, 257, 300]
        } else {
            &[1, 2, 7, 39, 41, 300]
        };
        for &n in sizes {
            for kind in 0..6 {
                let rows = poor(kind, n, d);
                for metric in METRICS {
                    if metric == Metric::Cosine && has_zero_row(&rows) {
                        refused(vlc::compress(rows.view(), &roomy(metric)));
                        continue;
                    }
                    let index = works(rows.view(), &roomy(metric));
                    if kind < 2 {
                        let ids: Vec<u64> = index.query(&vec![1.0; d], 3).unwrap().iter().map(|hit| hit.id).collect();
                        assert_eq!(ids, (0..n.min(3) as u64).collect::<Vec<_>>(), "ties go to the lower row");
                    }
                    let stated = index.info().recall.map_or(1.0, |recall| recall.recall);
                    assert!(
                        stated >= 0.0 && (kind > 1 || stated == 1.0),
                        "{metric:?}, kind {kind}, {n} x {d}: {stated}"
                    );
                }
            }
        }
    }
}

/// All rows zero, as an embedder that failed leaves them.
#[test]
fn rows_that_are_all_zero_make_a_store() {
    for metric in [Metric::Dot, Metric::L2] {
        let settings = Config { metric, budget: Budget::BytesPerVector(64.0), ..Config::default() };
        let index = vlc::compress(Mat::zeros(300, 128).view(), &settings).unwrap();
        index.verify().unwrap();
        let hits = index.query(&[0.5; 128], 4).unwrap();
        let score = if metric == Metric::L2 { -32.0 } else { 0.0 };
        assert_eq!(hits.iter().map(|hit| hit.id).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert!(hits.iter().all(|hit| (hit.score - score).abs() < 1e-4), "{hits:?}");
        assert!(index.decode(0..300).unwrap().as_slice().iter().all(|v| *v == 0.0));
    }
}

fn required(backend: Backend) -> bool {
    let listed = std::env::var("VLC_REQUIRE").unwrap_or_default();
    listed.split(',').any(|name| name.trim() == backend.to_string())
}

/// The same on a GPU: passed over where there is none, unless `VLC_REQUIRE` lists it.
fn on_device(backend: Backend) {
    let choices = [DeviceChoice::Best, DeviceChoice::Software];
    let there = choices[..if backend == Backend::Wgpu && required(backend) { 2 } else { 1 }]
        .iter()
        .find(|choice| health(backend, **choice).is_ok());
    let Some(&device) = there else {
        assert!(!required(backend), "VLC_REQUIRE lists {backend}");
        return;
    };
    // A few, as what runs on the processor is slow.
    for (n, d, kind) in [(1, 1, 1), (60, 20, 0), (60, 20, 1), (300, 2, 2), (60, 20, 3)] {
        let rows = poor(kind, n, d);
        for metric in METRICS {
            if metric == Metric::Cosine && has_zero_row(&rows) {
                continue;
            }
            let index = Arc::new(
                vlc::compress(
                    rows.view(),
                    &Config { compute: Compute { device, ..backend.into() }, ..roomy(metric) },
                )
                .unwrap(),
            );
            let queries = Random(3).mat(3, d);
            let [here, there] = [(Backend::Cpu, DeviceChoice::Best), (backend, device)].map(|(backend, device)| {
                index
                    .searcher(Compute { device, ..backend.into() })
                    .unwrap()
                    .search(queries.view(), &SearchOptions::new(5))
                    .unwrap()
            });
            let place = format!("{backend}, {metric:?}, kind {kind}, {n} x {d}");
            for (a, b) in here.scores.as_slice().iter().zip(there.scores.as_slice()) {
                let size = 1.0 + a.abs() + queries.as_slice().iter().map(|v| v * v).sum::<f32>();
                assert!((a - b).abs() <= 1e-5 * size, "{place}: {a} here, {b} there");
            }
            assert!(kind > 1 || here.ids == there.ids, "{place}");
        }
    }
}

#[test]
fn stores_of_which_little_is_left_answer_on_wgpu() {
    on_device(Backend::Wgpu);
}

#[test]
fn stores_of_which_little_is_left_answer_on_cuda() {
    on_device(Backend::Cuda);
}

/// What is advised where the budget cannot be met works.
#[test]
fn advice_about_the_budget_works() {
    for (n, d) in [(1, 16), (2, 16), (40, 8), (5, 4000), (900, 64)] {
        let rows = clustered(95, n, d);
        let Err(error) = vlc::compress(rows.view(), &config(Metric::Cosine, 0.000_1)) else {
            panic!("{n} x {d} fit")
        };
        let message = error.to_string();
        let asked = message.split("ask for --").nth(1).unwrap().split(' ').collect::<Vec<_>>();
        let value: f64 = asked[1].parse().unwrap();
        let budget = match asked[0] {
            "ratio" => Budget::Ratio(value),
            _ => Budget::BytesPerVector(value),
        };
        assert!(asked[0] == "bytes" || value <= 1.0, "{message}");
        let index: Index<_> = vlc::compress(rows.view(), &Config { budget, ..Config::default() }).unwrap();
        index.verify().unwrap();
    }
}
