//! Products of rows with a transform.

use super::{
    buffer::{Bind, Buffer},
    device::Device,
    kernel::{Kernel, Source, source},
    rows::Rows,
};
use crate::{error::Error, matrix::MatRef, ops::layout::ProjectParams};

static WIDE: Source = source!("shared/four_wide", "shared/tile", "shared/product", "project");
static NARROW: Source = source!("shared/four_narrow", "shared/tile", "shared/product", "project");

static PROJECT_WIDE: Kernel = Kernel { source: &WIDE, entry: "project", constants: &[] };
static PROJECT_NARROW: Kernel = Kernel { source: &NARROW, entry: "project", constants: &[] };
#[cfg(test)]
pub(super) static KERNELS: &[&Kernel] = &[&PROJECT_WIDE, &PROJECT_NARROW];

/// Rows of a tile (shaders/shared/product.wgsl).
pub(super) const SIDE: usize = 128;

pub(super) fn project(device: &Device, rows: &Rows, offset: &[f32], transform: MatRef<'_>) -> Result<Rows, Error> {
    let (offset, values) = (device.upload(offset)?, device.upload(transform.as_slice())?);
    product(device, rows, Some(&offset), &values, transform.rows())
}

/// `(x - offset) A^T` for every row x; the transform A is a x d.
pub(super) fn product(
    device: &Device,
    rows: &Rows,
    offset: Option<&Buffer<f32>>,
    transform: &Buffer<f32>,
    a: usize,
) -> Result<Rows, Error> {
    let (out, d) = (Rows::zeros(device, rows.n, a)?, rows.dim);
    if a == 0 || d == 0 {
        return Ok(out);
    }
    let kernel = if d.is_multiple_of(4) { &PROJECT_WIDE } else { &PROJECT_NARROW };
    for overlap in rows.overlaps(&out) {
        device.paced(kernel, overlap.count, SIDE, (a * d) as f64, |range| {
            let first = overlap.first + range.start;
            let params = ProjectParams {
                row0: (first - overlap.from.first) as u32,
                rows: range.len() as u32,
                d: d as u32,
                a: a as u32,
                out0: (first - overlap.to.first) as u32,
                offset: u32::from(offset.is_some()),
                _pad0: 0,
                _pad1: 0,
            };
            let groups = [range.len().div_ceil(SIDE) as u32, a.div_ceil(SIDE) as u32, 1];
            // What is not looked at must be bound all the same.
            let bindings: [(u32, &dyn Bind); 4] =
                [(1, overlap.from.values), (2, transform), (3, offset.unwrap_or(transform)), (4, overlap.to.values)];
            device.launch(kernel, groups, &params, &bindings)
        })?;
    }
    Ok(out)
}
