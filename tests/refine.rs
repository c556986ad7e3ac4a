//! Files with a refine layer: what they answer, how they change, what damage does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write as _,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use vlc::{
    Budget, CodeKind, Compute, Config, EncodeOptions, Error, Filter, Ids, Index, MappedFile, Mat, Metric, Neighbors,
    Probe, SearchOptions, Store, compress_to, compress_with_model,
    measure::{exact_neighbors, recall},
    merge, train_to, transcode,
};

use common::{
    Random, clustered, config, example,
    refined::Refined,
    scaled,
    sections::{Section, assemble, mutate, sections},
};

const DIM: usize = 12;
const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::L2];

fn with_layer(metric: Metric, ratio: f64, bytes: usize) -> Config<'static> {
    Config { refine: Some(bytes), ..config(metric, ratio) }
}

fn pairs(found: &Neighbors, q: usize) -> Vec<(u64, f32)> {
    found.ids.row(q).iter().copied().zip(found.scores.row(q).iter().copied()).collect()
}

fn search<D: AsRef<[u8]>>(index: &Index<D>, queries: &Mat, k: usize, refine: bool) -> Neighbors {
    let options = SearchOptions::default().refining(refine);
    index.search(queries.view(), &options.hits(k)).unwrap()
}

#[test]
fn hits_have_the_scores_of_the_decoded_rows() {
    // As many symbols as the directions can use, 21 and 27, leave another number of them behind the last four and the last pair.
    for (dim, bytes, symbols) in [(40, 11, 22), (7, 50, 21), (9, 50, 27)] {
        for metric in METRICS {
            let rows = scaled(clustered(3, 137, dim).view(), 1);
            let budget = Budget::BytesPerVector(400.0);
            let index = vlc::compress(rows.view(), &Config { budget, ..with_layer(metric, 1.0, bytes) }).unwrap();
            index.verify().unwrap();
            assert_eq!(index.info().refine_bytes, Some((symbols as u32).div_ceil(2)));
            let file = Refined::read(&index);
            let queries = clustered(4, 5, dim);
            // Of so few rows all are candidates.
            for k in [10, 200] {
                file.assert_answers(&queries, &index.search(queries.view(), &SearchOptions::new(k)).unwrap(), k);
            }
            let decoded = index.decode(0..137).unwrap();
            for row in 0..137 {
                let expected = file.decode(row);
                let size = expected.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
                for (&found, expected) in decoded.row(row).iter().zip(expected) {
                    assert!((f64::from(found) - expected).abs() < 1e-5 * size, "{metric:?}, row {row}");
                }
            }
        }
    }
}

#[test]
fn any_base_takes_a_layer() {
    let rows = clustered(3, 137, 16);
    for (code, charts) in [(CodeKind::Pq8, 1), (CodeKind::Chain, 3), (CodeKind::Pq8, 2)] {
        let mut settings = Config { code, charts: Some(charts), ..with_layer(Metric::L2, 3.0, 6) };
        settings.annealing.anchors = Some(7);
        let index = vlc::compress(rows.view(), &settings).unwrap();
        index.verify().unwrap();
        assert_eq!(index.info().charts as usize, charts);
        let queries = clustered(4, 5, 16);
        Refined::read(&index).assert_answers(
            &queries,
            &index.search(queries.view(), &SearchOptions::new(10)).unwrap(),
            10,
        );
    }
}

#[test]
fn rows_without_residuals_are_left_as_they_are() {
    // All rows alike: the base decodes them but for rounding, and nothing is left to code.
    let rows = Mat::new([0.5f32, -1.0, 2.0, 0.25].repeat(600), 600, 4).unwrap();
    let budget = Budget::BytesPerVector(40.0);
    let index = vlc::compress(rows.view(), &Config { budget, ..with_layer(Metric::Dot, 1.0, 4) }).unwrap();
    index.verify().unwrap();
    let decoded = index.decode(0..600).unwrap();
    assert!(decoded.as_slice().iter().zip(rows.as_slice()).all(|(a, b)| (a - b).abs() < 0.1));
    let found = index.search(rows.view().slice(0..1), &SearchOptions::new(5)).unwrap();
    assert_eq!(found.ids.row(0), [0, 1, 2, 3, 4]);
}

