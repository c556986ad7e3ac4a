//! A piece of device memory with a type and a length.

use std::{marker::PhantomData, sync::Mutex};

use bytemuck::Pod;

use super::error::lock;

/// What this process holds on devices.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Held {
    pub(super) bytes: u64,
    pub(super) peak: u64,
    pub(super) buffers: usize,
}

static HELD: Mutex<Held> = Mutex::new(Held { bytes: 0, peak: 0, buffers: 0 });

pub(super) fn held() -> Held {
    *lock(&HELD)
}

/// So many values on the device, zeros at first. Kernels write through a shared reference: the host has no view of what is
/// inside. What was started before it is dropped may still use it.
pub(super) struct Buffer<T> {
    raw: wgpu::Buffer,
    len: usize,
    kind: PhantomData<T>,
}

impl<T: Pod> Buffer<T> {
    /// `raw` holds `len` values.
    pub(super) fn new(raw: wgpu::Buffer, len: usize) -> Buffer<T> {
        let mut held = lock(&HELD);
        held.bytes += raw.size();
        held.peak = held.peak.max(held.bytes);
        held.buffers += 1;
        drop(held);
        Buffer { raw, len, kind: PhantomData }
    }

    /// Values.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn raw(&self) -> &wgpu::Buffer {
        &self.raw
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        let mut held = lock(&HELD);
        held.bytes -= self.raw.size();
        held.buffers -= 1;
    }
}

/// What a kernel can be given.
pub(super) trait Bind {
    fn bound(&self) -> &wgpu::Buffer;
}

impl<T: Pod> Bind for Buffer<T> {
    fn bound(&self) -> &wgpu::Buffer {
        &self.raw
    }
}
