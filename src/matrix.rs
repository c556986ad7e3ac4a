//! Row-major matrices whose shape is checked once, where they are made.

use rayon::prelude::*;

use crate::error::Error;

/// A borrowed row-major `rows x dim` matrix.
#[derive(Debug, Clone, Copy)]
pub struct MatRef<'a, T = f32> {
    data: &'a [T],
    rows: usize,
    dim: usize,
}

/// An owned row-major `rows x dim` matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Mat<T = f32> {
    data: Vec<T>,
    rows: usize,
    dim: usize,
}

fn check_shape(len: usize, rows: usize, dim: usize) -> Result<(), Error> {
    if rows.checked_mul(dim) == Some(len) {
        return Ok(());
    }
    Err(Error::Config(format!("a matrix of {rows} x {dim} needs {rows} * {dim} values, but {len} were given")))
}

impl<'a, T> MatRef<'a, T> {
    /// Views `data` as `rows x dim`.
    ///
    /// # Errors
    /// [`Error::Config`] when `data.len() != rows * dim`.
    pub fn new(data: &'a [T], rows: usize, dim: usize) -> Result<Self, Error> {
        check_shape(data.len(), rows, dim)?;
        Ok(MatRef { data, rows, dim })
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values per row.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// All values, row after row.
    #[must_use]
    pub fn as_slice(&self) -> &'a [T] {
        self.data
    }

    /// Row `i`.
    ///
    /// # Panics
    /// When `i >= rows`, as a slice would.
    #[must_use]
    pub fn row(&self, i: usize) -> &'a [T] {
        &self.data[i * self.dim..(i + 1) * self.dim]
    }

    /// The rows `range`.
    ///
    /// # Panics
    /// When the range leaves the matrix, as a slice would.
    #[must_use]
    pub fn slice(&self, range: std::ops::Range<usize>) -> MatRef<'a, T> {
        MatRef {
            data: &self.data[range.start * self.dim..range.end * self.dim],
            rows: range.end - range.start,
            dim: self.dim,
        }
    }
}

impl<T: Clone + Default> Mat<T> {
    /// A matrix of default values (zeros for numbers).
    #[must_use]
    pub fn zeros(rows: usize, dim: usize) -> Self {
        Mat { data: vec![T::default(); rows * dim], rows, dim }
    }
}

impl<T> Mat<T> {
    /// Takes `data` as `rows x dim`.
    ///
    /// # Errors
    /// [`Error::Config`] when `data.len() != rows * dim`.
    pub fn new(data: Vec<T>, rows: usize, dim: usize) -> Result<Self, Error> {
        check_shape(data.len(), rows, dim)?;
        Ok(Mat { data, rows, dim })
    }

    /// A borrowed view.
    #[must_use]
    pub fn view(&self) -> MatRef<'_, T> {
        MatRef { data: &self.data, rows: self.rows, dim: self.dim }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values per row.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// All values, row after row.
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        &self.data
    }

    /// All values, row after row, to be changed.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.data
    }

    /// Row `i`.
    ///
    /// # Panics
    /// When `i >= rows`, as a slice would.
    #[must_use]
    pub fn row(&self, i: usize) -> &[T] {
        &self.data[i * self.dim..(i + 1) * self.dim]
    }

    /// Row `i`, to be changed.
    ///
    /// # Panics
    /// When `i >= rows`, as a slice would.
    #[must_use]
    pub fn row_mut(&mut self, i: usize) -> &mut [T] {
        &mut self.data[i * self.dim..(i + 1) * self.dim]
    }

    /// The values, row after row.
    #[must_use]
    pub fn into_vec(self) -> Vec<T> {
        self.data
    }
}

/// Copies of the `picked` rows.
pub(crate) fn copy_rows(rows: MatRef<'_>, picked: &[usize]) -> Mat {
    let mut out = Mat::zeros(picked.len(), rows.dim());
    let width = rows.dim().max(1);
    out.as_mut_slice().par_chunks_mut(width).zip(picked).for_each(|(out, &i)| out.copy_from_slice(rows.row(i)));
    out
}
