//! A small random store twice: as the reference reads it and as the operations are given it.

use vlc_reference::{
    File,
    distance::Metric,
    model::{Chart, Meta, Side},
};

use super::{
    encode::{random_code, reference_code},
    normals, wide,
};
use crate::{
    format::{
        elias_fano::encode as encode_rows,
        row_ids::{RowIds, starts as row_starts},
        rows::{BlockShape, place_side, place_symbols},
    },
    math::rng::Random,
    model::{self, Model, Quantized, kinds::CodeKind},
    ops::types::CodesRef,
};

/// What a random store is to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spec {
    pub(super) n: usize,
    pub(super) d: usize,
    pub(super) metric: Metric,
    pub(super) kind: CodeKind,
    pub(super) lags: usize,
    pub(super) symbols: usize,
    pub(super) anchors: usize,
    pub(super) charts: usize,
    /// Whether rows have a factor: with an even number of rows one of two nibbles, and a weight with it but where there is one chart.
    pub(super) factor: bool,
    pub(super) gain_nibbles: usize,
    /// Different rows; the others are copies of them.
    pub(super) distinct: usize,
}

impl Spec {
    fn factor_nibbles(&self) -> usize {
        if self.factor { 2 - self.n % 2 } else { 0 }
    }
}

/// The store.
pub(super) struct Store {
    pub(super) file: File,
    pub(super) alphabet: usize,
    shape: BlockShape,
    blocks: Vec<u8>,
    packed: Vec<u8>,
    cells: Vec<u64>,
    starts: Vec<u64>,
    model: Model,
    gains: Vec<f32>,
}

/// The codes of one row: anchor, symbols, factor code, gain code.
type RowCode = (usize, Vec<u8>, usize, usize);

impl Store {
    pub(super) fn new(random: &mut Random, spec: Spec) -> Store {
        let Spec { n, d, kind, .. } = spec;
        let alphabet = if kind == CodeKind::Chain { 16 } else { 256 };
        let model = random_model(random, spec);
        let chart = |chart: &model::Chart| Chart {
            code: reference_code(&chart.code),
            columns: (0..chart.active()).map(|j| wide(chart.decoder.to_mat().row(j))).collect(),
        };
        let charts: Vec<Chart> = model.charts.iter().map(chart).collect();
        let anchors = model.anchor_coordinates().iter().map(|anchor| wide(anchor)).collect();

        let pool: Vec<RowCode> = (0..spec.distinct)
            .map(|_| {
                let symbols = (0..spec.symbols).map(|_| random.below(alphabet) as u8).collect();
                let gain = random.below(1 << (4 * spec.gain_nibbles));
                (random.below(spec.anchors), symbols, random.below(1 << (4 * spec.factor_nibbles())), gain)
            })
            .collect();
        let rows: Vec<RowCode> =
            (0..n).map(|i| pool[if n == spec.distinct { i } else { random.below(spec.distinct) }].clone()).collect();

        let side_nibbles = spec.factor_nibbles() + spec.gain_nibbles;
        let shape = BlockShape { kind, symbols: spec.symbols, side_nibbles };
        let mut row_at: Vec<usize> = (0..n).collect();
        row_at.sort_by_key(|&i| (rows[i].0, i));
        let mut position_of = vec![0; n];
        row_at.iter().enumerate().for_each(|(position, &row)| position_of[row] = position);
        let mut blocks = vec![0; shape.code_bytes(n as u64) as usize];
        for (position, &row) in row_at.iter().enumerate() {
            let block = &mut blocks[position / 32 * shape.bytes()..][..shape.bytes()];
            let (_, symbols, factor, gain) = &rows[row];
            place_symbols(shape, block, position % 32, symbols);
            let nibbles = |code: usize, count: usize| (0..count).map(move |s| (code >> (4 * s) & 15) as u8);
            let mut side: Vec<u8> = nibbles(*factor, spec.factor_nibbles()).collect();
            side.extend(nibbles(*gain, spec.gain_nibbles));
            place_side(shape, block, position % 32, &side);
        }
        let labels: Vec<usize> = rows.iter().map(|r| r.0).collect();
        let cells: Vec<usize> = (0..=spec.anchors).map(|k| labels.iter().filter(|&&l| l < k).count()).collect();
        let mut packed = Vec::new();
        for cell in cells.windows(2) {
            let rows: Vec<u64> = row_at[cell[0]..cell[1]].iter().map(|&row| row as u64).collect();
            encode_rows(n as u64, &rows, &mut packed);
        }
        let of_positions =
            |pick: fn(&RowCode) -> usize| row_at.iter().map(|&row| pick(&rows[row])).collect::<Vec<_>>();
        let file = File {
            meta: Meta {
                n,
                d,
                metric: spec.metric,
                kind: charts[0].code.kind,
                lags: spec.lags,
                anchors: spec.anchors,
                charts: spec.charts,
                symbols: spec.symbols,
                factor_nibbles: spec.factor_nibbles(),
                gain_nibbles: spec.gain_nibbles,
                energy: 0.0,
                anchor_energy: 0.0,
                recall: f64::NAN,
                recall_k: 0,
                recall_queries: 0,
                query_source: 0,
                seed: 0,
                training_rows: 0,
                alpha: 0.0,
                probe_cells: [0; 2],
            },
            center: wide(&model.center),
            mean: wide(&model.mean),
            charts,
            chart_of: model.anchor_chart.iter().map(|&g| usize::from(g)).collect(),
            anchors,
            side: Side {
                factor_levels: wide(&model.side.factors),
                weights: wide(&model.side.weights),
                reaches: Vec::new(),
                one_gain: model.side.gain_range.0.into(),
                gain_range: (spec.gain_nibbles > 0).then_some((0.25, 4.0)),
            },
            learned: None,
            key_values: Vec::new(),
            symbols: row_at.iter().map(|&row| rows[row].1.clone()).collect(),
            factor_codes: if spec.factor { of_positions(|r| r.2) } else { vec![] },
            gain_codes: if spec.gain_nibbles > 0 { of_positions(|r| r.3) } else { vec![] },
            gain_pieces: Vec::new(),
            labels,
            cells: cells.clone(),
            row_at,
            position_of,
        };
        let cells: Vec<u64> = cells.iter().map(|&c| c as u64).collect();
        let starts = row_starts(cells.last().copied().unwrap_or(0), &cells);
        let gains = if spec.gain_nibbles > 0 { gain_table(spec.gain_nibbles) } else { model.side.gain_table() };
        Store { file, alphabet, shape, blocks, packed, cells, starts, model, gains }
    }

