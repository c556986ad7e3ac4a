//! The forward map of a chart of many directions, in parts: in the memory of the map and of one triangle in f64, and with a look at whoever
//! may cancel it every second or so.

use faer::{
    Accum, MatMut, MatRef as FaerRef, Par,
    linalg::{matmul::matmul, triangular_solve},
    prelude::Reborrow,
};

use crate::{error::Error, matrix::Mat};

/// Values of a decoder from which on its map is made so.
pub(super) const WIDE: usize = 1 << 20;
/// Directions, or dimensions, of a part.
const PART: usize = 128;
/// How often a larger ridge is tried.
const TRIES: usize = 8;

/// What [`super::maps::forward`] gives, but for rounding.
pub(super) fn forward(decoder: &Mat, report: &dyn Fn() -> Result<(), Error>) -> Result<Mat, Error> {
    let (a, dim) = (decoder.rows(), decoder.dim());
    let scales: Vec<f64> = (0..a)
        .map(|j| {
            let length = decoder.row(j).iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
            if length > 0.0 { 1.0 / length } else { 0.0 }
        })
        .collect();
    let mut gram = products(decoder, &scales, report)?;
    let diagonal: Vec<f64> = (0..a).map(|j| gram.row(j)[j]).collect();
    let mut ridge = RIDGE;
    for _ in 0..TRIES {
        (0..a).for_each(|j| gram.row_mut(j)[j] = diagonal[j] + ridge);
        if factor(&mut gram, report)? {
            return solve(decoder, &scales, &gram, dim, report);
        }
        // What was there stands above the diagonal still.
        for i in 0..a {
            for j in 0..i {
                gram.row_mut(i)[j] = gram.row(j)[i];
            }
        }
        ridge *= 100.0;
    }
    Err(Error::Config(
        "the directions of the model cannot be told apart: are there extreme values among them?".into(),
    ))
}

fn parts(n: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..n).step_by(PART).map(move |first| first..(first + PART).min(n))
}

/// Some directions in f64, of unit length.
fn widened(decoder: &Mat, scales: &[f64], rows: std::ops::Range<usize>) -> Mat<f64> {
    let mut out = Mat::zeros(rows.len(), decoder.dim());
    for (r, j) in rows.enumerate() {
        out.row_mut(r).iter_mut().zip(decoder.row(j)).for_each(|(o, &v)| *o = scales[j] * f64::from(v));
    }
    out
}

fn view(m: &Mat<f64>) -> FaerRef<'_, f64> {
    FaerRef::from_row_major_slice(m.as_slice(), m.rows(), m.dim())
}

fn view_mut(m: &mut Mat<f64>) -> MatMut<'_, f64> {
    let (rows, dim) = (m.rows(), m.dim());
    MatMut::from_row_major_slice_mut(m.as_mut_slice(), rows, dim)
}

/// Inner products of all directions of unit length, a x a.
fn products(decoder: &Mat, scales: &[f64], report: &dyn Fn() -> Result<(), Error>) -> Result<Mat<f64>, Error> {
    let a = decoder.rows();
    let mut out = Mat::zeros(a, a);
    for rows in parts(a) {
        let left = widened(decoder, scales, rows.clone());
        for columns in parts(rows.end) {
            report()?;
            let right = widened(decoder, scales, columns.clone());
            let at = view_mut(&mut out).submatrix_mut(rows.start, columns.start, rows.len(), columns.len());
            matmul(at, Accum::Replace, view(&left), view(&right).transpose(), 1.0, Par::Seq);
            for i in rows.clone() {
                for j in columns.start..columns.end.min(i) {
                    out.row_mut(j)[i] = out.row(i)[j];
                }
            }
        }
    }
    Ok(out)
}

/// Puts the Cholesky factor in the place of the lower triangle; what is above it stays. False where there is none.
fn factor(gram: &mut Mat<f64>, report: &dyn Fn() -> Result<(), Error>) -> Result<bool, Error> {
    let a = gram.rows();
    for own in parts(a) {
        let (first, width) = (own.start, own.len());
        // The columns of this part below its first row, less what earlier columns explain of them.
        for rows in parts(a).skip(first / PART) {
            report()?;
            let (earlier, rest) = view_mut(gram).split_at_col_mut(first);
            let left = earlier.rb().submatrix(rows.start, 0, rows.len(), first);
            let right = earlier.rb().submatrix(first, 0, width, first);
            if rows.start > first {
                let at = rest.submatrix_mut(rows.start, 0, rows.len(), width);
                matmul(at, Accum::Add, left, right.transpose(), -1.0, Par::Seq);
                continue;
            }
            // The upper triangle of the first square is kept.
            let mut square = Mat::zeros(width, width);
            matmul(view_mut(&mut square), Accum::Replace, left, right.transpose(), 1.0, Par::Seq);
            for i in 0..width {
                for j in 0..=i {
                    gram.row_mut(first + i)[first + j] -= square.row(i)[j];
                }
            }
        }
        if !factor_square(gram, first, width) {
            return Ok(false);
        }
        let mut square = Mat::zeros(width, width);
        for i in 0..width {
            square.row_mut(i)[..=i].copy_from_slice(&gram.row(first + i)[first..=first + i]);
        }
        let below = a - own.end;
        let rows = view_mut(gram).submatrix_mut(own.end, first, below, width);
        triangular_solve::solve_lower_triangular_in_place(view(&square), rows.transpose_mut(), Par::Seq);
    }
    Ok(true)
}

