//! A store that changes: appended, deleted from, compacted, merged, transcoded; models in files of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::{collections::BTreeMap, fs, path::Path};

use vlc::{
    Budget, Compute, Config, Embedding, EncodeOptions, Error, Ids, Index, Mat, Metric, Neighbors, SearchOptions,
    Store, compress_to, compress_with_model,
    measure::{exact_neighbors, recall},
    merge,
    read::{RowSource, VectorFile},
    train_to, transcode,
};

use common::{Random, clustered, config};

const DIM: usize = 12;

fn no_metadata() -> BTreeMap<String, String> {
    BTreeMap::new()
}

fn answers(path: &Path, queries: &Mat, k: usize) -> Neighbors {
    Index::open(path).unwrap().search(queries.view(), &SearchOptions::new(k)).unwrap()
}

#[test]
fn shards_merged_are_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let rows = clustered(8, 1300, DIM);
    for (metric, own) in [(Metric::Cosine, false), (Metric::L2, true), (Metric::Dot, false)] {
        let budget = Budget::Ratio(0.5);
        // Lengths that a model has not seen are kept on a scale that follows from the rows of a part.
        let seen = if metric == Metric::Cosine { 900 } else { 1300 };
        train_to(&rows.view().slice(0..seen), at("model.vlc"), &Config { budget, ..config(metric, 0.5) }).unwrap();
        let encode = |range: std::ops::Range<usize>, name: &str, threads: usize| {
            let ids: Ids = range.clone().map(|i| format!("id {i}")).collect();
            let ids = own.then_some(&ids);
            let options = EncodeOptions {
                compute: Compute { threads: Some(threads), ..Compute::default() },
                ids,
                ..EncodeOptions::default()
            };
            compress_with_model(&rows.view().slice(range), at("model.vlc"), at(name), false, &no_metadata(), &options)
                .unwrap()
        };
        let whole = encode(0..1300, "whole.vlc", 2);
        let cuts = [0, 1, 32, 500, 511, 1300];
        let names: Vec<_> = cuts
            .windows(2)
            .map(|cut| {
                let name = format!("shard-{}.vlc", cut[0]);
                encode(cut[0]..cut[1], &name, 1);
                at(&name)
            })
            .collect();
        let merged = merge(&names, at("merged.vlc"), None).unwrap();
        assert!(fs::read(at("merged.vlc")).unwrap() == fs::read(at("whole.vlc")).unwrap(), "{metric:?}");
        assert_eq!((merged.n, merged.model_hash, merged.energy), (1300, whole.model_hash, whole.energy));
        Index::open(at("merged.vlc")).unwrap().verify().unwrap();
    }
}

#[test]
fn appended_rows_are_found_and_ids_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vlc");
    let rows = clustered(8, 900, DIM);
    compress_to(&rows.view().slice(0..600), &path, &config(Metric::Cosine, 0.8)).unwrap();
    let mut store = Store::open(&path).unwrap();
    let report = store.append(&rows.view().slice(600..900), &EncodeOptions::default()).unwrap();
    assert_eq!((report.rows, report.first_row, report.n), (300, 600, 900));
    assert!(report.energy > 0.0 && report.energy < 3.0 * report.trained_energy, "{report:?}");
    assert_eq!(report.file_bytes, fs::metadata(&path).unwrap().len());
    let truth = exact_neighbors(&rows.view(), rows.view().slice(600..650), 10, Metric::Cosine).unwrap();
    let queries = Mat::new(rows.view().slice(600..650).as_slice().to_vec(), 50, DIM).unwrap();
    assert!(recall(&answers(&path, &queries, 10), &truth, 10) > 0.7);
    // Deleted rows are not found, and no id is given twice.
    assert_eq!(store.delete(&(0..100).chain(650..900).collect()).unwrap().deleted, 350);
    let missing = store.delete(&[5, 700, 120, 3, 120, 4000].into_iter().collect()).unwrap();
    assert_eq!((missing.deleted, missing.missing.as_slice(), missing.n), (1, &[0, 1, 3, 5][..], 549));
    let before = answers(&path, &queries, 1000);
    assert_eq!(before.ids.dim(), 549);
    store.compact().unwrap();
    assert_eq!(answers(&path, &queries, 1000), before, "compacting changes no answer and no id");
    let report = store.append(&rows.view().slice(0..5), &EncodeOptions::default()).unwrap();
    assert_eq!(report.first_row, 900, "numbers of deleted rows are not given again");
    let index = store.index().unwrap();
    index.verify().unwrap();
    assert_eq!(index.len(), 554);
    assert_eq!(index.ids(548..551).unwrap(), [649, 900, 901].into_iter().collect());
    // Everything can go, and the store lives on.
    drop(index);
    store.delete(&(0..1000).collect()).unwrap();
    store.compact().unwrap();
    assert!(store.index().unwrap().is_empty());
    assert_eq!(answers(&path, &queries, 10).ids.dim(), 0);
    assert_eq!(store.append(&rows.view().slice(0..5), &EncodeOptions::default()).unwrap().n, 5);
    assert_eq!(answers(&path, &queries, 10).ids.dim(), 5);
}

