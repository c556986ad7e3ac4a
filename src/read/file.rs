//! A mapped file of vectors, whatever its format.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use super::{
    dtype::{DType, convert},
    format::{FileFormat, looks_like},
    layout::Layout,
    npy,
    source::{RowSource, rows_asked},
    vecs,
};
use crate::{
    error::{Error, InputError},
    file::mmap::Mapping,
};

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
