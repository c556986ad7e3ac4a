//! A refine layer: codes of what the base codes leave of a row, by which the best rows of a scan are scored again.
//!
//! A row is then decoded as `u_hat + e_hat`, the base's row and the decoded residual. The residual is coded as the base codes
//! rows: along its principal directions in the metric of the queries, rates by water-filling, chain codes, everything
//! rounded to what is stored. It has no mean, as the anchors and tables of the base are means already, and so no anchors.
//!
//! Search reads the symbols of a few hundred rows here and there, so a row's stand together ([`packed_len`] bytes), not in planes as
//! those that are scanned.

pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod rescore;
pub(crate) mod train;

pub(crate) use crate::model::packed::packed_len;
pub(crate) use train::train;

use crate::{
    config::Metric,
    model::{Chart, Model, Quantized, Side},
};

/// What the rows of a file share of the layer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refine {
    /// One chart and one anchor at the origin; `side.factors` are the levels of the factor.
    model: Model,
    /// Exponent of the factor.
    alpha: f32,
}

impl Refine {
    /// From what a file holds; the anchors of `chart` play no part.
    pub(crate) fn new(metric: Metric, dim: usize, mut chart: Chart, factors: Vec<f32>, alpha: f32) -> Refine {
        let active = chart.active();
        chart.anchors = Quantized {
            len: 1,
            bits: vec![1; active],
            scale: vec![0.0; active],
            offset: vec![0.0; active],
            codes: vec![0; active],
        };
        let model = Model {
            metric,
            dim,
            center: vec![0.0; dim],
            mean: vec![0.0; dim],
            charts: vec![chart],
            anchor_chart: vec![0],
            side: Side { factors, gain_nibbles: 0, gain_range: (1.0, 1.0) },
        };
        Refine { model, alpha }
    }

    /// The layer as a model of rows that are residuals.
    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    pub(crate) fn chart(&self) -> &Chart {
        &self.model.charts[0]
    }

    /// Symbols of a row.
    pub(crate) fn symbols(&self) -> usize {
        self.model.symbols()
    }

    /// Bytes of a row's symbols.
    pub(crate) fn width(&self) -> usize {
        packed_len(self.symbols())
    }

    /// Exponent of the factor.
    pub(crate) fn alpha(&self) -> f32 {
        self.alpha
    }

    /// The levels of the factor, by code.
    pub(crate) fn factors(&self) -> &[f32] {
        &self.model.side.factors
    }
}
