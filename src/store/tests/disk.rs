//! A disk in memory that can fail, and lose power: what was not synced may then be there, in part or not at all.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
};

use crate::file::disk::{Disk, DiskFile, Name};

/// xorshift64*, so that a seed is a history.
#[derive(Debug, Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        ((self.next() >> 32) as usize * n) >> 32
    }
}

/// What was done to a file since it was last synced.
#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Debug, Clone, Default)]
struct Inode {
    /// What programs see.
    now: Vec<u8>,
    /// What is sure to outlast a loss of power.
    synced: Vec<u8>,
    since: Vec<Change>,
}

/// Which file each name is, if any: the store's, the temporary one's.
type Names = [Option<usize>; 2];

#[derive(Debug, Default)]
struct State {
    /// How many have bytes of a file.
    lent: Rc<Cell<usize>>,
    inodes: Vec<Inode>,
    names: Names,
    /// The names as they were after each change since the folder was synced; the first are sure.
    history: Vec<Names>,
    /// Operations done.
    operations: usize,
    /// Operations from the first number on fail, up to the second.
    failing: std::ops::Range<usize>,
}

/// How writes that were not synced reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tear {
    /// Each piece of so many bytes by itself: there or not.
    Pieces(usize),
    /// In order, up to some byte.
    Prefix,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Memory(Rc<RefCell<State>>);

/// Bytes of a file, as a mapping has them: while there are any, no other file can take its place, as on Windows.
pub(super) struct Lent {
    bytes: Vec<u8>,
    count: Rc<Cell<usize>>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.count.set(self.count.get() - 1);
    }
}

pub(super) struct MemoryFile {
    disk: Memory,
    inode: usize,
}

fn slot(name: Name) -> usize {
    match name {
        Name::Store => 0,
        Name::Temporary => 1,
    }
}

impl Memory {
    /// A disk with a store on it.
    pub(super) fn with_store(bytes: Vec<u8>) -> Memory {
        let inode = Inode { now: bytes.clone(), synced: bytes, since: Vec::new() };
        let names = [Some(0), None];
        let state = State { inodes: vec![inode], names, history: vec![names], ..State::default() };
        Memory(Rc::new(RefCell::new(state)))
    }

    /// The bytes of the store.
    pub(super) fn store(&self) -> Vec<u8> {
        let state = self.0.borrow();
        state.inodes[state.names[0].unwrap()].now.clone()
    }

    pub(super) fn has_temporary(&self) -> bool {
        self.0.borrow().names[1].is_some()
    }

    pub(super) fn operations(&self) -> usize {
        self.0.borrow().operations
    }

    /// Lets the operations of these numbers, counted from the disk's first, fail.
    pub(super) fn fail(&self, numbers: std::ops::Range<usize>) {
        self.0.borrow_mut().failing = numbers;
    }

    /// Counts an operation that changes something, or fails it.
    fn operate(&self) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        let number = state.operations;
        state.operations += 1;
        match state.failing.contains(&number) {
            true => Err(io::Error::other("the disk fails")),
            false => Ok(()),
        }
    }

    /// What is on the disk after power was lost: a disk of its own.
    pub(super) fn after_power_loss(&self, random: &mut Random, tear: Tear) -> Memory {
        let state = self.0.borrow();
        let names = state.history[random.below(state.history.len())];
        let inodes = state.inodes.iter().map(|inode| {
            let bytes = inode.torn(random, tear);
            Inode { now: bytes.clone(), synced: bytes, since: Vec::new() }
        });
        let inodes = inodes.collect();
        Memory(Rc::new(RefCell::new(State { inodes, names, history: vec![names], ..State::default() })))
    }

    /// The same where everything written reached the disk in order, up to byte `bytes` of the last write that was not synced.
    pub(super) fn after_power_loss_at(&self, bytes: usize) -> Memory {
        let state = self.0.borrow();
        let names = state.names;
        let inodes = state.inodes.iter().map(|inode| {
            let mut disk = inode.synced.clone();
            for (i, change) in inode.since.iter().enumerate() {
                let most = if i + 1 == inode.since.len() { bytes } else { usize::MAX };
                apply(&mut disk, change, |at| at < most);
            }
            Inode { now: disk.clone(), synced: disk, since: Vec::new() }
        });
        let inodes = inodes.collect();
        Memory(Rc::new(RefCell::new(State { inodes, names, history: vec![names], ..State::default() })))
    }

    /// Bytes of the last write to the store that was not synced.
    pub(super) fn last_write(&self) -> usize {
        let state = self.0.borrow();
        let last = state.inodes.iter().filter_map(|inode| inode.since.last());
        last.map(|change| if let Change::Write(_, bytes) = change { bytes.len() } else { 0 }).max().unwrap_or(0)
    }
}

