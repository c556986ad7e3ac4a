//! A device by itself: transfers, refusals, and what is said when it fails.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use super::{
    adapter,
    buffer::held,
    device::Device,
    error::{DRIVER, last_error, lock},
    kernel::{Kernel, Source},
};
use crate::{
    backend::{Backend, DeviceChoice},
    error::Error,
    ops::conformance::{required, skip},
};

/// A GPU, or where wgpu is required and there is none an adapter that runs on the processor.
pub(super) fn device() -> Option<Device> {
    choice_for_tests().map(|choice| Device::open(choice).unwrap().0)
}

fn choice_for_tests() -> Option<DeviceChoice> {
    let (mut choice, mut opened) = (DeviceChoice::Best, Device::open(DeviceChoice::Best));
    if matches!(opened, Err(Error::Unavailable { .. })) && required(Backend::Wgpu) {
        (choice, opened) = (DeviceChoice::Software, Device::open(DeviceChoice::Software));
    }
    match opened {
        Ok(_) => Some(choice),
        Err(Error::Unavailable { reason, .. }) => {
            assert!(!required(Backend::Wgpu), "VLC_REQUIRE lists wgpu, which is unavailable: {reason}");
            skip("devices of wgpu", &reason);
            None
        }
        Err(e) => panic!("{e}"),
    }
}

/// Adds a number to each value.
static ADD: Source = Source {
    name: "add",
    text: "
struct Params { count: u32, value: u32, _pad0: u32, _pad1: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> values: array<u32>;
@compute @workgroup_size(64)
fn add(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < params.count {
        values[id.x] += params.value;
    }
}",
};
const ADDED: Kernel = Kernel { source: &ADD, entry: "add", constants: &[] };

/// Different everywhere.
fn numbers(len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| i.wrapping_mul(2_654_435_761)).collect()
}

#[test]
fn what_is_sent_comes_back() {
    let Some(device) = device() else { return };
    // The largest goes in several pieces.
    for len in [0, 1, 3, 1000, 70_001] {
        let values = numbers(len);
        let sent = device.upload(&values).unwrap();
        let copied = device.copy(&sent).unwrap();
        device.clear(&sent).unwrap();
        assert_eq!(device.download(&copied).unwrap(), values);
        assert!(device.download(&sent).unwrap().iter().all(|&v| v == 0));
        let parts: Vec<_> = [0..len / 3, len / 2..len, 0..len].map(|range| (&copied, range)).into();
        let expected: Vec<u32> = parts.iter().flat_map(|(_, range)| values[range.clone()].to_vec()).collect();
        assert_eq!(device.download_parts(&parts).unwrap(), expected);
    }
}

#[test]
fn launches_run_in_order_each_with_its_own_parameters() {
    let Some(device) = device() else { return };
    let values = device.upload(&[0u32; 100]).unwrap();
    // More than are sent together.
    for value in 1..=200u32 {
        device.launch(&ADDED, [2, 1, 1], &[value % 2 * 100, value, 0, 0], &[(1, &values)]).unwrap();
    }
    assert_eq!(device.download(&values).unwrap(), [(1..=200).filter(|v| v % 2 == 1).sum::<u32>(); 100]);
    let values = device.upload(&[0u32; 1000]).unwrap();
    let mut ranges = Vec::new();
    device
        .paced(&ADDED, 1000, 64, 1e7, |range| {
            ranges.push(range.clone());
            device.launch(&ADDED, [16, 1, 1], &[range.end as u32, 1, 0, 0], &[(1, &values)])
        })
        .unwrap();
    assert!(ranges.len() > 1 && ranges.windows(2).all(|w| w[0].end == w[1].start && w[0].len() % 64 == 0));
    assert_eq!((ranges[0].start, ranges[ranges.len() - 1].end), (0, 1000));
    let expected: Vec<u32> = (0..1000).map(|i| ranges.iter().filter(|r| i < r.end as u32).count() as u32).collect();
    assert_eq!(device.download(&values).unwrap(), expected);
}

