//! Whole files: written under another name, synced, then renamed.

use std::{fs::File, io, path::Path};

use super::{
    disk::{Disk, DiskFile, Folder, Name},
    lock::{Lock, lock_path},
};
use crate::Error;

/// Puts what `write` writes in the place of the store. On any error nothing has changed and nothing is left.
pub(crate) fn publish<D: Disk, R>(
    disk: &D,
    io: &dyn Fn(io::Error) -> Error,
    write: impl FnOnce(&mut D::File) -> Result<R, Error>,
) -> Result<R, Error> {
    let mut file = disk.create(Name::Temporary).map_err(io)?;
    let written = write(&mut file).and_then(|out| file.sync().map(|()| out).map_err(io));
    drop(file);
    let published = written.and_then(|out| disk.replace().map(|()| out).map_err(io));
    match published {
        Ok(out) => disk.sync().map(|()| out).map_err(io),
        Err(error) => {
            let _ = disk.remove(Name::Temporary);
            Err(error)
        }
    }
}

/// The same for a file of the operating system, which nobody else writes to meanwhile.
pub(crate) fn publish_at<R>(path: &Path, write: impl FnOnce(&mut File) -> Result<R, Error>) -> Result<R, Error> {
    let io = |error| Error::io(path, error);
    if let Ok(metadata) = std::fs::metadata(path) {
        if metadata.is_dir() {
            return Err(io(io::ErrorKind::IsADirectory.into()));
        }
        // Renaming would replace a device such as `/dev/null`.
        if !metadata.is_file() {
            return Err(io(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file; name a file to write")));
        }
    }
    let _lock = Lock::take(path)?;
    clear(&Folder::new(path));
    publish(&Folder::new(path), &io, write)
}

/// Clears away what a writer left that died. Nothing is done while one is at work.
pub(crate) fn sweep(path: &Path) {
    let folder = Folder::new(path);
    if !folder.has_temporary() && !lock_path(path).exists() {
        return;
    }
    if let Ok(_lock) = Lock::try_take(path) {
        clear(&folder);
    }
}

/// The same for whoever has the lock.
pub(super) fn clear(folder: &Folder) {
    if folder.has_temporary() {
        let _ = folder.remove(Name::Temporary);
    }
}
