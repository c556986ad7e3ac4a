//! Small files that claim much: every call takes memory in proportion to the bytes there are, and says no in time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    collections::BTreeMap,
    fs,
    ops::ControlFlow,
    path::Path,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use common::{
    Random, clustered, config,
    sections::{Section, assemble, assemble_v1, part, section, sections, segm, tomb},
};
use vlc::{
    Budget, Config, Decoder, DecoderShape, EncodeOptions, Error, Filter, Ids, Index, MatRef, Metric, Probe,
    SearchOptions, Store, compress_with_model, merge, transcode,
};

/// Counts what is allocated and the most there was at a time.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// What was refused is not held.
fn counted(pointer: *mut u8, layout: Layout) -> *mut u8 {
    if !pointer.is_null() {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
    }
    pointer
}

// SAFETY: every call goes to the system's allocator as it came; counting does not touch the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises about `layout` are passed on.
        counted(unsafe { System.alloc(layout) }, layout)
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above. Zeroed pages count though they may never be touched.
        counted(unsafe { System.alloc_zeroed(layout) }, layout)
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

/// What a call may take, in time beside, whose files and inputs have so many bytes and whose answer has `output`.
#[track_caller]
fn bounded<R>(what: &str, bytes: usize, output: usize, call: impl FnOnce() -> R) -> R {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let most = (32 << 20) + threads * (4 << 20) + 8 * bytes + output;
    let before = HELD.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let start = Instant::now();
    let answer = call();
    let (took, peak) = (start.elapsed(), PEAK.load(Ordering::Relaxed).saturating_sub(before));
    assert!(peak <= most, "{what}: {peak} bytes of memory for {bytes} bytes, {most} are allowed");
    assert!(took < Duration::from_secs(30), "{what}: {took:?} for {bytes} bytes");
    answer
}

const DIM: usize = 4;
const MOST_BARE: u64 = 1 << 20;

fn small() -> Vec<Section> {
    let mut settings = Config { budget: Budget::BytesPerVector(60.0), ..config(Metric::Cosine, 0.5) };
    (settings.charts, settings.annealing.anchors, settings.decoder) = (Some(1), Some(3), Decoder::Off);
    sections(vlc::compress(clustered(21, 40, DIM).view(), &settings).unwrap().bytes())
}

/// A file of n rows, all in the first cell, that take no bytes.
fn bare(n: u64, tombs: Option<Vec<u8>>) -> Vec<u8> {
    let mut parts = small();
    // The same on every machine.
    part(&mut parts, b"META")[24..29].fill(0);
    part(&mut parts, b"META")[32..92].fill(0);
    part(&mut parts, b"MEAN").fill(0);
    *part(&mut parts, b"CHRT") = [0u32.to_le_bytes(), 8u32.to_le_bytes()].concat();
    *part(&mut parts, b"ANCH") = vec![0; 4];
    part(&mut parts, b"SIDE").clear();
    *part(&mut parts, b"SEGM") = segm(n, 0, n);
    *part(&mut parts, b"CELL") = [0, n, n, n].iter().flat_map(|k| k.to_le_bytes()).collect();
    part(&mut parts, b"ROWS").clear();
    part(&mut parts, b"CODE").clear();
    parts.extend(tombs.map(|bytes| section(b"TOMB", 0, bytes)));
    assemble(&parts)
}

/// The same as version 1 has it.
fn bare_v1(n: u64) -> Vec<u8> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let of_version_1 =
        |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "vlc") && fs::read(path).unwrap()[8] == 1;
    let path = common::listing(&golden).into_iter().find(of_version_1).unwrap();
    let mut parts = sections(&fs::read(path).unwrap());
    let meta = part(&mut parts, b"META");
    meta[..8].copy_from_slice(&n.to_le_bytes());
    meta[24..30].fill(0);
    meta[12] = 0;
    let dim = u32::from_le_bytes(meta[8..12].try_into().unwrap()) as usize;
    let [anchors, charts] = [16, 20].map(|at| u32::from_le_bytes(meta[at..at + 4].try_into().unwrap()) as usize);
    part(&mut parts, b"MEAN").truncate(4 * dim);
    *part(&mut parts, b"CHRT") = [0u32.to_le_bytes(), 8u32.to_le_bytes()].concat().repeat(charts);
    *part(&mut parts, b"ANCH") = vec![0; anchors.next_multiple_of(4)];
    part(&mut parts, b"SIDE").clear();
    *part(&mut parts, b"CELL") = (0..=anchors as u64).flat_map(|k| (n * k.min(1)).to_le_bytes()).collect();
    part(&mut parts, b"ROWS").clear();
    part(&mut parts, b"CODE").clear();
    assemble_v1(&parts)
}

