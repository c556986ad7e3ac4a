//! Outputs: where they may be written, and what is there already.

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    path::{Path, PathBuf},
};

use vlc::{
    FORMAT_MAGIC, Index,
    read::{Destination, Sink},
};

use crate::{
    error::{CliError, STDOUT},
    output::{Output, count, shown},
};

/// Whether an output that is there may be replaced.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct ForceArg {
    /// Replace the output if it is there, once the new one is whole (otherwise exit 2, saying what it is)
    #[arg(long)]
    force: bool,
}

impl ForceArg {
    /// Refuses an output that is to be a store before any work is done on it: no file or no folder to put it in, one of the inputs, or
    /// there already.
    pub(crate) fn check(self, path: &Path, inputs: &[&Path]) -> Result<(), CliError> {
        check_store(path, inputs)?;
        match std::fs::metadata(path) {
            Ok(_) if !self.force => Err(CliError::Usage(format!(
                "{} is there already, {}; name another output, or replace it with --force",
                shown(path),
                what(path)
            ))),
            _ => Ok(()),
        }
    }
}

/// The same but for what is there, which a dry run leaves alone.
pub(crate) fn check_store(path: &Path, inputs: &[&Path]) -> Result<(), CliError> {
    match destination(path)? {
        Destination::File(_) => check_inputs(path, inputs),
        Destination::Descriptor(1) => Err(CliError::Usage(
            "a store is a file that can be mapped, which standard output is not; name a file".into(),
        )),
        _ => Err(CliError::Usage(format!("{} is not a regular file; name a file", shown(path)))),
    }
}

/// Where a result goes.
#[derive(Debug)]
pub(crate) struct Target {
    /// The argument it is from.
    flag: &'static str,
    path: PathBuf,
    to: Destination,
}

