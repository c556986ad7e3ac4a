//! The little dense algebra that training needs, in f64 on faer's decompositions, on one thread so that results do
//! not depend on how many there are.

use faer::{Accum, Mat as FaerMat, Par, Side, linalg::matmul::matmul, prelude::Solve};
use rayon::prelude::*;

use super::product::gram;
use crate::{
    error::Error,
    matrix::{Mat, MatRef},
};

/// Eigenvalues in descending order and their vectors, one row each, of a symmetric d x d matrix. O(d^3).
pub(crate) fn eigen(matrix: &[f64], d: usize) -> Result<(Vec<f64>, Mat<f64>), Error> {
    let m = FaerMat::from_fn(d, d, |i, j| matrix[i * d + j]);
    let decomposition = m.self_adjoint_eigen(Side::Lower);
    let decomposition = decomposition.map_err(|e| Error::Config(format!("no eigenvalues were found: {e:?}")))?;
    let values: Vec<f64> = decomposition.S().column_vector().iter().copied().collect();
    let mut vectors = Mat::zeros(d, d);
    for j in 0..d {
        let column = d - 1 - j;
        // The sign of an eigenvector is arbitrary; fixed here, so that it cannot depend on the decomposition's path.
        let largest = (0..d).fold(0, |best, i| {
            let (a, b) = (decomposition.U()[(i, column)].abs(), decomposition.U()[(best, column)].abs());
            if a > b { i } else { best }
        });
        let sign = decomposition.U()[(largest, column)].signum();
        for (i, v) in vectors.row_mut(j).iter_mut().enumerate() {
            *v = sign * decomposition.U()[(i, column)];
        }
    }
    Ok((values.into_iter().rev().collect(), vectors))
}

/// Principal directions of rows about zero: mean squares along them, falling, and the unit directions, one row each.
///
/// With as many rows as dimensions there are d of them; with fewer, only those in which the rows differ from zero, found
/// from the inner products of the rows instead. O(min(n, d)^2 max(n, d)).
pub(crate) fn principal(rows: MatRef<'_>) -> Result<(Vec<f64>, Mat<f64>), Error> {
    let (n, d) = (rows.rows(), rows.dim());
    if n >= d {
        let (mut values, vectors) = eigen(&second_moment(rows), d)?;
        let noise = NOISE * values[0].max(0.0);
        values.iter_mut().for_each(|v| *v = if *v > noise { *v } else { 0.0 });
        return Ok((values, vectors));
    }
    let x = widen(rows);
    let mut products = product_nt(&x, &x);
    products.as_mut_slice().iter_mut().for_each(|p| *p /= n.max(1) as f64);
    let (mut values, vectors) = eigen(products.as_slice(), n)?;
    let noise = NOISE * values.first().copied().unwrap_or(0.0);
    let kept = values.iter().take_while(|v| **v > noise).count();
    values.truncate(kept);
    let vectors = Mat::new(vectors.as_slice()[..kept * n].to_vec(), kept, n)?;
    let mut directions = product(&vectors, &x);
    for (e, value) in values.iter().enumerate() {
        let scale = 1.0 / (value * n as f64).sqrt();
        directions.row_mut(e).iter_mut().for_each(|v| *v *= scale);
    }
    Ok((values, directions))
}

/// Mean squares below this share of the largest are rounding.
const NOISE: f64 = 1e-9;

/// `a b`.
pub(crate) fn product(a: &Mat<f64>, b: &Mat<f64>) -> Mat<f64> {
    let mut out = Mat::zeros(a.rows(), b.dim());
    let dst = faer::MatMut::from_row_major_slice_mut(out.as_mut_slice(), a.rows(), b.dim());
    matmul(dst, Accum::Replace, view(a), view(b), 1.0, Par::Seq);
    out
}

/// `a^T b`.
pub(crate) fn product_tn(a: &Mat<f64>, b: &Mat<f64>) -> Mat<f64> {
    let mut out = Mat::zeros(a.dim(), b.dim());
    let dst = faer::MatMut::from_row_major_slice_mut(out.as_mut_slice(), a.dim(), b.dim());
    matmul(dst, Accum::Replace, view(a).transpose(), view(b), 1.0, Par::Seq);
    out
}

/// `a b^T`.
pub(crate) fn product_nt(a: &Mat<f64>, b: &Mat<f64>) -> Mat<f64> {
    let mut out = Mat::zeros(a.rows(), b.rows());
    let dst = faer::MatMut::from_row_major_slice_mut(out.as_mut_slice(), a.rows(), b.rows());
    matmul(dst, Accum::Replace, view(a), view(b).transpose(), 1.0, Par::Seq);
    out
}

fn view(m: &Mat<f64>) -> faer::MatRef<'_, f64> {
    faer::MatRef::from_row_major_slice(m.as_slice(), m.rows(), m.dim())
}

/// The rows in f64.
pub(crate) fn widen(rows: MatRef<'_>) -> Mat<f64> {
    let mut out = Mat::zeros(rows.rows(), rows.dim());
    out.as_mut_slice().iter_mut().zip(rows.as_slice()).for_each(|(o, v)| *o = f64::from(*v));
    out
}

/// An f64 matrix rounded to f32.
pub(crate) fn to_f32(m: &Mat<f64>) -> Mat {
    let mut out = Mat::zeros(m.rows(), m.dim());
    out.as_mut_slice().iter_mut().zip(m.as_slice()).for_each(|(o, v)| *o = *v as f32);
    out
}

