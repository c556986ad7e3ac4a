//! Inputs that cannot be used are refused with the place and the remedy, and nothing is written; odd ones work.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tempfile::TempDir;
use vlc::{
    Backend, Budget, CodeKind, Compute, Config, DeviceChoice, Error, Event, InputError, Mat, MatRef, Metric,
    SearchOptions, Stage, read::RowSource,
};

use common::{Random, clustered, config, listing, roomy, works};

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::L2];

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Fails in memory and to a file alike, and leaves no file behind.
#[track_caller]
fn refused(rows: &dyn RowSource, config: &Config<'_>) -> Error {
    let directory = directory();
    let error = vlc::compress_to(rows, directory.path().join("out.vlc"), config).unwrap_err();
    assert_eq!(listing(directory.path()), Vec::<std::path::PathBuf>::new(), "after {error}");
    error
}

#[track_caller]
fn input(error: Error) -> InputError {
    match error {
        Error::Input(error) => error,
        other => panic!("not about the input: {other:?}"),
    }
}

#[track_caller]
fn setting(error: Error) -> String {
    match error {
        Error::Config(message) => message,
        other => panic!("not about a setting: {other:?}"),
    }
}

#[test]
fn stores_without_rows_or_columns_are_refused() {
    assert!(input(refused(&MatRef::new(&[], 0, 4).unwrap(), &roomy(Metric::Cosine))).message.contains("0 rows"));
    assert!(input(refused(&MatRef::new(&[], 4, 0).unwrap(), &roomy(Metric::Dot))).message.contains("0 dimensions"));
}

#[test]
fn values_that_are_not_finite_are_found_in_any_row() {
    for metric in METRICS {
        for (row, column, value) in [(0, 0, f32::NAN), (150, 3, f32::INFINITY), (299, 7, f32::NEG_INFINITY)] {
            let mut rows = clustered(1, 300, 8);
            rows.row_mut(row)[column] = value;
            let error = input(refused(&rows.view(), &roomy(metric)));
            assert_eq!((error.row, error.column), (Some(row as u64), Some(column as u64)), "{metric:?}: {error}");
            assert!(error.to_string().contains(&format!("row {row}, column {column}")), "{error}");
        }
    }
}

/// Rows of a store far larger than the training sample, made up as they are read.
struct Endless {
    rows: usize,
    bad: Vec<(usize, usize, f32)>,
}

impl RowSource for Endless {
    fn rows(&self) -> usize {
        self.rows
    }
    fn dim(&self) -> usize {
        4
    }
    fn path(&self) -> Option<&Path> {
        Some(Path::new("endless.npy"))
    }
    fn read(&self, start: usize, out: &mut [f32]) -> Result<(), Error> {
        for (i, row) in out.chunks_exact_mut(4).enumerate() {
            let mut random = Random((start + i) as u64);
            row.iter_mut().for_each(|v| *v = random.uniform() - 0.3);
            for &(bad, column, value) in &self.bad {
                if bad == start + i {
                    row[column] = value;
                }
            }
        }
        Ok(())
    }
}

/// The training sample has 65,536 rows at most, so of any 8 bad rows among 200,000 most are met first when encoding.
#[test]
fn rows_outside_the_training_sample_are_checked_too() {
    for metric in METRICS {
        let places: Vec<_> = (0..8).map(|i| (199_992 + i, i % 4, f32::NAN)).collect();
        let store = Endless { rows: 200_000, bad: places.clone() };
        let settings = Config { budget: Budget::BytesPerVector(6.0), ..config(metric, 1.0) };
        let settings =
            Config { annealing: vlc::AnnealingConfig { anchors: Some(1), ..Default::default() }, ..settings };
        let error = input(refused(&store, &settings));
        assert_eq!(error.file.as_deref(), Some(Path::new("endless.npy")));
        let (row, column) = (error.row.unwrap() as usize, error.column.unwrap() as usize);
        assert!(places.iter().any(|p| (p.0, p.1) == (row, column)), "{metric:?}: {error}");

        let store = Endless { rows: 200_000, bad: vec![(199_999, 2, f32::INFINITY)] };
        let error = input(refused(&store, &settings));
        assert_eq!((error.row, error.column), (Some(199_999), Some(2)), "{metric:?}: {error}");
    }
}