impl Target {
    /// Refuses an output before any work is done on it: no folder to put it in, one of the inputs, or a store.
    pub(crate) fn new(flag: &'static str, path: &Path, inputs: &[&Path]) -> Result<Target, CliError> {
        let to = destination(path)?;
        check_inputs(path, inputs)?;
        if matches!(to, Destination::File(_)) && path.is_file() && (ending(path) == "vlc" || is_store(path)) {
            return Err(CliError::Usage(format!(
                "{} is {}, which is never replaced by results; name another output",
                shown(path),
                what(path)
            )));
        }
        Ok(Target { flag, path: path.to_owned(), to })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn is_stdout(&self) -> bool {
        self.to == Destination::Descriptor(1)
    }

    /// Whether it is there whole or not at all.
    pub(crate) fn is_file(&self) -> bool {
        matches!(self.to, Destination::File(_))
    }

    /// What it is to hold, by the ending of its name and in lower case; `None` for standard output, and for devices and pipes whose name
    /// does not say. Any other ending than those `known` is refused.
    pub(crate) fn ending(&self, known: &[&'static str]) -> Result<Option<&'static str>, CliError> {
        let own = ending(&self.path);
        let found = known.iter().copied().find(|&ending| ending == own);
        if found.is_none() && self.is_file() {
            let known: Vec<String> = known.iter().map(|ending| format!(".{ending}")).collect();
            return Err(CliError::Usage(format!(
                "{} {}: the ending says what is written, and is one of {}; - is standard output",
                self.flag,
                shown(&self.path),
                known.join(", ")
            )));
        }
        Ok(found.filter(|_| !self.is_stdout()))
    }

    /// Refuses a terminal, for what is not text.
    pub(crate) fn no_terminal(&self) -> Result<(), CliError> {
        let terminal = match &self.to {
            Destination::Descriptor(1) => io::stdout().is_terminal(),
            // A pipe would wait for its reader.
            Destination::Stream if !is_pipe(&self.path) => {
                File::options().append(true).open(&self.path).is_ok_and(|file| file.is_terminal())
            }
            _ => false,
        };
        if !terminal {
            return Ok(());
        }
        Err(CliError::Usage(format!(
            "{}: an .npy file is not for a terminal; redirect it, or name a file",
            self.flag
        )))
    }

    /// Opens it: a file appears when the sink is finished.
    pub(crate) fn open(&self) -> Result<Sink, CliError> {
        Ok(if self.is_stdout() { Sink::stream(io::stdout(), STDOUT) } else { Sink::create(&self.path)? })
    }
}

/// Refuses outputs of which two are the same, or that go where `--json` prints.
pub(crate) fn check_apart(targets: &[&Target], out: &Output) -> Result<(), CliError> {
    for (i, target) in targets.iter().enumerate() {
        let same = |other: &&&Target| {
            other.to == target.to && (target.to != Destination::Stream || other.path == target.path)
        };
        if let Some(other) = targets[..i].iter().find(same) {
            let (one, two) = (other.flag, target.flag);
            return Err(CliError::Usage(match target.is_stdout() {
                true => format!("{one} and {two} both name standard output; name a file for one of them"),
                false => format!("{one} and {two} name the same file"),
            }));
        }
        if target.is_stdout() && out.json {
            let flag = target.flag;
            return Err(CliError::Usage(format!(
                "--json and {flag} both print on standard output; name a file for {flag}"
            )));
        }
    }
    Ok(())
}

/// Where a path leads; `-` is standard output.
fn destination(path: &Path) -> Result<Destination, CliError> {
    if path == Path::new("-") {
        return Ok(Destination::Descriptor(1));
    }
    Destination::of(path).map_err(|error| match error {
        vlc::Error::Io { source, .. } if source.kind() == io::ErrorKind::InvalidInput => {
            CliError::Usage(format!("{}: {source}", shown(path)))
        }
        vlc::Error::Io { source, .. } if source.kind() == io::ErrorKind::IsADirectory => {
            CliError::Usage(format!("{} is a directory; name a file", shown(path)))
        }
        other => other.into(),
    })
}

fn check_inputs(path: &Path, inputs: &[&Path]) -> Result<(), CliError> {
    let Ok(place) = path.canonicalize() else {
        return Ok(());
    };
    if inputs.iter().any(|input| input.canonicalize().is_ok_and(|input| input == place)) {
        return Err(CliError::Usage(format!("{} is an input too; name another output", shown(path))));
    }
    Ok(())
}

/// The ending of a name, in lower case.
fn ending(path: &Path) -> String {
    path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

#[cfg(unix)]
fn is_pipe(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo())
}

#[cfg(not(unix))]
fn is_pipe(_: &Path) -> bool {
    false
}

/// Whether a file begins as a store does, whatever became of the rest.
fn is_store(path: &Path) -> bool {
    let mut start = [0; FORMAT_MAGIC.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == FORMAT_MAGIC
}

/// What an existing file is, in words. Of a store no more is read than its model.
fn what(path: &Path) -> String {
    let metadata = std::fs::metadata(path);
    let protected = metadata.as_ref().is_ok_and(|metadata| metadata.permissions().readonly());
    let a = if protected { "a write-protected" } else { "a" };
    if !is_store(path) {
        return format!("{a} file that is no store");
    }
    match Index::open(path).map(|index| index.info()) {
        // Nothing was ever in it.
        Ok(info) if info.next_row == 0 => format!("{a} model file that others may refer to"),
        Ok(info) => format!("{a} store of {} vectors x {}", count(info.n), info.dim),
        Err(vlc::Error::Format { source, .. }) => format!("{a} .vlc file that cannot be opened ({source})"),
        Err(_) => format!("{a} .vlc file that cannot be opened"),
    }
}

/// An input, for clap: files are mapped, and a stream cannot be.
pub(crate) fn input() -> impl clap::builder::TypedValueParser<Value = PathBuf> {
    use clap::builder::TypedValueParser;
    clap::builder::PathBufValueParser::new().try_map(|path| match destination(&path) {
        Ok(Destination::Descriptor(1)) => {
            Err("files are mapped, which standard input and output cannot be; name a file (./- for one of that name)")
        }
        _ => Ok(path),
    })
}

/// What could make a base and its queries be taken for each other: rows that are many more than those of the base.
pub(crate) fn note_swapped(base: (&Path, usize), queries: (&Path, usize), out: &Output) {
    const TIMES: usize = 2;
    if queries.1 > TIMES * base.1 {
        out.note(&format!(
            "vlc: warning: {} has {} rows and {} only {}: are base and queries swapped?",
            shown(queries.0),
            count(queries.1),
            shown(base.0),
            count(base.1)
        ));
    }
}

/// The same where the base is in a store: queries that are as many as its rows.
pub(crate) fn note_base_as_queries<D: AsRef<[u8]>>(index: (&Path, &Index<D>), queries: (&Path, usize), out: &Output) {
    /// So few may well be as many.
    const FEW: usize = 100;
    if queries.1 > FEW && (queries.1 == index.1.len() || queries.1 as u64 == index.1.info().next_row) {
        out.note(&format!(
            "vlc: warning: {} has {} rows, as many as {}: are these the vectors it was made of, in place of queries?",
            shown(queries.0),
            count(queries.1),
            shown(index.0)
        ));
    }
}
