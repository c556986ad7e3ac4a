//! Counts memory, and holds every input to the rule: a few bytes take little of it, whatever they claim (docs/format.md, "Limits a reader
//! imposes").

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn count(size: usize) {
    let held = HELD.fetch_add(size, Ordering::Relaxed) + size;
    PEAK.fetch_max(held, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came; counting does not touch the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises about `layout` are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises about `pointer` and `layout` are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a call on one thread may take for so many bytes of files, beside `output` that it gives.
pub fn allowed(bytes: usize, output: usize) -> usize {
    (36 << 20) + 8 * bytes + output
}

/// Runs a call, and panics where it took more than is allowed.
pub fn within<R>(bytes: usize, output: usize, call: impl FnOnce() -> R) -> R {
    let before = HELD.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let answer = call();
    let peak = PEAK.load(Ordering::Relaxed).saturating_sub(before);
    assert!(peak <= allowed(bytes, output), "{peak} bytes of memory for {bytes} bytes and {output} of answers");
    answer
}
