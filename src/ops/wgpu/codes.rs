//! Codes on the device, laid out for scanning (shaders/score.wgsl), in parts that fit a binding.

use std::ops::Deref;

use bytemuck::Zeroable;
use rayon::prelude::*;

use super::{buffer::Buffer, device::Device};
use crate::{
    error::Error,
    format::{
        row_ids::RowIds,
        rows::{BLOCK, BlockShape},
    },
    model::kinds::CodeKind,
    ops::{layout::ScanParams, types::CodesRef},
};

/// Bytes of a part at most, where a binding may have more: on its way to the device it takes as much again on the host.
const PART: usize = 512 << 20;
/// Groups that are laid out in one go.
const RUN: usize = 256;
/// Factors that room is left for where there are fewer.
const FACTORS: usize = 16;

/// Codes that are searched: what has been loaded, and the row numbers, which stay on the host.
pub(super) struct Codes<'a> {
    pub(super) labels: RowIds<'a>,
    loaded: &'a Loaded,
}

impl Deref for Codes<'_> {
    type Target = Loaded;

    fn deref(&self) -> &Loaded {
        self.loaded
    }
}

/// Codes on the device.
pub(crate) struct Loaded {
    pub(super) n: usize,
    cell_count: usize,
    pub(super) symbols: usize,
    pub(super) alphabet: usize,
    pub(super) charts: usize,
    pub(super) parts: Vec<Part>,
    /// Where each cell starts, and n; the chart of each cell; factors; weights; gains.
    pub(super) store: Buffer<u32>,
    side_nibbles: usize,
    group_words: usize,
    factor_nibbles: usize,
    squared: bool,
}

/// Whole groups of [`BLOCK`] positions.
pub(super) struct Part {
    pub(super) first_group: usize,
    pub(super) groups: usize,
    pub(super) words: Buffer<u32>,
    /// Of each group: the cell of its first position.
    pub(super) first_cells: Buffer<u32>,
}

impl Loaded {
    pub(super) fn new(device: &Device, codes: &CodesRef<'_>) -> Result<Loaded, Error> {
        let (shape, cells) = (codes.shape, codes.labels.cells);
        let n = cells.last().copied().unwrap_or(0);
        if n > u64::from(u32::MAX) {
            return Err(Error::Config(format!(
                "{n} rows: a wgpu device searches up to {}; use --backend cpu",
                u32::MAX
            )));
        }
        let n = n as usize;
        let groups = n.div_ceil(BLOCK);
        let group_words = shape.row_words();
        // Keys of all positions of a part (4 bytes each) must fit a binding too.
        let each = (device.binding_limit().min(PART) / (4 * BLOCK * group_words.max(1))).max(1);
        let part = |first_group: usize| -> Result<Part, Error> {
            let count = each.min(groups - first_group);
            let blocks = &codes.blocks[first_group * shape.bytes()..(first_group + count) * shape.bytes()];
            let words = device.upload(&lay_out(shape, blocks, count))?;
            let first_cells = device.upload(&first_cells(&codes.labels, first_group, count))?;
            Ok(Part { first_group, groups: count, words, first_cells })
        };
        let parts = (0..groups).step_by(each).map(part).collect::<Result<_, _>>()?;
        let mut store: Vec<u32> = cells.iter().map(|&cell| cell as u32).collect();
        store.extend(codes.anchor_chart.iter().map(|&chart| u32::from(chart)));
        let levels = codes.factors.len().max(FACTORS);
        let filled =
            |table: &[f32]| table.iter().copied().chain(std::iter::repeat(1.0)).take(levels).collect::<Vec<_>>();
        let tables = [filled(codes.factors), filled(codes.weights), codes.gains.to_vec()];
        store.extend(tables.iter().flatten().map(|v| v.to_bits()));
        Ok(Loaded {
            n,
            cell_count: cells.len() - 1,
            symbols: shape.symbols,
            alphabet: codes.alphabet,
            charts: codes.model.charts.len(),
            parts,
            store: device.upload(&store)?,
            side_nibbles: shape.side_nibbles,
            group_words,
            factor_nibbles: codes.factor_nibbles(),
            squared: codes.squared,
        })
    }

    /// With the row numbers.
    pub(super) fn of<'a>(&'a self, codes: &CodesRef<'a>) -> Codes<'a> {
        Codes { labels: codes.labels, loaded: self }
    }

    pub(super) fn cell_count(&self) -> usize {
        self.cell_count
    }

    /// What the codes say of a scan's parameters.
    pub(super) fn params(&self) -> ScanParams {
        ScanParams {
            n: self.n as u32,
            symbols: self.symbols as u32,
            alphabet: self.alphabet as u32,
            group_words: self.group_words as u32,
            side_nibbles: self.side_nibbles as u32,
            cell_count: self.cell_count() as u32,
            charts: self.charts as u32,
            factor_nibbles: self.factor_nibbles as u32,
            squared: u32::from(self.squared),
            ..ScanParams::zeroed()
        }
    }
}