/// Two segments with the same vectors have the same codes: every row is found right before its copy.
#[test]
fn of_rows_appended_twice_the_lower_come_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vlc");
    let rows = clustered(8, 700, DIM);
    compress_to(&rows.view().slice(0..400), &path, &config(Metric::Cosine, 0.5)).unwrap();
    let mut store = Store::open(&path).unwrap();
    store.delete(&(0..400).collect()).unwrap();
    for _ in 0..2 {
        store.append(&rows.view().slice(400..700), &EncodeOptions::default()).unwrap();
    }
    let queries = Mat::new(rows.view().slice(0..20).as_slice().to_vec(), 20, DIM).unwrap();
    let all = answers(&path, &queries, 600);
    for q in 0..20 {
        let hits: Vec<(f32, u64)> = all.scores.row(q).iter().copied().zip(all.ids.row(q).iter().copied()).collect();
        assert!(hits.iter().all(|hit| (400..1000).contains(&hit.1)));
        assert!(hits.windows(2).all(|two| two[0].0 > two[1].0 || two[0].0 == two[1].0 && two[0].1 < two[1].1));
        for &(score, id) in hits.iter().filter(|hit| hit.1 < 700) {
            assert!(hits.contains(&(score, id + 300)), "query {q}: the copy of row {id} has another score");
        }
        // An odd number ends between a row and its copy.
        for k in [1, 7, 301] {
            let some = answers(&path, &queries, k);
            assert_eq!((some.ids.row(q), some.scores.row(q)), (&all.ids.row(q)[..k], &all.scores.row(q)[..k]));
        }
    }
}

#[test]
fn a_compacted_store_is_as_small_as_a_fresh_one() {
    let folder = tempfile::tempdir().unwrap();
    let (path, fresh) = (folder.path().join("a.vlc"), folder.path().join("fresh.vlc"));
    let rows = clustered(8, 4000, DIM);
    compress_to(&rows.view(), &path, &config(Metric::Cosine, 0.4)).unwrap();
    let mut store = Store::open(&path).unwrap();
    let mut random = Random(3);
    let gone: Ids = (0..4000u64).filter(|_| random.below(4) == 0).collect();
    store.delete(&gone).unwrap();
    store.compact().unwrap();
    let Ids::Numbers(gone) = gone else { unreachable!() };
    let left: Vec<f32> =
        (0..4000).filter(|row| !gone.contains(&(*row as u64))).flat_map(|row| rows.row(row).to_vec()).collect();
    let left = Mat::new(left.clone(), left.len() / DIM, DIM).unwrap();
    compress_with_model(&left.view(), &path, &fresh, false, &no_metadata(), &EncodeOptions::default()).unwrap();
    let (compacted, fresh) = (fs::metadata(&path).unwrap().len(), fs::metadata(&fresh).unwrap().len());
    assert!(compacted as f64 <= 1.02 * fresh as f64, "{compacted} bytes, a fresh one has {fresh}");
}

#[test]
fn rows_of_another_kind_are_drift() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vlc");
    compress_to(&clustered(8, 600, DIM).view(), &path, &config(Metric::Cosine, 0.6)).unwrap();
    let mut store = Store::open(&path).unwrap();
    let report = store.append(&Random(4).mat(200, DIM).view(), &EncodeOptions::default()).unwrap();
    assert!(report.drifted && report.energy > 1.2 * report.trained_energy, "{report:?}");
}

#[test]
fn a_model_may_stand_beside_its_stores() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let rows = clustered(8, 700, DIM);
    train_to(&rows.view(), at("model.vlc"), &config(Metric::Cosine, 0.6)).unwrap();
    let encode = |refer: bool, name: &str| {
        let options = EncodeOptions::default();
        compress_with_model(&rows.view(), at("model.vlc"), at(name), refer, &no_metadata(), &options).unwrap()
    };
    let (small, large) = (encode(true, "small.vlc"), encode(false, "large.vlc"));
    assert!(small.file_bytes + 1000 < large.file_bytes);
    let queries = clustered(9, 5, DIM);
    assert_eq!(answers(&at("small.vlc"), &queries, 10), answers(&at("large.vlc"), &queries, 10));
    Store::open(at("small.vlc")).unwrap().append(&rows.view(), &EncodeOptions::default()).unwrap();
    assert_eq!(Index::open(at("small.vlc")).unwrap().len(), 1400);
    // Without it, with another one, and with the same under another name.
    fs::rename(at("model.vlc"), at("elsewhere.vlc")).unwrap();
    let error = Index::open(at("small.vlc")).unwrap_err().to_string();
    assert!(error.contains("model.vlc") && error.contains("--model"), "{error}");
    train_to(&rows.view(), at("model.vlc"), &Config { seed: 5, ..config(Metric::Cosine, 0.6) }).unwrap();
    assert!(matches!(Index::open(at("small.vlc")), Err(Error::Format { .. })));
    let index = Index::open_with_model(at("small.vlc"), at("elsewhere.vlc")).unwrap();
    index.verify().unwrap();
    Store::open_with_model(at("small.vlc"), at("elsewhere.vlc")).unwrap().delete(&[3].into_iter().collect()).unwrap();
    // A file of another model cannot be merged in.
    let error = merge(&[at("large.vlc"), at("small.vlc")], at("both.vlc"), None).unwrap_err();
    assert!(!at("both.vlc").exists(), "{error}");
}

