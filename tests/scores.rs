//! What scores are made of beside the codes: weights of codewords, two nibbles of factor, reaches, one length for all rows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use vlc::{
    Budget, CodeKind, Config, Decoder, DecoderShape, EncodeOptions, Error, Index, Mat, MatRef, Metric, SearchOptions,
    Store, compress, compress_to, compress_with_model,
    measure::{exact_neighbors, recall},
    plan, train_to,
};

use common::{
    Random, assert_answers, assert_store_answers, clustered, config, example, reference, scaled,
    sections::{Section, assemble, part, section, sections},
};

fn unit(rows: MatRef<'_>, length: f32) -> Mat {
    let mut out = Mat::new(rows.as_slice().to_vec(), rows.rows(), rows.dim()).unwrap();
    for i in 0..out.rows() {
        let norm = out.row(i).iter().map(|v| v * v).sum::<f32>().sqrt();
        out.row_mut(i).iter_mut().for_each(|v| *v *= length / norm);
    }
    out
}

fn named(sections: &[Section], kind: &[u8; 4]) -> bool {
    sections.iter().any(|s| s.kind == *kind)
}

/// Rows of one length: l2 gives the cosine's hits at the cosine's bytes, and distances; rows of that length can be added, others not.
#[test]
fn unit_rows_under_l2_are_those_of_the_cosine() {
    let (rows, queries) = (example("base.i8.npy"), example("queries.i8.npy"));
    let (rows, queries) = (unit(rows.view().slice(0..3000), 7.0), unit(queries.view().slice(0..100), 7.0));
    let of = |metric| compress(rows.view(), &config(metric, 0.06)).unwrap();
    let (cosine, l2) = (of(Metric::Cosine), of(Metric::L2));
    let file = reference(&l2);
    assert_eq!((file.meta.gain_nibbles, file.side.gain_range), (0, None));
    assert!((file.side.one_gain - 7.0).abs() < 1e-5 && file.center.iter().all(|&c| c == 0.0));
    assert!(l2.bytes().len() < cosine.bytes().len() + 4 * 384 + 256);
    let found = |index: &Index<Vec<u8>>| index.search(queries.view(), &SearchOptions::new(21)).unwrap();
    let truth = exact_neighbors(&rows.view(), queries.view(), 21, Metric::L2).unwrap();
    let [by_cosine, by_l2] = [&cosine, &l2].map(|index| recall(&found(index), &truth, 10));
    assert!((by_cosine - by_l2).abs() < 0.03, "cosine {by_cosine}, l2 {by_l2}");
    let few = queries.view().slice(0..4);
    assert_answers(&file, few, &l2.search(few, &SearchOptions::new(10)).unwrap(), 10);

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("one.vlc");
    compress_to(&rows.view(), &path, &config(Metric::L2, 0.06)).unwrap();
    let mut store = Store::open(&path).unwrap();
    let append = |store: &mut Store, length: f32| {
        let more = unit(clustered(9, 40, 384).view(), length);
        store.append(&more.view(), &EncodeOptions::default())
    };
    append(&mut store, 7.1).unwrap();
    let Err(Error::Input(error)) = append(&mut store, 8.0) else { panic!("appended") };
    assert_eq!(error.row, Some(0));
    assert!(
        error.message.contains("its length is ") && error.message.contains("length 7 or nearly"),
        "{}",
        error.message
    );
    drop(store);
    let index = Index::open(&path).unwrap();
    index.verify().unwrap();
    assert_eq!(index.len(), 3040);
    // What is decoded has about that length.
    let decoded = index.decode(0..5).unwrap();
    for row in 0..5 {
        let length = decoded.row(row).iter().map(|v| v * v).sum::<f32>().sqrt();
        assert!((4.0..7.5).contains(&length), "{length}");
    }
}

