//! Laws of score where only some rows may be found.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use vlc_reference::distance::Metric;

use super::{
    Case,
    many::{self, Many, assert_same},
    normals, random,
    score::gain_nibbles,
    store::{Spec, Store},
    wide,
};
use crate::{
    math::rng::Random,
    matrix::Mat,
    model::kinds::CodeKind,
    neighbors::Neighbors,
    ops::{allowed::Allowed, cpu, seam::Ops, types::ScoreTables},
};

/// Which positions are allowed.
#[derive(Debug, Clone, Copy)]
enum Filter {
    None,
    One,
    /// So many in a thousand.
    Share(usize),
    /// Positions that stand together, from the first number of thousandths on to the second.
    Between(usize, usize),
    All,
}

impl Filter {
    fn positions(self, random: &mut Random, n: usize) -> Vec<bool> {
        let one = random.below(n);
        let allows = |p: usize| match self {
            Filter::None => false,
            Filter::One => p == one,
            Filter::Share(share) => random.below(1000) < share,
            Filter::Between(from, to) => (n * from / 1000..n * to / 1000).contains(&p),
            Filter::All => true,
        };
        (0..n).map(allows).collect()
    }
}

/// As score takes it.
fn allowed(positions: &[bool], cells: &[u64]) -> Option<Arc<Allowed>> {
    let word = |bits: &[bool]| bits.iter().rev().fold(0, |word, &bit| word << 1 | u32::from(bit));
    Some(Arc::new(Allowed::new(positions.chunks(32).map(word).collect(), cells)))
}

/// The cells that a query looks at, in so many words: those with allowed rows by their bases, until there are enough.
fn cells_of(bases: &[f32], sizes: &[usize], most: usize, k: usize) -> BTreeSet<usize> {
    let mut order: Vec<usize> = (0..sizes.len()).filter(|&cell| sizes[cell] > 0).collect();
    order.sort_by(|&a, &b| bases[b].total_cmp(&bases[a]).then(a.cmp(&b)));
    let (mut taken, mut rows) = (0, 0);
    while taken < order.len() && (taken < most || rows < k) {
        rows += sizes[order[taken]];
        taken += 1;
    }
    order[..taken].iter().copied().collect()
}

/// The first `k` of each query's rows, all of which `all` has in order, that `may` be found.
fn picked(all: &Neighbors, k: usize, may: impl Fn(usize, usize) -> bool) -> Neighbors {
    let (mut ids, mut scores) = (Vec::new(), Vec::new());
    for q in 0..all.ids.rows() {
        let pairs = all.ids.row(q).iter().zip(all.scores.row(q));
        for (&id, &score) in pairs.filter(|(id, _)| may(q, **id as usize)).take(k) {
            ids.push(id);
            scores.push(score);
        }
    }
    let count = all.ids.rows();
    Neighbors { ids: Mat::new(ids, count, k).unwrap(), scores: Mat::new(scores, count, k).unwrap() }
}

