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
    Random, assert_answers, assert_store_answers, assert_store_rows, clustered, config, reference,
    sections::{
        SLOTS_END, Section, assemble, assemble_as, assemble_v1, hist, mutate, nasty, part, seal, section, sections,
        segm, tomb,
    },
};
use vlc::{CodeKind, Config, EncodeOptions, Error, Ids, Index, Metric, ParseError, Store};
use vlc_reference::{
    container,
    header::{self, Fields, Slot, slot_bytes},
};

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

/// Rows of a small file.
const ROWS: usize = 300;

fn make(metric: Metric, code: CodeKind, charts: usize, ratio: f64, ids: Option<&Ids>) -> Vec<u8> {
    let mut settings = Config { code, ids, charts: Some(charts), ..config(metric, ratio) };
    settings.annealing.anchors = Some(5);
    settings.metadata = [("model".to_string(), "small".to_string())].into();
    let index = vlc::compress(clustered(21, ROWS, 8).view(), &settings).unwrap();
    assert!(index.bytes().len() < 14 << 10, "{} bytes", index.bytes().len());
    index.bytes().to_vec()
}

fn is_model(s: &Section) -> bool {
    s.segment == 0 && container::OF_FILE.contains(&&s.kind)
}

/// Two segments of the same rows, some of the first deleted, with a history and bytes of an earlier commit.
fn two_segments(one: &[u8]) -> Vec<u8> {
    let mut all = sections(one);
    let again: Vec<Section> =
        all.iter().filter(|s| !is_model(s)).map(|s| Section { segment: 1, ..s.clone() }).collect();
    all.push(section(b"TOMB", 0, tomb(ROWS, &[0, 5, 6, 7, 64, 100, 101, 102, 255, 298, 299])));
    all.push(section(b"DEAD", 3, b"what an earlier commit had".to_vec()));
    let segment = all.len();
    all.extend(again);
    *part(&mut all[segment..], b"SEGM") = segm(ROWS as u64, ROWS as u64, ROWS as u64);
    all.push(section(b"HIST", 0, hist(&[(300, 200, 1 << 31), (500, 100, 1 << 80)])));
    assemble(&all)
}

/// A file that was appended to, as it is before and after rows are deleted: the second has a slot and bytes more.
fn grown(one: &[u8]) -> [Vec<u8>; 2] {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("grown.vlc");
    std::fs::write(&path, one).unwrap();
    let mut store = Store::open(&path).unwrap();
    store.append(&clustered(22, 70, 8).view(), &EncodeOptions::default()).unwrap();
    let before = std::fs::read(&path).unwrap();
    store.delete(&(280..330).collect()).unwrap();
    [before, std::fs::read(&path).unwrap()]
}

static SMALL: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let plain = make(Metric::Cosine, CodeKind::Chain, 1, 0.5, None);
    let numbers: Ids = (0..ROWS as u64).map(|i| (i * 7919) % 5003 + ((i / 200) << 40)).collect();
    let text: Ids = (0..ROWS).map(|i| format!("row {i}{}", "é".repeat(i % 4))).collect();
    let model: Vec<Section> = sections(&plain).into_iter().filter(is_model).collect();
    let [appended, deleted] = grown(&plain);
    vec![
        make(Metric::L2, CodeKind::Chain, 2, 0.75, None),
        make(Metric::Dot, CodeKind::Pq8, 1, 0.8, None),
        make(Metric::Cosine, CodeKind::Chain, 1, 0.6, Some(&numbers)),
        make(Metric::Cosine, CodeKind::Chain, 1, 0.9, Some(&text)),
        two_segments(&plain),
        assemble(&model),
        appended,
        deleted,
        plain,
    ]
});

/// The one of them that is of one segment and one commit, without anything beside.
fn plain() -> &'static Vec<u8> {
    &SMALL[SMALL.len() - 1]
}

/// Files that earlier builds wrote, of every version.
static GOLDEN: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut paths = common::listing(&directory);
    paths.retain(|path| path.extension().is_some_and(|e| e == "vlc"));
    let files: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(files.len() >= 9 && files.iter().all(|file| file.len() <= 32 << 10));
    files
});

