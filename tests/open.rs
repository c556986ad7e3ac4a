//! Opening reads the model and nothing of the rows: a file of a gigabyte opens as fast as one of some kilobytes.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::{
    fs::File,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use common::{
    clustered, config,
    sections::{Section, assemble, seal, sections},
};
use vlc::{Config, Index, Metric};
use vlc_reference::rows::low_bits;

/// Rows of the large file: more than a gigabyte of codes.
const ROWS: u64 = 1 << 26;

/// The file `small`, with all its rows replaced by [`ROWS`] empty ones in cells of equal size. Row numbers and codes are
/// holes, which take no space and no time to make; only `verify` would look at their hashes.
fn enlarge(small: &[u8], path: &Path) -> u64 {
    let mut parts = sections(small);
    let part = |parts: &[Section], kind: &[u8; 4]| parts.iter().position(|s| s.0 == *kind).unwrap();
    let [meta, cell, rows, code] = [b"META", b"CELL", b"ROWS", b"CODE"].map(|kind| part(&parts, kind));
    let old = u64::from_le_bytes(parts[meta].2[..8].try_into().unwrap());
    let block = parts[code].2.len() as u64 / old.div_ceil(32);
    let cells = parts[cell].2.len() as u64 / 8 - 1;
    let first = |k: u64| ROWS / cells * k + if k == cells { ROWS % cells } else { 0 };
    parts[meta].2[..8].copy_from_slice(&ROWS.to_le_bytes());
    parts[cell].2 = (0..=cells).flat_map(|k| first(k).to_le_bytes()).collect();
    let row_bytes: u64 = (0..cells)
        .map(|k| {
            let members = first(k + 1) - first(k);
            let low = low_bits(ROWS as usize, members as usize) as u64;
            let upper = members + ((ROWS - 1) >> low);
            (upper - 1) / 4096 * 4 + (upper + members * low).div_ceil(8)
        })
        .sum();
    assert_eq!((rows, code), (parts.len() - 2, parts.len() - 1), "the rows stand last");
    parts.truncate(rows);
    for kind in [b"ROWS", b"CODE"] {
        parts.push((*kind, 0, Vec::new()));
    }
    let mut head = assemble(&parts);
    let code_at = (head.len() as u64 + row_bytes).next_multiple_of(64);
    let length = code_at + ROWS / 32 * block;
    let entry = |i: usize| 64 + 32 * i;
    head[entry(rows) + 16..][..8].copy_from_slice(&row_bytes.to_le_bytes());
    head[entry(code) + 8..][..8].copy_from_slice(&code_at.to_le_bytes());
    head[entry(code) + 16..][..8].copy_from_slice(&(ROWS / 32 * block).to_le_bytes());
    head[16..24].copy_from_slice(&length.to_le_bytes());
    seal(&mut head);
    let mut file = File::create(path).unwrap();
    file.write_all(&head).unwrap();
    file.set_len(length).unwrap();
    length
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
    let small = vlc::compress(clustered(5, 2000, 16).view(), &settings).unwrap();
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
