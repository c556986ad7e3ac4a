//! Mapped files that another program truncates: an error of the call that reads them in place of the signal that ends the process.
//!
//! A page of a mapping that its file no longer has cannot be read: the system sends SIGBUS. Where the guard is on, its handler looks the
//! address up among the mappings of this library, marks the one it is in as damaged, puts zeros in the place of its pages from there on, and
//! returns: the reading thread goes on over zeros, and the call, which looks at the mark when its work is done, answers with an error.
//!
//! Mappings are entered in a table that the handler can read at any moment, on any thread, without a lock: a list of blocks of slots that
//! are never freed. A slot is used again, so each has a generation, odd while the slot is being changed; the handler passes over slots
//! that change while it reads them. It cannot pass over the one it looks for: whoever reads a mapping borrows it, and it is entered before
//! it can be borrowed and struck out, ahead of being unmapped, when nobody borrows it any more.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence},
};

/// Turns the death of the process by SIGBUS, when another program truncates a file that this library has mapped, into an error of the call
/// that reads it: [`Error::Format`](crate::error::Error::Format) for a `.vlc` file, [`Error::Io`](crate::error::Error::Io) for vectors. Off until it
/// is asked for, as it installs a handler for SIGBUS, once for the whole process. Faults elsewhere than in mappings of this library go
/// to the handler that was there before, or end the process as they would have.
///
/// A handler that the program installs later takes the place of this one, unless it hands on what is not its own. Returns whether the guard
/// is on: never where there are no signals (only Unix has them), and there a mapped file cannot be truncated, or whoever maps it must
/// see to it that it is not.
pub fn guard_mappings() -> bool {
    sys::install()
}

/// Where a mapping is, and whether a part of it was found missing.
struct Slot {
    /// Odd while the fields below are changed.
    generation: AtomicUsize,
    start: AtomicUsize,
    /// The first byte behind; 0 in a slot that is free.
    end: AtomicUsize,
    damaged: AtomicBool,
}

/// Slots of a block of the table.
const SLOTS: usize = 32;

struct Block {
    slots: [Slot; SLOTS],
    next: AtomicPtr<Block>,
}

impl Block {
    const fn new() -> Block {
        Block { slots: [const { Slot::free() }; SLOTS], next: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// The block behind. Blocks that are there stay.
    fn next(&self) -> Option<&'static Block> {
        // SAFETY: null, or a block that was leaked before it was stored here with `Release`.
        unsafe { self.next.load(Ordering::Acquire).as_ref() }
    }
}

static TABLE: Block = Block::new();
/// Who changes the table. The handler does not ask.
static CHANGES: Mutex<()> = Mutex::new(());

fn blocks() -> impl Iterator<Item = &'static Block> {
    std::iter::successors(Some(&TABLE), |block| block.next())
}

impl Slot {
    const fn free() -> Slot {
        Slot {
            generation: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            damaged: AtomicBool::new(false),
        }
    }

    /// Changes the slot; the caller holds [`CHANGES`].
    fn change(&self, start: usize, end: usize) {
        let generation = self.generation.load(Ordering::Relaxed);
        self.generation.store(generation.wrapping_add(1), Ordering::Relaxed);
        // Whoever sees one of the new values sees the odd generation too, or a later one.
        fence(Ordering::Release);
        self.start.store(start, Ordering::Relaxed);
        self.end.store(end, Ordering::Relaxed);
        self.damaged.store(false, Ordering::Relaxed);
        self.generation.store(generation.wrapping_add(2), Ordering::Release);
    }

    /// The end of the mapping that holds `address`, if the slot has it; `None` too while the slot is changed.
    #[cfg(unix)]
    fn end_of(&self, address: usize) -> Option<usize> {
        let generation = self.generation.load(Ordering::Acquire);
        let (start, end) = (self.start.load(Ordering::Relaxed), self.end.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let same = self.generation.load(Ordering::Relaxed) == generation && generation.is_multiple_of(2);
        (same && (start..end).contains(&address)).then_some(end)
    }
}

/// A mapping that is entered in the table, until this is dropped: which must be before it is unmapped.
pub(crate) struct Entered(Mark);

/// Tells whether a mapping is damaged, also once it is gone.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    slot: &'static Slot,
    generation: usize,
}

