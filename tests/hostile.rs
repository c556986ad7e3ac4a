//! Damaged and made-up files: an error from open or verify, never a panic, never memory out of proportion.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        LazyLock, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use common::{
    Random, assert_answers, clustered, config, reference,
    sections::{Section, assemble, mutate, nasty, seal, sections},
};
use vlc::{CodeKind, Config, Error, Index, Metric, format::ParseError};
use vlc_reference::container;

/// Counts what is allocated and the most there was at a time.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came; counting does not touch the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
        // SAFETY: the caller's promises about `layout` are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises about `pointer` and `layout` are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Tests of this file run one at a time: they share the count.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The most memory that opening may take beyond what was held before.
const OPEN_MEMORY: usize = 16 << 20;

/// Opens and drops an index within the limit of memory.
#[track_caller]
fn open(bytes: &[u8]) -> Result<Index<&[u8]>, Error> {
    let before = HELD.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let index = Index::from_bytes(bytes);
    let peak = PEAK.load(Ordering::Relaxed).saturating_sub(before);
    assert!(peak < OPEN_MEMORY, "opening {} bytes took {peak} bytes of memory", bytes.len());
    index
}

/// Whether the bytes are found to be damaged.
#[track_caller]
fn refused(bytes: &[u8]) -> bool {
    open(bytes).and_then(|index| index.verify()).is_err()
}

fn make(metric: Metric, code: CodeKind, charts: usize, ratio: f64) -> Vec<u8> {
    let mut settings = Config { code, charts: Some(charts), ..config(metric, ratio) };
    settings.annealing.anchors = Some(5);
    settings.metadata = [("model".to_string(), "small".to_string())].into();
    let index = vlc::compress(clustered(21, 300, 8).view(), &settings).unwrap();
    assert!(index.bytes().len() < 8 << 10, "{} bytes", index.bytes().len());
    index.bytes().to_vec()
}

static SMALL: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    vec![
        make(Metric::Cosine, CodeKind::Chain, 1, 0.5),
        make(Metric::L2, CodeKind::Chain, 2, 0.75),
        make(Metric::Dot, CodeKind::Pq8, 1, 0.8),
    ]
});

