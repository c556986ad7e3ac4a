//! One writer at a time: a lock file beside the store, held by the operating system's lock on it, so that it ends with the process
//! whatever becomes of it.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use super::disk::beside;
use crate::Error;

/// How often and how long a lock is waited for.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_millis(10);

/// The right to change a store; given back when dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
}

/// The lock file of a store.
pub(crate) fn lock_path(store: &Path) -> PathBuf {
    beside(store, ".lock")
}

impl Lock {
    /// Takes the lock of a store.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process (or another part of this one) has it, [`Error::Io`] when there can be none.
    pub(crate) fn take(store: &Path) -> Result<Lock, Error> {
        // Whoever opens a file holds it for an instant to clear away what a dead writer left.
        let mut tries = 0;
        loop {
            match Lock::try_take(store) {
                Err(Error::Locked { .. }) if tries < TRIES => {
                    tries += 1;
                    std::thread::sleep(PAUSE);
                }
                other => return other,
            }
        }
    }

    /// The same without waiting.
    pub(crate) fn try_take(store: &Path) -> Result<Lock, Error> {
        let path = lock_path(store);
        let io = |error| Error::io(&path, error);
        loop {
            let mut file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let mut text = String::new();
                    let _ = file.read_to_string(&mut text);
                    return Err(Error::Locked { path: store.to_owned(), pid: text.trim().parse().ok() });
                }
                Err(TryLockError::Error(error)) => return Err(io(error)),
            }
            // Whoever had it before may have removed it since it was opened here.
            if !is_still_there(&file, &path) {
                continue;
            }
            let name = |file: &mut File| -> io::Result<()> {
                file.set_len(0)?;
                file.rewind()?;
                write!(file, "{}", std::process::id())
            };
            name(&mut file).map_err(io)?;
            return Ok(Lock { file, path });
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is held, so that nobody waits for a file without a name. Only where that can be told: see `is_still_there`.
        if cfg!(unix) {
            let _ = std::fs::remove_file(&self.path);
        }
        let _ = self.file.unlock();
    }
}

#[cfg(unix)]
fn is_still_there(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    file.metadata().ok().map(identity) == std::fs::metadata(path).ok().map(identity)
}

#[cfg(not(unix))]
fn is_still_there(_: &File, _: &Path) -> bool {
    // Lock files are not removed here.
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("a.vlc");
        let lock = Lock::take(&store).unwrap();
        match Lock::take(&store).unwrap_err() {
            Error::Locked { path, pid } => assert_eq!((path, pid), (store.clone(), Some(std::process::id()))),
            other => panic!("{other}"),
        }
        drop(lock);
        drop(Lock::take(&store).unwrap());
        let left = if cfg!(unix) { 0 } else { 1 };
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), left);
    }

    #[test]
    fn threads_take_turns() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("a.vlc");
        let inside = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut taken = 0;
                    while taken < 200 {
                        if let Ok(_lock) = Lock::try_take(&store) {
                            assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                            inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                            taken += 1;
                        }
                    }
                });
            }
        });
    }
}
