//! Files with a learned decoder: what they answer, how they change, what damage does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use vlc::{
    Budget, CodeKind, Compute, Config, Decoder, DecoderShape, EncodeOptions, Error, Ids, Index, MappedFile, Mat,
    Metric, SearchOptions, Store, compress_to, compress_with_model,
    measure::{exact_neighbors, recall},
    merge, plan, train_to, transcode,
};

use common::{
    Random, assert_answers, clustered, config, example, reference, scaled,
    sections::{Section, assemble, mutate, sections},
};

const DIM: usize = 12;
const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::L2];
const SMALL: DecoderShape = DecoderShape { width: 9, layers: 1, bits: 3 };

fn with_decoder(metric: Metric, ratio: f64, shape: DecoderShape) -> Config<'static> {
    Config { decoder: Decoder::Of(shape), ..config(metric, ratio) }
}

#[test]
fn answers_are_those_of_the_reference() {
    let shapes = [(1, 1, 1), (9, 1, 2), (33, 2, 3), (7, 3, 8), (16, 4, 5)];
    for (case, (width, layers, bits)) in shapes.into_iter().enumerate() {
        let shape = DecoderShape { width, layers, bits };
        for metric in METRICS {
            let rows = scaled(clustered(3, 137, 20).view(), 1);
            let code = [CodeKind::Chain, CodeKind::Pq8][case % 2];
            let settings = Config { code, ..with_decoder(metric, 12.0, shape) };
            let index = vlc::compress(rows.view(), &settings).unwrap();
            index.verify().unwrap();
            let info = index.info();
            let section = info.sections.iter().find(|(name, _)| name == "DECO").unwrap();
            assert_eq!((info.decoder.unwrap().shape, info.decoder.unwrap().bytes), (shape, section.1));
            let file = reference(&index);
            assert!(file.learned.is_some() && file.side.factor_levels.is_empty());
            let queries = clustered(4, 5, 20);
            // Of so few rows all are candidates of the largest k.
            assert_answers(
                &file,
                queries.view(),
                &index.search(queries.view(), &SearchOptions::new(137)).unwrap(),
                137,
            );
            let decoded = index.decode(0..137).unwrap();
            for row in 0..137 {
                let expected = file.decode(row);
                let size = expected.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
                for (&found, expected) in decoded.row(row).iter().zip(expected) {
                    assert!((f64::from(found) - expected).abs() < 1e-4 * size, "{metric:?}, row {row}");
                }
            }
        }
    }
}

#[test]
fn scores_do_not_depend_on_what_comes_with_a_row() {
    let rows = clustered(5, 2500, DIM);
    let index = vlc::compress(rows.view(), &with_decoder(Metric::Dot, 0.4, SMALL)).unwrap();
    let queries = clustered(6, 8, DIM);
    let many = index.search(queries.view(), &SearchOptions::new(300)).unwrap();
    for k in [1, 7, 40] {
        let few = index.search(queries.view(), &SearchOptions::new(k)).unwrap();
        for q in 0..8 {
            for (id, score) in few.ids.row(q).iter().zip(few.scores.row(q)) {
                let at = many.ids.row(q).iter().position(|other| other == id).expect("of fewer candidates");
                assert_eq!(many.scores.row(q)[at], *score, "query {q}, row {id}, k {k}");
            }
        }
    }
    let decoded = index.decode(0..2500).unwrap();
    for row in [0, 1, 31, 32, 2499] {
        assert_eq!(index.decode(row..row + 1).unwrap().row(0), decoded.row(row));
    }
}

#[test]
fn equal_scores_go_to_the_lower_row() {
    let mut rows = clustered(5, 2500, DIM);
    let same = rows.row(0).to_vec();
    (0..30).for_each(|i| rows.row_mut(i * 70).copy_from_slice(&same));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vlc");
    compress_to(&rows.view().slice(0..2000), &path, &with_decoder(Metric::Cosine, 0.5, SMALL)).unwrap();
    Store::open(&path).unwrap().append(&rows.view().slice(2000..2500), &EncodeOptions::default()).unwrap();
    let found = Index::open(&path).unwrap().query(&same, 20).unwrap();
    assert_eq!(found.iter().map(|hit| hit.id).collect::<Vec<_>>(), (0..20).map(|i| i * 70).collect::<Vec<u64>>());
    assert!(found.iter().all(|hit| hit.score == found[0].score));
}

