//! Device memory that is kept when given back and handed out again: a real allocation waits for the device.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use super::error::{OutOfMemory, device_error, lock};
use crate::error::Error;

/// Caps what a pool takes, in bytes or with the suffix k, m or g; for tests.
const CAP: &str = "VLC_CUDA_MEMORY";

/// Left to the driver and to other programs, unless 1/32 of the device is less.
const RESERVE: u64 = 256 << 20;

/// Up to here blocks come in few sizes, so that they fit many requests.
const LARGE: usize = 64 << 20;

/// The step of larger ones; the driver's own pages are that large.
const STEP: usize = 2 << 20;

/// The most that any pool of this process had in use.
static PEAK: AtomicU64 = AtomicU64::new(0);

/// The most bytes that any device of this process had in use at once.
pub(super) fn peak() -> u64 {
    PEAK.load(Ordering::Relaxed)
}

/// Where blocks come from.
pub(super) trait Memory {
    /// A new block, or `None` when there is no room for it.
    fn take(&self, bytes: usize) -> Result<Option<u64>, Error>;
    /// Gives blocks back that nothing uses but what was started before.
    fn give(&self, blocks: &[u64]);
    /// Free and total bytes.
    fn room(&self) -> Result<(u64, u64), Error>;
}

/// What a pool holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stats {
    /// Bytes of the buffers in use.
    pub(super) in_use: u64,
    /// Bytes kept for the next ones.
    pub(super) cached: u64,
    /// The most bytes that were in use at once.
    pub(super) peak: u64,
    /// Buffers in use.
    pub(super) buffers: usize,
    /// Buffers for which the driver was asked.
    pub(super) allocations: u64,
    /// Buffers that were made of kept memory.
    pub(super) reuses: u64,
}

/// See the module.
pub(super) struct Pool<M: Memory> {
    memory: M,
    cap: Option<u64>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Blocks by their size.
    kept: BTreeMap<usize, Vec<u64>>,
    stats: Stats,
}

/// A piece of device memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) pointer: u64,
    /// At least what was asked for.
    pub(super) bytes: usize,
}

impl<M: Memory> Pool<M> {
    pub(super) fn new(memory: M, cap: Option<u64>) -> Pool<M> {
        Pool { memory, cap, state: Mutex::default() }
    }

    /// At least so many bytes (not 0), contents undefined.
    pub(super) fn take(&self, bytes: usize) -> Result<Block, Error> {
        let mut state = lock(&self.state);
        let block = match size_class(bytes) {
            None => return Err(self.too_much(bytes as u64, &state)?),
            Some(size) => match state.reuse(size) {
                Some(block) => block,
                None => self.new_block(size, &mut state)?,
            },
        };
        state.stats.in_use += block.bytes as u64;
        state.stats.buffers += 1;
        state.stats.peak = state.stats.peak.max(state.stats.in_use);
        PEAK.fetch_max(state.stats.peak, Ordering::Relaxed);
        Ok(block)
    }

    /// Keeps a block for the next that asks.
    pub(super) fn give(&self, block: Block) {
        let mut state = lock(&self.state);
        state.stats.in_use -= block.bytes as u64;
        state.stats.buffers -= 1;
        state.stats.cached += block.bytes as u64;
        state.kept.entry(block.bytes).or_default().push(block.pointer);
    }

    /// Returns everything that is kept to the driver.
    pub(super) fn trim(&self) {
        self.release(&mut lock(&self.state));
    }

    pub(super) fn stats(&self) -> Stats {
        lock(&self.state).stats
    }

    /// Bytes that can be had without giving back what is kept, and of how many in all.
    pub(super) fn room(&self) -> Result<(u64, u64), Error> {
        self.free(&lock(&self.state))
    }

    fn free(&self, state: &State) -> Result<(u64, u64), Error> {
        let (free, total) = self.memory.room()?;
        let free = free.saturating_sub(RESERVE.min(total / 32));
        let taken = state.stats.in_use + state.stats.cached;
        Ok(match self.cap {
            Some(cap) => (free.min(cap.saturating_sub(taken)), total.min(cap)),
            None => (free, total),
        })
    }

    fn new_block(&self, bytes: usize, state: &mut State) -> Result<Block, Error> {
        if self.free(state)?.0 < bytes as u64 {
            self.release(state);
            if self.free(state)?.0 < bytes as u64 {
                return Err(self.too_much(bytes as u64, state)?);
            }
        }
        let mut pointer = self.memory.take(bytes)?;
        if pointer.is_none() {
            // What is free may be in pieces, or another process was faster.
            self.release(state);
            pointer = self.memory.take(bytes)?;
        }
        let Some(pointer) = pointer else {
            return Err(self.too_much(bytes as u64, state)?);
        };
        state.stats.allocations += 1;
        Ok(Block { pointer, bytes })
    }

    fn too_much(&self, needed: u64, state: &State) -> Result<Error, Error> {
        let (free, total) = self.free(state)?;
        Ok(device_error(OutOfMemory { needed, free, total }))
    }

    fn release(&self, state: &mut State) {
        let blocks: Vec<u64> = std::mem::take(&mut state.kept).into_values().flatten().collect();
        if !blocks.is_empty() {
            self.memory.give(&blocks);
        }
        state.stats.cached = 0;
    }
}

impl<M: Memory> Drop for Pool<M> {
    fn drop(&mut self) {
        self.trim();
    }
}

impl State {
    /// A kept block of that size or little more.
    fn reuse(&mut self, size: usize) -> Option<Block> {
        // Large sizes are many, and take up to an eighth more rather than nothing; of small ones none is so near.
        let (&bytes, blocks) = self.kept.range_mut(size..=size.saturating_add(size / 8)).next()?;
        let pointer = blocks.pop()?;
        if blocks.is_empty() {
            self.kept.remove(&bytes);
        }
        self.stats.cached -= bytes as u64;
        self.stats.reuses += 1;
        Some(Block { pointer, bytes })
    }
}

/// What a request is rounded up to: a power of two or 1.5 times one from 512 bytes to 64 MiB, then steps of 2 MiB. `None`
/// when no number is so large.
fn size_class(bytes: usize) -> Option<usize> {
    if bytes > LARGE {
        return bytes.checked_next_multiple_of(STEP);
    }
    let power = bytes.max(512).next_power_of_two();
    // Three quarters of the power are one and a half of the one before.
    let between = power / 4 * 3;
    Some(if bytes.max(512) <= between { between } else { power })
}

/// The cap that the environment sets.
pub(super) fn cap_from_env() -> Result<Option<u64>, Error> {
    match std::env::var_os(CAP) {
        Some(value) if !value.is_empty() => parse_cap(&value).map(Some),
        _ => Ok(None),
    }
}

fn parse_cap(value: &OsStr) -> Result<u64, Error> {
    let text = value.to_string_lossy();
    let lower = text.to_ascii_lowercase();
    let (number, shift) = match lower.strip_suffix(['k', 'm', 'g']) {
        Some(number) if lower.ends_with('k') => (number, 10),
        Some(number) if lower.ends_with('m') => (number, 20),
        Some(number) => (number, 30),
        None => (lower.as_str(), 0),
    };
    let bytes = number.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift));
    bytes.ok_or_else(|| Error::Config(format!("{CAP}={text} is no number of bytes; write for example 500m or 2g")))
}

#[cfg(test)]
#[path = "pool_tests.rs"]
pub(crate) mod tests;
