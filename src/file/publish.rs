//! Whole files: written under another name, synced, then renamed.

use std::{fs::File, io, path::Path};

use super::{
    disk::{Disk, DiskFile, Folder, Name},
    lock,
};
use crate::{error::Error, report::Event};

/// Hears of a change that is about to become visible, and may still end it.
pub(crate) type Tell<'a> = dyn Fn(&Event<'_>) -> Result<(), Error> + 'a;

/// Puts what `write` writes in the place of the store. On any error but [`Error::Uncertain`] nothing has changed and nothing is left.
pub(crate) fn publish<D: Disk, R>(
    disk: &D,
    path: &Path,
    tell: &Tell<'_>,
    write: impl FnOnce(&mut D::File) -> Result<R, Error>,
) -> Result<R, Error> {
    let io = |error| Error::io(path, error);
    let mut file = disk.create(Name::Temporary).map_err(io)?;
    let written = write(&mut file)
        .and_then(|out| file.sync().map(|()| out).map_err(io))
        .and_then(|out| tell(&Event::Committing).map(|()| out));
    let published = written.and_then(|out| disk.replace(file).map(|()| out).map_err(io));
    match published {
        Ok(out) => disk.sync().map(|()| out).map_err(|source| Error::uncertain(path, source)),
        Err(error) => {
            let _ = disk.remove(Name::Temporary);
            Err(error)
        }
    }
}

/// The same for a file of the operating system that may or may not be there. Through a symbolic link its target is replaced; the new file
/// gets the permissions of the old one.
pub(crate) fn publish_at<R>(
    path: &Path,
    tell: &Tell<'_>,
    write: impl FnOnce(&mut File) -> Result<R, Error>,
) -> Result<R, Error> {
    let io = |error| Error::io(path, error);
    let folder = Folder::at(path);
    let mut held = None;
    if let Ok(metadata) = std::fs::metadata(folder.store()) {
        if metadata.is_dir() {
            return Err(io(io::ErrorKind::IsADirectory.into()));
        }
        // Renaming would replace a device such as `/dev/null`.
        if !metadata.is_file() {
            return Err(io(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file; name a file to write")));
        }
        // Nobody else changes it meanwhile. What may not be written to may be replaced where its folder allows that.
        held = match lock::take(folder.store()) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => None,
            taken => Some(taken?),
        };
    }
    let published = publish(&folder, path, tell, write);
    drop(held);
    published.map_err(|error| match error {
        // A temporary file is locked by whoever writes it.
        Error::Io { source, .. } if source.kind() == io::ErrorKind::WouldBlock => {
            Error::Locked { path: path.to_owned(), pid: None }
        }
        other => other,
    })
}

/// Clears away what a writer of a file left that died. Nothing is done while one is at work, or to what is none of ours.
pub(crate) fn sweep(path: &Path) {
    Folder::at(path).sweep();
}
