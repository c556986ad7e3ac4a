//! A filtered search gives what filtering an exhaustive scan gives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::{collections::HashSet, sync::LazyLock};

use proptest::prelude::*;
use vlc::{Config, EncodeOptions, Filter, Ids, Index, Metric, Probe, SearchOptions, Store};

use common::{Random, clustered, config};

const DIM: usize = 16;
const ROWS: usize = 3000;

/// Stores without ids, with numbers and with strings; the last in three segments, and with deleted rows.
static STORES: LazyLock<Vec<Index<Vec<u8>>>> = LazyLock::new(|| {
    let rows = clustered(4, ROWS, DIM);
    let names = |from: usize, to: usize| Ids::Text((from..to).map(|i| format!("row {i}")).collect());
    let plain = vlc::compress(rows.view(), &config(Metric::Cosine, 0.4)).unwrap();
    let numbers: Ids = (0..ROWS as u64).map(|i| i * 7919 % 1_000_003).collect();
    let settings = Config { ids: Some(&numbers), ..config(Metric::L2, 0.6) };
    let numbered = vlc::compress(rows.view(), &settings).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vlc");
    let first = names(0, 2000);
    let settings = Config { ids: Some(&first), ..config(Metric::Dot, 0.6) };
    vlc::compress_to(&rows.view().slice(0..2000), &path, &settings).unwrap();
    let mut store = Store::open(&path).unwrap();
    for (from, to) in [(2000, 2700), (2700, ROWS)] {
        let ids = names(from, to);
        let options = EncodeOptions { ids: Some(&ids), ..EncodeOptions::default() };
        store.append(&rows.view().slice(from..to), &options).unwrap();
    }
    store.delete(&Ids::Text((0..ROWS).step_by(11).map(|i| format!("row {i}")).collect())).unwrap();
    vec![plain, numbered, Index::read(&path).unwrap()]
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn filtering_inside_is_filtering_outside(
        store in 0usize..3,
        seed in 1u64..,
        power in 0f64..5.0,
        allow: bool,
        k in prop::sample::select(vec![1usize, 3, 10, 100, 5000]),
        cells in prop::sample::select(vec![0usize, 1, 3, 1000]),
    ) {
        let index = &STORES[store];
        let searcher = index;
        let queries = clustered(seed % 1000, 3, DIM);
        let mut random = Random(seed);
        // Selectivities from 1 to 1e-5: often one row, or none.
        let share = 10f64.powf(-power);
        let n = index.len();
        let all = index.ids(0..n).unwrap();
        let picked: Vec<usize> = (0..n).filter(|_| (random.below(1 << 20) as f64) < share * f64::from(1 << 20)).collect();
        let listed = match &all {
            Ids::Numbers(ids) => picked.iter().map(|&i| ids[i]).chain([u64::MAX]).collect::<Ids>(),
            Ids::Text(ids) => picked.iter().map(|&i| ids[i].clone()).chain(["nobody".to_owned()]).collect(),
        };
        let filter = index.filter(if allow { Filter::Allow(&listed) } else { Filter::Deny(&listed) }).unwrap();
        let expected_len = if allow { picked.len() } else { n - picked.len() };
        prop_assert_eq!(filter.len(), expected_len as u64);

        // Without probing: the exhaustive scan of everything, filtered.
        let everything = searcher.search(queries.view(), &SearchOptions::new(n)).unwrap();
        let chosen: HashSet<String> = match &listed {
            Ids::Numbers(ids) => ids.iter().map(u64::to_string).collect(),
            Ids::Text(ids) => ids.iter().cloned().collect(),
        };
        let name = |id: u64| index.text_id(id).map_or_else(|| id.to_string(), str::to_owned);
        let options = SearchOptions::default().probing(if cells == 0 { Probe::All } else { Probe::Cells(cells) });
        let found = searcher.search(queries.view(), &options.hits(k).filtered(&filter)).unwrap();
        prop_assert_eq!(found.ids.dim(), k.min(expected_len));
        for q in 0..3 {
            let full = everything.ids.row(q).iter().copied().zip(everything.scores.row(q).iter().copied());
            let full: Vec<(u64, f32)> = full.filter(|(id, _)| chosen.contains(&name(*id)) == allow).collect();
            let hits: Vec<(u64, f32)> =
                found.ids.row(q).iter().copied().zip(found.scores.row(q).iter().copied()).collect();
            if cells == 0 {
                prop_assert_eq!(&hits, &full[..k.min(full.len())]);
            }
            for (i, hit) in hits.iter().enumerate() {
                prop_assert!(full.contains(hit), "a row of another score, or one not allowed");
                prop_assert!(!hits[..i].iter().any(|other| other.0 == hit.0), "a row twice");
                prop_assert!(i == 0 || hits[i - 1].1 >= hit.1);
            }
        }
    }
}

#[test]
fn filters_belong_to_a_commit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vlc");
    vlc::compress_to(&clustered(4, 300, DIM).view(), &path, &config(Metric::Cosine, 0.5)).unwrap();
    let before = Index::open(&path).unwrap();
    let some: Ids = (0..10).collect();
    let filter = before.filter(Filter::Allow(&some)).unwrap();
    assert_eq!(Store::open(&path).unwrap().delete(&(5..7).collect()).unwrap().deleted, 2);
    let after = Index::open(&path).unwrap();
    let query = clustered(5, 1, DIM);
    let ask = |index: &Index<vlc::MappedFile>, filter| {
        let searcher = index;
        searcher.search(query.view(), &SearchOptions::new(20).filtered(filter)).map(|found| found.ids.dim())
    };
    assert_eq!(ask(&before, &filter).unwrap(), 10, "who has the old commit open goes on with it");
    assert!(ask(&after, &filter).unwrap_err().to_string().contains("make it anew"));
    assert_eq!(ask(&after, &after.filter(Filter::Allow(&some)).unwrap()).unwrap(), 8);
    assert!(after.filter(Filter::Allow(&Ids::Text(vec!["5".into()]))).is_err());
    assert_eq!(after.len(), 298);
    let all = after.search(query.view(), &SearchOptions::new(1000)).unwrap();
    assert_eq!(all.ids.dim(), 298);
    assert!(all.ids.as_slice().iter().all(|id| ![5, 6].contains(id)));
}
