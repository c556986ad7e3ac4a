//! One writer at a time: the operating system's lock on the store's own file, whatever name led there. It ends with the process, whatever
//! becomes of that.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::error::Error;

/// How often and how long a lock is waited for.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_millis(10);

/// Links followed to the file they lead to, at most.
const LINKS: usize = 40;

/// The file that a path leads to through symbolic links, whether it is there or not.
pub(crate) fn resolve(path: &Path) -> PathBuf {
    if let Ok(found) = path.canonicalize() {
        return found;
    }
    // The last link may lead to a file that is still to be made.
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        let Ok(to) = std::fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("")).join(to);
    }
    path
}

/// A store that is open and locked, for as long as this lives.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) file: File,
    /// Where the store itself cannot be locked: what is in its place.
    _beside: Option<File>,
}

/// Opens and locks the store at `path`, which follows from [`resolve`].
///
/// # Errors
/// [`Error::Locked`] when another process (or another part of this one) has it, after a short wait; [`Error::Io`].
pub(super) fn take(path: &Path) -> Result<Held, Error> {
    // Whoever replaces a file holds it for an instant only.
    let mut tries = 0;
    loop {
        match try_take(path) {
            Err(Error::Locked { .. }) if tries < TRIES => {
                tries += 1;
                std::thread::sleep(PAUSE);
            }
            other => return other,
        }
    }
}

fn try_take(path: &Path) -> Result<Held, Error> {
    let io = |error| Error::io(path, error);
    loop {
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(io)?;
        if !file.metadata().map_err(io)?.is_file() {
            return Err(io(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
        }
        // Elsewhere nobody could read a file that is locked: one beside it stands for it, and stays.
        let beside = match cfg!(unix) {
            true => None,
            false => Some(File::create(beside(path, ".lock")).map_err(io)?),
        };
        match beside.as_ref().unwrap_or(&file).try_lock() {
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Locked { path: path.to_owned(), pid: holder(&file) });
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
            // Another file may have been renamed over it since it was opened here.
            Ok(()) if is_at(&file, path) => return Ok(Held { file, _beside: beside }),
            Ok(()) => {}
        }
    }
}

impl Held {
    /// The lock goes on to the file that has taken the store's place, which is locked already.
    pub(super) fn moved_to(&mut self, file: File) {
        self.file = file;
    }
}

/// Whether a path still is the name of an open file.
#[cfg(unix)]
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    file.metadata().ok().map(identity) == std::fs::symlink_metadata(path).ok().map(identity)
}

#[cfg(not(unix))]
pub(crate) fn is_at(_: &File, path: &Path) -> bool {
    // A file that is open cannot be removed here.
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_file())
}

/// The process that has a lock on a file, where the system tells (Linux).
fn holder(file: &File) -> Option<u32> {
    of_inode(&std::fs::read_to_string("/proc/locks").ok()?, inode(file)?)
}

/// The process in a line of `/proc/locks`: `1: FLOCK  ADVISORY  WRITE 1234 00:2f:5678 0 EOF`.
fn of_inode(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (kind, pid, place) = (words.next()?, words.nth(2)?, words.next()?);
        let same = kind == "FLOCK" && place.rsplit(':').next()?.parse() == Ok(inode);
        pid.parse().ok().filter(|_| same)
    })
}

#[cfg(unix)]
fn inode(file: &File) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    file.metadata().ok().map(|metadata| metadata.ino())
}

#[cfg(not(unix))]
fn inode(_: &File) -> Option<u64> {
    None
}

/// The hidden file beside `path` with another ending.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(ending);
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_whatever_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("a.vlc");
        std::fs::write(&store, b"store").unwrap();
        let store = resolve(&store);
        let mut names = vec![store.clone()];
        if cfg!(unix) {
            let (hard, soft) = (store.with_file_name("b.vlc"), store.with_file_name("c.vlc"));
            std::fs::hard_link(&store, &hard).unwrap();
            #[cfg(unix)]
            std::os::unix::fs::symlink("a.vlc", &soft).unwrap();
            names.extend([hard, resolve(&soft)]);
        }
        let lock = take(&store).unwrap();
        for name in &names {
            match take(name).unwrap_err() {
                Error::Locked { path, pid } => {
                    assert_eq!(&path, name);
                    assert!(!cfg!(target_os = "linux") || pid == Some(std::process::id()), "{pid:?}");
                }
                other => panic!("{other}"),
            }
        }
        drop(lock);
        for name in &names {
            drop(take(name).unwrap());
        }
    }

    #[test]
    fn threads_take_turns() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("a.vlc");
        std::fs::write(&store, b"store").unwrap();
        let inside = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (store, inside) = (&store, &inside);
                scope.spawn(move || {
                    let mut taken = 0;
                    while taken < 200 {
                        if let Ok(_lock) = try_take(store) {
                            assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                            // Others must not take the file that is renamed away for the store.
                            if taken % 8 == 0 {
                                let new = store.with_extension(format!("{thread}"));
                                let file = File::create(&new).unwrap();
                                file.try_lock().unwrap();
                                std::fs::rename(&new, store).unwrap();
                                inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                            } else {
                                inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                            }
                            taken += 1;
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn links_lead_to_files_that_are_still_to_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        assert_eq!(resolve(&folder.join("none.vlc")), folder.join("none.vlc"));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("to.vlc", folder.join("one")).unwrap();
            std::os::unix::fs::symlink(folder.join("one"), folder.join("two")).unwrap();
            assert_eq!(resolve(&folder.join("two")), folder.join("to.vlc"));
            // A circle leads nowhere, and ends.
            std::os::unix::fs::symlink("me", folder.join("me")).unwrap();
            assert_eq!(resolve(&folder.join("me")).file_name().unwrap(), "me");
        }
    }

    #[test]
    fn the_holder_is_found() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 00:2f:77 0 EOF\n2: FLOCK  ADVISORY  WRITE 4242 00:2f:77 0 EOF\n";
        assert_eq!(of_inode(locks, 77), Some(4242));
        assert_eq!(of_inode(locks, 7), None);
    }
}
