//! Scales for the lengths of rows: pieces where lengths lie together, with codes by how many rows they have and how wide they are.

use std::collections::BTreeMap;

use crate::{
    format::{
        gain::{LengthScale, MOST_PIECES, Piece, codes_of, within},
        history::fixed,
    },
    model::Side,
};

/// When a model leaves some rows out of its scale: where the steps of the range of all would be coarser than this (as a difference of
/// logarithms),
const COARSE: f64 = 0.01;
/// those of the range of most so many times finer,
const MUCH_FINER: f64 = 4.0;
/// so many of all are most,
const MOST_ROWS: f64 = 0.75;
/// and the others are so many times longer or shorter than any of these. A few rows of another order of magnitude are; lengths that vary
/// as those of embeddings do are not.
const APART: f32 = 3.0;
/// How far all rows may be from the one length that is kept for them, as a share of it, when a model is made, and when rows are added.
const NEAR_ONE: f32 = 0.015;
const ONE_LENGTH: f32 = 0.03;
/// Gaps between lengths that are tried as ends of pieces.
const GAPS: usize = 64;

/// The lengths of some rows: how many there are, and the ends they have, in ranges that follow from the length. Memory for the
/// ranges there are, whatever the number of rows.
#[derive(Debug, Default, Clone)]
pub(crate) struct Lengths(BTreeMap<u32, Range>);

/// Lengths that lie within 1.3e-4 of each other.
#[derive(Debug, Clone, Copy)]
struct Range {
    first: f32,
    last: f32,
    rows: u64,
}

impl Range {
    fn and(self, other: Range) -> Range {
        Range {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
            rows: self.rows.saturating_add(other.rows),
        }
    }
}

impl Lengths {
    /// Of rows.
    pub(crate) fn of(lengths: &[f32]) -> Lengths {
        let mut all = Lengths::default();
        lengths.iter().for_each(|&length| all.add(length, 1));
        all
    }

    /// Adds rows of a length. Those of length 0, which has a code in every scale, do not count.
    pub(crate) fn add(&mut self, length: f32, rows: u64) {
        if length > 0.0 && rows > 0 {
            self.put(length.to_bits() >> 10, Range { first: length, last: length, rows });
        }
    }

    fn put(&mut self, key: u32, range: Range) {
        self.0.entry(key).and_modify(|there| *there = there.and(range)).or_insert(range);
    }

    /// With others.
    pub(crate) fn and(mut self, others: Lengths) -> Lengths {
        others.0.into_iter().for_each(|(key, range)| self.put(key, range));
        self
    }

    /// Rows that were added.
    pub(crate) fn rows(&self) -> u64 {
        self.0.values().map(|range| range.rows).sum()
    }

    /// Whether all are so.
    pub(crate) fn all(&self, so: impl Fn(f32) -> bool) -> bool {
        self.0.values().all(|range| so(range.first) && so(range.last))
    }

    /// The shortest and the longest.
    pub(crate) fn range(&self) -> Option<(f32, f32)> {
        Some((self.0.values().next()?.first, self.0.values().next_back()?.last))
    }

    /// The one length that `rows` rows may be taken to have, if all are near it.
    pub(crate) fn one(&self, rows: usize) -> Option<f32> {
        let (lo, hi) = self.range()?;
        let middle = 0.5 * (lo + hi);
        (self.rows() == rows as u64 && hi - middle <= NEAR_ONE * middle).then_some(middle)
    }

