//! Stores of many rows: what devices do otherwise than for few.

use std::time::Instant;

use super::{
    Case,
    encode::random_code,
    normals, random,
    store::{gain_table, quantized_normals},
};
use crate::{
    format::{
        elias_fano::encode as encode_rows,
        row_ids::{RowIds, starts as row_starts},
        rows::{BLOCK, BlockShape},
    },
    math::rng::Random,
    model::{
        Chart, Model, Side,
        kinds::{CodeKind, Metric},
    },
    neighbors::Neighbors,
    ops::{
        cpu,
        seam::Ops,
        types::{CodesRef, ScoreTables},
    },
    search::tables::QueryModel,
};

/// What a store is to be: random codes, rows numbered as they stand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spec {
    pub(super) n: usize,
    pub(super) dim: usize,
    pub(super) symbols: usize,
    pub(super) width: u16,
    pub(super) anchors: usize,
    pub(super) charts: usize,
    pub(super) metric: Metric,
}

pub(super) struct Many {
    shape: BlockShape,
    blocks: Vec<u8>,
    packed: Vec<u8>,
    cells: Vec<u64>,
    starts: Vec<u64>,
    model: Model,
    gains: Vec<f32>,
}

impl Many {
    pub(super) fn new(random: &mut Random, spec: Spec) -> Many {
        let gain_nibbles = if spec.metric == Metric::Cosine { 0 } else { 2 };
        let weighted = spec.charts > 1 || spec.symbols > 50;
        let levels = if weighted { 256 } else { 16 };
        let side_nibbles = (if weighted { 2 } else { 1 }) + usize::from(gain_nibbles);
        let shape = BlockShape { kind: CodeKind::Chain, symbols: spec.symbols, side_nibbles };
        let anchor_chart: Vec<u8> = (0..spec.anchors).map(|k| (k % spec.charts) as u8).collect();
        let chart = |g: usize| {
            let code = random_code(random, CodeKind::Chain, 2, &vec![spec.width; spec.symbols]);
            let decoder = quantized_normals(random, code.active(), spec.dim);
            let members = anchor_chart.iter().filter(|&&c| usize::from(c) == g).count();
            let anchors = quantized_normals(random, code.active(), members);
            Chart { decoder, code, anchors }
        };
        let charts = (0..spec.charts).map(chart).collect();
        let factors = (0..levels).map(|i| 0.8 + 0.02 * (i % 16) as f32 + 0.002 * (i / 16) as f32).collect();
        let weights = (0..if weighted { levels } else { 0 }).map(|i| 1.2 - 0.02 * (i % 16) as f32).collect();
        let side = Side { factors, weights, gain_nibbles, gain_range: (0.25, 4.0), ..Side::default() };
        let mean = normals(random, 1, spec.dim).into_vec();
        let center = vec![0.0; spec.dim];
        let model = Model { metric: spec.metric, dim: spec.dim, center, mean, charts, anchor_chart, side };
        // Every bit of a block means something, so any bytes are codes.
        let mut blocks = vec![0u8; spec.n.div_ceil(BLOCK) * shape.bytes()];
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        for word in blocks.chunks_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
        }
        // Cells of different sizes, the third of them empty.
        let at = |k: usize| (spec.n as f64 * (k as f64 / spec.anchors as f64).powf(1.3)) as u64;
        let cells: Vec<u64> =
            (0..=spec.anchors).map(|k| at(if k == 3 && k < spec.anchors { 2 } else { k })).collect();
        let mut packed = Vec::new();
        for cell in cells.windows(2) {
            let rows: Vec<u64> = (cell[0]..cell[1]).collect();
            encode_rows(spec.n as u64, &rows, &mut packed);
        }
        let starts = row_starts(cells.last().copied().unwrap_or(0), &cells);
        Many { shape, blocks, packed, cells, starts, model, gains: gain_table(usize::from(gain_nibbles)) }
    }

    pub(super) fn codes(&self) -> CodesRef<'_> {
        CodesRef {
            model: &self.model,
            shape: self.shape,
            blocks: &self.blocks,
            labels: RowIds {
                n: self.cells[self.cells.len() - 1],
                span: self.cells[self.cells.len() - 1],
                cells: &self.cells,
                starts: &self.starts,
                packed: &self.packed,
                by_position: false,
            },
            anchor_chart: &self.model.anchor_chart,
            alphabet: 16,
            factors: &self.model.side.factors,
            weights: &self.model.side.weights,
            gains: &self.gains,
            squared: self.model.metric == Metric::L2,
        }
    }

    /// Makes every block as the first: of each of its rows there are as many as there are blocks.
    pub(super) fn repeat_first_block(&mut self) {
        let (first, others) = self.blocks.split_at_mut(self.shape.bytes());
        others.chunks_exact_mut(first.len()).for_each(|block| block.copy_from_slice(first));
    }

    pub(super) fn queries(&self, random: &mut Random, count: usize, reach: Option<usize>) -> ScoreTables {
        let mut queries = normals(random, count, self.model.dim);
        queries.as_mut_slice().iter_mut().for_each(|v| *v /= (self.model.dim as f32).sqrt());
        QueryModel::new(&self.model).tables(&self.model, queries.view(), reach)
    }
}

