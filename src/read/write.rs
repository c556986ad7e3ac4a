//! Writes `.npy` and text: arrays of vectors, scores and ids, and lines.

use std::path::Path;

use super::sink::Sink;
use crate::{error::Error, matrix::MatRef};

/// Writes a float32 `.npy` file some rows at a time.
///
/// A file appears under its name in [`finish`](NpyWriter::finish); a writer that is dropped before leaves nothing
/// behind, and an older file of that name as it was.
#[derive(Debug)]
pub struct NpyWriter {
    sink: Sink,
    rows: usize,
    dim: usize,
    written: usize,
}

impl NpyWriter {
    /// Starts a file of `rows` x `dim` float32 values.
    ///
    /// # Errors
    /// As [`Sink::create`].
    pub fn create(path: impl AsRef<Path>, rows: usize, dim: usize) -> Result<Self, Error> {
        NpyWriter::over(Sink::create(path)?, rows, dim)
    }

    /// The same into a sink.
    ///
    /// # Errors
    /// [`Error::Io`] when writing fails.
    pub fn over(mut sink: Sink, rows: usize, dim: usize) -> Result<Self, Error> {
        sink.write(&header("<f4", &format!("({rows}, {dim})")))?;
        Ok(NpyWriter { sink, rows, dim, written: 0 })
    }

    /// Appends rows.
    ///
    /// # Errors
    /// [`Error::Config`] when the rows have another width or are more than announced, [`Error::Io`] when writing
    /// fails.
    pub fn write_rows(&mut self, rows: MatRef<'_, f32>) -> Result<(), Error> {
        if rows.dim() != self.dim || rows.rows() > self.rows - self.written {
            return Err(Error::Config(format!(
                "{} x {} values do not fit: {} rows of {} are left to be written",
                rows.rows(),
                rows.dim(),
                self.rows - self.written,
                self.dim
            )));
        }
        rows.as_slice().iter().try_for_each(|value| self.sink.write(&value.to_le_bytes()))?;
        self.written += rows.rows();
        Ok(())
    }

    /// Writes what is left, to the disk where it is a file, and gives the file its name.
    ///
    /// # Errors
    /// [`Error::Config`] when rows are missing, [`Error::Io`] when writing or renaming fails.
    pub fn finish(self) -> Result<(), Error> {
        let NpyWriter { sink, rows, written, .. } = self;
        if written != rows {
            return Err(Error::Config(format!("{rows} rows were announced, but {written} written")));
        }
        sink.finish()
    }
}

/// Results of each kind.
impl Sink {
    /// Writes a whole float32 `.npy` file of shape rows x dim.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be written.
    pub fn npy_f32(&mut self, values: MatRef<'_, f32>) -> Result<(), Error> {
        self.write(&header("<f4", &format!("({}, {})", values.rows(), values.dim())))?;
        values.as_slice().iter().try_for_each(|value| self.write(&value.to_le_bytes()))
    }

    /// Writes a whole int64 `.npy` file of shape rows x dim, such as ids.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be written, [`Error::Config`] when a value is 2^63 or more.
    pub fn npy_i64(&mut self, values: MatRef<'_, u64>) -> Result<(), Error> {
        self.int64(values.as_slice(), &format!("({}, {})", values.rows(), values.dim()))
    }

    /// The same with one axis.
    pub(super) fn npy_column(&mut self, values: &[u64]) -> Result<(), Error> {
        self.int64(values, &format!("({},)", values.len()))
    }

    fn int64(&mut self, values: &[u64], shape: &str) -> Result<(), Error> {
        self.write(&header("<i8", shape))?;
        values.iter().try_for_each(|&value| {
            let too_large =
                |_| Error::Config(format!("{value} is 2^63 or more and does not fit into int64; name a .txt file"));
            self.write(&i64::try_from(value).map_err(too_large)?.to_le_bytes())
        })
    }

    /// Writes lines of text.
    ///
    /// # Errors
    /// [`Error::Config`] for a line with a line break in it, [`Error::Io`] when it cannot be written.
    pub fn lines<L: AsRef<str>>(&mut self, lines: impl IntoIterator<Item = L>) -> Result<(), Error> {
        for (i, line) in lines.into_iter().enumerate() {
            let line = line.as_ref();
            if line.contains(['\n', '\r']) {
                return Err(Error::Config(format!("line {} would have a line break in it: {line:?}", i + 1)));
            }
            self.write(line.as_bytes())?;
            self.write(b"\n")?;
        }
        Ok(())
    }
}

/// Writes a float32 `.npy` file of shape rows x dim, whole or not at all.
///
/// # Errors
/// As [`Sink::create`] and [`Sink::npy_f32`].
pub fn write_npy_f32(path: impl AsRef<Path>, values: MatRef<'_, f32>) -> Result<(), Error> {
    whole(path.as_ref(), |sink| sink.npy_f32(values))
}

/// Writes an int64 `.npy` file of shape rows x dim, such as ids, whole or not at all.
///
/// # Errors
/// As [`Sink::create`] and [`Sink::npy_i64`].
pub fn write_npy_i64(path: impl AsRef<Path>, values: MatRef<'_, u64>) -> Result<(), Error> {
    whole(path.as_ref(), |sink| sink.npy_i64(values))
}

/// Writes a text file of lines, whole or not at all.
///
/// # Errors
/// As [`Sink::create`] and [`Sink::lines`].
pub fn write_lines<L: AsRef<str>>(path: impl AsRef<Path>, lines: impl IntoIterator<Item = L>) -> Result<(), Error> {
    whole(path.as_ref(), |sink| sink.lines(lines))
}

fn whole(path: &Path, write: impl FnOnce(&mut Sink) -> Result<(), Error>) -> Result<(), Error> {
    let mut sink = Sink::create(path)?;
    write(&mut sink)?;
    sink.finish()
}

/// A version 1 header, padded so that the values begin at a multiple of 64 bytes.
fn header(descr: &str, shape: &str) -> Vec<u8> {
    let dict = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let before_text = 10;
    // The newline counts. At most 128 bytes, as each size has at most 20 digits.
    let len = (before_text + dict.len() + 1).next_multiple_of(64) - before_text;
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend_from_slice(&(len as u16).to_le_bytes());
    header.extend_from_slice(format!("{dict:<width$}\n", width = len - 1).as_bytes());
    header
}
