//! What the anchor and the codeword of a row are of it, and what they should be multiplied with in a score.

use rayon::prelude::*;

use super::{Encoder, RowCodes};
use crate::{
    math::product::{dot, product_nn, squared_distance},
    matrix::{Mat, MatRef},
    model::{Model, Scales, factor},
};

/// Weights that are kept: a codeword of next to no length says nothing of the direction of what it stands for.
const LEAST_WEIGHT: f32 = 0.25;
const MOST_WEIGHT: f32 = 4.0;

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
        let codeword: Vec<f32> = decoded.iter().zip(anchor).map(|(x, a)| x - a).collect();
        Share {
            anchor: dot(anchor, anchor),
            cross: dot(anchor, &codeword),
            codeword: dot(&codeword, &codeword),
            reach: reach(row, anchor),
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

impl Encoder {
    /// The anchor k and the mean as one vector. O(active d).
    fn anchor_vector(&self, model: &Model, k: usize, vector: &mut [f32]) {
        let maps = &self.charts[usize::from(model.anchor_chart[k])];
        let at = maps.coordinates.row(self.places[k] as usize);
        vector.fill(0.0);
        if !at.is_empty()
            && let Ok(at) = MatRef::new(at, 1, at.len())
        {
            product_nn(vector, at, maps.decoder.view());
        }
        vector.iter_mut().zip(&model.mean).for_each(|(v, m)| *v += m);
    }

    /// All anchors as vectors, anchors x d: for training, whose sample has more rows. O(anchors active d).
    pub(crate) fn anchor_vectors(&self, model: &Model) -> Mat {
        let mut vectors = Mat::zeros(model.anchors(), model.dim);
        let each = vectors.as_mut_slice().par_chunks_mut(model.dim).enumerate();
        each.for_each(|(k, vector)| self.anchor_vector(model, k, vector));
        vectors
    }

    /// The shares of rows (n x d) and their codes. O((n + anchors they have) active d); memory for a vector a thread, as a file may
    /// have many anchors in few bytes.
    pub(crate) fn shares(&self, model: &Model, unit: MatRef<'_>, codes: &RowCodes) -> Vec<Share> {
        let symbols = model.symbols();
        self.by_anchor(model, &codes.labels, |k, vector, rows| {
            let (chart, maps) = {
                let g = usize::from(model.anchor_chart[k]);
                (&model.charts[g], &self.charts[g])
            };
            let along: Vec<f32> = (0..maps.decoder.rows()).map(|j| dot(maps.decoder.row(j), vector)).collect();
            let mut codeword = vec![0f32; along.len()];
            let mut of_row = |&i: &usize| {
                codeword.fill(0.0);
                chart.code.add_codeword(&codes.symbols[i * symbols..(i + 1) * symbols], &mut codeword);
                let (anchor, cross) = (dot(vector, vector), dot(&along, &codeword));
                let square = codes.norms[i] * codes.norms[i];
                let codeword = (square - anchor - 2.0 * cross).max(0.0);
                Share { anchor, cross, codeword, reach: reach(unit.row(i), vector) }
            };
            rows.iter().map(&mut of_row).collect()
        })
    }

    /// The reaches of rows with these anchors. Cost as that of [`Encoder::shares`].
    pub(crate) fn reaches(&self, model: &Model, unit: MatRef<'_>, labels: &[u32]) -> Vec<f32> {
        self.by_anchor(model, labels, |_, vector, rows| rows.iter().map(|&i| reach(unit.row(i), vector)).collect())
    }

    /// What `of` says of the rows of each anchor, given as its number, its vector and theirs, in the order of the rows.
    fn by_anchor<T: Send>(
        &self,
        model: &Model,
        labels: &[u32],
        of: impl Fn(usize, &[f32], &[usize]) -> Vec<T> + Sync,
    ) -> Vec<T> {
        let mut order: Vec<usize> = (0..labels.len()).collect();
        order.sort_by_key(|&i| labels[i]);
        let groups: Vec<&[usize]> = order.chunk_by(|&a, &b| labels[a] == labels[b]).collect();
        let vector = || vec![0f32; model.dim];
        let of_group = |vector: &mut Vec<f32>, rows: &&[usize]| {
            let k = labels[rows[0]] as usize;
            self.anchor_vector(model, k, vector);
            of(k, vector, rows)
        };
        let found: Vec<Vec<T>> = groups.par_iter().map_init(vector, of_group).collect();
        let mut placed: Vec<(usize, T)> = order.iter().copied().zip(found.into_iter().flatten()).collect();
        placed.sort_by_key(|(i, _)| *i);
        placed.into_iter().map(|(_, found)| found).collect()
    }
}

/// `|u - a|`.
fn reach(row: &[f32], anchor: &[f32]) -> f32 {
    squared_distance(row, anchor).sqrt()
}
