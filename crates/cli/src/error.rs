//! What ends a verb early, and the exit code it ends with.

use std::{error::Error, io, path::Path, process::ExitCode};

use vlc::text::printable;

use crate::{
    interrupt,
    output::{Output, say},
};

/// What messages call standard output where results go to it.
pub(crate) const STDOUT: &str = "standard output";

/// Why a verb did not do what it was asked.
#[derive(Debug)]
pub(crate) enum CliError {
    /// Arguments that are wrong in a way only the verb can tell.
    Usage(String),
    /// From the library.
    Library(vlc::Error),
    /// `vlc test`: the backends' results differ by more than they may.
    Disagree(String),
    /// `vlc salvage`: not all of a file was sound.
    Lost(String),
    /// Whoever read stdout has gone: nothing is wrong and there is nobody to tell.
    StdoutClosed,
    /// Stdout cannot be written, such as a full disk behind a redirection.
    Stdout(io::Error),
}

impl From<vlc::Error> for CliError {
    fn from(error: vlc::Error) -> Self {
        match error {
            vlc::Error::Io { path, source } if path == Path::new(STDOUT) => CliError::of_stdout(source),
            error => CliError::Library(error),
        }
    }
}

impl std::fmt::Display for CliError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CliError::Usage(message) | CliError::Disagree(message) | CliError::Lost(message) => f.write_str(message),
            CliError::Library(error) => error.fmt(f),
            CliError::StdoutClosed => f.write_str("stdout was closed"),
            CliError::Stdout(error) if interrupt::committing() => {
                write!(f, "stdout: {error}; what was to be written to files is there")
            }
            CliError::Stdout(error) => write!(f, "stdout: {error}"),
        }
    }
}

impl CliError {
    /// What a failure to write on stdout is.
    pub(crate) fn of_stdout(error: io::Error) -> CliError {
        if error.kind() == io::ErrorKind::BrokenPipe { CliError::StdoutClosed } else { CliError::Stdout(error) }
    }

    /// Tells the user and gives the exit code.
    pub(crate) fn report(&self, out: &Output) -> ExitCode {
        if let CliError::Library(vlc::Error::Uncertain { path, .. }) = self
            && out.json
        {
            let object = serde_json::json!({ "committed": "unknown", "path": path.display().to_string(), "error": self.to_string() });
            let _ = out.result(&object, String::new);
        }
        if !matches!(self, CliError::StdoutClosed) {
            let mut message = printable(self).to_string();
            let mut source = match self {
                CliError::Library(error) => error.source(),
                _ => None,
            };
            while let Some(error) = source {
                // Many messages contain their source's.
                let text = printable(error).to_string();
                if !message.contains(&text) {
                    message = format!("{message}: {text}");
                }
                source = error.source();
            }
            say(&format!("vlc: error: {message}"));
        }
        ExitCode::from(self.code())
    }

    fn code(&self) -> u8 {
        match self {
            CliError::StdoutClosed => 0,
            CliError::Disagree(_) => 1,
            CliError::Usage(_) => 2,
            CliError::Lost(_) => 4,
            CliError::Stdout(_) => 5,
            CliError::Library(error) => error.code(),
        }
    }
}

/// An I/O error of this program's own, in the library's terms.
pub(crate) fn io_error(path: &Path, source: io::Error) -> CliError {
    CliError::Library(vlc::Error::Io { path: path.to_owned(), source })
}