fn version(file: &[u8]) -> u8 {
    file[8]
}

/// Everything that an index answers about a few queries.
fn answers(index: &Index<&[u8]>) -> Vec<Vec<vlc::Hit>> {
    let queries = Random(8).mat(3, index.dim());
    (0..3).map(|q| index.query(queries.row(q), 20).unwrap()).collect()
}

#[test]
fn every_truncation_is_refused() {
    let _alone = alone();
    for good in SMALL.iter().chain(GOLDEN.iter()) {
        let index = open(good).unwrap();
        index.verify().unwrap();
        let expected = answers(&index);
        for len in 0..good.len() {
            let error = open(&good[..len]).expect_err("a part of a file is no file");
            assert!(matches!(error, Error::Format { .. }), "{len} bytes: {error}");
        }
        for more in [1, 64, 4096] {
            for fill in [0, 0xA5] {
                let mut longer = good.clone();
                longer.resize(good.len() + more, fill);
                if version(good) == 1 {
                    assert!(matches!(open(&longer), Err(Error::Format { .. })));
                    continue;
                }
                // What stands behind a commit is none of it.
                let index = open(&longer).unwrap();
                index.verify().unwrap();
                assert_eq!(index.bytes().len(), good.len());
                assert_eq!(answers(&index), expected);
            }
        }
    }
}

/// The parts of a file that opening checks.
fn checked_at_open(file: &[u8]) -> Vec<std::ops::Range<usize>> {
    let container = container::open(file).unwrap();
    let commit = &container.commit;
    let header = if version(file) == 1 { 64 } else { SLOTS_END };
    let mut parts = vec![0..header, commit.table..commit.table + 32 * commit.entries];
    let open = container.sections.iter().filter(|s| container::AT_OPEN.contains(&&s.kind));
    parts.extend(open.map(|s| s.offset..s.offset + s.bytes.len()));
    parts
}

#[test]
fn every_flipped_bit_is_found() {
    let _alone = alone();
    let mut used = 0;
    for (f, good) in SMALL.iter().chain(GOLDEN.iter()).enumerate() {
        // Damage to what opening reads is found by opening.
        let at_open = checked_at_open(good);
        let mut bad = good.clone();
        for at in 0..good.len() {
            for bit in 0..8 {
                bad[at] ^= 1 << bit;
                let opened = open(&bad);
                if at_open.iter().any(|part| part.contains(&at)) {
                    assert!(matches!(opened, Err(Error::Format { .. })), "file {f}, byte {at}, bit {bit}: opened");
                } else if let Ok(index) = opened {
                    assert!(index.verify().is_err(), "file {f}, byte {at}, bit {bit}: verified");
                    if (8 * at + bit) % 61 == 0 {
                        // A damaged payload gives other answers, but answers.
                        exercise(&index);
                        used += 1;
                    }
                }
                bad[at] ^= 1 << bit;
            }
        }
    }
    assert!(used > 1000, "{used} damaged files were used");
}

/// Any number of bytes of a slot written over the one before: the file is as before or as after.
#[test]
fn torn_slots_leave_a_commit() {
    let _alone = alone();
    let [before, after] = &SMALL[SMALL.len() - 3..SMALL.len() - 1] else { panic!() };
    let generation = |file: &[u8]| header::commit(file).unwrap().generation;
    assert_eq!([generation(before), generation(after)], [2, 3]);
    let slot = 64 + 64 * (generation(after) as usize % 2);
    let rows = [open(before).unwrap().len(), open(after).unwrap().len()];
    assert_eq!(rows, [370, 320]);
    let (mut old, mut new, mut random) = (0, 0, Random(5));
    for tear in 0..500 {
        let mut torn = after.clone();
        for i in 0..64 {
            // From the front, from the back, then any bytes.
            let is_new = match tear {
                0..=64 => i < tear,
                65..=129 => i >= tear - 65,
                _ => random.below(2) == 0,
            };
            torn[slot + i] = if is_new { after[slot + i] } else { before[slot + i] };
        }
        let index = open(&torn).unwrap();
        index.verify().unwrap();
        let commit = header::commit(&torn).unwrap();
        assert_eq!(index.len(), rows[commit.generation as usize - 2], "tear {tear}");
        if commit.generation == 2 {
            old += 1
        } else {
            new += 1
        }
        // Damage is damage, also where a slot is torn.
        let bit = random.below(8 * SLOTS_END);
        torn[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&torn).is_err(), "tear {tear}, bit {bit}");
    }
    assert!(old > 100 && new > 1, "{old} torn, {new} whole");
}

