//! What a plan will find, tried on the rows of the pilot before anything is trained.
//!
//! Rows of the pilot are coded as theory has it: the residual to the nearest anchor, in its principal directions, through the channel that
//! water-filling prescribes (`c = (1 - D / s^2) x + noise` for a direction of variance s^2 and distortion D; Cover and Thomas, section
//! 10.3). Then the training queries are scored as a reader will score them. That sees what the mean squared error does not: how the
//! errors of near rows lie to the queries.

use rayon::prelude::*;

use crate::{
    encode::shares::Share,
    math::{
        linalg::{product, to_f32},
        product::{dot, product_nn, product_nt},
        rng::Random,
    },
    matrix::{Mat, MatRef},
    model::kinds::Metric,
    train::{
        allocate::{Allocation, LOSS},
        calibrate::{Anchored, Sampled, TARGET_K},
        chart::Spectrum,
        space::Space,
    },
};

/// What a trial says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    /// The share of the true ten nearest among the rows tried that the queries find. It depends little on how many rows there are: near the
    /// top scores fall with the logarithm of the rank.
    pub(crate) recall: f64,
}

/// Rows and queries that it is made on.
pub(crate) struct Tried<'a> {
    pub(crate) metric: Metric,
    /// Unit rows and their gains.
    pub(crate) unit: MatRef<'a>,
    pub(crate) gains: &'a [f32],
    /// The number of the nearest anchor of each, and the anchors among unit rows.
    pub(crate) labels: &'a [u32],
    pub(crate) anchors: MatRef<'a>,
    pub(crate) queries: Option<MatRef<'a>>,
    /// The share of the distortion that a learned decoder is expected to leave.
    pub(crate) left: f64,
    pub(crate) seed: u64,
}

/// Of the random numbers.
const PURPOSE: u64 = 61;
/// Rows of a unit of parallel work.
const PART: usize = 256;

impl Tried<'_> {
    /// The anchors and the rows as they will be decoded.
    fn decoded(&self, space: &Space, spectrum: &Spectrum, allocation: &Allocation) -> (Mat, Mat) {
        let active: Vec<usize> = (0..allocation.rates.len()).filter(|&j| allocation.rates[j] > 0.0).collect();
        let mut vectors = Mat::zeros(active.len(), spectrum.vectors.dim());
        active.iter().enumerate().for_each(|(r, &j)| vectors.row_mut(r).copy_from_slice(spectrum.vectors.row(j)));
        let back = to_f32(&product(&vectors, &space.back));
        let along = to_f32(&vectors);
        // Directions that are dropped lose their part of the anchors too.
        let mut anchors = Mat::zeros(self.anchors.rows(), self.anchors.dim());
        if !active.is_empty() {
            let mut at = Mat::zeros(anchors.rows(), active.len());
            product_nt(at.as_mut_slice(), space.of(self.anchors).view(), along.view(), 1.0);
            product_nn(anchors.as_mut_slice(), at.view(), back.view());
        }
        for k in 0..anchors.rows() {
            anchors.row_mut(k).iter_mut().zip(&space.mean).for_each(|(a, m)| *a += m);
        }
        // What of a coordinate is kept, and the deviation of what is added.
        let channel: Vec<(f32, f32)> = active
            .iter()
            .map(|&j| {
                let variance = spectrum.variances[j].max(f64::MIN_POSITIVE);
                let left = (LOSS * variance.min(allocation.level)).min(variance) * self.left;
                let kept = 1.0 - left / variance;
                (kept as f32, (left * kept).max(0.0).sqrt() as f32)
            })
            .collect();
        let dim = self.unit.dim();
        let mut out = Mat::zeros(self.unit.rows(), dim);
        out.as_mut_slice().par_chunks_mut(PART * dim).enumerate().for_each(|(part, out)| {
            let rows = part * PART..part * PART + out.len() / dim;
            let mut residual = Mat::zeros(rows.len(), dim);
            for (r, i) in rows.clone().enumerate() {
                let anchor = self.anchors.row(self.labels[i] as usize);
                let of_row = residual.row_mut(r).iter_mut().zip(self.unit.row(i)).zip(anchor);
                of_row.for_each(|((to, u), a)| *to = u - a);
            }
            let mut weighted = Mat::zeros(rows.len(), space.whiten.rows());
            product_nt(weighted.as_mut_slice(), residual.view(), space.whiten.view(), 1.0);
            let mut coordinates = Mat::zeros(rows.len(), active.len());
            if !active.is_empty() {
                product_nt(coordinates.as_mut_slice(), weighted.view(), along.view(), 1.0);
            }
            for (r, i) in rows.clone().enumerate() {
                let mut random = Random::new(self.seed, PURPOSE + ((i as u64) << 8));
                for (x, (kept, deviation)) in coordinates.row_mut(r).iter_mut().zip(&channel) {
                    *x = kept * *x + deviation * random.normal();
                }
            }
            if !active.is_empty() {
                product_nn(out, coordinates.view(), back.view());
            }
            for (r, i) in rows.enumerate() {
                let anchor = anchors.row(self.labels[i] as usize);
                out[r * dim..(r + 1) * dim].iter_mut().zip(anchor).for_each(|(o, a)| *o += a);
            }
        });
        (anchors, out)
    }

    /// What the training queries find among these rows. `None` where there is too little to say.
    pub(crate) fn outcome(&self, space: &Space, spectrum: &Spectrum, allocation: &Allocation) -> Option<Outcome> {
        let (anchors, decoded) = self.decoded(space, spectrum, allocation);
        let share = |i: usize| Share::of(self.unit.row(i), anchors.row(self.labels[i] as usize), decoded.row(i));
        let shares: Vec<Share> = (0..self.unit.rows()).into_par_iter().with_min_len(PART).map(share).collect();
        let norms: Vec<f32> = (0..decoded.rows()).map(|i| dot(decoded.row(i), decoded.row(i)).sqrt()).collect();
        let sampled = Sampled::new(self.metric, decoded.view(), self.unit, self.gains, self.queries)?;
        let rows = Anchored { vectors: anchors.view(), labels: self.labels, shares: &shares };
        let recall = sampled.plain(&norms).recall.max(sampled.restored(&rows).recall);
        // A row that stands in for a query is one of its own neighbours, and is always found.
        let k = TARGET_K as f64;
        let recall = if self.queries.is_some() { recall } else { (k * recall - 1.0) / (k - 1.0) };
        Some(Outcome { recall: recall.clamp(0.0, 1.0) })
    }
}
