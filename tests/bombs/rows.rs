//! Rows of few bytes or none, and more hits than there are rows.

use std::{collections::BTreeMap, fs, path::Path};

use vlc::{
    Budget, Config, Decoder, DecoderShape, EncodeOptions, Error, Filter, Ids, Index, MatRef, Metric, Probe,
    SearchOptions, Store, compress_with_model, merge, transcode,
};

use crate::{
    DIM, MOST_BARE, bare, bare_v1, bounded,
    common::{
        Random, clustered, config,
        sections::{assemble, part, section, segm, tomb},
    },
    memory::alone,
    refused, small,
};

/// A kilobyte of a trillion rows: refused by all there is, at once.
#[test]
fn rows_without_bytes_are_capped() {
    let _alone = alone();
    let kept = Path::new("tests/bombs/rows-without-bytes.vlc");
    if std::env::var_os("VLC_WRITE_BOMBS").is_some() {
        fs::write(kept, bare(1 << 40, None)).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let [path, out, sound] = ["bomb.vlc", "out.vlc", "sound.vlc"].map(|name| folder.path().join(name));
    fs::write(&sound, assemble(&small())).unwrap();
    let rows = clustered(3, 5, DIM);
    let all_deleted = |n: u64| bare(n, Some(n.to_le_bytes().to_vec()));
    let files = [bare(1 << 40, None), all_deleted(1 << 40), bare(MOST_BARE + 1, None), bare_v1(1 << 40)];
    for bytes in files {
        fs::write(&path, &bytes).unwrap();
        assert!(bytes.len() < 3 << 10, "{} bytes", bytes.len());
        let word = "take no bytes";
        bounded("open", bytes.len(), 0, || {
            refused(Index::from_bytes(&bytes), word);
            refused(Index::open(&path), word);
            refused(Index::read(&path), word);
            refused(Store::open(&path), word);
            refused(merge(&[&sound, &path], &out, None), word);
            refused(merge(&[&path], &out, None), word);
            refused(transcode(&path, &out, &Config::default()), word);
            let (notes, options) = (BTreeMap::new(), EncodeOptions::default());
            refused(compress_with_model(&rows.view(), &path, &out, false, &notes, &options), word);
        });
        assert!(!out.exists());
    }
    // What the tests of the program look at.
    assert_eq!(fs::read(kept).unwrap(), bare(1 << 40, None), "VLC_WRITE_BOMBS=1 writes it");
}

/// As many as there may be: everything works, in the memory of so many rows at most a few times.
#[test]
fn a_million_rows_without_bytes() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let [path, out] = ["many.vlc", "out.vlc"].map(|name| folder.path().join(name));
    let n = MOST_BARE as usize;
    let bytes = bare(MOST_BARE, None);
    fs::write(&path, &bytes).unwrap();
    assert!(bytes.len() < 2 << 10);
    read_all("bare", &bytes);

    // A row more would be a file that nobody opens.
    let row = clustered(3, 1, DIM);
    let options = EncodeOptions::default();
    let error = bounded("append", bytes.len(), 0, || Store::open(&path).unwrap().append(&row.view(), &options));
    assert!(error.unwrap_err().to_string().contains("take no bytes"));
    assert_eq!(fs::read(&path).unwrap(), bytes);
    let error = bounded("merge", bytes.len(), 0, || merge(&[&path, &path], &out, None)).unwrap_err();
    assert!(error.to_string().contains("take no bytes"), "{error}");
    assert!(!out.exists());

    let gone: Ids = (0..n as u64).step_by(2).collect();
    let report = bounded("delete", bytes.len() + 4 * n, 0, || Store::open(&path).unwrap().delete(&gone)).unwrap();
    assert_eq!((report.deleted, report.n), (n as u64 / 2, n as u64 / 2));
    read_all("half of it", &fs::read(&path).unwrap());
    bounded("compact", 1 << 20, 0, || Store::open(&path).unwrap().compact()).unwrap();
    assert_eq!(Index::open(&path).unwrap().len(), n / 2);
    bounded("append", 1 << 20, 0, || Store::open(&path).unwrap().append(&row.view(), &options)).unwrap();
    Index::open(&path).unwrap().verify().unwrap();
}

/// Everything that reads, on a file of any number of rows.
fn read_all(what: &str, bytes: &[u8]) {
    let index = bounded(&format!("{what}: open"), bytes.len(), 0, || Index::from_bytes(bytes)).unwrap();
    let (n, dim, len) = (index.len(), index.dim(), bytes.len());
    let bounded = |call: &str, output: usize, f: &dyn Fn()| bounded(&format!("{what}: {call}"), len, output, f);
    bounded("verify", 0, &|| index.verify().unwrap());
    bounded("info", 0, &|| drop(index.info()));
    let query = vec![0.5; dim];
    let queries = vec![0.5; 40 * dim];
    let queries = MatRef::new(&queries, 40, dim).unwrap();
    for k in [1, 10, u32::MAX as usize, usize::MAX] {
        // A hit is an id and a score, twice over while parts are put together.
        bounded("query", 40 * n.min(k), &|| assert_eq!(index.query(&query, k).unwrap().len(), k.min(n)));
    }
    bounded("batch", 0, &|| drop(index.search(queries, &SearchOptions::new(100)).unwrap()));
    bounded("decode", 0, &|| {
        assert_eq!(index.decode(0..5.min(n)).unwrap().rows(), 5.min(n));
        assert_eq!(index.decode(n - 1..n).unwrap().rows(), 1);
        assert_eq!(index.decode(n / 2..n / 2 + 1).unwrap().rows(), 1);
    });
    bounded("decode_each", 0, &|| index.decode_each(0..n, |_| Ok(())).unwrap());
    bounded("ids", 8 * n, &|| assert_eq!(index.ids(0..n).unwrap().len(), n));
    let some: Ids = [1, 7, n as u64, 1 << 39].into_iter().collect();
    bounded("filter", 0, &|| {
        for filter in [Filter::Allow(&some), Filter::Deny(&some)] {
            let filter = index.filter(filter).unwrap();
            let options = SearchOptions::new(10).filtered(&filter).probing(Probe::Cells(1));
            drop(index.search(queries, &options).unwrap());
        }
    });
}