/// Applies the bytes of a change for which `there` says so, by their place in what was written.
fn apply(disk: &mut Vec<u8>, change: &Change, there: impl Fn(usize) -> bool) {
    match change {
        Change::Length(len) => disk.resize(*len, 0),
        Change::Write(at, bytes) => {
            for (i, byte) in bytes.iter().enumerate().filter(|(i, _)| there(*i)) {
                if disk.len() <= at + i {
                    disk.resize(at + i + 1, 0);
                }
                disk[at + i] = *byte;
            }
        }
    }
}

impl Inode {
    fn torn(&self, random: &mut Random, tear: Tear) -> Vec<u8> {
        let mut disk = self.synced.clone();
        let last = random.below(self.since.len() + 1);
        for (i, change) in self.since.iter().enumerate() {
            match tear {
                Tear::Prefix if i > last => break,
                Tear::Prefix => {
                    let most = match change {
                        Change::Write(_, bytes) if i == last => random.below(bytes.len() + 1),
                        _ => usize::MAX,
                    };
                    apply(&mut disk, change, |at| at < most);
                }
                // Shortened or not; and pieces of the file, not of what was written.
                Tear::Pieces(_) if matches!(change, Change::Length(_)) => {
                    if random.below(2) == 0 {
                        apply(&mut disk, change, |_| true);
                    }
                }
                Tear::Pieces(size) => {
                    let Change::Write(at, bytes) = change else { continue };
                    let share = random.below(5);
                    let pieces: Vec<bool> =
                        (at / size..=(at + bytes.len()) / size).map(|_| random.below(4) < share).collect();
                    let len = disk.len();
                    apply(&mut disk, change, |i| pieces[(at + i) / size - at / size]);
                    // The length may be there before what is to be in it.
                    if random.below(2) == 0 {
                        disk.resize(len.max(at + bytes.len()).max(disk.len()), 0);
                    }
                }
            }
        }
        disk
    }
}

impl Disk for Memory {
    type File = MemoryFile;

    fn open(&self, name: Name) -> io::Result<MemoryFile> {
        let inode = self.0.borrow().names[slot(name)].ok_or(io::ErrorKind::NotFound)?;
        Ok(MemoryFile { disk: self.clone(), inode })
    }

    fn create(&self, name: Name) -> io::Result<MemoryFile> {
        self.operate()?;
        let mut state = self.0.borrow_mut();
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.names[slot(name)] = Some(inode);
        let names = state.names;
        state.history.push(names);
        Ok(MemoryFile { disk: self.clone(), inode })
    }

    fn replace(&self, _: MemoryFile) -> io::Result<()> {
        self.operate()?;
        let mut state = self.0.borrow_mut();
        if state.lent.get() > 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file is mapped"));
        }
        state.names = [state.names[1], None];
        let names = state.names;
        state.history.push(names);
        Ok(())
    }

    fn remove(&self, name: Name) -> io::Result<()> {
        self.operate()?;
        let mut state = self.0.borrow_mut();
        state.names[slot(name)] = None;
        let names = state.names;
        state.history.push(names);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.operate()?;
        let mut state = self.0.borrow_mut();
        state.history = vec![state.names];
        Ok(())
    }
}

impl DiskFile for MemoryFile {
    type Bytes = Lent;

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.0.borrow().inodes[self.inode].now.len() as u64)
    }

    fn bytes(&self) -> io::Result<Lent> {
        let state = self.disk.0.borrow();
        state.lent.set(state.lent.get() + 1);
        Ok(Lent { bytes: state.inodes[self.inode].now.clone(), count: Rc::clone(&state.lent) })
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let failed = self.disk.operate();
        // A write that fails may have got somewhere, as on a full disk.
        let bytes = if failed.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        let inode = &mut self.disk.0.borrow_mut().inodes[self.inode];
        let change = Change::Write(at as usize, bytes.to_vec());
        apply(&mut inode.now, &change, |_| true);
        inode.since.push(change);
        failed
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.disk.operate()?;
        let inode = &mut self.disk.0.borrow_mut().inodes[self.inode];
        inode.now.resize(len as usize, 0);
        inode.since.push(Change::Length(len as usize));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.operate()?;
        let inode = &mut self.disk.0.borrow_mut().inodes[self.inode];
        inode.synced = inode.now.clone();
        inode.since.clear();
        Ok(())
    }
}