#[test]
fn zero_rows_are_refused_by_cosine_alone() {
    for row in [0, 77, 199] {
        let mut rows = clustered(2, 200, 6);
        rows.row_mut(row).fill(0.0);
        let error = input(refused(&rows.view(), &roomy(Metric::Cosine)));
        assert_eq!((error.row, error.column), (Some(row as u64), None), "{error}");
        for metric in [Metric::Dot, Metric::L2] {
            let index = works(rows.view(), &roomy(metric));
            let zero = index.decode(row..row + 1).unwrap();
            if metric == Metric::Dot {
                assert_eq!(zero.as_slice(), [0.0; 6]);
            }
        }
    }
    let zeros = Mat::zeros(50, 3);
    works(zeros.view(), &roomy(Metric::Dot));
    works(zeros.view(), &roomy(Metric::L2));
}

#[test]
fn queries_are_checked() {
    let rows = clustered(3, 200, 6);
    for metric in METRICS {
        let index = vlc::compress(rows.view(), &roomy(metric)).unwrap();
        for width in [0, 5, 7] {
            let error = input(index.query(&vec![1.0; width], 3).unwrap_err());
            assert!(error.message.contains(&width.to_string()) && error.message.contains('6'), "{error}");
        }
        let mut queries = clustered(4, 600, 6);
        queries.row_mut(555)[4] = f32::NAN;
        let error = input(index.search(queries.view(), &SearchOptions::new(3)).unwrap_err());
        assert_eq!((error.row, error.column), (Some(555), Some(4)));
        let zero = index.query(&[0.0; 6], 3);
        if metric == Metric::Cosine {
            assert_eq!(input(zero.unwrap_err()).row, Some(0));
        } else {
            assert_eq!(zero.unwrap().len(), 3);
        }
        assert!(setting(index.query(rows.row(0), 0).unwrap_err()).contains('k'));
        assert_eq!(index.query(rows.row(0), 10_000).unwrap().len(), 200);
        let none = index.search(MatRef::new(&[], 0, 6).unwrap(), &SearchOptions::new(3)).unwrap();
        assert_eq!(none.ids.rows(), 0);
        let truth = vlc::measure::exact_neighbors(&rows.view(), rows.view(), 0, metric);
        setting(truth.unwrap_err());
        assert!(index.decode(190..201).is_err() && index.decode(200..200).unwrap().rows() == 0);
    }
}

#[test]
fn sample_queries_are_checked() {
    let rows = clustered(5, 200, 6);
    let with = |queries: &Mat| {
        input(refused(&rows.view(), &Config { queries: Some(queries.view()), ..roomy(Metric::Cosine) }))
    };
    assert!(with(&clustered(6, 20, 5)).message.contains('5'));
    let mut bad = clustered(6, 20, 6);
    bad.row_mut(7)[2] = f32::NAN;
    let error = with(&bad);
    assert_eq!((error.row, error.column), (Some(7), Some(2)));
    assert!(error.message.contains("sample queries"), "{error}");
    bad.row_mut(7).fill(0.0);
    assert_eq!(with(&bad).row, Some(7));
    for count in [0, 1, 7, 8, 9] {
        let few = clustered(6, count, 6);
        for metric in METRICS {
            works(rows.view(), &Config { queries: Some(few.view()), ..roomy(metric) });
        }
    }
}

#[test]
fn budgets_are_checked() {
    let rows = clustered(12, 500, 8);
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for budget in [Budget::Ratio(bad), Budget::BytesPerVector(bad)] {
            setting(refused(&rows.view(), &Config { budget, ..Config::default() }));
        }
    }
    for metric in METRICS {
        for code in [CodeKind::Chain, CodeKind::Pq8] {
            for charts in [None, Some(3)] {
                for n in [1, 30, 500] {
                    let rows = rows.view().slice(0..n);
                    let asked = Config { code, charts, ..config(metric, 0.001) };
                    let error = refused(&rows, &asked);
                    let message = error.to_string();
                    let Error::Budget { smallest, smallest_ratio, asked_ratio, .. } = error else {
                        panic!("not about the budget: {error:?}")
                    };
                    assert!((asked_ratio - 0.001).abs() < 1e-9);
                    // What is advised is what is taken: a ratio up to 1.
                    let advice = match smallest_ratio <= 1.0 {
                        true => format!("--ratio {smallest_ratio:.4}"),
                        false => format!("--bytes {}", smallest.ceil()),
                    };
                    assert!(message.contains(&advice), "{message}");
                    let least = Config { budget: Budget::Ratio(smallest_ratio), ..asked.clone() };
                    let index = vlc::compress(rows, &least).unwrap_or_else(|e| {
                        panic!("{metric:?}, {code:?}, {charts:?}, n {n}: {smallest_ratio} was offered: {e}")
                    });
                    assert!(index.info().ratio <= smallest_ratio);
                    assert!(index.info().bytes_per_vector <= smallest + 1e-4 * 32.0);
                }
            }
        }
    }
}

