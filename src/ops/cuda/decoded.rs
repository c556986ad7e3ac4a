//! Batches of queries on the tensor cores: rows are decoded a slab at a time and multiplied with all queries at once. What
//! rounding to 16 bits can have moved a score by is added to it, so that no row is passed over that would reach its query's
//! threshold; the few that seem to are scored by tables.

use bytemuck::NoUninit;

use super::{
    buffer::Buffer,
    codes::Codes,
    device::Device,
    images::SCORE,
    launch::Arg,
    lists::{Lists, Queries, score_listed},
    rows::{LEFT, PANEL_K, PANEL_ROW, RIGHT, panels},
    tile::{Tier, TileShape},
};
use crate::{error::Error, matrix::Mat};

/// Queries and rows from which decoding pays.
const QUERIES: usize = 32;
const ROWS: usize = 1 << 16;
/// Rows that a query's list has room for.
const CAPACITY: usize = 32_768;
/// Tiles of rows of a slab, for each processor: four rows for each thread that decodes. Smaller slabs would stay in the cache, but
/// every block that decodes one has to bring the tables first: with an eighth of this a batch took twice as long.
const SLAB_TILES: usize = 16;
/// Threads of a block that decodes, at most, and bytes of shared memory for each: a row of a panel, and two more.
const DECODERS: usize = 1024;
const STAGED: usize = 2 * (PANEL_K + 2);
/// What the sums of tables are off by, of the product of the lengths.
const TABLES_OFF: f32 = 4e-5;

#[repr(C)]
#[derive(Clone, Copy, NoUninit)]
struct SlabArg {
    tables: u64,
    offsets: u64,
    anchors: u64,
    lags: i32,
    active: i32,
    chart: i32,
    panels: i32,
    scale: f32,
    one: f32,
    unit: f32,
    _pad0: u32,
    first: u64,
    count: u32,
    slack: f32,
    left: u64,
    lines: u64,
    chosen: u64,
}

/// Queries up to a whole panel.
pub(super) fn padded(queries: usize) -> usize {
    queries.next_multiple_of(RIGHT)
}

/// That decoding pays, and how.
pub(super) struct Plan {
    /// Of each chart.
    shapes: Vec<TileShape>,
}

impl Plan {
    pub(super) fn new(device: &Device, codes: &Codes<'_>, queries: &Queries<'_>) -> Option<Plan> {
        if queries.count < QUERIES || queries.groups.rows(codes) < ROWS {
            return None;
        }
        let tier = Tier::of(device);
        let shape = |active: usize| TileShape::new(tier, device.shared_limit() as usize, panels(active + 1));
        let shapes = codes.model.charts.iter().map(|chart| shape(chart.active())).collect::<Option<_>>()?;
        Some(Plan { shapes })
    }
}

/// Lists the rows of every chart that reach the thresholds; says for which queries there were too many.
pub(super) fn list(
    device: &Device,
    codes: &Codes<'_>,
    queries: &Queries<'_>,
    lists: &Lists,
    plan: &Plan,
) -> Result<Vec<bool>, Error> {
    let positions: Buffer<u32> = device.alloc(queries.count * CAPACITY)?;
    let mut crowded = vec![false; queries.count];
    for (chart, shape) in plan.shapes.iter().enumerate() {
        let counts: Buffer<u32> = device.zeros(queries.count)?;
        list_chart(device, codes, queries, lists, (chart, shape), (&counts, &positions))?;
        score_listed(device, codes, queries, lists, (&counts, &positions, CAPACITY))?;
        let counts = device.download(&counts)?;
        crowded.iter_mut().zip(counts).for_each(|(crowded, c)| *crowded |= c as usize > CAPACITY);
    }
    Ok(crowded)
}

fn list_chart(
    device: &Device,
    codes: &Codes<'_>,
    queries: &Queries<'_>,
    lists: &Lists,
    (number, shape): (usize, &TileShape),
    (counts, positions): (&Buffer<u32>, &Buffer<u32>),
) -> Result<(), Error> {
    let chart = &codes.model.charts[number];
    let (code, active) = (&chart.code, chart.active());
    let mut anchors = Mat::zeros(codes.cell_count(), active);
    for (cell, coordinates) in codes.model.anchor_coordinates().iter().enumerate() {
        if usize::from(codes.model.anchor_chart[cell]) == number {
            anchors.row_mut(cell).copy_from_slice(coordinates);
        }
    }
    let offsets: Vec<u32> = code.offsets().into_iter().map(|at| at as u32).collect();
    let largest = largest_value(&anchors, code);
    let scale = scale_of(largest);
    // The value that the constant of a query is multiplied by: as large as any.
    let one = 16_384.0 / scale;
    let right = Right::new(device, codes, queries, number, &anchors, one)?;
    let tables = device.upload(&code.tables)?;
    let offsets = device.upload(&offsets)?;
    let anchors = device.upload(anchors.as_slice())?;
    let panels = panels(active + 1);
    let slab = SLAB_TILES * LEFT * device.processors() as usize;
    let left: Buffer<u8> = device.alloc(slab * panels * PANEL_ROW)?;
    let lines: Buffer<[f32; 2]> = device.alloc(slab)?;
    let unit = 1.0 / (scale * right.scale);
    // Products of 16 are added at a time, and what is below the last bit is cut off.
    let sums = (panels * PANEL_K / 8 + 4) as f32 * f32::EPSILON + TABLES_OFF;
    let decoder = Decoder::new(device.shared_limit() as usize, 4 * code.tables.len());
    let rows = queries.groups.rows(codes);
    for first in (0..rows).step_by(slab) {
        let count = slab.min(rows - first);
        let arg = SlabArg {
            tables: tables.pointer(),
            offsets: offsets.pointer(),
            anchors: anchors.pointer(),
            lags: code.lags as i32,
            active: active as i32,
            chart: number as i32,
            panels: panels as i32,
            scale,
            one,
            unit,
            _pad0: 0,
            first: first as u64,
            count: count as u32,
            // A row loses at most 2^-11 of its length to rounding.
            slack: 1.002 * unit * (right.lost + (sums + 1.0 / 2048.0) * right.kept),
            left: left.pointer(),
            lines: lines.pointer(),
            chosen: queries.groups.pointer(),
        };
        let args = [Arg::of(&codes.arg()), Arg::of(&arg)];
        let at_once = (2048 / decoder.threads).max(1) * device.processors() as usize;
        let blocks = count.next_multiple_of(LEFT).div_ceil(decoder.threads).min(at_once) as u32;
        device.launch(SCORE, decoder.kernel, [blocks, 1, 1], decoder.threads as u32, decoder.bytes as u32, &args)?;
        let args = [
            Arg::of(&arg),
            Arg::from(&right.panels),
            Arg::from((padded(queries.count) / RIGHT) as i32),
            Arg::from(shape.stages as i32),
            Arg::from(i32::from(shape.resident)),
            Arg::from(&lists.thresholds),
            Arg::from(counts),
            Arg::from(positions),
            Arg::from(CAPACITY as u32),
        ];
        let blocks = count.div_ceil(LEFT).min(device.processors() as usize) as u32;
        device.launch(SCORE, "above", [blocks, 1, 1], shape.threads, shape.shared_bytes, &args)?;
    }
    Ok(())
}

