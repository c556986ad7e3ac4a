//! The one place where files are mapped.

use std::{
    fs::File,
    io,
    ops::Deref,
    path::{Path, PathBuf},
};

use memmap2::Mmap;

use super::guard::{Entered, Mark};
use crate::error::{Error, ParseError};

/// A read-only mapping that the [guard](crate::file::guard::guard_mappings) knows.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// Ahead of the mapping, so that it is dropped first.
    entered: Entered,
    map: Mmap,
}

impl Mapping {
    /// Maps a `.vlc` file.
    pub(crate) fn of_store(file: &File) -> io::Result<Mapping> {
        // SAFETY: the mapping is read-only and this library never changes what is committed of a .vlc file in place: writers add
        // behind it, cut off what is not committed, which no reader looks at, or rename another file over it. Another program
        // that truncates or rewrites the file while it is mapped breaks this, as with every mapped file; the documentation of
        // `Index::open` says so.
        unsafe { Mapping::new(file) }
    }

    /// Maps a file of vectors.
    pub(crate) fn of_vectors(file: &File) -> io::Result<Mapping> {
        // SAFETY: the mapping is only read, and every offset into it is checked against its length. What it cannot rule
        // out is someone changing the file meanwhile: `VectorFile::open` asks its callers for that.
        unsafe { Mapping::new(file) }
    }

    /// Maps a file of our own that no other program has a name for or will change.
    pub(crate) fn of_own(file: &File) -> io::Result<Mapping> {
        // SAFETY: the file is temporary, written by this call alone, and not written to while it is mapped.
        unsafe { Mapping::new(file) }
    }

    /// # Safety
    /// As that of [`Mmap::map`].
    unsafe fn new(file: &File) -> io::Result<Mapping> {
        // SAFETY: the caller's promise is passed on.
        let map = unsafe { Mmap::map(file) }?;
        Ok(Mapping { entered: Entered::new(&map), map })
    }

    pub(crate) fn mark(&self) -> Mark {
        self.entered.mark()
    }

    /// An error where a part of the file was gone when it was read, and zeros stood in its place.
    pub(crate) fn whole(&self) -> io::Result<()> {
        whole(self.mark())
    }
}

fn whole(mark: Mark) -> io::Result<()> {
    let message = "the file became shorter, or unreadable, while it was read; nothing that was read of it is used";
    if mark.is_damaged() { Err(io::Error::new(io::ErrorKind::UnexpectedEof, message)) } else { Ok(()) }
}

impl Deref for Mapping {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.map
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

/// A read-only mapping of a `.vlc` file. Several processes that map one file share its pages.
#[derive(Debug)]
pub struct MappedFile {
    map: Mapping,
    file: File,
}

impl MappedFile {
    /// Of a file that is open.
    pub(crate) fn of(file: File) -> io::Result<MappedFile> {
        Ok(MappedFile { map: Mapping::of_store(&file)?, file })
    }

    pub(crate) fn open(path: &Path) -> Result<MappedFile, Error> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let kind = file.metadata().map_err(|e| Error::io(path, e))?;
        if !kind.is_file() {
            let reason = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
            return Err(Error::io(path, reason));
        }
        MappedFile::of(file).map_err(|e| Error::io(path, e))
    }
}

/// Notices when another program has truncated a mapped file, whose last pages must not be touched then.
#[derive(Debug)]
pub(crate) struct Watch {
    file: File,
    len: u64,
    mark: Mark,
    path: PathBuf,
}

impl Watch {
    pub(crate) fn new(mapped: &MappedFile, path: &Path) -> Option<Watch> {
        let MappedFile { map, file } = mapped;
        Some(Watch { file: file.try_clone().ok()?, len: map.len() as u64, mark: map.mark(), path: path.to_owned() })
    }

    /// Asked before work, so that pages that are gone are not touched, and after it, so that nothing is answered from what stood
    /// in their place.
    ///
    /// # Errors
    /// [`Error::Format`] when the file is shorter than `needed` bytes by now, or was when it was read.
    pub(crate) fn check(&self, needed: u64) -> Result<(), Error> {
        let found = self.file.metadata().map_err(|e| Error::io(&self.path, e))?.len();
        if found < needed.min(self.len) {
            let source = ParseError::Length { expected: needed, found };
            return Err(Error::Format { path: self.path.clone(), source });
        }
        if self.mark.is_damaged() {
            return Err(Error::Format { path: self.path.clone(), source: ParseError::Shrunk });
        }
        Ok(())
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}
