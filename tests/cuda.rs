//! What a process holds on a GPU does not grow. Passed over without one, unless `VLC_REQUIRE` lists cuda.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use vlc::{Backend, Budget, Config, DeviceChoice, Error, MatRef, Searcher, compress, ops::health};

#[test]
fn twenty_runs_leave_device_memory_as_it_was() {
    let before = match health(Backend::Cuda, DeviceChoice::Best) {
        Ok(health) => health,
        Err(Error::Unavailable { reason, .. }) => {
            let required = std::env::var("VLC_REQUIRE").unwrap_or_default();
            assert!(!required.split(',').any(|name| name.trim() == "cuda"), "VLC_REQUIRE lists cuda: {reason}");
            return;
        }
        Err(e) => panic!("{e}"),
    };
    let values: Vec<f32> = (0..3000 * 64).map(|i| (i * 7919 % 10_007) as f32 / 5000.0 - 1.0).collect();
    let rows = MatRef::new(&values, 3000, 64).unwrap();
    let config = Config { budget: Budget::Ratio(0.2), backend: Backend::Cuda, ..Config::default() };
    let mut free = Vec::new();
    for _ in 0..20 {
        let index = compress(rows, &config).unwrap();
        let searcher = Searcher::open(&index, Backend::Cuda).unwrap();
        assert_eq!(searcher.query_batch(rows.slice(0..40), 10).unwrap().ids.rows(), 40);
        drop(searcher);
        let now = health(Backend::Cuda, DeviceChoice::Best).unwrap();
        assert_eq!((now.memory_resident, now.buffers, now.leaked_buffers), (before.memory_resident, 0, 0));
        free.push(now.memory_free);
    }
    // What the first run leaves is the driver's own.
    assert!(free.iter().all(|f| *f == free[0]), "{free:?}");
}