#[test]
fn settings_are_checked() {
    let rows = clustered(13, 100, 4);
    let with = |change: &dyn Fn(&mut Config<'static>)| {
        let mut settings = roomy(Metric::Cosine);
        change(&mut settings);
        setting(refused(&rows.view(), &settings))
    };
    assert!(with(&|c| c.annealing.anchors = Some(0)).contains("anchors"));
    assert!(with(&|c| c.annealing.anchors = Some(101)).contains("101"));
    assert!(with(&|c| c.compute.threads = Some(0)).contains("threads"));
    assert!(
        with(&|c| (c.compute.backend, c.compute.device) = (Backend::Cpu, DeviceChoice::Number(1)))
            .contains("one device")
    );
    assert!(
        with(&|c| (c.compute.backend, c.compute.device) = (Backend::Cpu, DeviceChoice::Software))
            .contains("only wgpu")
    );
    assert!(
        with(&|c| (c.compute.backend, c.compute.device) = (Backend::Cuda, DeviceChoice::Software))
            .contains("only wgpu")
    );
    let index = vlc::compress(
        rows.view(),
        &Config { compute: Compute { device: Some(0).into(), ..Backend::Cpu.into() }, ..roomy(Metric::Cosine) },
    );
    let index = Arc::new(index.unwrap());
    assert!(index.searcher(Compute { device: DeviceChoice::Number(0), ..Backend::Cpu.into() }).is_ok());
    for other in [DeviceChoice::Number(1), DeviceChoice::Software] {
        assert!(matches!(index.searcher(Compute { device: other, ..Backend::Cpu.into() }), Err(Error::Config(_))));
    }
    assert!(with(&|c| c.charts = Some(0)).contains("charts"));
    assert!(with(&|c| c.charts = Some(257)).contains("257"));
    assert!(with(&|c| c.metadata = BTreeMap::from([("vlc.model".into(), "x".into())])).contains("vlc.model"));
    assert!(with(&|c| c.metadata = BTreeMap::from([(String::new(), "x".into())])).contains("empty"));
    for bad in [f32::NAN, -1.0] {
        with(&|c| c.annealing.temperature = bad);
        with(&|c| c.annealing.trim = bad);
        with(&|c| c.annealing.learning_rate = bad);
        with(&|c| c.annealing.cooling = bad);
    }
    with(&|c| c.annealing.learning_rate = 0.0);
    with(&|c| c.annealing.trim = 0.6);
    with(&|c| c.annealing.iterations = 0);
    let all = Config {
        annealing: vlc::AnnealingConfig { anchors: Some(100), ..Default::default() },
        ..roomy(Metric::Cosine)
    };
    assert_eq!(works(rows.view(), &all).info().anchors, 100);
    let unknown = Config { compute: vlc::Backend::Cuda.into(), ..roomy(Metric::Cosine) };
    if let Error::Unavailable { backend, .. } = refused(&rows.view(), &unknown) {
        assert_eq!(backend, vlc::Backend::Cuda);
    }
}

#[test]
fn a_call_can_be_cancelled_at_every_stage() {
    let rows = clustered(15, 400, 6);
    let stages = [Stage::Sample, Stage::Plan, Stage::Anchors, Stage::Codes, Stage::Encode, Stage::Write];
    for wanted in stages {
        // The first report of the stage, and the last.
        for last in [false, true] {
            let seen = AtomicUsize::new(0);
            let progress = |event: &Event<'_>| match event {
                Event::Progress { stage, done, total } if *stage == wanted && (!last || done == total) => {
                    seen.fetch_add(1, Ordering::Relaxed);
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            };
            let error = refused(&rows.view(), &Config { progress: Some(&progress), ..roomy(Metric::L2) });
            assert!(matches!(error, Error::Cancelled), "{wanted:?}: {error}");
            assert_eq!(seen.load(Ordering::Relaxed), 1, "{wanted:?}: went on after it was cancelled");
        }
    }
    let at_plan = |event: &Event<'_>| match event {
        Event::Plan(plan) if plan.n == 400 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    assert!(matches!(
        refused(&rows.view(), &Config { progress: Some(&at_plan), ..roomy(Metric::Dot) }),
        Error::Cancelled
    ));
}
