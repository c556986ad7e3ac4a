//! The transform of rows.

use rayon::prelude::*;

use super::{CHUNK, product::product_nt};
use crate::{Mat, MatRef};

pub(super) fn project(rows: MatRef<'_>, offset: &[f32], transform: MatRef<'_>) -> Mat {
    let mut out = Mat::zeros(rows.rows(), transform.rows());
    if transform.rows() == 0 {
        return out;
    }
    out.as_mut_slice().par_chunks_mut(CHUNK * transform.rows()).enumerate().for_each(|(chunk, out)| {
        let count = out.len() / transform.rows();
        let rows = rows.slice(chunk * CHUNK..chunk * CHUNK + count);
        let mut moved = Mat::zeros(count, rows.dim());
        for (to, from) in
            moved.as_mut_slice().chunks_exact_mut(rows.dim()).zip(rows.as_slice().chunks_exact(rows.dim()))
        {
            for ((t, x), o) in to.iter_mut().zip(from).zip(offset) {
                *t = x - o;
            }
        }
        product_nt(out, moved.view(), transform, 1.0);
    });
    out
}
