//! The nearest anchors of rows: in f32, one candidate after the other, each the lowest above the last.

use super::{
    buffer::{Bind, Buffer},
    device::Device,
    error::failure,
    kernel::{ITERATIONS, Kernel, Source, source},
    project::SIDE,
    rows::{GROUPS, MOST_GROUPS, Rows},
};
use crate::{
    error::Error,
    ops::{
        layout::{AssignParams, SettleParams},
        types::Assignments,
    },
};

static WIDE: Source = source!("shared/four_wide", "shared/tile", "shared/product", "assign");
static NARROW: Source = source!("shared/four_narrow", "shared/tile", "shared/product", "assign");
static SETTLE: Source = source!("assign_settle");

const HALF_LENGTHS: Kernel = Kernel { source: &SETTLE, entry: "half_lengths", constants: &[] };
const ONE_OF_SPLITS: Kernel = Kernel { source: &SETTLE, entry: "settle", constants: &[] };
const DISTANCES: Kernel = Kernel { source: &SETTLE, entry: "distances", constants: &[] };
const ENERGY: Kernel = Kernel { source: &SETTLE, entry: "energy", constants: &[] };
#[cfg(test)]
pub(super) static KERNELS: &[&Kernel] = &[
    &HALF_LENGTHS,
    &ONE_OF_SPLITS,
    &DISTANCES,
    &ENERGY,
    &search(&WIDE, false),
    &search(&WIDE, true),
    &search(&NARROW, false),
    &search(&NARROW, true),
];

/// The search for the nearest, or for the next after it.
const fn search(source: &'static Source, next: bool) -> Kernel {
    Kernel { source, entry: "nearest", constants: if next { &[("NEXT", 1.0)] } else { &[("NEXT", 0.0)] } }
}

/// Tiles that fill a device: with fewer tiles of rows the anchors are split.
const FILL: usize = 512;
/// Columns of a step of a product (shaders/shared/product.wgsl).
const DEPTH: usize = 8;
/// Rows of a group that measures distances, and invocations for each (shaders/assign_settle.wgsl).
const GROUP_ROWS: usize = 8;
const LANES: usize = 32;
/// Numbers of anchors go through f32.
const MOST_ANCHORS: usize = 1 << 24;

/// What was found, on the device.
pub(crate) struct Assigned {
    /// n x candidates.
    pub(super) labels: Buffer<u32>,
    /// Of the nearest.
    pub(super) distances: Buffer<f32>,
    pub(super) n: usize,
    pub(super) candidates: usize,
}

pub(super) fn assign(device: &Device, rows: &Rows, anchors: &Rows, candidates: usize) -> Result<Assigned, Error> {
    let n = rows.n;
    if anchors.n > MOST_ANCHORS {
        return Err(failure(format!("{} anchors are more than {MOST_ANCHORS}; use --backend cpu", anchors.n)));
    }
    let found = Assigned { labels: device.alloc(n * candidates)?, distances: device.alloc(n)?, n, candidates };
    if n == 0 {
        return Ok(found);
    }
    if rows.dim == 0 {
        // Without columns every anchor is as near: the first ones are taken. New buffers are zero.
        let labels: Vec<u32> = (0..n).flat_map(|_| 0..candidates as u32).collect();
        return Ok(Assigned { labels: device.upload(&labels)?, ..found });
    }
    let half = half_lengths(device, anchors)?;
    let splits = Splits::new(device, rows, anchors);
    let records: Buffer<[u32; 2]> = device.alloc(splits.count * n)?;
    let floors: Buffer<[u32; 2]> = device.alloc(n)?;
    for candidate in 0..candidates {
        nearest(device, rows, anchors, &half, &splits, (&floors, &records), candidate > 0)?;
        let params = SettleParams {
            splits: splits.count as u32,
            all_rows: n as u32,
            candidate: candidate as u32,
            candidates: candidates as u32,
            ..bytemuck::Zeroable::zeroed()
        };
        let groups = [n.div_ceil(256).min(GROUPS) as u32, 1, 1];
        device.launch(&ONE_OF_SPLITS, groups, &params, &[(3, &records), (4, &found.labels), (5, &floors)])?;
    }
    distances(device, rows, anchors, &found)?;
    Ok(found)
}

/// How the anchors are shared out: each part of them to so many groups.
struct Splits {
    /// Anchors of a split, but for the last of a part.
    each: usize,
    count: usize,
}

