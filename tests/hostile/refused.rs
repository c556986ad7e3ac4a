//! Sections that are missing, misplaced, too many or unknown, and models in other files: refused by name.

use vlc::{Error, Index, ParseError, SearchOptions};
use vlc_reference::{
    container,
    header::{self, Fields, Slot, slot_bytes},
};

use crate::{
    GOLDEN, ROWS, SMALL,
    common::{
        Random, assert_store_answers, assert_store_rows,
        sections::{
            SLOTS_END, Section, assemble, assemble_as, assemble_v1, part, seal, section, sections, segm, tomb,
        },
    },
    exercise, is_model,
    memory::alone,
    open, plain, version,
};

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
        assert_store_answers(
            &store,
            queries.view(),
            &index.search(queries.view(), &SearchOptions::new(10)).unwrap(),
            10,
        );
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
            assert_eq!(*source, ParseError::Version { found: version, newest: vlc::FORMAT_VERSION });
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
