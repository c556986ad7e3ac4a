//! Hand-made files of version 2: slots, segments, deleted rows and ids.

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::read::small;
use crate::{
    Store,
    header::{Fields, Slot, slot, slot_bytes},
    ids::{Id, numbers, texts},
    packed::pack,
    parse,
    rows::cell_bytes,
};

type Contents = Vec<(&'static [u8; 4], u16, Vec<u8>)>;

/// A file of one commit; `behind` follows it.
fn version_2(contents: &Contents, behind: &[u8]) -> Vec<u8> {
    let mut file = b"\x89VLC\r\n\x1a\n\x02\0\0\0".to_vec();
    file.resize(56, 0);
    file.extend(xxh3_64(&file).to_le_bytes());
    file.resize(192, 0);
    let mut table = Vec::new();
    for (kind, segment, bytes) in contents {
        file.resize(file.len().next_multiple_of(64), 0);
        table.extend(*kind);
        table.extend([0, 0]);
        table.extend(segment.to_le_bytes());
        table.extend((file.len() as u64).to_le_bytes());
        table.extend((bytes.len() as u64).to_le_bytes());
        table.extend(xxh3_64(bytes).to_le_bytes());
        file.extend(bytes);
    }
    file.resize(file.len().next_multiple_of(64), 0);
    let (table_at, entries) = (file.len() as u64, contents.len() as u32);
    let fields = Fields { generation: 1, table: table_at, entries, table_hash: xxh3_64(&table), features: 0 };
    let slot = slot_bytes(2, fields);
    file[128..192].copy_from_slice(&slot);
    file.extend(table);
    file.extend(behind);
    file
}

fn segm(n: u64, first: u64, span: u64) -> Vec<u8> {
    [n, first, span, 0].iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// The sections of `small` as version 2 has them, with the rows as segment 0.
fn one() -> Contents {
    let of_old = small().sections();
    let mut contents: Contents = of_old.into_iter().map(|(kind, _, bytes)| (kind, 0, bytes)).collect();
    contents[0].2[..8].fill(0);
    contents.push((b"SEGM", 0, segm(300, 0, 300)));
    contents
}

fn two() -> Contents {
    let mut contents = one();
    for kind in [b"CELL", b"ROWS", b"CODE"] {
        let bytes = contents.iter().find(|s| s.0 == kind).unwrap().2.clone();
        contents.push((kind, 1, bytes));
    }
    contents.push((b"SEGM", 1, segm(300, 300, 300)));
    contents.push((b"DEAD", 0, vec![1]));
    contents.push((b"DEAD", 0, vec![2]));
    contents
}

#[test]
fn one_segment_is_as_version_1() {
    let mut old = parse(&small().write()).unwrap();
    let mut new = parse(&version_2(&one(), b"whatever")).unwrap();
    // A recall that was not measured is not equal to itself.
    (old.meta.recall, new.meta.recall) = (0.0, 0.0);
    assert_eq!(new, old);
}

#[test]
fn segments_follow_each_other() {
    let mut contents = two();
    // Rows 0, 1 and 2 stand in cells 0, 2 and 2, of which the first two have 75 rows each.
    let mut deleted = 3_u64.to_le_bytes().to_vec();
    deleted.extend(cell_bytes(300, &[0, 150, 151]));
    contents.push((b"TOMB", 1, deleted));
    let added = [300_u64.to_le_bytes(), 300_u64.to_le_bytes(), 5_u64.to_le_bytes(), [0; 8]].concat();
    contents.push((b"HIST", 0, added));
    let file = version_2(&contents, b"");
    let store = Store::parse(&file).unwrap();
    assert!(parse(&file).is_err());
    assert_eq!((store.version, store.generation, store.end), (2, 1, file.len()));
    assert_eq!((store.rows.len(), store.segments.len(), store.history[0].energy), (597, 2, 5));
    let expected: Vec<usize> = (0..300).chain(303..600).collect();
    assert_eq!(store.rows.iter().map(|row| row.number).collect::<Vec<_>>(), expected);
    assert!(store.ids_differ());
    // Row 337 is row 37 of the second segment.
    let rank = 300 + 37 - 3;
    assert_eq!((store.rows[rank].id.clone(), store.rows[rank].local), (Id::Number(337), 37));
    assert_eq!((store.rows[rank].anchor, &store.rows[rank].symbols[..]), (2, &[5, 2, 15][..]));
    let query = [1.0, 2.0, -3.0];
    assert_eq!(store.score(&query, rank), store.score(&query, 37));
    assert_eq!(store.decode(rank), store.decode(37));
    let found = store.search(&query, 4);
    assert!(found.is_sorted_by(|a, b| a.1 > b.1 || a.1 == b.1 && a.0 < b.0));

    for second in [segm(300, 301, 300), segm(300, 300, 299), segm(301, 300, 301), segm(300, 300, 1 << 40)] {
        let mut bad = two();
        bad.iter_mut().filter(|s| s.0 == b"SEGM" && s.1 == 1).for_each(|s| s.2 = second.clone());
        assert!(Store::parse(&version_2(&bad, b"")).is_err());
    }
    for count in [0_u64, 301] {
        let mut bad = two();
        bad.push((b"TOMB", 0, count.to_le_bytes().to_vec()));
        assert!(Store::parse(&version_2(&bad, b"")).unwrap_err().contains("TOMB"));
    }
    let mut gone = two();
    gone.push((b"TOMB", 0, 300_u64.to_le_bytes().to_vec()));
    assert_eq!(Store::parse(&version_2(&gone, b"")).unwrap().rows[0].number, 300);
}

#[test]
fn every_byte_of_a_commit_counts() {
    let good = version_2(&two(), b"");
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(Store::parse(&bad).is_err(), "byte {at} changed unnoticed");
        assert!(Store::parse(&good[..at]).is_err(), "cut at {at} unnoticed");
    }
}

#[test]
fn a_model_of_another_file() {
    let is_model = |s: &(&[u8; 4], u16, Vec<u8>)| [b"MEAN", b"CHRT", b"ANCH", b"SIDE"].contains(&s.0);
    let mut all = one()[0].2.clone();
    one().iter().filter(|s| is_model(s)).for_each(|s| all.extend(&s.2));
    let mut rows = one();
    rows.retain(|s| !is_model(s));
    rows.push((b"MREF", 0, [&xxh3_128(&all).to_le_bytes()[..], b"m.vlc"].concat()));
    let file = version_2(&rows, b"");
    assert!(Store::parse(&file).unwrap_err().contains("m.vlc"));
    // A file of either version may have the model.
    for model in [version_2(&one(), b""), small().write()] {
        let store = Store::parse_with_model(&file, &model).unwrap();
        assert_eq!(store.decode(37), parse(&model).unwrap().decode(37));
    }
    let mut other = small();
    other.mean[0] = 0.75;
    assert!(Store::parse_with_model(&file, &other.write()).unwrap_err().contains("another model"));
}

#[test]
fn slots_hold_seven_bits_a_byte() {
    let fields = Fields { generation: 1, table: 192, entries: 3, table_hash: u64::MAX, features: 0 };
    let bytes = slot_bytes(2, fields);
    // Generation 1; byte 9 starts with bit 63 of it, then the low bits of 192: 64 + 128 are bits 70 and 71.
    assert_eq!((bytes[0], bytes[9], bytes[10]), (0x81, 0, 0x03));
    assert_eq!(slot(&bytes, 2), Slot::Valid(fields));
    let newest = Fields { features: 1 << 63, ..fields };
    assert_eq!(slot(&slot_bytes(3, newest), 3), Slot::Valid(newest));
    assert_ne!(slot(&slot_bytes(3, newest), 2), Slot::Valid(newest));
    let mut bad = bytes;
    bad[3] ^= 0x03;
    assert_eq!(slot(&bad, 2), Slot::Torn);
    bad[3] ^= 0x01;
    assert_eq!(slot(&bad, 2), Slot::Damaged);
    bad = bytes;
    bad[40] = 3;
    assert_eq!(slot(&bad, 2), Slot::Damaged);
    assert_eq!(slot(&[0; 64], 2), Slot::Empty);
}

#[test]
fn packed_ids() {
    // 256 numbers from 1,000 in steps of 3 (10 bits: up to 765), then 2 of which the larger is 2^63 above.
    let mut bytes = Vec::new();
    for word in [1000_u64, 10, 7, 128 * 2560 + 64] {
        bytes.extend(word.to_le_bytes());
    }
    let differences: Vec<u32> = (0..256).map(|i| 3 * i).collect();
    bytes.extend(pack(&differences, 10));
    bytes.extend([0_u64, 1 << 63].iter().flat_map(|v| v.to_le_bytes()));
    let ids = numbers(&bytes, 258).unwrap();
    assert_eq!((&ids[255], &ids[256], &ids[257]), (&Id::Number(1765), &Id::Number(7), &Id::Number((1 << 63) + 7)));
    assert!(numbers(&bytes, 257).is_err() && numbers(&bytes[1..], 258).is_err());

    let ends = [0_u64, 3].iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    // Ends 0, 2 and 5 from base 0 in 3 bits: 000 010 101.
    let strings = |text: &[u8]| [&18_u64.to_le_bytes()[..], &ends, &[0b0101_0000, 0b1], text].concat();
    let text = |s: &str| Id::Text(s.into());
    assert_eq!(texts(&strings("éabc".as_bytes()), 3).unwrap(), [text(""), text("é"), text("abc")]);
    assert!(texts(&strings("aéb".as_bytes()), 3).is_err());
    assert!(texts(&strings(b"abcdef"), 3).is_err());
}