#[track_caller]
fn refused<R>(answer: Result<R, Error>, word: &str) {
    let Err(error) = answer else { panic!("taken, where {word:?} was to be said") };
    assert!(matches!(error, Error::Format { .. }), "{error}");
    assert!(error.to_string().contains(word), "{error}");
}

/// A kilobyte of a trillion rows: refused by all there is, at once.
#[test]
fn rows_without_bytes_are_capped() {
    let _alone = alone();
    let kept = Path::new("tests/bombs/rows-without-bytes.vlc");
    if std::env::var_os("VLC_WRITE_BOMBS").is_some() {
        fs::write(kept, bare(1 << 40, None)).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let [path, out, sound] = ["bomb.vlc", "out.vlc", "sound.vlc"].map(|name| folder.path().join(name));
    fs::write(&sound, assemble(&small())).unwrap();
    let rows = clustered(3, 5, DIM);
    let all_deleted = |n: u64| bare(n, Some(n.to_le_bytes().to_vec()));
    let files = [bare(1 << 40, None), all_deleted(1 << 40), bare(MOST_BARE + 1, None), bare_v1(1 << 40)];
    for bytes in files {
        fs::write(&path, &bytes).unwrap();
        assert!(bytes.len() < 3 << 10, "{} bytes", bytes.len());
        let word = "take no bytes";
        bounded("open", bytes.len(), 0, || {
            refused(Index::from_bytes(&bytes), word);
            refused(Index::open(&path), word);
            refused(Index::read(&path), word);
            refused(Store::open(&path), word);
            refused(merge(&[&sound, &path], &out, None), word);
            refused(merge(&[&path], &out, None), word);
            refused(transcode(&path, &out, &Config::default()), word);
            let (notes, options) = (BTreeMap::new(), EncodeOptions::default());
            refused(compress_with_model(&rows.view(), &path, &out, false, &notes, &options), word);
        });
        assert!(!out.exists());
    }
    // What the tests of the program look at.
    assert_eq!(fs::read(kept).unwrap(), bare(1 << 40, None), "VLC_WRITE_BOMBS=1 writes it");
}

/// As many as there may be: everything works, in the memory of so many rows at most a few times.
#[test]
fn a_million_rows_without_bytes() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let [path, out] = ["many.vlc", "out.vlc"].map(|name| folder.path().join(name));
    let n = MOST_BARE as usize;
    let bytes = bare(MOST_BARE, None);
    fs::write(&path, &bytes).unwrap();
    assert!(bytes.len() < 2 << 10);
    read_all("bare", &bytes);

    // A row more would be a file that nobody opens.
    let row = clustered(3, 1, DIM);
    let options = EncodeOptions::default();
    let error = bounded("append", bytes.len(), 0, || Store::open(&path).unwrap().append(&row.view(), &options));
    assert!(error.unwrap_err().to_string().contains("take no bytes"));
    assert_eq!(fs::read(&path).unwrap(), bytes);
    let error = bounded("merge", bytes.len(), 0, || merge(&[&path, &path], &out, None)).unwrap_err();
    assert!(error.to_string().contains("take no bytes"), "{error}");
    assert!(!out.exists());

    let gone: Ids = (0..n as u64).step_by(2).collect();
    let report = bounded("delete", bytes.len() + 4 * n, 0, || Store::open(&path).unwrap().delete(&gone)).unwrap();
    assert_eq!((report.deleted, report.n), (n as u64 / 2, n as u64 / 2));
    read_all("half of it", &fs::read(&path).unwrap());
    bounded("compact", 1 << 20, 0, || Store::open(&path).unwrap().compact()).unwrap();
    assert_eq!(Index::open(&path).unwrap().len(), n / 2);
    bounded("append", 1 << 20, 0, || Store::open(&path).unwrap().append(&row.view(), &options)).unwrap();
    Index::open(&path).unwrap().verify().unwrap();
}