#[test]
fn transcoding_needs_no_originals() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let rows = clustered(8, 2000, DIM);
    let ids: Ids = (0..2000).map(|i| format!("row {i}")).collect();
    let settings = Config { ids: Some(&ids), ..config(Metric::L2, 0.9) };
    compress_to(&rows.view(), at("large.vlc"), &settings).unwrap();
    Store::open(at("large.vlc")).unwrap().delete(&(0..50).map(|i| format!("row {i}")).collect()).unwrap();
    let report = transcode(at("large.vlc"), at("small.vlc"), &config(Metric::Cosine, 0.6)).unwrap();
    let (large, small) = (Index::open(at("large.vlc")).unwrap(), Index::open(at("small.vlc")).unwrap());
    small.verify().unwrap();
    assert_eq!((small.len(), small.metric(), report.n), (1950, Metric::L2, 1950));
    assert!(
        small.bytes().len() * 10 < large.bytes().len() * 9 + 10 * 1950,
        "{} {}",
        small.bytes().len(),
        large.bytes().len()
    );
    assert_eq!(small.ids(0..1950).unwrap(), large.ids(0..1950).unwrap());
    assert_eq!(small.text_id(0), Some("row 50"));
}

#[test]
fn ids_must_be_new_and_of_one_kind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vlc");
    let rows = clustered(8, 300, DIM);
    let names = |from: u64, to: u64| -> Ids { (from..to).map(|i| format!("row {i}")).collect() };
    let first = names(0, 300);
    compress_to(&rows.view(), &path, &Config { ids: Some(&first), ..config(Metric::Cosine, 2.0) }).unwrap();
    let before = fs::read(&path).unwrap();
    let mut store = Store::open(&path).unwrap();
    let mut refused = |ids: Option<&Ids>, says: &str| {
        let options = EncodeOptions { ids, ..EncodeOptions::default() };
        let error = store.append(&rows.view().slice(0..3), &options).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert!(fs::read(&path).unwrap() == before, "unchanged");
    };
    refused(None, "ids of their own");
    refused(Some(&(7..10).collect()), "strings, not numbers");
    refused(Some(&names(400, 402)), "2 ids for 3 rows");
    refused(Some(&names(298, 301)), "\"row 298\" is in the file");
    refused(Some(&["x", "y", "x"].into_iter().map(str::to_owned).collect()), "same id");
    // An id that was deleted can come again.
    store.delete(&names(10, 13)).unwrap();
    let again = names(10, 13);
    let options = EncodeOptions { ids: Some(&again), ..EncodeOptions::default() };
    assert_eq!(store.append(&rows.view().slice(0..3), &options).unwrap().n, 300);
    let doubled = names(0, 300);
    let settings = Config { ids: Some(&doubled), ..config(Metric::Cosine, 2.0) };
    assert!(matches!(compress_to(&rows.view().slice(0..299), &path, &settings), Err(Error::Locked { .. })));
    drop(store);
    assert!(matches!(compress_to(&rows.view().slice(0..299), &path, &settings), Err(Error::Input(_))));
}

#[test]
fn embedding_models_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vlc");
    let rows = clustered(8, 300, DIM);
    let model = |name: &str, hash: Option<&str>| Embedding { name: name.into(), hash: hash.map(str::to_owned) };
    let settings = Config { embedding: Some(model("minilm", Some("abc"))), ..config(Metric::Cosine, 0.9) };
    compress_to(&rows.view(), &path, &settings).unwrap();
    let index = Index::open(&path).unwrap();
    assert_eq!(index.embedding(), settings.embedding);
    index.check_embedding(&model("minilm", None)).unwrap();
    index.check_embedding(&model("minilm", Some("abc"))).unwrap();
    for other in [model("minilm", Some("abd")), model("bge", None)] {
        let error = index.check_embedding(&other).unwrap_err().to_string();
        assert!(error.contains("minilm (abc)") && error.contains("force"), "{error}");
        let options = EncodeOptions { embedding: Some(other), ..EncodeOptions::default() };
        assert!(Store::open(&path).unwrap().append(&rows.view(), &options).is_err());
    }
}

