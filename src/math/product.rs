//! Dense products, on faer's kernels. Always on one thread: callers split rows into fixed chunks and run those in
//! parallel, which keeps results independent of the number of threads.

use faer::{
    Accum, Par,
    linalg::matmul::{
        matmul,
        triangular::{self, BlockStructure},
    },
};

use crate::matrix::{Mat, MatRef};

/// `out = scale * a b^T`: a is m x d, b is k x d, out is m x k. O(m k d).
pub(crate) fn product_nt(out: &mut [f32], a: MatRef<'_>, b: MatRef<'_>, scale: f32) {
    let dst = faer::MatMut::from_row_major_slice_mut(out, a.rows(), b.rows());
    let a = faer::MatRef::from_row_major_slice(a.as_slice(), a.rows(), a.dim());
    let b = faer::MatRef::from_row_major_slice(b.as_slice(), b.rows(), b.dim());
    matmul(dst, Accum::Replace, a, b.transpose(), scale, Par::Seq);
}

/// [`product_nt`] for a chunk of rows or fewer. How sums are split depends on the shapes, so fewer rows are made up to a chunk: a
/// row has the same products whichever rows come with it.
pub(crate) fn chunk_nt(out: &mut [f32], a: MatRef<'_>, b: MatRef<'_>, scale: f32) {
    made_up(out, a, b.rows(), &|out, a| product_nt(out, a, b, scale));
}

/// [`product_nn`], as [`chunk_nt`] has it.
pub(crate) fn chunk_nn(out: &mut [f32], a: MatRef<'_>, b: MatRef<'_>) {
    made_up(out, a, b.dim(), &|out, a| product_nn(out, a, b));
}

/// Dimensions from which on fewer rows are a unit: a chunk of them would take many megabytes.
const WIDE: usize = 4096;
/// Rows of a unit then.
const FEW: usize = 16;

fn made_up(out: &mut [f32], a: MatRef<'_>, width: usize, product: &dyn Fn(&mut [f32], MatRef<'_>)) {
    if a.dim() > WIDE && a.rows() > FEW {
        for first in (0..a.rows()).step_by(FEW) {
            let rows = first..(first + FEW).min(a.rows());
            made_up(&mut out[rows.start * width..rows.end * width], a.slice(rows), width, product);
        }
        return;
    }
    let unit = if a.dim() > WIDE { FEW } else { CHUNK };
    if a.rows() >= unit {
        return product(out, a);
    }
    let (mut whole, mut products) = (Mat::zeros(unit, a.dim()), vec![0f32; unit * width]);
    whole.as_mut_slice()[..a.as_slice().len()].copy_from_slice(a.as_slice());
    product(&mut products, whole.view());
    out.copy_from_slice(&products[..out.len()]);
}

/// `out = a b`: a is m x d, b is d x k, out is m x k. O(m k d).
pub(crate) fn product_nn(out: &mut [f32], a: MatRef<'_>, b: MatRef<'_>) {
    let dst = faer::MatMut::from_row_major_slice_mut(out, a.rows(), b.dim());
    let a = faer::MatRef::from_row_major_slice(a.as_slice(), a.rows(), a.dim());
    let b = faer::MatRef::from_row_major_slice(b.as_slice(), b.rows(), b.dim());
    matmul(dst, Accum::Replace, a, b, 1.0, Par::Seq);
}

/// The lower triangle of `out += a^T a`: a is m x d, out is d x d. O(m d^2).
pub(crate) fn gram(out: &mut [f32], a: MatRef<'_>) {
    let dst = faer::MatMut::from_row_major_slice_mut(out, a.dim(), a.dim());
    let a = faer::MatRef::from_row_major_slice(a.as_slice(), a.rows(), a.dim());
    let (lower, full) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
    triangular::matmul(dst, lower, Accum::Add, a.transpose(), full, a, full, 1.0, Par::Seq);
}

/// `out = a t`, with t of k x k lower triangular: a and out are m x k. O(m k^2), half of that of [`product_nn`].
pub(crate) fn product_lower(out: &mut [f32], a: MatRef<'_>, t: MatRef<'_>) {
    let dst = faer::MatMut::from_row_major_slice_mut(out, a.rows(), t.dim());
    let a = faer::MatRef::from_row_major_slice(a.as_slice(), a.rows(), a.dim());
    let t = faer::MatRef::from_row_major_slice(t.as_slice(), t.rows(), t.dim());
    let (lower, full) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
    triangular::matmul(dst, full, Accum::Replace, a, full, t, lower, 1.0, Par::Seq);
}

/// Partial sums of what is added up outside of dense products, so that it vectorises.
const LANES: usize = 16;

/// `|a - b|^2`: partial sums, added in order.
#[inline]
pub(crate) fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0f32; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for l in 0..LANES {
            sums[l] += (a[l] - b[l]) * (a[l] - b[l]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| (a - b) * (a - b)).sum();
    sums.iter().sum::<f32>() + rest
}

/// `<a, b>`, in the lanes of [`squared_distance`].
#[inline]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0f32; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for l in 0..LANES {
            sums[l] += a[l] * b[l];
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// Rows of a unit of parallel work.
pub(crate) const CHUNK: usize = 256;
