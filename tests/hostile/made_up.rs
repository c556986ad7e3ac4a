//! Contents that nothing wrote, with every hash right: the reader survives what it believes.

use vlc::{EncodeOptions, Ids, SearchOptions, Store};
use vlc_reference::{
    container,
    header::{self, Slot, slot_bytes},
};

use crate::{
    GOLDEN, SMALL,
    common::{
        Random, assert_answers, assert_store_answers, assert_store_rows, clustered, reference,
        sections::{
            SLOTS_END, Section, assemble, assemble_as, hist, mutate, nasty, part, seal, section, sections, segm,
        },
    },
    exercise,
    memory::alone,
    open, plain, survives, version,
};

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
            assert_store_answers(
                &store,
                queries.view(),
                &index.search(queries.view(), &SearchOptions::new(k)).unwrap(),
                k,
            );
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
        assert_answers(&file, queries.view(), &index.search(queries.view(), &SearchOptions::new(k)).unwrap(), k);
    }
    exercise(&index);
}
