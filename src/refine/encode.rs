//! From rows and their base codes to the codes of the layer, generic over the backend.

use rayon::prelude::*;

use crate::{
    encode::maps::forward as forward_map,
    error::Error,
    math::product::{chunk_nn, dot},
    matrix::{Mat, MatRef},
    model::{Scales, factor, refine::Refine},
    ops::{
        seam::Ops,
        types::{Effort, EncodeJob, Tries},
    },
};

/// Rows of a unit of parallel work.
const CHUNK: usize = 256;

/// What encoding needs beside the layer, and follows from it.
#[derive(Debug, Clone)]
pub(crate) struct RefineEncoder {
    /// active x d: from residuals to the directions of the chart.
    forward: Mat,
    /// active x d: back.
    decoder: Mat,
}

/// Codes of some rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RefineCodes {
    /// `symbols` values per row.
    pub(crate) symbols: Vec<u8>,
    /// The nibble of each row's factor.
    pub(crate) factors: Vec<u8>,
}

impl RefineEncoder {
    /// The encoder of a layer, whether it has just been trained or read from a file: the same for the same layer.
    ///
    /// # Errors
    /// As those of [`Encoder::of`](crate::encode::Encoder::of).
    pub(crate) fn of(refine: &Refine, report: &dyn Fn() -> Result<(), Error>) -> Result<RefineEncoder, Error> {
        let decoder = refine.chart().decoder.to_mat();
        Ok(RefineEncoder { forward: forward_map(&decoder, report)?, decoder })
    }

    /// Encodes what the base leaves of `unit` rows (n x d), which it decodes to `decoded`. O(n d active) beside the search for the
    /// symbols; memory for three copies of the rows.
    pub(crate) fn encode<O: Ops>(
        &self,
        ops: &O,
        refine: &Refine,
        unit: MatRef<'_>,
        mut decoded: Mat,
    ) -> Result<RefineCodes, Error> {
        let symbols = self.symbols(ops, refine, residuals(unit, decoded.view()))?;
        self.add(refine, &symbols, &mut decoded);
        let factors = norms(&decoded)
            .into_iter()
            .map(|n| refine.model().side.factor_code(Scales { factor: factor(n, refine.alpha()), weight: 1.0 }));
        Ok(RefineCodes { factors: factors.collect(), symbols })
    }

    /// The symbols of residuals.
    pub(super) fn symbols<O: Ops>(&self, ops: &O, refine: &Refine, residuals: Mat) -> Result<Vec<u8>, Error> {
        let origin = vec![0.0; residuals.dim()];
        let anchor = Mat::zeros(1, self.forward.rows());
        let y = ops.project(&ops.upload_owned(residuals)?, &origin, self.forward.view())?;
        let job = EncodeJob {
            code: &refine.chart().code,
            anchors: anchor.view(),
            tries: Tries::First,
            candidates: 1,
            effort: Effort::Full,
            lengths: None,
        };
        Ok(ops.encode(&y, job)?.symbols)
    }

    /// Adds the decoded residuals to rows decoded by the base: what a reader of the file will see.
    pub(super) fn add(&self, refine: &Refine, symbols: &[u8], decoded: &mut Mat) {
        let (code, count, dim) = (&refine.chart().code, refine.symbols(), decoded.dim());
        if code.active() == 0 {
            return;
        }
        decoded.as_mut_slice().par_chunks_mut(CHUNK * dim).enumerate().for_each(|(chunk, out)| {
            let mut y = Mat::zeros(out.len() / dim, code.active());
            for r in 0..y.rows() {
                let i = chunk * CHUNK + r;
                code.add_codeword(&symbols[i * count..(i + 1) * count], y.row_mut(r));
            }
            let mut residual = vec![0.0; out.len()];
            chunk_nn(&mut residual, y.view(), self.decoder.view());
            out.iter_mut().zip(residual).for_each(|(o, r)| *o += r);
        });
    }
}

/// `unit - decoded`.
pub(super) fn residuals(unit: MatRef<'_>, decoded: MatRef<'_>) -> Mat {
    let mut out = Mat::zeros(unit.rows(), unit.dim());
    let width = CHUNK * unit.dim().max(1);
    let given = unit.as_slice().par_chunks(width).zip(decoded.as_slice().par_chunks(width));
    out.as_mut_slice().par_chunks_mut(width).zip(given).for_each(|(out, (unit, decoded))| {
        out.iter_mut().zip(unit).zip(decoded).for_each(|((o, u), d)| *o = u - d);
    });
    out
}

/// The length of each row.
pub(super) fn norms(rows: &Mat) -> Vec<f32> {
    (0..rows.rows()).into_par_iter().with_min_len(CHUNK).map(|i| dot(rows.row(i), rows.row(i)).sqrt()).collect()
}
