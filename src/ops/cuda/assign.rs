//! Nearest anchors: a fast pass on the tensor cores, another of two parts for the rows it left open, fp32 for the rest
//! (cuda/assign.cu).

use bytemuck::{NoUninit, Zeroable};

use super::{
    buffer::Buffer,
    device::Device,
    images::ASSIGN,
    launch::Arg,
    rows::{LEFT, PANEL_ROW, RIGHT, Rows},
    tile::{Tier, TileShape},
};
use crate::{error::Error, ops::types::Assignments};

/// Parts of an operand of two, one times the other (cuda/assign.cu).
const PARTS: usize = 3;
/// Rows and anchors of a tile in fp32.
const SIDE: usize = 128;
/// Candidates that the tensor cores look for; more are found in fp32, one after the other.
const MOST: usize = 2;
/// Of so many rows one is expected to be left open at most; more go to fp32.
const OPEN: usize = 8;
/// Rows whose distances a warp measures together.
const TOGETHER: usize = 4;
/// Distances that are summed by a block.
const SUMMED: usize = 8192;

/// What assign found.
pub(crate) struct Assigned {
    /// n x candidates.
    pub(super) labels: Buffer<u32>,
    pub(super) distances: Buffer<f32>,
    pub(super) n: usize,
    pub(super) candidates: usize,
}

/// What a pass over panels works with, as the kernels have it.
#[repr(C)]
#[derive(Clone, Copy, NoUninit, Zeroable)]
struct Pass {
    left: u64,
    right: u64,
    n: u32,
    _pad0: u32,
    list: u64,
    count: u64,
    split: i32,
    panels: i32,
    tiles: i32,
    tiles_each: i32,
    stages: i32,
    parts: i32,
    scales: u64,
    lengths: u64,
    half: u64,
    summary: u64,
    labels: u64,
    again: u64,
    again_count: u64,
    records: u64,
    padded: u32,
    _pad2: u32,
}

/// The anchors, made ready.
struct Anchors<'a> {
    rows: &'a Rows,
    /// Half the squared length of each.
    half: Buffer<f32>,
}

/// Rows whose labels are open: numbers, and how many there are, on the device.
struct List<'a> {
    rows: &'a Buffer<u32>,
    /// Of two counters, the one of this list.
    counters: &'a Buffer<u32>,
    at: usize,
}

pub(super) fn assign(device: &Device, rows: &Rows, anchors: &Rows, candidates: usize) -> Result<Assigned, Error> {
    let labels = device.alloc(rows.n * candidates)?;
    if rows.n == 0 {
        return Ok(Assigned { labels, distances: device.alloc(0)?, n: 0, candidates });
    }
    let half = device.alloc(anchors.n)?;
    let args =
        [Arg::from(&anchors.values), Arg::from(anchors.n as u32), Arg::from(anchors.dim as i32), Arg::from(&half)];
    device.launch(ASSIGN, "half_lengths", [anchors.n.div_ceil(8) as u32, 1, 1], 256, 0, &args)?;
    let ready = Anchors { rows: anchors, half };
    let shape = TileShape::new(Tier::of(device), device.shared_limit() as usize, rows.panels());
    match shape {
        Some(shape) if candidates <= MOST && anchors.n > candidates && rows.dim > 0 => {
            by_tensor_cores(device, rows, &ready, candidates, shape, &labels)?;
        }
        _ => exact(device, rows, &ready, candidates, None, &labels)?,
    }
    let distances = device.alloc(rows.n)?;
    let args = [
        Arg::from(&rows.values),
        Arg::from(rows.n as u32),
        Arg::from(rows.dim as i32),
        Arg::from(&anchors.values),
        Arg::from(&labels),
        Arg::from(candidates as i32),
        Arg::from(&distances),
    ];
    device.launch(ASSIGN, "distances", [rows.n.div_ceil(8 * TOGETHER) as u32, 1, 1], 256, 0, &args)?;
    Ok(Assigned { labels, distances, n: rows.n, candidates })
}

