//! The little dense algebra that training needs, in f64 on faer's decompositions, on one thread so that results do
//! not depend on how many there are.

use faer::{Mat as FaerMat, Side};
use rayon::prelude::*;

use crate::{Error, Mat, MatRef, ops::gram};

/// Eigenvalues in descending order and their vectors, one row each, of a symmetric d x d matrix. O(d^3).
pub(crate) fn eigen(matrix: &[f64], d: usize) -> Result<(Vec<f64>, Mat<f64>), Error> {
    let m = FaerMat::from_fn(d, d, |i, j| matrix[i * d + j]);
    let decomposition = m.self_adjoint_eigen(Side::Lower);
    let decomposition =
        decomposition.map_err(|e| Error::Config(format!("no eigenvalues were found: {e:?}")))?;
    let values: Vec<f64> = decomposition.S().column_vector().iter().copied().collect();
    let mut vectors = Mat::zeros(d, d);
    for j in 0..d {
        let column = d - 1 - j;
        // The sign of an eigenvector is arbitrary; fixed here, so that it cannot depend on the decomposition's path.
        let largest = (0..d).fold(0, |best, i| {
            let (a, b) = (
                decomposition.U()[(i, column)].abs(),
                decomposition.U()[(best, column)].abs(),
            );
            if a > b { i } else { best }
        });
        let sign = decomposition.U()[(largest, column)].signum();
        for (i, v) in vectors.row_mut(j).iter_mut().enumerate() {
            *v = sign * decomposition.U()[(i, column)];
        }
    }
    Ok((values.into_iter().rev().collect(), vectors))
}

/// Solves `(a + ridge I) x = b` for a symmetric positive semidefinite a of n x n and b of n x k. O(n^3 + n^2 k).
pub(crate) fn solve_ridge(a: &[f64], n: usize, b: &mut [f64], k: usize, ridge: f64) {
    // Cholesky factor in place, row by row.
    let mut l = a.to_vec();
    for i in 0..n {
        l[i * n + i] += ridge;
    }
    for i in 0..n {
        for j in 0..=i {
            let mut sum = l[i * n + j];
            for p in 0..j {
                sum -= l[i * n + p] * l[j * n + p];
            }
            l[i * n + j] = if i == j {
                sum.max(ridge * 1e-6).sqrt()
            } else {
                sum / l[j * n + j]
            };
        }
    }
    for c in 0..k {
        for i in 0..n {
            let mut sum = b[i * k + c];
            for p in 0..i {
                sum -= l[i * n + p] * b[p * k + c];
            }
            b[i * k + c] = sum / l[i * n + i];
        }
        for i in (0..n).rev() {
            let mut sum = b[i * k + c];
            for p in i + 1..n {
                sum -= l[p * n + i] * b[p * k + c];
            }
            b[i * k + c] = sum / l[i * n + i];
        }
    }
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
    total.iter_mut().for_each(|t| *t *= scale);
    total
}

/// Mean of the rows.
pub(crate) fn mean(rows: MatRef<'_>) -> Vec<f32> {
    let mut total = vec![0f64; rows.dim()];
    for i in 0..rows.rows() {
        for (t, &x) in total.iter_mut().zip(rows.row(i)) {
            *t += f64::from(x);
        }
    }
    total
        .iter()
        .map(|t| (t / rows.rows().max(1) as f64) as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvectors_reproduce_the_matrix() {
        let d = 5;
        let m: Vec<f64> = (0..25)
            .map(|i| ((i / 5 + 1) * (i % 5 + 1)) as f64 + if i / 5 == i % 5 { 3.0 } else { 0.0 })
            .collect();
        let (values, vectors) = eigen(&m, d).unwrap();
        assert!(values.windows(2).all(|w| w[0] >= w[1]));
        for i in 0..d {
            for j in 0..d {
                let sum: f64 = (0..d)
                    .map(|e| values[e] * vectors.row(e)[i] * vectors.row(e)[j])
                    .sum();
                assert!((sum - m[i * d + j]).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn ridge_solution_satisfies_the_equations() {
        let a = [4.0, 1.0, 0.5, 1.0, 3.0, 0.25, 0.5, 0.25, 2.0];
        let b = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let mut x = b;
        solve_ridge(&a, 3, &mut x, 2, 0.1);
        for i in 0..3 {
            for c in 0..2 {
                let sum: f64 = (0..3)
                    .map(|p| (a[i * 3 + p] + if i == p { 0.1 } else { 0.0 }) * x[p * 2 + c])
                    .sum();
                assert!((sum - b[i * 2 + c]).abs() < 1e-12);
            }
        }
    }
}
