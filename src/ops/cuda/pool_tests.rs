use std::cell::{Cell, RefCell};

use super::*;
use crate::ops::cuda::error::is_out_of_memory;

/// A device of so many bytes.
struct Fake {
    total: u64,
    free: Cell<u64>,
    blocks: RefCell<BTreeMap<u64, usize>>,
    next: Cell<u64>,
    /// Whether it says that there is room and has none.
    lies: Cell<bool>,
}

impl Fake {
    fn new(total: u64) -> Fake {
        Fake {
            total,
            free: Cell::new(total),
            blocks: RefCell::default(),
            next: Cell::new(4096),
            lies: Cell::new(false),
        }
    }
}

impl Memory for &Fake {
    fn take(&self, bytes: usize) -> Result<Option<u64>, Error> {
        if self.lies.get() || self.free.get() < bytes as u64 {
            return Ok(None);
        }
        let pointer = self.next.get();
        self.next.set(pointer + bytes as u64);
        self.free.set(self.free.get() - bytes as u64);
        self.blocks.borrow_mut().insert(pointer, bytes);
        Ok(Some(pointer))
    }

    fn give(&self, blocks: &[u64]) {
        for block in blocks {
            let bytes = self.blocks.borrow_mut().remove(block).expect("given back once");
            self.free.set(self.free.get() + bytes as u64);
        }
    }

    fn room(&self) -> Result<(u64, u64), Error> {
        Ok((self.free.get(), self.total))
    }
}

const MIB: usize = 1 << 20;

#[test]
fn sizes_are_rounded_to_classes() {
    let cases = [
        (1, 512),
        (512, 512),
        (513, 768),
        (768, 768),
        (769, 1024),
        (1025, 1536),
        (1537, 2048),
        (48 * MIB, 48 * MIB),
        (48 * MIB + 1, 64 * MIB),
        (64 * MIB, 64 * MIB),
        (64 * MIB + 1, 66 * MIB),
        (100 * MIB, 100 * MIB),
    ];
    for (bytes, class) in cases {
        assert_eq!(size_class(bytes), Some(class), "{bytes}");
    }
    for bytes in (1..200_000).step_by(37) {
        let class = size_class(bytes).unwrap();
        assert!(class >= bytes && (class as f64 <= bytes as f64 * 1.5 || class == 512), "{bytes} {class}");
        assert_eq!(size_class(class), Some(class));
    }
    assert_eq!(size_class(usize::MAX), None);
}

#[test]
fn blocks_are_used_again() {
    let fake = Fake::new(8 << 30);
    let pool = Pool::new(&fake, None);
    let first = pool.take(1000).unwrap();
    let second = pool.take(1000).unwrap();
    assert_ne!(first.pointer, second.pointer);
    pool.give(first);
    assert_eq!(pool.take(900).unwrap(), first, "of the same class");
    let stats = Stats { in_use: 2048, cached: 0, peak: 2048, buffers: 2, allocations: 2, reuses: 1 };
    assert_eq!(pool.stats(), stats);
    pool.give(first);
    pool.give(second);
    assert_eq!(pool.stats(), Stats { in_use: 0, cached: 2048, buffers: 0, ..stats });
    pool.trim();
    assert_eq!(pool.stats(), Stats { in_use: 0, cached: 0, buffers: 0, ..stats });
    assert!(fake.blocks.borrow().is_empty());
}

#[test]
fn large_blocks_serve_slightly_smaller_requests() {
    let fake = Fake::new(8 << 30);
    let pool = Pool::new(&fake, None);
    let block = pool.take(110 * MIB).unwrap();
    pool.give(block);
    assert_eq!(pool.take(100 * MIB).unwrap(), block);
    pool.give(block);
    assert_ne!(pool.take(90 * MIB).unwrap(), block, "that would waste too much");
    assert_eq!(pool.stats().in_use, 90 * MIB as u64);
}

#[test]
fn kept_blocks_make_room() {
    let fake = Fake::new(1 << 30);
    let pool = Pool::new(&fake, None);
    let block = pool.take(600 * MIB).unwrap();
    pool.give(block);
    let block = pool.take(700 * MIB).unwrap();
    assert_eq!(block.bytes, 700 * MIB);
    assert_eq!(fake.blocks.borrow().len(), 1, "the first went back to the driver");
    let error = pool.take(400 * MIB).unwrap_err();
    assert!(is_out_of_memory(&error));
    // 1/32 of the device is kept in reserve.
    assert!(error.to_string().contains("400 MiB needed, 292 of 1024 MiB free"), "{error}");
    assert!(pool.take(292 * MIB).is_ok());
}

#[test]
fn a_refusal_of_the_driver_is_out_of_memory() {
    let fake = Fake::new(1 << 30);
    let pool = Pool::new(&fake, None);
    pool.give(pool.take(4 * MIB).unwrap());
    fake.lies.set(true);
    assert!(is_out_of_memory(&pool.take(MIB).unwrap_err()));
    assert!(fake.blocks.borrow().is_empty(), "tried again with all that was kept");
    assert!(is_out_of_memory(&pool.take(usize::MAX).unwrap_err()));
    assert_eq!(pool.stats().buffers, 0);
}

#[test]
fn a_cap_holds() {
    let fake = Fake::new(8 << 30);
    let pool = Pool::new(&fake, Some(10 << 20));
    let block = pool.take(6 * MIB).unwrap();
    let error = pool.take(6 * MIB).unwrap_err();
    assert!(error.to_string().contains("6 MiB needed, 4 of 10 MiB free"), "{error}");
    pool.give(block);
    assert!(pool.take(8 * MIB).is_ok(), "what was kept counts no more");
}

#[test]
fn everything_goes_back_with_the_pool() {
    let fake = Fake::new(1 << 30);
    let pool = Pool::new(&fake, None);
    for mib in 1..5 {
        pool.give(pool.take(mib * MIB).unwrap());
    }
    drop(pool);
    assert_eq!(fake.free.get(), fake.total);
}

#[test]
fn caps_are_parsed() {
    for (text, bytes) in [("0", 0), ("1000", 1000), ("4k", 4096), ("500M", 500 << 20), ("2g", 2 << 30)] {
        assert_eq!(parse_cap(OsStr::new(text)).unwrap(), bytes);
    }
    for text in ["m", "-1", "1.5g", "2gb", "99999999999g", "1 g"] {
        assert!(matches!(parse_cap(OsStr::new(text)), Err(Error::Config(_))), "{text}");
    }
}