impl Splits {
    fn new(device: &Device, rows: &Rows, anchors: &Rows) -> Splits {
        let tiles = anchors.n.div_ceil(SIDE);
        // There is a record for each split of each row.
        let room = device.binding_limit() / size_of::<[u32; 2]>() / rows.n;
        let wanted = FILL.div_ceil(rows.n.div_ceil(SIDE)).min(room).clamp(1, tiles);
        let most = (ITERATIONS / (rows.dim / DEPTH + 3)).max(1);
        let each = tiles.div_ceil(wanted).min(most) * SIDE;
        Splits { each, count: anchors.parts().map(|part| part.count.div_ceil(each)).sum() }
    }
}

/// Of every row and split the lowest score, above the row's floor where it is the next candidate that is looked for.
fn nearest(
    device: &Device,
    rows: &Rows,
    anchors: &Rows,
    half: &Buffer<f32>,
    splits: &Splits,
    (floors, records): (&Buffer<[u32; 2]>, &Buffer<[u32; 2]>),
    next: bool,
) -> Result<(), Error> {
    let d = rows.dim;
    let kernel = search(if d.is_multiple_of(4) { &WIDE } else { &NARROW }, next);
    let mut split0 = 0;
    for some in anchors.parts() {
        let its_splits = some.count.div_ceil(splits.each);
        for part in rows.parts() {
            device.paced(&kernel, part.count, SIDE, (some.count * d) as f64, |range| {
                let params = AssignParams {
                    row0: range.start as u32,
                    rows: range.len() as u32,
                    first: (part.first + range.start) as u32,
                    d: d as u32,
                    anchors: some.count as u32,
                    each: splits.each as u32,
                    all_rows: rows.n as u32,
                    split0: split0 as u32,
                    anchor0: some.first as u32,
                    ..bytemuck::Zeroable::zeroed()
                };
                let groups = [range.len().div_ceil(SIDE) as u32, its_splits as u32, 1];
                let bindings: [(u32, &dyn Bind); 5] =
                    [(1, part.values), (2, some.values), (3, half), (4, floors), (5, records)];
                device.launch(&kernel, groups, &params, &bindings)
            })?;
        }
        split0 += its_splits;
    }
    Ok(())
}

fn half_lengths(device: &Device, anchors: &Rows) -> Result<Buffer<f32>, Error> {
    let out = device.alloc(anchors.n)?;
    for part in anchors.parts() {
        let params = SettleParams {
            d: anchors.dim as u32,
            anchor0: part.first as u32,
            anchors: part.count as u32,
            ..bytemuck::Zeroable::zeroed()
        };
        let groups = [part.count.div_ceil(GROUP_ROWS) as u32, 1, 1];
        device.launch(&HALF_LENGTHS, groups, &params, &[(2, part.values), (6, &out)])?;
    }
    Ok(out)
}

fn distances(device: &Device, rows: &Rows, anchors: &Rows, found: &Assigned) -> Result<(), Error> {
    for some in anchors.parts() {
        for part in rows.parts() {
            for row0 in (0..part.count).step_by(MOST_GROUPS * GROUP_ROWS) {
                let count = (part.count - row0).min(MOST_GROUPS * GROUP_ROWS);
                let params = SettleParams {
                    row0: row0 as u32,
                    rows: count as u32,
                    first: (part.first + row0) as u32,
                    d: rows.dim as u32,
                    candidates: found.candidates as u32,
                    anchor0: some.first as u32,
                    anchors: some.count as u32,
                    ..bytemuck::Zeroable::zeroed()
                };
                let groups = [count.div_ceil(GROUP_ROWS) as u32, 1, 1];
                device.launch(
                    &DISTANCES,
                    groups,
                    &params,
                    &[(1, part.values), (2, some.values), (4, &found.labels), (6, &found.distances)],
                )?;
            }
        }
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
        if self.n == 0 {
            return Ok(0.0);
        }
        let sums: Buffer<f32> = device.alloc(self.n.div_ceil(LANES))?;
        let params = SettleParams { all_rows: self.n as u32, ..bytemuck::Zeroable::zeroed() };
        let groups = [self.n.div_ceil(256).min(GROUPS) as u32, 1, 1];
        device.launch(&ENERGY, groups, &params, &[(6, &sums), (7, &self.distances)])?;
        Ok(device.download(&sums)?.iter().map(|&s| f64::from(s)).sum::<f64>() / self.n as f64)
    }
}
