//! A folder for files, in memory where the system has such a place: syncing is free there.

use std::{path::Path, sync::OnceLock};

use tempfile::TempDir;

/// The folder of this process.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let make = || {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
    };
    FOLDER.get_or_init(make).path()
}