/// How rows are decoded: by as many threads as shared memory has room for beside the tables, or without those.
struct Decoder {
    threads: usize,
    kernel: &'static str,
    bytes: usize,
}

impl Decoder {
    fn new(shared_limit: usize, table_bytes: usize) -> Decoder {
        let room = shared_limit.saturating_sub(1024);
        let threads = [DECODERS, DECODERS / 2, DECODERS / 4].into_iter();
        match threads.clone().find(|threads| threads * STAGED + table_bytes <= room) {
            Some(threads) => Decoder { threads, kernel: "decode_shared", bytes: threads * STAGED + table_bytes },
            None => Decoder { threads: DECODERS / 4, kernel: "decode_general", bytes: DECODERS / 4 * STAGED },
        }
    }
}

/// No decoded value is larger.
fn largest_value(anchors: &Mat, code: &crate::model::Code) -> f32 {
    let mut largest = 0f32;
    for v in 0..anchors.dim() {
        let anchor = (0..anchors.rows()).fold(0f32, |m, k| m.max(anchors.row(k)[v].abs()));
        let tables = code.tables[v * code.entries()..(v + 1) * code.entries()].chunks_exact(code.alphabet());
        largest = largest.max(anchor + tables.map(|t| t.iter().fold(0f32, |m, x| m.max(x.abs()))).sum::<f32>());
    }
    largest
}

/// The power of two that brings a largest magnitude to [2^14, 2^15), as panel_scale in cuda/panel.cuh.
fn scale_of(largest: f32) -> f32 {
    if !(largest > 0.0 && largest.is_finite()) {
        return 1.0;
    }
    let exponent = (largest.to_bits() >> 23 & 255) as i32 - 127;
    2f32.powi((14 - exponent).clamp(-126, 126))
}

/// Queries as right operand.
struct Right {
    panels: Buffer<u8>,
    scale: f32,
    /// The largest length of a query's 16-bit values, and of what rounding took away.
    kept: f32,
    lost: f32,
}

impl Right {
    fn new(
        device: &Device,
        codes: &Codes<'_>,
        queries: &Queries<'_>,
        number: usize,
        anchors: &Mat,
        one: f32,
    ) -> Result<Right, Error> {
        let rotated = &queries.host.rotated[number];
        let active = rotated.dim();
        // What a query adds to every score of the chart: what is left of a base without the anchor's part.
        let member = codes.model.anchor_chart.iter().position(|&c| usize::from(c) == number).unwrap_or(0);
        let constant = |q: usize| {
            let at: f64 =
                rotated.row(q).iter().zip(anchors.row(member)).map(|(x, a)| f64::from(*x) * f64::from(*a)).sum();
            ((f64::from(queries.host.bases.row(q)[member]) - at) / f64::from(one)) as f32
        };
        let constants: Vec<f32> = (0..queries.count).map(constant).collect();
        let largest = rotated.as_slice().iter().chain(&constants).fold(0f32, |m, x| m.max(x.abs()));
        let scale = scale_of(largest);
        let panels = panels(active + 1);
        let out: Buffer<u8> = device.alloc(padded(queries.count) * panels * PANEL_ROW)?;
        let lengths: Buffer<[f32; 2]> = device.alloc(padded(queries.count))?;
        let (values, of_constants) = (device.upload(rotated.as_slice())?, device.upload(&constants)?);
        let args = [
            Arg::from(&values),
            Arg::from(&of_constants),
            Arg::from(queries.count as u32),
            Arg::from(active as i32),
            Arg::from(panels as i32),
            Arg::from(scale),
            Arg::from(&out),
            Arg::from(&lengths),
        ];
        let blocks = (padded(queries.count) / 8) as u32;
        device.launch(SCORE, "pack_queries", [blocks, 1, 1], 256, 0, &args)?;
        let lengths = device.download(&lengths)?;
        let most = |i: usize| lengths.iter().fold(0f32, |m, l| m.max(l[i]));
        Ok(Right { panels: out, scale, kept: most(0), lost: most(1) })
    }
}
