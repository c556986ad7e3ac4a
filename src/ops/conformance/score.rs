//! Laws of load and score.

use vlc_reference::distance::{Metric, largest};

use super::{
    Case, normals, random,
    store::{Spec, Store},
    wide,
};
use crate::{
    model::kinds::CodeKind,
    neighbors::{Neighbors, best_of},
    ops::{seam::Ops, types::ScoreTables},
};

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::L2];

pub(super) fn gain_nibbles(metric: Metric, n: usize) -> usize {
    match metric {
        Metric::Cosine => 0,
        Metric::Dot => n % 3,
        // Where all rows are of one length, none are kept.
        Metric::L2 => {
            if n.is_multiple_of(4) {
                0
            } else {
                3
            }
        }
    }
}

/// Checks that the found rows are the best by the reference, near-ties aside.
fn assert_best(store: &Store, queries: &[Vec<f64>], found: &Neighbors, k: usize) {
    assert_best_of(store, queries, found, k, |_, _| true);
}

/// The same among the rows that `looked_at` says of a query and a row's cell.
fn assert_best_of(
    store: &Store,
    queries: &[Vec<f64>],
    found: &Neighbors,
    k: usize,
    looked_at: impl Fn(usize, usize) -> bool,
) {
    let n = store.file.meta.n;
    let k = k.min(n);
    assert_eq!((found.ids.rows(), found.ids.dim()), (queries.len(), k));
    assert_eq!((found.scores.rows(), found.scores.dim()), (queries.len(), k));
    for (q, query) in queries.iter().enumerate() {
        let mut scores = store.scores(query);
        for (score, &cell) in scores.iter_mut().zip(&store.file.labels) {
            *score = if looked_at(q, cell) { *score } else { f64::NEG_INFINITY };
        }
        let tolerance = 1e-6 * store.magnitude(query);
        let best = largest(&scores, k);
        let ids = found.ids.row(q);
        for (rank, (&id, &score)) in ids.iter().zip(found.scores.row(q)).enumerate() {
            let id = id as usize;
            assert!(!ids[..rank].contains(&(id as u64)), "query {q}: row {id} twice");
            let off = (f64::from(score) - scores[id]).abs();
            assert!(off <= tolerance, "query {q}, rank {rank}, row {id}: {score} instead of {}", scores[id]);
            let gap = (scores[id] - best[rank].1).abs();
            assert!(
                gap <= 2.0 * tolerance,
                "query {q}, rank {rank}: row {id} instead of {}, {gap:.3e}",
                best[rank].0
            );
            let earlier = (0..id).filter(|&lower| store.same(lower, id));
            for lower in earlier {
                assert!(ids[..rank].contains(&(lower as u64)), "query {q}: row {id} before its equal {lower}");
            }
        }
        let ordered = found.scores.row(q).windows(2).all(|w| w[0] >= w[1]);
        assert!(ordered, "query {q}: scores do not descend");
    }
}

fn assert_store<O: Ops>(ops: &O, seed: u64, spec: Spec, ks: &[usize]) {
    let _case = Case::new(format!("seed {seed}, {spec:?}"));
    let mut random = random(seed);
    let store = Store::new(&mut random, spec);
    let queries: Vec<Vec<f64>> = (0..5).map(|_| wide(normals(&mut random, 1, spec.d).as_slice())).collect();
    let tables = store.tables(&queries);
    let codes = ops.load(&store.codes()).unwrap();
    for &k in ks {
        let found = ops.score(&store.codes(), &codes, &tables, k).unwrap();
        assert_best(&store, &queries, &found, k);
    }
}

fn assert_kind<O: Ops>(ops: &O, kind: CodeKind, first_seed: u64) {
    let mut seed = first_seed;
    for metric in METRICS {
        for (n, symbols, anchors, charts) in [
            (1, 3, 1, 1),
            (31, 5, 3, 1),
            (32, 4, 17, 2),
            (33, 1, 40, 3),
            (257, 7, 16, 2),
            (600, 9, 1, 1),
            (1000, 6, 256, 3),
            (1000, 12, 300, 1),
        ] {
            seed += 1;
            let lags = if kind == CodeKind::Chain { seed as usize % 4 } else { 0 };
            let gain_nibbles = gain_nibbles(metric, n);
            let factor = !seed.is_multiple_of(3);
            let spec =
                Spec { n, d: 8, metric, kind, lags, symbols, anchors, charts, factor, gain_nibbles, distinct: n };
            assert_store(ops, seed, spec, &[1, 10, n, n + 7]);
        }
    }
}