fn by_tensor_cores(
    device: &Device,
    rows: &Rows,
    anchors: &Anchors<'_>,
    candidates: usize,
    shape: TileShape,
    labels: &Buffer<u32>,
) -> Result<(), Error> {
    let (count, panels) = (anchors.rows.n, rows.panels());
    let padded = count.next_multiple_of(RIGHT);
    let left = rows.left(device)?;
    let summary = device.zeros::<u32>(8)?;
    let right: Buffer<u8> = device.alloc(padded * panels * PANEL_ROW)?;
    let split_right: Buffer<u8> = device.alloc(padded * PARTS * panels * PANEL_ROW)?;
    let scaled: Buffer<f32> = device.alloc(padded)?;
    let args = [Arg::from(&anchors.rows.values), Arg::from((count * rows.dim) as u64), Arg::from(&summary)];
    device.launch(ASSIGN, "largest", [2 * device.processors(), 1, 1], 256, 0, &args)?;
    let args = [
        Arg::from(&anchors.rows.values),
        Arg::from(count as u32),
        Arg::from(padded as u32),
        Arg::from(rows.dim as i32),
        Arg::from(panels as i32),
        Arg::from(&right),
        Arg::from(&split_right),
        Arg::from(&anchors.half),
        Arg::from(&scaled),
        Arg::from(&summary),
    ];
    device.launch(ASSIGN, "pack_anchors", [(padded / 8) as u32, 1, 1], 256, 0, &args)?;

    let counters = device.zeros::<u32>(2)?;
    let (open, still_open) = (device.alloc::<u32>(rows.n)?, device.alloc::<u32>(rows.n)?);
    let (open_at, still_open_at) = (counters.pointer(), counters.pointer() + 4);
    let first = Pass {
        left: left.panels.pointer(),
        right: right.pointer(),
        n: rows.n as u32,
        panels: panels as i32,
        tiles: (padded / RIGHT) as i32,
        scales: left.scales.pointer(),
        lengths: left.lengths.pointer(),
        half: scaled.pointer(),
        summary: summary.pointer(),
        labels: labels.pointer(),
        again: open.pointer(),
        again_count: open_at,
        ..Pass::zeroed()
    };
    run(device, first, candidates, shape, rows.n)?;

    // Rows left open, with operands of two parts: a thousand times as exact, for a few in a hundred.
    let capacity = (rows.n / OPEN + 1).next_multiple_of(LEFT);
    let split_left: Buffer<u8> = device.alloc(capacity * PARTS * panels * PANEL_ROW)?;
    let (scales, lengths) = (device.alloc::<f32>(capacity)?, device.alloc::<f32>(3 * capacity)?);
    let args = [
        Arg::from(&rows.values),
        Arg::from(rows.n as u32),
        Arg::from(rows.dim as i32),
        Arg::from(panels as i32),
        Arg::from(&open),
        Arg::from(open_at),
        Arg::from(capacity as u32),
        Arg::from(&split_left),
        Arg::from(&scales),
        Arg::from(&lengths),
        Arg::from(&still_open),
        Arg::from(still_open_at),
    ];
    device.launch(ASSIGN, "pack_rows_split", [8 * device.processors(), 1, 1], 256, 0, &args)?;
    let split_shape = TileShape::new(Tier::of(device), device.shared_limit() as usize, PARTS * panels);
    let second = Pass {
        left: split_left.pointer(),
        right: split_right.pointer(),
        n: capacity as u32,
        list: open.pointer(),
        count: open_at,
        split: 1,
        panels: (PARTS * panels) as i32,
        scales: scales.pointer(),
        lengths: lengths.pointer(),
        again: still_open.pointer(),
        again_count: still_open_at,
        ..first
    };
    run(device, second, candidates, split_shape.unwrap_or(shape), rows.n / 32)?;
    exact(device, rows, anchors, candidates, Some(List { rows: &still_open, counters: &counters, at: 1 }), labels)
}