#[test]
fn threads_do_not_show() {
    let rows = clustered(7, 3000, DIM);
    let make = |threads: usize, seed: u64| {
        let config = Config {
            compute: Compute { threads: Some(threads), ..Compute::default() },
            seed,
            ..with_decoder(Metric::L2, 0.6, SMALL)
        };
        vlc::compress(rows.view(), &config).unwrap().bytes().to_vec()
    };
    assert!(make(1, 1) == make(3, 1));
    assert!(make(1, 1) != make(1, 2));
}

/// On real rows, as many of them as there are here: the network lowers the error, and is paid for out of the budget.
#[test]
fn a_decoder_decodes_better() {
    let (rows, queries) = (example("base.i8.npy"), example("queries.i8.npy"));
    let truth = exact_neighbors(&rows.view(), queries.view(), 10, Metric::Cosine).unwrap();
    let shape = DecoderShape { width: 64, layers: 1, bits: 4 };
    let budget = Budget::CodeBytes(40.0);
    let [with, without] = [Decoder::Of(shape), Decoder::Off].map(|decoder| {
        let settings = Config { budget, decoder, ..Config::default() };
        let index = vlc::compress(rows.view(), &settings).unwrap();
        let found = index.search(queries.view(), &SearchOptions::new(10)).unwrap();
        let recall = recall(&found, &truth, 10);
        let info = index.info();
        println!("{decoder:?}: recall {recall:.4}, energy {:.4}, {:?}", info.energy, info.decoder);
        (recall, info)
    });
    assert_eq!(with.1.code_bytes, 40.0);
    assert_eq!(without.1.code_bytes, 40.0);
    assert!(with.1.energy < 0.97 * without.1.energy, "{} {}", with.1.energy, without.1.energy);
    assert!(with.0 > without.0 - 0.005, "{} {}", with.0, without.0);
    // Rows in the place of queries are an easier question, with a decoder and without.
    let [easier, without] = [&with, &without].map(|(recall, info)| f64::from(info.recall.unwrap().recall) - recall);
    assert!((easier - without).abs() < 0.03, "{easier} {without}");
    // What its energy says is what it decodes to.
    let settings = Config { budget, decoder: Decoder::Of(shape), ..Config::default() };
    let index = vlc::compress(rows.view(), &settings).unwrap();
    let decoded = index.decode(0..index.len()).unwrap();
    let of_row = |i: usize| -> f64 {
        let row = common::wide(rows.row(i));
        let unit = vlc_reference::distance::normalised(&row);
        decoded.row(i).iter().zip(unit).map(|(&a, b)| (f64::from(a) - b).powi(2)).sum()
    };
    let energy = (0..index.len()).map(of_row).sum::<f64>() / index.len() as f64;
    assert!((energy - with.1.energy).abs() < 0.01 * energy, "{energy} {}", with.1.energy);
    // All candidates or few: the shortlist was chosen so that it makes next to no difference.
    let all = index.search(queries.view(), &SearchOptions::new(2000)).unwrap();
    let long = recall(&all, &truth, 10);
    assert!(long - with.0 < 0.01, "{long} with all rows scored again, {} with the shortlist", with.0);
}

#[test]
fn plans_say_whether_there_is_a_decoder() {
    let rows = clustered(7, 3000, DIM);
    let auto = plan(&rows.view(), &config(Metric::Cosine, 0.6)).unwrap();
    assert_eq!((auto.decoder, auto.decoder_bytes), (None, 0), "so few rows are better off without");
    let given = plan(&rows.view(), &with_decoder(Metric::Cosine, 0.6, SMALL)).unwrap();
    assert_eq!(given.decoder, Some(SMALL));
    let index = vlc::compress(rows.view(), &with_decoder(Metric::Cosine, 0.6, SMALL)).unwrap();
    let info = index.info();
    assert!(info.file_bytes <= given.file_bytes && info.bytes_per_vector <= 0.6 * 4.0 * DIM as f64);
    assert!(info.decoder.unwrap().bytes <= given.decoder_bytes);
    let refused = |config: Config<'_>| matches!(vlc::compress(rows.view(), &config), Err(Error::Config(_)));
    for (width, layers, bits) in [(0, 1, 2), (65_537, 1, 2), (8, 0, 2), (8, 5, 2), (8, 1, 0), (8, 1, 9)] {
        assert!(refused(with_decoder(Metric::Cosine, 0.6, DecoderShape { width, layers, bits })));
    }
    assert!(refused(with_decoder(Metric::Cosine, 0.6, DecoderShape { width: 65_536, layers: 4, bits: 1 })));
    assert!(refused(Config { refine: Some(4), ..with_decoder(Metric::Cosine, 0.6, SMALL) }));
    assert!(refused(Config { charts: Some(2), ..with_decoder(Metric::Cosine, 0.6, SMALL) }));
}

