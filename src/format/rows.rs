//! What is kept per row: labels with their inverse, and blocks of codes (docs/format.md, sections 8 and 9).

use super::{
    bits::unpack_one,
    header::{u32_at, u64_at},
};
use crate::CodeKind;

/// Positions in a block.
pub(crate) const BLOCK: usize = 32;
/// Every so many-th member of a cell has its row number stored.
pub(crate) const SELECT_STRIDE: usize = 128;

/// Bits that hold an anchor number: ceil(log2 anchors).
pub(crate) fn label_bits(anchors: usize) -> u8 {
    (usize::BITS - anchors.saturating_sub(1).leading_zeros()) as u8
}

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

/// The anchor of every row, and the way back from a position to its row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Labels<'a> {
    pub(crate) n: u64,
    pub(crate) bits: u8,
    /// Section `LABL`.
    pub(crate) packed: &'a [u8],
    /// Section `SLCT`.
    pub(crate) samples: &'a [u8],
    /// Section `CELL`, parsed.
    pub(crate) cells: &'a [u64],
    /// Number of samples before each cell.
    pub(crate) samples_before: &'a [u64],
}

impl Labels<'_> {
    /// Bytes of a sampled row number.
    pub(crate) fn sample_width(n: u64) -> usize {
        if n <= 1 << 32 { 4 } else { 8 }
    }

    /// The anchor of a row.
    #[inline]
    pub(crate) fn label(&self, row: u64) -> u32 {
        if self.bits == 8 {
            return self.packed[row as usize].into();
        }
        unpack_one(self.packed, self.bits, row as usize)
    }

    /// The cell that holds a position.
    pub(crate) fn cell_of(&self, position: u64) -> usize {
        self.cells.partition_point(|&start| start <= position) - 1
    }

    /// The row at a position. O(anchors x [`SELECT_STRIDE`]) labels are looked at on average.
    ///
    /// On a damaged file (whose labels and samples disagree) the answer is any row below n.
    pub(crate) fn row(&self, position: u64) -> u64 {
        let cell = self.cell_of(position);
        let member = position - self.cells[cell];
        let sample = (self.samples_before[cell] + member / SELECT_STRIDE as u64) as usize;
        let mut row = match Self::sample_width(self.n) {
            4 => u32_at(self.samples, 4 * sample).into(),
            _ => u64_at(self.samples, 8 * sample),
        };
        let mut ahead = member % SELECT_STRIDE as u64;
        while ahead > 0 && row + 1 < self.n {
            row += 1;
            if self.bits == 8 {
                // The common case, at the speed of memchr rather than of a loop over labels.
                let rest = &self.packed[row as usize..];
                match rest.iter().position(|&l| usize::from(l) == cell) {
                    Some(at) => row += at as u64,
                    None => break,
                }
                ahead -= 1;
            } else if self.label(row) as usize == cell {
                ahead -= 1;
            }
        }
        row.min(self.n - 1)
    }
}

/// Number of samples before each cell, from the cells' offsets; one more than there are cells.
pub(crate) fn samples_before(cells: &[u64]) -> Vec<u64> {
    let mut total = 0;
    let mut out = Vec::with_capacity(cells.len());
    out.push(0);
    for pair in cells.windows(2) {
        total += (pair[1] - pair[0]).div_ceil(SELECT_STRIDE as u64);
        out.push(total);
    }
    out
}