impl Entered {
    /// Enters the mapping of these bytes, which nobody else has seen yet.
    pub(crate) fn new(bytes: &[u8]) -> Entered {
        let _changes = CHANGES.lock().unwrap_or_else(PoisonError::into_inner);
        let free = |block: &'static Block| block.slots.iter().find(|slot| slot.end.load(Ordering::Relaxed) == 0);
        let slot = blocks().find_map(free).unwrap_or_else(|| {
            let block: &'static Block = Box::leak(Box::new(Block::new()));
            let last = blocks().last().unwrap_or(&TABLE);
            last.next.store(std::ptr::from_ref(block).cast_mut(), Ordering::Release);
            &block.slots[0]
        });
        let start = bytes.as_ptr() as usize;
        slot.change(start, start + bytes.len());
        Entered(Mark { slot, generation: slot.generation.load(Ordering::Relaxed) })
    }

    pub(crate) fn mark(&self) -> Mark {
        self.0
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let _changes = CHANGES.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.slot.change(0, 0);
    }
}

impl Mark {
    /// Whether a part of the mapping was missing when it was read: what was read there were zeros.
    pub(crate) fn is_damaged(&self) -> bool {
        let damaged = self.slot.damaged.load(Ordering::Acquire);
        damaged && self.slot.generation.load(Ordering::Acquire) == self.generation
    }
}

impl std::fmt::Debug for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mark").field("damaged", &self.is_damaged()).finish()
    }
}

impl std::fmt::Debug for Entered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(not(unix))]
mod sys {
    pub(super) fn install() -> bool {
        false
    }
}

#[cfg(unix)]
mod sys {
    use std::{
        ffi::{c_int, c_void},
        ptr,
        sync::{
            Once, OnceLock,
            atomic::{AtomicBool, AtomicUsize, Ordering},
        },
    };

    use libc::{SA_ONSTACK, SA_SIGINFO, SIG_DFL, SIG_IGN, SIGBUS, sighandler_t, siginfo_t};