#[test]
fn rows_without_residuals_are_left_as_they_are() {
    let rows = Mat::new([0.5f32, -1.0, 2.0, 0.25].repeat(600), 600, 4).unwrap();
    let settings = Config { budget: Budget::BytesPerVector(40.0), ..with_decoder(Metric::Dot, 1.0, SMALL) };
    let index = vlc::compress(rows.view(), &settings).unwrap();
    index.verify().unwrap();
    let decoded = index.decode(0..600).unwrap();
    assert!(decoded.as_slice().iter().zip(rows.as_slice()).all(|(a, b)| (a - b).abs() < 0.1));
    let found = index.search(rows.view().slice(0..1), &SearchOptions::new(5)).unwrap();
    assert_eq!(found.ids.row(0), [0, 1, 2, 3, 4]);
}

/// The rows of a file by id.
fn contents(path: &Path) -> BTreeMap<u64, Vec<f32>> {
    let index = Index::open(path).unwrap();
    index.verify().unwrap();
    let Ids::Numbers(ids) = index.ids(0..index.len()).unwrap() else { panic!("ids are numbers") };
    let rows = index.decode(0..index.len()).unwrap();
    ids.into_iter().enumerate().map(|(i, id)| (id, rows.row(i).to_vec())).collect()
}

#[test]
fn rows_stay_what_they_are_when_the_file_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vlc");
    let rows = clustered(8, 900, DIM);
    let queries = clustered(9, 4, DIM);
    for metric in METRICS {
        compress_to(&rows.view().slice(0..501), &path, &with_decoder(metric, 0.8, SMALL)).unwrap();
        let mut expected = contents(&path);
        let mut store = Store::open(&path).unwrap();
        for (from, to) in [(501, 503), (503, 700), (700, 900)] {
            store.append(&rows.view().slice(from..to), &EncodeOptions::default()).unwrap();
        }
        let all = contents(&path);
        assert_eq!(all.len(), 900);
        assert!(expected.iter().all(|(id, row)| all[id] == *row), "what was there stays");
        let gone: Ids = (0..900).filter(|i| i % 3 == 1).collect();
        assert_eq!(store.delete(&gone).unwrap().deleted, 300);
        expected = all.into_iter().filter(|(id, _)| id % 3 != 1).collect();
        assert!(contents(&path) == expected);
        let search = |path: &Path| {
            let index = Index::open(path).unwrap();
            index.search(queries.view(), &SearchOptions::new(600)).unwrap()
        };
        let before = search(&path);
        assert_eq!(before.ids.dim(), 600);
        assert!(before.ids.as_slice().iter().all(|id| id % 3 != 1));
        store.compact().unwrap();
        assert!(contents(&path) == expected);
        assert!(search(&path) == before, "{metric:?}");
        drop(store);
        let report = transcode(&path, folder.path().join("b.vlc"), &config(metric, 0.6)).unwrap();
        assert_eq!((report.n, report.decoder), (600, None));
    }
}

#[test]
fn drift_expects_what_the_network_has_not_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vlc");
    let rows = example("base.i8.npy");
    // Wide enough to learn some of its rows by heart.
    let shape = DecoderShape { width: 128, layers: 1, bits: 4 };
    let settings = Config { budget: Budget::CodeBytes(30.0), ..with_decoder(Metric::Cosine, 1.0, shape) };
    compress_to(&rows.view().slice(0..4000), &path, &settings).unwrap();
    let mut store = Store::open(&path).unwrap();
    let report = store.append(&rows.view().slice(4000..5000), &EncodeOptions::default()).unwrap();
    let unseen = Index::open(&path).unwrap().info().decoder.unwrap().unseen_energy.unwrap();
    println!("trained {}, unseen {unseen}, appended {}", report.trained_energy, report.energy);
    assert!(!report.drifted && unseen > report.trained_energy, "{unseen}, {report:?}");
    assert!((report.energy - unseen).abs() < 0.3 * unseen, "{unseen}, {report:?}");
    let report = store.append(&clustered(99, 500, rows.dim()).view(), &EncodeOptions::default()).unwrap();
    assert!(report.drifted, "{report:?}");
}

