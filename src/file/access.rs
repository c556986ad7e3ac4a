//! Who may read and write a file that takes the place of another.

use std::{
    fs::{File, Metadata},
    io,
};

/// Gives a new file the mode of the one whose place it takes and, as far as the system allows, owner and group.
#[cfg(unix)]
pub(crate) fn keep_access(old: &Metadata, new: &File) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let now = new.metadata()?;
    // First the owner: changing it takes bits off the mode. Only root may give a file away; a group may be another of one's own.
    if now.uid() != old.uid() {
        let _ = fchown(new, Some(old.uid()), None);
    }
    if now.gid() != old.gid() {
        let _ = fchown(new, None, Some(old.gid()));
    }
    new.set_permissions(old.permissions())
}

#[cfg(not(unix))]
pub(crate) fn keep_access(_: &Metadata, _: &File) -> io::Result<()> {
    Ok(())
}
