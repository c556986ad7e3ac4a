//! Sums of byte tables over blocks of codes: the inner loop of search, once per instruction set.
//!
//! Fast scan (André, Kermarrec and Le Scouarnec, VLDB 2015): a symbol's table of 16 bytes stays in a register and a shuffle looks
//! up the symbols of 16 rows or more at a time. All instruction sets give the same sums.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod bytes;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod sums;
#[cfg(target_arch = "x86_64")]
pub(crate) mod vbmi;

pub(super) use bytes::ByteTables;

use crate::{
    format::rows::{BLOCK, BlockShape},
    model::kinds::CodeKind,
    ops::cpu::simd::Level,
};
use sums::{Needs, Quad, RUN, Sums, factor_codes};

/// Queries summed together at most.
pub(super) const MOST_QUERIES: usize = 8;

/// Which loop sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 with VBMI and VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Kernel {
    /// The loop of an instruction set.
    pub(super) fn of(level: Level) -> Kernel {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 if avx512::available() => Kernel::Avx512,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 | Level::Avx2 if avx2::available() => Kernel::Avx2,
            #[cfg(target_arch = "aarch64")]
            Level::Neon if neon::available() => Kernel::Neon,
            _ => Kernel::Portable,
        }
    }

    /// Queries that are best summed together, a power of two up to [`MOST_QUERIES`]: they share the unpacking of codes, as far
    /// as there are registers for their sums.
    pub(super) fn queries(self) -> usize {
        match self {
            Kernel::Portable => 1,
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => 2,
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => MOST_QUERIES,
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon => 4,
        }
    }

    /// The largest byte of a table: what the loop adds up before it makes room.
    pub(super) fn largest(self, kind: CodeKind) -> u8 {
        match (self, kind) {
            #[cfg(target_arch = "x86_64")]
            (Kernel::Avx2, CodeKind::Chain) => 127,
            _ => 255,
        }
    }

    /// For each of Q queries and each of up to [`RUN`] whole blocks, the sum over the symbols of every place. The tables are
    /// those of [`ByteTables`], query beside query ([`interleave`]).
    #[inline(always)]
    pub(super) fn sums<const Q: usize>(
        self,
        blocks: &[u8],
        shape: BlockShape,
        tables: &[[Quad; Q]],
        out: &mut [[Sums; RUN]; Q],
    ) {
        match (self, shape.kind) {
            // SAFETY: `of` gives these only where the instructions were detected.
            #[cfg(target_arch = "x86_64")]
            (Kernel::Avx2, CodeKind::Chain) => unsafe { avx2::sums(blocks, shape, tables, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            (Kernel::Avx512, CodeKind::Chain) => unsafe { avx512::sums(blocks, shape, tables, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            (Kernel::Avx512, CodeKind::Pq8) => unsafe { vbmi::sums(blocks, shape, tables, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            (Kernel::Neon, CodeKind::Chain) => unsafe { neon::sums(blocks, shape, tables, out) },
            // No other processor looks up 256 bytes in registers.
            _ => portable(blocks, shape, tables, out),
        }
    }
}

impl Kernel {
    /// As [`Kernel::sums`] for chain codes, but tells only which rows of a block reach what their factor code needs (code 0
    /// where there are no factors): bit i for place i.
    #[inline(always)]
    pub(super) fn reaching<const Q: usize>(
        self,
        blocks: &[u8],
        shape: BlockShape,
        tables: &[[Quad; Q]],
        needs: &[Needs; Q],
        out: &mut [[u32; RUN]; Q],
    ) {
        match self {
            // SAFETY: `of` gives these only where the instructions were detected.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe { avx2::reaching(blocks, shape, tables, needs, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => unsafe { avx512::reaching(blocks, shape, tables, needs, out) },
            _ => {
                let mut sums = [[[0; BLOCK]; RUN]; Q];
                self.sums(blocks, shape, tables, &mut sums);
                for (b, block) in blocks.chunks_exact(shape.bytes()).enumerate() {
                    let codes = factor_codes(block, shape);
                    for q in 0..Q {
                        let reaches =
                            |i: usize| sums[q][b][i] >= needs[q][usize::from(codes[i % 16] >> (4 * (i / 16)) & 15)];
                        out[q][b] = (0..BLOCK).fold(0, |mask, i| mask | u32::from(reaches(i)) << i);
                    }
                }
            }
        }
    }
}

/// The tables of Q queries side by side, as the loops read them.
pub(super) fn interleave<const Q: usize>(tables: [&ByteTables; Q]) -> Vec<[Quad; Q]> {
    let mut out = vec![[[0; 64]; Q]; tables.first().map_or(0, |t| t.quads.len())];
    for (q, table) in tables.into_iter().enumerate() {
        out.iter_mut().zip(&table.quads).for_each(|(out, quad)| out[q] = *quad);
    }
    out
}

fn portable<const Q: usize>(blocks: &[u8], shape: BlockShape, tables: &[[Quad; Q]], out: &mut [[Sums; RUN]; Q]) {
    for (b, block) in blocks.chunks_exact(shape.bytes()).enumerate() {
        let planes = &block[..shape.side_at()];
        for q in 0..Q {
            let mut sums = [0u16; BLOCK];
            match shape.kind {
                CodeKind::Chain => {
                    let (low, high) = sums.split_at_mut(BLOCK / 2);
                    for (t, plane) in planes.as_chunks::<16>().0.iter().enumerate() {
                        let table = &tables[t / 4][q].as_chunks::<16>().0[t % 4];
                        for i in 0..16 {
                            low[i] += u16::from(table[usize::from(plane[i] & 15)]);
                            high[i] += u16::from(table[usize::from(plane[i] >> 4)]);
                        }
                    }
                }
                CodeKind::Pq8 => {
                    for (plane, table) in planes.as_chunks::<BLOCK>().0.iter().zip(tables.as_chunks::<4>().0) {
                        for (sum, &c) in sums.iter_mut().zip(plane) {
                            *sum += u16::from(table[usize::from(c / 64)][q][usize::from(c % 64)]);
                        }
                    }
                }
            }
            out[q][b] = sums;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::rng::Random;

    #[test]
    fn all_instruction_sets_sum_alike() {
        let mut random = Random::new(1, 5);
        for kind in [CodeKind::Chain, CodeKind::Pq8] {
            for symbols in [1, 3, 4, 7, 8, 31, 86, 250, 257] {
                let shape = BlockShape { kind, symbols, side_nibbles: 1 };
                let blocks: Vec<u8> = (0..5 * shape.bytes()).map(|_| random.below(256) as u8).collect();
                let values = if kind == CodeKind::Chain { 16 } else { 256 };
                for level in Level::ALL.into_iter().filter(|l| l.available()) {
                    let largest = Kernel::of(level).largest(kind);
                    let tables: [ByteTables; 3] = std::array::from_fn(|_| {
                        let floats: Vec<f32> = (0..values * symbols).map(|_| random.normal()).collect();
                        ByteTables::new(level, &floats, values, largest, 0.0)
                    });
                    let tables = &interleave(tables.each_ref());
                    let mut expected = [[[0; BLOCK]; RUN]; 3];
                    portable(&blocks, shape, tables, &mut expected);
                    let mut found = [[[0; BLOCK]; RUN]; 3];
                    Kernel::of(level).sums(&blocks, shape, tables, &mut found);
                    assert!(found == expected, "{level}, {kind:?}, {symbols} symbols");
                    if kind == CodeKind::Pq8 {
                        continue;
                    }
                    // Needs that about half of the rows reach, some of them just so.
                    let needs: [Needs; 3] =
                        std::array::from_fn(|q| std::array::from_fn(|f| expected[q][f % 5][f * 7 % BLOCK]));
                    let (mut expected, mut found) = ([[0; RUN]; 3], [[0; RUN]; 3]);
                    Kernel::Portable.reaching(&blocks, shape, tables, &needs, &mut expected);
                    Kernel::of(level).reaching(&blocks, shape, tables, &needs, &mut found);
                    assert!(found == expected, "{level}, {symbols} symbols");
                    assert!(found.iter().flatten().map(|mask| mask.count_ones()).sum::<u32>() > 50);
                }
            }
        }
    }
}
