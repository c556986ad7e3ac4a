//! What every backend must do, as laws against the f64 reference: one list, instantiated per backend.
//!
//! A backend that cannot be opened is reported and passed over, unless the environment variable `VLC_REQUIRE` (names,
//! comma separated) lists it: then its absence is a failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

pub(crate) mod assign;
pub(crate) mod encode;
pub(crate) mod filter;
pub(crate) mod linear;
pub(crate) mod many;
pub(crate) mod network;
pub(crate) mod oracle;
pub(crate) mod reduce;
pub(crate) mod score;
pub(crate) mod store;

use std::{collections::BTreeSet, io::Write, sync::Mutex};

use crate::{
    backend::{Backend, DeviceChoice},
    error::Error,
    math::rng::Random,
    matrix::Mat,
    ops::{
        cpu, devices, dispatch,
        seam::{Ops, WithOps},
        types::Assignments,
    },
};

/// Instantiates every law for a backend.
macro_rules! suite {
    ($module:ident, $backend:expr, $check:path) => {
        mod $module {
            suite!(@ $backend, $check, linear, rows_come_back);
            suite!(@ $backend, $check, linear, selected_rows_are_copies);
            suite!(@ $backend, $check, linear, project_is_the_product);
            suite!(@ $backend, $check, assign, nearest_anchors_of_real_values);
            suite!(@ $backend, $check, assign, nearest_anchors_of_long_rows);
            suite!(@ $backend, $check, assign, ties_go_to_the_lower_anchor);
            suite!(@ $backend, $check, assign, close_anchors_are_measured_directly);
            suite!(@ $backend, $check, assign, energy_is_the_mean_distance);
            suite!(@ $backend, $check, reduce, statistics_of_cells);
            suite!(@ $backend, $check, reduce, trimming_with_ties);
            suite!(@ $backend, $check, reduce, update_moves_anchors);
            suite!(@ $backend, $check, reduce, updates_of_resident_anchors_add_up);
            suite!(@ $backend, $check, reduce, rows_without_columns);
            suite!(@ $backend, $check, encode, chain_codes_are_nearly_optimal);
            suite!(@ $backend, $check, encode, pq8_codes_are_optimal);
            suite!(@ $backend, $check, encode, long_codes_report_their_error);
            suite!(@ $backend, $check, encode, tries_are_those_of_an_assignment);
            suite!(@ $backend, $check, encode, lengths_are_those_of_decoded_rows);
            suite!(@ $backend, $check, encode, codes_without_directions);
            suite!(@ $backend, $check, encode, of_equal_anchors_the_first_is_kept);
            suite!(@ $backend, $check, score, best_rows_of_chain_codes);
            suite!(@ $backend, $check, score, best_rows_of_pq8_codes);
            suite!(@ $backend, $check, score, ties_go_to_the_lower_row);
            suite!(@ $backend, $check, score, equal_rows_of_two_segments);
            suite!(@ $backend, $check, score, rows_without_codes);
            suite!(@ $backend, $check, score, best_of_many_rows);
            suite!(@ $backend, $check, score, rows_at_their_bound_are_found);
            suite!(@ $backend, $check, score, probed_rows_are_of_the_best_cells);
            suite!(@ $backend, $check, many, batches_over_many_rows);
            suite!(@ $backend, $check, many, ties_among_many_rows);
            suite!(@ $backend, $check, filter, filtered_rows_are_the_best_allowed);
            suite!(@ $backend, $check, filter, filtered_among_many_rows);
            suite!(@ $backend, $check, network, networks_come_back);
            suite!(@ $backend, $check, network, networks_have_errors_and_code_targets);
            suite!(@ $backend, $check, network, networks_over_many_rows);
            suite!(@ $backend, $check, network, fitting_moves_as_adamw);
            suite!(@ $backend, $check, network, fitting_lowers_the_error);
        }
    };
    (@ $backend:expr, $check:path, $part:ident, $law:ident) => {
        #[test]
        fn $law() {
            struct Job;
            impl crate::ops::seam::WithOps for Job {
                type Output = ();
                fn run<O: crate::ops::seam::Ops>(self, ops: O) -> Result<(), crate::error::Error> {
                    crate::ops::conformance::$part::$law(&ops);
                    Ok(())
                }
            }
            $check($backend, Job);
        }
    };
}

suite!(cpu_portable, crate::ops::cpu::simd::Level::Portable, crate::ops::conformance::check_level);
suite!(cpu_avx2, crate::ops::cpu::simd::Level::Avx2, crate::ops::conformance::check_level);
suite!(cpu_avx512, crate::ops::cpu::simd::Level::Avx512, crate::ops::conformance::check_level);
suite!(cpu_neon, crate::ops::cpu::simd::Level::Neon, crate::ops::conformance::check_level);
suite!(wgpu, crate::backend::Backend::Wgpu, crate::ops::conformance::check);
suite!(cuda, crate::backend::Backend::Cuda, crate::ops::conformance::check);

/// Prints the times of searches among `n` rows, or `VLC_ROWS` of them; see [`many::search_times`].
fn search_times(backend: Backend, n: usize) {
    struct Job(usize);
    impl WithOps for Job {
        type Output = ();
        fn run<O: Ops>(self, ops: O) -> Result<(), Error> {
            many::search_times(&ops, self.0);
            Ok(())
        }
    }
    let asked = std::env::var("VLC_ROWS").ok().and_then(|n| n.parse().ok());
    check(backend, Job(asked.unwrap_or(n)));
}

#[test]
#[ignore = "takes memory and minutes; prints times"]
fn search_times_on_cuda() {
    search_times(Backend::Cuda, 50_000_000);
}