/// Everything that reads, on a file of any number of rows.
fn read_all(what: &str, bytes: &[u8]) {
    let index = bounded(&format!("{what}: open"), bytes.len(), 0, || Index::from_bytes(bytes)).unwrap();
    let (n, dim, len) = (index.len(), index.dim(), bytes.len());
    let bounded = |call: &str, output: usize, f: &dyn Fn()| bounded(&format!("{what}: {call}"), len, output, f);
    bounded("verify", 0, &|| index.verify().unwrap());
    bounded("info", 0, &|| drop(index.info()));
    let query = vec![0.5; dim];
    let queries = vec![0.5; 40 * dim];
    let queries = MatRef::new(&queries, 40, dim).unwrap();
    for k in [1, 10, u32::MAX as usize, usize::MAX] {
        // A hit is an id and a score, twice over while parts are put together.
        bounded("query", 40 * n.min(k), &|| assert_eq!(index.query(&query, k).unwrap().len(), k.min(n)));
    }
    bounded("batch", 0, &|| drop(index.query_batch(queries, 100).unwrap()));
    bounded("decode", 0, &|| {
        assert_eq!(index.decode(0..5.min(n)).unwrap().rows(), 5.min(n));
        assert_eq!(index.decode(n - 1..n).unwrap().rows(), 1);
        assert_eq!(index.decode(n / 2..n / 2 + 1).unwrap().rows(), 1);
    });
    bounded("decode_each", 0, &|| index.decode_each(0..n, |_| Ok(())).unwrap());
    bounded("ids", 8 * n, &|| assert_eq!(index.ids(0..n).unwrap().len(), n));
    let some: Ids = [1, 7, n as u64, 1 << 39].into_iter().collect();
    bounded("filter", 0, &|| {
        for filter in [Filter::Allow(&some), Filter::Deny(&some)] {
            let filter = index.filter(filter).unwrap();
            let searcher = vlc::Searcher::open(&index, vlc::Backend::Cpu).unwrap();
            let options = SearchOptions::probing(Probe::Cells(1));
            drop(searcher.search_filtered(queries, 10, &options, &filter).unwrap());
        }
    });
}

/// Half a byte for each row, most of which are deleted.
#[test]
fn rows_of_half_a_byte() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("half.vlc");
    let n = 2 << 20;
    let mut parts = small();
    // No symbols, a factor.
    part(&mut parts, b"META")[24..28].fill(0);
    *part(&mut parts, b"CHRT") = [0u32.to_le_bytes(), 8u32.to_le_bytes()].concat();
    *part(&mut parts, b"ANCH") = vec![0; 4];
    *part(&mut parts, b"SEGM") = segm(n, 0, n);
    *part(&mut parts, b"CELL") = [0, n, n, n].iter().flat_map(|k| k.to_le_bytes()).collect();
    part(&mut parts, b"ROWS").clear();
    *part(&mut parts, b"CODE") = vec![0; n as usize / 2];
    let whole = assemble(&parts);
    read_all("whole", &whole);
    let gone: Vec<usize> = (0..n as usize).filter(|row| row % 1000 != 999).collect();
    parts.push(section(b"TOMB", 0, tomb(n as usize, &gone)));
    drop(gone);
    let bytes = assemble(&parts);
    read_all("most deleted", &bytes);
    fs::write(&path, &bytes).unwrap();
    let few: Ids = [999, 1_999_999, 5].into_iter().collect();
    let deleted = bounded("delete", bytes.len(), 0, || Store::open(&path).unwrap().delete(&few)).unwrap();
    assert_eq!((deleted.deleted, deleted.missing), (2, vec![2]));
    let row = clustered(3, 1, DIM);
    let options = EncodeOptions::default();
    bounded("append", bytes.len(), 0, || Store::open(&path).unwrap().append(&row.view(), &options)).unwrap();
    bounded("compact", bytes.len(), 0, || Store::open(&path).unwrap().compact()).unwrap();
    assert_eq!(Index::open(&path).unwrap().len() as u64, n / 1000 - 1);
}

