//! Copies between the host and the device, through memory that the driver has pinned: from there the device copies by itself
//! while the processor fills or empties the next piece.

use std::{
    mem::MaybeUninit,
    slice,
    sync::{Arc, Mutex},
};

use cudarc::driver::{
    result,
    sys::{self, CU_MEMHOSTALLOC_WRITECOMBINED, CUevent_flags_enum as Flags},
};
use rayon::prelude::*;

use super::{
    driver::Context,
    error::{During, lock},
};
use crate::error::Error;

/// Pinned memory of each direction; a device takes turns with its halves.
const STAGE: usize = 16 << 20;
const HALF: usize = STAGE / 2;

/// Bytes after which the device starts, while the processor goes on.
const PIECE: usize = 2 << 20;

/// Smaller copies are one thread's.
const PARALLEL: usize = 1 << 20;

/// A mark on the stream.
pub(super) struct Event {
    raw: sys::CUevent,
    context: Arc<Context>,
}

// SAFETY: handles of the driver are not tied to a thread.
unsafe impl Send for Event {}
// SAFETY: as above; recording and waiting are safe from any thread.
unsafe impl Sync for Event {}

impl Event {
    /// One that does not tell the time, which is quicker to record.
    pub(super) fn new(context: &Arc<Context>) -> Result<Event, Error> {
        context.bind()?;
        let raw = result::event::create(Flags::CU_EVENT_DISABLE_TIMING).during("cuEventCreate")?;
        Ok(Event { raw, context: Arc::clone(context) })
    }

    /// Marks what was started so far.
    pub(super) fn record(&self) -> Result<(), Error> {
        self.context.bind()?;
        // SAFETY: event and stream live as long as `self`.
        unsafe { result::event::record(self.raw, self.context.stream()) }.during("cuEventRecord")
    }

    /// Waits for what was marked, if anything was.
    pub(super) fn wait(&self) -> Result<(), Error> {
        self.context.bind()?;
        // SAFETY: the event lives as long as `self`.
        unsafe { result::event::synchronize(self.raw) }.during("cuEventSynchronize")
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.context.enter() {
            // SAFETY: made by `new`, and nobody else has it.
            let _ = unsafe { result::event::destroy(self.raw) };
        }
    }
}

/// Pinned memory in two halves, each with a mark behind the last copy that uses it.
struct Stage {
    base: *mut MaybeUninit<u8>,
    marks: [Event; 2],
    /// Which half is filled at present, and up to where. Of uploads only.
    half: usize,
    used: usize,
    context: Arc<Context>,
}

// SAFETY: the memory is `self`'s own, and pinned memory is reached from any thread.
unsafe impl Send for Stage {}

impl Stage {
    fn new(context: &Arc<Context>, flags: u32) -> Result<Stage, Error> {
        let marks = [Event::new(context)?, Event::new(context)?];
        // SAFETY: the memory is only ever read where a copy from the device has filled it.
        let base = unsafe { result::malloc_host(STAGE, flags) }.during("cuMemHostAlloc")?;
        Ok(Stage { base: base.cast(), marks, half: 0, used: 0, context: Arc::clone(context) })
    }

    /// A part of a half. The device must not be using it.
    fn part(&mut self, half: usize, start: usize, len: usize) -> &mut [MaybeUninit<u8>] {
        assert!(half < 2 && start + len <= HALF);
        // SAFETY: within the memory, by the line above; `self` is borrowed as long as the slice.
        unsafe { slice::from_raw_parts_mut(self.base.add(half * HALF + start), len) }
    }

    /// Marks the half in use and goes on to the other one, once the device is done with it.
    fn turn(&mut self) -> Result<(), Error> {
        self.marks[self.half].record()?;
        self.half = 1 - self.half;
        self.used = 0;
        self.marks[self.half].wait()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.context.settle();
        // SAFETY: from `new`; no copy from or to it is left.
        let _ = unsafe { result::free_host(self.base.cast()) };
    }
}

/// The copies of one device. Several threads may copy at once: each has a stage of its own, kept for the next.
pub(super) struct Transfer {
    context: Arc<Context>,
    uploads: Mutex<Vec<Stage>>,
    downloads: Mutex<Vec<Stage>>,
}

impl Transfer {
    pub(super) fn new(context: Arc<Context>) -> Transfer {
        Transfer { context, uploads: Mutex::default(), downloads: Mutex::default() }
    }

    /// Copies to the device. Returns when `from` has been read, not when it has arrived.
    pub(super) fn upload(&self, from: &[u8], to: u64) -> Result<(), Error> {
        if from.is_empty() {
            return Ok(());
        }
        let kept = lock(&self.uploads).pop();
        // Written by the processor and never read: write-combined memory is faster at that.
        let mut stage = match kept {
            Some(stage) => stage,
            None => Stage::new(&self.context, CU_MEMHOSTALLOC_WRITECOMBINED)?,
        };
        let mut done = 0;
        while done < from.len() {
            if stage.used >= HALF {
                stage.turn()?;
            }
            let (half, start) = (stage.half, stage.used);
            let len = PIECE.min(HALF - start).min(from.len() - done);
            let part = stage.part(half, start, len);
            copy(as_uninit(&from[done..done + len]), part);
            // Only now: while it waits for others to copy, this thread may have worked for another device.
            self.context.bind()?;
            let source = part.as_ptr().cast();
            // SAFETY: the caller gives the address of as many bytes on the device; the part is left alone until the mark
            // behind this copy has been waited for.
            let code = unsafe { sys::cuMemcpyHtoDAsync_v2(to + done as u64, source, len, self.context.stream()) };
            code.result().during("cuMemcpyHtoDAsync")?;
            // Small uploads go one behind the other, each on lines of its own, and wait for nothing.
            stage.used = (start + len).next_multiple_of(256);
            done += len;
        }
        keep(&self.uploads, stage);
        Ok(())
    }