#[test]
fn every_truncation_is_refused() {
    let _alone = alone();
    for good in SMALL.iter() {
        assert!(!refused(good));
        for len in 0..good.len() {
            let error = open(&good[..len]).expect_err("a part of a file is no file");
            assert!(matches!(error, Error::Format { .. }), "{len} bytes: {error}");
        }
        for more in [1, 64, 4096] {
            let mut longer = good.clone();
            longer.resize(good.len() + more, 0);
            assert!(matches!(open(&longer), Err(Error::Format { .. })));
        }
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let _alone = alone();
    for good in SMALL.iter() {
        // Damage to what opening reads is found by opening.
        let sections = container::sections(good).unwrap();
        let mut at_open = vec![(0, 64 + 32 * sections.len())];
        for s in &sections {
            if container::MODEL.contains(&&s.kind) {
                at_open.push((s.offset, s.offset + s.bytes.len()));
            }
        }
        let mut bad = good.clone();
        for at in 0..good.len() {
            for bit in 0..8 {
                bad[at] ^= 1 << bit;
                let opened = open(&bad);
                if at_open.iter().any(|&(from, to)| (from..to).contains(&at)) {
                    assert!(opened.is_err(), "byte {at}, bit {bit}: opened");
                } else if let Ok(index) = opened {
                    assert!(index.verify().is_err(), "byte {at}, bit {bit}: verified");
                    if at % 7 == 0 {
                        // A damaged payload gives other answers, but answers.
                        exercise(&index);
                    }
                }
                bad[at] ^= 1 << bit;
            }
        }
    }
}

/// Asks and decodes; what comes out may be wrong or an error.
fn exercise<D: AsRef<[u8]>>(index: &Index<D>) {
    let (n, dim) = (index.len(), index.dim());
    if n > 100_000 || dim > 10_000 {
        return;
    }
    let query = vec![0.5; dim];
    for k in [1, 10, n] {
        if let Ok(found) = index.query(&query, k) {
            assert_eq!(found.len(), k.min(n));
            assert!(found.iter().all(|hit| hit.id < n as u64));
        }
    }
    let decoded = index.decode(0..n.min(40)).unwrap();
    assert_eq!(decoded.dim(), dim);
    let _ = index.decode(n - 1..n).unwrap();
    let _ = index.info();
}

/// Opens, verifies and uses a made-up file; a panic names the case.
#[track_caller]
fn survives(bytes: &[u8], case: &str) -> bool {
    let outcome = catch_unwind(AssertUnwindSafe(|| match open(bytes) {
        Ok(index) => {
            let sound = index.verify().is_ok();
            exercise(&index);
            sound
        }
        Err(error) => {
            assert!(matches!(error, Error::Format { .. }));
            assert!(!error.to_string().is_empty());
            false
        }
    }));
    outcome.unwrap_or_else(|_| panic!("panicked on {case}"))
}

#[test]
fn files_are_taken_apart_and_put_together() {
    let _alone = alone();
    for good in SMALL.iter() {
        assert!(assemble(&sections(good)) == *good);
    }
}

/// Contents changed at random with the hashes made right: what the reader believes, it must survive.
#[test]
fn made_up_contents_do_no_harm() {
    let _alone = alone();
    let mut sound = 0;
    for (f, good) in SMALL.iter().enumerate() {
        let good = sections(good);
        for seed in 0..2500 {
            let mut random = Random(seed * 8 + f as u64);
            let mut bad = good.clone();
            for _ in 0..1 + random.below(2) {
                let s = random.below(bad.len());
                mutate(&mut random, &mut bad[s].2);
            }
            let case = format!("file {f}, seed {seed}");
            let bytes = assemble(&bad);
            if survives(&bytes, &case) {
                sound += 1;
                // What is sound here is sound for the reference; it knows no limits on floats.
                if let Err(e) = vlc_reference::parse(&bytes) {
                    panic!("{case}: sound here, not for the reference: {e}");
                }
            }
        }
    }
    assert!(sound > 100, "only {sound} changed files were sound: nothing is reached");
}

/// Every field of `META` at its extremes, all else as it was.
#[test]
fn extreme_facts_do_no_harm() {
    let _alone = alone();
    for (f, good) in SMALL.iter().enumerate() {
        let good = sections(good);
        let fields =
            [(0, 8), (8, 4), (12, 1), (13, 1), (14, 1), (15, 1), (16, 4), (20, 4), (24, 4), (28, 1), (29, 1)];
        for (at, width) in fields {
            for shift in 0..8 * width {
                for value in [1u64 << shift, (1u64 << shift) - 1, !0 << shift] {
                    let mut bad = good.clone();
                    bad[0].2[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
                    survives(&assemble(&bad), &format!("file {f}, META byte {at} = {value}"));
                }
            }
        }
    }
}

/// Header and table changed at random, with their hashes right.
#[test]
fn made_up_tables_do_no_harm() {
    let _alone = alone();
    for (f, good) in SMALL.iter().enumerate() {
        let count = sections(good).len();
        for seed in 0..3000 {
            let mut random = Random(seed * 8 + f as u64);
            let mut bad = good.clone();
            for _ in 0..1 + random.below(2) {
                let width = [1, 4, 8][random.below(3)];
                let at = (8 + random.below(56 + 32 * count)) / width * width;
                let value = if random.below(4) == 0 { good.len() as u64 } else { nasty(&mut random) };
                bad[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
            }
            bad[..8].copy_from_slice(&container::MAGIC);
            seal(&mut bad);
            survives(&bad, &format!("file {f}, seed {seed}"));
        }
        for kind in [b"META", b"MEAN", b"CHRT", b"ANCH", b"SIDE", b"CELL", b"ROWS", b"CODE"] {
            let less: Vec<Section> = sections(good).into_iter().filter(|s| s.0 != *kind).collect();
            let Err(Error::Format { source, .. }) = open(&assemble(&less)) else { panic!("opened without {kind:?}") };
            assert_eq!(source, ParseError::Missing(std::str::from_utf8(kind).unwrap()));
        }
    }
}

#[test]
fn unknown_sections_are_passed_over_unless_they_must_be_known() {
    let _alone = alone();
    let mut more = sections(&SMALL[0]);
    more.push((*b"XTRA", 0, b"harmless".to_vec()));
    let file = assemble(&more);
    let index = open(&file).unwrap();
    index.verify().unwrap();
    assert_eq!(index.info().sections.last().unwrap(), &("XTRA".to_string(), 8));
    more.last_mut().unwrap().1 = 1;
    let Err(Error::Format { source, .. }) = open(&assemble(&more)) else { panic!("opened") };
    assert_eq!(source, ParseError::Unknown("XTRA".into()));
    assert!(source.to_string().contains("upgrade"));
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let _alone = alone();
    for version in [2u32, 7, u32::MAX] {
        let mut newer = SMALL[0].clone();
        newer[8..12].copy_from_slice(&version.to_le_bytes());
        // Whether or not its header still hashes as ours does.
        for sealed in [false, true] {
            if sealed {
                seal(&mut newer);
            }
            let error = open(&newer).unwrap_err();
            let Error::Format { source, .. } = &error else { panic!("{error}") };
            assert_eq!(*source, ParseError::Version { found: version });
            assert!(error.to_string().contains(&version.to_string()) && error.to_string().contains("upgrade"));
        }
    }
    let mut older = SMALL[0].clone();
    older[8..12].fill(0);
    seal(&mut older);
    assert!(open(&older).is_err());
}

/// A row has no bytes at all when there is no symbol and nothing beside: sound by docs/format.md.
#[test]
fn rows_of_no_bytes_are_still_rows() {
    let _alone = alone();
    let mut parts = sections(&SMALL[0]);
    let part = |parts: &mut Vec<Section>, kind: &[u8; 4]| parts.iter().position(|s| s.0 == *kind).unwrap();
    let [meta, chrt, anch, side, code] =
        [b"META", b"CHRT", b"ANCH", b"SIDE", b"CODE"].map(|kind| part(&mut parts, kind));
    let anchors = u32::from_le_bytes(parts[meta].2[16..20].try_into().unwrap()) as usize;
    parts[meta].2[24..29].fill(0);
    parts[chrt].2 = [0u32.to_le_bytes(), 8u32.to_le_bytes()].concat();
    parts[anch].2 = vec![0; anchors.next_multiple_of(4)];
    parts[side].2.clear();
    parts[code].2.clear();
    let bytes = assemble(&parts);
    let index = open(&bytes).unwrap();
    index.verify().unwrap();
    let file = reference(&index);
    let queries = Random(1).mat(3, 8);
    for k in [1, 10, 300] {
        assert_answers(&file, queries.view(), &index.query_batch(queries.view(), k).unwrap(), k);
    }
    exercise(&index);
}

#[test]
fn mapped_files_are_checked_alike() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("small.vlc");
    for good in SMALL.iter() {
        std::fs::write(&path, good).unwrap();
        let index = Index::open(&path).unwrap();
        index.verify().unwrap();
        exercise(&index);
        drop(index);
        for len in [0, 1, 8, 63, 64, 500, good.len() - 1] {
            std::fs::write(&path, &good[..len]).unwrap();
            let error = Index::open(&path).unwrap_err();
            assert!(error.to_string().contains("small.vlc"), "{error}");
        }
        for at in (0..good.len()).step_by(61) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::write(&path, &bad).unwrap();
            assert!(Index::open(&path).and_then(|index| index.verify()).is_err(), "byte {at}");
        }
    }
    assert!(matches!(Index::open(directory.path().join("none.vlc")), Err(Error::Io { .. })));
    assert!(matches!(Index::open(directory.path()), Err(Error::Io { .. })));
}
