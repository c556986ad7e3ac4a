//! Opening reads the model and nothing of the rows: a file of a gigabyte opens as fast as one of some kilobytes.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::Path,
    time::{Duration, Instant},
};

use vlc::{Config, Index, Metric};
use vlc_reference::{
    header::{Fields, slot_bytes},
    rows::low_bits,
};
use xxhash_rust::xxh3::xxh3_64;

use common::{
    clustered, config,
    sections::{assemble, part, sections, segm},
};

/// Rows of the large file: more than a gigabyte of codes.
const ROWS: u64 = 1 << 26;

/// The file `small`, with all its rows replaced by [`ROWS`] empty ones in cells of equal size. Row numbers and codes are
/// holes, which take no space and no time to make; only `verify` would look at their hashes.
fn enlarge(small: &[u8], path: &Path) -> u64 {
    let mut parts = sections(small);
    let old = u64::from_le_bytes(part(&mut parts, b"SEGM")[..8].try_into().unwrap());
    let block = part(&mut parts, b"CODE").len() as u64 / old.div_ceil(32);
    let cells = part(&mut parts, b"CELL").len() as u64 / 8 - 1;
    let first = |k: u64| ROWS / cells * k + if k == cells { ROWS % cells } else { 0 };
    *part(&mut parts, b"SEGM") = segm(ROWS, 0, ROWS);
    *part(&mut parts, b"CELL") = (0..=cells).flat_map(|k| first(k).to_le_bytes()).collect();
    let row_bytes: u64 = (0..cells)
        .map(|k| {
            let members = first(k + 1) - first(k);
            let low = low_bits(ROWS as usize, members as usize) as u64;
            let upper = members + ((ROWS - 1) >> low);
            (upper - 1) / 4096 * 4 + (upper + members * low).div_ceil(8)
        })
        .sum();
    let code = parts.len() - 1;
    assert_eq!([parts[code - 1].kind, parts[code].kind], [*b"ROWS", *b"CODE"], "the rows stand last");
    parts[code - 1].bytes.clear();
    parts[code].bytes.clear();
    let mut head = assemble(&parts);
    let mut table = head.split_off(head.len() - 32 * parts.len());
    let code_at = (head.len() as u64 + row_bytes).next_multiple_of(64);
    let code_bytes = ROWS / 32 * block;
    table[32 * (code - 1) + 16..][..8].copy_from_slice(&row_bytes.to_le_bytes());
    table[32 * code + 8..][..8].copy_from_slice(&code_at.to_le_bytes());
    table[32 * code + 16..][..8].copy_from_slice(&code_bytes.to_le_bytes());
    let table_at = (code_at + code_bytes).next_multiple_of(64);
    let (entries, table_hash) = (parts.len() as u32, xxh3_64(&table));
    let fields = Fields { generation: 1, table: table_at, entries, table_hash, features: 0 };
    head[128..192].copy_from_slice(&slot_bytes(3, fields));
    let mut file = File::create(path).unwrap();
    file.write_all(&head).unwrap();
    file.seek(SeekFrom::Start(table_at)).unwrap();
    file.write_all(&table).unwrap();
    table_at + table.len() as u64
}

/// Pages of mapped files in memory, in bytes. What opening allocates is counted in `hostile.rs`.
fn mapped() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssFile:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn a_large_file_opens_at_once() {
    let mut settings = Config { charts: Some(1), ..config(Metric::Cosine, 0.5) };
    settings.annealing.anchors = Some(40);
    let small = vlc::compress(clustered(5, 1000, 16).view(), &settings).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("large.vlc");
    let length = enlarge(small.bytes(), &path);
    assert!(length > 1 << 30, "{length} bytes");

    let before = mapped();
    let start = Instant::now();
    let index = Index::open(&path).unwrap();
    let took = start.elapsed();
    let read = mapped().saturating_sub(before);
    println!("{length} bytes opened in {took:?}, {read} of them read");
    assert!(read < 4 << 20, "opening read {read} bytes");
    // Reading it all would take ten times as long on the fastest machine.
    assert!(took < Duration::from_millis(50), "opening took {took:?}");
    assert_eq!(index.len() as u64, ROWS);
}