/// Asks and decodes; what comes out may be wrong or an error.
fn exercise<D: AsRef<[u8]>>(index: &Index<D>) {
    let (n, dim) = (index.len(), index.dim());
    let query = vec![0.5; dim];
    for k in [1, 10, n] {
        if let Ok(found) = index.query(&query, k) {
            assert!(found.len() <= k.min(n));
            found.iter().for_each(|hit| _ = index.text_id(hit.id));
        }
    }
    let decoded = index.decode(0..n.min(40)).unwrap();
    assert_eq!(decoded.dim(), dim);
    let _ = index.decode(n.max(1) - 1..n).unwrap();
    match index.ids(0..n) {
        Ok(ids) => assert!(ids.len() <= n),
        Err(error) => assert!(matches!(error, Error::Format { .. }) && index.verify().is_err(), "{error}"),
    }
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
    for good in SMALL.iter().chain(GOLDEN.iter()) {
        let again = assemble_as(version(good).into(), &sections(good));
        // Only the slots know how many commits there were.
        let header = if version(good) > 1 { 64 } else { 0 };
        assert!(again[..header] == good[..header]);
        let from = if container::open(good).unwrap().commit.generation == 1 { 0 } else { SLOTS_END };
        assert!(again[from..] == good[from..]);
    }
}

/// Every kind of file answers as the reference does.
#[test]
fn segments_answer_as_the_reference_does() {
    let _alone = alone();
    let queries = Random(4).mat(5, 8);
    for (f, good) in SMALL.iter().enumerate() {
        let index = open(good).unwrap();
        let store = vlc_reference::Store::parse(good).unwrap();
        assert!(store.ids_differ());
        assert_store_rows(&index, &store);
        for k in [1, 10, 1000] {
            assert_store_answers(&store, queries.view(), &index.query_batch(queries.view(), k).unwrap(), k);
        }
        let expected = [300, 300, 300, 300, 589, 0, 370, 320, 300];
        assert_eq!(index.len(), expected[f], "file {f}");
    }
}

/// Rows few among very many numbers, as a file has after most were deleted: as quick as others.
#[test]
fn rows_far_apart_are_found() {
    let _alone = alone();
    let cell = |first: u64| -> Vec<u8> { (0..=5).flat_map(|k| (first * k.min(1)).to_le_bytes()).collect() };
    for (span, n) in [(1u64 << 40, 0), (1 << 40, 3), (1 << 33, 3), (1 << 21, 3), (1 << 20, 300)] {
        let mut parts = sections(plain());
        *part(&mut parts, b"SEGM") = segm(n, 0, span);
        *part(&mut parts, b"CELL") = cell(n);
        let rows: Vec<usize> = (1..=n).map(|i| (span / n * i) as usize - 1).collect();
        *part(&mut parts, b"ROWS") = vlc_reference::rows::cell_bytes(span as usize, &rows);
        let block = part(&mut parts, b"CODE").len() / 10;
        let code = part(&mut parts, b"CODE");
        code.truncate(block * n.div_ceil(32) as usize);
        // The places behind the last row are zero.
        code.fill(0);
        let bytes = assemble(&parts);
        let index = open(&bytes).unwrap();
        index.verify().unwrap();
        exercise(&index);
        let ids: Ids = rows.iter().map(|&row| row as u64).collect();
        assert_eq!(index.ids(0..n as usize).unwrap(), ids);
        let mut found: Vec<u64> = index.query(&[1.0; 8], 400).unwrap().iter().map(|hit| hit.id).collect();
        found.sort_unstable();
        assert_eq!(Ids::Numbers(found), ids);
        if span <= 1 << 21 {
            assert_store_rows(&index, &vlc_reference::Store::parse(&bytes).unwrap());
        }
    }
    // The same row in two cells.
    let mut parts = sections(plain());
    *part(&mut parts, b"SEGM") = segm(2, 0, 1 << 40);
    *part(&mut parts, b"CELL") = [0u64, 1, 2, 2, 2, 2].iter().flat_map(|k| k.to_le_bytes()).collect();
    *part(&mut parts, b"ROWS") = vlc_reference::rows::cell_bytes(1 << 40, &[77]).repeat(2);
    let code = part(&mut parts, b"CODE");
    code.truncate(code.len() / 10);
    code.fill(0);
    let error = open(&assemble(&parts)).unwrap().verify().unwrap_err();
    assert!(error.to_string().contains("two cells"), "{error}");
}

