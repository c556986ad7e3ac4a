//! Rows of lengths that a model has not seen: they are kept, found, counted and told of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::{collections::BTreeMap, fs, path::Path};

use vlc::{
    Budget, Config, Decoder, EncodeOptions, Error, Index, Mat, MatRef, Metric, Neighbors, SearchOptions, Store,
    compress_to, compress_with_model,
    measure::{exact_neighbors, recall},
    merge, train_to,
};

use common::{
    Random, assert_store_answers, assert_store_rows, clustered, example, scaled,
    sections::{Section, assemble, part, section, sections},
};

const PART: usize = 1200;

fn unit(rows: MatRef<'_>) -> Mat {
    let mut out = Mat::new(rows.as_slice().to_vec(), rows.rows(), rows.dim()).unwrap();
    for i in 0..out.rows() {
        let norm = length(out.row(i));
        out.row_mut(i).iter_mut().for_each(|v| *v /= norm);
    }
    out
}

fn length(row: &[f32]) -> f32 {
    row.iter().map(|v| v * v).sum::<f32>().sqrt()
}

fn times(rows: MatRef<'_>, factor: f32) -> Mat {
    Mat::new(rows.as_slice().iter().map(|v| v * factor).collect(), rows.rows(), rows.dim()).unwrap()
}

fn joined(parts: &[MatRef<'_>]) -> Mat {
    let values: Vec<f32> = parts.iter().flat_map(|part| part.as_slice().to_vec()).collect();
    Mat::new(values, parts.iter().map(|part| part.rows()).sum(), parts[0].dim()).unwrap()
}

fn answers(path: &Path, queries: MatRef<'_>) -> Neighbors {
    Index::open(path).unwrap().search(queries, &SearchOptions::new(10)).unwrap()
}

/// Opens, verifies, and compares with the reference.
fn check(path: &Path, queries: MatRef<'_>) -> vlc_reference::Store {
    let index = Index::open(path).unwrap();
    index.verify().unwrap();
    let reference = vlc_reference::Store::parse(&fs::read(path).unwrap()).unwrap();
    assert_store_rows(&index, &reference);
    assert_store_answers(&reference, queries, &index.search(queries, &SearchOptions::new(10)).unwrap(), 10);
    reference
}

fn kinds(path: &Path) -> Vec<Section> {
    sections(&fs::read(path).unwrap())
}

fn count(path: &Path, kind: &[u8; 4]) -> usize {
    kinds(path).iter().filter(|s| s.kind == *kind).count()
}

/// Rows that are appended at a hundred times the length, or a hundredth, are found as well as if they had been there from the start. (Where
/// all rows of an l2 store have one length, it keeps none: see below.)
#[test]
fn appended_rows_of_other_lengths_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (rows, queries) = (unit(example("base.i8.npy").view()), unit(example("queries.i8.npy").view()));
    let (first, second) = (rows.view().slice(0..PART), rows.view().slice(PART..2 * PART));
    let queries = queries.view().slice(0..150);
    let model = train_settings(Metric::Dot, 2 * PART);
    for (metric, factor) in [(Metric::Dot, 100.0), (Metric::Dot, 0.01), (Metric::L2, 100.0)] {
        let settings = Config { metric, ..model.clone() };
        let first = if metric == Metric::L2 { scaled(first, 5) } else { times(first, 1.0) };
        let first = first.view();
        let second = times(second, factor);
        let all = joined(&[first, second.view()]);
        let of = |name: &str| {
            let truth = exact_neighbors(&all.view(), queries, 21, metric).unwrap();
            recall(&answers(&at(name), queries), &truth, 10)
        };
        compress_to(&all.view(), at("together.vlc"), &settings).unwrap();
        compress_to(&first, at("grown.vlc"), &settings).unwrap();
        let report = Store::open(at("grown.vlc")).unwrap().append(&second.view(), &EncodeOptions::default()).unwrap();
        let (together, grown) = (of("together.vlc"), of("grown.vlc"));
        println!("{metric:?}, {factor}: together {together:.3}, grown {grown:.3}");
        assert!(grown > together - 0.05, "{metric:?}, {factor}: {grown} appended, {together} together");
        assert!(report.unlike_lengths(), "{report:?}");
        let ((lo, hi), (least, most)) = (report.lengths.unwrap(), report.trained_lengths.unwrap());
        if metric == Metric::Dot {
            assert!((lo / factor - 1.0).abs() < 1e-5 && (hi / factor - 1.0).abs() < 1e-5, "{lo} {hi}");
            assert!((least - 1.0).abs() < 1e-5 && (most - 1.0).abs() < 1e-5, "{least} {most}");
        }
        let reference = check(&at("grown.vlc"), queries.slice(0..10));
        assert!(!reference.segments.last().unwrap().file.gain_pieces.is_empty());
        let index = Index::open(at("grown.vlc")).unwrap();
        let decoded = index.decode(0..2 * PART).unwrap();
        for i in 0..2 * PART {
            // What is decoded is shorter than what was encoded, by what the codes leave of its direction.
            let share = length(decoded.row(i)) / length(all.row(i));
            assert!(
                metric == Metric::L2 || (0.7..1.1).contains(&share),
                "row {i} is decoded at {share} of its length"
            );
        }
        // Nothing is coded again by a rewrite.
        Store::open(at("grown.vlc")).unwrap().compact().unwrap();
        let mut codes = [reference, check(&at("grown.vlc"), queries.slice(0..2))].map(|store| {
            (store.segments.into_iter().flat_map(|s| s.file.gain_pieces).collect::<Vec<_>>(), store.rows.len())
        });
        codes[0].0.dedup();
        assert_eq!(codes[0], codes[1]);
    }
}