/// Half a byte for each row, most of which are deleted.
#[test]
fn rows_of_half_a_byte() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("half.vlc");
    let n = 2 << 20;
    let mut parts = small();
    // No symbols, a factor.
    part(&mut parts, b"META")[24..28].fill(0);
    *part(&mut parts, b"CHRT") = [0u32.to_le_bytes(), 8u32.to_le_bytes()].concat();
    *part(&mut parts, b"ANCH") = vec![0; 4];
    *part(&mut parts, b"SEGM") = segm(n, 0, n);
    *part(&mut parts, b"CELL") = [0, n, n, n].iter().flat_map(|k| k.to_le_bytes()).collect();
    part(&mut parts, b"ROWS").clear();
    *part(&mut parts, b"CODE") = vec![0; n as usize / 2];
    let whole = assemble(&parts);
    read_all("whole", &whole);
    let gone: Vec<usize> = (0..n as usize).filter(|row| row % 1000 != 999).collect();
    parts.push(section(b"TOMB", 0, tomb(n as usize, &gone)));
    drop(gone);
    let bytes = assemble(&parts);
    read_all("most deleted", &bytes);
    fs::write(&path, &bytes).unwrap();
    let few: Ids = [999, 1_999_999, 5].into_iter().collect();
    let deleted = bounded("delete", bytes.len(), 0, || Store::open(&path).unwrap().delete(&few)).unwrap();
    assert_eq!((deleted.deleted, deleted.missing), (2, vec![2]));
    let row = clustered(3, 1, DIM);
    let options = EncodeOptions::default();
    bounded("append", bytes.len(), 0, || Store::open(&path).unwrap().append(&row.view(), &options)).unwrap();
    bounded("compact", bytes.len(), 0, || Store::open(&path).unwrap().compact()).unwrap();
    assert_eq!(Index::open(&path).unwrap().len() as u64, n / 1000 - 1);
}

/// However many hits are asked for, there are no more than rows.
#[test]
fn any_number_of_hits_may_be_asked_for() {
    let _alone = alone();
    let rows = clustered(5, 600, 8);
    let shape = DecoderShape { width: 8, layers: 1, bits: 2 };
    let base = Config { charts: Some(1), ..config(Metric::Cosine, 0.7) };
    let settings = [
        Config { decoder: Decoder::Off, ..base.clone() },
        Config { decoder: Decoder::Off, refine: Some(4), ..base.clone() },
        Config { decoder: Decoder::Of(shape), ..base },
    ];
    let queries = Random(5).mat(1500, 8);
    for settings in settings {
        let index = vlc::compress(rows.view(), &settings).unwrap();
        for k in [600, 601, 4_000_000_000, usize::MAX] {
            // Twelve bytes for each, and as much again while they are put together.
            let answer = 1500 * 600 * 12;
            let found = bounded("hits", index.bytes().len(), 2 * answer, || {
                index.search(queries.view(), &SearchOptions::new(k))
            });
            let found = found.unwrap();
            assert_eq!((found.ids.rows(), found.ids.dim()), (1500, 600));
        }
    }
}

/// What there is no room for is an error, not the end of the process.
#[test]
fn answers_that_do_not_fit_are_refused() {
    let _alone = alone();
    let bytes = bare(MOST_BARE, None);
    let index = Index::from_bytes(&bytes).unwrap();
    // 2^20 hits for each of 2^26 queries: 768 TiB.
    let queries = vec![0.5; DIM << 20];
    let queries = MatRef::new(&queries, 1 << 20, DIM).unwrap();
    let error =
        bounded("query", bytes.len(), 0, || index.search(queries, &SearchOptions::new(usize::MAX))).unwrap_err();
    assert!(matches!(error, Error::Config(_)) && error.to_string().contains("memory"), "{error}");
}

/// Rows that are all alike have no symbols, and as many as there may be: what is written opens.
#[test]
fn rows_that_are_all_alike() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alike.vlc");
    let n = MOST_BARE as usize + 70_000;
    let values = [3.0f32, 4.0].repeat(n);
    let rows = MatRef::new(&values, n, 2).unwrap();
    let mut settings = Config { budget: Budget::BytesPerVector(40.0), ..Config::default() };
    (settings.annealing.anchors, settings.annealing.iterations, settings.charts) = (Some(1), 1, Some(1));
    vlc::compress_to(&rows, &path, &settings).unwrap();
    let index = Index::open(&path).unwrap();
    index.verify().unwrap();
    assert_eq!(index.len(), n);
    assert_eq!(index.query(&[3.0, 4.0], 3).unwrap().len(), 3);
}
