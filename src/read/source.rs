//! Where rows come from.

use std::path::Path;

use crate::{
    error::{Error, InputError},
    matrix::{Mat, MatRef},
};
/// Row-major vectors that can be read a range of rows at a time, from several threads.
pub trait RowSource: Sync {
    /// Number of rows.
    fn rows(&self) -> usize;

    /// Values per row.
    fn dim(&self) -> usize;

    /// The file the rows come from, for messages.
    fn path(&self) -> Option<&Path> {
        None
    }

    /// Copies the rows from `start` on into `out`, as many as it holds, as float32.
    ///
    /// Values are converted, not checked: NaN stays NaN, and a float64 beyond float32 becomes infinite.
    ///
    /// # Errors
    /// [`Error::Input`] when the rows are not usable, [`Error::Io`] when they cannot be read, [`Error::Config`] when
    /// `out` is not a whole number of rows or reaches beyond the last one.
    fn read(&self, start: usize, out: &mut [f32]) -> Result<(), Error>;
}

impl RowSource for MatRef<'_, f32> {
    fn rows(&self) -> usize {
        MatRef::rows(self)
    }

    fn dim(&self) -> usize {
        MatRef::dim(self)
    }

    fn read(&self, start: usize, out: &mut [f32]) -> Result<(), Error> {
        let count = rows_asked(self, start, out.len())?;
        out.copy_from_slice(self.slice(start..start + count).as_slice());
        Ok(())
    }
}

/// Reads every row, e.g. of queries: `4 x rows x dim` bytes of memory.
///
/// # Errors
/// Those of [`RowSource::read`]; [`Error::Input`] when the memory is not there.
pub fn read_all(source: &dyn RowSource) -> Result<Mat, Error> {
    let (rows, dim) = (source.rows(), source.dim());
    let mut data = Vec::new();
    let len = rows.checked_mul(dim).filter(|&len| data.try_reserve_exact(len).is_ok()).ok_or_else(|| {
        InputError::new(
            source.path(),
            format!("{rows} x {dim} float32 do not fit into memory; give a file with fewer rows"),
        )
    })?;
    data.resize(len, 0.0);
    source.read(0, &mut data)?;
    Mat::new(data, rows, dim)
}

/// How many rows of `source` an output of `len` values takes, once they are known to exist from `start` on.
pub(crate) fn rows_asked(source: &dyn RowSource, start: usize, len: usize) -> Result<usize, Error> {
    let (rows, dim) = (source.rows(), source.dim());
    let count = len.checked_div(dim).unwrap_or(0);
    if count.checked_mul(dim) != Some(len) {
        return Err(Error::Config(format!(
            "the output has {len} values, which is not a whole number of rows of {dim}"
        )));
    }
    if start.checked_add(count).is_none_or(|end| end > rows) {
        return Err(Error::Config(format!(
            "{count} rows from row {start} on were asked for, but there are {rows} rows"
        )));
    }
    Ok(count)
}