    /// The pieces that lengths of so many nibbles are best kept in. O(ranges).
    fn pieces(&self, nibbles: u8) -> Vec<Piece> {
        let all: Vec<Range> = self.0.values().copied().collect();
        let log = |length: f32| f64::from(length).ln();
        // Sums of rows, so that those of neighbouring ranges are a difference.
        let mut rows = vec![0u64];
        rows.extend(all.iter().scan(0, |sum, range| {
            *sum += range.rows;
            Some(*sum)
        }));
        let gap = |i: usize| log(all[i].first) - log(all[i - 1].last);
        let mut gaps: Vec<usize> = (1..all.len()).collect();
        let wider = |a: &usize, b: &usize| gap(*b).total_cmp(&gap(*a)).then(a.cmp(b));
        if gaps.len() > GAPS {
            gaps.select_nth_unstable_by(GAPS, wider);
            gaps.truncate(GAPS);
        }
        gaps.sort_unstable_by(wider);
        // Codes are shared out by the third roots of rows times squared width, which leaves the least error: the cube of their sum.
        let weight = |from: usize, to: usize| {
            ((rows[to] - rows[from]) as f64 * (log(all[to - 1].last) - log(all[from].first)).powi(2)).cbrt()
        };
        let cost = |ends: &[usize]| ends.windows(2).map(|w| weight(w[0], w[1])).sum::<f64>();
        let mut ends = vec![0, all.len()];
        let most = MOST_PIECES.min(codes_of(nibbles) / 2);
        for gap in gaps {
            if ends.len() > most {
                break;
            }
            let mut with = ends.clone();
            with.insert(ends.partition_point(|&end| end < gap), gap);
            if cost(&with) < cost(&ends) {
                ends = with;
            }
        }
        let (total, count) = (cost(&ends), ends.len() - 1);
        let free = (codes_of(nibbles) - 2 * count) as f64;
        let piece = |w: &[usize]| {
            let (first, last) = (all[w[0]].first, all[w[1] - 1].last);
            let more = if total > 0.0 { (free * weight(w[0], w[1]) / total) as u16 } else { 0 };
            let codes = if first == last { 1 } else { 2 + more };
            Piece { codes, first, last }
        };
        ends.windows(2).map(piece).collect()
    }

    /// A scale that holds them all. `None` without lengths.
    pub(crate) fn scale(&self, nibbles: u8) -> Option<LengthScale> {
        if self.0.is_empty() || nibbles == 0 {
            return None;
        }
        LengthScale::new(self.pieces(nibbles), nibbles).ok()
    }

    /// The range of lengths that a model made of them has: that of all, or where few rows would make it much too coarse for the
    /// others that of the others. Says also whether some lie outside.
    pub(crate) fn model_range(&self, nibbles: u8) -> ((f32, f32), bool) {
        let Some((lo, hi)) = self.range() else { return ((1.0, 1.0), false) };
        let step = |lo: f32, hi: f32| (f64::from(hi) / f64::from(lo)).ln() / (codes_of(nibbles).max(2) - 1) as f64;
        // The rows that lie together, without a wide gap between them.
        let mut groups: Vec<Range> = Vec::new();
        for range in self.0.values() {
            match groups.last_mut() {
                Some(last) if range.first <= APART * last.last => *last = last.and(*range),
                _ => groups.push(*range),
            }
        }
        let whole = step(lo, hi);
        let is_most = |group: &&Range| group.rows as f64 >= MOST_ROWS * self.rows() as f64;
        match groups.iter().find(is_most) {
            Some(most) if groups.len() > 1 && whole > COARSE && MUCH_FINER * step(most.first, most.last) < whole => {
                ((most.first, most.last), true)
            }
            _ => ((lo, hi), false),
        }
    }
}

impl Side {
    /// Whether the model's scale holds a length, give or take half a step; where no lengths are kept, whether it is near the one of all rows.
    pub(crate) fn holds(&self, length: f32) -> bool {
        let (lo, hi) = self.gain_range;
        if self.gain_nibbles == 0 {
            return (length / lo - 1.0).abs() <= ONE_LENGTH;
        }
        let steps = (codes_of(self.gain_nibbles).max(2) - 1) as f64;
        length == 0.0 || within(length, (lo, hi), (f64::from(hi) / f64::from(lo)).ln() / steps)
    }

    /// The length that is decoded as a share of the length that there was; 1 where the model's scale does not hold it.
    pub(crate) fn length_ratio(&self, length: f32) -> f32 {
        if self.gain_nibbles == 0 || !self.holds(length) {
            return 1.0;
        }
        if length > 0.0 { self.gain(self.gain_code(length)) / length } else { 0.0 }
    }
}

