//! The maps from unit rows that encoding takes, from what a file stores: whoever has the model encodes as its maker did.

use rayon::prelude::*;

use super::wide::{self, RIDGE};
use crate::{
    error::Error,
    math::linalg::{mean, principal, product_nt, solve_ridge, to_f32, widen},
    matrix::Mat,
    model::{Chart, Model},
};

/// The coordinates of least squared error in a chart, active x d: `(B^T B)^-1 B^T` for the decoder B, whose columns are the
/// rows here. As the decoder is rounded this mends what the exact inverse of what it was would lose (1 % of the distortion
/// at the bits we store). O(active^2 d).
///
/// # Errors
/// As the decompositions have it, which finite values do not make fail, and those of `report`, which is asked every second or so.
pub(crate) fn forward(decoder: &Mat, report: &dyn Fn() -> Result<(), Error>) -> Result<Mat, Error> {
    report()?;
    if decoder.as_slice().len() > wide::WIDE { wide::forward(decoder, report) } else { narrow(decoder) }
}

pub(super) fn narrow(decoder: &Mat) -> Result<Mat, Error> {
    let mut columns = widen(decoder.view());
    let mut scales = vec![0.0; columns.rows()];
    for (j, scale) in scales.iter_mut().enumerate() {
        let column = columns.row_mut(j);
        let length = column.iter().map(|v| v * v).sum::<f64>().sqrt();
        *scale = if length > 0.0 { 1.0 / length } else { 0.0 };
        column.iter_mut().for_each(|v| *v *= *scale);
    }
    if columns.rows() == 0 {
        return Ok(decoder.clone());
    }
    let mut maps = solve_ridge(&product_nt(&columns, &columns), &columns, RIDGE)?;
    for (j, scale) in scales.iter().enumerate() {
        maps.row_mut(j).iter_mut().for_each(|v| *v *= scale);
    }
    Ok(to_f32(&maps))
}

/// Where the nearest anchors are looked for, r x d, given the forward maps of the charts.
///
/// What counts is the sum of the logarithms of the errors of the directions, so a chart's directions are divided by the
/// deviations of its residuals; as they are, the distortion is 1.9 % higher. Charts have no such directions in common: with several
/// it is the principal ones in which their anchors differ.
pub(super) fn space(model: &Model, forward: &[Mat]) -> Result<Mat, Error> {
    let space = if let ([chart], [forward]) = (model.charts.as_slice(), forward) {
        let mut space = forward.clone();
        for (j, variance) in residual_variances(chart).into_iter().enumerate() {
            let scale = if variance > 0.0 { (1.0 / variance.sqrt()) as f32 } else { 1.0 };
            space.row_mut(j).iter_mut().for_each(|v| *v *= scale);
        }
        space
    } else if model.anchors() * model.dim <= MOST_DIFFERENCES && model.anchors().min(model.dim) <= MOST_PRINCIPAL {
        to_f32(&principal(differences(model).view())?.1)
    } else {
        most_varied_directions(model)
    };
    // Anchors that do not differ are equally near, wherever that is looked at.
    Ok(if space.rows() == 0 { Mat::zeros(1, model.dim) } else { space })
}

/// Values of the decoded anchors of several charts, and directions to be found among them, up to which these are looked for: their
/// decompositions would take gigabytes, and minutes, for a model of a few kilobytes.
const MOST_DIFFERENCES: usize = 1 << 23;
const MOST_PRINCIPAL: usize = 2048;

/// Of all directions of all charts those along which the anchors vary most, of unit length: in the place of the principal ones.
fn most_varied_directions(model: &Model) -> Mat {
    let mut all: Vec<(f64, usize, usize)> = Vec::new();
    for (g, chart) in model.charts.iter().enumerate() {
        for j in 0..chart.active() {
            let (mut sum, mut squares) = (0.0, 0.0);
            for i in 0..chart.anchors.len {
                let v = f64::from(chart.anchors.value(j, i));
                (sum, squares) = (sum + v, squares + v * v);
            }
            let length: f64 = (0..model.dim).map(|i| f64::from(chart.decoder.value(j, i)).powi(2)).sum();
            all.push(((squares - sum * sum / chart.anchors.len.max(1) as f64) * length, g, j));
        }
    }
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    all.truncate(super::SEARCHED);
    let mut out = Mat::zeros(all.len(), model.dim);
    for (r, (_, g, j)) in all.into_iter().enumerate() {
        let decoder = &model.charts[g].decoder;
        let length = (0..model.dim).map(|i| f64::from(decoder.value(j, i)).powi(2)).sum::<f64>().sqrt();
        let scale = if length > 0.0 { (1.0 / length) as f32 } else { 0.0 };
        out.row_mut(r).iter_mut().enumerate().for_each(|(i, o)| *o = scale * decoder.value(j, i));
    }
    out
}

/// The decoded anchors less their mean, K x d. Sums are in the order of the directions.
fn differences(model: &Model) -> Mat {
    let mut out = Mat::zeros(model.anchors(), model.dim);
    let decoders: Vec<Mat> = model.charts.iter().map(|chart| chart.decoder.to_mat()).collect();
    let places = model.anchor_coordinates();
    out.as_mut_slice().par_chunks_mut(model.dim).enumerate().for_each(|(k, anchor)| {
        let decoder = &decoders[usize::from(model.anchor_chart[k])];
        for (j, y) in places[k].iter().enumerate() {
            anchor.iter_mut().zip(decoder.row(j)).for_each(|(a, b)| *a += y * b);
        }
    });
    let middle = mean(out.view());
    out.as_mut_slice().par_chunks_mut(model.dim).for_each(|anchor| {
        anchor.iter_mut().zip(&middle).for_each(|(a, m)| *a -= m);
    });
    out
}

/// Variances of a chart's residuals along its directions: that of the codewords, and the water level that they leave.
fn residual_variances(chart: &Chart) -> Vec<f64> {
    let (alphabet, entries) = (chart.code.alphabet(), chart.code.entries());
    let variance = |values: &[f32]| {
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / alphabet as f64;
        values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / alphabet as f64
    };
    // A codeword is a sum over the lags.
    let of_direction = |table: &[f32]| table.chunks_exact(alphabet).map(variance).sum::<f64>();
    let coded: Vec<f64> = chart.code.tables.chunks_exact(entries).map(of_direction).collect();
    let bits = chart.code.symbols() as f64 * (alphabet as f64).log2();
    let level = water_level(&coded, bits);
    coded.iter().map(|v| v + level).collect()
}

/// The level at which directions whose codewords have these variances take so many bits, each half the logarithm of `1 + v / level`.
fn water_level(coded: &[f64], bits: f64) -> f64 {
    let largest = coded.iter().fold(0.0, |m: f64, &v| m.max(v));
    // Halved as a logarithm, and never below what any direction with a variance of its own could need.
    let (mut low, mut high) = (largest * 1e-12, largest);
    for _ in 0..50 {
        let middle = (low * high).sqrt();
        let taken: f64 = coded.iter().map(|v| 0.5 * (1.0 + v / middle).log2()).sum();
        (low, high) = if taken > bits { (middle, high) } else { (low, middle) };
    }
    high
}

/// Coordinates that the nearest anchors are looked for in: those along which they differ most. Which of them is best of all is
/// decided by trying them.
pub(crate) const SEARCHED: usize = 128;