/// Runs a pass of about `expected` rows, each shared by several blocks where there are fewer tiles than processors.
fn run(device: &Device, mut pass: Pass, candidates: usize, shape: TileShape, expected: usize) -> Result<(), Error> {
    let processors = device.processors() as usize;
    let padded = (pass.n as usize).next_multiple_of(LEFT);
    let (row_tiles, tiles) = (expected.div_ceil(LEFT).max(1), pass.tiles as usize);
    let splits = (2 * processors).div_ceil(row_tiles).min(tiles.div_ceil(4)).max(1);
    let each = tiles.div_ceil(splits);
    let splits = tiles.div_ceil(each);
    pass.tiles_each = each as i32;
    pass.stages = shape.stages as i32;
    pass.padded = padded as u32;
    let parts = splits * shape.parts;
    pass.parts = parts as i32;
    // A record is a score and a number for each candidate, and a score more.
    let records = (parts > 1).then(|| device.alloc::<u32>(parts * padded * (1 + 2 * candidates))).transpose()?;
    pass.records = records.as_ref().map_or(0, Buffer::pointer);
    let name = match (shape.resident, candidates) {
        (true, 1) => "nearest_resident_1",
        (true, _) => "nearest_resident_2",
        (false, 1) => "nearest_streamed_1",
        (false, _) => "nearest_streamed_2",
    };
    let blocks = (padded / LEFT * parts).min(processors) as u32;
    device.launch(ASSIGN, name, [blocks, 1, 1], shape.threads, shape.shared_bytes, &[Arg::of(&pass)])?;
    if parts > 1 {
        let join = if candidates == 1 { "join_1" } else { "join_2" };
        device.launch(ASSIGN, join, [2 * device.processors(), 1, 1], 256, 0, &[Arg::of(&pass)])?;
    }
    Ok(())
}

/// The candidates of all rows, or of those of a list, in fp32, one after the other.
fn exact(
    device: &Device,
    rows: &Rows,
    anchors: &Anchors<'_>,
    candidates: usize,
    list: Option<List<'_>>,
    labels: &Buffer<u32>,
) -> Result<(), Error> {
    let (numbers, count) = match &list {
        Some(list) => (Arg::from(list.rows), Arg::from(list.counters.pointer() + 4 * list.at as u64)),
        None => (Arg::null(), Arg::null()),
    };
    let keys: Buffer<u64> = device.alloc(rows.n)?;
    device.fill(&keys, 0xFF)?;
    let floors: Buffer<u64> = device.alloc(rows.n)?;
    let row_tiles = rows.n.div_ceil(SIDE);
    let tiles = anchors.rows.n.div_ceil(SIDE);
    // Few rows are listed; a few blocks for each tile of anchors do.
    let blocks = if list.is_some() { row_tiles.min(64) } else { row_tiles };
    let wanted = if list.is_some() { 32 } else { (2 * device.processors() as usize).div_ceil(row_tiles) };
    let per_block = tiles.div_ceil(wanted.clamp(1, tiles)) * SIDE;
    let grid = [blocks as u32, anchors.rows.n.div_ceil(per_block) as u32, 1];
    for c in 0..candidates {
        let args = [
            Arg::from(&rows.values),
            Arg::from(rows.dim as i32),
            numbers,
            count,
            Arg::from(rows.n as u32),
            Arg::from(&anchors.rows.values),
            Arg::from(anchors.rows.n as u32),
            Arg::from(per_block as u32),
            Arg::from(&anchors.half),
            Arg::from(&floors),
            Arg::from(&keys),
        ];
        device.launch(ASSIGN, if c == 0 { "exact_first" } else { "exact_next" }, grid, 256, 0, &args)?;
        let args = [
            numbers,
            count,
            Arg::from(rows.n as u32),
            Arg::from(c as i32),
            Arg::from(candidates as i32),
            Arg::from(&keys),
            Arg::from(&floors),
            Arg::from(labels),
        ];
        let blocks = rows.n.div_ceil(256).min(2 * device.processors() as usize);
        device.launch(ASSIGN, "settle", [blocks as u32, 1, 1], 256, 0, &args)?;
    }
    Ok(())
}

impl Assigned {
    pub(super) fn download(&self, device: &Device) -> Result<Assignments, Error> {
        Ok(Assignments {
            labels: device.download(&self.labels)?,
            distances: device.download(&self.distances)?,
            candidates: self.candidates,
        })
    }

    pub(super) fn energy(&self, device: &Device) -> Result<f64, Error> {
        let blocks = self.n.div_ceil(SUMMED);
        let sums: Buffer<f64> = device.alloc(blocks)?;
        let args = [Arg::from(&self.distances), Arg::from(self.n as u32), Arg::from(&sums)];
        device.launch(ASSIGN, "energy", [blocks as u32, 1, 1], 256, 0, &args)?;
        Ok(device.download(&sums)?.iter().sum::<f64>() / self.n.max(1) as f64)
    }
}
