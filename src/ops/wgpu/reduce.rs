//! Robust statistics of cells: rows sorted by cell (shaders/reduce_sort.wgsl), summed part by part in whole numbers (shaders/reduce.wgsl).

use super::{
    assign::Assigned,
    buffer::{Bind, Buffer},
    device::Device,
    kernel::{Kernel, Source, source},
    rows::{GROUPS, MOST_GROUPS, Part, Rows},
};
use crate::{
    error::Error,
    matrix::Mat,
    ops::{
        layout::{MaximaParams, MeansParams, PartsParams, PrefixParams, SortParams, StartsParams, SumsParams},
        types::Cells,
    },
};

/// Invocations of a workgroup, rows that one sorts, and values of a digit (shaders/reduce_sort.wgsl).
const THREADS: usize = 256;
const SORTED: usize = 2048;
const DIGITS: usize = 16;
/// Bits of a digit.
const DIGIT_BITS: usize = 4;
/// Fewest rows of a part.
const SHORTEST: usize = 32;
/// Bytes of the sums of parts, columns at a time where they take more.
const SCRATCH: usize = 64 << 20;
/// Invocations that look for the largest values.
const LANES: usize = 1 << 16;

static SORT: Source = source!("reduce_sort");
static REDUCE: Source = source!("reduce");
static COLUMN_MAXIMA: Kernel = kernel(&REDUCE, "column_maxima");
static SORT_COUNT: Kernel = kernel(&SORT, "sort_count");
static SORT_MOVE: Kernel = kernel(&SORT, "sort_move");
static PREFIX: Kernel = kernel(&SORT, "prefix");
static CELL_STARTS: Kernel = kernel(&SORT, "cell_starts");
static CELL_PARTS: Kernel = kernel(&SORT, "cell_parts");
static PART_SUMS: Kernel = kernel(&REDUCE, "part_sums");
static CELL_MEANS: Kernel = kernel(&REDUCE, "cell_means");
#[cfg(test)]
pub(super) static KERNELS: &[&Kernel] =
    &[&COLUMN_MAXIMA, &SORT_COUNT, &SORT_MOVE, &PREFIX, &CELL_STARTS, &CELL_PARTS, &PART_SUMS, &CELL_MEANS];

const fn kernel(source: &'static Source, entry: &'static str) -> Kernel {
    Kernel { source, entry, constants: &[] }
}

/// What reduce found.
pub(crate) struct Stats {
    pub(super) counts: Buffer<u32>,
    pub(super) means: Rows,
    /// Mean distance of each cell's rows.
    spreads: Rows,
}

/// Keys that rows are sorted by: one every `stride`.
struct Keys<'a> {
    values: &'a dyn Bind,
    stride: usize,
    bits: usize,
}

/// Which rows belong to each cell.
struct Sorted {
    /// The numbers of the rows by cell.
    order: Buffer<u32>,
    /// Where each cell starts there; the end of the last one more.
    starts: Buffer<u32>,
    n: usize,
    cells: usize,
}

/// How the rows of each cell are shared out.
struct Shares {
    /// Rows of each cell that count, the first in the order.
    sizes: Buffer<u32>,
    /// Parts before each cell; all of them at the end.
    parts: Buffer<u32>,
}

pub(super) fn reduce(
    device: &Device,
    rows: &Rows,
    assigned: &Assigned,
    cells: usize,
    trim: f32,
) -> Result<Stats, Error> {
    let n = assigned.n;
    let (means, spreads) = (Rows::zeros(device, cells, rows.dim)?, Rows::zeros(device, cells, 1)?);
    if n == 0 || cells == 0 {
        return Ok(Stats { counts: device.alloc(cells)?, means, spreads });
    }
    // No cell drops any row if one of all the rows would drop none.
    let trims = (f64::from(trim) * n as f64).floor() > 0.0;
    let sorted = Sorted::new(device, assigned, cells, trims)?;
    let all = sorted.shares(device, 0.0)?;
    let kept = if trims { Some(sorted.shares(device, trim)?) } else { None };
    if rows.dim > 0 {
        let maxima = rows.column_maxima(|| column_maxima(device, rows))?;
        let parts: Vec<Part<'_>> = rows.parts().collect();
        sorted.average(device, &parts, maxima, kept.as_ref().unwrap_or(&all), &means)?;
    }
    let farthest = device.alloc(1)?;
    raise_maxima(device, &assigned.distances, n, 1, &farthest)?;
    let distances = Part { first: 0, count: n, values: &assigned.distances };
    sorted.average(device, &[distances], &farthest, &all, &spreads)?;
    Ok(Stats { counts: all.sizes, means, spreads })
}

