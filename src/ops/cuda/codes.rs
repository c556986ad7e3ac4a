//! Codes on the device, laid out for scanning (cuda/score.cu).

use std::ops::Deref;

use bytemuck::{NoUninit, Zeroable};

use super::{buffer::Buffer, device::Device, images::SCORE, launch::Arg};
use crate::{
    error::Error,
    format::{row_ids::RowIds, rows::BLOCK},
    model::Model,
    ops::types::CodesRef,
};

/// Words that a search reads ahead, past the last ones too (cuda/score.cu).
const AHEAD: usize = 8;
/// Bytes of blocks that are sent at a time.
const CHUNK: usize = 64 << 20;

/// As the kernels have it.
#[repr(C)]
#[derive(Clone, Copy, NoUninit, Zeroable)]
pub(super) struct CodesArg {
    words: u64,
    first_cells: u64,
    cells: u64,
    charts: u64,
    factors: u64,
    weights: u64,
    gains: u64,
    n: u64,
    symbols: i32,
    side_nibbles: i32,
    group_words: i32,
    alphabet: i32,
    cell_count: i32,
    squared: i32,
    factor_nibbles: i32,
    unused: i32,
}

/// Codes that are searched: what has been loaded, and what stays on the host.
pub(super) struct Codes<'a> {
    pub(super) labels: RowIds<'a>,
    pub(super) model: &'a Model,
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
    chart_count: usize,
    pub(super) symbols: usize,
    pub(super) alphabet: usize,
    words: Buffer<u32>,
    first_cells: Buffer<u32>,
    cells: Buffer<u64>,
    charts: Buffer<u8>,
    factors: Option<Buffer<f32>>,
    weights: Option<Buffer<f32>>,
    gains: Buffer<f32>,
    side_nibbles: usize,
    factor_nibbles: usize,
    group_words: usize,
    squared: bool,
}

impl Loaded {
    pub(super) fn new(device: &Device, codes: &CodesRef<'_>) -> Result<Loaded, Error> {
        let (shape, cells) = (codes.shape, codes.labels.cells);
        let n = cells.last().copied().unwrap_or(0);
        if n > u64::from(u32::MAX) {
            return Err(Error::Config(format!(
                "{n} rows: a CUDA device searches up to {}; use --backend cpu",
                u32::MAX
            )));
        }
        let n = n as usize;
        let groups = n.div_ceil(BLOCK);
        let group_words = shape.row_words();
        let words: Buffer<u32> = device.alloc((groups * group_words + AHEAD) * BLOCK)?;
        let bytes = shape.bytes();
        let each = (CHUNK / bytes.max(1)).max(1);
        let mut staged = device.alloc::<u8>(each.min(groups) * bytes)?;
        for (part, blocks) in codes.blocks.chunks((each * bytes).max(1)).enumerate() {
            device.upload_at(blocks, &mut staged, 0)?;
            let count = blocks.len() / bytes.max(1);
            let args = [
                Arg::from(&staged),
                Arg::from(count as u32),
                Arg::from(bytes as i32),
                Arg::from(shape.symbols as i32),
                Arg::from(shape.side_nibbles as i32),
                Arg::from(codes.alphabet as i32),
                Arg::from(group_words as i32),
                Arg::from((part * each) as u64),
                Arg::from(&words),
            ];
            device.launch(SCORE, "lay_out", [count.div_ceil(8) as u32, 1, 1], 256, 0, &args)?;
        }
        let loaded = Loaded {
            n,
            cell_count: cells.len() - 1,
            chart_count: codes.model.charts.len(),
            symbols: shape.symbols,
            alphabet: codes.alphabet,
            words,
            first_cells: device.alloc(groups)?,
            cells: device.upload(cells)?,
            charts: device.upload(codes.anchor_chart)?,
            factors: (!codes.factors.is_empty()).then(|| device.upload(codes.factors)).transpose()?,
            weights: (!codes.weights.is_empty()).then(|| device.upload(codes.weights)).transpose()?,
            gains: device.upload(codes.gains)?,
            side_nibbles: shape.side_nibbles,
            factor_nibbles: codes.factor_nibbles(),
            group_words,
            squared: codes.squared,
        };
        let args = [
            Arg::from(&loaded.cells),
            Arg::from(loaded.cell_count() as i32),
            Arg::from(groups as u32),
            Arg::from(&loaded.first_cells),
        ];
        device.launch(SCORE, "find_cells", [groups.div_ceil(256).min(1024) as u32, 1, 1], 256, 0, &args)?;
        device.synchronize()?;
        Ok(loaded)
    }

    /// With what of them stays on the host.
    pub(super) fn of<'a>(&'a self, codes: &CodesRef<'a>) -> Codes<'a> {
        Codes { labels: codes.labels, model: codes.model, loaded: self }
    }

    pub(super) fn cell_count(&self) -> usize {
        self.cell_count
    }

    pub(super) fn groups(&self) -> usize {
        self.n.div_ceil(BLOCK)
    }

    pub(super) fn charts(&self) -> usize {
        self.chart_count
    }

    pub(super) fn arg(&self) -> CodesArg {
        CodesArg {
            words: self.words.pointer(),
            first_cells: self.first_cells.pointer(),
            cells: self.cells.pointer(),
            charts: self.charts.pointer(),
            factors: self.factors.as_ref().map_or(0, Buffer::pointer),
            weights: self.weights.as_ref().map_or(0, Buffer::pointer),
            gains: self.gains.pointer(),
            n: self.n as u64,
            symbols: self.symbols as i32,
            side_nibbles: self.side_nibbles as i32,
            group_words: self.group_words as i32,
            alphabet: self.alphabet as i32,
            cell_count: self.cell_count() as i32,
            squared: i32::from(self.squared),
            factor_nibbles: self.factor_nibbles as i32,
            unused: 0,
        }
    }
}
