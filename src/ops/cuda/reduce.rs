//! Robust statistics of cells: rows sorted by cell, summed part by part (cuda/reduce.cu).

use super::{assign::Assigned, buffer::Buffer, device::Device, images::REDUCE, launch::Arg, rows::Rows};
use crate::{error::Error, matrix::Mat, ops::types::Cells};

/// Rows that a block sorts, values of a digit, and rows of a partial sum (cuda/reduce.cu).
const SORTED: usize = 2048;
const DIGITS: usize = 256;
const PART: usize = 256;

/// What reduce found.
pub(crate) struct Stats {
    pub(super) counts: Buffer<u32>,
    pub(super) means: Buffer<f32>,
    variances: Buffer<f32>,
    cells: usize,
    dim: usize,
}

/// Keys that rows are sorted by: one every `stride`.
struct Keys {
    pointer: u64,
    stride: usize,
    bits: u32,
}

pub(super) fn reduce(
    device: &Device,
    rows: &Rows,
    assigned: &Assigned,
    cells: usize,
    trim: f32,
) -> Result<Stats, Error> {
    let (n, dim) = (rows.n, rows.dim);
    let labels = Keys {
        pointer: assigned.labels.pointer(),
        stride: assigned.candidates,
        bits: usize::BITS - (cells - 1).leading_zeros(),
    };
    // Distances are not negative, so their bits order as they do.
    let distances = Keys { pointer: assigned.distances.pointer(), stride: 1, bits: 32 };
    let keys = if trim > 0.0 { vec![distances, labels] } else { vec![labels] };
    let order = sort(device, n, &keys)?;
    let starts: Buffer<u32> = device.alloc(cells + 1)?;
    let args = [
        Arg::from(&order),
        Arg::from(&assigned.labels),
        Arg::from(assigned.candidates as i32),
        Arg::from(n as u32),
        Arg::from(cells as u32),
        Arg::from(&starts),
    ];
    device.launch(REDUCE, "cell_starts", blocks(device, n + 1), 256, 0, &args)?;
    let (counts, parts): (Buffer<u32>, Buffer<u32>) = (device.alloc(cells)?, device.alloc(cells + 1)?);
    let args = [Arg::from(&starts), Arg::from(cells as u32), Arg::from(&counts), Arg::from(&parts)];
    device.launch(REDUCE, "cell_parts", [cells.div_ceil(256) as u32, 1, 1], 256, 0, &args)?;
    prefix(device, &parts, cells)?;
    // How many parts there are is known on the device; there cannot be more than this.
    let most = n / PART + cells.min(n);
    let (sums, energies): (Buffer<f64>, Buffer<f64>) = (device.alloc(most * dim)?, device.alloc(most)?);
    let args = [
        Arg::from(&rows.values),
        Arg::from(dim as i32),
        Arg::from(&order),
        Arg::from(&assigned.distances),
        Arg::from(&starts),
        Arg::from(&parts),
        Arg::from(cells as u32),
        Arg::from(trim),
        Arg::from(&sums),
        Arg::from(&energies),
    ];
    device.launch(REDUCE, "part_sums", [most as u32, 1, 1], 128, 0, &args)?;
    let means = device.alloc(cells * dim)?;
    if dim == 0 {
        // There is nothing that could vary, and no value to divide by.
        return Ok(Stats { counts, means, variances: device.zeros(cells)?, cells, dim });
    }
    let variances = device.alloc(cells)?;
    let args = [
        Arg::from(&starts),
        Arg::from(&parts),
        Arg::from(trim),
        Arg::from(dim as i32),
        Arg::from(&sums),
        Arg::from(&energies),
        Arg::from(&means),
        Arg::from(&variances),
    ];
    device.launch(REDUCE, "cell_means", [cells as u32, 1, 1], 128, 0, &args)?;
    Ok(Stats { counts, means, variances, cells, dim })
}

/// The numbers of the rows, sorted by the last of the keys, equal ones by the one before, and so on, then by row.
fn sort(device: &Device, n: usize, keys: &[Keys]) -> Result<Buffer<u32>, Error> {
    let blocks = n.div_ceil(SORTED);
    let (mut order, mut next): (Buffer<u32>, Buffer<u32>) = (device.alloc(n)?, device.alloc(n)?);
    let totals: Buffer<u32> = device.alloc(DIGITS * blocks + 1)?;
    let mut sorted = false;
    for key in keys {
        for shift in (0..key.bits.max(1)).step_by(8) {
            let args = [
                if sorted { Arg::from(&order) } else { Arg::null() },
                Arg::from(key.pointer),
                Arg::from(key.stride as i32),
                Arg::from(shift as i32),
                Arg::from(n as u32),
                Arg::from(&totals),
                Arg::from(&next),
            ];
            device.launch(REDUCE, "sort_count", [blocks as u32, 1, 1], 256, 0, &args[..6])?;
            prefix(device, &totals, DIGITS * blocks)?;
            device.launch(REDUCE, "sort_move", [blocks as u32, 1, 1], 256, 0, &args)?;
            std::mem::swap(&mut order, &mut next);
            sorted = true;
        }
    }
    Ok(order)
}

/// Turns `count` values into the sums of those before each, followed by the sum of all.
fn prefix(device: &Device, values: &Buffer<u32>, count: usize) -> Result<(), Error> {
    device.launch(REDUCE, "prefix", [1, 1, 1], 1024, 0, &[Arg::from(values), Arg::from(count as u32)])
}

/// Blocks of 256 threads for so many values, each thread taking several of many.
fn blocks(device: &Device, values: usize) -> [u32; 3] {
    [values.div_ceil(256).min(16 * device.processors() as usize) as u32, 1, 1]
}

impl Stats {
    pub(super) fn cells(&self, device: &Device) -> Result<Cells, Error> {
        Ok(Cells { counts: device.download(&self.counts)?, variances: device.download(&self.variances)? })
    }

    pub(super) fn means(&self, device: &Device) -> Result<Mat, Error> {
        Mat::new(device.download(&self.means)?, self.cells, self.dim)
    }
}
