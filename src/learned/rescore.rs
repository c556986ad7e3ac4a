//! The best rows of a scan decoded and scored again.

use super::{
    codewords::Codewords,
    quick::{QuickNet, QuickScratch},
    reaches::Reaches,
};
use crate::{
    math::product::{dot, product_lower, product_nt},
    matrix::{Mat, MatRef},
    model::{Model, factor, learned::Learned},
    ops::{
        cpu::mlp::{Chunk as HostScratch, Net as HostNet, net as host_net},
        types::ScoreTables,
    },
    search::rescore::{Again, Layer, Row, TOGETHER},
};

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
    /// Where rows have their reach.
    reaches: Option<Reaches>,
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
        let codewords = Codewords::new(&chart.code, chart.anchors.to_rows().view(), learned.unit);
        LearnedModel {
            reaches: Reaches::new(model, directions.view(), codewords.anchors()),
            net: QuickNet::new(learned.mlp()).map_or_else(|| Net::Exact(host_net(learned.mlp())), Net::Quick),
            codewords,
            unit: learned.unit,
            slope: (0..chart.active()).map(|j| 2.0 * dot(directions.row(j), &model.mean)).collect(),
            gram,
            mean_square: dot(&model.mean, &model.mean),
            mean: model.mean.clone(),
            alpha,
        }
    }
}

/// What a thread works with.
pub(crate) struct Scratch {
    symbols: Vec<u8>,
    y: Mat,
    moved: Mat,
    exact: HostScratch,
    quick: QuickScratch,
}

/// A query in the directions of the chart, and its inner product with the mean.
pub(crate) struct Query<'q> {
    rotated: &'q [f32],
    constant: f32,
    /// Its products with the anchors.
    bases: &'q [f32],
}

/// O(weights) a row.
impl Layer for &LearnedModel {
    type Rows = ();
    type Batch = Vec<f32>;
    type Query<'q>
        = Query<'q>
    where
        Self: 'q;
    type Scratch = Scratch;

    fn batch(&self, queries: MatRef<'_>) -> Vec<f32> {
        (0..queries.rows()).map(|q| dot(queries.row(q), &self.mean)).collect()
    }

    fn query<'q>(&'q self, batch: &'q Vec<f32>, tables: &'q ScoreTables, q: usize) -> Query<'q> {
        Query { rotated: tables.rotated[0].row(q), constant: batch[q], bases: tables.bases.row(q) }
    }

    fn scratch(&self) -> Scratch {
        let of_rows = || Mat::zeros(TOGETHER, self.gram.rows());
        Scratch {
            symbols: Vec::new(),
            y: of_rows(),
            moved: of_rows(),
            exact: HostScratch::default(),
            quick: QuickScratch::default(),
        }
    }

    fn look(&self, query: &Query<'_>, rows: &[Row<'_, ()>], scratch: &mut Scratch, again: &mut [Again]) {
        let LearnedModel { net, unit, codewords, gram, slope, mean_square, alpha, reaches, .. } = self;
        let Scratch { symbols, y, moved, exact, quick } = scratch;
        for (r, &Row { part, at }) in rows.iter().enumerate() {
            let (codes, shape) = (&part.codes, part.codes.shape);
            let (block, i) = codes.block(at);
            symbols.resize(shape.symbols, 0);
            for (t, symbol) in symbols.iter_mut().enumerate() {
                *symbol = shape.symbol(block, t, i);
            }
            codewords.fill(codes.labels.cell_of(at), symbols, y.row_mut(r));
        }
        match net {
            Net::Quick(net) => net.apply(&mut y.as_mut_slice()[..rows.len() * slope.len()], quick),
            // Always as many rows, so that a row's score does not depend on which come with it.
            Net::Exact(net) => net.apply(y.as_mut_slice(), exact),
        }
        if reaches.is_some() {
            for (r, Row { part, at }) in rows.iter().enumerate() {
                let anchor = codewords.anchors().row(part.codes.labels.cell_of(*at));
                y.row_mut(r).iter_mut().zip(anchor).for_each(|(y, a)| *y -= a);
            }
        }
        if y.dim() > 0 {
            product_lower(moved.as_mut_slice(), y.view(), gram.view());
        }
        for (r, again) in again.iter_mut().enumerate().take(rows.len()) {
            let y = y.row(r);
            if let Some(reaches) = reaches {
                let Row { part, at } = &rows[r];
                let cell = part.codes.labels.cell_of(*at);
                let (block, i) = part.codes.block(*at);
                let code = part.codes.factor_code(block, i);
                let (weight, square) = reaches.of(cell, code, y, dot(moved.row(r), y));
                *again = Again {
                    product: query.bases[cell] + weight * (unit * dot(query.rotated, y)),
                    factor: factor(square.max(0.0).sqrt(), *alpha),
                };
                continue;
            }
            let square = mean_square + dot(slope, y) + dot(moved.row(r), y);
            *again = Again {
                product: query.constant + unit * dot(query.rotated, y),
                factor: factor(square.max(0.0).sqrt(), *alpha),
            };
        }
    }
}
