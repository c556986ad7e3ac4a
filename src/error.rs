//! What can go wrong, one variant per kind of remedy.

use std::path::{Path, PathBuf};

use crate::{backend::Backend, escape::printable};

/// What can go wrong. Each variant belongs to one remedy, and to one exit code of the command line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument is out of its range; change the call.
    #[error("{}", printable(.0))]
    Config(String),
    /// The byte budget is below what this store can be stored in.
    #[error(
        "the budget of {asked:.2} bytes per vector ({asked_ratio:.4} of float32) cannot be met: the smallest file \
         for these rows has {smallest:.2} bytes per vector; ask for {} or more",
        advice(*smallest, *smallest_ratio)
    )]
    Budget {
        /// Bytes per vector asked for.
        asked: f64,
        /// The same as a share of 4 x dim.
        asked_ratio: f64,
        /// Bytes per vector of the smallest file.
        smallest: f64,
        /// The same as a share of 4 x dim, rounded up.
        smallest_ratio: f64,
    },
    /// The vectors given are not usable; mend the data.
    #[error("{0}")]
    Input(#[from] InputError),
    /// A `.vlc` file is corrupt, truncated or of a version this build does not read.
    #[error("{}: {source}", printable(path.display()))]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ParseError,
    },
    /// Reading or writing failed.
    #[error("{}: {}", printable(path.display()), printable(source))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's own error.
        source: std::io::Error,
    },
    /// Another process is changing the file.
    #[error("{}: locked by {}: wait until it is done; a process that died holds no lock", printable(path.display()), holder(*pid))]
    Locked {
        /// The file.
        path: PathBuf,
        /// The process, if it has said.
        pid: Option<u32>,
    },
    /// The backend was not compiled in, or its driver or device is missing.
    #[error("backend {backend} is unavailable: {}", printable(reason))]
    Unavailable {
        /// Which backend.
        backend: Backend,
        /// Why, and what to do.
        reason: String,
    },
    /// The device failed mid-operation.
    #[error("backend {backend} failed: {}", printable(source))]
    Device {
        /// Which backend.
        backend: Backend,
        /// The driver's own error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The last step of a change failed: it may be there or not. Look (`vlc info`) before trying again.
    #[error(
        "{}: {}, in the last step of the change: it may be committed or not; look with vlc info before trying again",
        printable(path.display()), printable(source)
    )]
    Uncertain {
        /// The file.
        path: PathBuf,
        /// The system's own error.
        source: std::io::Error,
    },
    /// The progress callback asked to stop. Nothing was written.
    #[error("cancelled")]
    Cancelled,
}

/// What meets the smallest file: a ratio, or bytes where that would have to be above 1.
fn advice(smallest: f64, smallest_ratio: f64) -> String {
    if smallest_ratio <= 1.0 {
        format!("--ratio {smallest_ratio:.4}")
    } else {
        format!("--bytes {}", smallest.ceil())
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

impl Error {
    /// The exit code of the command line for this error: 2 for arguments, 3 for vectors that cannot be used, 4 for a file that is damaged or
    /// of a format this build does not know, 5 where reading or writing failed, another process has the file or the outcome is not known, 6 for
    /// a device, 130 where the caller's callback ended the call.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Error::Config(_) | Error::Budget { .. } => 2,
            Error::Input(_) => 3,
            Error::Format { .. } => 4,
            Error::Io { .. } | Error::Locked { .. } | Error::Uncertain { .. } => 5,
            Error::Unavailable { .. } | Error::Device { .. } => 6,
            Error::Cancelled => 130,
        }
    }

    /// The same error, of this file.
    pub(crate) fn of_file(self, path: &Path) -> Self {
        match self {
            Error::Format { source, .. } => Error::Format { path: path.to_owned(), source },
            other => other,
        }
    }

    /// Wraps an I/O error after which nobody can tell whether a change is there.
    pub(crate) fn uncertain(path: &Path, source: std::io::Error) -> Self {
        Error::Uncertain { path: path.to_owned(), source }
    }

    /// Wraps an I/O error with the path it happened on.
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Error::Io { path: path.to_owned(), source }
    }
}

/// Vectors that cannot be used: where they are and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InputError {
    /// The file, when the vectors came from one.
    pub file: Option<PathBuf>,
    /// The row, from 0.
    pub row: Option<u64>,
    /// The column, from 0.
    pub column: Option<u64>,
    /// What is wrong and what to do.
    pub message: String,
}

impl InputError {
    /// An error about the input as a whole.
    pub fn new(file: Option<&Path>, message: impl Into<String>) -> Self {
        InputError { file: file.map(Path::to_owned), row: None, column: None, message: message.into() }
    }

    /// The same error, at a row.
    #[must_use]
    pub fn at_row(mut self, row: usize) -> Self {
        self.row = Some(row as u64);
        self
    }

    /// The same error, at a column.
    #[must_use]
    pub fn at_column(mut self, column: usize) -> Self {
        self.column = Some(column as u64);
        self
    }
}

impl std::fmt::Display for InputError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}: ", printable(file.display()))?;
        }
        match (self.row, self.column) {
            (Some(row), Some(column)) => write!(f, "row {row}, column {column}: ")?,
            (Some(row), None) => write!(f, "row {row}: ")?,
            _ => {}
        }
        printable(&self.message).fmt(f)
    }
}

impl std::error::Error for InputError {}

/// What is wrong with the bytes of a `.vlc` file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The first bytes are not those of a `.vlc` file.
    #[error("not a .vlc file (its first bytes are not the magic number); was it written by another program?")]
    Magic,
    /// The file is newer than this build.
    #[error("the file has format version {found}, this build reads up to {newest}; upgrade vlc to read it")]
    Version {
        /// The version in the file.
        found: u32,
        /// The newest that this build reads.
        newest: u32,
    },
    /// The file ends before it should, or goes on after it.
    #[error("the file should have {expected} bytes and has {found}: truncated or damaged; restore it from a copy")]
    Length {
        /// Bytes the header, or the least file, calls for.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// A part of the file could not be read while it was used.
    #[error(
        "the file was truncated while it was used, or a part of it cannot be read; open it again, or restore it from a copy"
    )]
    Shrunk,
    /// A part does not match its checksum.
    #[error("{} does not match its checksum: the file is damaged; restore it from a copy", printable(part))]
    Checksum {
        /// The header, the table or a section.
        part: String,
    },
    /// A required section is missing.
    #[error("section {0} is missing")]
    Missing(&'static str),
    /// The file needs something this build does not know.
    #[error("section {} is unknown to this build and needed to read the file; upgrade vlc to read it", printable(.0))]
    Unknown(String),
    /// The file uses a feature of the format that this build does not know.
    #[error("the file uses the feature {name:?} (bit {bit}), which this build does not know; upgrade vlc to read it")]
    Feature {
        /// Its bit.
        bit: u8,
        /// Its name, as the file has it.
        name: String,
    },
    /// The file names a model that stands in a file of its own.
    #[error(
        "the file needs the model {} (hash {hash:032x}), which is not beside it; name it with --model",
        printable(name)
    )]
    Model {
        /// The model's file name when the file was written.
        name: String,
        /// The model's hash.
        hash: u128,
    },
    /// A value breaks a rule of the format.
    #[error("{part}: {}", printable(message))]
    Invalid {
        /// Where.
        part: &'static str,
        /// Which rule.
        message: String,
    },
}

impl ParseError {
    pub(crate) fn invalid(part: &'static str, message: impl Into<String>) -> Self {
        ParseError::Invalid { part, message: message.into() }
    }
}