/// The answers are what is left of those without a filter: the same rows in the same order, with the very same scores.
pub(super) fn filtered_rows_are_the_best_allowed<O: Ops>(ops: &O) {
    let mut seed = 1600;
    for kind in [CodeKind::Chain, CodeKind::Pq8] {
        for (metric, n, symbols, anchors, charts, distinct) in [
            (Metric::Cosine, 1, 3, 1, 1, 1),
            (Metric::L2, 33, 5, 3, 1, 33),
            (Metric::Cosine, 1000, 6, 40, 1, 1000),
            (Metric::Dot, 1000, 12, 300, 3, 1000),
            (Metric::L2, 900, 9, 20, 2, 900),
            (Metric::Dot, 700, 4, 9, 2, 3),
            (Metric::Cosine, 500, 0, 5, 1, 40),
        ] {
            if symbols == 0 && kind == CodeKind::Pq8 {
                continue;
            }
            seed += 1;
            let (d, lags) = (8, usize::from(kind == CodeKind::Chain));
            let (factor, gain_nibbles) = (seed % 3 > 0, gain_nibbles(metric, n));
            let spec = Spec { n, d, metric, kind, lags, symbols, anchors, charts, factor, gain_nibbles, distinct };
            let mut random = random(seed);
            let store = Store::new(&mut random, spec);
            let queries: Vec<Vec<f64>> = (0..3).map(|_| wide(normals(&mut random, 1, d).as_slice())).collect();
            let codes = ops.load(&store.codes()).unwrap();
            let tables = store.tables(&queries);
            let all = ops.score(&store.codes(), &codes, &tables, n).unwrap();
            let filters = [
                Filter::None,
                Filter::One,
                Filter::Share(10),
                Filter::Share(300),
                Filter::Between(400, 500),
                Filter::All,
            ];
            for filter in filters {
                let positions = filter.positions(&mut random, n);
                let may = |row: usize| positions[store.file.position_of[row]];
                let count = positions.iter().filter(|may| **may).count();
                let mut sizes = vec![0; anchors];
                (0..n).filter(|&row| may(row)).for_each(|row| sizes[store.file.labels[row]] += 1);
                for (k, reach) in [(1, None), (10, None), (n + 7, None), (1, Some(1)), (10, Some(3)), (n, Some(1))] {
                    let _case = Case::new(format!("seed {seed}, {spec:?}, {filter:?}, k {k}, reach {reach:?}"));
                    let allowed = allowed(&positions, store.codes().labels.cells);
                    let tables = ScoreTables { reach, allowed, ..tables.clone() };
                    let found = ops.score(&store.codes(), &codes, &tables, k).unwrap();
                    let k = k.min(count);
                    let cells: Vec<BTreeSet<usize>> = (0..queries.len())
                        .map(|q| cells_of(tables.bases.row(q), &sizes, reach.unwrap_or(anchors), k))
                        .collect();
                    let expected = picked(&all, k, |q, row| may(row) && cells[q].contains(&store.file.labels[row]));
                    assert_eq!(found.ids, expected.ids);
                    assert_eq!(found.scores, expected.scores);
                }
            }
        }
    }
}

/// Stores large enough for whatever is done to look at fewer rows closely, or for batches: the answers are what the CPU's without a
/// filter leave, but for the order of near-ties.
pub(super) fn filtered_among_many_rows<O: Ops>(ops: &O) {
    let base = many::Spec {
        n: 70_000,
        dim: 24,
        symbols: 19,
        width: 2,
        anchors: 37,
        charts: 1,
        metric: crate::model::kinds::Metric::Cosine,
    };
    let several = many::Spec { charts: 2, metric: crate::model::kinds::Metric::L2, ..base };
    let portable = cpu::Cpu::with(cpu::Level::Portable);
    for (s, spec) in [base, several].into_iter().enumerate() {
        let seed = 1650 + s as u64;
        let mut random = random(seed);
        let store = Many::new(&mut random, spec);
        let cells = store.codes().labels.cells;
        let loaded = ops.load(&store.codes()).unwrap();
        let queries: Vec<ScoreTables> =
            [40, 3, 1].into_iter().map(|count| store.queries(&mut random, count, None)).collect();
        let all: Vec<Neighbors> =
            queries.iter().map(|queries| portable.score(&store.codes(), &(), queries, spec.n).unwrap()).collect();
        for (filter, batch, k, reach) in [
            (Filter::One, 0, 10, None),
            (Filter::Share(1), 0, 10, None),
            (Filter::Share(1), 2, 1000, None),
            (Filter::Share(1), 1, 10, Some(2)),
            (Filter::Share(100), 2, 10, None),
            (Filter::Share(100), 1, 100, Some(5)),
            (Filter::Share(300), 0, 10, None),
            // More hits than there are groups with rows of the cells that are looked at.
            (Filter::Share(300), 0, 100, Some(1)),
            (Filter::Share(300), 1, 3000, None),
            // Rows that stand together, of which a sample of all rows would see few.
            (Filter::Between(500, 502), 0, 10, None),
            (Filter::Between(300, 600), 0, 100, None),
            (Filter::Between(300, 600), 2, 10, None),
            (Filter::All, 0, 10, None),
            (Filter::All, 0, 100, Some(1)),
            (Filter::All, 2, 10, None),
        ] {
            let _case =
                Case::new(format!("seed {seed}, {spec:?}, {filter:?}, k {k}, reach {reach:?}, batch {batch}"));
            let positions = filter.positions(&mut random, spec.n);
            let tables = ScoreTables { reach, allowed: allowed(&positions, cells), ..queries[batch].clone() };
            let found = ops.score(&store.codes(), &loaded, &tables, k).unwrap();
            // Rows are numbered as they stand.
            let k = k.min(positions.iter().filter(|may| **may).count());
            let sizes: Vec<usize> = cells
                .windows(2)
                .map(|cell| positions[cell[0] as usize..cell[1] as usize].iter().filter(|may| **may).count())
                .collect();
            let looked_at: Vec<Vec<bool>> = (0..tables.bases.rows())
                .map(|q| {
                    let mut looked_at = vec![false; spec.n];
                    for cell in cells_of(tables.bases.row(q), &sizes, reach.unwrap_or(sizes.len()), k) {
                        looked_at[cells[cell] as usize..cells[cell + 1] as usize].fill(true);
                    }
                    looked_at
                })
                .collect();
            let expected = picked(&all[batch], k, |q, row| positions[row] && looked_at[q][row]);
            assert_same(&found, &expected);
        }
    }
    // Of each row more equal ones than there may be room for.
    let n = 600_000;
    let mut random = random(1660);
    let mut store = Many::new(&mut random, many::Spec { n, anchors: 1, ..base });
    store.repeat_first_block();
    let loaded = ops.load(&store.codes()).unwrap();
    for filter in [Filter::Share(950), Filter::Between(0, 30)] {
        let _case = Case::new(format!("{n} rows, {filter:?}"));
        let positions = filter.positions(&mut random, n);
        let allowed = allowed(&positions, store.codes().labels.cells);
        let tables = ScoreTables { allowed, ..store.queries(&mut random, 1, None) };
        let found = ops.score(&store.codes(), &loaded, &tables, 10).unwrap();
        let unfiltered = ScoreTables { allowed: None, ..tables.clone() };
        let all = portable.score(&store.codes(), &(), &unfiltered, n).unwrap();
        assert_eq!(found.ids, picked(&all, 10, |_, row| positions[row]).ids);
    }
}

