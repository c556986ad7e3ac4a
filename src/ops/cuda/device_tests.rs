use rayon::prelude::*;

use super::*;
use crate::{
    backend::{Backend, DeviceChoice},
    ops::{
        conformance::{required, skip},
        cuda::error::{is_out_of_memory, last_error},
    },
};

/// A device, or `None` after saying that there is none.
fn device_with(settings: Settings) -> Option<Device> {
    match Device::open_with(None, settings) {
        Ok(device) => Some(device),
        Err(Error::Unavailable { reason, .. }) if !required(Backend::Cuda) => {
            skip("devices of cuda", &reason);
            None
        }
        Err(e) => panic!("{e}"),
    }
}

fn device() -> Option<Device> {
    device_with(Settings::default())
}

/// Different everywhere.
fn numbers(len: usize, seed: u32) -> Vec<u32> {
    (0..len as u32).map(|i| i.wrapping_mul(2_654_435_761).wrapping_add(seed)).collect()
}

/// `add(values, count, value)` adds to each of the values.
const ADD: &str = "
.version 6.0
.target sm_53
.address_size 64
.visible .entry add(
    .param .u64 add_0,
    .param .u32 add_1,
    .param .u32 add_2
)
{
    .reg .pred %p<2>;
    .reg .b32 %r<7>;
    .reg .b64 %d<5>;
    ld.param.u64 %d1, [add_0];
    ld.param.u32 %r1, [add_1];
    ld.param.u32 %r2, [add_2];
    mov.u32 %r3, %ctaid.x;
    mov.u32 %r4, %ntid.x;
    mov.u32 %r5, %tid.x;
    mad.lo.s32 %r3, %r3, %r4, %r5;
    setp.ge.u32 %p1, %r3, %r1;
    @%p1 bra DONE;
    cvta.to.global.u64 %d2, %d1;
    mul.wide.u32 %d3, %r3, 4;
    add.s64 %d4, %d2, %d3;
    ld.global.u32 %r6, [%d4];
    add.s32 %r6, %r6, %r2;
    st.global.u32 [%d4], %r6;
DONE:
    ret;
}
";

static ADDS: &[Image] = &[Image { arch: (5, 3), specific: false, ptx: ADD }];

fn add(device: &Device, values: &Buffer<u32>, value: u32, shared: u32) -> Result<(), Error> {
    let count = values.len() as u32;
    let args = [Arg::from(values), Arg::from(count), Arg::from(value)];
    device.launch(ADDS, "add", [count.div_ceil(256), 1, 1], 256, shared, &args)
}

#[test]
fn devices_and_buffers_go_between_threads() {
    fn check<T: Send + Sync>() {}
    check::<Device>();
    check::<Buffer<f32>>();
}

#[test]
fn bytes_come_back() {
    let Some(device) = device() else { return };
    for len in [0, 1, 1000, 16_385, (2 << 20) - 1, 2 << 20, (2 << 20) + 1, 13_000_001] {
        let values = numbers(len, 1);
        let buffer = device.upload(&values).unwrap();
        assert_eq!(buffer.len(), len);
        assert!(device.download(&buffer).unwrap() == values, "{len}");
    }
}

#[test]
fn small_uploads_do_not_disturb_each_other() {
    let Some(device) = device() else { return };
    // More than both halves of the pinned memory hold.
    let all: Vec<Vec<u32>> = (0..600).map(|i| numbers(8000 + i, i as u32)).collect();
    let buffers: Vec<_> = all.iter().map(|values| device.upload(values).unwrap()).collect();
    for (values, buffer) in all.iter().zip(&buffers) {
        assert!(device.download(buffer).unwrap() == *values);
    }
}

#[test]
fn parts_are_copied() {
    let Some(device) = device() else { return };
    let mut buffer = device.zeros::<u32>(10).unwrap();
    device.upload_at(&[1, 2, 3], &mut buffer, 4).unwrap();
    device.upload_into(&[9], &mut buffer).unwrap();
    assert_eq!(device.download(&buffer).unwrap(), [9, 0, 0, 0, 1, 2, 3, 0, 0, 0]);
    assert_eq!(device.download_part(&buffer, 4..7).unwrap(), [1, 2, 3]);
    let copy = device.copy(&buffer).unwrap();
    device.fill(&buffer, 0xFF).unwrap();
    assert_eq!(device.download(&copy).unwrap(), [9, 0, 0, 0, 1, 2, 3, 0, 0, 0]);
    assert_eq!(device.download(&buffer).unwrap(), [u32::MAX; 10]);
    assert!(device.upload_at(&[1, 2], &mut buffer, 9).is_err());
    assert!(device.download_part(&buffer, 8..11).is_err());
}