/// Contents changed at random with the hashes made right: what the reader believes, it must survive.
#[test]
fn made_up_contents_do_no_harm() {
    let _alone = alone();
    let mut sound = 0;
    for (f, file) in SMALL.iter().chain(&GOLDEN[..2]).enumerate() {
        let good = sections(file);
        let assemble = |parts: &[Section]| assemble_as(version(file).into(), parts);
        for seed in 0..2500 {
            let mut random = Random(seed * 16 + f as u64);
            let mut bad = good.clone();
            for _ in 0..1 + random.below(2) {
                let s = random.below(bad.len());
                mutate(&mut random, &mut bad[s].bytes);
            }
            let case = format!("file {f}, seed {seed}");
            let bytes = assemble(&bad);
            if survives(&bytes, &case) {
                sound += 1;
                // What is sound here is sound for the reference; it knows no limits on floats.
                match vlc_reference::Store::parse(&bytes) {
                    Ok(store) => assert_eq!(open(&bytes).unwrap().len(), store.rows.len(), "{case}"),
                    Err(e) if e.contains("for the oracle") => (),
                    Err(e) => panic!("{case}: sound here, not for the reference: {e}"),
                }
            }
        }
    }
    assert!(sound > 100, "only {sound} changed files were sound: nothing is reached");
}

/// Every field of `META` and `SEGM` and the first ones of others at their extremes, all else as it was.
#[test]
fn extreme_facts_do_no_harm() {
    let _alone = alone();
    let meta = [(0, 8), (8, 4), (12, 1), (13, 1), (14, 1), (15, 1), (16, 4), (20, 4), (24, 4), (28, 1), (29, 1)];
    type Fields<'a> = (&'a [u8; 4], &'a [(usize, usize)]);
    let fields: [Fields<'_>; 7] = [
        (b"META", &meta),
        (b"SEGM", &[(0, 8), (8, 8), (16, 8), (24, 8)]),
        (b"TOMB", &[(0, 8)]),
        (b"HIST", &[(0, 8), (8, 8), (16, 8), (24, 8)]),
        (b"IDSU", &[(0, 8), (8, 8), (24, 8)]),
        (b"IDSS", &[(0, 8), (8, 8), (16, 8), (32, 8)]),
        (b"CELL", &[(0, 8), (8, 8), (40, 8)]),
    ];
    for (f, good) in SMALL.iter().enumerate() {
        let good = sections(good);
        for (s, fields) in good.iter().enumerate().filter_map(|(s, section)| {
            fields.iter().find(|(kind, _)| **kind == section.kind).map(|(_, fields)| (s, *fields))
        }) {
            for &(at, width) in fields {
                for shift in 0..8 * width {
                    for value in [1u64 << shift, (1u64 << shift) - 1, !0 << shift] {
                        let mut bad = good.clone();
                        bad[s].bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
                        survives(&assemble(&bad), &format!("file {f}, section {s}, byte {at} = {value}"));
                    }
                }
            }
        }
    }
}