    /// As [`Ops::load`](crate::ops::seam::Ops::load) takes it.
    pub(super) fn codes(&self) -> CodesRef<'_> {
        CodesRef {
            model: &self.model,
            shape: self.shape,
            blocks: &self.blocks,
            labels: RowIds {
                n: self.file.meta.n as u64,
                span: self.file.meta.n as u64,
                cells: &self.cells,
                starts: &self.starts,
                packed: &self.packed,
                by_position: false,
            },
            anchor_chart: &self.model.anchor_chart,
            alphabet: self.alphabet,
            factors: &self.model.side.factors,
            weights: &self.model.side.weights,
            gains: &self.gains,
            squared: self.file.meta.metric == Metric::L2,
        }
    }
}

/// A model of these sizes.
fn random_model(random: &mut Random, spec: Spec) -> Model {
    let Spec { d, metric, .. } = spec;
    let anchor_chart: Vec<u8> = (0..spec.anchors).map(|_| random.below(spec.charts) as u8).collect();
    let charts = (0..spec.charts).map(|g| {
        let widths: Vec<u16> = (0..spec.symbols).map(|t| u16::from(t < d)).collect();
        let code = random_code(random, spec.kind, spec.lags, &widths);
        let decoder = quantized_normals(random, code.active(), d);
        let members = anchor_chart.iter().filter(|&&c| usize::from(c) == g).count();
        let anchors = quantized_normals(random, code.active(), members);
        model::Chart { decoder, code, anchors }
    });
    let charts = charts.collect();
    let (center, metric) = match metric {
        Metric::Cosine => (vec![0.0; d], crate::model::kinds::Metric::Cosine),
        Metric::Dot => (vec![0.0; d], crate::model::kinds::Metric::Dot),
        Metric::L2 => (normals(random, 1, d).into_vec(), crate::model::kinds::Metric::L2),
    };
    let one_gain = if metric == crate::model::kinds::Metric::Cosine { 1.0 } else { 1.5 };
    let levels = if spec.factor { 1 << (4 * spec.factor_nibbles()) } else { 0 };
    let weights = if spec.charts > 1 { levels } else { 0 };
    let side = model::Side {
        factors: (0..levels).map(|i| 0.5 + 0.0625 * (i % 16) as f32 + 0.01 * (i / 16) as f32).collect(),
        weights: (0..weights).map(|i| 1.25 - 0.03125 * (i % 16) as f32 + 0.02 * (i / 16) as f32).collect(),
        gain_nibbles: spec.gain_nibbles as u8,
        gain_range: if spec.gain_nibbles > 0 { (0.25, 4.0) } else { (one_gain, one_gain) },
        ..model::Side::default()
    };
    Model { metric, dim: d, center, mean: normals(random, 1, d).into_vec(), charts, anchor_chart, side }
}

/// Columns of what is nearly normal, up to 4 either way.
pub(super) fn quantized_normals(random: &mut Random, columns: usize, len: usize) -> Quantized {
    let scale = 8.0 / 65_535.0;
    let code = |v: f32| ((v + 4.0) / scale).round().clamp(0.0, 65_535.0) as u16;
    let codes = (0..columns * len).map(|_| code(random.normal())).collect();
    Quantized { len, bits: vec![16; columns], scale: vec![scale; columns], offset: vec![-4.0; columns], codes }
}

/// Gains by code between 1/4 and 4, as docs/format.md has them.
pub(super) fn gain_table(nibbles: usize) -> Vec<f32> {
    if nibbles == 0 {
        return vec![1.0];
    }
    let steps = (1 << (4 * nibbles)) - 2;
    let gain = |c: i32| {
        if c == 0 { 0.0 } else { 0.25 * 16f64.powf(f64::from(c - 1) / f64::from(steps)) }
    };
    (0..=steps + 1).map(|c| gain(c) as f32).collect()
}