/// However many hits are asked for, there are no more than rows.
#[test]
fn any_number_of_hits_may_be_asked_for() {
    let _alone = alone();
    let rows = clustered(5, 600, 8);
    let shape = DecoderShape { width: 8, layers: 1, bits: 2 };
    let base = Config { charts: Some(1), ..config(Metric::Cosine, 0.7) };
    let settings = [
        Config { decoder: Decoder::Off, ..base.clone() },
        Config { decoder: Decoder::Off, refine: Some(4), ..base.clone() },
        Config { decoder: Decoder::Of(shape), ..base },
    ];
    let queries = Random(5).mat(1500, 8);
    for settings in settings {
        let index = vlc::compress(rows.view(), &settings).unwrap();
        for k in [600, 601, 4_000_000_000, usize::MAX] {
            // Twelve bytes for each, and as much again while they are put together.
            let answer = 1500 * 600 * 12;
            let found = bounded("hits", index.bytes().len(), 2 * answer, || index.query_batch(queries.view(), k));
            let found = found.unwrap();
            assert_eq!((found.ids.rows(), found.ids.dim()), (1500, 600));
        }
    }
}

/// What there is no room for is an error, not the end of the process.
#[test]
fn answers_that_do_not_fit_are_refused() {
    let _alone = alone();
    let bytes = bare(MOST_BARE, None);
    let index = Index::from_bytes(&bytes).unwrap();
    // 2^20 hits for each of 2^26 queries: 768 TiB.
    let queries = vec![0.5; DIM << 20];
    let queries = MatRef::new(&queries, 1 << 20, DIM).unwrap();
    let error = bounded("query", bytes.len(), 0, || index.query_batch(queries, usize::MAX)).unwrap_err();
    assert!(matches!(error, Error::Config(_)) && error.to_string().contains("memory"), "{error}");
}

/// A model file: one anchor, `active` directions of `dim` dimensions in one subspace, of so many bits each.
fn wide(dim: usize, active: usize, bits: u8) -> Vec<u8> {
    let mut parts = small();
    parts.retain(|s| ![*b"SEGM", *b"CELL", *b"ROWS", *b"CODE"].contains(&s.kind));
    let meta = part(&mut parts, b"META");
    meta[8..12].copy_from_slice(&(dim as u32).to_le_bytes());
    meta[14] = 0;
    meta[16..28].copy_from_slice(&[1, 1, 1].map(u32::to_le_bytes).concat());
    *part(&mut parts, b"MEAN") = vec![0; 4 * dim];
    let floats = |value: f32| value.to_le_bytes().repeat(active);
    let column = (dim * usize::from(bits)).div_ceil(8);
    let mut random = Random(9);
    let columns: Vec<u8> = (0..active * column).map(|_| random.next() as u8).collect();
    let mut chart = [(active as u32).to_le_bytes(), [0; 4]].concat();
    chart.extend((active as u16).to_le_bytes());
    chart.extend(floats(0.01));
    chart.extend(vec![bits; active]);
    chart.extend(columns);
    chart.extend(floats(0.01));
    chart.extend((0..active * 16).map(|_| random.next() as u8 & 0x7F));
    chart.resize(chart.len().next_multiple_of(4), 0);
    let len = (chart.len() as u32).to_le_bytes();
    chart[4..8].copy_from_slice(&len);
    *part(&mut parts, b"CHRT") = chart;
    let mut anchors = vec![0; 4];
    anchors.extend([floats(0.0), floats(0.0), vec![1; active], vec![0; active]].concat());
    anchors.resize(anchors.len().next_multiple_of(4), 0);
    *part(&mut parts, b"ANCH") = anchors;
    assemble(&parts)
}

/// Columns of one bit unpack to 32 times as much, and what encoding takes of them to more than a hundred times.
#[test]
fn wide_models_of_few_bits_are_refused() {
    let _alone = alone();
    for (dim, active) in [(16_384, 16_384), (65_536, 2048), (4096, 4096)] {
        let bytes = wide(dim, active, 1);
        bounded("open", bytes.len(), 0, || refused(Index::from_bytes(&bytes), "to a byte"));
    }
}