/// Sum over the rows whose lengths the model's scale does not hold of the squared share that a scale of their own leaves of their
/// lengths, in fixed point.
pub(crate) fn error_outside(side: &Side, lengths: &[f32]) -> u128 {
    if side.gain_nibbles == 0 || lengths.iter().all(|&length| side.holds(length)) {
        return 0;
    }
    let Some(scale) = Lengths::of(lengths).scale(side.gain_nibbles) else { return 0 };
    let table = scale.table(side.gain_nibbles);
    let off = |length: f32| f64::from(table[usize::from(scale.code(length))]) / f64::from(length) - 1.0;
    lengths.iter().filter(|&&length| !side.holds(length)).map(|&length| fixed(off(length).powi(2))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(scale: &LengthScale, nibbles: u8, lengths: &[f32]) -> f32 {
        let table = scale.table(nibbles);
        let off = |&l: &f32| (table[usize::from(scale.code(l))] / l - 1.0).abs();
        lengths.iter().map(off).fold(0.0, f32::max)
    }

    #[test]
    fn unit_rows_and_rows_a_hundred_times_as_long_are_both_kept() {
        let lengths: Vec<f32> = (0..200).map(|i| [1.0, 100.0][i % 2] * (1.0 + 1e-7 * (i / 2) as f32)).collect();
        let scale = Lengths::of(&lengths).scale(2).unwrap();
        assert!(worst(&scale, 2, &lengths) < 1e-6);
        assert!(lengths.iter().all(|&length| scale.holds(length)));
    }

    #[test]
    fn an_outlier_does_not_make_the_others_coarse() {
        for nibbles in 1..=3 {
            let mut lengths: Vec<f32> = (0..1000).map(|i| 1.0 + i as f32 / 1000.0).collect();
            let alone = worst(&Lengths::of(&lengths).scale(nibbles).unwrap(), nibbles, &lengths);
            let clean = Lengths::of(&lengths).model_range(nibbles);
            assert!(!clean.1);
            for outlier in [65_504.0, 1e6, 1e18, 1e-20] {
                lengths.push(outlier);
                let scale = Lengths::of(&lengths).scale(nibbles).unwrap();
                assert!(worst(&scale, nibbles, &lengths) < 1.5 * alone, "{nibbles} nibbles, {outlier}");
                // With 4095 codes one range is fine enough for all but the most.
                let (range, outside) = Lengths::of(&lengths).model_range(nibbles);
                assert_eq!(outside, nibbles < 3 || !(1e-7..=1e7).contains(&outlier), "{nibbles} nibbles, {outlier}");
                assert!(!outside || range == clean.0, "{nibbles} nibbles, {outlier}: {range:?}");
                lengths.pop();
            }
        }
    }

    #[test]
    fn lengths_that_vary_keep_one_range() {
        // As those of a heavy-tailed set: logarithms that are normal.
        let mut random = crate::math::rng::Random::new(3, 1);
        let lengths: Vec<f32> = (0..20_000).map(|_| random.normal().exp()).collect();
        let (range, outside) = Lengths::of(&lengths).model_range(2);
        assert_eq!((Some(range), outside), (Lengths::of(&lengths).range(), false));
        assert_eq!(Lengths::of(&[2.0; 5]).model_range(2), ((2.0, 2.0), false));
        assert_eq!(Lengths::of(&[0.0; 5]).model_range(2), ((1.0, 1.0), false));
        assert!(!Lengths::of(&[1.0, 2.0]).model_range(3).1);
    }

    #[test]
    fn any_lengths_make_a_sound_scale() {
        let mut random = crate::math::rng::Random::new(5, 2);
        for nibbles in 1..=3 {
            for count in [1, 2, 3, 17, 500] {
                let lengths: Vec<f32> = (0..count).map(|_| (20.0 * random.normal()).exp()).collect();
                let scale = Lengths::of(&lengths).scale(nibbles).expect("within the rules of the section");
                assert!(lengths.iter().all(|&length| scale.holds(length)));
                assert_eq!(LengthScale::parse(&scale.to_bytes(), nibbles).unwrap(), scale);
            }
        }
        assert!(Lengths::of(&[]).scale(2).is_none());
    }
}
