//! Small files that claim much: every call takes memory in proportion to the bytes there are, and says no in time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/memory.rs"]
mod memory;

mod cancelled;
mod models;
mod rows;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use vlc::{Budget, Config, Decoder, Error, Metric};

use common::{
    clustered, config,
    sections::{Section, assemble, assemble_v1, part, section, sections, segm},
};
use memory::peak_of;

/// What a call may take, in time beside, whose files and inputs have so many bytes and whose answer has `output`.
#[track_caller]
fn bounded<R>(what: &str, bytes: usize, output: usize, call: impl FnOnce() -> R) -> R {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let most = (32 << 20) + threads * (4 << 20) + 8 * bytes + output;
    let start = Instant::now();
    let (answer, peak) = peak_of(call);
    let took = start.elapsed();
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
