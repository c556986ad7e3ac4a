//! The transform of rows.

use rayon::prelude::*;

use crate::{
    math::product::{CHUNK, chunk_nt},
    matrix::{Mat, MatRef},
};

pub(super) fn project(rows: MatRef<'_>, offset: &[f32], transform: MatRef<'_>) -> Mat {
    let mut out = Mat::zeros(rows.rows(), transform.rows());
    if transform.rows() == 0 {
        return out;
    }
    let centred = offset.iter().all(|&o| o == 0.0);
    let scratch = || if centred { Mat::zeros(0, rows.dim()) } else { Mat::zeros(CHUNK, rows.dim()) };
    let chunks = out.as_mut_slice().par_chunks_mut(CHUNK * transform.rows()).enumerate();
    chunks.for_each_init(scratch, |moved, (chunk, out)| {
        let count = out.len() / transform.rows();
        let rows = rows.slice(chunk * CHUNK..chunk * CHUNK + count);
        if centred {
            chunk_nt(out, rows, transform, 1.0);
            return;
        }
        // Subtracted before the product and not after it: rows may lie much closer to the offset than to zero.
        for i in 0..count {
            moved.row_mut(i).iter_mut().zip(rows.row(i)).zip(offset).for_each(|((t, x), o)| *t = x - o);
        }
        chunk_nt(out, moved.view().slice(0..count), transform, 1.0);
    });
    out
}