/// Header, slots and table changed at random, with their hashes right.
#[test]
fn made_up_tables_do_no_harm() {
    let _alone = alone();
    for (f, good) in SMALL.iter().chain(&GOLDEN[..2]).enumerate() {
        let commit = header::commit(good).unwrap();
        for seed in 0..3000 {
            let mut random = Random(seed * 16 + f as u64);
            let mut bad = good.clone();
            for _ in 0..1 + random.below(2) {
                let value = if random.below(4) == 0 { good.len() as u64 } else { nasty(&mut random) };
                let slot = 64 + 64 * random.below(2);
                if commit.version > 1 && random.below(4) == 0 {
                    let found = header::slot(&bad[slot..slot + 64], commit.version);
                    let Slot::Valid(mut fields) = found else { continue };
                    match random.below(4) {
                        0 => fields.generation = value,
                        1 => fields.table = value,
                        2 => fields.features = value,
                        _ => fields.entries = value as u32,
                    }
                    bad[slot..slot + 64].copy_from_slice(&slot_bytes(commit.version, fields));
                    continue;
                }
                let width = [1, 4, 8][random.below(3)];
                // The header in front of its hash, or the table.
                let places = 48 + 32 * commit.entries;
                let at = random.below(places);
                let at = if at < 48 { 8 + at } else { commit.table + at - 48 } / width * width;
                bad[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
            }
            bad[..8].copy_from_slice(&header::MAGIC);
            seal(&mut bad);
            survives(&bad, &format!("file {f}, seed {seed}"));
        }
    }
}

#[test]
fn missing_sections_are_named() {
    let _alone = alone();
    let (old, new) = (&GOLDEN[0], plain());
    assert_eq!([version(old), version(new)], [1, 3]);
    for kind in [b"META", b"MEAN", b"CHRT", b"ANCH", b"SIDE", b"CELL", b"ROWS", b"CODE"] {
        let without = |file| -> Vec<Section> { sections(file).into_iter().filter(|s| s.kind != *kind).collect() };
        for bytes in [assemble(&without(new)), assemble_v1(&without(old))] {
            let Err(Error::Format { source, .. }) = open(&bytes) else { panic!("opened without {kind:?}") };
            assert_eq!(source, ParseError::Missing(std::str::from_utf8(kind).unwrap()));
        }
    }
    let both = &SMALL[4];
    for (s, of) in sections(both).iter().enumerate() {
        let mut less = sections(both);
        less.remove(s);
        let opens = open(&assemble(&less)).is_ok_and(|index| index.verify().is_ok());
        assert_eq!(opens, [b"KEYV", b"TOMB", b"HIST", b"DEAD"].contains(&&of.kind), "without {of:?}");
    }
}

/// Sections where they do not belong.
#[test]
fn misplaced_sections_are_refused() {
    let _alone = alone();
    let both = sections(&SMALL[4]);
    let refused_with = |more: Vec<Section>| {
        let mut all = both.clone();
        all.extend(more);
        let bytes = assemble(&all);
        assert!(vlc_reference::Store::parse(&bytes).is_err());
        matches!(open(&bytes), Err(Error::Format { .. }))
    };
    // For all rows, but of a segment; of a segment that is not there; twice; ids of one segment, or of both kinds.
    assert!(refused_with(vec![section(b"MEAN", 1, vec![])]));
    assert!(refused_with(vec![section(b"TOMB", 2, vec![])]));
    assert!(refused_with(vec![section(b"SEGM", 3, segm(1, 600, 1))]));
    assert!(refused_with(vec![section(b"TOMB", 0, tomb(ROWS, &[1]))]));
    let [numbers, text] = [(2, b"IDSU"), (3, b"IDSS")].map(|(f, kind)| part(&mut sections(&SMALL[f]), kind).clone());
    let ids = |segment| section(b"IDSU", segment, numbers.clone());
    assert!(refused_with(vec![ids(0)]) && refused_with(vec![ids(1)]));
    let strings = |segment| section(b"IDSS", segment, text.clone());
    assert!(refused_with(vec![ids(0), strings(1)]));
    assert!(refused_with(vec![ids(0), strings(0), ids(1), strings(1)]));
    // The model twice: here and in another file.
    assert!(refused_with(vec![section(b"MREF", 0, [&[0; 16][..], b"other.vlc"].concat())]));
    // Unknown ones may be of any segment.
    let mut more = both.clone();
    more.extend([section(b"XTRA", 9, vec![1]), section(b"DEAD", 300, vec![]), section(b"DEAD", 300, vec![2])]);
    open(&assemble(&more)).unwrap().verify().unwrap();
    // Segments that leave row numbers out, overlap, or end beyond all numbers.
    for second in
        [segm(300, 301, 300), segm(300, 299, 300), segm(300, 300, 1 << 40), segm(0, 300, 0), segm(300, 300, 299)]
    {
        let mut bad = both.clone();
        bad.iter_mut().filter(|s| s.kind == *b"SEGM" && s.segment == 1).for_each(|s| s.bytes = second.clone());
        assert!(matches!(open(&assemble(&bad)), Err(Error::Format { .. })), "{second:?}");
        assert!(vlc_reference::Store::parse(&assemble(&bad)).is_err());
    }
    // What came with version 3 does not stand in version 2.
    for kind in [b"FEAT", b"SUMS"] {
        let bytes = assemble_as(2, &[both.clone(), vec![section(kind, 0, vec![])]].concat());
        assert!(vlc_reference::Store::parse(&bytes).is_err());
        assert!(matches!(open(&bytes), Err(Error::Format { .. })));
    }
    // What came with version 2 does not stand in version 1.
    for kind in [b"SEGM", b"TOMB", b"IDSU", b"IDSS", b"HIST", b"MREF", b"DEAD", b"SUMS"] {
        let mut old = sections(&GOLDEN[0]);
        old.push(section(kind, 0, vec![]));
        assert!(matches!(open(&assemble_v1(&old)), Err(Error::Format { .. })));
    }
}

#[test]
fn segments_are_limited() {
    let _alone = alone();
    let parts = sections(plain());
    let of = |count: u16| {
        let mut all: Vec<Section> = parts.iter().filter(|s| is_model(s)).cloned().collect();
        for segment in 0..count {
            let first = u64::from(segment);
            all.push(section(b"SEGM", segment, segm(0, first, 1)));
            all.push(section(b"CELL", segment, vec![0; part(&mut parts.clone(), b"CELL").len()]));
            all.extend([section(b"ROWS", segment, vec![]), section(b"CODE", segment, vec![])]);
        }
        assemble(&all)
    };
    let most = of(256);
    let index = open(&most).unwrap();
    index.verify().unwrap();
    assert_eq!(index.len(), 0);
    exercise(&index);
    assert!(vlc_reference::Store::parse(&most).unwrap().rows.is_empty());
    assert!(matches!(open(&of(257)), Err(Error::Format { .. })));
}

/// A file whose model is in another one.
#[test]
fn models_of_their_own() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let [path, beside, elsewhere] = ["rows.vlc", "model.vlc", "moved.vlc"].map(|name| directory.path().join(name));
    let whole = sections(&SMALL[4]);
    let model_kind = |s: &Section| container::MODEL.contains(&&s.kind);
    let model = assemble(&whole.iter().filter(|s| model_kind(s) || s.kind == *b"META").cloned().collect::<Vec<_>>());
    let hash = |meta: &[u8], model: &[u8]| {
        vlc_reference::store::model_hash(meta, &container::open(model).unwrap()).unwrap().to_le_bytes()
    };
    let meta = part(&mut whole.clone(), b"META").clone();
    let mref = |name: &[u8]| section(b"MREF", 0, [&hash(&meta, &model)[..], name].concat());
    let with = |mref: Section| -> Vec<u8> {
        let mut all: Vec<Section> = whole.iter().filter(|s| !model_kind(s)).cloned().collect();
        all.push(mref);
        assemble(&all)
    };
    let bytes = with(mref(b"model.vlc"));
    std::fs::write(&path, &bytes).unwrap();

    // The bytes alone say what they need.
    let Err(Error::Format { source: ParseError::Model { name, hash: found }, .. }) = open(&bytes) else { panic!() };
    assert_eq!((name.as_str(), found.to_le_bytes()), ("model.vlc", hash(&meta, &model)));
    assert!(vlc_reference::Store::parse(&bytes).is_err());
    assert!(matches!(Index::open(&path), Err(Error::Format { source: ParseError::Model { .. }, .. })));
    let store = vlc_reference::Store::parse_with_model(&bytes, &model).unwrap();
    let same = |index: &Index<Vec<u8>>| {
        index.verify().unwrap();
        assert_store_rows(index, &store);
        let queries = Random(6).mat(3, 8);
        assert_store_answers(&store, queries.view(), &index.query_batch(queries.view(), 10).unwrap(), 10);
    };
    std::fs::write(&beside, &model).unwrap();
    same(&Index::read(&path).unwrap());
    std::fs::rename(&beside, &elsewhere).unwrap();
    assert!(Index::read(&path).is_err());
    same(&Index::read_with_model(&path, &elsewhere).unwrap());

    // Another model, parts of one, damage to one.
    for other in [&SMALL[0], &SMALL[1], &GOLDEN[0], &bytes] {
        std::fs::write(&elsewhere, other).unwrap();
        assert!(matches!(Index::read_with_model(&path, &elsewhere), Err(Error::Format { .. })));
        assert!(vlc_reference::Store::parse_with_model(&bytes, other).is_err());
    }
    for len in (0..model.len()).step_by(97) {
        std::fs::write(&elsewhere, &model[..len]).unwrap();
        assert!(matches!(Index::read_with_model(&path, &elsewhere), Err(Error::Format { .. })), "{len} bytes");
    }
    let parts: Vec<_> = container::sections(&model).unwrap();
    let parts = parts.iter().filter(|s| container::MODEL.contains(&&s.kind));
    let bytes_of_parts: Vec<usize> = parts.flat_map(|s| s.offset..s.offset + s.bytes.len()).collect();
    for &at in (0..SLOTS_END).collect::<Vec<_>>().iter().chain(&bytes_of_parts).step_by(5) {
        let mut bad = model.clone();
        bad[at] ^= 1 << (at % 8);
        std::fs::write(&elsewhere, &bad).unwrap();
        assert!(matches!(Index::read_with_model(&path, &elsewhere), Err(Error::Format { .. })), "byte {at}");
    }

    // Names that would lead elsewhere, or are none.
    std::fs::write(&elsewhere, &model).unwrap();
    let long = [b'a'; 256];
    for name in [&b""[..], b".", b"..", b"../model.vlc", b"a/b", b"a\\b", b"a\0", b"\xff", &long] {
        std::fs::write(&path, with(mref(name))).unwrap();
        let error = Index::read_with_model(&path, &elsewhere).unwrap_err();
        assert!(error.to_string().contains("MREF"), "{name:?}: {error}");
    }
    for len in [0, 15, 16] {
        let mut short = mref(b"model.vlc");
        short.bytes.truncate(len);
        std::fs::write(&path, with(short)).unwrap();
        assert!(matches!(Index::read_with_model(&path, &elsewhere), Err(Error::Format { .. })));
    }
    // Every bit of the hash counts, and so do the facts beside it.
    for bit in 0..128 {
        let mut other = mref(b"model.vlc");
        other.bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, with(other)).unwrap();
        assert!(matches!(Index::read_with_model(&path, &elsewhere), Err(Error::Format { .. })));
    }
    let mut other: Vec<Section> = sections(&bytes);
    part(&mut other, b"META")[64] ^= 1;
    std::fs::write(&path, assemble(&other)).unwrap();
    assert!(matches!(Index::read_with_model(&path, &elsewhere), Err(Error::Format { .. })));
}

