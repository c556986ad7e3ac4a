//! A piece of device memory with a type and a length.

use std::{marker::PhantomData, sync::Arc};

use bytemuck::Pod;

use super::{device::Core, error::misuse, pool::Block};
use crate::error::Error;

/// So many values on the device. Goes back to the pool when dropped; what was started before may still use it, as all
/// that comes after runs after. Kernels write through a shared reference: the host has no view of what is inside.
pub(super) struct Buffer<T: Pod> {
    /// `None` for length 0.
    block: Option<Block>,
    len: usize,
    core: Arc<Core>,
    kind: PhantomData<T>,
}

impl<T: Pod> Buffer<T> {
    /// Contents undefined.
    pub(super) fn new(core: &Arc<Core>, len: usize) -> Result<Buffer<T>, Error> {
        let bytes = len.checked_mul(size_of::<T>()).ok_or_else(|| misuse("more values than memory can hold"))?;
        let block = if bytes == 0 { None } else { Some(core.take(bytes)?) };
        Ok(Buffer { block, len, core: Arc::clone(core), kind: PhantomData })
    }

    /// Values.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the values.
    pub(super) fn bytes(&self) -> usize {
        self.len * size_of::<T>()
    }

    /// Address on the device; 0 for length 0. At least a multiple of 256 otherwise.
    pub(super) fn pointer(&self) -> u64 {
        self.block.map_or(0, |block| block.pointer)
    }

    /// Address of a part of it, whose length in bytes is also given.
    pub(super) fn part(&self, start: usize, len: usize) -> Result<(u64, usize), Error> {
        match start.checked_add(len) {
            Some(end) if end <= self.len => {
                Ok((self.pointer() + (start * size_of::<T>()) as u64, len * size_of::<T>()))
            }
            _ => Err(misuse(format!("{len} values from {start} are not within a buffer of {}", self.len))),
        }
    }

    /// Whether it is on that device.
    pub(super) fn is_of(&self, core: &Arc<Core>) -> bool {
        Arc::ptr_eq(&self.core, core)
    }
}

impl<T: Pod> Drop for Buffer<T> {
    fn drop(&mut self) {
        if let Some(block) = self.block {
            self.core.give(block);
        }
    }
}
