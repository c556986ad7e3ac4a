//! What results are written to: a file that is there whole or not at all, or a stream.

use std::{
    fmt::{Debug, Formatter},
    fs::{File, Metadata, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::xxh3_64;

use super::destination::Destination;
use crate::{
    error::Error,
    file::{access::keep_access, lock::is_at},
};

/// Bytes that are gathered before they are written.
const BUFFER: usize = 1 << 18;
/// Bytes of a name that others can be added to: systems allow 255.
const LONGEST: usize = 200;
/// How often a name is tried again that others are making and removing.
const TRIES: usize = 100;

/// Takes the bytes of a result. A file appears under its name in [`finish`](Sink::finish): a sink that is dropped before leaves nothing
/// behind, and an older file of that name as it was.
pub struct Sink {
    to: To,
    /// What has not been written yet. A stream must not get it when a sink is dropped.
    buffer: Vec<u8>,
    name: PathBuf,
}

enum To {
    Whole(Temporary),
    Stream(Box<dyn Write + Send>),
}

impl Sink {
    /// Starts a file, or opens a device or pipe, which is written to as it is.
    ///
    /// The file is written under another name in the same folder, `.NAME.vlc-tmp`, and put in its place once it is whole: at the end of
    /// links, which stay, with the mode and, where the system allows, the owner of the file it replaces. What a process that was killed
    /// left there is removed.
    ///
    /// # Errors
    /// [`Error::Io`] when there can be no such file, or `path` is a directory, a disk or a socket; [`Error::Locked`] while another
    /// process writes it.
    pub fn create(path: impl AsRef<Path>) -> Result<Sink, Error> {
        let path = path.as_ref();
        let to = match Destination::of(path)? {
            Destination::File(target) => To::Whole(Temporary::create(path, target)?),
            Destination::Stream | Destination::Descriptor(_) => {
                // What is open already may be a file with something in it.
                let file = OpenOptions::new().append(true).open(path).map_err(|error| Error::io(path, error))?;
                To::Stream(Box::new(file))
            }
        };
        Ok(Sink { to, buffer: Vec::new(), name: path.to_owned() })
    }

    /// Writes to `stream`, which messages call `name`.
    pub fn stream(stream: impl Write + Send + 'static, name: impl Into<PathBuf>) -> Sink {
        Sink { to: To::Stream(Box::new(stream)), buffer: Vec::new(), name: name.into() }
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// [`Error::Io`] when they cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < BUFFER {
            return Ok(());
        }
        let written = self.to.write(&self.buffer).map_err(|error| Error::io(&self.name, error));
        self.buffer.clear();
        written
    }

    /// Writes what is left, to the disk where it is a file, and gives the file its name.
    ///
    /// # Errors
    /// [`Error::Io`] when writing or renaming fails.
    pub fn finish(self) -> Result<(), Error> {
        let Sink { mut to, buffer, name } = self;
        let written = to.write(&buffer).and_then(|()| match to {
            To::Whole(temporary) => temporary.publish(),
            To::Stream(mut stream) => stream.flush(),
        });
        written.map_err(|error| Error::io(&name, error))
    }

    /// As messages call it.
    pub(super) fn name(&self) -> &Path {
        &self.name
    }
}

impl Debug for Sink {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").field("name", &self.name).finish_non_exhaustive()
    }
}

impl To {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            To::Whole(temporary) => temporary.file.write_all(bytes),
            To::Stream(stream) => stream.write_all(bytes),
        }
    }
}

/// The file that is to become another, locked while it is written. It is removed when dropped.
#[derive(Debug)]
struct Temporary {
    file: File,
    path: PathBuf,
    target: PathBuf,
    published: bool,
}

impl Temporary {
    /// Makes the file that is to become `target`, which `path` leads to.
    fn create(path: &Path, target: PathBuf) -> Result<Temporary, Error> {
        let io = |error| Error::io(path, error);
        let replaced = target.symlink_metadata().ok();
        let temporary = beside(&target);
        for _ in 0..TRIES {
            let file = match open_new(&temporary, replaced.as_ref()) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    sweep(&temporary, path)?;
                    continue;
                }
                Err(error) => return Err(io(error)),
            };
            match file.try_lock() {
                // Whoever came between took it for one that was left.
                Ok(()) if !is_at(&file, &temporary) => continue,
                Err(TryLockError::WouldBlock) => continue,
                // Not every file system has locks: then nobody can tell it from one that was left, and nobody removes it.
                Ok(()) | Err(TryLockError::Error(_)) => {}
            }
            // From here on it is removed, whatever happens.
            let made = Temporary { file, path: temporary, target, published: false };
            return match replaced.map_or(Ok(()), |replaced| keep_access(&replaced, &made.file)) {
                Ok(()) => Ok(made),
                Err(error) => Err(io(error)),
            };
        }
        Err(Error::Locked { path: path.to_owned(), pid: None })
    }

    fn publish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.path, &self.target)?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.published {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The name of a file while it is written. None of a store's own temporary files has it.
fn beside(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default();
    let mut hidden = std::ffi::OsString::from(".");
    if name.len() > LONGEST {
        hidden.push(format!("{:016x}", xxh3_64(name.as_encoded_bytes())));
    } else {
        hidden.push(name);
    }
    hidden.push(".vlc-tmp");
    target.with_file_name(hidden)
}

/// Makes a file where nothing is, not even a link; readable by no more than the file it is to replace.
fn open_new(path: &Path, replaced: Option<&Metadata>) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if let Some(replaced) = replaced {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        options.mode(replaced.permissions().mode() & 0o600);
    }
    #[cfg(not(unix))]
    let _ = replaced;
    options.open(path)
}

/// Removes a temporary file that nobody writes to any more.
///
/// # Errors
/// [`Error::Locked`] where somebody does, [`Error::Io`] where it is something else, or there are no locks to tell by.
fn sweep(temporary: &Path, path: &Path) -> Result<(), Error> {
    let io = |error| Error::io(temporary, error);
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let not_ours = || io(io::Error::new(io::ErrorKind::AlreadyExists, "in the way of what is written; remove it"));
    match temporary.symlink_metadata() {
        Ok(metadata) if !metadata.is_file() => return Err(not_ours()),
        Err(error) if !gone(&error) => return Err(io(error)),
        _ => {}
    }
    // Either will do for a lock, and the mode may forbid one.
    let open = |options: &mut OpenOptions| options.open(temporary);
    let file = open(OpenOptions::new().read(true)).or_else(|_| open(OpenOptions::new().write(true)));
    let file = match file {
        Ok(file) => file,
        Err(error) if gone(&error) => return Ok(()),
        Err(error) => return Err(io(error)),
    };
    match file.try_lock() {
        Ok(()) if is_at(&file, temporary) => match std::fs::remove_file(temporary) {
            Err(error) if !gone(&error) => Err(io(error)),
            _ => Ok(()),
        },
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { path: path.to_owned(), pid: None }),
        Err(TryLockError::Error(_)) => Err(not_ours()),
    }
}