    type Handler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);
    type OldHandler = extern "C" fn(c_int);

    /// What was done about SIGBUS before; set ahead of the handler.
    static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();
    static PAGE: AtomicUsize = AtomicUsize::new(0);
    static ON: AtomicBool = AtomicBool::new(false);

    pub(super) fn install() -> bool {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // SAFETY: sigaction is a plain structure for which zeros are valid, and it is filled in by the call before it is used; the
            // handler has the signature that SA_SIGINFO asks for, and does only what may be done in a handler (see there).
            unsafe {
                PAGE.store(usize::try_from(libc::sysconf(libc::_SC_PAGESIZE)).unwrap_or(0), Ordering::Relaxed);
                let mut before: libc::sigaction = std::mem::zeroed();
                if PAGE.load(Ordering::Relaxed) == 0 || libc::sigaction(SIGBUS, ptr::null(), &raw mut before) != 0 {
                    return;
                }
                BEFORE.get_or_init(|| before);
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = on_bus_error as Handler as sighandler_t;
                // On the thread's own stack for signals, if it has one; a read that goes on after the fault needs no more.
                action.sa_flags = SA_SIGINFO | SA_ONSTACK;
                libc::sigemptyset(&raw mut action.sa_mask);
                ON.store(libc::sigaction(SIGBUS, &raw const action, ptr::null_mut()) == 0, Ordering::Relaxed);
            }
        });
        ON.load(Ordering::Relaxed)
    }

    /// Calls nothing but atomics, mmap, sigaction and raise, which do not allocate or lock. Mmap leaves errno alone where it succeeds, and
    /// where it fails the thread does not go on.
    extern "C" fn on_bus_error(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
        // SAFETY: with SA_SIGINFO the system hands over a valid siginfo, whose address is that of the fault where the code is above
        // 0 (else a process sent the signal, and there is no address).
        let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
        if code <= 0 || !replace(address) {
            hand_on(signal, code, info, context);
        }
    }

    /// Puts zeros in the place of what is left of a mapping of ours from the page of `address` on; false where there is none.
    fn replace(address: usize) -> bool {
        let found =
            super::blocks().flat_map(|block| &block.slots).find_map(|slot| Some((slot, slot.end_of(address)?)));
        let Some((slot, end)) = found else { return false };
        let from = address & !(PAGE.load(Ordering::Relaxed) - 1);
        // Before the zeros are there for others to read.
        slot.damaged.store(true, Ordering::Release);
        // SAFETY: the pages from `from` to `end` (which the system rounds up) are of a read-only mapping of this library, which is there
        // as long as its slot says so, and the thread that reads `address` borrows it. A file that lacks the page of `address` lacks those
        // behind it, so nothing is taken away but pages that cannot be read; and where only a part cannot be read, as on a broken disk,
        // the rest is not needed, as every call that reads this mapping fails from now on. Others that read there see bytes that
        // change, as they may where a file is mapped.
        let mapped = unsafe {
            libc::mmap(
                from as *mut c_void,
                end - from,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_ANON,
                -1,
                0,
            )
        };
        mapped != libc::MAP_FAILED
    }

    /// Does what would have been done without this handler.
    fn hand_on(signal: c_int, code: c_int, info: *mut siginfo_t, context: *mut c_void) {
        let Some(before) = BEFORE.get() else { return };
        match before.sa_sigaction {
            // A fault cannot be ignored.
            SIG_IGN if code <= 0 => {}
            // SAFETY: as in `install`. The instruction that failed is run again when this returns and ends the process, now by default;
            // a signal that was sent is sent again.
            SIG_DFL | SIG_IGN => unsafe {
                let mut default: libc::sigaction = std::mem::zeroed();
                default.sa_sigaction = SIG_DFL;
                libc::sigaction(signal, &raw const default, ptr::null_mut());
                if code <= 0 {
                    libc::raise(signal);
                }
            },
            handler if before.sa_flags & SA_SIGINFO != 0 => {
                // SAFETY: whoever installed it said that it has this signature.
                let handler: Handler = unsafe { std::mem::transmute::<sighandler_t, Handler>(handler) };
                handler(signal, info, context);
            }
            handler => {
                // SAFETY: as above, without SA_SIGINFO.
                let handler: OldHandler = unsafe { std::mem::transmute::<sighandler_t, OldHandler>(handler) };
                handler(signal);
            }
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn find(address: usize) -> Option<usize> {
        blocks().flat_map(|block| &block.slots).find_map(|slot| slot.end_of(address))
    }

    #[test]
    fn mappings_are_found_while_they_are_entered() {
        let bytes: Vec<Vec<u8>> = (0..3 * SLOTS).map(|i| vec![0; 100 + i]).collect();
        let mut entered: Vec<Option<Entered>> = bytes.iter().map(|b| Some(Entered::new(b))).collect();
        for removed in (0..bytes.len()).rev() {
            for (i, bytes) in bytes.iter().enumerate() {
                let start = bytes.as_ptr() as usize;
                let end = start + bytes.len();
                let expected = (i <= removed).then_some(end);
                assert_eq!([find(start), find(end - 1)], [expected; 2], "mapping {i}, {removed} left");
                assert_ne!(find(end), Some(end), "the first byte behind");
            }
            let mark = entered[removed].as_ref().unwrap().mark();
            mark.slot.damaged.store(true, Ordering::Release);
            assert!(mark.is_damaged());
            entered[removed] = None;
            // The slot is another's by and by, which has no damage.
            assert!(!mark.is_damaged());
            let again = Entered::new(&bytes[removed]);
            assert!(!again.mark().is_damaged() && !mark.is_damaged());
        }
    }

    /// Whoever looks while slots change finds the mapping that is there all along, and none that is half of one and half of another.
    #[test]
    fn changes_do_not_hide_what_is_there() {
        let stays = vec![0u8; 4096];
        let others: Vec<Vec<u8>> = (0..8).map(|i| vec![0; 1 + 997 * i]).collect();
        let _entered = Entered::new(&stays);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for changed in others.chunks(4) {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        changed.iter().for_each(|bytes| drop(Entered::new(bytes)));
                    }
                });
            }
            let start = stays.as_ptr() as usize;
            for i in 0..200_000 {
                assert_eq!(find(start + i % 4096), Some(start + 4096));
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