#[test]
fn scores_are_of_the_layer_however_many_rows_there_are() {
    for metric in METRICS {
        let rows = clustered(5, 2500, DIM);
        let index = vlc::compress(rows.view(), &with_layer(metric, 0.3, 6)).unwrap();
        let file = Refined::read(&index);
        let queries = clustered(6, 8, DIM);
        let found = index.search(queries.view(), &SearchOptions::new(10)).unwrap();
        for q in 0..8 {
            let hits = pairs(&found, q);
            assert!(hits.windows(2).all(|w| w[0].1 > w[1].1 || (w[0].1 == w[1].1 && w[0].0 < w[1].0)));
            for (row, score) in hits {
                let expected = file.score(queries.row(q), row as usize);
                assert!((f64::from(score) - expected).abs() < 1e-4 * expected.abs().max(1.0), "{score} {expected}");
            }
        }
    }
}

#[test]
fn equal_scores_go_to_the_lower_row() {
    let mut rows = clustered(5, 2500, DIM);
    let same = rows.row(0).to_vec();
    (0..30).for_each(|i| rows.row_mut(i * 70).copy_from_slice(&same));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vlc");
    compress_to(&rows.view().slice(0..2000), &path, &with_layer(Metric::Cosine, 0.5, 8)).unwrap();
    Store::open(&path).unwrap().append(&rows.view().slice(2000..2500), &EncodeOptions::default()).unwrap();
    let found = search(&Index::open(&path).unwrap(), &Mat::new(same, 1, DIM).unwrap(), 20, true);
    assert_eq!(found.ids.row(0), (0..20).map(|i| i * 70).collect::<Vec<u64>>());
    assert!(found.scores.row(0).iter().all(|s| *s == found.scores.row(0)[0]));
}

#[test]
fn the_base_is_what_it_is_without_a_layer() {
    let rows = clustered(5, 1500, DIM);
    let [plain, layered] = [config(Metric::Cosine, 0.3), with_layer(Metric::Cosine, 0.3, 6)]
        .map(|config| vlc::compress(rows.view(), &config).unwrap());
    let own = |index: &Index<Vec<u8>>| -> Vec<Section> {
        // But for recall in META, which is that of a search.
        sections(index.bytes()).into_iter().filter(|s| ![*b"META", *b"RFNM", *b"RFNC"].contains(&s.kind)).collect()
    };
    assert!(own(&plain) == own(&layered));
    assert_eq!((plain.info().refine_bytes, layered.info().refine_bytes), (None, Some(6)));
    assert!(layered.info().recall.unwrap().recall > plain.info().recall.unwrap().recall + 0.02);
    assert_eq!(plain.info().energy, layered.info().energy);
    let queries = clustered(6, 5, DIM);
    let scanned = plain.search(queries.view(), &SearchOptions::new(20)).unwrap();
    assert_eq!(search(&layered, &queries, 20, false), scanned);
    assert_ne!(search(&layered, &queries, 20, true), scanned);
    assert_eq!(search(&plain, &queries, 20, true), scanned);
    // On the same searcher, one after the other.
    let searcher = &layered;
    let off = SearchOptions::default().refining(false);
    let before = searcher.search(queries.view(), &SearchOptions::new(20)).unwrap();
    assert_eq!(searcher.search(queries.view(), &off.hits(20)).unwrap(), scanned);
    assert_eq!(searcher.search(queries.view(), &SearchOptions::new(20)).unwrap(), before);
}

#[test]
fn threads_do_not_show() {
    let rows = clustered(7, 1500, DIM);
    let make = |threads: usize, seed: u64| {
        let config = Config {
            compute: Compute { threads: Some(threads), ..Compute::default() },
            seed,
            ..with_layer(Metric::L2, 0.6, 5)
        };
        vlc::compress(rows.view(), &config).unwrap().bytes().to_vec()
    };
    assert!(make(1, 1) == make(3, 1));
    assert!(make(1, 1) != make(1, 2));
    let none = Config { refine: Some(0), ..config(Metric::Cosine, 0.6) };
    assert!(matches!(vlc::compress(rows.view(), &none), Err(Error::Config(_))));
}

