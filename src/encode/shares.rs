//! What the anchor and the codeword of a row are of it, and what they should be multiplied with in a score.

use rayon::prelude::*;

use super::{CHUNK, Encoder, RowCodes};
use crate::{
    math::product::{dot, product_nn},
    matrix::{Mat, MatRef},
    model::{Model, Scales, factor},
};

/// Weights that are kept: a codeword of next to no length says nothing of the direction of what it stands for.
const LEAST_WEIGHT: f32 = 0.25;
const MOST_WEIGHT: f32 = 4.0;

/// The anchors of a model as vectors, and what their products with codewords take.
pub(crate) struct AnchorVectors {
    /// Anchors x d: mean and anchor.
    pub(crate) vectors: Mat,
    /// Their squared lengths.
    squares: Vec<f32>,
    /// Of each, its products with the directions of its chart.
    along: Vec<Vec<f32>>,
}

/// Squared lengths and products of the parts of a row u, with a its anchor (and the mean) and c its codeword.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    /// `|a|^2`.
    anchor: f32,
    /// `<a, c>`.
    cross: f32,
    /// `|c|^2`.
    codeword: f32,
    /// `|u - a|`: how far the row is from its anchor.
    pub(crate) reach: f32,
}

impl Share {
    /// Of a row, its anchor and what it is decoded to, each a vector. O(d).
    pub(crate) fn of(row: &[f32], anchor: &[f32], decoded: &[f32]) -> Share {
        let difference = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<f32>>();
        let (residual, codeword) = (difference(row, anchor), difference(decoded, anchor));
        Share {
            anchor: dot(anchor, anchor),
            cross: dot(anchor, &codeword),
            codeword: dot(&codeword, &codeword),
            reach: dot(&residual, &residual).sqrt(),
        }
    }

    /// The same with another reach, such as one that is stored.
    pub(crate) fn with_reach(self, reach: f32) -> Share {
        Share { reach, ..self }
    }

    /// The factor `|a + W c|^-alpha`, for a codeword that is brought to the length of what it stands for, `W = |u - a| / |c|`.
    pub(crate) fn restored(&self, alpha: f32) -> Scales {
        let weight = if self.codeword > 1e-12 { self.reach / self.codeword.sqrt() } else { 1.0 };
        let weight = weight.clamp(LEAST_WEIGHT, MOST_WEIGHT);
        let square = self.anchor + weight * (2.0 * self.cross + weight * self.codeword);
        Scales { factor: factor(square.max(0.0).sqrt(), alpha), weight }
    }
}

impl AnchorVectors {
    /// O(anchors active d) time, anchors x (d + active) memory.
    pub(crate) fn new(model: &Model, encoder: &Encoder) -> AnchorVectors {
        let mut vectors = Mat::zeros(model.anchors(), model.dim);
        let of_anchor = |(k, vector): (usize, &mut [f32])| -> Vec<f32> {
            let maps = &encoder.charts[usize::from(model.anchor_chart[k])];
            let at = maps.coordinates.row(encoder.places[k] as usize);
            if !at.is_empty()
                && let Ok(at) = MatRef::new(at, 1, at.len())
            {
                product_nn(vector, at, maps.decoder.view());
            }
            vector.iter_mut().zip(&model.mean).for_each(|(v, m)| *v += m);
            (0..maps.decoder.rows()).map(|j| dot(maps.decoder.row(j), vector)).collect()
        };
        let along = vectors.as_mut_slice().par_chunks_mut(model.dim).enumerate().map(of_anchor).collect();
        let squares = (0..vectors.rows()).map(|k| dot(vectors.row(k), vectors.row(k))).collect();
        AnchorVectors { vectors, squares, along }
    }

    /// Of rows (n x d) and their codes. O(n (d + active)).
    pub(crate) fn shares(&self, model: &Model, unit: MatRef<'_>, codes: &RowCodes) -> Vec<Share> {
        let symbols = model.symbols();
        let of_row = |i: usize| {
            let (k, row) = (codes.labels[i] as usize, unit.row(i));
            let mut codeword = vec![0f32; self.along[k].len()];
            let chart = &model.charts[usize::from(model.anchor_chart[k])];
            chart.code.add_codeword(&codes.symbols[i * symbols..(i + 1) * symbols], &mut codeword);
            let (anchor, cross) = (self.squares[k], dot(&self.along[k], &codeword));
            let square = codes.norms[i] * codes.norms[i];
            let reach = dot(row, row) - 2.0 * dot(row, self.vectors.row(k)) + anchor;
            let codeword = (square - anchor - 2.0 * cross).max(0.0);
            Share { anchor, cross, codeword, reach: reach.max(0.0).sqrt() }
        };
        (0..unit.rows()).into_par_iter().with_min_len(CHUNK).map(of_row).collect()
    }
}
