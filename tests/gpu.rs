//! What a process holds on a GPU does not grow, threads do not disturb each other, and the results are those of the CPU. Passed
//! over without one, unless `VLC_REQUIRE` lists the backend.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex, PoisonError};

use vlc::{
    Backend, Budget, Compute, Config, DeviceChoice, Error, MatRef, SearchOptions, Searcher, compress,
    device::{Health, health},
    read::{VectorFile, read_all},
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

/// Two threads compress and search at the same time, each on a device of its own or all on one: what they find is what one finds.
fn two_threads(backend: Backend, device: DeviceChoice, before: &Health) {
    let values = values(600, 32);
    let rows = MatRef::new(&values, 600, 32).unwrap();
    let config =
        Config { budget: Budget::Ratio(0.2), compute: Compute { device, ..backend.into() }, ..Config::default() };
    let run = || {
        let index = Arc::new(compress(rows, &config).unwrap());
        let found = index
            .searcher(Compute { device, ..backend.into() })
            .unwrap()
            .search(rows.slice(0..50), &SearchOptions::new(10))
            .unwrap();
        (found.ids, found.scores)
    };
    let alone = run();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(run)).collect();
        assert!(threads.into_iter().all(|thread| thread.join().unwrap() == alone));
    });
    let now = health(backend, device).unwrap();
    assert_eq!((now.memory_resident, now.buffers), (before.memory_resident, before.buffers));
}

fn many_runs(backend: Backend, device: DeviceChoice, before: &Health) {
    let values = values(600, 32);
    let rows = MatRef::new(&values, 600, 32).unwrap();
    let config =
        Config { budget: Budget::Ratio(0.2), compute: Compute { device, ..backend.into() }, ..Config::default() };
    let mut free = Vec::new();
    // What runs on the processor is slow.
    for _ in 0..if device == DeviceChoice::Software { 2 } else { 20 } {
        let index = Arc::new(compress(rows, &config).unwrap());
        let searcher = index.searcher(Compute { device, ..backend.into() }).unwrap();
        assert_eq!(searcher.search(rows.slice(0..40), &SearchOptions::new(10)).unwrap().ids.rows(), 40);
        drop(searcher);
        let now = health(backend, device).unwrap();
        assert_eq!((now.memory_resident, now.buffers, now.leaked_buffers), (before.memory_resident, 0, 0));
        free.push(now.memory_free);
    }
    // What the first run leaves is the driver's own.
    assert!(free.iter().all(|f| *f == free[0]), "{free:?}");
}

/// Eight threads share a searcher: they find what one finds, and the codes are on the device once.
fn eight_threads(backend: Backend, device: DeviceChoice) {
    let values = values(3000, 32);
    let rows = MatRef::new(&values, 3000, 32).unwrap();
    let config = Config { budget: Budget::Ratio(0.2), compute: Backend::Cpu.into(), ..Config::default() };
    let index = Arc::new(compress(rows, &config).unwrap());
    let even = index.filter_by(|id| id % 2 == 0).unwrap();
    let searcher = index.searcher(Compute { device, ..backend.into() }).unwrap();
    let find = |searcher: &Searcher, thread: usize| {
        let queries = rows.slice(20 * thread..20 * (thread + 1));
        let options = SearchOptions::new(5 + thread);
        let all = searcher.search(queries, &options).unwrap();
        (all, searcher.search(queries, &options.filtered(&even)).unwrap())
    };
    let expected: Vec<_> = (0..8).map(|thread| find(&searcher, thread)).collect();
    let clones: Vec<Searcher> = (0..8).map(|_| searcher.clone()).collect();
    let buffers = || health(backend, device).unwrap().buffers;
    let before = buffers();
    std::thread::scope(|scope| {
        for (thread, (searcher, expected)) in clones.iter().zip(&expected).enumerate() {
            let find = &find;
            scope
                .spawn(move || (0..3).for_each(|_| assert_eq!(find(searcher, thread), *expected, "thread {thread}")));
        }
    });
    // Codes that were copied again would be in use as long as the clones are.
    assert_eq!(buffers(), before);
    assert!(backend == Backend::Cpu || before > 0);
    drop(clones);
    for (thread, (all, _)) in expected.iter().enumerate() {
        let (on_cpu, _) = find(&index.searcher(Backend::Cpu).unwrap(), thread);
        assert_eq!(all.ids, on_cpu.ids);
    }
}

#[test]
fn eight_threads_share_a_searcher() {
    eight_threads(Backend::Cpu, DeviceChoice::Best);
}

/// A store compressed on the device is as good as one compressed on the cpu.
fn as_good_as_the_cpu(backend: Backend, device: DeviceChoice) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/docs-minilm-384-5k/base.i8.npy");
    let all = read_all(&VectorFile::open(path).unwrap()).unwrap();
    let rows = all.view().slice(0..800);
    let config = Config { budget: Budget::Ratio(0.05), ..Config::default() };
    let energy = |config: &Config| compress(rows, config).unwrap().info().energy;
    let on_cpu = energy(&Config { compute: Backend::Cpu.into(), ..config.clone() });
    let found = energy(&Config { compute: Compute { device, ..backend.into() }, ..config });
    assert!((found / on_cpu - 1.0).abs() < 0.05, "energy {found}, on the cpu {on_cpu}");
}

/// One after the other, the backends too: what a device has free is counted.
fn both(backend: Backend) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((device, before)) = device(backend) {
        many_runs(backend, device, &before);
        two_threads(backend, device, &before);
        eight_threads(backend, device);
        as_good_as_the_cpu(backend, device);
    }
}

#[test]
fn runs_on_cuda_leave_its_memory_as_it_was() {
    both(Backend::Cuda);
}

#[test]
fn runs_on_wgpu_leave_its_memory_as_it_was() {
    both(Backend::Wgpu);
}