/// Large batches over many rows, which a device may decode and multiply: the answers are those of the CPU, bit for bit where
/// the device looks sums up as the CPU does, and but for the order of near-ties elsewhere.
pub(super) fn batches_over_many_rows<O: Ops>(ops: &O) {
    let base = Spec { n: 70_000, dim: 24, symbols: 19, width: 2, anchors: 37, charts: 1, metric: Metric::Cosine };
    let specs = [
        base,
        Spec { charts: 2, metric: Metric::L2, ..base },
        Spec { n: 66_001, symbols: 24, width: 3, anchors: 1, metric: Metric::Dot, ..base },
        // Tables larger than shared memory, rows longer than it holds.
        Spec { n: 66_001, symbols: 91, width: 16, anchors: 5, ..base },
    ];
    for (s, spec) in specs.into_iter().enumerate() {
        let seed = 1700 + s as u64;
        let mut random = random(seed);
        let store = Many::new(&mut random, spec);
        let loaded = ops.load(&store.codes()).unwrap();
        for (count, k, reach) in [(40, 10, None), (33, 100, Some(5)), (130, 1, None), (3, 3000, None), (1, 10, None)]
        {
            let _case = Case::new(format!("seed {seed}, {spec:?}, {count} queries, k {k}, reach {reach:?}"));
            let queries = store.queries(&mut random, count, reach);
            let found = ops.score(&store.codes(), &loaded, &queries, k).unwrap();
            let expected = cpu::Cpu::with(cpu::Level::Portable);
            let expected = expected.score(&store.codes(), &(), &queries, k).unwrap();
            assert_same(&found, &expected);
        }
    }
}

/// More rows tie than a device may have room for: the lower come first all the same.
pub(super) fn ties_among_many_rows<O: Ops>(ops: &O) {
    for (n, ks) in [(40_000, [10, 3000]), (600_000, [10, 20_000])] {
        let seed = 1750;
        let mut random = random(seed);
        let spec = Spec { n, dim: 24, symbols: 19, width: 2, anchors: 1, charts: 1, metric: Metric::Cosine };
        let mut store = Many::new(&mut random, spec);
        store.repeat_first_block();
        let loaded = ops.load(&store.codes()).unwrap();
        for (count, k) in ks.into_iter().flat_map(|k| [(1, k), (3, k)]) {
            let _case = Case::new(format!("seed {seed}, {spec:?}, {count} queries, k {k}"));
            let queries = store.queries(&mut random, count, None);
            let found = ops.score(&store.codes(), &loaded, &queries, k).unwrap();
            let expected = cpu::Cpu::with(cpu::Level::Portable);
            let expected = expected.score(&store.codes(), &(), &queries, k).unwrap();
            assert_same(&found, &expected);
            assert_eq!(found.ids, expected.ids);
        }
    }
}

pub(super) fn assert_same(found: &Neighbors, expected: &Neighbors) {
    assert_eq!((found.ids.rows(), found.ids.dim()), (expected.ids.rows(), expected.ids.dim()));
    for q in 0..found.ids.rows() {
        let largest = expected.scores.row(q).iter().fold(0f32, |m, s| m.max(s.abs()));
        for i in 0..found.ids.dim() {
            let gap = (found.scores.row(q)[i] - expected.scores.row(q)[i]).abs();
            assert!(gap <= 2e-6 * largest, "query {q}, place {i}: off by {gap}");
            if found.ids.row(q)[i] != expected.ids.row(q)[i] {
                // Another row is right only where scores are as good as equal.
                let at = expected.ids.row(q).iter().position(|id| *id == found.ids.row(q)[i]);
                let near = at
                    .is_none_or(|j| (expected.scores.row(q)[j] - expected.scores.row(q)[i]).abs() <= 2e-6 * largest);
                assert!(
                    near,
                    "query {q}, place {i}: row {} instead of {}",
                    found.ids.row(q)[i],
                    expected.ids.row(q)[i]
                );
            }
        }
    }
}

/// Not a law but a measurement: `n` codes of 46 bytes. Run with `--ignored --nocapture`.
pub(super) fn search_times<O: Ops>(ops: &O, n: usize) {
    let spec = Spec { n, dim: 384, symbols: 91, width: 3, anchors: 1024, charts: 1, metric: Metric::Cosine };
    let mut random = random(1800);
    let store = Many::new(&mut random, spec);
    let start = Instant::now();
    let loaded = ops.load(&store.codes()).unwrap();
    println!("{n} codes of {} B loaded in {:.2} s", store.shape.bytes() as f64 / 32.0, start.elapsed().as_secs_f64());
    for (count, runs) in [(1, 30), (8, 10), (1024, 5)] {
        let queries = store.queries(&mut random, count, None);
        let first = ops.score(&store.codes(), &loaded, &queries, 10).unwrap();
        let mut times: Vec<f64> = (0..runs)
            .map(|_| {
                let start = Instant::now();
                let found = ops.score(&store.codes(), &loaded, &queries, 10).unwrap();
                let seconds = start.elapsed().as_secs_f64();
                assert_eq!(found, first, "another answer the second time");
                seconds
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let median = times[runs / 2];
        let codes = n as f64 * store.shape.bytes() as f64 / 32.0;
        println!(
            "{count} queries: median {:.3} ms ({:.3} to {:.3}), {:.0} queries/s, {:.2} TB/s of codes",
            1e3 * median,
            1e3 * times[0],
            1e3 * times[runs - 1],
            count as f64 / median,
            codes / median / 1e12
        );
    }
}