/// The same for a square about the diagonal.
fn factor_square(gram: &mut Mat<f64>, first: usize, width: usize) -> bool {
    for j in first..first + width {
        let pivot = gram.row(j)[j] - gram.row(j)[first..j].iter().map(|v| v * v).sum::<f64>();
        if !(pivot > 0.0 && pivot.is_finite()) {
            return false;
        }
        let pivot = pivot.sqrt();
        gram.row_mut(j)[j] = pivot;
        for i in j + 1..first + width {
            let explained: f64 = (first..j).map(|k| gram.row(i)[k] * gram.row(j)[k]).sum();
            gram.row_mut(i)[j] = (gram.row(i)[j] - explained) / pivot;
        }
    }
    true
}

/// The map, by the factor in the lower triangle of `gram`, some dimensions at a time.
fn solve(
    decoder: &Mat,
    scales: &[f64],
    gram: &Mat<f64>,
    dim: usize,
    report: &dyn Fn() -> Result<(), Error>,
) -> Result<Mat, Error> {
    let a = decoder.rows();
    let mut out = Mat::zeros(a, dim);
    for columns in parts(dim) {
        report()?;
        let mut some = Mat::zeros(a, columns.len());
        for j in 0..a {
            let values = decoder.row(j)[columns.clone()].iter();
            some.row_mut(j).iter_mut().zip(values).for_each(|(s, &v)| *s = scales[j] * f64::from(v));
        }
        // The solvers look at the triangle that they are given, and not at the other.
        triangular_solve::solve_lower_triangular_in_place(view(gram), view_mut(&mut some), Par::Seq);
        report()?;
        let upper = view(gram).transpose();
        triangular_solve::solve_upper_triangular_in_place(upper, view_mut(&mut some), Par::Seq);
        for j in 0..a {
            let values = some.row(j).iter().map(|v| (v * scales[j]) as f32);
            out.row_mut(j)[columns.clone()].iter_mut().zip(values).for_each(|(o, v)| *o = v);
        }
    }
    Ok(out)
}

/// Added to the diagonal of the inner products of columns of unit length: far below what rounding to 32 bits leaves, and enough
/// where a column is made of others, or is zero.
pub(super) const RIDGE: f64 = 1e-10;

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::encode::maps;
    use crate::math::rng::Random;

    fn directions(rows: usize, dim: usize) -> Mat {
        let mut random = Random::new(7, 1);
        Mat::new((0..rows * dim).map(|_| random.normal()).collect(), rows, dim).unwrap()
    }

    #[test]
    fn the_map_is_that_of_a_narrow_chart() {
        for (rows, dim) in [(1, 3), (127, 130), (128, 128), (300, 301), (300, 257)] {
            let mut decoder = directions(rows, dim);
            // One that is zero, and one that another is twice of.
            if rows > 200 {
                decoder.row_mut(5).fill(0.0);
                let twice: Vec<f32> = decoder.row(7).iter().map(|v| 2.0 * v).collect();
                decoder.row_mut(201).copy_from_slice(&twice);
            }
            let expected = maps::narrow(&decoder).unwrap();
            let found = forward(&decoder, &|| Ok(())).unwrap();
            // Where directions depend on each other the map is a matter of the ridge, but not what it leads back to.
            let back = |map: &Mat| -> Vec<f32> {
                let x: Vec<f32> = (0..dim).map(|i| (i as f32 * 0.7).sin()).collect();
                let mut out = vec![0f32; dim];
                for j in 0..rows {
                    let y: f32 = map.row(j).iter().zip(&x).map(|(m, x)| m * x).sum();
                    out.iter_mut().zip(decoder.row(j)).for_each(|(o, b)| *o += y * b);
                }
                out
            };
            for (found, expected) in back(&found).iter().zip(back(&expected)) {
                assert!((found - expected).abs() < 2e-3, "{rows} x {dim}: {found}, {expected}");
            }
        }
    }

    #[test]
    fn it_can_be_cancelled_anywhere() {
        let decoder = directions(300, 310);
        let count = Cell::new(0);
        let until = |most: usize| {
            count.set(0);
            forward(&decoder, &|| {
                count.set(count.get() + 1);
                if count.get() > most { Err(Error::Cancelled) } else { Ok(()) }
            })
        };
        assert!(until(usize::MAX).is_ok());
        let all = count.get();
        assert!(all > 15, "{all}");
        assert!((0..all).all(|most| matches!(until(most), Err(Error::Cancelled))));
    }
}
