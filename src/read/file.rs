//! A mapped file of vectors, whatever its format.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use super::{
    RowSource,
    dtype::{DType, convert},
    format::{FileFormat, looks_like},
    npy, rows_asked, vecs,
};
use crate::{
    error::{Error, InputError},
    file::mmap::Mapping,
};

/// Where the values are in the bytes of a file. Row `i` is the `dim` values at `start + i * stride + lead`, and the
/// last one ends within the file: whoever makes a layout has checked it.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) dtype: DType,
    pub(super) rows: usize,
    pub(super) dim: usize,
    /// Byte at which the first row begins.
    pub(super) start: usize,
    /// Bytes before the values of each row: its width, or none.
    pub(super) lead: usize,
    /// Bytes from row to row.
    pub(super) stride: usize,
}

impl Layout {
    /// Rows without gaps, which fill the `found` bytes from `start` on.
    pub(super) fn of_whole(dtype: DType, shape: [u64; 2], start: usize, found: usize) -> Result<Self, InputError> {
        let [rows, dim] = shape;
        let message = if rows == 0 {
            format!("no rows: the shape is {rows} x {dim}; give a file with at least one vector")
        } else if dim == 0 {
            format!("no columns: the shape is {rows} x {dim}; give vectors with at least one value")
        } else {
            let expected = rows.checked_mul(dim).and_then(|values| values.checked_mul(dtype.size() as u64));
            let of_shape = format!("for {rows} x {dim} {dtype}");
            match expected {
                Some(expected) if expected == found as u64 => {
                    // Both are factors of `found`, so they fit.
                    let (rows, dim) = (rows as usize, dim as usize);
                    return Ok(Layout { dtype, rows, dim, start, lead: 0, stride: dim * dtype.size() });
                }
                Some(expected) if expected < found as u64 => format!(
                    "trailing bytes: expected {expected} bytes {of_shape} after the header, \
                     found {found}; the header and the data disagree, write the file again"
                ),
                Some(expected) => format!(
                    "truncated: expected {expected} bytes {of_shape} after the header, \
                     found {found}; copy or write the file again"
                ),
                None => format!(
                    "truncated: expected more than 2^64 bytes {of_shape} after the header, \
                     found {found}; the header is damaged, write the file again"
                ),
            }
        };
        Err(InputError::new(None, message))
    }
}

/// A mapped file of vectors: pages are read as rows are, and the system may drop them again.
#[derive(Debug)]
pub struct VectorFile {
    path: PathBuf,
    bytes: Mapping,
    format: FileFormat,
    layout: Layout,
}

impl VectorFile {
    /// Maps a file and checks its header and length. The extension tells the format: see [`FileFormat`].
    ///
    /// The file must not be changed while it is open: a shortened one ends the process with a bus error, as with any
    /// mapped file, or with [`guard_mappings`](crate::file::guard::guard_mappings) the call that reads it with [`Error::Io`].
    ///
    /// # Errors
    /// [`Error::Io`] when the file is missing, a directory or unreadable; [`Error::Input`], with the remedy, when it
    /// is not a whole file of a known format with at least one row and one column.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let io = |error| Error::io(path, error);
        // Before opening, which would wait for the other end of a pipe.
        let metadata = std::fs::metadata(path).map_err(io)?;
        if metadata.is_dir() {
            return Err(io(io::ErrorKind::IsADirectory.into()));
        }
        let input = |message| InputError::new(Some(path), message);
        if !metadata.is_file() {
            return Err(input("not a regular file, so it cannot be mapped; write the vectors to a file first").into());
        }
        let format = FileFormat::of(path)?;
        if metadata.len() == 0 {
            return Err(input("the file is empty; copy or write it again").into());
        }
        let bytes = Mapping::of_vectors(&File::open(path).map_err(io)?).map_err(io)?;
        let layout = match format {
            FileFormat::Npy => npy::layout(&bytes),
            FileFormat::Fvecs => vecs::layout_of_vecs(DType::F32, &bytes),
            FileFormat::Bvecs => vecs::layout_of_vecs(DType::U8, &bytes),
            FileFormat::Fbin => vecs::layout_of_bin(DType::F32, &bytes),
            FileFormat::U8bin => vecs::layout_of_bin(DType::U8, &bytes),
            FileFormat::I8bin => vecs::layout_of_bin(DType::I8, &bytes),
        };
        bytes.whole().map_err(io)?;
        let layout = layout.map_err(|mut error| {
            error.file = Some(path.to_owned());
            if let Some(hint) = looks_like(&bytes, format) {
                error.message += &format!("; this looks like {hint}");
            }
            error
        })?;
        Ok(VectorFile { path: path.to_owned(), bytes, format, layout })
    }

    /// The format, as the extension has it.
    #[must_use]
    pub fn format(&self) -> FileFormat {
        self.format
    }

    /// The type of the values in the file.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.layout.dtype
    }
}

impl RowSource for VectorFile {
    fn rows(&self) -> usize {
        self.layout.rows
    }

    fn dim(&self) -> usize {
        self.layout.dim
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn read(&self, start: usize, out: &mut [f32]) -> Result<(), Error> {
        let count = rows_asked(self, start, out.len())?;
        let Layout { dtype, dim, start: first, lead, stride, .. } = self.layout;
        let bytes = &self.bytes[first + start * stride..first + (start + count) * stride];
        let read = match lead {
            0 => {
                convert(dtype, bytes, out);
                Ok(())
            }
            _ => bytes.chunks_exact(stride).zip(out.chunks_exact_mut(dim)).enumerate().try_for_each(
                |(i, (record, out))| {
                    vecs::check_width(&self.layout, &self.bytes, start + i).map_err(|mut error| {
                        error.file = Some(self.path.clone());
                        error
                    })?;
                    convert(dtype, &record[lead..], out);
                    Ok(())
                },
            ),
        };
        // Before what a width of zero says.
        self.bytes.whole().map_err(|error| Error::io(&self.path, error))?;
        read
    }
}
