//! One chart: the principal directions of its residuals, the rounded decoder, the anchors in it, the code.

use rayon::prelude::*;

use super::{
    allocate::{Allocation, Direction, Shape, allocate, pack, symbol_bits},
    quantize::{ranged, symmetric},
    space::Space,
    tables,
};
use crate::{
    error::Error,
    math::{
        linalg::{principal, product, product_nt, solve_ridge, to_f32, widen},
        product::product_nt as product_nt_f32,
        rng::Random,
    },
    matrix::{Mat, MatRef, copy_rows},
    model::{Chart, Model, kinds::CodeKind},
    ops::seam::Ops,
};

/// Rows the tables are trained on.
const TABLE_ROWS: usize = 32_768;
const PURPOSE_PACK: u64 = 5;

/// Principal directions of a chart's residuals in the metric, and how its anchors spread along them.
#[derive(Debug)]
pub(crate) struct Spectrum {
    /// One direction a row, by falling variance.
    pub(crate) vectors: Mat<f64>,
    pub(crate) variances: Vec<f64>,
    /// Variance of the anchors along each direction.
    pub(crate) anchors: Vec<f64>,
}

impl Spectrum {
    /// From rows (n x r) and the label of each into `cells` (anchors x r).
    pub(crate) fn new(rows: MatRef<'_>, labels: &[u32], cells: MatRef<'_>) -> Result<Spectrum, Error> {
        let mut residual = Mat::zeros(rows.rows(), rows.dim());
        let mut counts = vec![0f64; cells.rows()];
        labels.iter().for_each(|&label| counts[label as usize] += 1.0);
        let width = rows.dim().max(1);
        residual.as_mut_slice().par_chunks_mut(width).enumerate().for_each(|(i, residual)| {
            let cell = cells.row(labels[i] as usize);
            residual.iter_mut().zip(rows.row(i)).zip(cell).for_each(|((r, x), c)| *r = x - c);
        });
        let (variances, vectors) = principal(residual.view())?;
        let along = product_nt(&widen(cells), &vectors);
        let n = rows.rows().max(1) as f64;
        let anchors = (0..variances.len()).map(|j| {
            let weighted = |power: i32| -> f64 {
                counts.iter().enumerate().map(|(k, c)| c * along.row(k)[j].powi(power)).sum::<f64>() / n
            };
            (weighted(2) - weighted(1).powi(2)).max(0.0)
        });
        let anchors = anchors.collect();
        Ok(Spectrum { vectors, variances, anchors })
    }
}

/// What is needed to train a chart: the rows that belong to it, in the space of training.
pub(crate) struct ChartRows<'a> {
    pub(crate) number: usize,
    /// n x r.
    pub(crate) rows: MatRef<'a>,
    pub(crate) labels: &'a [u32],
    /// The means of the cells there, one for every anchor.
    pub(crate) cells: MatRef<'a>,
    pub(crate) spectrum: &'a Spectrum,
    pub(crate) shape: Shape,
}

/// What the code of a chart is to be.
#[derive(Clone, Copy)]
pub(crate) struct ChartCode<'a> {
    pub(crate) kind: CodeKind,
    pub(crate) lags: usize,
    pub(crate) symbols: usize,
    pub(crate) seed: u64,
    /// Told how many of the [`ROUNDS`](tables::ROUNDS) of training are done; an error stops it.
    pub(crate) report: &'a dyn Fn(usize) -> Result<(), Error>,
}

/// Trains a chart.
pub(crate) fn train_chart<O: Ops>(
    ops: &O,
    to_be: &ChartCode<'_>,
    space: &Space,
    of: &ChartRows<'_>,
    model: &Model,
) -> Result<Chart, Error> {
    let (ChartCode { kind, lags, symbols, seed, report }, spectrum, g) = (*to_be, of.spectrum, of.number);
    let bits = (symbols * symbol_bits(kind)) as f64;
    let Allocation { rates, level, .. } = allocate(&spectrum.variances, &spectrum.anchors, bits, &of.shape);
    let steps = of.shape.steps();
    let direction = |j: usize| Direction::new(spectrum.variances[j], spectrum.anchors[j], level);
    let mut random = Random::new(seed, PURPOSE_PACK + ((g as u64) << 8));
    let groups = pack(&rates, symbols, kind, lags, &mut random);
    let widths: Vec<u16> = groups.iter().map(|g| g.len() as u16).collect();
    let order = groups.concat();

    let mut chosen = Mat::zeros(order.len(), spectrum.vectors.dim());
    order.iter().enumerate().for_each(|(r, &j)| chosen.row_mut(r).copy_from_slice(spectrum.vectors.row(j)));
    let columns = to_f32(&product(&chosen, &space.back));
    let decoder = symmetric(columns.view(), order.iter().map(|&j| steps.column_bits(&direction(j))).collect());
    let forward = forward_map(&decoder.to_mat(), &space.whiten)?;

    let mut at_cells = Mat::zeros(of.cells.rows(), order.len());
    if !order.is_empty() {
        product_nt_f32(at_cells.as_mut_slice(), of.cells, forward.view(), 1.0);
    }
    let members: Vec<usize> = (0..model.anchors()).filter(|&k| usize::from(model.anchor_chart[k]) == g).collect();
    let mut coordinates = Mat::zeros(order.len(), members.len());
    for (i, &k) in members.iter().enumerate() {
        for j in 0..order.len() {
            coordinates.row_mut(j)[i] = at_cells.row(k)[j];
        }
    }
    let anchor_bits = order.iter().map(|&j| steps.anchor_bits(&direction(j))).collect();
    let anchors = ranged(coordinates.view(), anchor_bits);

    let mut own = vec![0; model.anchors()];
    members.iter().enumerate().for_each(|(i, &k)| own[k] = i);
    let stored = anchors.to_rows();
    let picked = random.sample(of.rows.rows(), TABLE_ROWS);
    let rows = ops.upload_owned(copy_rows(of.rows, &picked))?;
    let mut residual = ops.download_owned(ops.project(&rows, &vec![0.0; of.rows.dim()], forward.view())?)?;
    let width = residual.dim().max(1);
    residual.as_mut_slice().par_chunks_mut(width).zip(&picked).for_each(|(row, &i)| {
        let anchor = stored.row(own[of.labels[i] as usize]);
        row.iter_mut().zip(anchor).for_each(|(r, a)| *r -= a);
    });
    let code = tables::train(ops, residual.view(), kind, lags, widths, seed.wrapping_add(g as u64), report)?;
    Ok(Chart { decoder, code, anchors })
}

/// The least-squares coordinates of a row of the space of training in the stored decoder, in the metric, which a file does not
/// hold and encoding does without (`encode/maps.rs`): `(C C^T)^-1 C` with the rows of C the
/// decoder's columns in that space. As the decoder is rounded this mends what its exact inverse would lose (1 % of the
/// distortion at the bits we store).
fn forward_map(decoder: &Mat, whiten: &Mat) -> Result<Mat, Error> {
    if decoder.rows() == 0 {
        return Ok(Mat::zeros(0, whiten.rows()));
    }
    let mut weighted = Mat::zeros(decoder.rows(), whiten.rows());
    product_nt_f32(weighted.as_mut_slice(), decoder.view(), whiten.view(), 1.0);
    let weighted = widen(weighted.view());
    Ok(to_f32(&solve_ridge(&product_nt(&weighted, &weighted), &weighted, 1e-9)?))
}