#[test]
fn a_layer_finds_more_and_decodes_better() {
    let (rows, queries) = (example("base.i8.npy"), example("queries.i8.npy"));
    let truth = exact_neighbors(&rows.view(), queries.view(), 10, Metric::Cosine).unwrap();
    let settings = Config { budget: Budget::Ratio(0.05), refine: Some(48), ..Config::default() };
    let index = vlc::compress(rows.view(), &settings).unwrap();
    let [with, without] = [true, false].map(|refine| recall(&search(&index, &queries, 10, refine), &truth, 10));
    println!("recall: {with:.4} with the layer, {without:.4} without");
    assert!(with > without + 0.06, "{with} {without}");
    let measured = f64::from(index.info().recall.unwrap().recall);
    assert!((measured - with).abs() < 0.05, "{measured} {with}");
}

/// The bytes do not depend on which rows come with a row, for rows as wide as real ones too.
#[test]
fn shards_merged_are_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let wide = example("base.i8.npy");
    let wide = Mat::new(wide.as_slice()[..1100 * wide.dim()].to_vec(), 1100, wide.dim()).unwrap();
    for (rows, metric, bytes) in [(clustered(8, 1100, DIM), Metric::L2, 5), (wide, Metric::Cosine, 20)] {
        let settings = Config { budget: Budget::Ratio(0.5), ..with_layer(metric, 0.5, bytes) };
        train_to(&rows.view().slice(0..800), at("model.vlc"), &settings).unwrap();
        let encode = |range: std::ops::Range<usize>, name: &str, threads: usize| {
            let options = EncodeOptions {
                compute: Compute { threads: Some(threads), ..Compute::default() },
                ..EncodeOptions::default()
            };
            let part = rows.view().slice(range);
            compress_with_model(&part, at("model.vlc"), at(name), false, &BTreeMap::new(), &options).unwrap()
        };
        encode(0..1100, "whole.vlc", 2);
        let cuts = [0, 1, 32, 333, 1100];
        let names: Vec<_> = cuts
            .windows(2)
            .map(|cut| {
                let name = format!("shard-{}.vlc", cut[0]);
                encode(cut[0]..cut[1], &name, 1);
                at(&name)
            })
            .collect();
        merge(&names, at("merged.vlc"), None).unwrap();
        assert!(fs::read(at("merged.vlc")).unwrap() == fs::read(at("whole.vlc")).unwrap(), "{metric:?}");
        let index = Index::open(at("merged.vlc")).unwrap();
        index.verify().unwrap();
        assert_eq!(index.info().refine_bytes, Some(bytes as u32));
    }
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
        compress_to(&rows.view().slice(0..501), &path, &with_layer(metric, 0.8, 7)).unwrap();
        let mut expected = contents(&path);
        let mut store = Store::open(&path).unwrap();
        for (from, to) in [(501, 503), (503, 700), (700, 900)] {
            store.append(&rows.view().slice(from..to), &EncodeOptions::default()).unwrap();
        }
        let all = contents(&path);
        assert_eq!(all.len(), 900);
        assert!(expected.iter().all(|(id, row)| all[id] == *row), "what was there stays");
        for (row, decoded) in &all {
            let error: f32 = rows.row(*row as usize).iter().zip(decoded).map(|(a, b)| (a - b) * (a - b)).sum();
            let own: f32 = rows.row(*row as usize).iter().map(|v| v * v).sum();
            assert!(metric == Metric::Cosine || error < 0.2 * own, "{metric:?}, row {row}: {error} of {own}");
        }
        let gone: Ids = (0..900).filter(|i| i % 3 == 1).collect();
        assert_eq!(store.delete(&gone).unwrap().deleted, 300);
        expected = all.into_iter().filter(|(id, _)| id % 3 != 1).collect();
        assert!(contents(&path) == expected);
        let before = search(&Index::open(&path).unwrap(), &queries, 700, true);
        assert_eq!(before.ids.dim(), 600);
        assert!(before.ids.as_slice().iter().all(|id| id % 3 != 1));
        store.compact().unwrap();
        assert!(contents(&path) == expected);
        // More candidates than rows: the answers cannot depend on how the rows are stored.
        assert!(search(&Index::open(&path).unwrap(), &queries, 700, true) == before, "{metric:?}");
        drop(store);
        let report = transcode(&path, folder.path().join("b.vlc"), &config(metric, 0.6)).unwrap();
        assert_eq!((report.n, report.refine_bytes), (600, None));
    }
}

