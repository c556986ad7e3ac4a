//! Rounds the model's matrices to uniform steps, a step per column.

use rayon::prelude::*;

use crate::{
    matrix::{Mat, MatRef},
    model::{Quantized, symmetric_offset},
};

/// Shares of the full range that are tried: a smaller one clips a few values and rounds the others finer.
const RANGES: [f32; 8] = [1.0, 0.92, 0.84, 0.76, 0.68, 0.6, 0.52, 0.44];

/// Quantizes each row of `columns` with its number of bits, on steps symmetric about zero.
pub(crate) fn symmetric(columns: MatRef<'_>, bits: Vec<u8>) -> Quantized {
    quantize(columns, bits, |values| {
        let largest = values.iter().fold(0f32, |m, v| m.max(v.abs()));
        (-largest, largest)
    })
}

/// Quantizes each row of `columns` with its number of bits, on steps over the range of its values.
pub(crate) fn ranged(columns: MatRef<'_>, bits: Vec<u8>) -> Quantized {
    quantize(columns, bits, |values| {
        values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), &v| (lo.min(v), hi.max(v)))
    })
}

fn quantize(columns: MatRef<'_>, bits: Vec<u8>, range: impl Fn(&[f32]) -> (f32, f32) + Sync) -> Quantized {
    let mut out = Quantized { len: columns.dim(), bits, ..Quantized::default() };
    let rounded: Vec<_> =
        (0..columns.rows()).into_par_iter().map(|j| round(columns.row(j), out.bits[j], &range)).collect();
    for (scale, offset, codes) in rounded {
        out.scale.push(scale);
        out.offset.push(offset);
        out.codes.extend(codes);
    }
    out
}

/// Scale, offset and codes of one column.
fn round(values: &[f32], bits: u8, range: impl Fn(&[f32]) -> (f32, f32)) -> (f32, f32, Vec<u16>) {
    let (lo, hi) = if values.is_empty() { (0.0, 0.0) } else { range(values) };
    let top = ((1u32 << bits) - 1) as f32;
    let (middle, half) = (0.5 * (lo + hi), 0.5 * (hi - lo));
    let mut best = (f64::INFINITY, 0.0, 0.0);
    for share in RANGES {
        let scale = 2.0 * half * share / top;
        // The exact expression a reader uses, so that both see the same values.
        let offset = if lo == -hi { symmetric_offset(scale, bits) } else { middle - half * share };
        let error: f64 =
            values.iter().map(|&v| f64::from(v - (offset + scale * code(v, offset, scale, top))).powi(2)).sum();
        if error < best.0 {
            best = (error, scale, offset);
        }
    }
    let (_, scale, offset) = best;
    (scale, offset, values.iter().map(|&v| code(v, offset, scale, top) as u16).collect())
}

fn code(value: f32, offset: f32, scale: f32, top: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { ((value - offset) / scale).round().clamp(0.0, top) }
}

/// Levels of least squared error for `values` (Lloyd's method from quantiles), 16 of them ascending, or with two nibbles 256
/// by code.
pub(crate) fn levels(values: &[f32], nibbles: usize) -> Vec<f32> {
    match nibbles {
        2 => in_groups(ascending::<256>(values)),
        _ => ascending::<16>(values),
    }
}

/// By code what is given in groups of 16: the first nibble of a code, the lower one, is its group.
pub(crate) fn in_groups<T: Copy>(values: Vec<T>) -> Vec<T> {
    (0..values.len()).map(|code| values[16 * (code % 16) + code / 16]).collect()
}

fn ascending<const LEVELS: usize>(values: &[f32]) -> Vec<f32> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    if sorted.is_empty() {
        return vec![1.0; LEVELS];
    }
    let quantile = |l: usize| sorted[((2 * l + 1) * sorted.len() / (2 * LEVELS)).min(sorted.len() - 1)];
    let mut levels: Vec<f32> = (0..LEVELS).map(quantile).collect();
    for _ in 0..30 {
        let mut start = 0;
        for l in 0..LEVELS {
            let bound = if l + 1 < LEVELS { 0.5 * (levels[l] + levels[l + 1]) } else { f32::INFINITY };
            let end = start + sorted[start..].partition_point(|&v| v <= bound);
            if end > start {
                let sum: f64 = sorted[start..end].iter().map(|&v| f64::from(v)).sum();
                levels[l] = (sum / (end - start) as f64) as f32;
            }
            start = end;
        }
    }
    levels
}

/// The mean of the rows of each group; zeros for an empty group.
pub(crate) fn group_means(rows: MatRef<'_>, labels: impl Iterator<Item = u32>, groups: usize) -> Mat {
    let mut members = vec![Vec::new(); groups];
    labels.enumerate().for_each(|(i, label)| members[label as usize].push(i));
    let mut out = Mat::zeros(groups, rows.dim());
    let width = rows.dim().max(1);
    out.as_mut_slice().par_chunks_mut(width).zip(&members).for_each(|(out, members)| {
        let mut sums = vec![0f64; width];
        for &i in members {
            sums.iter_mut().zip(rows.row(i)).for_each(|(s, &x)| *s += f64::from(x));
        }
        out.iter_mut().zip(sums).for_each(|(o, s)| *o = (s / members.len().max(1) as f64) as f32);
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn quantized_values_are_within_half_a_step_of_the_full_range(
            values in prop::collection::vec(-10f32..10.0, 1..60), bits in 2u8..=12
        ) {
            let columns = MatRef::new(&values, 1, values.len()).unwrap();
            for q in [symmetric(columns, vec![bits]), ranged(columns, vec![bits])] {
                let full: f64 = values.iter().enumerate().map(|(i, &v)| f64::from(v - q.value(0, i)).powi(2)).sum();
                let step = 20.0 / f64::from((1u32 << bits) - 1);
                prop_assert!(full <= values.len() as f64 * (0.5 * step * 1.001).powi(2) + 1e-9);
            }
        }
    }

    #[test]
    fn levels_are_exact_for_few_values() {
        let found = levels(&[0.5, 0.5, 2.0, 2.0, 2.0], 1);
        assert!(found.contains(&0.5) && found.contains(&2.0));
    }
}
