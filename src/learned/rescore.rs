//! The best rows of a scan decoded and scored again.

use rayon::prelude::*;

use super::{
    codewords::Codewords,
    quick::{QuickNet, QuickScratch},
};
use crate::{
    error::Error,
    format::rows::BLOCK,
    math::{
        product::{dot, product_lower, product_nt},
        topk::TopK,
    },
    matrix::{Mat, MatRef},
    model::{Model, factor, learned::Learned},
    neighbors::Neighbors,
    ops::{
        cpu::mlp::{Chunk as HostScratch, Net as HostNet, net as host_net},
        types::{CodesRef, ScoreTables},
    },
};

/// Rows that go through the network together: always so many, so that a row's score does not depend on which come with it.
const ROWS: usize = 32;

/// The network as scoring computes it.
#[derive(Debug)]
enum Net {
    /// With activations of 8 bits, where the weights allow it.
    Quick(QuickNet),
    Exact(HostNet),
}

/// What scoring takes beside the codes, made once for an index.
#[derive(Debug)]
pub(crate) struct LearnedModel {
    net: Net,
    /// That of the coordinates the network sees.
    unit: f32,
    codewords: Codewords,
    /// Active x active: inner products of the decoder's directions in that unit, twice those below the diagonal in the place of those above;
    /// twice those with the mean, and the mean's with itself.
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
        for j in 0..gram.rows() {
            let row = gram.row_mut(j);
            row[..j].iter_mut().for_each(|v| *v *= 2.0);
            row[j + 1..].fill(0.0);
        }
        LearnedModel {
            net: QuickNet::new(learned.mlp()).map_or_else(|| Net::Exact(host_net(learned.mlp())), Net::Quick),
            codewords: Codewords::new(&chart.code, chart.anchors.to_rows().view(), learned.unit),
            unit: learned.unit,
            slope: (0..chart.active()).map(|j| 2.0 * dot(directions.row(j), &model.mean)).collect(),
            gram,
            mean_square: dot(&model.mean, &model.mean),
            mean: model.mean.clone(),
            alpha,
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
/// [`Ops::score`](crate::ops::seam::Ops::score) has them.
pub(crate) struct Rescorer<'a> {
    model: &'a LearnedModel,
    parts: Vec<Part<'a>>,
}

/// What a thread works with.
struct Scratch {
    symbols: Vec<u8>,
    y: Mat,
    moved: Mat,
    exact: HostScratch,
    quick: QuickScratch,
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
            exact: HostScratch::default(),
            quick: QuickScratch::default(),
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
        let Scratch { symbols, y, moved, exact, quick } = scratch;
        for (r, &position) in positions.iter().enumerate() {
            let Some((codes, at)) = self.place(position) else { continue };
            let (shape, cell) = (codes.shape, codes.labels.cell_of(at));
            let block = &codes.blocks[at as usize / BLOCK * shape.bytes()..][..shape.bytes()];
            for (t, symbol) in symbols.iter_mut().enumerate() {
                *symbol = shape.symbol(block, t, at as usize % BLOCK);
            }
            codewords.fill(cell, symbols, y.row_mut(r));
        }
        match net {
            Net::Quick(net) => net.apply(&mut y.as_mut_slice()[..positions.len() * slope.len()], quick),
            Net::Exact(net) => net.apply(y.as_mut_slice(), exact),
        }
        if y.dim() > 0 {
            product_lower(moved.as_mut_slice(), y.view(), gram.view());
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