fn train_settings(metric: Metric, rows: usize) -> Config<'static> {
    Config {
        metric,
        budget: Budget::Ratio(0.1),
        decoder: Decoder::Off,
        expected_rows: Some(rows as u64),
        ..Config::default()
    }
}

/// Small enough to do it often.
fn small(metric: Metric) -> Config<'static> {
    Config { metric, budget: Budget::Ratio(0.4), ..Config::default() }
}

/// Rows in ever other lengths, a few at a time: what is there stays as it was, whichever segments are put together.
#[test]
fn lengths_stay_whatever_is_appended_and_deleted() {
    for metric in [Metric::Dot, Metric::L2] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("grown.vlc");
        let mut all = clustered(21, 300, 12);
        compress_to(&all.view(), &path, &small(metric)).unwrap();
        let mut store = Store::open(&path).unwrap();
        for (round, factor) in [1.0, 30.0, 1.0, 1e-3, 1e4, 0.5].into_iter().enumerate() {
            let more = times(clustered(22 + round as u64, 40 + 10 * round, 12).view(), factor);
            let report = store.append(&more.view(), &EncodeOptions::default()).unwrap();
            // For l2 what counts is how far rows are from the center: short ones are as far as that is from zero.
            if factor > 2.0 || (factor < 0.1 && metric == Metric::Dot) {
                assert!(report.unlike_lengths(), "{metric:?}: {report:?}");
            }
            all = joined(&[all.view(), more.view()]);
        }
        let reference = check(&path, Random(5).mat(4, 12).view());
        let center = reference.model.center.clone();
        for rank in 0..all.rows() {
            let away = |row: &[f64]| row.iter().zip(&center).map(|(v, c)| (v - c).powi(2)).sum::<f64>().sqrt();
            let given = away(&common::wide(all.row(rank)));
            let row = &reference.rows[rank];
            let kept = reference.segments[row.segment].file.gain(row.local);
            assert!((kept / given - 1.0).abs() < 0.05, "{metric:?}, row {rank}: {kept} of {given}");
        }
        store.delete(&(0..500).step_by(3).collect()).unwrap();
        let before = Index::open(&path).unwrap();
        let n = before.len();
        let decoded = before.decode(0..n).unwrap();
        drop(before);
        store.compact().unwrap();
        let after = Index::open(&path).unwrap().decode(0..n).unwrap();
        for i in 0..n {
            let share = length(after.row(i)) / length(decoded.row(i)).max(1e-9);
            assert!((share - 1.0).abs() < 0.05, "{metric:?}, row {i}: {share}");
        }
        check(&path, Random(6).mat(4, 12).view());
    }
}

