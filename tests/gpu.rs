//! What a process holds on a GPU does not grow, and threads do not disturb each other. Passed over without one, unless `VLC_REQUIRE` lists the backend.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::{Mutex, PoisonError};

use vlc::{
    Backend, Budget, Config, DeviceChoice, Error, MatRef, Searcher, compress,
    ops::{Health, health},
};

fn required(backend: Backend) -> bool {
    let listed = std::env::var("VLC_REQUIRE").unwrap_or_default();
    listed.split(',').any(|name| name.trim() == backend.to_string())
}

/// The device to test, if there is one: an adapter that runs on the processor only where wgpu is required.
fn device(backend: Backend) -> Option<(DeviceChoice, Health)> {
    let choices: &[DeviceChoice] = match backend {
        Backend::Wgpu if required(backend) => &[DeviceChoice::Best, DeviceChoice::Software],
        _ => &[DeviceChoice::Best],
    };
    for &choice in choices {
        match health(backend, choice) {
            Ok(health) => return Some((choice, health)),
            Err(Error::Unavailable { reason, .. }) => {
                let last = choices.last() == Some(&choice);
                assert!(!(last && required(backend)), "VLC_REQUIRE lists {backend}: {reason}");
            }
            Err(e) => panic!("{e}"),
        }
    }
    None
}

/// Rows without structure.
fn values(n: usize, dim: usize) -> Vec<f32> {
    (0..n * dim).map(|i| (i * 7919 % 10_007) as f32 / 5000.0 - 1.0).collect()
}

/// Four threads compress and search at the same time, each on a device of its own or all on one: what they find is what one finds.
fn four_threads(backend: Backend) {
    let Some((device, before)) = device(backend) else {
        return;
    };
    let values = values(2000, 48);
    let rows = MatRef::new(&values, 2000, 48).unwrap();
    let config = Config { budget: Budget::Ratio(0.2), backend, device, ..Config::default() };
    let run = || {
        let index = compress(rows, &config).unwrap();
        let found = Searcher::open_on(&index, backend, device).unwrap().query_batch(rows.slice(0..50), 10).unwrap();
        (found.ids, found.scores)
    };
    let alone = run();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        assert!(threads.into_iter().all(|thread| thread.join().unwrap() == alone));
    });
    let now = health(backend, device).unwrap();
    assert_eq!((now.memory_resident, now.buffers), (before.memory_resident, before.buffers));
}

fn twenty_runs(backend: Backend) {
    let Some((device, before)) = device(backend) else {
        return;
    };
    let values = values(3000, 64);
    let rows = MatRef::new(&values, 3000, 64).unwrap();
    let config = Config { budget: Budget::Ratio(0.2), backend, device, ..Config::default() };
    let mut free = Vec::new();
    for _ in 0..20 {
        let index = compress(rows, &config).unwrap();
        let searcher = Searcher::open_on(&index, backend, device).unwrap();
        assert_eq!(searcher.query_batch(rows.slice(0..40), 10).unwrap().ids.rows(), 40);
        drop(searcher);
        let now = health(backend, device).unwrap();
        assert_eq!((now.memory_resident, now.buffers, now.leaked_buffers), (before.memory_resident, 0, 0));
        free.push(now.memory_free);
    }
    // What the first run leaves is the driver's own.
    assert!(free.iter().all(|f| *f == free[0]), "{free:?}");
}

/// One after the other, the backends too: what a device has free is counted.
fn both(backend: Backend) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    twenty_runs(backend);
    four_threads(backend);
}

#[test]
fn runs_on_cuda_leave_its_memory_as_it_was() {
    both(Backend::Cuda);
}

#[test]
fn runs_on_wgpu_leave_its_memory_as_it_was() {
    both(Backend::Wgpu);
}
