//! The middle of rows, which a few of them that are far away do not move.

use rayon::prelude::*;

use super::linalg::mean_of;
use crate::matrix::MatRef;

/// Rows that say where the middle is, roughly.
const SOME: usize = 1024;
/// Distances from there, in units of their median, beyond which a row does not count: in sets of embeddings there are none.
const FAR: f64 = 32.0;

/// The mean of the rows that are not far from all others: of all of them but where a value was damaged. Rows with a value that is not
/// finite do not count; without any the middle is 0. O(n d).
pub(crate) fn center(rows: MatRef<'_>) -> Vec<f32> {
    let (n, count) = (rows.rows(), rows.rows().min(SOME));
    let median_of_column = |c: usize| {
        let mut values: Vec<f32> = (0..count).map(|i| rows.row(i * n / count)[c]).collect();
        if values.is_empty() { 0.0 } else { *values.select_nth_unstable_by(count / 2, f32::total_cmp).1 }
    };
    let middle: Vec<f32> = (0..rows.dim()).into_par_iter().map(median_of_column).collect();
    let square = |i: usize| -> f64 {
        rows.row(i).iter().zip(&middle).map(|(x, m)| (f64::from(*x) - f64::from(*m)).powi(2)).sum()
    };
    let squares: Vec<f64> = (0..n).into_par_iter().with_min_len(256).map(square).collect();
    // Copies of one row, be they half of all, say nothing about distances.
    let mut away: Vec<f64> = squares.iter().copied().filter(|s| *s > 0.0 && s.is_finite()).collect();
    let half = away.len() / 2;
    let limit = if away.is_empty() { 0.0 } else { FAR * FAR * *away.select_nth_unstable_by(half, f64::total_cmp).1 };
    mean_of(rows, |i| squares[i] <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        math::{linalg::mean, rng::Random},
        matrix::Mat,
    };

    fn rows(n: usize) -> Mat {
        let mut random = Random::new(8, 8);
        Mat::new((0..n * 7).map(|i| random.normal() + (i % 7) as f32).collect(), n, 7).unwrap()
    }

    #[test]
    fn it_is_the_mean_where_no_row_is_far() {
        for n in [1, 2, 3, 500, 3000] {
            assert_eq!(center(rows(n).view()), mean(rows(n).view()));
        }
        assert_eq!(center(Mat::new([1.5f32; 12].to_vec(), 4, 3).unwrap().view()), [1.5; 3]);
        assert_eq!(center(Mat::zeros(4, 3).view()), [0.0; 3]);
    }

    #[test]
    fn rows_that_are_far_do_not_move_it() {
        let clean = mean(rows(500).view());
        for value in [65_504.0, -1e6, 3e38, f32::INFINITY, f32::NAN] {
            let mut rows = rows(500);
            rows.row_mut(7)[3] = value;
            rows.row_mut(400)[0] = value;
            let off = center(rows.view()).iter().zip(&clean).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 0.02, "{value}: {off}");
        }
        let broken = Mat::new([f32::NAN; 4].to_vec(), 2, 2).unwrap();
        assert_eq!(center(broken.view()), [0.0; 2]);
    }
}