/// Solves `(a + ridge I) x = b` for a symmetric positive semidefinite a of n x n and b of n x k. O(n^3 + n^2 k).
pub(crate) fn solve_ridge(a: &Mat<f64>, b: &Mat<f64>, ridge: f64) -> Result<Mat<f64>, Error> {
    let (n, mut ridge) = (a.rows(), ridge);
    for _ in 0..8 {
        let m = FaerMat::from_fn(n, n, |i, j| a.row(i)[j] + if i == j { ridge } else { 0.0 });
        if let Ok(factor) = m.llt(Side::Lower) {
            let x = factor.solve(view(b));
            let mut out = Mat::zeros(n, b.dim());
            for i in 0..n {
                out.row_mut(i).iter_mut().enumerate().for_each(|(j, o)| *o = x[(i, j)]);
            }
            return Ok(out);
        }
        // Rounding made a direction without weight negative: a larger ridge covers it.
        ridge *= 100.0;
    }
    Err(Error::Config("the rows' second moments cannot be factored: are there extreme values among them?".into()))
}

/// Mean over the rows of `x x^T`, d x d. O(n d^2); fixed chunks summed in order.
pub(crate) fn second_moment(rows: MatRef<'_>) -> Vec<f64> {
    const CHUNK: usize = 4096;
    let d = rows.dim();
    let mut total = vec![0f64; d * d];
    // A bounded number of partial sums at a time: they take d^2 floats each.
    let starts: Vec<usize> = (0..rows.rows()).step_by(CHUNK).collect();
    for group in starts.chunks(8) {
        let partial: Vec<Vec<f32>> = group
            .par_iter()
            .map(|&start| {
                let mut out = vec![0f32; d * d];
                gram(&mut out, rows.slice(start..(start + CHUNK).min(rows.rows())));
                out
            })
            .collect();
        for part in partial {
            for (t, p) in total.iter_mut().zip(part) {
                *t += f64::from(p);
            }
        }
    }
    let scale = 1.0 / rows.rows().max(1) as f64;
    for i in 0..d {
        for j in 0..=i {
            let value = scale * total[i * d + j];
            (total[i * d + j], total[j * d + i]) = (value, value);
        }
    }
    total
}

/// Mean of the rows.
pub(crate) fn mean(rows: MatRef<'_>) -> Vec<f32> {
    mean_of(rows, |_| true)
}

/// Mean of the rows that count; 0 where none does.
pub(crate) fn mean_of(rows: MatRef<'_>, counts: impl Fn(usize) -> bool + Sync) -> Vec<f32> {
    // Threads share out the columns, so that each is summed in the order of the rows.
    const COLUMNS: usize = 32;
    let mut total = vec![0f64; rows.dim()];
    total.par_chunks_mut(COLUMNS).enumerate().for_each(|(part, total)| {
        for i in (0..rows.rows()).filter(|&i| counts(i)) {
            let row = &rows.row(i)[part * COLUMNS..];
            total.iter_mut().zip(row).for_each(|(t, &x)| *t += f64::from(x));
        }
    });
    let count = (0..rows.rows()).filter(|&i| counts(i)).count();
    total.iter().map(|t| (t / count.max(1) as f64) as f32).collect()
}

/// The rows less `offset`.
pub(crate) fn subtract(rows: MatRef<'_>, offset: &[f32]) -> Mat {
    let mut out = Mat::zeros(rows.rows(), rows.dim());
    let width = rows.dim().max(1);
    out.as_mut_slice().par_chunks_mut(width).zip(rows.as_slice().par_chunks(width)).for_each(|(out, row)| {
        out.iter_mut().zip(row).zip(offset).for_each(|((t, x), o)| *t = x - o);
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvectors_reproduce_the_matrix() {
        let d = 5;
        let m: Vec<f64> =
            (0..25).map(|i| ((i / 5 + 1) * (i % 5 + 1)) as f64 + if i / 5 == i % 5 { 3.0 } else { 0.0 }).collect();
        let (values, vectors) = eigen(&m, d).unwrap();
        assert!(values.windows(2).all(|w| w[0] >= w[1]));
        for i in 0..d {
            for j in 0..d {
                let sum: f64 = (0..d).map(|e| values[e] * vectors.row(e)[i] * vectors.row(e)[j]).sum();
                assert!((sum - m[i * d + j]).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn ridge_solution_satisfies_the_equations() {
        let a = Mat::new(vec![4.0, 1.0, 0.5, 1.0, 3.0, 0.25, 0.5, 0.25, 2.0], 3, 3).unwrap();
        let b = Mat::new(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3, 2).unwrap();
        let x = solve_ridge(&a, &b, 0.1).unwrap();
        for i in 0..3 {
            for c in 0..2 {
                let sum: f64 = (0..3).map(|p| (a.row(i)[p] + if i == p { 0.1 } else { 0.0 }) * x.row(p)[c]).sum();
                assert!((sum - b.row(i)[c]).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn principal_directions_agree_however_they_are_found() {
        let values: Vec<f32> = (0..60).map(|i| ((i * 37 % 23) as f32 - 11.0) / 7.0).collect();
        let few = MatRef::new(&values, 5, 12).unwrap();
        let (by_rows, directions) = principal(few).unwrap();
        let (by_columns, _) = eigen(&second_moment(few), 12).unwrap();
        assert!(by_rows.len() <= 5);
        for (a, b) in by_rows.iter().zip(by_columns) {
            assert!((a - b).abs() < 1e-5 * by_rows[0]);
        }
        let gram = product_nt(&directions, &directions);
        for i in 0..by_rows.len() {
            for j in 0..by_rows.len() {
                assert!((gram.row(i)[j] - f64::from(u8::from(i == j))).abs() < 1e-6);
            }
        }
    }
}
