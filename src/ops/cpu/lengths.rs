//! The lengths of decoded rows without decoding them: most directions are dropped.

use rayon::prelude::*;

use crate::{
    math::product::{CHUNK, chunk_nn, dot},
    matrix::{Mat, MatRef},
    model::Code,
    ops::types::{Encoded, Lengths},
};

/// The length of each row of `found`, whose anchors are at `anchors`. O(n active^2).
pub(super) fn lengths(code: &Code, anchors: MatRef<'_>, of: Lengths<'_>, found: &Encoded) -> Vec<f32> {
    let symbols = code.symbols();
    let mut out = vec![0f32; found.labels.len()];
    out.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, out)| {
        let first = chunk * CHUNK;
        let mut y = Mat::zeros(out.len(), anchors.dim());
        for (r, i) in (first..first + out.len()).enumerate() {
            y.row_mut(r).copy_from_slice(anchors.row(found.labels[i] as usize));
            code.add_codeword(&found.symbols[i * symbols..(i + 1) * symbols], y.row_mut(r));
        }
        let mut products = Mat::zeros(y.rows(), y.dim());
        if y.dim() > 0 {
            chunk_nn(products.as_mut_slice(), y.view(), of.gram);
        }
        for (r, out) in out.iter_mut().enumerate() {
            products.row_mut(r).iter_mut().zip(of.slope).for_each(|(p, s)| *p += s);
            let square = of.constant + dot(products.row(r), y.row(r));
            *out = square.max(0.0).sqrt();
        }
    });
    out
}
