//! Blocks of codes (docs/format.md, section 9).

use crate::model::kinds::CodeKind;

/// Positions in a block.
pub(crate) const BLOCK: usize = 32;

/// Layout of a block of [`BLOCK`] positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockShape {
    pub(crate) kind: CodeKind,
    pub(crate) symbols: usize,
    pub(crate) side_nibbles: usize,
}

impl BlockShape {
    /// Bytes of a plane of symbols.
    pub(crate) fn symbol_plane(&self) -> usize {
        match self.kind {
            CodeKind::Chain => BLOCK / 2,
            CodeKind::Pq8 => BLOCK,
        }
    }

    /// Bytes of a block.
    pub(crate) fn bytes(&self) -> usize {
        self.symbols * self.symbol_plane() + self.side_nibbles * BLOCK / 2
    }

    /// Bytes of the codes of `n` rows.
    pub(crate) fn code_bytes(&self, n: u64) -> u64 {
        n.div_ceil(BLOCK as u64) * self.bytes() as u64
    }

    /// Words of 32 bits that a row takes on a GPU: eight nibbles, or four symbols of pq8, to each.
    #[allow(dead_code, reason = "there are builds without a GPU")]
    pub(crate) fn row_words(&self) -> usize {
        match self.kind {
            CodeKind::Chain => (self.symbols + self.side_nibbles).div_ceil(8),
            CodeKind::Pq8 => self.symbols.div_ceil(4) + usize::from(self.side_nibbles > 0),
        }
    }

    /// Where the side planes start.
    pub(crate) fn side_at(&self) -> usize {
        self.symbols * self.symbol_plane()
    }

    /// Symbol `t` of place `i` of a block.
    #[inline]
    pub(crate) fn symbol(&self, block: &[u8], t: usize, i: usize) -> u8 {
        match self.kind {
            CodeKind::Chain => nibble(&block[t * 16..t * 16 + 16], i),
            CodeKind::Pq8 => block[t * BLOCK + i],
        }
    }

    /// Side nibble `s` of place `i` of a block.
    #[inline]
    pub(crate) fn side(&self, block: &[u8], s: usize, i: usize) -> u8 {
        let at = self.side_at() + s * 16;
        nibble(&block[at..at + 16], i)
    }

    /// The code of the gain at place `i` of a block, from the side nibbles behind those of the factor.
    #[inline(always)]
    pub(crate) fn gain_code(&self, block: &[u8], factor_nibbles: usize, i: usize) -> usize {
        let nibbles = (factor_nibbles..self.side_nibbles).rev();
        nibbles.fold(0, |code, s| code << 4 | usize::from(self.side(block, s, i)))
    }

    /// What the symbols at place `i` of a block add up to, each with a table of its own.
    #[inline]
    pub(crate) fn sum(&self, block: &[u8], i: usize, tables: &[f32]) -> f32 {
        // Four sums: one would wait for itself.
        let mut sums = [0f32; 4];
        match self.kind {
            CodeKind::Chain => {
                let (column, shift) = (i % 16, 4 * (i / 16));
                let value = |plane: &[u8; 16], table: &[f32; 16]| table[usize::from(plane[column] >> shift & 15)];
                let (planes, tables) = (block.as_chunks::<16>().0, tables.as_chunks::<16>().0);
                let (fours, rest) = tables.as_chunks::<4>();
                let (planes, last) = planes.split_at(4 * fours.len());
                for (planes, tables) in planes.as_chunks::<4>().0.iter().zip(fours) {
                    for (s, sum) in sums.iter_mut().enumerate() {
                        *sum += value(&planes[s], &tables[s]);
                    }
                }
                for (sum, (plane, table)) in sums.iter_mut().zip(last.iter().zip(rest)) {
                    *sum += value(plane, table);
                }
            }
            CodeKind::Pq8 => {
                let (planes, tables) = (block.as_chunks::<BLOCK>().0, tables.as_chunks::<256>().0);
                for (t, (plane, table)) in planes.iter().zip(tables).enumerate() {
                    sums[t % 4] += table[usize::from(plane[i])];
                }
            }
        }
        (sums[0] + sums[1]) + (sums[2] + sums[3])
    }
}

#[inline]
fn nibble(plane: &[u8], i: usize) -> u8 {
    (plane[i % 16] >> (4 * (i / 16))) & 15
}

fn put_nibble(plane: &mut [u8], i: usize, value: u8) {
    plane[i % 16] |= (value & 15) << (4 * (i / 16));
}

/// Puts one row's symbols into place `i` of a zeroed block.
pub(crate) fn place_symbols(shape: BlockShape, block: &mut [u8], i: usize, symbols: &[u8]) {
    match shape.kind {
        CodeKind::Chain => {
            for (plane, &s) in block.chunks_exact_mut(16).zip(symbols) {
                put_nibble(plane, i, s);
            }
        }
        CodeKind::Pq8 => {
            for (t, &s) in symbols.iter().enumerate() {
                block[t * BLOCK + i] = s;
            }
        }
    }
}

/// Puts one row's side nibbles into place `i` of a zeroed block.
pub(crate) fn place_side(shape: BlockShape, block: &mut [u8], i: usize, nibbles: &[u8]) {
    for (plane, &v) in block[shape.side_at()..].chunks_exact_mut(16).zip(nibbles) {
        put_nibble(plane, i, v);
    }
}
