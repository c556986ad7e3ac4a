//! The best rows of a scan decoded and scored again.

use rayon::prelude::*;

use super::Learned;
use crate::{
    Error, Mat, MatRef,
    format::BLOCK,
    model::{Code, Model},
    ops::{CodesRef, HostNet, HostScratch, ScoreTables, dot, host_net, product_nt},
    search::Neighbors,
    topk::TopK,
    train::factor,
};

/// Rows that go through the network together: always so many, so that a row's score does not depend on which come with it.
pub(super) const ROWS: usize = 32;

/// What scoring takes beside the codes, made once for an index.
#[derive(Debug)]
pub(crate) struct LearnedModel {
    net: HostNet,
    /// That of the coordinates the network sees.
    unit: f32,
    codewords: Codewords,
    /// Active x active: inner products of the decoder's directions in that unit, and twice those with the mean, and the mean's with itself.
    gram: Mat,
    slope: Vec<f32>,
    mean_square: f32,
    mean: Vec<f32>,
    /// Exponent of the factor.
    alpha: f32,
}

impl LearnedModel {
    /// O(active (active + d) + weights) memory.
    pub(crate) fn new(learned: &Learned, model: &Model, alpha: f32) -> LearnedModel {
        let chart = &model.charts[0];
        let mut directions = chart.decoder.to_mat();
        directions.as_mut_slice().iter_mut().for_each(|v| *v *= learned.unit);
        let mut gram = Mat::zeros(chart.active(), chart.active());
        if chart.active() > 0 {
            product_nt(gram.as_mut_slice(), directions.view(), directions.view(), 1.0);
        }
        LearnedModel {
            net: host_net(learned.mlp()),
            codewords: Codewords::new(&chart.code, chart.anchors.to_rows(), learned.unit),
            unit: learned.unit,
            slope: (0..chart.active()).map(|j| 2.0 * dot(directions.row(j), &model.mean)).collect(),
            gram,
            mean_square: dot(&model.mean, &model.mean),
            mean: model.mean.clone(),
            alpha,
        }
    }
}

/// Tables with the values of a symbol's directions side by side, in the unit of the network.
#[derive(Debug)]
struct Codewords {
    anchors: Mat,
    lags: usize,
    alphabet: usize,
    /// For each symbol the first of its directions, their number, and where its values start.
    places: Vec<(usize, usize, usize)>,
    values: Vec<f32>,
}

impl Codewords {
    fn new(code: &Code, mut anchors: Mat, unit: f32) -> Codewords {
        anchors.as_mut_slice().iter_mut().for_each(|v| *v /= unit);
        let (entries, offsets) = (code.entries(), code.offsets());
        let (mut places, mut values) = (Vec::new(), Vec::new());
        for (t, &width) in code.widths.iter().enumerate() {
            let (first, width) = (offsets[t], usize::from(width));
            places.push((first, width, values.len()));
            for entry in 0..entries {
                values.extend((first..first + width).map(|j| code.tables[j * entries + entry] / unit));
            }
        }
        Codewords { anchors, lags: code.lags, alphabet: code.alphabet(), places, values }
    }

    /// Anchor plus codeword, in the order of [`Code::add_codeword`].
    fn fill(&self, cell: usize, symbols: &[u8], y: &mut [f32]) {
        y.copy_from_slice(self.anchors.row(cell));
        for (t, &(first, width, at)) in self.places.iter().enumerate() {
            let y = &mut y[first..first + width];
            for lag in 0..=self.lags.min(t) {
                let entry = lag * self.alphabet + usize::from(symbols[t - lag]);
                let values = &self.values[at + entry * width..][..width];
                y.iter_mut().zip(values).for_each(|(y, v)| *y += v);
            }
        }
    }
}

/// The rows of a segment, whose positions follow those of the segments before it.
pub(crate) struct Part<'a> {
    /// Its first position among all.
    pub(crate) position: u64,
    /// The number of its first row.
    pub(crate) row: u64,
    pub(crate) codes: CodesRef<'a>,
}