pub(super) fn best_rows_of_chain_codes<O: Ops>(ops: &O) {
    assert_kind(ops, CodeKind::Chain, 1000);
}

pub(super) fn best_rows_of_pq8_codes<O: Ops>(ops: &O) {
    assert_kind(ops, CodeKind::Pq8, 1100);
}

/// Most rows are copies of a few, in many cells: of equal rows the lower come first, whatever k cuts off.
pub(super) fn ties_go_to_the_lower_row<O: Ops>(ops: &O) {
    let mut seed = 1200;
    for kind in [CodeKind::Chain, CodeKind::Pq8] {
        for metric in METRICS {
            for (n, distinct) in [(700, 1), (700, 3), (500, 40)] {
                seed += 1;
                let gain_nibbles = gain_nibbles(metric, n);
                let spec = Spec {
                    n,
                    d: 5,
                    metric,
                    kind,
                    lags: 0,
                    symbols: 4,
                    anchors: 9,
                    charts: 2,
                    factor: true,
                    gain_nibbles,
                    distinct,
                };
                assert_store(ops, seed, spec, &[1, 7, 64, 333, n]);
            }
        }
    }
}

/// Rows that have no symbols, or nothing but their anchor.
pub(super) fn rows_without_codes<O: Ops>(ops: &O) {
    let mut seed = 1300;
    for factor in [true, false] {
        for metric in METRICS {
            seed += 1;
            let gain_nibbles = gain_nibbles(metric, 1);
            let kind = CodeKind::Chain;
            let spec = Spec {
                n: 70,
                d: 4,
                metric,
                kind,
                lags: 2,
                symbols: 0,
                anchors: 5,
                charts: 1,
                factor,
                gain_nibbles,
                distinct: 70,
            };
            assert_store(ops, seed, spec, &[1, 10, 70]);
        }
    }
}

/// Enough rows for whatever is done to look at fewer of them closely, for one query and for several.
pub(super) fn best_of_many_rows<O: Ops>(ops: &O) {
    let mut seed = 1400;
    for kind in [CodeKind::Chain, CodeKind::Pq8] {
        for (metric, anchors, charts, symbols) in
            [(Metric::Cosine, 40, 1, 21), (Metric::Dot, 300, 3, 10), (Metric::L2, 40, 2, 5)]
        {
            seed += 1;
            let _case = Case::new(format!("seed {seed}, {kind:?}"));
            let (n, gain_nibbles) = (6000, gain_nibbles(metric, 1));
            let (d, lags, factor) = (8, 0, true);
            let spec = Spec { n, d, metric, kind, lags, symbols, anchors, charts, factor, gain_nibbles, distinct: n };
            let mut random = random(seed);
            let store = Store::new(&mut random, spec);
            let queries: Vec<Vec<f64>> = (0..9).map(|_| wide(normals(&mut random, 1, d).as_slice())).collect();
            let codes = ops.load(&store.codes()).unwrap();
            for count in [1, 2, 9] {
                for k in [1, 10, 70] {
                    let found = ops.score(&store.codes(), &codes, &store.tables(&queries[..count]), k).unwrap();
                    assert_best(&store, &queries[..count], &found, k);
                }
            }
        }
    }
}

/// Rows of one symbol, whose bounds are within a step of their scores, and a threshold that is the score of a row yet to come: a bound
/// that is too low by a step loses it. Blocks of one cell, and of several.
pub(super) fn rows_at_their_bound_are_found<O: Ops>(ops: &O) {
    let mut seed = 1450;
    for kind in [CodeKind::Chain, CodeKind::Pq8] {
        for metric in METRICS {
            for (anchors, charts, factor) in [(40, 1, true), (300, 2, true), (300, 1, false)] {
                seed += 1;
                let _case = Case::new(format!("seed {seed}, {kind:?}, {metric:?}, {anchors} anchors"));
                let (n, d, lags, symbols, gain_nibbles) = (6000, 8, 0, 1, gain_nibbles(metric, 1));
                let spec =
                    Spec { n, d, metric, kind, lags, symbols, anchors, charts, factor, gain_nibbles, distinct: n };
                let mut random = random(seed);
                let store = Store::new(&mut random, spec);
                let queries: Vec<Vec<f64>> = (0..9).map(|_| wide(normals(&mut random, 1, d).as_slice())).collect();
                let codes = ops.load(&store.codes()).unwrap();
                for k in [1, 10] {
                    assert_best(
                        &store,
                        &queries,
                        &ops.score(&store.codes(), &codes, &store.tables(&queries), k).unwrap(),
                        k,
                    );
                }
            }
        }
    }
}

