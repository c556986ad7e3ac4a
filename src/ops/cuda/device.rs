//! A device in use: its memory, its copies and its kernels.

use std::{
    ops::Range,
    slice,
    sync::{Arc, Mutex, Weak},
};

use bytemuck::Pod;

use super::{
    buffer::Buffer,
    driver::{self, Context, Found},
    error::{OutOfMemory, device_error, lock, misuse},
    images::{self, Arch, Image, PROBE},
    launch::{Arg, Kernels},
    pool::{self, Block, Memory, Pool, Stats},
    transfer::Transfer,
};
use crate::error::Error;

/// A handle on an opened device; clones share it. Operations are started in the order of the calls and run one after the
/// other; only downloads and [`Device::synchronize`] wait, and report what failed before them.
#[derive(Clone)]
pub(super) struct Device(Arc<Handle>);

/// Goes when the last [`Device`] does, though buffers may keep the core.
struct Handle {
    core: Arc<Core>,
}

/// What handles and buffers share. Fields are dropped in this order.
pub(super) struct Core {
    kernels: Kernels,
    transfer: Transfer,
    pool: Pool<DeviceMemory>,
    context: Arc<Context>,
    found: Found,
    arch: Arch,
    processors: u32,
    shared_limit: u32,
}

impl Core {
    pub(super) fn take(&self, bytes: usize) -> Result<Block, Error> {
        self.pool.take(bytes)
    }

    pub(super) fn give(&self, block: Block) {
        self.pool.give(block);
    }
}

/// The driver's own allocations.
struct DeviceMemory(Arc<Context>);

impl Memory for DeviceMemory {
    fn take(&self, bytes: usize) -> Result<Option<u64>, Error> {
        driver::allocate(&self.0, bytes)
    }

    fn give(&self, blocks: &[u64]) {
        driver::free(&self.0, blocks);
    }

    fn room(&self) -> Result<(u64, u64), Error> {
        self.0.memory()
    }
}

/// What the environment asks for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Settings {
    /// `VLC_CUDA_ARCH`.
    pub(super) only: Option<Arch>,
    /// `VLC_CUDA_MEMORY`.
    pub(super) cap: Option<u64>,
}

impl Settings {
    pub(super) fn from_env() -> Result<Settings, Error> {
        Ok(Settings { only: images::only_from_env()?, cap: pool::cap_from_env()? })
    }
}

impl Device {
    /// The device of that number, or the one with most memory.
    pub(super) fn open(number: Option<usize>) -> Result<Device, Error> {
        Device::open_with(number, Settings::from_env()?)
    }

    pub(super) fn open_with(number: Option<usize>, settings: Settings) -> Result<Device, Error> {
        let driver = driver::probe()?;
        let found = driver::select(&driver.devices, number)?.clone();
        found.targets(settings.only)?;
        let (processors, shared_limit) = (found.processors()?, found.shared_limit()?);
        let context = Arc::new(Context::open(&found)?);
        let mut kernels = Kernels::new(Arc::clone(&context), found.capability, driver.version, settings.only);
        // Settled once for all, so that callers can tell which kernels there are: an old driver may refuse the best image.
        let arch = kernels.load(PROBE)?;
        kernels.restrict(arch);
        log::debug!("cuda device {}: {}, kernels for {arch}", found.number, found.name);
        let core = Arc::new(Core {
            kernels,
            transfer: Transfer::new(Arc::clone(&context)),
            pool: Pool::new(DeviceMemory(Arc::clone(&context)), settings.cap),
            context,
            found,
            arch,
            processors,
            shared_limit,
        });
        let handle = Arc::new(Handle { core });
        let mut open = lock(&OPEN);
        open.retain(|(core, _)| core.strong_count() > 0);
        open.push((Arc::downgrade(&handle.core), Arc::downgrade(&handle)));
        Ok(Device(handle))
    }

    fn core(&self) -> &Arc<Core> {
        &self.0.core
    }

    /// So many values, contents undefined.
    pub(super) fn alloc<T: Pod>(&self, len: usize) -> Result<Buffer<T>, Error> {
        Buffer::new(self.core(), len)
    }

    /// So many values, all bytes 0.
    pub(super) fn zeros<T: Pod>(&self, len: usize) -> Result<Buffer<T>, Error> {
        let buffer = self.alloc(len)?;
        self.fill(&buffer, 0)?;
        Ok(buffer)
    }

    /// Sets every byte.
    pub(super) fn fill<T: Pod>(&self, buffer: &Buffer<T>, byte: u8) -> Result<(), Error> {
        self.own(buffer)?;
        self.core().transfer.fill(buffer.pointer(), buffer.bytes(), byte)
    }

    /// A copy on the device.
    pub(super) fn upload<T: Pod>(&self, values: &[T]) -> Result<Buffer<T>, Error> {
        let mut buffer = self.alloc(values.len())?;
        self.upload_into(values, &mut buffer)?;
        Ok(buffer)
    }

    /// Overwrites the start of a buffer, which is at least as long.
    pub(super) fn upload_into<T: Pod>(&self, values: &[T], buffer: &mut Buffer<T>) -> Result<(), Error> {
        self.upload_at(values, buffer, 0)
    }

    /// Overwrites a part of a buffer.
    pub(super) fn upload_at<T: Pod>(&self, values: &[T], buffer: &mut Buffer<T>, start: usize) -> Result<(), Error> {
        self.own(buffer)?;
        let (to, _) = buffer.part(start, values.len())?;
        self.core().transfer.upload(bytemuck::cast_slice(values), to)
    }

