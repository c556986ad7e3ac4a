//! The one place where an index file is mapped.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use memmap2::Mmap;

use crate::{Error, format::ParseError};

/// A read-only mapping of a `.vlc` file. Several processes that map one file share its pages.
#[derive(Debug)]
pub struct MappedFile {
    map: Mmap,
    file: File,
}

impl MappedFile {
    pub(crate) fn open(path: &Path) -> Result<MappedFile, Error> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let kind = file.metadata().map_err(|e| Error::io(path, e))?;
        if !kind.is_file() {
            let reason = std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file");
            return Err(Error::io(path, reason));
        }
        let map = MappedFile::map(&file).map_err(|e| Error::io(path, e))?;
        Ok(MappedFile { map, file })
    }

    /// Maps an open `.vlc` file.
    pub(crate) fn map(file: &File) -> std::io::Result<Mmap> {
        // SAFETY: the mapping is read-only and this library never changes what is committed of a .vlc file in place: writers add
        // behind it, cut off what is not committed, which no reader looks at, or rename another file over it. Another program
        // that truncates or rewrites the file while it is mapped breaks this, as with every mapped file; the documentation of
        // `Index::open` says so.
        unsafe { Mmap::map(file) }
    }
}

/// Notices when another program has truncated a mapped file, whose last pages must not be touched then.
#[derive(Debug)]
pub(crate) struct Watch {
    file: File,
    len: u64,
    path: PathBuf,
}

impl Watch {
    pub(crate) fn new(mapped: &MappedFile, path: &Path) -> Option<Watch> {
        let file = mapped.file.try_clone().ok()?;
        Some(Watch { file, len: mapped.map.len() as u64, path: path.to_owned() })
    }

    /// # Errors
    /// [`Error::Format`] when the file is shorter than `needed` bytes by now.
    pub(crate) fn check(&self, needed: u64) -> Result<(), Error> {
        let found = self.file.metadata().map_err(|e| Error::io(&self.path, e))?.len();
        if found >= needed.min(self.len) {
            return Ok(());
        }
        let source = ParseError::Length { expected: needed, found };
        Err(Error::Format { path: self.path.clone(), source })
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

/// Maps a file of our own that no other program has a name for or will change.
pub(crate) fn map_own(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: as above; the file is temporary, written by this call alone, and not written to while it is mapped.
    unsafe { Mmap::map(file) }
}
