//! The transform of rows (cuda/project.cu).

use super::{buffer::Buffer, device::Device, images::PROJECT, launch::Arg, rows::Rows};
use crate::{error::Error, matrix::MatRef};

/// Rows and columns of a tile.
const SIDE: usize = 128;

pub(super) fn project(device: &Device, rows: &Rows, offset: &[f32], transform: MatRef<'_>) -> Result<Rows, Error> {
    let moved = offset.iter().any(|&o| o != 0.0).then(|| device.upload(offset)).transpose()?;
    let transform = Rows::upload(device, transform)?;
    let out = product(device, &rows.values, rows.n, moved.as_ref(), &transform)?;
    Ok(Rows::new(out, rows.n, transform.n))
}

/// `(x - offset) A^T` for every one of `n` rows x.
pub(super) fn product(
    device: &Device,
    values: &Buffer<f32>,
    n: usize,
    offset: Option<&Buffer<f32>>,
    transform: &Rows,
) -> Result<Buffer<f32>, Error> {
    let out = device.alloc(n * transform.n)?;
    if n * transform.n == 0 {
        return Ok(out);
    }
    let args = [
        Arg::from(values),
        Arg::from(n as u32),
        Arg::from(transform.dim as i32),
        offset.map_or(Arg::null(), Arg::from),
        Arg::from(&transform.values),
        Arg::from(transform.n as u32),
        Arg::from(&out),
    ];
    let grid = [n.div_ceil(SIDE) as u32, transform.n.div_ceil(SIDE) as u32, 1];
    device.launch(PROJECT, "project", grid, 256, 0, &args)?;
    Ok(out)
}
