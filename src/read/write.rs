//! Writes `.npy` and text files, under a temporary name until they are whole.

use std::{
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use crate::{Error, MatRef};

/// Writes a float32 `.npy` file some rows at a time.
///
/// The file appears under its name in [`finish`](NpyWriter::finish); a writer that is dropped before leaves nothing
/// behind, and an older file of that name as it was.
#[derive(Debug)]
pub struct NpyWriter {
    file: BufWriter<NamedTempFile>,
    path: PathBuf,
    rows: usize,
    dim: usize,
    written: usize,
}

impl NpyWriter {
    /// Starts a file of `rows` x `dim` float32 values.
    ///
    /// # Errors
    /// [`Error::Io`] when a file cannot be made in that directory, or `path` is there and is not a regular file.
    pub fn create(path: impl AsRef<Path>, rows: usize, dim: usize) -> Result<Self, Error> {
        NpyWriter::start(path.as_ref(), "<f4", rows, dim)
    }

    /// Appends rows.
    ///
    /// # Errors
    /// [`Error::Config`] when the rows have another width or are more than announced, [`Error::Io`] when writing
    /// fails.
    pub fn write_rows(&mut self, rows: MatRef<'_, f32>) -> Result<(), Error> {
        self.write_values(rows, |value| Ok(value.to_le_bytes()))
    }

    /// Writes what is left to the disk and gives the file its name.
    ///
    /// # Errors
    /// [`Error::Config`] when rows are missing, [`Error::Io`] when writing or renaming fails.
    pub fn finish(self) -> Result<(), Error> {
        let NpyWriter { file, path, rows, written, .. } = self;
        if written != rows {
            return Err(Error::Config(format!("{rows} rows were announced, but {written} written")));
        }
        publish(file, &path)
    }

    fn start(path: &Path, descr: &str, rows: usize, dim: usize) -> Result<Self, Error> {
        NpyWriter::shaped(path, descr, rows, dim, &format!("({rows}, {dim})"))
    }

    fn shaped(path: &Path, descr: &str, rows: usize, dim: usize, shape: &str) -> Result<Self, Error> {
        let mut file = buffered(path)?;
        file.write_all(&header(descr, shape)).map_err(|error| Error::io(path, error))?;
        Ok(NpyWriter { file, path: path.to_owned(), rows, dim, written: 0 })
    }

    fn write_values<T: Copy, const N: usize>(
        &mut self,
        rows: MatRef<'_, T>,
        to_bytes: impl Fn(T) -> Result<[u8; N], Error>,
    ) -> Result<(), Error> {
        if rows.dim() != self.dim || rows.rows() > self.rows - self.written {
            return Err(Error::Config(format!(
                "{} x {} values do not fit: {} rows of {} are left to be written",
                rows.rows(),
                rows.dim(),
                self.rows - self.written,
                self.dim
            )));
        }
        for &value in rows.as_slice() {
            self.file.write_all(&to_bytes(value)?).map_err(|error| Error::io(&self.path, error))?;
        }
        self.written += rows.rows();
        Ok(())
    }
}

/// Writes a float32 `.npy` file of shape rows x dim, whole or not at all.
///
/// # Errors
/// [`Error::Io`] when it cannot be written.
pub fn write_npy_f32(path: impl AsRef<Path>, values: MatRef<'_, f32>) -> Result<(), Error> {
    let mut writer = NpyWriter::create(path, values.rows(), values.dim())?;
    writer.write_rows(values)?;
    writer.finish()
}

/// Writes an int64 `.npy` file of shape rows x dim, such as ids, whole or not at all.
///
/// # Errors
/// [`Error::Io`] when it cannot be written, [`Error::Config`] when a value is 2^63 or more.
pub fn write_npy_i64(path: impl AsRef<Path>, values: MatRef<'_, u64>) -> Result<(), Error> {
    let mut writer = NpyWriter::start(path.as_ref(), "<i8", values.rows(), values.dim())?;
    writer.write_values(values, int64)?;
    writer.finish()
}

/// Writes an int64 `.npy` file of one axis.
pub(super) fn write_npy_column(path: &Path, values: &[u64]) -> Result<(), Error> {
    let mut writer = NpyWriter::shaped(path, "<i8", values.len(), 1, &format!("({},)", values.len()))?;
    writer.write_values(MatRef::new(values, values.len(), 1)?, int64)?;
    writer.finish()
}

fn int64(value: u64) -> Result<[u8; 8], Error> {
    let too_large =
        |_| Error::Config(format!("{value} is 2^63 or more and does not fit into int64; name a .txt file"));
    i64::try_from(value).map(i64::to_le_bytes).map_err(too_large)
}

/// Writes a text file of lines, whole or not at all.
///
/// # Errors
/// [`Error::Config`] for a line with a line break in it, [`Error::Io`] when it cannot be written.
pub fn write_lines<L: AsRef<str>>(path: impl AsRef<Path>, lines: impl IntoIterator<Item = L>) -> Result<(), Error> {
    let path = path.as_ref();
    let mut file = buffered(path)?;
    for (i, line) in lines.into_iter().enumerate() {
        let line = line.as_ref();
        if line.contains(['\n', '\r']) {
            return Err(Error::Config(format!("line {} would have a line break in it: {line:?}", i + 1)));
        }
        writeln!(file, "{line}").map_err(|error| Error::io(path, error))?;
    }
    publish(file, path)
}

fn buffered(path: &Path) -> Result<BufWriter<NamedTempFile>, Error> {
    Ok(BufWriter::with_capacity(1 << 18, temporary_beside(path)?))
}

/// Writes what is left to the disk and gives the file its name.
fn publish(file: BufWriter<NamedTempFile>, path: &Path) -> Result<(), Error> {
    let io = |error| Error::io(path, error);
    let file = file.into_inner().map_err(|error| io(error.into_error()))?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    Ok(())
}

/// Makes the file that is to become `path`, in the same directory, so that it can be renamed. It is removed when
/// dropped.
///
/// # Errors
/// [`Error::Io`] when it cannot be made, or `path` is there and is not a regular file: renaming would replace a
/// device such as `/dev/null`.
fn temporary_beside(path: &Path) -> Result<NamedTempFile, Error> {
    let io = |error| Error::io(path, error);
    if let Ok(metadata) = std::fs::metadata(path) {
        if metadata.is_dir() {
            return Err(io(io::ErrorKind::IsADirectory.into()));
        }
        if !metadata.is_file() {
            return Err(io(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file; name a file to write")));
        }
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    // Like any new file: what the user's umask leaves. Temporary files are readable by their owner only.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.prefix(".vlc-").suffix(".tmp").tempfile_in(directory).map_err(io)
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
