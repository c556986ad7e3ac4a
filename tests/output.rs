//! Files that cannot be written: a clear error, and what was there before stays as it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::path::Path;

use vlc::{Error, Metric};

use common::{clustered, listing, roomy};

/// Fails to write to `path`, naming it.
#[track_caller]
fn fails(path: &Path) -> String {
    let rows = clustered(1, 300, 8);
    let error = vlc::compress_to(&rows.view(), path, &roomy(Metric::Cosine)).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
    let index = vlc::compress(rows.view(), &roomy(Metric::Cosine)).unwrap();
    let again = vlc::write_index(&index, path).unwrap_err();
    assert!(matches!(again, Error::Io { .. }), "{again:?}");
    error.to_string()
}

#[test]
fn directories_that_cannot_take_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing/out.vlc");
    assert!(fails(&missing).contains("missing"));
    let file = directory.path().join("file");
    std::fs::write(&file, "kept").unwrap();
    assert!(fails(&file.join("out.vlc")).contains("file"));
    let taken = directory.path().join("taken.vlc");
    std::fs::create_dir(&taken).unwrap();
    fails(&taken);
    assert_eq!(listing(directory.path()), [file.clone(), taken]);
    assert_eq!(std::fs::read_to_string(file).unwrap(), "kept");
}

#[cfg(unix)]
#[test]
fn a_read_only_directory() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let closed = directory.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o555)).unwrap();
    // Root writes anywhere, so there is nothing to see.
    if std::fs::write(closed.join("probe"), "").is_err() {
        assert!(fails(&closed.join("out.vlc")).contains("out.vlc"));
        assert!(listing(&closed).is_empty());
    }
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn an_older_file_is_replaced_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.vlc");
    std::fs::write(&path, "older").unwrap();
    let rows = clustered(2, 100, 4);
    let mut bad = clustered(2, 100, 4);
    bad.row_mut(99)[3] = f32::NAN;
    vlc::compress_to(&bad.view(), &path, &roomy(Metric::Dot)).unwrap_err();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "older");
    vlc::compress_to(&rows.view(), &path, &roomy(Metric::Dot)).unwrap();
    vlc::Index::open(&path).unwrap().verify().unwrap();
    assert_eq!(listing(directory.path()), [path]);
}

/// A limit on the size of files stands in for a full disk: the shell sets it for a second run of this binary.
#[cfg(unix)]
#[test]
fn a_full_disk() {
    const VARIABLE: &str = "VLC_TEST_FULL_DISK";
    if let Some(path) = std::env::var_os(VARIABLE) {
        let rows = clustered(3, 6000, 16);
        let error = vlc::compress_to(&rows.view(), Path::new(&path), &roomy(Metric::Cosine)).unwrap_err();
        assert!(matches!(error, Error::Io { .. }) && error.to_string().contains("out.vlc"), "{error:?}");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let this = std::env::current_exe().unwrap();
    // 16 blocks of 512 bytes (1,024 in some shells). Without the trap the first byte too many would end the process.
    let run = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" --exact a_full_disk"])
        .arg(this)
        .env(VARIABLE, directory.path().join("out.vlc"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{text}{}", String::from_utf8_lossy(&run.stderr));
    assert!(text.contains("1 passed"), "{text}");
    assert!(listing(directory.path()).is_empty());
}
