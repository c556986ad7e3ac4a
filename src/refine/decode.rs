//! Decoded residuals, row by row.

use crate::{
    format::{parse::Parsed, refine::RefineRows},
    math::product::product_nn,
    matrix::Mat,
    model::{packed::unpack, refine::Refine},
};

/// Decodes what the layer of a file says of its rows.
pub(crate) struct RefineDecoder<'a> {
    refine: &'a Refine,
    /// active x d.
    directions: Mat,
    /// Of each segment.
    rows: Vec<RefineRows<'a>>,
}

impl<'a> RefineDecoder<'a> {
    /// That of a file, if it has a layer.
    pub(crate) fn new(parsed: &'a Parsed, bytes: &'a [u8]) -> Option<RefineDecoder<'a>> {
        let refine = parsed.refine.as_ref()?;
        let rows = parsed.segments.iter().filter_map(|segment| segment.refine_rows(bytes)).collect();
        Some(RefineDecoder { refine, directions: refine.chart().decoder.to_mat(), rows })
    }

    /// Adds the decoded residual of a row to the row as the base decodes it.
    pub(crate) fn add(&self, segment: usize, position: u64, row: &mut [f32]) {
        let code = &self.refine.chart().code;
        if code.active() == 0 {
            return;
        }
        let mut symbols = vec![0; self.refine.symbols()];
        unpack(self.rows[segment].packed(position), &mut symbols);
        let mut y = Mat::zeros(1, code.active());
        code.add_codeword(&symbols, y.as_mut_slice());
        let mut residual = vec![0.0; row.len()];
        product_nn(&mut residual, y.view(), self.directions.view());
        row.iter_mut().zip(residual).for_each(|(x, e)| *x += e);
    }
}