/// `HIST` of any numbers is added to and does no harm.
#[test]
fn a_made_up_history_does_no_harm() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("past.vlc");
    for (entries, opens) in [(0, false), (1, true), (256, true), (257, false)] {
        let mut all = sections(plain());
        all.push(section(b"HIST", 0, hist(&vec![(u64::MAX, u64::MAX, u128::MAX); entries])));
        let bytes = assemble(&all);
        assert_eq!(open(&bytes).is_ok(), opens, "{entries} entries");
        assert_eq!(vlc_reference::Store::parse(&bytes).is_ok(), opens);
        if opens {
            std::fs::write(&path, &bytes).unwrap();
            let mut store = Store::open(&path).unwrap();
            store.append(&clustered(22, 20, 8).view(), &EncodeOptions::default()).unwrap();
            store.compact().unwrap();
            drop(store);
            let grown = vlc_reference::Store::parse(&std::fs::read(&path).unwrap()).unwrap();
            assert_eq!(grown.history.len(), (entries + 1).min(256));
        }
    }
}

#[test]
fn unknown_sections_are_passed_over_unless_they_must_be_known() {
    let _alone = alone();
    let mut more = sections(plain());
    more.push(section(b"XTRA", 0, b"harmless".to_vec()));
    let file = assemble(&more);
    let index = open(&file).unwrap();
    index.verify().unwrap();
    assert_eq!(index.info().sections.last().unwrap(), &("XTRA".to_string(), 8));
    more.last_mut().unwrap().flags = 1;
    let Err(Error::Format { source, .. }) = open(&assemble(&more)) else { panic!("opened") };
    assert_eq!(source, ParseError::Unknown("XTRA".into()));
    assert!(source.to_string().contains("upgrade"));
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let _alone = alone();
    for version in [4u32, 7, u32::MAX] {
        let mut newer = plain().clone();
        newer[8..12].copy_from_slice(&version.to_le_bytes());
        // Whether or not its header still hashes as ours does.
        for sealed in [false, true] {
            if sealed {
                seal(&mut newer);
            }
            let error = open(&newer).unwrap_err();
            let Error::Format { source, .. } = &error else { panic!("{error}") };
            assert_eq!(*source, ParseError::Version { found: version, newest: VERSION });
            assert!(error.to_string().contains(&version.to_string()) && error.to_string().contains("upgrade"));
        }
    }
    let mut older = plain().clone();
    older[8..12].fill(0);
    seal(&mut older);
    assert!(open(&older).is_err());
}

