//! The one place where an index file is mapped.

use std::{fs::File, path::Path};

use memmap2::Mmap;

use crate::Error;

/// A read-only mapping of a `.vlc` file. Several processes that map one file share its pages.
#[derive(Debug)]
pub struct MappedFile(Mmap);

impl MappedFile {
    pub(crate) fn open(path: &Path) -> Result<MappedFile, Error> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let kind = file.metadata().map_err(|e| Error::io(path, e))?;
        if !kind.is_file() {
            let reason = std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file");
            return Err(Error::io(path, reason));
        }
        // SAFETY: the mapping is read-only and this library never changes a .vlc file in place (writers make a new file
        // and rename it). Another program that truncates or rewrites the file while it is mapped breaks this, as with
        // every mapped file; the documentation of `Index::open` says so.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
        Ok(MappedFile(map))
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Maps a file of our own that no other program has a name for or will change.
pub(crate) fn map_own(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: as above; the file is temporary, written by this call alone, and not written to while it is mapped.
    unsafe { Mmap::map(file) }
}
