//! What a writer does to files, as few operations as can be: so that tests can put a disk in their place that fails, and one that
//! loses power.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    access::keep_access,
    lock::{self, Held, beside},
    mmap::{MappedFile, Watch},
};
use crate::{error::Error, format};

/// The two names a writer uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    /// The store.
    Store,
    /// What is to become the store.
    Temporary,
}

/// A folder with a store in it.
pub(crate) trait Disk {
    type File: DiskFile;

    /// Opens a file that is there.
    fn open(&self, name: Name) -> io::Result<Self::File>;

    /// Makes an empty file, in the place of one that a writer may have left.
    fn create(&self, name: Name) -> io::Result<Self::File>;

    /// Gives the temporary file the name of the store, at once.
    fn replace(&self, temporary: Self::File) -> io::Result<()>;

    /// How many names the store has: a new file would get one of them only.
    fn names(&self) -> u64 {
        1
    }

    /// Fails where the name of the store has become that of another file.
    fn check(&self) -> io::Result<()> {
        Ok(())
    }

    /// Removes a file if it is there.
    fn remove(&self, name: Name) -> io::Result<()>;

    /// Makes what was done to names outlast a loss of power.
    fn sync(&self) -> io::Result<()>;
}

/// An open file.
pub(crate) trait DiskFile {
    type Bytes: AsRef<[u8]>;

    fn len(&self) -> io::Result<u64>;

    /// What it holds now.
    fn bytes(&self) -> io::Result<Self::Bytes>;

    /// What tells whether bytes that it gave are still those of the file, where they may not be.
    fn watch(&self, _bytes: &Self::Bytes, _path: &Path) -> Option<Watch> {
        None
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;

    fn set_len(&mut self, len: u64) -> io::Result<()>;

    /// Makes what was written outlast a loss of power.
    fn sync(&mut self) -> io::Result<()>;
}

/// A folder of the operating system, with a store in it that may be locked.
#[derive(Debug)]
pub(crate) struct Folder {
    store: PathBuf,
    temporary: PathBuf,
    held: Mutex<Option<Held>>,
}

/// What a temporary file begins with from its first moment on, by which it is known to be ours.
const MARK: [u8; 8] = format::MAGIC;

impl Folder {
    /// That of the file that `path` leads to.
    pub(crate) fn at(path: &Path) -> Folder {
        let store = lock::resolve(path);
        let temporary = beside(&store, ".tmp");
        Folder { store, temporary, held: Mutex::new(None) }
    }

    /// The same, with the store locked for as long as it lives.
    pub(crate) fn locked(path: &Path) -> Result<Folder, Error> {
        let Folder { store, temporary, .. } = Folder::at(path);
        let held = lock::take(&store).map_err(|error| match error {
            // By the name that its caller knows.
            Error::Locked { pid, .. } => Error::Locked { path: path.to_owned(), pid },
            Error::Io { source, .. } => Error::io(path, source),
            other => other,
        })?;
        Ok(Folder { store, temporary, held: Mutex::new(Some(held)) })
    }

    /// Where the store is.
    pub(crate) fn store(&self) -> &Path {
        &self.store
    }

    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, name: Name) -> &Path {
        match name {
            Name::Store => &self.store,
            Name::Temporary => &self.temporary,
        }
    }

    /// Removes a temporary file that nobody writes to.
    pub(crate) fn sweep(&self) {
        if std::fs::symlink_metadata(&self.temporary).is_ok_and(|metadata| metadata.is_file())
            && let Ok(left) = self.take_over()
        {
            let _ = std::fs::remove_file(&self.temporary);
            drop(left);
        }
    }

    /// Locks the temporary file that another left, if it is one of ours.
    fn take_over(&self) -> io::Result<File> {
        let in_the_way = |what: &str| {
            let message = format!("{} is in the way: {what}; move it", self.temporary.display());
            io::Error::new(io::ErrorKind::AlreadyExists, message)
        };
        let metadata = std::fs::symlink_metadata(&self.temporary)?;
        if !metadata.is_file() {
            return Err(in_the_way("it is no regular file"));
        }
        let mut file = no_follow(OpenOptions::new().read(true).write(true)).open(&self.temporary)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if !lock::is_at(&file, &self.temporary) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut first = Vec::new();
        Read::by_ref(&mut file).take(MARK.len() as u64).read_to_end(&mut first)?;
        // A writer that died at once has left an empty one.
        if first != MARK && !first.is_empty() {
            return Err(in_the_way("no file of this program"));
        }
        Ok(file)
    }