/// Not a law but a measurement: `n` codes of 46 bytes of which fewer and fewer are allowed, for one query at a time and for 64 together.
/// The best of several runs. Run with `--ignored --nocapture`.
pub(super) fn filtered_search_times<O: Ops>(ops: &O, n: usize) {
    let (dim, symbols, width, anchors, charts) = (384, 91, 3, 256, 1);
    let spec = many::Spec { n, dim, symbols, width, anchors, charts, metric: crate::model::kinds::Metric::Cosine };
    let mut random = random(1850);
    let store = Many::new(&mut random, spec);
    let loaded = ops.load(&store.codes()).unwrap();
    let single: Vec<ScoreTables> = (0..64).map(|_| store.queries(&mut random, 1, None)).collect();
    let batch = [store.queries(&mut random, 64, None)];
    let filters = [None, Some(1.0), Some(0.1), Some(1e-2), Some(1e-3), Some(1e-5)].map(|share: Option<f64>| {
        let positions = share.map(|share| {
            let mut positions = vec![share >= 1.0; n];
            (0..(n as f64 * share) as usize).for_each(|_| positions[random.below(n)] = true);
            allowed(&positions, store.codes().labels.cells)
        });
        (share, positions.flatten())
    });
    for (what, queries) in [("one by one", single.as_slice()), ("64 together", batch.as_slice())] {
        let mut best = [f64::INFINITY; 6];
        for _ in 0..9 {
            for (best, (_, allowed)) in best.iter_mut().zip(&filters) {
                let tables: Vec<ScoreTables> =
                    queries.iter().map(|one| ScoreTables { allowed: allowed.clone(), ..one.clone() }).collect();
                let start = Instant::now();
                tables.iter().for_each(|one| drop(ops.score(&store.codes(), &loaded, one, 10).unwrap()));
                *best = best.min(start.elapsed().as_secs_f64());
            }
        }
        for (best, (share, _)) in best.iter().zip(&filters) {
            let share = share.map_or("no filter".into(), |share| format!("share {share}"));
            println!("{what}, {share}: {:.0} queries/s", 64.0 / best);
        }
    }
}