    /// Copies to the host, and waits for it: what failed on the device until then is reported here. All of `to` is
    /// initialised when this succeeds.
    pub(super) fn download(&self, from: u64, to: &mut [MaybeUninit<u8>]) -> Result<(), Error> {
        if to.is_empty() {
            return Ok(());
        }
        let kept = lock(&self.downloads).pop();
        let mut stage = match kept {
            Some(stage) => stage,
            None => Stage::new(&self.context, 0)?,
        };
        // Several pieces where that is worth it, so that emptying one overlaps with filling the next.
        let piece = (to.len() / 4).next_multiple_of(4096).clamp(PIECE / 2, HALF);
        let pieces = to.len().div_ceil(piece);
        let range = |i: usize| i * piece..((i + 1) * piece).min(to.len());
        let all: Vec<std::ops::Range<usize>> = (0..pieces).map(range).collect();
        self.fetch(&mut stage, from, all[0].clone(), 0)?;
        for i in 0..pieces {
            if let Some(next) = all.get(i + 1) {
                // Into the half that was emptied a turn ago.
                self.fetch(&mut stage, from, next.clone(), (i + 1) % 2)?;
            }
            stage.marks[i % 2].wait()?;
            let part = stage.part(i % 2, 0, all[i].len());
            copy(part, &mut to[all[i].clone()]);
        }
        keep(&self.downloads, stage);
        Ok(())
    }

    /// Starts the copy of a range into a half, with a mark behind it.
    fn fetch(&self, stage: &mut Stage, from: u64, range: std::ops::Range<usize>, half: usize) -> Result<(), Error> {
        self.context.bind()?;
        let to = stage.part(half, 0, range.len()).as_mut_ptr().cast();
        let from = from + range.start as u64;
        // SAFETY: the caller gives the address of as many bytes on the device; nothing else uses the half until the mark
        // has been waited for.
        let code = unsafe { sys::cuMemcpyDtoHAsync_v2(to, from, range.len(), self.context.stream()) };
        code.result().during("cuMemcpyDtoHAsync")?;
        stage.marks[half].record()
    }

    /// Copies within the device.
    pub(super) fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<(), Error> {
        if bytes == 0 {
            return Ok(());
        }
        self.context.bind()?;
        // SAFETY: the caller gives addresses of as many bytes of buffers, which outlive all that is on the stream.
        unsafe { sys::cuMemcpyDtoDAsync_v2(to, from, bytes, self.context.stream()) }
            .result()
            .during("cuMemcpyDtoDAsync")
    }

    /// Sets every byte.
    pub(super) fn fill(&self, to: u64, bytes: usize, value: u8) -> Result<(), Error> {
        if bytes == 0 {
            return Ok(());
        }
        self.context.bind()?;
        // SAFETY: as above.
        unsafe { sys::cuMemsetD8Async(to, value, bytes, self.context.stream()) }.result().during("cuMemsetD8Async")
    }
}

/// Keeps pinned memory for the next copy, but not that of a crowd.
fn keep(kept: &Mutex<Vec<Stage>>, stage: Stage) {
    let mut kept = lock(kept);
    if kept.len() < 2 {
        kept.push(stage);
    }
}

/// Bytes as such that need not be initialised.
fn as_uninit(bytes: &[u8]) -> &[MaybeUninit<u8>] {
    // SAFETY: the same layout, and shared, so nothing uninitialised can be written.
    unsafe { slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) }
}

/// Copies between slices of equal length, with all threads where that is worth it.
fn copy(from: &[MaybeUninit<u8>], to: &mut [MaybeUninit<u8>]) {
    if to.len() < PARALLEL {
        to.copy_from_slice(from);
        return;
    }
    let share = to.len().div_ceil(rayon::current_num_threads().min(16)).next_multiple_of(4096);
    to.par_chunks_mut(share).zip(from.par_chunks(share)).for_each(|(to, from)| to.copy_from_slice(from));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_copies_are_whole() {
        for len in [0, 1, PARALLEL - 1, PARALLEL, PARALLEL + 4097] {
            let from: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let mut to = vec![MaybeUninit::new(0); len];
            copy(as_uninit(&from), &mut to);
            assert_eq!(initialised(&to), from);
        }
    }

    fn initialised(bytes: &[MaybeUninit<u8>]) -> Vec<u8> {
        // SAFETY: `copy` wrote all of them.
        bytes.iter().map(|byte| unsafe { byte.assume_init() }).collect()
    }
}