/// A file large enough for 256 factors and weights: its answers are those of the reference, also of rows that came later and of a file that
/// names its model.
#[test]
fn weights_and_two_nibbles_are_those_of_the_reference() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (rows, queries) = (example("base.i8.npy"), example("queries.i8.npy"));
    let queries = queries.view().slice(0..4);
    for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
        let rows = scaled(rows.view().slice(0..2000), 3);
        let settings = Config { budget: Budget::BytesPerVector(220.0), decoder: Decoder::Off, ..config(metric, 1.0) };
        compress_to(&rows.view(), at("one.vlc"), &settings).unwrap();
        let index = Index::read(at("one.vlc")).unwrap();
        let file = reference(&index);
        assert_eq!((file.meta.factor_nibbles, file.side.factor_levels.len()), (2, 256), "{metric}");
        assert_answers(&file, queries, &index.search(queries, &SearchOptions::new(10)).unwrap(), 10);
        let info = index.info();
        assert!(info.sections.iter().any(|(name, _)| name == "SCOR"), "{metric}");

        let more = scaled(clustered(5, 100, 384).view(), 4);
        Store::open(at("one.vlc")).unwrap().append(&more.view(), &EncodeOptions::default()).unwrap();
        let store = vlc_reference::Store::parse(&std::fs::read(at("one.vlc")).unwrap()).unwrap();
        let index = Index::open(at("one.vlc")).unwrap();
        index.verify().unwrap();
        assert_store_answers(&store, queries, &index.search(queries, &SearchOptions::new(10)).unwrap(), 10);

        train_to(&rows.view(), at("model.vlc"), &settings).unwrap();
        let (none, options) = (BTreeMap::new(), EncodeOptions::default());
        compress_with_model(&rows.view(), at("model.vlc"), at("named.vlc"), true, &none, &options).unwrap();
        let named_sections = sections(&std::fs::read(at("named.vlc")).unwrap());
        assert!(named(&named_sections, b"MREF") && !named(&named_sections, b"SCOR"));
        let index = Index::open(at("named.vlc")).unwrap();
        index.verify().unwrap();
        let [bytes, model] = ["named.vlc", "model.vlc"].map(|name| std::fs::read(at(name)).unwrap());
        let file = vlc_reference::parse_with_model(&bytes, &model).unwrap();
        assert_answers(&file, queries, &index.search(queries, &SearchOptions::new(10)).unwrap(), 10);
    }
}

/// The file with a section `SCOR` and what goes with it, and a factor code of `nibbles` for each row in front of its other side nibbles.
fn with_scores(bytes: &[u8], nibbles: usize, scores: &[f32], tables: u32, gain: f32) -> Vec<u8> {
    let mut parts = sections(bytes);
    let mut random = Random(77);
    let meta = part(&mut parts, b"META").clone();
    assert_eq!(meta[28], 0, "there is no factor yet");
    let symbols = u32::from_le_bytes(meta[24..28].try_into().unwrap()) as usize;
    part(&mut parts, b"META")[28] = nibbles as u8;
    let levels = if nibbles == 0 { 0 } else { 1 << (4 * nibbles) };
    let factors = (0..levels).flat_map(|i| (0.8 + 0.3 * i as f32 / levels as f32).to_le_bytes());
    let side = part(&mut parts, b"SIDE").clone();
    *part(&mut parts, b"SIDE") = factors.chain(side).collect();
    let segm = part(&mut parts, b"SEGM").clone();
    let n = u64::from_le_bytes(segm[..8].try_into().unwrap()) as usize;
    let codes = part(&mut parts, b"CODE").clone();
    let stride = codes.len() / n.div_ceil(32);
    let mut out = Vec::new();
    for (b, block) in codes.chunks(stride).enumerate() {
        out.extend(&block[..16 * symbols]);
        for _ in 0..nibbles {
            let nibble = |i: usize, random: &mut Random| if 32 * b + i < n { random.below(16) as u8 } else { 0 };
            let plane: Vec<u8> = (0..16).map(|i| nibble(i, &mut random) | nibble(16 + i, &mut random) << 4).collect();
            out.extend(plane);
        }
        out.extend(&block[16 * symbols..]);
    }
    *part(&mut parts, b"CODE") = out;
    let at = parts.iter().position(|s| s.kind == *b"SIDE").unwrap() + 1;
    let head = [&gain.to_le_bytes()[..], &tables.to_le_bytes(), &[0; 12]].concat();
    let values = scores.iter().flat_map(|v| v.to_le_bytes());
    parts.insert(at, section(b"SCOR", 0, head.into_iter().chain(values).collect()));
    parts.push(section(b"FEAT", 0, b"\x01\x06scores".to_vec()));
    assemble(&parts)
}

fn small(metric: Metric) -> Vec<u8> {
    let shape = DecoderShape { width: 9, layers: 1, bits: 3 };
    let settings = Config { decoder: Decoder::Of(shape), ..config(metric, 12.0) };
    compress(scaled(clustered(3, 137, 20).view(), 1).view(), &settings).unwrap().bytes().to_vec()
}

/// Reaches beside a learned decoder, and weights that its scan takes: as the format has it, whoever writes them.
#[test]
fn reaches_are_those_of_the_reference() {
    let queries = clustered(4, 5, 20);
    for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
        let tables: Vec<f32> = (0..32).map(|i| 0.4 + 0.05 * (i % 16) as f32).collect();
        for (flags, tables) in [(1, &tables[..16]), (2, &tables[..16]), (3, &tables[..])] {
            let bytes = with_scores(&small(metric), 1, tables, flags, 0.0);
            let index = Index::from_bytes(bytes).unwrap();
            index.verify().unwrap();
            let file = reference(&index);
            assert_eq!(file.side.reaches.len(), if flags > 1 { 16 } else { 0 });
            let found = index.search(queries.view(), &SearchOptions::new(137)).unwrap();
            assert_answers(&file, queries.view(), &found, 137);
        }
    }
}