/// A file that uses what this build does not know is refused by the name it gives; names and bits must agree.
#[test]
fn an_unknown_feature_is_refused_by_name() {
    let _alone = alone();
    let with = |features: u64, names: Option<&[u8]>| {
        let mut parts = sections(plain());
        parts.extend(names.map(|names| section(b"FEAT", 0, names.to_vec())));
        let mut bytes = assemble(&parts);
        let Slot::Valid(fields) = header::slot(&bytes[128..192], 3) else { panic!("no slot") };
        bytes[128..192].copy_from_slice(&slot_bytes(3, Fields { features, ..fields }));
        let Err(Error::Format { source, .. }) = open(&bytes) else { panic!("opened with features {features:#x}") };
        assert!(vlc_reference::Store::parse(&bytes).is_err());
        source
    };
    let error = with(1 << 40, Some(b"\x28\x08hot rows"));
    assert_eq!(error, ParseError::Feature { bit: 40, name: "hot rows".into() });
    assert!(error.to_string().contains("hot rows") && error.to_string().contains("upgrade"), "{error}");
    // Behind others, without a name, with a damaged one.
    assert_eq!(with(1 << 63, Some(b"\x00\x01a\x3f\x01b")), ParseError::Feature { bit: 63, name: "b".into() });
    for names in [None, Some(&b""[..]), Some(b"\x28"), Some(b"\x28\x09hot rows"), Some(b"\x28\x02\xff\xff")] {
        let ParseError::Feature { bit: 40, .. } = with(1 << 40, names) else { panic!("{names:?}") };
    }
    // Known, and not named; named, and not there.
    assert!(with(1, None).to_string().contains("FEAT"));
    assert!(with(1, Some(b"\x00\x07length")).to_string().contains("FEAT"));
    assert!(with(0, Some(b"\x00\x07lengths")).to_string().contains("FEAT"));
}

/// A row has no bytes at all when there is no symbol and nothing beside: sound by docs/format.md.
#[test]
fn rows_of_no_bytes_are_still_rows() {
    let _alone = alone();
    let mut parts = sections(plain());
    let meta = part(&mut parts, b"META");
    let anchors = u32::from_le_bytes(meta[16..20].try_into().unwrap()) as usize;
    meta[24..29].fill(0);
    *part(&mut parts, b"CHRT") = [0u32.to_le_bytes(), 8u32.to_le_bytes()].concat();
    *part(&mut parts, b"ANCH") = vec![0; anchors.next_multiple_of(4)];
    part(&mut parts, b"SIDE").clear();
    part(&mut parts, b"CODE").clear();
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
