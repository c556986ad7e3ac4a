//! Outputs: whole or not at all, through links, with the mode of what they replace, and straight into streams.

use std::{
    fs,
    io::{Read, Write},
    sync::mpsc,
};

use super::file;
use crate::{
    error::Error,
    read::{sink::Sink, write::write_lines},
};

/// Names in the folder of a test.
fn names(folder: &tempfile::TempDir) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_a_killed_writer_left_goes_with_the_next() {
    let (folder, path) = file("a.txt", b"older");
    let left = folder.path().join(".a.txt.vlc-tmp");
    fs::write(&left, "half of it").unwrap();
    let mut sink = Sink::create(&path).unwrap();
    sink.write(b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"older");
    // One at a time, in this process too.
    assert!(matches!(Sink::create(&path), Err(Error::Locked { path: locked, .. }) if locked == path));
    sink.finish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(names(&folder), ["a.txt"]);
    // Dropped before it is whole.
    fs::write(&left, "half of it").unwrap();
    Sink::create(&path).unwrap().write(b"never").unwrap();
    assert_eq!((fs::read(&path).unwrap(), names(&folder)), (b"new".to_vec(), vec!["a.txt".to_owned()]));
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let (folder, path) = file("a.txt", b"older");
    let in_the_way = folder.path().join(".a.txt.vlc-tmp");
    fs::create_dir(&in_the_way).unwrap();
    let error = Sink::create(&path).unwrap_err();
    assert!(error.to_string().contains(".a.txt.vlc-tmp: in the way"), "{error}");
    fs::remove_dir(&in_the_way).unwrap();
    // The longest of names.
    let long = folder.path().join("x".repeat(255));
    write_lines(&long, ["1"]).unwrap();
    assert_eq!(names(&folder).len(), 2);
}

#[test]
fn streams_are_written_as_they_come() {
    struct Channel(mpsc::Sender<Vec<u8>>);
    impl Write for Channel {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(std::io::Error::other)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (sender, receiver) = mpsc::channel();
    let mut sink = Sink::stream(Channel(sender), "standard output");
    sink.lines(["a", "b"]).unwrap();
    sink.finish().unwrap();
    assert_eq!(receiver.into_iter().flatten().collect::<Vec<u8>>(), b"a\nb\n");
    let (sender, receiver) = mpsc::channel();
    drop(receiver);
    let mut sink = Sink::stream(Channel(sender), "standard output");
    sink.lines(["a"]).unwrap();
    assert!(sink.finish().unwrap_err().to_string().starts_with("standard output: "));
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn links_stay_and_modes_are_kept() {
        let (folder, path) = file("a.txt", b"older");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("links")).unwrap();
        symlink("../a.txt", at("links/link")).unwrap();
        symlink("links/link", at("twice")).unwrap();
        symlink("new.txt", at("dangling")).unwrap();
        for mode in [0o600, 0o640, 0o444, 0o755] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let owner = |m: fs::Metadata| (m.uid(), m.gid());
            let before = owner(fs::metadata(&path).unwrap());
            write_lines(at("twice"), [mode.to_string()]).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{mode}\n"));
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!((metadata.permissions().mode() & 0o7777, owner(metadata)), (mode, before));
        }
        write_lines(at("dangling"), ["x"]).unwrap();
        assert_eq!(fs::read_to_string(at("new.txt")).unwrap(), "x\n");
        for link in ["twice", "links/link", "dangling"] {
            assert!(at(link).symlink_metadata().unwrap().is_symlink(), "{link}");
        }
        assert_eq!(names(&folder), ["a.txt", "dangling", "links", "new.txt", "twice"]);
    }

    /// Where it may: only root gives files away.
    #[test]
    fn owners_are_kept() {
        let (_folder, path) = file("a.txt", b"older");
        if std::os::unix::fs::chown(&path, Some(12_345), Some(23_456)).is_ok() {
            write_lines(&path, ["x"]).unwrap();
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (12_345, 23_456));
        }
    }

    /// One that is put where the temporary file will be, pointing elsewhere.
    #[test]
    fn no_link_is_followed_to_a_temporary_file() {
        let (folder, path) = file("a.txt", b"older");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("precious"), "kept").unwrap();
        for to in ["precious", "none"] {
            symlink(to, at(".a.txt.vlc-tmp")).unwrap();
            assert!(matches!(write_lines(&path, ["x"]), Err(Error::Io { .. })));
            fs::remove_file(at(".a.txt.vlc-tmp")).unwrap();
        }
        // A hard link is removed, and what it names is not written to.
        fs::hard_link(at("precious"), at(".a.txt.vlc-tmp")).unwrap();
        write_lines(&path, ["x"]).unwrap();
        assert_eq!(fs::read_to_string(at("precious")).unwrap(), "kept");
        assert_eq!(names(&folder), ["a.txt", "precious"]);
    }

    #[test]
    fn pipes_and_devices_are_written_to_and_stay() {
        use std::os::unix::fs::FileTypeExt;
        write_lines("/dev/null", ["x"]).unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        #[cfg(target_os = "linux")]
        {
            let error = write_lines("/dev/full", ["x"]).unwrap_err();
            assert!(matches!(&error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull));
            assert!(fs::metadata("/dev/full").unwrap().file_type().is_char_device());
        }
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || {
                let mut text = String::new();
                fs::File::open(pipe).unwrap().read_to_string(&mut text).unwrap();
                text
            }
        });
        write_lines(&pipe, ["a", "b"]).unwrap();
        assert_eq!(reader.join().unwrap(), "a\nb\n");
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
        assert_eq!(names(&folder), ["pipe"]);
    }

    #[test]
    fn a_socket_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let error = write_lines(&path, ["x"]).unwrap_err();
        assert!(error.to_string().contains("neither a file nor a device"), "{error}");
    }

    /// A limit on the size of files stands in for a full disk: the shell sets it for a second run of this test.
    #[test]
    fn a_full_disk_leaves_nothing() {
        const VARIABLE: &str = "VLC_TEST_FULL_RESULT";
        let write = |path: &std::path::Path| write_lines(path, std::iter::repeat_n("x".repeat(999), 1000));
        if let Some(path) = std::env::var_os(VARIABLE) {
            assert!(matches!(write(path.as_ref()), Err(Error::Io { .. })));
            return;
        }
        let (folder, path) = file("a.txt", b"older");
        let run = std::process::Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 100; exec \"$0\" --exact read::tests::sinks::unix::a_full_disk_leaves_nothing"])
            .arg(std::env::current_exe().unwrap())
            .env(VARIABLE, &path)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&run.stderr));
        assert_eq!((fs::read(&path).unwrap(), names(&folder)), (b"older".to_vec(), vec!["a.txt".to_owned()]));
        write(&path).unwrap();
    }
}