    /// A copy on the host.
    pub(super) fn download<T: Pod>(&self, buffer: &Buffer<T>) -> Result<Vec<T>, Error> {
        self.download_part(buffer, 0..buffer.len())
    }

    /// A copy of a part.
    pub(super) fn download_part<T: Pod>(&self, buffer: &Buffer<T>, range: Range<usize>) -> Result<Vec<T>, Error> {
        self.own(buffer)?;
        let len = range.len();
        let (from, _) = buffer.part(range.start, len)?;
        let mut values: Vec<T> = Vec::with_capacity(len);
        let room = &mut values.spare_capacity_mut()[..len];
        // SAFETY: the same memory as bytes; `download` initialises them and does nothing else with them.
        let bytes = unsafe { slice::from_raw_parts_mut(room.as_mut_ptr().cast(), size_of_val(room)) };
        self.core().transfer.download(from, bytes)?;
        // SAFETY: all bytes have been written, and any bytes make a `Pod`.
        unsafe { values.set_len(len) };
        Ok(values)
    }

    /// Another buffer with the same values.
    pub(super) fn copy<T: Pod>(&self, buffer: &Buffer<T>) -> Result<Buffer<T>, Error> {
        self.own(buffer)?;
        let copy = self.alloc(buffer.len())?;
        self.core().transfer.copy(buffer.pointer(), copy.pointer(), buffer.bytes())?;
        Ok(copy)
    }

    /// Starts `grid` blocks of `block` threads each with `shared` bytes of dynamic shared memory; none at all if a side of
    /// the grid is 0. `stem` is a list of [`images`], loaded when first used; `name` is that of an `extern "C"` kernel in
    /// it. Number and sizes of the arguments must be those of the kernel's parameters.
    pub(super) fn launch(
        &self,
        stem: &'static [Image],
        name: &'static str,
        grid: [u32; 3],
        block: u32,
        shared: u32,
        args: &[Arg<'_>],
    ) -> Result<(), Error> {
        self.core().kernels.launch(stem, name, grid, block, shared, args)
    }

    /// Loads kernels before they are needed.
    #[cfg(test)]
    pub(super) fn load(&self, stem: &'static [Image]) -> Result<(), Error> {
        self.core().kernels.load(stem).map(drop)
    }

    /// A buffer of another device has an address that means something else here.
    fn own<T: Pod>(&self, buffer: &Buffer<T>) -> Result<(), Error> {
        if buffer.is_of(self.core()) { Ok(()) } else { Err(misuse("a buffer of another device")) }
    }

    /// Waits for all that was started.
    pub(super) fn synchronize(&self) -> Result<(), Error> {
        self.core().context.synchronize()
    }

    /// Its number, as [`Device::open`] takes it.
    pub(super) fn number(&self) -> usize {
        self.core().found.number
    }

    pub(super) fn name(&self) -> &str {
        &self.core().found.name
    }

    /// Compute capability.
    #[cfg(test)]
    pub(super) fn capability(&self) -> (u32, u32) {
        self.core().found.capability
    }

    /// Of which architecture the kernels are: what it has, they may use.
    pub(super) fn arch(&self) -> (u32, u32) {
        self.core().arch.version
    }

    /// Whether the kernels may use what this architecture alone has (wgmma on 9.0).
    pub(super) fn specific(&self) -> bool {
        self.core().arch.specific
    }

    /// Multiprocessors.
    pub(super) fn processors(&self) -> u32 {
        self.core().processors
    }

    /// Bytes of shared memory that a block can have at most.
    pub(super) fn shared_limit(&self) -> u32 {
        self.core().shared_limit
    }

    /// Bytes that a new buffer can have, what is kept counted in, and of how many in all.
    pub(super) fn memory(&self) -> Result<(u64, u64), Error> {
        let (free, total) = self.core().pool.room()?;
        Ok((free + self.stats().cached, total))
    }

    /// Fails now where buffers of so many bytes would fail later.
    pub(super) fn ensure_room(&self, needed: u64) -> Result<(), Error> {
        let (free, total) = self.memory()?;
        if needed <= free { Ok(()) } else { Err(device_error(OutOfMemory { needed, free, total })) }
    }

    pub(super) fn stats(&self) -> Stats {
        self.core().pool.stats()
    }

    /// Returns kept memory to the driver.
    pub(super) fn trim(&self) {
        self.core().pool.trim();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Nobody can ask for it any more, even if a buffer keeps the rest alive.
        self.core.pool.trim();
    }
}

/// Every device of this process that has a handle or a buffer left.
static OPEN: Mutex<Vec<(Weak<Core>, Weak<Handle>)>> = Mutex::new(Vec::new());

/// What this process holds on a device, or on all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Held {
    /// Bytes taken from the driver.
    pub(super) resident: u64,
    /// Buffers in use.
    pub(super) buffers: usize,
    /// Those of them that no operation can use any more, as all handles of their device are gone.
    pub(super) leaked: usize,
}

/// What this process holds on the device of that number.
pub(super) fn held(number: usize) -> Held {
    // Gathered first: dropping the last of a device needs no lock, but takes long.
    let open: Vec<_> =
        lock(&OPEN).iter().filter_map(|(core, handle)| Some((core.upgrade()?, handle.clone()))).collect();
    let mut held = Held::default();
    for (core, handle) in open.iter().filter(|(core, _)| core.found.number == number) {
        let stats = core.pool.stats();
        held.resident += stats.in_use + stats.cached;
        held.buffers += stats.buffers;
        held.leaked += if handle.strong_count() == 0 { stats.buffers } else { 0 };
    }
    held
}

#[cfg(test)]
#[path = "device_tests.rs"]
pub(crate) mod tests;