#[test]
fn all_rows_of_a_model_are_encoded_alike() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let rows = clustered(8, 1100, DIM);
    for metric in METRICS {
        train_to(&rows.view(), at("model.vlc"), &with_decoder(metric, 0.5, SMALL)).unwrap();
        let encode = |range: std::ops::Range<usize>, name: &str, refer: bool, threads: usize| {
            let options = EncodeOptions {
                compute: Compute { threads: Some(threads), ..Compute::default() },
                ..EncodeOptions::default()
            };
            let part = rows.view().slice(range);
            compress_with_model(&part, at("model.vlc"), at(name), refer, &BTreeMap::new(), &options).unwrap()
        };
        encode(0..1100, "whole.vlc", false, 2);
        let cuts = [0, 1, 32, 333, 1100];
        let names: Vec<_> = cuts
            .windows(2)
            .map(|cut| {
                let name = format!("shard-{}.vlc", cut[0]);
                encode(cut[0]..cut[1], &name, false, 1);
                at(&name)
            })
            .collect();
        merge(&names, at("merged.vlc"), None).unwrap();
        assert!(fs::read(at("merged.vlc")).unwrap() == fs::read(at("whole.vlc")).unwrap(), "{metric:?}");
        // The same from a compression of its own: codes do not tell how the network came about.
        compress_to(&rows.view(), at("own.vlc"), &with_decoder(metric, 0.5, SMALL)).unwrap();
        assert!(contents(&at("own.vlc")) == contents(&at("whole.vlc")), "{metric:?}");

        encode(0..1100, "small.vlc", true, 2);
        assert!(contents(&at("small.vlc")) == contents(&at("whole.vlc")));
        let small = Index::open(at("small.vlc")).unwrap();
        assert!(small.info().sections.iter().all(|(name, _)| name != "DECO"));
        assert_eq!(small.info().decoder.unwrap().shape, SMALL);
        train_to(&rows.view(), at("other.vlc"), &config(metric, 0.5)).unwrap();
        assert!(Index::open(at("other.vlc")).unwrap().info().decoder.is_none(), "a model takes none unasked");
        assert!(Index::open_with_model(at("small.vlc"), at("other.vlc")).is_err());
    }
}

#[test]
fn a_search_can_leave_it_out() {
    let rows = clustered(5, 1500, DIM);
    let index = vlc::compress(rows.view(), &with_decoder(Metric::Cosine, 0.4, SMALL)).unwrap();
    let queries = clustered(6, 5, DIM);
    let searcher = &index;
    let before = searcher.search(queries.view(), &SearchOptions::new(20)).unwrap();
    let off = SearchOptions::default().refining(false);
    let scanned = searcher.search(queries.view(), &off.hits(20)).unwrap();
    assert_ne!(before, scanned);
    assert_eq!(searcher.search(queries.view(), &SearchOptions::new(20)).unwrap(), before);
}

fn small() -> Vec<Section> {
    let mut settings = with_decoder(Metric::Cosine, 2.0, DecoderShape { width: 5, layers: 2, bits: 3 });
    settings.annealing.anchors = Some(5);
    let index = vlc::compress(clustered(21, 151, 8).view(), &settings).unwrap();
    let parts = sections(index.bytes());
    assert!(assemble(&parts) == index.bytes(), "the file is put together as it was");
    parts
}

/// Opens, verifies and asks; what comes out may be wrong or an error.
fn survives(parts: &[Section], case: &str) -> Result<bool, Error> {
    let bytes = assemble(parts);
    let used = || {
        let index = Index::from_bytes(&bytes)?;
        let sound = index.verify().is_ok();
        // Whatever one reader takes, the other takes, too.
        assert!(!sound || vlc_reference::parse(&bytes).is_ok(), "{case}");
        for k in [1, 10, 151] {
            let found = index.query(&[0.5; 8], k).unwrap();
            assert!(found.len() == k && found.iter().all(|hit| hit.id < 151));
        }
        assert_eq!(index.decode(0..151).unwrap().rows(), 151);
        Ok(sound)
    };
    catch_unwind(AssertUnwindSafe(used)).unwrap_or_else(|_| panic!("panicked on {case}"))
}