#[test]
fn threads_share_a_device() {
    let Some(device) = device() else { return };
    (0..16u32).into_par_iter().for_each(|seed| {
        let values = numbers(1_000_003, seed);
        let buffer = device.upload(&values).unwrap();
        add(&device, &buffer, seed, 0).unwrap();
        let came = device.download(&buffer).unwrap();
        assert!(came.iter().zip(&values).all(|(&a, &b)| a == b.wrapping_add(seed)));
    });
}

#[test]
fn kernels_run() {
    let Some(device) = device() else { return };
    let values = numbers(1000, 0);
    let buffer = device.upload(&values).unwrap();
    add(&device, &buffer, 7, 0).unwrap();
    // As much shared memory as there is, then little again.
    add(&device, &buffer, 20, device.shared_limit()).unwrap();
    add(&device, &buffer, 300, 1024).unwrap();
    let came = device.download(&buffer).unwrap();
    assert!(came.iter().zip(&values).all(|(&a, &b)| a == b.wrapping_add(327)));
    let empty = device.alloc(0).unwrap();
    add(&device, &empty, 1, 0).unwrap();
    device.synchronize().unwrap();
}

#[test]
fn wrong_launches_are_errors() {
    let Some(device) = device() else { return };
    let buffer = device.zeros::<u32>(4).unwrap();
    let launch = |name, block, args: &[Arg<'_>]| device.launch(ADDS, name, [1, 1, 1], block, 0, args);
    let args = [Arg::from(&buffer), Arg::from(4u32), Arg::from(1u32)];
    let error = launch("subtract", 32, &args).unwrap_err().to_string();
    assert!(error.contains("no kernel subtract"), "{error}");
    assert!(launch("add", 32, &args[..2]).unwrap_err().to_string().contains("3 parameters"));
    assert!(launch("add", 32, &[args[0], args[1], Arg::null()]).unwrap_err().to_string().contains("4 bytes"));
    let error = launch("add", 4096, &args).unwrap_err().to_string();
    assert!(error.contains("cuLaunchKernel of add") && error.contains("CUDA_ERROR_INVALID_VALUE"), "{error}");
    assert!(last_error().is_some());
    launch("add", 32, &args).unwrap();
    assert_eq!(device.download(&buffer).unwrap(), [1; 4], "the device is still well");
}

#[test]
fn the_next_image_is_taken_when_one_is_refused() {
    static TOO_NEW: Image = Image { arch: (6, 0), specific: false, ptx: ".version 99.0\n.target sm_60\n" };
    static MIXED: &[Image] = &[
        Image { arch: TOO_NEW.arch, specific: false, ptx: TOO_NEW.ptx },
        Image { arch: (5, 3), specific: false, ptx: ADD },
    ];
    static REFUSED: &[Image] = &[Image { arch: (5, 3), specific: false, ptx: TOO_NEW.ptx }];
    let Some(device) = device() else { return };
    device.load(MIXED).unwrap();
    let error = device.load(REFUSED).unwrap_err().to_string();
    assert!(error.contains("PTX 99.0") && error.contains("takes none"), "{error}");
}

#[test]
fn the_kernels_are_those_of_the_device() {
    let Some(device) = device() else { return };
    let arch = Arch { version: device.arch(), specific: device.specific() };
    assert!(arch.runs_on(device.capability()));
    let lowest = Settings { only: "5.3".parse().ok(), cap: None };
    assert_eq!(device_with(lowest).unwrap().arch(), (5, 3));
    assert!(device.processors() > 0 && device.shared_limit() >= 48 << 10);
}

#[test]
fn memory_is_used_again_and_may_be_capped() {
    let Some(device) = device_with(Settings { only: None, cap: Some(64 << 20) }) else { return };
    let first = device.alloc::<u8>(20 << 20).unwrap();
    let pointer = first.pointer();
    drop(first);
    assert_eq!(device.alloc::<u8>(20 << 20).unwrap().pointer(), pointer);
    let stats = device.stats();
    assert_eq!((stats.buffers, stats.in_use, stats.cached, stats.reuses), (0, 0, 24 << 20, 1));
    let error = device.alloc::<u8>(100 << 20).map(drop).unwrap_err();
    assert!(is_out_of_memory(&device.ensure_room(u64::MAX).unwrap_err()));
    assert!(device.ensure_room(1000).is_ok());
    assert!(is_out_of_memory(&error), "{error}");
    assert_eq!(device.memory().unwrap(), (64 << 20, 64 << 20));
}

#[test]
fn buffers_that_outlive_their_device_are_leaked() {
    let Some(device) = device() else { return };
    let number = device.number();
    let buffer = device.zeros::<u32>(100).unwrap();
    assert!(held(number).buffers >= 1);
    drop(device);
    assert!(held(number).leaked >= 1);
    drop(buffer);
    let health = crate::ops::health(Backend::Cuda, DeviceChoice::Number(number)).unwrap();
    assert_eq!(health.number, Some(number));
    assert!(health.memory_free <= health.memory_total);
}