#[test]
fn filters_leave_what_filtering_all_would() {
    let rows = clustered(4, 1200, DIM);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vlc");
    for metric in METRICS {
        compress_to(&rows.view().slice(0..700), &path, &with_layer(metric, 0.5, 5)).unwrap();
        let mut store = Store::open(&path).unwrap();
        store.append(&rows.view().slice(700..1200), &EncodeOptions::default()).unwrap();
        store.delete(&(0..1200).step_by(11).collect()).unwrap();
        drop(store);
        let index = Index::open(&path).unwrap();
        let searcher = &index;
        let queries = clustered(5, 4, DIM);
        let everything = searcher.search(queries.view(), &SearchOptions::new(1200)).unwrap();
        for step in [2, 7, 40, 1000] {
            let allowed: Ids = (0..1200).step_by(step).collect();
            let listed: HashSet<u64> = (0..1200).step_by(step).collect();
            let filter = index.filter(Filter::Allow(&allowed)).unwrap();
            // 4 k + 100 candidates are all that are allowed, whatever the k.
            for k in [1, 10, 150, 600] {
                if 4 * k + 100 < filter.len() as usize {
                    continue;
                }
                let options = SearchOptions::default();
                let found = searcher.search(queries.view(), &options.hits(k).filtered(&filter)).unwrap();
                assert_eq!(found.ids.dim(), k.min(filter.len() as usize));
                for q in 0..4 {
                    let mut expected = pairs(&everything, q);
                    expected.retain(|(id, _)| listed.contains(id));
                    expected.truncate(k);
                    assert_eq!(pairs(&found, q), expected, "{metric:?}, every {step}th, k = {k}");
                }
            }
        }
        let none = index.filter(Filter::Allow(&[0].into_iter().collect())).unwrap();
        let found = searcher.search(queries.view(), &SearchOptions::new(3).filtered(&none)).unwrap();
        assert_eq!((found.ids.rows(), found.ids.dim()), (4, 0), "row 0 is deleted");
        for cells in [1, 3, 10_000] {
            let options = SearchOptions::default().probing(Probe::Cells(cells));
            let found = searcher.search(queries.view(), &options.hits(10)).unwrap();
            assert_eq!(found.ids.dim(), 10);
            for q in 0..4 {
                let all = pairs(&everything, q);
                assert!(pairs(&found, q).iter().all(|hit| all.contains(hit)), "the scores are those without probing");
            }
        }
    }
}

#[test]
fn a_layer_belongs_to_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let rows = clustered(8, 900, DIM);
    let train = |refine, name: &str| {
        let settings = Config { budget: Budget::Ratio(0.6), refine, ..config(Metric::Cosine, 0.6) };
        train_to(&rows.view(), at(name), &settings).unwrap().model_hash
    };
    let hashes = [train(Some(4), "model.vlc"), train(None, "plain.vlc"), train(Some(5), "other.vlc")];
    assert!(hashes[0] != hashes[1] && hashes[0] != hashes[2]);
    let options = EncodeOptions::default();
    let encode = |refer: bool, name: &str| {
        compress_with_model(&rows.view(), at("model.vlc"), at(name), refer, &BTreeMap::new(), &options).unwrap()
    };
    encode(true, "small.vlc");
    encode(false, "large.vlc");
    assert!(contents(&at("small.vlc")) == contents(&at("large.vlc")));
    let small = Index::open(at("small.vlc")).unwrap();
    assert!(small.info().sections.iter().all(|(name, _)| name != "RFNM"));
    assert_eq!(small.info().refine_bytes, Some(4));
    Store::open(at("small.vlc")).unwrap().append(&rows.view().slice(0..7), &options).unwrap();
    assert_eq!(contents(&at("small.vlc")).len(), 907);
    for other in ["plain.vlc", "other.vlc"] {
        assert!(Index::open_with_model(at("small.vlc"), at(other)).is_err());
    }
}