/// With a model of other lengths, in parts that are merged or all at once.
#[test]
fn rows_encoded_with_a_model_of_other_lengths_are_found_and_told_of() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let rows = unit(clustered(31, 900, 12).view());
    let long = times(rows.view(), 100.0);
    let queries = unit(clustered(32, 50, 12).view());
    train_to(&rows.view(), at("model.vlc"), &small(Metric::Dot)).unwrap();
    let encode = |rows: MatRef<'_>, name: &str| {
        let options = EncodeOptions::default();
        compress_with_model(&rows, at("model.vlc"), at(name), false, &BTreeMap::new(), &options).unwrap()
    };
    let same = encode(rows.view(), "same.vlc");
    assert!(!same.unlike_lengths() && !same.drifted, "{same:?}");
    assert_eq!((same.lengths.is_some(), count(&at("same.vlc"), b"GAIN")), (true, 0));
    let other = encode(long.view(), "long.vlc");
    assert!(other.unlike_lengths() && !other.drifted, "{other:?}");
    // Rows of other lengths are encoded as well as those.
    assert!((other.energy / same.energy - 1.0).abs() < 0.01, "{} {}", other.energy, same.energy);
    assert_eq!(count(&at("long.vlc"), b"GAIN"), 1);
    let found = |name: &str| answers(&at(name), queries.view());
    assert_eq!(found("same.vlc").ids, found("long.vlc").ids, "all are a hundred times as long");
    check(&at("long.vlc"), queries.view());

    // Parts of the lengths the model has, merged, are the whole byte for byte; others are as good.
    encode(rows.view().slice(0..400), "a.vlc");
    encode(rows.view().slice(400..900), "b.vlc");
    merge(&[at("a.vlc"), at("b.vlc")], at("merged.vlc"), None).unwrap();
    assert!(fs::read(at("merged.vlc")).unwrap() == fs::read(at("same.vlc")).unwrap());
    encode(long.view().slice(400..900), "b.vlc");
    merge(&[at("a.vlc"), at("b.vlc")], at("merged.vlc"), None).unwrap();
    check(&at("merged.vlc"), queries.view());
    let all = joined(&[rows.view().slice(0..400), long.view().slice(400..900)]);
    let truth = exact_neighbors(&all.view(), queries.view(), 21, Metric::Dot).unwrap();
    assert!(recall(&found("merged.vlc"), &truth, 10) > 0.6, "{}", recall(&found("merged.vlc"), &truth, 10));

    // Other rows than the model was made for.
    let strange = Random(33).mat(300, 12);
    let report = encode(strange.view(), "strange.vlc");
    assert!(report.drifted && report.energy > report.trained_energy, "{report:?}");
}

/// Lengths as sets of embeddings have them are stored as ever.
#[test]
fn ordinary_lengths_take_no_scale_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plain.vlc");
    let rows = scaled(clustered(41, 800, 12).view(), 42);
    for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
        compress_to(&rows.view().slice(0..600), &path, &small(metric)).unwrap();
        let (lo, hi) = {
            let lengths = (0..600).map(|i| length(rows.row(i)));
            (lengths.clone().fold(f32::INFINITY, f32::min), lengths.fold(0.0, f32::max))
        };
        let inside: Vec<usize> = (600..800).filter(|&i| (lo..hi).contains(&length(rows.row(i)))).collect();
        let more: Vec<f32> = inside.iter().flat_map(|&i| rows.row(i).to_vec()).collect();
        let more = Mat::new(more, inside.len(), 12).unwrap();
        let report = Store::open(&path).unwrap().append(&more.view(), &EncodeOptions::default()).unwrap();
        assert_eq!(report.lengths.is_some(), metric != Metric::Cosine);
        if metric == Metric::Dot {
            assert!(!report.unlike_lengths() && count(&path, b"GAIN") == 0, "{report:?}");
        }
        if metric == Metric::Cosine {
            assert_eq!(count(&path, b"GAIN"), 0);
        }
        check(&path, Random(43).mat(4, 12).view());
    }
}

/// One row that is thousands of times longer does not make the others coarse, and the file still fits the budget.
#[test]
fn an_outlier_at_compress_leaves_the_other_lengths_as_they_were() {
    let rows = scaled(clustered(51, 700, 12).view(), 52);
    let plain = vlc::compress(rows.view(), &small(Metric::Dot)).unwrap();
    let mut with = rows.clone();
    with.row_mut(7)[3] = 1e12;
    let index = vlc::compress(with.view(), &small(Metric::Dot)).unwrap();
    index.verify().unwrap();
    let worst = |index: &Index<Vec<u8>>, rows: &Mat| {
        let file = common::reference(index);
        let off = |i: usize| (file.gain(i) / f64::from(length(rows.row(i))) - 1.0).abs();
        (0..rows.rows()).filter(|&i| i != 7).map(off).fold(0.0, f64::max)
    };
    let (before, after) = (worst(&plain, &rows), worst(&index, &with));
    assert!(after < 1.2 * before, "lengths are off by {after}, without the outlier by {before}");
    let file = common::reference(&index);
    assert!((file.gain(7) / 1e12 - 1.0).abs() < 1e-4);
    assert!(index.info().ratio <= 0.4, "{}", index.info().ratio);
}