/// Words of `count` groups, from blocks as the file has them.
fn lay_out(shape: BlockShape, blocks: &[u8], count: usize) -> Vec<u32> {
    let (bytes, group) = (shape.bytes(), shape.row_words() * BLOCK);
    let mut words = vec![0u32; count * group];
    if group > 0 {
        let runs = words.par_chunks_mut(RUN * group).zip(blocks.par_chunks(RUN * bytes));
        runs.for_each(|(words, blocks)| {
            for (words, block) in words.chunks_exact_mut(group).zip(blocks.chunks_exact(bytes)) {
                lay_out_group(shape, block, words);
            }
        });
    }
    words
}

fn lay_out_group(shape: BlockShape, block: &[u8], words: &mut [u32]) {
    let (lines, _) = words.as_chunks_mut::<BLOCK>();
    match shape.kind {
        CodeKind::Chain => {
            for (t, plane) in block.as_chunks::<{ BLOCK / 2 }>().0.iter().enumerate() {
                add_nibbles(plane, 4 * (t % 8), &mut lines[t / 8]);
            }
        }
        CodeKind::Pq8 => {
            let (symbols, side) = block.split_at(shape.side_at());
            for (t, plane) in symbols.as_chunks::<BLOCK>().0.iter().enumerate() {
                for (word, &byte) in lines[t / 4].iter_mut().zip(plane) {
                    *word |= u32::from(byte) << (8 * (t % 4));
                }
            }
            let at = shape.symbols.div_ceil(4);
            for (s, plane) in side.as_chunks::<{ BLOCK / 2 }>().0.iter().enumerate() {
                add_nibbles(plane, 4 * s, &mut lines[at]);
            }
        }
    }
}

fn add_nibbles(plane: &[u8; BLOCK / 2], shift: usize, line: &mut [u32; BLOCK]) {
    let (low, high) = line.split_at_mut(BLOCK / 2);
    for ((low, high), &byte) in low.iter_mut().zip(high).zip(plane) {
        *low |= u32::from(byte & 15) << shift;
        *high |= u32::from(byte >> 4) << shift;
    }
}

/// The cells of the first positions of `count` groups.
fn first_cells(labels: &RowIds<'_>, first_group: usize, count: usize) -> Vec<u32> {
    let mut out = Vec::with_capacity(count);
    let mut cell = labels.cell_of((first_group * BLOCK) as u64);
    for group in first_group..first_group + count {
        let position = (group * BLOCK) as u64;
        while labels.cells[cell + 1] <= position {
            cell += 1;
        }
        out.push(cell as u32);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::rows::{place_side, place_symbols};

    #[test]
    fn words_hold_what_blocks_do() {
        for (kind, symbols, side_nibbles) in
            [(CodeKind::Chain, 0, 1), (CodeKind::Chain, 13, 4), (CodeKind::Pq8, 6, 4), (CodeKind::Pq8, 4, 0)]
        {
            let shape = BlockShape { kind, symbols, side_nibbles };
            let mut blocks = vec![0; 3 * shape.bytes()];
            let most = if kind == CodeKind::Chain { 16 } else { 256 };
            let symbol = |i: usize, t: usize| ((i * 7 + t * 5 + i * t) % most) as u8;
            let side = |i: usize, s: usize| ((i * 3 + s * 11) % 16) as u8;
            for (b, block) in blocks.chunks_exact_mut(shape.bytes()).enumerate() {
                for i in 0..BLOCK {
                    let row = b * BLOCK + i;
                    let symbols: Vec<u8> = (0..symbols).map(|t| symbol(row, t)).collect();
                    let sides: Vec<u8> = (0..side_nibbles).map(|s| side(row, s)).collect();
                    place_symbols(shape, block, i, &symbols);
                    place_side(shape, block, i, &sides);
                }
            }
            let words = lay_out(shape, &blocks, 3);
            let group_words = shape.row_words();
            for row in 0..3 * BLOCK {
                let word = |w: usize| words[(row / BLOCK * group_words + w) * BLOCK + row % BLOCK];
                let nibble = |t: usize| (word(t / 8) >> (4 * (t % 8)) & 15) as u8;
                for t in 0..symbols {
                    let found = match kind {
                        CodeKind::Chain => nibble(t),
                        CodeKind::Pq8 => (word(t / 4) >> (8 * (t % 4)) & 255) as u8,
                    };
                    assert_eq!(found, symbol(row, t), "{shape:?}, row {row}, symbol {t}");
                }
                for s in 0..side_nibbles {
                    let at = if kind == CodeKind::Chain { symbols } else { 8 * (group_words - 1) };
                    assert_eq!(nibble(at + s), side(row, s), "{shape:?}, row {row}, side nibble {s}");
                }
            }
        }
    }
}