#[test]
#[ignore = "takes memory and minutes; prints times"]
fn search_times_on_wgpu() {
    search_times(Backend::Wgpu, 10_000_000);
}

/// Prints what training a network takes; see [`network::network_times`].
fn network_times(backend: Backend, n: usize) {
    struct Job(usize);
    impl WithOps for Job {
        type Output = ();
        fn run<O: Ops>(self, ops: O) -> Result<(), Error> {
            network::network_times(&ops, self.0);
            Ok(())
        }
    }
    check(backend, Job(n));
}

#[test]
#[ignore = "prints times"]
fn network_times_on_cuda() {
    network_times(Backend::Cuda, 100_000);
}

#[test]
#[ignore = "prints times"]
fn network_times_on_wgpu() {
    network_times(Backend::Wgpu, 100_000);
}

#[test]
#[ignore = "prints times"]
fn network_times_on_cpu() {
    network_times(Backend::Cpu, 20_000);
}

#[test]
#[ignore = "prints times"]
fn filtered_search_times_on_cpu() {
    struct Job;
    impl WithOps for Job {
        type Output = ();
        fn run<O: Ops>(self, ops: O) -> Result<(), Error> {
            filter::filtered_search_times(&ops, 100_000);
            Ok(())
        }
    }
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    one.install(|| check(Backend::Cpu, Job));
}

/// Whether this backend must be there.
pub(super) fn required(backend: Backend) -> bool {
    let listed = std::env::var("VLC_REQUIRE").unwrap_or_default();
    backend == Backend::Cpu || listed.split(',').any(|name| name.trim().parse().is_ok_and(|b: Backend| b == backend))
}

/// Says once that the laws of `what` are not checked here.
pub(super) fn skip(what: &str, reason: &str) {
    static SKIPPED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if SKIPPED.lock().unwrap().insert(what.to_string()) {
        // Not through eprintln, which the test harness swallows.
        let _ = writeln!(std::io::stderr(), "skipped: conformance of {what}: {reason}");
    }
}

/// Runs a law on the processor with certain instructions.
fn check_level(level: cpu::Level, law: impl WithOps<Output = ()>) {
    if level.available() {
        law.run(cpu::Cpu::with(level)).unwrap();
    } else {
        skip(&format!("the cpu with {level}"), "this machine does not have these instructions");
    }
}

/// Runs a law on a backend, or says once that the backend is not there.
fn check(backend: Backend, law: impl WithOps<Output = ()>) {
    struct Named<L>(Backend, L);
    impl<L: WithOps<Output = ()>> WithOps for Named<L> {
        type Output = ();
        fn run<O: Ops>(self, ops: O) -> Result<(), Error> {
            assert_eq!(ops.backend(), self.0);
            self.1.run(ops)
        }
    }
    // An adapter that runs on the processor keeps the same laws, slowly: it stands in for a GPU where one is required.
    let gpu = || devices().iter().any(|d| d.backend == Backend::Wgpu && d.available && !d.software);
    let software = backend == Backend::Wgpu && required(backend) && !gpu();
    let choice = if software { DeviceChoice::Software } else { DeviceChoice::Best };
    match dispatch(backend, choice, Named(backend, law)) {
        Ok(()) => {}
        Err(Error::Unavailable { reason, .. }) => {
            assert!(!required(backend), "VLC_REQUIRE lists {backend}, which is unavailable: {reason}");
            skip(&backend.to_string(), &reason);
        }
        Err(e) => panic!("{backend}: {e}"),
    }
}

#[test]
fn every_required_backend_has_a_name() {
    let listed = std::env::var("VLC_REQUIRE").unwrap_or_default();
    for name in listed.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        assert!(name.parse::<Backend>().is_ok_and(|b| b != Backend::Auto), "VLC_REQUIRE: {name:?} is no backend");
    }
}

/// Says which case failed, seed and sizes, when a law panics.
struct Case(String);

impl Case {
    fn new(what: String) -> Case {
        Case(what)
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed case: {}", self.0);
        }
    }
}

/// The numbers of a case.
fn random(seed: u64) -> Random {
    Random::new(seed, 0xC0F0)
}

/// A matrix of standard normals.
fn normals(random: &mut Random, rows: usize, dim: usize) -> Mat {
    let values = (0..rows * dim).map(|_| random.normal()).collect();
    Mat::new(values, rows, dim).unwrap()
}

/// A matrix of multiples of 1/4 between -2 and 2: every sum of squares is exact in f32, and ties are many.
fn grid(random: &mut Random, rows: usize, dim: usize) -> Mat {
    let values = (0..rows * dim).map(|_| (random.below(17) as f32 - 8.0) / 4.0).collect();
    Mat::new(values, rows, dim).unwrap()
}

/// As the reference takes matrices.
fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// Equal but for `tolerance`, relative to `scale`.
#[track_caller]
fn assert_near(found: f32, expected: f64, tolerance: f64, scale: f64, what: &str) {
    let gap = (f64::from(found) - expected).abs();
    assert!(gap <= tolerance * scale, "{what}: {found} instead of {expected}, {gap:.3e} off");
}

/// A device copy.
#[track_caller]
fn up<O: Ops>(ops: &O, rows: &Mat) -> O::Rows {
    ops.upload(rows.view()).unwrap()
}

/// What assign finds for rows and anchors, on the host.
#[track_caller]
fn assigned<O: Ops>(ops: &O, rows: &O::Rows, anchors: &Mat, candidates: usize) -> Assignments {
    ops.assignments(&ops.assign(rows, &up(ops, anchors), candidates).unwrap()).unwrap()
}
