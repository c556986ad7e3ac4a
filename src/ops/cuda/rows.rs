//! Matrices on the device, and the panels of their rows that the tensor cores take.

use std::cell::OnceCell;

use super::{
    buffer::Buffer,
    device::Device,
    images::{ASSIGN, PROJECT},
    launch::Arg,
};
use crate::{
    error::Error,
    matrix::{Mat, MatRef},
};

/// Rows of a panel of the left and of the right operand, and columns of any (cuda/panel.cuh).
pub(super) const LEFT: usize = 256;
pub(super) const RIGHT: usize = 128;
pub(super) const PANEL_K: usize = 64;
/// Bytes of a row of a panel.
pub(super) const PANEL_ROW: usize = 128;
/// Columns that a warp that packs a row keeps in registers (cuda/assign.cu).
const NARROW: usize = 384;

/// A row-major f32 matrix on the device.
pub(crate) struct Rows {
    pub(super) values: Buffer<f32>,
    pub(super) n: usize,
    pub(super) dim: usize,
    /// The rows as left operand, packed when first asked for.
    left: OnceCell<Left>,
}

/// Rows packed as left operand of one part.
pub(super) struct Left {
    pub(super) panels: Buffer<u8>,
    /// Inverse of what each row was multiplied by.
    pub(super) scales: Buffer<f32>,
    /// Three lengths of each row.
    pub(super) lengths: Buffer<f32>,
}

impl Rows {
    pub(super) fn new(values: Buffer<f32>, n: usize, dim: usize) -> Rows {
        Rows { values, n, dim, left: OnceCell::new() }
    }

    pub(super) fn upload(device: &Device, rows: MatRef<'_>) -> Result<Rows, Error> {
        Ok(Rows::new(device.upload(rows.as_slice())?, rows.rows(), rows.dim()))
    }

    pub(super) fn download(&self, device: &Device) -> Result<Mat, Error> {
        Mat::new(device.download(&self.values)?, self.n, self.dim)
    }

    pub(super) fn copy(&self, device: &Device) -> Result<Rows, Error> {
        Ok(Rows::new(device.copy(&self.values)?, self.n, self.dim))
    }

    pub(super) fn select(&self, device: &Device, picked: &[u32]) -> Result<Rows, Error> {
        let out = Rows::new(device.alloc(picked.len() * self.dim)?, picked.len(), self.dim);
        let numbers = device.upload(picked)?;
        let args = [
            Arg::from(&self.values),
            Arg::from(self.dim as i32),
            Arg::from(&numbers),
            Arg::from(picked.len() as u32),
            Arg::from(&out.values),
        ];
        device.launch(PROJECT, "select_rows", [picked.len().min(1 << 20) as u32, 1, 1], 128, 0, &args)?;
        Ok(out)
    }

    /// What is known of the rows beside their values is forgotten: the values are about to change.
    pub(super) fn changed(&mut self) {
        self.left = OnceCell::new();
    }

    /// Panels of each row.
    pub(super) fn panels(&self) -> usize {
        panels(self.dim)
    }

    pub(super) fn left(&self, device: &Device) -> Result<&Left, Error> {
        if let Some(left) = self.left.get() {
            return Ok(left);
        }
        let padded = self.n.next_multiple_of(LEFT);
        let left = Left {
            panels: device.alloc(padded * self.panels() * PANEL_ROW)?,
            scales: device.alloc(padded)?,
            lengths: device.alloc(3 * padded)?,
        };
        let kernel = if self.dim <= NARROW { "pack_rows" } else { "pack_wide_rows" };
        let args = [
            Arg::from(&self.values),
            Arg::from(self.n as u32),
            Arg::from(self.dim as i32),
            Arg::from(self.panels() as i32),
            Arg::null(),
            Arg::null(),
            Arg::from(self.n as u32),
            Arg::from(&left.panels),
            Arg::from(&left.scales),
            Arg::from(&left.lengths),
            Arg::null(),
            Arg::null(),
        ];
        let blocks = (padded / 8).min(device.processors() as usize * 512);
        device.launch(ASSIGN, kernel, [blocks as u32, 1, 1], 256, 0, &args)?;
        Ok(self.left.get_or_init(|| left))
    }
}

/// Panels that so many columns take.
pub(super) fn panels(dim: usize) -> usize {
    dim.div_ceil(PANEL_K)
}