#[test]
fn what_a_device_cannot_do_is_an_error_and_not_zeros() {
    let Some(device) = device() else { return };
    let failed = |result: Result<(), Error>, what: &str| match result {
        Err(Error::Device { backend: Backend::Wgpu, source }) => {
            assert!(source.to_string().contains(what), "{source}");
            assert!(last_error().is_some());
        }
        other => panic!("{other:?} instead of a failure with {what:?}"),
    };
    let values = device.upload(&[0u32; 4]).unwrap();
    let most = device.limits.max_compute_workgroups_per_dimension;
    for groups in [[most + 1, 1, 1], [1, 0, 1]] {
        failed(device.launch(&ADDED, groups, &[4u32, 1, 0, 0], &[(1, &values)]), "groups");
    }
    failed(device.launch(&ADDED, [1; 3], &[4u32, 1, 0, 0], &[]), "binding");
    failed(device.launch(&ADDED, [1; 3], &[4u32, 1, 0, 0], &[(2, &values)]), "binding");
    failed(device.alloc::<u32>(device.binding_limit() / 4 + 1).map(drop), "in one piece");
    failed(device.alloc::<u32>(usize::MAX).map(drop), "in one piece");
    static BROKEN: Source = Source { name: "broken", text: "fn f() -> u32 { return 1.5; }" };
    let broken = Kernel { source: &BROKEN, entry: "f", constants: &[] };
    failed(device.launch(&broken, [1; 3], &[0u32; 4], &[]), "");
    // What failed leaves no trace.
    device.launch(&ADDED, [1; 3], &[4u32, 7, 0, 0], &[(1, &values)]).unwrap();
    assert_eq!(device.download(&values).unwrap(), [7; 4]);
}

#[test]
fn a_device_that_is_gone_says_so() {
    let Some(choice) = choice_for_tests() else { return };
    // Not to be dropped while others open devices.
    let device = std::mem::ManuallyDrop::new(Device::alone(choice).unwrap());
    let values = std::mem::ManuallyDrop::new(device.upload(&numbers(100)).unwrap());
    device.raw.destroy();
    assert!(matches!(device.download(&values), Err(Error::Device { backend: Backend::Wgpu, .. })));
    assert!(matches!(device.upload(&numbers(100)), Err(Error::Device { .. })));
    assert!(Device::open(choice).is_ok_and(|(other, _)| other.upload(&numbers(100)).is_ok()));
}

#[test]
fn threads_share_a_device_and_not_their_errors() {
    let Some(device) = device() else { return };
    std::thread::scope(|scope| {
        for t in 0..8u32 {
            let device = &device;
            scope.spawn(move || {
                for i in 0..20u32 {
                    let values = device.upload(&[t; 1000]).unwrap();
                    if t % 4 == 0 {
                        assert!(device.launch(&ADDED, [1; 3], &[4u32, 1, 0, 0], &[(2, &values)]).is_err());
                    }
                    device.launch(&ADDED, [16, 1, 1], &[1000u32, i, 0, 0], &[(1, &values)]).unwrap();
                    assert_eq!(device.download(&values).unwrap(), [t + i; 1000]);
                }
            });
        }
    });
}

#[test]
fn memory_is_counted() {
    let Some(device) = device() else { return };
    // Other tests hold buffers at the same time.
    let sent = device.upload(&numbers(1 << 20)).unwrap();
    assert!(held().bytes >= 4 << 20 && held().peak >= held().bytes.min(4 << 20) && held().buffers >= 1);
    drop(sent);
}

#[test]
fn numbers_that_no_adapter_has_are_refused() {
    let _alone = lock(&DRIVER);
    match adapter::list() {
        Ok(all) => assert!(matches!(adapter::choose(DeviceChoice::Number(all.len())), Err(Error::Config(_)))),
        Err(e) => assert!(matches!(e, Error::Unavailable { backend: Backend::Wgpu, .. })),
    }
}