/// The error of rows that are encoded with a model is that of the rows as they are decoded, their lengths included.
#[test]
fn what_lengths_are_off_by_is_counted_as_error() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    // At so many bytes directions are nearly exact, and the steps of lengths between 0.1 and 10 are what is left.
    let settings = Config { metric: Metric::Dot, budget: Budget::BytesPerVector(1e4), ..Config::default() };
    let rows = scaled(clustered(71, 900, 4).view(), 72);
    train_to(&rows.view(), at("model.vlc"), &settings).unwrap();
    for (name, factor, least) in [("inside.vlc", 1.0, 2e-5), ("outside.vlc", 1e5, 2e-5)] {
        let rows = times(rows.view(), factor);
        let options = EncodeOptions::default();
        let metadata = BTreeMap::new();
        let report =
            compress_with_model(&rows.view(), at("model.vlc"), at(name), false, &metadata, &options).unwrap();
        let decoded = Index::open(at(name)).unwrap().decode(0..900).unwrap();
        let off = |i: usize| {
            let squares = rows.row(i).iter().zip(decoded.row(i)).map(|(x, y)| f64::from(x - y).powi(2));
            squares.sum::<f64>() / f64::from(length(rows.row(i))).powi(2)
        };
        let energy = (0..900).map(off).sum::<f64>() / 900.0;
        println!("{name}: energy {}, of decoded rows {energy}", report.energy);
        assert!(energy > least, "the lengths of {name} are all but exact: {energy}");
        assert!((report.energy / energy - 1.0).abs() < 0.05, "{name}: {} instead of {energy}", report.energy);
        let reference = vlc_reference::Store::parse(&fs::read(at(name)).unwrap()).unwrap();
        let written = reference.history[0].energy as f64 / 4_294_967_296.0 / 900.0;
        assert!((written / report.energy - 1.0).abs() < 1e-6, "{written} in HIST, {} reported", report.energy);
    }
}

/// What breaks the rules of the section is refused, by the reference too.
#[test]
fn broken_scales_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("grown.vlc");
    compress_to(&clustered(61, 200, 6).view(), &path, &small(Metric::Dot)).unwrap();
    let more = times(clustered(62, 500, 6).view(), 50.0);
    Store::open(&path).unwrap().append(&more.view(), &EncodeOptions::default()).unwrap();
    let whole = kinds(&path);
    let open = |sections: &[Section]| {
        let bytes = assemble(sections);
        let (ours, theirs) = (Index::from_bytes(bytes.clone()).map(|_| ()), vlc_reference::Store::parse(&bytes));
        assert_eq!(ours.is_ok(), theirs.is_ok(), "{ours:?} {:?}", theirs.err());
        ours
    };
    open(&whole).unwrap();
    let piece = |codes: u16, first: f32, last: f32| {
        [&codes.to_le_bytes()[..], &first.to_le_bytes(), &last.to_le_bytes()].concat()
    };
    for gain in [
        vec![],
        piece(3, 1.0, 2.0)[..9].to_vec(),
        piece(0, 1.0, 1.0),
        piece(1, 1.0, 2.0),
        piece(256, 1.0, 2.0),
        piece(9, 2.0, 1.0),
        piece(9, -1.0, 1.0),
        piece(9, 1.0, f32::INFINITY),
        piece(9, f32::NAN, 1.0),
        [piece(3, 1.0, 2.0), piece(3, 2.0, 3.0)].concat(),
        (0..17).flat_map(|i| piece(1, 1.0 + i as f32, 1.0 + i as f32)).collect(),
    ] {
        let mut changed = whole.clone();
        *part(&mut changed, b"GAIN") = gain.clone();
        let refused = open(&changed);
        assert!(matches!(refused, Err(Error::Format { .. })), "{gain:?}: {refused:?}");
    }
    // Of a segment that is not there, and where lengths are not kept.
    let mut changed = whole.clone();
    changed.push(section(b"GAIN", 9, piece(3, 1.0, 2.0)));
    assert!(open(&changed).is_err());
    let cosine = vlc::compress(clustered(63, 200, 6).view(), &small(Metric::Cosine)).unwrap();
    let mut changed = sections(cosine.bytes());
    changed.push(section(b"GAIN", 0, piece(3, 1.0, 2.0)));
    assert!(open(&changed).is_err());
}
