//! Models of few bytes that unpack to many.

use std::{collections::BTreeMap, fs};

use vlc::{Config, EncodeOptions, Index, Metric, compress_with_model};

use crate::{
    DIM, bounded,
    common::{
        Random, clustered, config,
        sections::{assemble, part, section},
    },
    memory::alone,
    refused, small,
};

/// A model file: one anchor, `active` directions of `dim` dimensions in one subspace, of so many bits each.
pub(crate) fn wide(dim: usize, active: usize, bits: u8) -> Vec<u8> {
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

/// Anchors of two charts are told apart without their decompositions, which would take 17 GB for a third of a megabyte, as all anchors as
/// vectors would: rows have weights in the second file.
#[test]
fn anchors_of_many_dimensions() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let [path, out] = ["far.vlc", "out.vlc"].map(|name| folder.path().join(name));
    let (dim, anchors) = (65_536usize, 65_535usize);
    for weights in [false, true] {
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
        if weights {
            let head = [[0u8; 4], 1u32.to_le_bytes(), [0; 4], [0; 4], [0; 4]].concat();
            parts.push(section(b"SCOR", 0, [head, 1f32.to_le_bytes().repeat(16)].concat()));
            parts.push(section(b"FEAT", 0, b"\x01\x06scores".to_vec()));
        }
        let bytes = assemble(&parts);
        fs::write(&path, &bytes).unwrap();
        let _ = fs::remove_file(&out);
        let rows = Random(4).mat(2, dim);
        let (notes, options) = (BTreeMap::new(), EncodeOptions::default());
        let report = bounded("encode", bytes.len() + 8 * dim, 0, || {
            compress_with_model(&rows.view(), &path, &out, false, &notes, &options)
        });
        assert_eq!(report.unwrap().n, 2);
        Index::open(&out).unwrap().verify().unwrap();
    }
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