/// The largest value of each column but for its sign, as bits.
fn column_maxima(device: &Device, rows: &Rows) -> Result<Buffer<u32>, Error> {
    let maxima = device.alloc(rows.dim)?;
    for part in rows.parts() {
        raise_maxima(device, part.values, part.count, rows.dim, &maxima)?;
    }
    Ok(maxima)
}

fn raise_maxima(
    device: &Device,
    values: &Buffer<f32>,
    count: usize,
    dim: usize,
    maxima: &Buffer<u32>,
) -> Result<(), Error> {
    if dim == 0 {
        return Ok(());
    }
    let lanes = LANES.next_multiple_of(dim);
    device.paced(&COLUMN_MAXIMA, count, 1, dim as f64, |range| {
        let params = MaximaParams {
            first: (range.start * dim) as u32,
            count: (range.len() * dim) as u32,
            dim: dim as u32,
            lanes: lanes as u32,
        };
        let groups = [lanes.min(range.len() * dim).div_ceil(THREADS) as u32, 1, 1];
        device.launch(&COLUMN_MAXIMA, groups, &params, &[(10, values), (11, maxima)])
    })
}

/// The numbers of the rows, sorted by the last of the keys, equal ones by the one before, and so on, then by row.
fn sort(device: &Device, n: usize, keys: &[Keys<'_>]) -> Result<Buffer<u32>, Error> {
    let blocks = n.div_ceil(SORTED);
    let (mut order, mut next): (Buffer<u32>, Buffer<u32>) = (device.alloc(n)?, device.alloc(n)?);
    let counts: Buffer<u32> = device.alloc(DIGITS * blocks + 1)?;
    let mut unsorted = 1;
    for key in keys {
        for shift in (0..key.bits.max(1)).step_by(DIGIT_BITS) {
            let params = |range: std::ops::Range<usize>| SortParams {
                n: n as u32,
                stride: key.stride as u32,
                shift: shift as u32,
                blocks: blocks as u32,
                first: range.start as u32,
                count: range.len() as u32,
                unsorted,
                _pad0: 0,
            };
            let work = 8.0 * SORTED as f64;
            device.paced(&SORT_COUNT, blocks, 1, work, |range| {
                let bindings: [(u32, &dyn Bind); 3] = [(1, &order), (2, key.values), (3, &counts)];
                device.launch(&SORT_COUNT, grid(range.len()), &params(range), &bindings)
            })?;
            prefix(device, &counts, DIGITS * blocks)?;
            device.paced(&SORT_MOVE, blocks, 1, work, |range| {
                let bindings: [(u32, &dyn Bind); 4] = [(1, &order), (2, key.values), (3, &counts), (4, &next)];
                device.launch(&SORT_MOVE, grid(range.len()), &params(range), &bindings)
            })?;
            std::mem::swap(&mut order, &mut next);
            unsorted = 0;
        }
    }
    Ok(order)
}

/// Turns `count` values into the sums of those before each, followed by the sum of all.
fn prefix(device: &Device, values: &Buffer<u32>, count: usize) -> Result<(), Error> {
    let params = PrefixParams { count: count as u32, _pad0: 0, _pad1: 0, _pad2: 0 };
    device.launch(&PREFIX, [1, 1, 1], &params, &[(3, values)])
}

impl Sorted {
    /// Rows by cell; in each by distance where `trims`, and then by number.
    fn new(device: &Device, assigned: &Assigned, cells: usize, trims: bool) -> Result<Sorted, Error> {
        let bits = (usize::BITS - (cells - 1).leading_zeros()) as usize;
        let labels = Keys { values: &assigned.labels, stride: assigned.candidates, bits };
        let distances = Keys { values: &assigned.distances, stride: 1, bits: 31 };
        let keys = if trims { vec![distances, labels] } else { vec![labels] };
        let n = assigned.n;
        let order = sort(device, n, &keys)?;
        let starts = device.alloc(cells + 1)?;
        let params = StartsParams { n: n as u32, stride: assigned.candidates as u32, cells: cells as u32, _pad0: 0 };
        let bindings: [(u32, &dyn Bind); 3] = [(1, &order), (2, &assigned.labels), (5, &starts)];
        device.launch(&CELL_STARTS, strided(cells + 1), &params, &bindings)?;
        Ok(Sorted { order, starts, n, cells })
    }

    /// Rows of a part. A cell is summed part by part, and then over its parts one by one: neither should take much longer
    /// than the other if all rows are in one cell.
    fn length(&self) -> usize {
        self.n.isqrt().next_power_of_two().max(SHORTEST)
    }

    /// The most parts there can be; how many there are is known on the device.
    fn most(&self) -> usize {
        self.n / self.length() + self.cells.min(self.n)
    }

    /// Leaves out the last `floor(trim * count)` rows of each cell.
    fn shares(&self, device: &Device, trim: f32) -> Result<Shares, Error> {
        let (sizes, parts) = (device.alloc(self.cells)?, device.alloc(self.cells + 1)?);
        // The share is mantissa / 2^shift: f32 has 23 bits behind the point, and its exponents are off by 127.
        let bits = if trim > 0.0 { trim.min(1.0).to_bits() } else { 0 };
        let (exponent, fraction) = (bits >> 23, bits & 0x7F_FFFF);
        let params = PartsParams {
            cells: self.cells as u32,
            length: self.length() as u32,
            mantissa: if exponent == 0 { 0 } else { fraction | 0x80_0000 },
            shift: 150 - exponent,
        };
        let bindings: [(u32, &dyn Bind); 3] = [(3, &parts), (6, &self.starts), (7, &sizes)];
        device.launch(&CELL_PARTS, strided(self.cells), &params, &bindings)?;
        prefix(device, &parts, self.cells)?;
        Ok(Shares { sizes, parts })
    }

    /// The mean of each cell's rows.
    fn average(
        &self,
        device: &Device,
        rows: &[Part<'_>],
        maxima: &Buffer<u32>,
        shares: &Shares,
        means: &Rows,
    ) -> Result<(), Error> {
        if means.dim == 0 {
            return Ok(());
        }
        let (most, limb) = (self.most(), size_of::<i32>());
        let room = SCRATCH.min(device.binding_limit());
        let width = (room / (3 * limb * most)).clamp(1, means.dim);
        let sums: Buffer<i32> = device.alloc(3 * most * width)?;
        for column in (0..means.dim).step_by(width) {
            let columns = width.min(means.dim - column);
            for (index, part) in rows.iter().enumerate() {
                let work = 8.0 * columns as f64 * (self.n / most).max(1) as f64;
                device.paced(&PART_SUMS, most, 1, work, |range| {
                    let params = SumsParams {
                        first: range.start as u32,
                        count: range.len() as u32,
                        cells: self.cells as u32,
                        length: self.length() as u32,
                        first_row: part.first as u32,
                        rows: part.count as u32,
                        dim: means.dim as u32,
                        column: column as u32,
                        columns: columns as u32,
                        add: u32::from(index > 0),
                        _pad0: 0,
                        _pad1: 0,
                    };
                    let bindings: [(u32, &dyn Bind); 7] = [
                        (1, &self.order),
                        (6, &self.starts),
                        (8, &shares.sizes),
                        (9, &shares.parts),
                        (10, part.values),
                        (12, maxima),
                        (13, &sums),
                    ];
                    device.launch(&PART_SUMS, lanes(range.len() * columns), &params, &bindings)
                })?;
            }
            for part in means.parts() {
                device.paced(&CELL_MEANS, part.count, 1, 256.0 * columns as f64, |range| {
                    let params = MeansParams {
                        first: (part.first + range.start) as u32,
                        count: range.len() as u32,
                        part: part.first as u32,
                        dim: means.dim as u32,
                        column: column as u32,
                        columns: columns as u32,
                        _pad0: 0,
                        _pad1: 0,
                    };
                    let bindings: [(u32, &dyn Bind); 5] =
                        [(8, &shares.sizes), (9, &shares.parts), (12, maxima), (13, &sums), (14, part.values)];
                    device.launch(&CELL_MEANS, lanes(range.len() * columns), &params, &bindings)
                })?;
            }
        }
        Ok(())
    }
}

/// So many workgroups, in two dimensions where one does not hold them.
fn grid(groups: usize) -> [u32; 3] {
    let wide = groups.clamp(1, MOST_GROUPS);
    [wide as u32, groups.div_ceil(wide) as u32, 1]
}

/// Workgroups of so many invocations.
fn lanes(invocations: usize) -> [u32; 3] {
    grid(invocations.div_ceil(THREADS))
}

/// Workgroups for so many values where each invocation takes several of many.
pub(super) fn strided(values: usize) -> [u32; 3] {
    [values.div_ceil(THREADS).clamp(1, GROUPS) as u32, 1, 1]
}

impl Stats {
    pub(super) fn cells(&self, device: &Device) -> Result<Cells, Error> {
        let counts = device.download(&self.counts)?;
        let spreads = self.spreads.download(device)?.into_vec();
        let dim = self.means.dim.max(1) as f64;
        Ok(Cells { counts, variances: spreads.iter().map(|&s| (f64::from(s) / dim) as f32).collect() })
    }

    pub(super) fn means(&self, device: &Device) -> Result<Mat, Error> {
        self.means.download(device)
    }
}