#[test]
fn made_up_decoders_do_no_harm() {
    let good = small();
    assert!(survives(&good, "the file as it was").unwrap());
    let place = good.iter().position(|part| part.kind == *b"DECO").unwrap();
    let (mut opened, mut refused) = (0, 0);
    for seed in 0..2000 {
        let mut random = Random(seed);
        let mut bad = good.clone();
        mutate(&mut random, &mut bad[place].bytes);
        match survives(&bad, &format!("seed {seed}")) {
            Ok(_) => opened += 1,
            Err(error) => {
                assert!(matches!(error, Error::Format { .. }), "{error}");
                assert!(vlc_reference::parse(&assemble(&bad)).is_err(), "seed {seed}: {error}");
                refused += 1;
            }
        }
    }
    assert!(opened > 300 && refused > 300, "{opened} opened, {refused} refused: one of them is not reached");
    // Reserved bytes, and sizes that would take any amount of memory.
    for (at, value) in [(0, 0), (0, 5), (1, 0), (1, 9), (2, 1), (3, 1), (6, 1), (7, 0x80), (15, 0xFF)] {
        let mut bad = good.clone();
        bad[place].bytes[at] = value;
        assert!(survives(&bad, &format!("{value} at {at}")).is_err(), "{value} at {at}");
    }
    for len in [0, 1, 23, good[place].bytes.len() - 1] {
        let mut short = good.clone();
        short[place].bytes.truncate(len);
        assert!(survives(&short, "too short").is_err(), "{len} bytes");
    }
    let mut long = good.clone();
    long[place].bytes.push(0);
    assert!(survives(&long, "too long").is_err());
    // A file without it is one that says nothing of factors.
    let mut less = good.clone();
    less.remove(place);
    assert!(survives(&less, "without it").unwrap());
}

#[test]
fn damage_is_found() {
    let parts = small();
    let file = assemble(&parts);
    let at = file.windows(24).position(|w| w == &parts.iter().find(|p| p.kind == *b"DECO").unwrap().bytes[..24]);
    let (at, len) = (at.unwrap(), parts.iter().find(|p| p.kind == *b"DECO").unwrap().bytes.len());
    for at in at..at + len {
        let mut bad = file.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(Index::from_bytes(&bad).is_err(), "byte {at}");
    }
}

/// A file written by an earlier build opens, verifies, and answers as it did. `VLC_BLESS=1` writes a new one; only for a new version.
#[test]
fn an_older_file_is_read() {
    let path = |name: &str| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let queries = Random(99).mat(6, DIM);
    if std::env::var_os("VLC_BLESS").is_some_and(|v| v == "1") {
        let mut settings = with_decoder(Metric::Cosine, 2.0, SMALL);
        settings.annealing.anchors = Some(9);
        compress_to(&clustered(77, 137, DIM).view(), path("v2-decoder.vlc"), &settings).unwrap();
        let index: Index<MappedFile> = Index::open(path("v2-decoder.vlc")).unwrap();
        let mut text = String::new();
        for q in 0..6 {
            let hits = index.query(queries.row(q), 5).unwrap();
            let words: Vec<String> = hits.iter().map(|hit| format!("{}:{:.6}", hit.id, hit.score)).collect();
            writeln!(text, "{}", words.join(" ")).unwrap();
        }
        fs::write(path("v2-decoder.txt"), text).unwrap();
    }
    let index = Index::open(path("v2-decoder.vlc")).unwrap();
    index.verify().unwrap();
    assert_eq!((index.info().version, index.info().n, index.info().decoder.unwrap().shape), (2, 137, SMALL));
    let file = reference(&index);
    let expected = fs::read_to_string(path("v2-decoder.txt")).unwrap();
    assert_eq!(expected.lines().count(), 6);
    for (q, line) in expected.lines().enumerate() {
        let hits = index.query(queries.row(q), 5).unwrap();
        assert_eq!(line.split(' ').count(), 5);
        for (word, hit) in line.split(' ').zip(hits) {
            let (id, score) = word.split_once(':').unwrap();
            let score: f64 = score.parse().unwrap();
            assert_eq!(hit.id, id.parse::<u64>().unwrap(), "query {q}: {line}");
            assert!((f64::from(hit.score) - score).abs() < 1e-3, "query {q}: {line}, {hit:?}");
            let query = common::wide(queries.row(q));
            assert!((file.score(&query, hit.id as usize) - score).abs() < 1e-3, "query {q}, the reference");
        }
    }
}
