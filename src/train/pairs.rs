//! Codes for the factor and the weight of a row together.
//!
//! A score is `A <q, a> + B <q, c>` with `A = F` and `B = F W`. What an error of A and B costs follows from the second moments of the
//! two products over near pairs of a query and a row. In the coordinates where that cost is a squared length, codes are the centres
//! of k-means; with two nibbles those that share the first one lie together, so that a bound on the first says much of both.

use crate::{model::Scales, train::quantize::in_groups};

/// Rounds of k-means.
const ROUNDS: usize = 20;
/// Codes of a nibble.
const CODES: usize = 16;

/// Factors and weights by code for rows that want `wanted`, with so many nibbles; `costs` are those of [`Side`](crate::model::Side).
pub(crate) fn pairs(wanted: &[Scales], costs: [f32; 3], nibbles: usize) -> (Vec<f32>, Vec<f32>) {
    let [aa, ac, cc] = costs.map(f64::from);
    // Cholesky's root of the costs, kept from being singular.
    let first = aa.max(1e-12).sqrt();
    let mixed = ac / first;
    let second = (cc - mixed * mixed).max(1e-6 * cc.max(1e-12)).sqrt();
    let points: Vec<[f64; 2]> = wanted
        .iter()
        .map(|s| {
            let (a, b) = (f64::from(s.factor), f64::from(s.factor) * f64::from(s.weight));
            [first * a + mixed * b, second * b]
        })
        .collect();
    let mut centres = means(&points);
    if nibbles > 1 {
        let mut groups = vec![Vec::new(); CODES];
        points.iter().for_each(|point| groups[nearest(&centres, point)].push(*point));
        let within = groups
            .iter()
            .zip(&centres)
            .map(|(group, centre)| if group.is_empty() { vec![*centre; CODES] } else { means(group) });
        centres = in_groups(within.collect::<Vec<_>>().concat());
    }
    let back = |centre: &[f64; 2]| {
        let b = centre[1] / second;
        let a = (centre[0] - mixed * b) / first;
        (a as f32, (b / a) as f32)
    };
    centres.iter().map(back).unzip()
}

/// The centres of k-means, from quantiles of the second coordinate. The same points give the same centres.
fn means(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| a[1].total_cmp(&b[1]).then(a[0].total_cmp(&b[0])));
    let mut centres: Vec<[f64; 2]> = (0..CODES).map(|k| sorted[(2 * k + 1) * sorted.len() / (2 * CODES)]).collect();
    for _ in 0..ROUNDS {
        let mut sums = [[0f64; 3]; CODES];
        for point in points {
            let sum = &mut sums[nearest(&centres, point)];
            *sum = [sum[0] + point[0], sum[1] + point[1], sum[2] + 1.0];
        }
        for (centre, sum) in centres.iter_mut().zip(sums) {
            if sum[2] > 0.0 {
                *centre = [sum[0] / sum[2], sum[1] / sum[2]];
            }
        }
    }
    centres
}

fn nearest(centres: &[[f64; 2]], point: &[f64; 2]) -> usize {
    let off = |centre: &[f64; 2]| (centre[0] - point[0]).powi(2) + (centre[1] - point[1]).powi(2);
    let mut best = (f64::INFINITY, 0);
    for (k, centre) in centres.iter().enumerate() {
        let off = off(centre);
        best = if off < best.0 { (off, k) } else { best };
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Side;

    #[test]
    fn two_nibbles_are_finer_than_one_and_share_the_first() {
        let wanted: Vec<Scales> = (0..4000)
            .map(|i| Scales { factor: 1.0 + (i % 63) as f32 * 0.01, weight: 0.8 + (i * 7 % 101) as f32 * 0.005 })
            .collect();
        let costs = [0.4, 0.1, 0.03];
        let off = |nibbles: usize| -> f64 {
            let (factors, weights) = pairs(&wanted, costs, nibbles);
            assert_eq!((factors.len(), weights.len()), (16usize.pow(nibbles as u32), 16usize.pow(nibbles as u32)));
            let side = Side { factors, weights, costs, ..Side::default() };
            let cost = |s: &Scales| {
                let code = usize::from(side.factor_code(*s));
                let a = f64::from(side.factors[code] - s.factor);
                let b = f64::from(side.factors[code] * side.weights[code] - s.factor * s.weight);
                0.4 * a * a + 0.2 * a * b + 0.03 * b * b
            };
            wanted.iter().map(cost).sum()
        };
        let (one, two) = (off(1), off(2));
        assert!(two < 0.2 * one, "{two} with two nibbles, {one} with one");
    }
}