fn small() -> Vec<Section> {
    let mut settings = with_layer(Metric::Cosine, 0.5, 4);
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
fn made_up_layers_do_no_harm() {
    let good = small();
    assert!(survives(&good, "the file as it was").unwrap());
    let place = |kind: &[u8; 4]| good.iter().position(|part| part.kind == *kind).unwrap();
    let [model, codes] = [place(b"RFNM"), place(b"RFNC")];
    let (mut opened, mut sound) = (0, 0);
    for seed in 0..3000 {
        let mut random = Random(seed);
        let mut bad = good.clone();
        let section = [model, codes][random.below(2)];
        mutate(&mut random, &mut bad[section].bytes);
        match survives(&bad, &format!("seed {seed}")) {
            Ok(verified) => {
                opened += 1;
                sound += u32::from(verified);
            }
            Err(error) => assert!(matches!(error, Error::Format { .. }), "{error}"),
        }
    }
    assert!(opened > 300 && sound > 100, "{opened} opened, {sound} sound: nothing is reached");
    // Every width of the symbols and of the lags.
    for (at, width) in [(0, 4), (4, 1), (5, 1), (6, 1), (7, 1)] {
        for shift in 0..8 * width {
            let mut bad = good.clone();
            let value = (1u64 << shift).to_le_bytes();
            bad[model].bytes.iter_mut().skip(at).zip(&value[..width]).for_each(|(b, v)| *b ^= v);
            assert!(survives(&bad, &format!("bit {shift} at {at}")).is_err());
        }
    }
    // One without the other, and one too many or few.
    for kind in [model, codes] {
        let mut less = good.clone();
        less.remove(kind);
        assert!(matches!(survives(&less, "one missing"), Err(Error::Format { .. })));
        for len in [0, 1, good[kind].bytes.len() - 1] {
            let mut short = good.clone();
            short[kind].bytes.truncate(len);
            assert!(survives(&short, "too short").is_err(), "{len} bytes");
        }
    }
    // Of 151 rows the last one has no neighbour.
    let mut filled = good.clone();
    filled[codes].bytes[75 * 9] |= 0x10;
    assert!(!survives(&filled, "a spare nibble").unwrap());
}

#[test]
fn damage_is_found() {
    let file = assemble(&small());
    let (mut by_open, mut by_verify) = (0, 0);
    for at in 0..file.len() {
        let mut bad = file.clone();
        bad[at] ^= 1 << (at % 8);
        match Index::from_bytes(&bad) {
            Err(_) => by_open += 1,
            Ok(index) => {
                assert!(index.verify().is_err(), "byte {at}");
                by_verify += 1;
            }
        }
    }
    assert!(by_open > 1000 && by_verify > 700, "{by_open} {by_verify}");
}

/// A file written by an earlier build opens, verifies, and answers as it did. `VLC_BLESS=1` writes a new one; only for a new version.
#[test]
fn an_older_file_is_read() {
    let path = |name: &str| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let queries = Random(99).mat(6, DIM);
    let text = |index: &Index<MappedFile>| {
        let mut out = String::new();
        for q in 0..6 {
            let hits = index.query(queries.row(q), 5).unwrap();
            let words: Vec<String> = hits.iter().map(|hit| format!("{}:{:.6}", hit.id, hit.score)).collect();
            writeln!(out, "{}", words.join(" ")).unwrap();
        }
        out
    };
    if std::env::var_os("VLC_BLESS").is_some_and(|v| v == "1") {
        let mut settings = with_layer(Metric::Cosine, 0.4, 4);
        settings.annealing.anchors = Some(9);
        compress_to(&clustered(77, 137, DIM).view(), path("v2-refine.vlc"), &settings).unwrap();
        fs::write(path("v2-refine.txt"), text(&Index::open(path("v2-refine.vlc")).unwrap())).unwrap();
    }
    assert!(fs::metadata(path("v2-refine.vlc")).unwrap().len() < 8 << 10);
    let index = Index::open(path("v2-refine.vlc")).unwrap();
    index.verify().unwrap();
    assert_eq!((index.info().version, index.info().n, index.info().refine_bytes), (2, 137, Some(4)));
    let file = Refined::read(&index);
    let expected = fs::read_to_string(path("v2-refine.txt")).unwrap();
    assert_eq!(expected.lines().count(), 6);
    for (q, line) in expected.lines().enumerate() {
        let hits = index.query(queries.row(q), 5).unwrap();
        assert_eq!(line.split(' ').count(), 5);
        for (word, hit) in line.split(' ').zip(hits) {
            let (id, score) = word.split_once(':').unwrap();
            let score: f64 = score.parse().unwrap();
            assert_eq!(hit.id, id.parse::<u64>().unwrap(), "query {q}: {line}");
            assert!((f64::from(hit.score) - score).abs() < 1e-4, "query {q}: {line}, {hit:?}");
            assert!((file.score(queries.row(q), hit.id as usize) - score).abs() < 1e-4, "query {q}, the reference");
        }
    }
}