/// Scores rows again. Queries are as the codec sees them, their scores without constants of their own, as
/// [`Ops::score`](crate::ops::Ops::score) has them.
pub(crate) struct Rescorer<'a> {
    model: &'a LearnedModel,
    parts: Vec<Part<'a>>,
}

/// What a thread works with.
struct Scratch {
    symbols: Vec<u8>,
    y: Mat,
    moved: Mat,
    net: HostScratch,
}

impl<'a> Rescorer<'a> {
    /// Of segments in order.
    pub(crate) fn new(model: &'a LearnedModel, parts: Vec<Part<'a>>) -> Self {
        Rescorer { model, parts }
    }

    /// The `k` best rows of each query's candidates (queries x c positions), ties to the lower row number. `tables` are the base's.
    /// O(c weights) a query.
    ///
    /// # Errors
    /// None but those of shapes that do not fit.
    pub(crate) fn best(
        &self,
        queries: MatRef<'_>,
        tables: &ScoreTables,
        candidates: MatRef<'_, u64>,
        k: usize,
    ) -> Result<Neighbors, Error> {
        let k = k.min(candidates.dim());
        let active = self.model.gram.rows();
        let symbols = self.parts.first().map_or(0, |part| part.codes.shape.symbols);
        let scratch = || Scratch {
            symbols: vec![0; symbols],
            y: Mat::zeros(ROWS, active),
            moved: Mat::zeros(ROWS, active),
            net: HostScratch::default(),
        };
        let of_query = |scratch: &mut Scratch, q: usize| {
            let constant = dot(queries.row(q), &self.model.mean);
            let mut top = TopK::new(k);
            for positions in candidates.row(q).chunks(ROWS) {
                self.score(tables.rotated[0].row(q), constant, positions, scratch, &mut top);
            }
            top.into_sorted()
        };
        let found: Vec<_> = (0..queries.rows()).into_par_iter().map_init(scratch, of_query).collect();
        let (scores, ids) = found.into_iter().flatten().unzip();
        Ok(Neighbors { ids: Mat::new(ids, queries.rows(), k)?, scores: Mat::new(scores, queries.rows(), k)? })
    }

    fn score(&self, query: &[f32], constant: f32, positions: &[u64], scratch: &mut Scratch, top: &mut TopK) {
        let LearnedModel { net, unit, codewords, gram, slope, mean_square, alpha, .. } = self.model;
        let Scratch { symbols, y, moved, net: net_scratch } = scratch;
        for (r, &position) in positions.iter().enumerate() {
            let Some((codes, at)) = self.place(position) else { continue };
            let (shape, cell) = (codes.shape, codes.labels.cell_of(at));
            let block = &codes.blocks[at as usize / BLOCK * shape.bytes()..][..shape.bytes()];
            for (t, symbol) in symbols.iter_mut().enumerate() {
                *symbol = shape.symbol(block, t, at as usize % BLOCK);
            }
            codewords.fill(cell, symbols, y.row_mut(r));
        }
        net.apply(y.as_mut_slice(), net_scratch);
        if y.dim() > 0 {
            product_nt(moved.as_mut_slice(), y.view(), gram.view(), 1.0);
        }
        for (r, &position) in positions.iter().enumerate() {
            let Some((codes, at)) = self.place(position) else { continue };
            let y = y.row(r);
            let square = mean_square + dot(slope, y) + dot(moved.row(r), y);
            let factor = factor(square.max(0.0).sqrt(), *alpha);
            let product = constant + unit * dot(query, y);
            let gain = codes.gain(at);
            let score =
                if codes.squared { 2.0 * gain * factor * product - gain * gain } else { gain * factor * product };
            let first = self.parts[self.number(position)].row;
            top.offer(score, first + codes.labels.row(at), |row| row);
        }
    }

    fn number(&self, position: u64) -> usize {
        self.parts.partition_point(|part| part.position <= position).saturating_sub(1)
    }

    /// The codes of the segment that has a position, and the position there.
    fn place(&self, position: u64) -> Option<(&CodesRef<'a>, u64)> {
        let part = self.parts.get(self.number(position))?;
        Some((&part.codes, position - part.position))
    }
}
