//! Where the path of an output leads: to a file, or to something that is written to as it is.

use std::{
    fs::Metadata,
    io,
    path::{Path, PathBuf},
};

use crate::error::Error;

/// Links that are followed at most, as by the system.
const MOST_LINKS: usize = 40;

/// Where the path of an output leads. Only a file may be replaced by another: to give a new file the name of a device would take the device
/// away.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Destination {
    /// A file, which need not be there yet: the path at the end of all links.
    File(PathBuf),
    /// A character device or a pipe.
    Stream,
    /// An open file of this process, such as `/dev/stdout` (1), whatever it is.
    Descriptor(u32),
}

impl Destination {
    /// Follows the links of `path`. Nothing is opened.
    ///
    /// # Errors
    /// [`Error::Io`] for a directory, a disk, a socket, and a path that cannot be followed.
    pub fn of(path: impl AsRef<Path>) -> Result<Destination, Error> {
        let path = path.as_ref();
        follow(path).map_err(|error| Error::io(path, error))
    }
}

fn follow(path: &Path) -> io::Result<Destination> {
    let mut at = path.to_owned();
    for _ in 0..MOST_LINKS {
        let folder = at.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // `..` at the end, and the root, are folders.
        let name = at.file_name().ok_or(io::ErrorKind::IsADirectory)?;
        let folder = folder.canonicalize()?;
        if let Some(number) = descriptor(&folder, name.to_str()) {
            return Ok(Destination::Descriptor(number));
        }
        let found = folder.join(name);
        match found.symlink_metadata() {
            Ok(metadata) if metadata.is_symlink() => at = folder.join(found.read_link()?),
            Ok(metadata) => return kind(&metadata, found),
            // A link may lead to a file that is not there yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Destination::File(found)),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many links lead on from it"))
}

/// The number of an open file of this process that a folder and a name in it stand for.
fn descriptor(folder: &Path, name: Option<&str>) -> Option<u32> {
    let own = Path::new("/proc").join(std::process::id().to_string()).join("fd");
    (folder == own || folder == Path::new("/dev/fd")).then(|| name?.parse().ok())?
}

fn kind(metadata: &Metadata, path: PathBuf) -> io::Result<Destination> {
    if metadata.is_file() {
        return Ok(Destination::File(path));
    }
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = metadata.file_type();
        if kind.is_char_device() || kind.is_fifo() {
            return Ok(Destination::Stream);
        }
    }
    let message = "neither a file nor a device or pipe that can be written to; name a file";
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn paths_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
        std::fs::write(at("file"), "").unwrap();
        std::fs::create_dir(at("sub")).unwrap();
        symlink("../file", at("sub/link")).unwrap();
        symlink("sub/link", at("twice")).unwrap();
        symlink("sub/new", at("dangling")).unwrap();
        symlink("loop", at("loop")).unwrap();
        symlink("/dev/stdout", at("out")).unwrap();
        symlink("/dev/null", at("null")).unwrap();
        let of = |path: PathBuf| Destination::of(path).unwrap();
        for name in ["file", "sub/link", "twice", "sub/../file"] {
            assert_eq!(of(at(name)), Destination::File(at("file")), "{name}");
        }
        assert_eq!(of(at("dangling")), Destination::File(at("sub/new")));
        assert_eq!(of(at("none")), Destination::File(at("none")));
        for (path, number) in [("/dev/stdout", 1), ("/dev/fd/1", 1), ("/proc/self/fd/7", 7), ("/dev/stderr", 2)] {
            assert_eq!(of(path.into()), Destination::Descriptor(number), "{path}");
        }
        assert_eq!(of(at("out")), Destination::Descriptor(1));
        assert_eq!([of("/dev/null".into()), of(at("null"))], [Destination::Stream, Destination::Stream]);
        for wrong in ["sub", "loop", "none/x", "file/x", "sub/.."] {
            assert!(matches!(Destination::of(at(wrong)), Err(Error::Io { .. })), "{wrong}");
        }
    }
}
