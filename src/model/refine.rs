//! What the rows of a file share of a refine layer.

use super::{Chart, Model, Quantized, Side, kinds::Metric, packed::packed_len};

/// What the rows of a file share of the layer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refine {
    /// One chart and one anchor at the origin; `side.factors` are the levels of the factor.
    pub(crate) model: Model,
    /// Exponent of the factor.
    pub(crate) alpha: f32,
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
            side: Side { factors, ..Side::bare(1.0) },
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