/// One as it may be: encoding takes some 24 bytes for each of its values, and can be cancelled.
#[test]
fn wide_models_can_be_cancelled() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let [path, out] = ["wide.vlc", "out.vlc"].map(|name| folder.path().join(name));
    let (dim, active) = (1400, 1300);
    let bytes = wide(dim, active, 4);
    fs::write(&path, &bytes).unwrap();
    let rows = Random(4).mat(3, dim);
    let notes = BTreeMap::new();
    let encode = |most: usize| {
        let asked = AtomicUsize::new(0);
        let progress = |_: &vlc::Event<'_>| match asked.fetch_add(1, Ordering::Relaxed) < most {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        };
        let options = EncodeOptions { progress: Some(&progress), ..EncodeOptions::default() };
        let encoded = compress_with_model(&rows.view(), &path, &out, false, &notes, &options);
        (encoded.map(|report| report.n), asked.load(Ordering::Relaxed))
    };
    let (report, asked) = bounded("encode", bytes.len(), 24 * dim * active, || encode(usize::MAX));
    assert_eq!(report.unwrap(), 3);
    assert!(asked > 100, "asked {asked} times");
    let index = Index::open(&out).unwrap();
    index.verify().unwrap();
    fs::remove_file(&out).unwrap();
    for most in (0..asked).step_by(asked / 10) {
        let (cancelled, asked) = encode(most);
        assert!(matches!(cancelled, Err(Error::Cancelled)), "{cancelled:?}");
        assert!(asked == most + 1 && !out.exists());
    }
}

/// Anchors of two charts are told apart without their decompositions, which would take 17 GB for a third of a megabyte.
#[test]
fn anchors_of_many_dimensions() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let [path, out] = ["far.vlc", "out.vlc"].map(|name| folder.path().join(name));
    let (dim, anchors) = (65_536usize, 65_535usize);
    let mut parts = small();
    parts.retain(|s| ![*b"SEGM", *b"CELL", *b"ROWS", *b"CODE"].contains(&s.kind));
    let meta = part(&mut parts, b"META");
    meta[8..12].copy_from_slice(&(dim as u32).to_le_bytes());
    meta[16..28].copy_from_slice(&[anchors as u32, 2, 0].map(u32::to_le_bytes).concat());
    *part(&mut parts, b"MEAN") = vec![0; 4 * dim];
    *part(&mut parts, b"CHRT") = [0u32.to_le_bytes(), 8u32.to_le_bytes()].concat().repeat(2);
    let mut of_chart: Vec<u8> = (0..anchors).map(|k| (k % 2) as u8).collect();
    of_chart.push(0);
    *part(&mut parts, b"ANCH") = of_chart;
    let bytes = assemble(&parts);
    fs::write(&path, &bytes).unwrap();
    let rows = Random(4).mat(2, dim);
    let (notes, options) = (BTreeMap::new(), EncodeOptions::default());
    let report = bounded("encode", bytes.len() + 8 * dim, 0, || {
        compress_with_model(&rows.view(), &path, &out, false, &notes, &options)
    });
    assert_eq!(report.unwrap().n, 2);
    Index::open(&out).unwrap().verify().unwrap();
}

/// What few bytes turn into tables, or pairs, of many.
#[test]
fn tables_and_pairs_are_capped() {
    let _alone = alone();
    // 256 charts of 65,536 symbols of 8 bits: 17 GB for a query.
    let mut parts = small();
    let meta = part(&mut parts, b"META");
    let dim = 8192u32;
    meta[8..12].copy_from_slice(&dim.to_le_bytes());
    meta[13..15].copy_from_slice(&[1, 0]);
    meta[16..28].copy_from_slice(&[256, 256, 65_536].map(u32::to_le_bytes).concat());
    *part(&mut parts, b"MEAN") = vec![0; 4 * dim as usize];
    let len = 8 + 2 * 65_536u32;
    let chart = [0u32.to_le_bytes().to_vec(), len.to_le_bytes().to_vec(), vec![0; 2 * 65_536]].concat();
    *part(&mut parts, b"CHRT") = chart.repeat(256);
    *part(&mut parts, b"ANCH") = (0..=255).collect();
    parts.retain(|s| ![*b"SEGM", *b"CELL", *b"ROWS", *b"CODE"].contains(&s.kind));
    let bytes = assemble(&parts);
    bounded("tables", bytes.len(), 0, || refused(Index::from_bytes(&bytes), "charts of 65536 symbols"));

    // More symbols than could act.
    let mut parts = small();
    part(&mut parts, b"META")[24..28].copy_from_slice(&(8 * DIM as u32 + 1).to_le_bytes());
    let bytes = assemble(&parts);
    bounded("symbols", bytes.len(), 0, || refused(Index::from_bytes(&bytes), "symbols"));

    for (count, opens) in [(65_536u32, true), (65_537, false)] {
        let mut parts = small();
        let mut pairs = count.to_le_bytes().to_vec();
        for i in 0..count {
            pairs.extend([3u32, 0].map(u32::to_le_bytes).concat());
            // In ascending order, and UTF-8.
            pairs.extend([i >> 14, i >> 7, i].map(|bits| (bits & 127) as u8));
        }
        *part(&mut parts, b"KEYV") = pairs;
        let bytes = assemble(&parts);
        let opened = bounded("pairs", bytes.len(), 0, || Index::from_bytes(&bytes).map(drop));
        if opens { opened.unwrap() } else { refused(opened, "pairs") }
    }
    let metadata: BTreeMap<String, String> = (0..40_000).map(|i| (format!("k{i}"), String::new())).collect();
    let error = vlc::compress(clustered(2, 40, 8).view(), &Config { metadata, ..config(Metric::Cosine, 0.5) });
    assert!(error.unwrap_err().to_string().contains("pairs"));
}