/// Factors and weights below 0, which no writer makes, are followed all the same: a bound on a sum says nothing of what they make of it.
#[test]
fn factors_and_weights_below_0_are_followed() {
    let queries = clustered(4, 6, 20);
    for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
        for code in [CodeKind::Chain, CodeKind::Pq8] {
            let settings = Config { code, decoder: Decoder::Off, ..config(metric, 0.25) };
            let rows = scaled(clustered(3, 1900, 20).view(), 1);
            let mut parts = sections(compress(rows.view(), &settings).unwrap().bytes());
            assert!(!named(&parts, b"SCOR") && part(&mut parts, b"META")[28] == 1, "a small file with a nibble");
            for weights in [false, true] {
                let level = |i: usize| if i.is_multiple_of(3) { -0.5 - 0.1 * i as f32 } else { 0.3 + 0.1 * i as f32 };
                let levels: Vec<u8> = (0..16).flat_map(|i| level(i).to_le_bytes()).collect();
                let mut parts = parts.clone();
                if weights {
                    let head = [[0; 4], 1u32.to_le_bytes(), [0; 4], [0; 4], [0; 4]].concat();
                    parts.push(section(b"SCOR", 0, [head, levels].concat()));
                    parts.push(section(b"FEAT", 0, b"\x01\x06scores".to_vec()));
                } else {
                    part(&mut parts, b"SIDE")[..64].copy_from_slice(&levels);
                }
                let index = Index::from_bytes(assemble(&parts)).unwrap();
                let found = index.search(queries.view(), &SearchOptions::new(10)).unwrap();
                assert_answers(&reference(&index), queries.view(), &found, 10);
            }
        }
    }
}

/// What a plan expects is near what is found then, for every metric; and sample queries that say nothing cost nothing.
#[test]
fn plans_keep_their_promise() {
    let (base, queries) = (example("base.i8.npy"), example("queries.i8.npy"));
    let (sample, test) = (queries.view().slice(0..300), queries.view().slice(300..500));
    let random = Random(8).mat(300, 384);
    for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
        let rows = if metric == Metric::Cosine { base.clone() } else { unit(base.view(), 3.0) };
        let truth = exact_neighbors(&rows.view(), test, 21, metric).unwrap();
        let found = |settings: &Config<'_>| {
            let index = compress(rows.view(), settings).unwrap();
            recall(&index.search(test, &SearchOptions::new(10)).unwrap(), &truth, 10)
        };
        for ratio in [0.04, 0.08] {
            let settings = Config { queries: Some(sample), ..config(metric, ratio) };
            let expected = plan(&rows.view(), &settings).unwrap().expected_recall.unwrap();
            let measured = found(&settings);
            println!("{metric} {ratio}: expected {expected:.3}, measured {measured:.3}");
            assert!((expected - measured).abs() < 0.06, "{metric} {ratio}: {expected} expected, {measured} measured");
        }
        let [without, misled] =
            [None, Some(random.view())].map(|queries| found(&Config { queries, ..config(metric, 0.04) }));
        assert!(misled > without - 0.04, "{metric}: {misled} with queries of noise, {without} without any");
    }
}

/// What breaks the rules of the section is refused, by the reference too.
#[test]
fn broken_scores_are_refused() {
    let ones = [1f32; 32];
    let mut below = ones;
    below[20] = -0.1;
    let mut endless = ones;
    endless[3] = f32::INFINITY;
    let cases: [(&str, usize, &[f32], u32, f32); 9] = [
        ("tables", 1, &ones, 7, 0.0),
        ("tables", 0, &ones, 3, 0.0),
        ("ends", 1, &ones[..31], 3, 0.0),
        ("goes on", 1, &ones, 1, 0.0),
        ("below 0", 1, &below, 3, 0.0),
        ("finite", 1, &endless, 3, 0.0),
        ("gain of all rows", 1, &ones, 3, 1.0),
        ("gain of all rows", 1, &ones, 3, f32::NAN),
        ("gain of all rows", 1, &ones, 3, -1.0),
    ];
    let plain = small(Metric::Cosine);
    for (what, nibbles, tables, flags, gain) in cases {
        let bytes = with_scores(&plain, nibbles, tables, flags, gain);
        let error = Index::from_bytes(bytes.clone()).unwrap_err().to_string();
        assert!(error.contains(what), "{error} where {what} was expected");
        assert!(vlc_reference::parse(&bytes).is_err(), "{what}: the reference takes it");
    }
    // Two nibbles, or an l2 file without lengths, take the section.
    for (at, value) in [(28, 2), (12, 2)] {
        let mut parts = sections(&plain);
        part(&mut parts, b"META")[at] = value;
        if at == 12 {
            let mean = part(&mut parts, b"MEAN").clone();
            part(&mut parts, b"MEAN").extend(mean);
        } else {
            *part(&mut parts, b"SIDE") = vec![0; 1024];
        }
        let bytes = assemble(&parts);
        let error = Index::from_bytes(bytes.clone()).unwrap_err().to_string();
        assert!(error.contains("META"), "{error}");
        assert!(vlc_reference::parse(&bytes).is_err());
    }
}
