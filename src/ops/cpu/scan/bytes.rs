//! A query's tables rounded to bytes, with a bound on what the rounding took.

use pulp::{Simd, WithSimd};

use super::sums::Quad;
use crate::ops::cpu::simd::Level;

/// The tables of one query for the symbols of one chart, rounded down to bytes: with Q the sum of the bytes, a row's exact
/// sum s has `s <= high + step * Q`, however f32 rounds on the way.
#[derive(Debug, Clone)]
pub(in crate::ops::cpu) struct ByteTables {
    pub(in crate::ops::cpu) quads: Vec<Quad>,
    pub(in crate::ops::cpu) step: f32,
    pub(in crate::ops::cpu) high: f32,
}

impl ByteTables {
    /// From tables of `alphabet` values (16 or 256) for each symbol, no byte above `largest`; `base` is the largest size of what will be added to the
    /// sums. O(values).
    pub(in crate::ops::cpu) fn new(
        level: Level,
        tables: &[f32],
        alphabet: usize,
        largest: u8,
        base: f32,
    ) -> ByteTables {
        level.run(Rounding { tables, alphabet, largest, base })
    }

    #[inline(always)]
    fn with(Rounding { tables, alphabet, largest, base }: Rounding<'_>) -> ByteTables {
        match alphabet {
            16 => ByteTables::of::<16>(tables.as_chunks().0, largest, base),
            _ => ByteTables::of::<256>(tables.as_chunks().0, largest, base),
        }
    }

    #[inline(always)]
    fn of<const A: usize>(tables: &[[f32; A]], largest: u8, base: f32) -> ByteTables {
        let symbols = tables.len();
        let mut out = ByteTables { quads: vec![[0; 64]; (A * symbols).div_ceil(64)], step: 0.0, high: 0.0 };
        // Sums are kept in 16 bits.
        let most = (65_535 / symbols.max(1)).min(largest.into()) as f32;
        let (mut widest, mut sizes) = (0f32, f64::from(base));
        for table in tables {
            let (lo, hi) = range(table);
            widest = widest.max(hi - lo);
            sizes += f64::from(hi.abs().max(lo.abs()));
        }
        let step = widest / most;
        if !step.is_finite() || !sizes.is_finite() {
            // No bound can be given: every row will have to be looked at.
            out.high = f32::INFINITY;
            return out;
        }
        out.step = step;
        let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
        let mut high = 0f64;
        for (table, bytes) in tables.iter().zip(out.quads.as_flattened_mut().as_chunks_mut::<A>().0) {
            let (lo, _) = range(table);
            let mut lost = 0f32;
            for (v, byte) in table.iter().zip(bytes) {
                // The cast rounds down.
                let q = ((v - lo) * inverse).min(most) as u8;
                lost = lost.max((v - lo) - step * f32::from(q));
                *byte = q;
            }
            high += f64::from(lo) + f64::from(lost);
        }
        // A sum of n values in f32 is off by at most n half units in the last place of the sum of their sizes.
        let rounding = (symbols + 16) as f64 * f64::from(f32::EPSILON) * sizes;
        out.high = (high + rounding) as f32;
        out
    }
}

/// A call of [`ByteTables::new`], to be compiled for every level.
struct Rounding<'a> {
    tables: &'a [f32],
    alphabet: usize,
    largest: u8,
    base: f32,
}

impl WithSimd for Rounding<'_> {
    type Output = ByteTables;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> ByteTables {
        ByteTables::with(self)
    }
}

#[inline(always)]
fn range<const A: usize>(table: &[f32; A]) -> (f32, f32) {
    let mut lo = table[0];
    let mut hi = table[0];
    for &v in table {
        lo = if v < lo { v } else { lo };
        hi = if v > hi { v } else { hi };
    }
    (lo, hi)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_row_is_above_its_bound(
            tables in prop::collection::vec(prop::array::uniform16(-1e3f32..1e3), 1..300),
            seed in 0u64..1 << 40,
        ) {
            let found = ByteTables::new(Level::Portable, tables.as_flattened(), 16, 255, 0.0);
            let mut random = crate::math::rng::Random::new(seed, 1);
            let (mut exact, mut bytes, mut largest) = (0f32, 0u32, 0u32);
            for (t, table) in tables.iter().enumerate() {
                let c = random.below(16);
                exact += table[c];
                let quad = &found.quads[t / 4][16 * (t % 4)..16 * (t % 4) + 16];
                bytes += u32::from(quad[c]);
                largest += u32::from(*quad.iter().max().unwrap());
            }
            prop_assert!(largest <= 65_535);
            let bound = bytes as f32 * found.step + found.high;
            prop_assert!(exact <= bound, "{exact} > {bound}");
            prop_assert!(bound - exact <= 1.01 * found.step * tables.len() as f32 + 1.0);
        }
    }

    #[test]
    fn tables_without_a_bound_let_every_row_through() {
        assert_eq!(ByteTables::new(Level::Portable, &[f32::INFINITY; 16], 16, 255, 0.0).high, f32::INFINITY);
        assert_eq!(
            ByteTables::new(Level::Portable, &[f32::MAX, -f32::MAX].repeat(8), 16, 255, 0.0).high,
            f32::INFINITY
        );
    }
}