/// The same rows in two segments, found in each and put together: of equal scores the lower row comes first, whatever k cuts off and
/// whichever segment was searched first.
pub(super) fn equal_rows_of_two_segments<O: Ops>(ops: &O) {
    let mut seed = 1250;
    for kind in [CodeKind::Chain, CodeKind::Pq8] {
        for (metric, n, distinct) in [(Metric::Cosine, 300, 300), (Metric::Dot, 500, 40), (Metric::L2, 70, 1)] {
            seed += 1;
            let _case = Case::new(format!("seed {seed}, {kind:?}, {n} rows, {distinct} different"));
            let (d, lags, symbols, gain_nibbles) = (5, 0, 4, gain_nibbles(metric, n));
            let (anchors, charts, factor) = (9, 2, true);
            let spec = Spec { n, d, metric, kind, lags, symbols, anchors, charts, factor, gain_nibbles, distinct };
            let mut random = random(seed);
            let store = Store::new(&mut random, spec);
            let queries: Vec<Vec<f64>> = (0..3).map(|_| wide(normals(&mut random, 1, d).as_slice())).collect();
            let tables = store.tables(&queries);
            let segments = [ops.load(&store.codes()).unwrap(), ops.load(&store.codes()).unwrap()];
            let alone = ops.score(&store.codes(), &segments[0], &tables, n).unwrap();
            for (k, order) in [1, 2, 7, 64, n, n + 7, 2 * n].into_iter().flat_map(|k| [(k, [0, 1]), (k, [1, 0])]) {
                let part = |segment: usize| {
                    let mut part = ops.score(&store.codes(), &segments[segment], &tables, k).unwrap();
                    part.ids.as_mut_slice().iter_mut().for_each(|id| *id += (segment * n) as u64);
                    part
                };
                let found = best_of(order.map(part).into(), queries.len(), k);
                assert_eq!((found.ids.dim(), found.scores.dim()), (k, k));
                for q in 0..queries.len() {
                    let hits = alone.scores.row(q).iter().copied().zip(alone.ids.row(q).iter().copied());
                    let mut expected: Vec<(f32, u64)> =
                        hits.flat_map(|(score, id)| [(score, id), (score, id + n as u64)]).collect();
                    expected.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                    let found = found.scores.row(q).iter().copied().zip(found.ids.row(q).iter().copied());
                    assert_eq!(found.collect::<Vec<_>>(), expected[..k], "query {q}, k = {k}");
                }
            }
        }
    }
}

/// Of the cells only those of highest anchors are looked at, and more where these hold too few rows.
pub(super) fn probed_rows_are_of_the_best_cells<O: Ops>(ops: &O) {
    let mut seed = 1500;
    for (metric, n, charts) in [(Metric::Cosine, 900, 1), (Metric::Dot, 400, 2), (Metric::L2, 30, 1)] {
        for (most, k) in [(1, 1), (3, 10), (5, 200), (20, 10), (100, 10)] {
            seed += 1;
            let _case = Case::new(format!("seed {seed}, {metric:?}, {most} cells, k = {k}"));
            let gain_nibbles = gain_nibbles(metric, 1);
            let (kind, d, lags, symbols, anchors, factor) = (CodeKind::Chain, 8, 1, 6, 20, true);
            let spec = Spec { n, d, metric, kind, lags, symbols, anchors, charts, factor, gain_nibbles, distinct: n };
            let mut random = random(seed);
            let store = Store::new(&mut random, spec);
            let queries: Vec<Vec<f64>> = (0..3).map(|_| wide(normals(&mut random, 1, d).as_slice())).collect();
            let tables = ScoreTables { reach: Some(most), ..store.tables(&queries) };
            let found = ops.score(&store.codes(), &ops.load(&store.codes()).unwrap(), &tables, k).unwrap();
            let sizes: Vec<usize> = store.file.cells.windows(2).map(|w| w[1] - w[0]).collect();
            let looked_at: Vec<Vec<usize>> = (0..queries.len())
                .map(|q| {
                    let bases = tables.bases.row(q);
                    let mut order: Vec<usize> = (0..anchors).filter(|&cell| sizes[cell] > 0).collect();
                    order.sort_by(|&a, &b| bases[b].total_cmp(&bases[a]).then(a.cmp(&b)));
                    let (mut taken, mut rows) = (0, 0);
                    while taken < order.len() && (taken < most || rows < k) {
                        rows += sizes[order[taken]];
                        taken += 1;
                    }
                    order[..taken].to_vec()
                })
                .collect();
            assert_best_of(&store, &queries, &found, k, |q, cell| looked_at[q].contains(&cell));
        }
    }
}
