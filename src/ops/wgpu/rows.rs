//! Matrices on the device, in parts that fit a binding.

use std::cell::OnceCell;

use super::{
    buffer::Buffer,
    device::Device,
    error::failure,
    kernel::{Kernel, Source, source},
};
use crate::{
    error::Error,
    matrix::{Mat, MatRef},
    ops::layout::SelectParams,
};

static SELECT: Source = source!("select");
const SELECT_ROWS: Kernel = Kernel { source: &SELECT, entry: "select_rows", constants: &[] };
#[cfg(test)]
pub(super) static KERNELS: &[&Kernel] = &[&SELECT_ROWS];

/// Rows of a part are a multiple of this, so that tiles of rows are whole.
const GRANULE: usize = 256;
/// Groups of a dimension, on any device.
pub(super) const MOST_GROUPS: usize = 65_535;
/// Groups of a kernel that loops over items: enough to fill any device.
pub(super) const GROUPS: usize = 4096;

/// A row-major f32 matrix on the device.
pub(crate) struct Rows {
    pub(super) n: usize,
    pub(super) dim: usize,
    /// Rows of a part, but for the last.
    each: usize,
    parts: Vec<Buffer<f32>>,
    /// The largest values of the columns, found when first asked for.
    maxima: OnceCell<Buffer<u32>>,
}

/// Rows of a matrix that share a buffer.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    /// The number of its first row.
    pub(super) first: usize,
    /// Rows.
    pub(super) count: usize,
    /// `count` x dim.
    pub(super) values: &'a Buffer<f32>,
}

/// Rows that are neighbours in a part of one matrix and in a part of another.
pub(super) struct Overlap<'a> {
    pub(super) from: Part<'a>,
    pub(super) to: Part<'a>,
    /// The number of the first of them.
    pub(super) first: usize,
    pub(super) count: usize,
}

impl Rows {
    fn build(
        device: &Device,
        n: usize,
        dim: usize,
        mut make: impl FnMut(std::ops::Range<usize>) -> Result<Buffer<f32>, Error>,
    ) -> Result<Rows, Error> {
        let fit = device.binding_limit() / size_of::<f32>() / dim.max(1);
        let each = if fit >= GRANULE { fit / GRANULE * GRANULE } else { fit };
        if each == 0 {
            return Err(failure(format!("a row of {dim} values is longer than the device takes; use --backend cpu")));
        }
        let parts = (0..n).step_by(each).map(|first| make(first..(first + each).min(n))).collect::<Result<_, _>>()?;
        Ok(Rows { n, dim, each, parts, maxima: OnceCell::new() })
    }

    pub(super) fn zeros(device: &Device, n: usize, dim: usize) -> Result<Rows, Error> {
        Rows::build(device, n, dim, |range| device.alloc(range.len() * dim))
    }

    pub(super) fn upload(device: &Device, rows: MatRef<'_>) -> Result<Rows, Error> {
        Rows::build(device, rows.rows(), rows.dim(), |range| device.upload(rows.slice(range).as_slice()))
    }

    pub(super) fn download(&self, device: &Device) -> Result<Mat, Error> {
        let parts: Vec<_> = self.parts.iter().map(|part| (part, 0..part.len())).collect();
        Mat::new(device.download_parts(&parts)?, self.n, self.dim)
    }

    pub(super) fn copy(&self, device: &Device) -> Result<Rows, Error> {
        let parts = self.parts.iter().map(|part| device.copy(part)).collect::<Result<_, _>>()?;
        Ok(Rows { n: self.n, dim: self.dim, each: self.each, parts, maxima: OnceCell::new() })
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        self.parts.iter().enumerate().map(|(p, values)| {
            let first = p * self.each;
            Part { first, count: self.each.min(self.n - first), values }
        })
    }

    /// The parts that rows of the same number in both matrices are in.
    pub(super) fn overlaps<'a>(&'a self, other: &'a Rows) -> impl Iterator<Item = Overlap<'a>> {
        self.parts().flat_map(move |from| {
            other.parts().filter_map(move |to| {
                let first = from.first.max(to.first);
                let end = (from.first + from.count).min(to.first + to.count);
                (first < end).then(|| Overlap { from, to, first, count: end - first })
            })
        })
    }

    /// What is known of the rows beside their values is forgotten: the values are about to change.
    pub(super) fn changed(&mut self) {
        self.maxima = OnceCell::new();
    }

    /// The largest value of each column but for its sign, as bits; made when first asked for.
    pub(super) fn column_maxima(
        &self,
        make: impl FnOnce() -> Result<Buffer<u32>, Error>,
    ) -> Result<&Buffer<u32>, Error> {
        if let Some(maxima) = self.maxima.get() {
            return Ok(maxima);
        }
        let made = make()?;
        Ok(self.maxima.get_or_init(|| made))
    }

    pub(super) fn select(&self, device: &Device, picked: &[u32]) -> Result<Rows, Error> {
        let out = Rows::zeros(device, picked.len(), self.dim)?;
        for from in self.parts() {
            for to in out.parts() {
                let moves: Vec<[u32; 2]> = picked[to.first..to.first + to.count]
                    .iter()
                    .enumerate()
                    .filter_map(|(i, &row)| {
                        let within = (row as usize).checked_sub(from.first).filter(|&at| at < from.count)?;
                        Some([within as u32, i as u32])
                    })
                    .collect();
                if moves.is_empty() || self.dim == 0 {
                    continue;
                }
                let params = SelectParams { count: moves.len() as u32, d: self.dim as u32, _pad0: 0, _pad1: 0 };
                let groups = [moves.len().min(GROUPS) as u32, 1, 1];
                let moves = device.upload(&moves)?;
                device.launch(&SELECT_ROWS, groups, &params, &[(1, from.values), (2, &moves), (3, to.values)])?;
            }
        }
        Ok(out)
    }
}
