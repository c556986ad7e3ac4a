//! What a writer does to files, as few operations as can be: so that tests can put a disk in their place that fails, and one that
//! loses power.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use crate::mmap::{Mapping, Watch};

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

    /// Makes an empty file, in the place of one that may be there.
    fn create(&self, name: Name) -> io::Result<Self::File>;

    /// Gives the temporary file the name of the store, at once.
    fn replace(&self) -> io::Result<()>;

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

/// A folder of the operating system.
#[derive(Debug)]
pub(crate) struct Folder {
    store: PathBuf,
    temporary: PathBuf,
}

impl Folder {
    pub(crate) fn new(store: &Path) -> Folder {
        Folder { store: store.to_owned(), temporary: beside(store, ".tmp") }
    }

    /// Whether a temporary file is there.
    pub(crate) fn has_temporary(&self) -> bool {
        self.temporary.exists()
    }

    fn path(&self, name: Name) -> &Path {
        match name {
            Name::Store => &self.store,
            Name::Temporary => &self.temporary,
        }
    }
}

/// The hidden file beside `path` with another ending.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(ending);
    path.with_file_name(name)
}

impl Disk for Folder {
    type File = File;

    fn open(&self, name: Name) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.path(name))
    }

    fn create(&self, name: Name) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(self.path(name))
    }

    fn replace(&self) -> io::Result<()> {
        std::fs::rename(&self.temporary, &self.store)
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
    type Bytes = Mapping;

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn bytes(&self) -> io::Result<Mapping> {
        Mapping::of_store(self)
    }

    fn watch(&self, bytes: &Mapping, path: &Path) -> Option<Watch> {
        Watch::of(self, bytes, path)
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