    /// Makes the temporary file, locked.
    fn make_temporary(&self) -> io::Result<File> {
        loop {
            let made = no_follow(OpenOptions::new().read(true).write(true).create_new(true)).open(&self.temporary);
            let mut file = match made {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match self.take_over() {
                    // It went meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    taken => taken?,
                },
                Err(error) => return Err(error),
                Ok(file) => match file.try_lock() {
                    Ok(()) if lock::is_at(&file, &self.temporary) => file,
                    Err(TryLockError::Error(error)) => return Err(error),
                    // Whoever sweeps has taken it for one that was left.
                    _ => continue,
                },
            };
            // From the start, so that nobody reads what he could not read in the store.
            if let Ok(old) = std::fs::metadata(&self.store) {
                keep_access(&old, &file)?;
            }
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(&MARK)?;
            file.rewind()?;
            return Ok(file);
        }
    }
}

#[cfg(unix)]
fn no_follow(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    options.custom_flags(libc::O_NOFOLLOW)
}

#[cfg(not(unix))]
fn no_follow(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

impl Disk for Folder {
    type File = File;

    fn open(&self, name: Name) -> io::Result<File> {
        if name == Name::Store {
            self.check()?;
        }
        OpenOptions::new().read(true).write(true).open(self.path(name))
    }

    fn create(&self, name: Name) -> io::Result<File> {
        match name {
            Name::Temporary => self.make_temporary(),
            Name::Store => OpenOptions::new().read(true).write(true).create_new(true).open(&self.store),
        }
    }

    fn replace(&self, temporary: File) -> io::Result<()> {
        self.check()?;
        if !cfg!(unix) {
            // Elsewhere a locked file cannot be read.
            temporary.unlock()?;
        }
        std::fs::rename(&self.temporary, &self.store).map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => io::Error::new(
                error.kind(),
                "it is a mount point of its own, as containers mount single files, so no other file can take its place; mount its \
                 folder instead",
            ),
            _ => error,
        })?;
        // The new file was locked when it was made, and is the store from now on.
        if let Some(held) = &mut *self.held() {
            held.moved_to(temporary);
        }
        Ok(())
    }

    fn names(&self) -> u64 {
        std::fs::metadata(&self.store).map_or(1, |metadata| links(&metadata))
    }

    fn check(&self) -> io::Result<()> {
        match &*self.held() {
            Some(held) if !lock::is_at(&held.file, &self.store) => Err(io::Error::new(
                io::ErrorKind::NotFound,
                "another program has put another file in its place, or removed it, while it was open; open it again",
            )),
            _ => Ok(()),
        }
    }

    fn remove(&self, name: Name) -> io::Result<()> {
        match std::fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        sync_folder(&self.store)
    }
}

#[cfg(unix)]
fn links(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(metadata)
}

#[cfg(not(unix))]
fn links(_: &std::fs::Metadata) -> u64 {
    1
}

/// Syncs the folder that `path` is in.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Not every system lets a folder be opened, or synced; those that do say so when it fails.
    match File::open(folder) {
        Ok(opened) if cfg!(unix) => opened.sync_all(),
        _ => Ok(()),
    }
}

impl DiskFile for File {
    type Bytes = MappedFile;

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn bytes(&self) -> io::Result<MappedFile> {
        MappedFile::of(self.try_clone()?)
    }

    fn watch(&self, bytes: &MappedFile, path: &Path) -> Option<Watch> {
        Watch::new(bytes, path)
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.seek(SeekFrom::Start(at))?;
        self.write_all(bytes)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

/// Writes to a file from some place on.
pub(crate) struct Sink<'a, F> {
    pub(crate) file: &'a mut F,
    pub(crate) at: u64,
}

impl<F: DiskFile> Write for Sink<'_, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(self.at, bytes)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