/// Rows that are all alike have no symbols, and as many as there may be: what is written opens.
#[test]
fn rows_that_are_all_alike() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alike.vlc");
    let n = MOST_BARE as usize + 70_000;
    let values = [3.0f32, 4.0].repeat(n);
    let rows = MatRef::new(&values, n, 2).unwrap();
    let mut settings = Config { budget: Budget::BytesPerVector(40.0), ..Config::default() };
    (settings.annealing.anchors, settings.annealing.iterations, settings.charts) = (Some(1), 1, Some(1));
    vlc::compress_to(&rows, &path, &settings).unwrap();
    let index = Index::open(&path).unwrap();
    index.verify().unwrap();
    assert_eq!(index.len(), n);
    assert_eq!(index.query(&[3.0, 4.0], 3).unwrap().len(), 3);
}

/// Whoever is asked may end a long call, once and for good; nothing has changed then.
#[test]
fn long_calls_can_be_cancelled() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.vlc");
    let bytes = assemble(&small());
    fs::write(&path, &bytes).unwrap();
    let index = Index::from_bytes(bytes.as_slice()).unwrap();
    let asked = AtomicUsize::new(0);
    index
        .verify_with(|done, total| {
            asked.fetch_add(1, Ordering::Relaxed);
            assert!(done <= total && total as usize == bytes.len());
            ControlFlow::Continue(())
        })
        .unwrap();
    let all = asked.load(Ordering::Relaxed);
    assert!(all > 8, "asked {all} times");
    // Damage that is behind what was looked at is not said to be sound.
    for nth in 0..all {
        let count = AtomicUsize::new(0);
        let cancelled = index.verify_with(|_, _| match count.fetch_add(1, Ordering::Relaxed) == nth {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        });
        assert!(matches!(cancelled, Err(Error::Cancelled)), "{nth}: {cancelled:?}");
    }

    let rows = Random(6).mat(2_000_000, DIM);
    let looked = AtomicUsize::new(0);
    let exact =
        vlc::measure::exact_neighbors_with(&rows.view(), rows.view().slice(0..1), 3, Metric::Dot, |done, total| {
            assert!(done < total);
            match looked.fetch_add(1, Ordering::Relaxed) {
                0 => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        });
    assert!(matches!(exact, Err(Error::Cancelled)));
    assert_eq!(looked.load(Ordering::Relaxed), 2);

    // Up to the moment before the commit.
    let rows = clustered(7, 30, DIM);
    let append = |most: usize| {
        let asked = AtomicUsize::new(0);
        let progress = |_: &vlc::Event<'_>| match asked.fetch_add(1, Ordering::Relaxed) < most {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        };
        let options = EncodeOptions { progress: Some(&progress), ..EncodeOptions::default() };
        let appended = Store::open(&path).unwrap().append(&rows.view(), &options);
        (appended, asked.load(Ordering::Relaxed))
    };
    let mut cancelled = 0;
    while let (Err(error), _) = append(cancelled) {
        assert!(matches!(error, Error::Cancelled), "{error}");
        if fs::read(&path).unwrap() != bytes {
            break;
        }
        cancelled += 1;
    }
    assert!(cancelled > 5, "{cancelled} moments");
}