#[test]
fn older_files_can_be_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.vlc");
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v1-cosine.vlc"), &path).unwrap();
    let queries = clustered(9, 5, DIM);
    let before = answers(&path, &queries, 20);
    let mut store = Store::open(&path).unwrap();
    assert_eq!(answers(&path, &queries, 20), before);
    let found = before.ids.row(0)[0];
    assert_eq!(store.delete(&[found].into_iter().collect()).unwrap().deleted, 1);
    assert!(!answers(&path, &queries, 1000).ids.as_slice().contains(&found));
    assert_eq!(store.append(&clustered(3, 10, DIM).view(), &EncodeOptions::default()).unwrap().n, 509);
    Index::open(&path).unwrap().verify().unwrap();
}

/// A truncated file is an error at the next search, not the end of the process; a copy goes on.
#[test]
fn truncation_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vlc");
    compress_to(&clustered(8, 5000, DIM).view(), &path, &config(Metric::Cosine, 0.6)).unwrap();
    let query = clustered(9, 1, DIM);
    for len in [0, 100, 4096, 20_000] {
        let bytes = fs::read(&path).unwrap();
        let (mapped, copy) = (Index::open(&path).unwrap(), Index::read(&path).unwrap());
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(len).unwrap();
        for error in [
            mapped.search(query.view(), &SearchOptions::new(5)).map(|_| ()).unwrap_err(),
            mapped.decode(0..5000).map(|_| ()).unwrap_err(),
            mapped.verify().unwrap_err(),
        ] {
            assert!(matches!(error, Error::Format { .. }) && error.to_string().contains("a.vlc"), "{error}");
        }
        copy.search(query.view(), &SearchOptions::new(5)).unwrap();
        copy.verify().unwrap();
        drop(mapped);
        fs::write(&path, bytes).unwrap();
    }
}

/// Half as many rows again, appended, are found as well as if they had been there from the start.
#[test]
fn appending_costs_little_recall() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/docs-minilm-384-5k/base.i8.npy");
    let all = vlc::read::read_all(&VectorFile::open(path).unwrap()).unwrap();
    let queries = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/docs-minilm-384-5k/queries.i8.npy");
    let queries = vlc::read::read_all(&VectorFile::open(queries).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (n, part) = (all.rows(), all.rows() * 2 / 3);
    let settings = Config { budget: Budget::Ratio(0.0833), ..Config::default() };
    compress_to(&all.view(), at("fresh.vlc"), &settings).unwrap();
    compress_to(&all.view().slice(0..part), at("grown.vlc"), &settings).unwrap();
    let new = all.view().slice(part..n);
    assert_eq!(RowSource::rows(&new), n - part);
    let report = Store::open(at("grown.vlc")).unwrap().append(&new, &EncodeOptions::default()).unwrap();
    let truth = exact_neighbors(&all.view(), queries.view(), 10, Metric::Cosine).unwrap();
    let [fresh, grown] = ["fresh.vlc", "grown.vlc"].map(|name| recall(&answers(&at(name), &queries, 10), &truth, 10));
    assert!(!report.drifted, "{report:?}");
    println!("recall: fresh {fresh:.4}, grown {grown:.4}");
    assert!(grown > fresh - 0.02, "fresh {fresh:.4}, grown {grown:.4}");
}

/// An index says whether its file has gone on, and gives what it is now, whoever opened it.
#[test]
fn newer_commits_are_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vlc");
    let rows = clustered(7, 900, 16);
    compress_to(&rows.view().slice(0..800), &path, &config(Metric::Cosine, 0.8)).unwrap();
    let mut store = Store::open(&path).unwrap();
    let readers = [Index::open(&path).unwrap(), store.index().unwrap()];
    for reader in &readers {
        assert!(reader.is_current().unwrap() && reader.newer().unwrap().is_none());
    }
    store.append(&rows.view().slice(800..900), &EncodeOptions::default()).unwrap();
    for reader in &readers {
        assert!(!reader.is_current().unwrap());
        let now = reader.newer().unwrap().unwrap();
        assert_eq!((reader.len(), now.len()), (800, 900));
        assert!(now.is_current().unwrap());
    }
    // Another file in its place, and none.
    let before = store.index().unwrap();
    store.delete(&[3].into_iter().collect()).unwrap();
    store.compact().unwrap();
    assert_eq!(before.newer().unwrap().map(|index| index.len()), Some(899));
    drop(store);
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(before.is_current(), Err(Error::Io { .. })) && matches!(before.newer(), Err(Error::Io { .. })));
}
