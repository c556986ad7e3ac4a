//! The file is the only copy: no change seals damage with new hashes, takes a name for another file's, or loses what the file was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use vlc::{
    Budget, Config, EncodeOptions, Error, Ids, Index, Metric, Store, compress_to, merge, transcode, write_index,
};

use common::{Random, clustered, config, listing};

const DIM: usize = 12;
const ROWS: usize = 400;

/// Ids and decoded values.
type Contents = BTreeMap<String, Vec<u32>>;

fn contents(index: &Index<impl AsRef<[u8]>>) -> Contents {
    let n = index.len();
    let ids: Vec<String> = match index.ids(0..n).unwrap() {
        Ids::Numbers(ids) => ids.iter().map(u64::to_string).collect(),
        Ids::Text(ids) => ids,
    };
    let decoded = index.decode(0..n).unwrap();
    let row = |i: usize| decoded.row(i).iter().map(|v| v.to_bits()).collect();
    ids.into_iter().enumerate().map(|(i, id)| (id, row(i))).collect()
}

/// A store with two segments, of which some rows are deleted.
fn grown(path: &Path, ids: Option<fn(usize) -> String>) {
    let rows = clustered(5, ROWS + 60, DIM);
    let named = |range: std::ops::Range<usize>| ids.map(|name| Ids::Text(range.map(name).collect()));
    let (first, later) = (named(0..ROWS), named(ROWS..ROWS + 60));
    let mut settings = Config { ids: first.as_ref(), ..config(Metric::Cosine, 0.9) };
    // With one anchor row numbers take no bytes.
    settings.annealing.anchors = Some(5);
    compress_to(&rows.view().slice(0..ROWS), path, &settings).unwrap();
    let mut store = Store::open(path).unwrap();
    let options = EncodeOptions { ids: later.as_ref(), ..EncodeOptions::default() };
    store.append(&rows.view().slice(ROWS..ROWS + 60), &options).unwrap();
    let gone = match ids {
        Some(name) => Ids::Text((10..20).map(name).collect()),
        None => (10..20).collect(),
    };
    assert_eq!(store.delete(&gone).unwrap().deleted, 10);
}

/// Every change of a damaged file leaves it as it is and names what is damaged, or what it writes is still known to be damaged, or is what
/// a sound file would have become.
#[test]
fn damage_is_not_laundered() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (path, out) = (at("a.vlc"), at("out.vlc"));
    let more = clustered(6, 30, DIM);
    let mut random = Random(12);
    let (mut refused, mut untouched) = (0, 0);
    for (kind, name) in [(0, None), (1, Some((|i| format!("row {i}")) as fn(usize) -> String))] {
        grown(&path, name);
        let good = fs::read(&path).unwrap();
        let expected = contents(&Index::open(&path).unwrap());
        let more_ids = (kind == 1).then(|| Ids::Text((0..30).map(|i| format!("new {i}")).collect()));
        let known: Ids =
            if kind == 1 { ["row 30".to_owned()].into_iter().collect() } else { [30].into_iter().collect() };
        let mut damaged = 0;
        while damaged < 200 {
            let mut bad = good.clone();
            let at = 192 + random.below(bad.len() - 192);
            bad[at] ^= 1 << random.below(8);
            fs::write(&path, &bad).unwrap();
            // What is found at open is refused by everything.
            let Ok(index) = Index::open(&path) else { continue };
            assert!(index.verify().is_err(), "byte {at}");
            drop(index);
            damaged += 1;
            let config = Config { budget: Budget::Ratio(0.6), ..config(Metric::Cosine, 0.6) };
            for verb in ["append", "delete", "compact", "merge", "transcode", "write_index"] {
                fs::write(&path, &bad).unwrap();
                let _ = fs::remove_file(&out);
                let store = || Store::open(&path).unwrap();
                let options = EncodeOptions { ids: more_ids.as_ref(), ..EncodeOptions::default() };
                let (outcome, written) = match verb {
                    "append" => (store().append(&more.view(), &options).map(drop), &path),
                    "delete" => (store().delete(&known).map(|report| assert_eq!(report.deleted, 1)), &path),
                    "compact" => (store().compact(), &path),
                    "merge" => (merge(&[&path], &out, None).map(drop), &out),
                    "transcode" => (transcode(&path, &out, &config).map(drop), &out),
                    _ => (write_index(&Index::open(&path).unwrap(), &out), &out),
                };
                let case = format!("{verb}, byte {at}");
                match outcome {
                    Err(error) => {
                        assert!(matches!(error, Error::Format { .. }), "{case}: {error}");
                        let text = error.to_string();
                        let named = text.contains("section ") || text.contains("padding");
                        assert!(named && (text.contains("a.vlc") || verb == "write_index"), "{case}: {error}");
                        assert!(fs::read(&path).unwrap() == bad, "{case}: the file has changed");
                        assert!(!out.exists(), "{case}: something was written");
                        refused += 1;
                    }
                    Ok(()) => {
                        let index = Index::open(written).unwrap();
                        if index.verify().is_ok() {
                            let mut found = contents(&index);
                            found.retain(|id, _| expected.contains_key(id));
                            let mut left = expected.clone();
                            if verb == "delete" {
                                left.remove(if kind == 1 { "row 30" } else { "30" });
                            }
                            assert!(found == left, "{case}: damage was sealed");
                        }
                        untouched += 1;
                    }
                }
            }
        }
    }
    assert!(refused > 1600 && untouched > 100, "{refused} refused, {untouched} not");
}

/// Rewriting goes through links, and keeps permissions.
#[cfg(unix)]
#[test]
fn a_rewrite_keeps_what_the_file_was() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("elsewhere")).unwrap();
    let (real, link) = (at("elsewhere/real.vlc"), at("current.vlc"));
    grown(&real, None);
    symlink("elsewhere/real.vlc", &link).unwrap();
    let owner = fs::metadata(&real).unwrap().uid();
    for mode in [0o600, 0o640, 0o666] {
        fs::set_permissions(&real, fs::Permissions::from_mode(mode)).unwrap();
        let before = fs::File::open(&real).unwrap();
        let mut store = Store::open(&link).unwrap();
        let report = store.append(&clustered(3, 900, DIM).view(), &EncodeOptions::default()).unwrap();
        store.delete(&(0..5u64).chain(report.first_row..report.first_row + 300).collect()).unwrap();
        store.compact().unwrap();
        let metadata = fs::metadata(&real).unwrap();
        assert_eq!(before.metadata().unwrap().nlink(), 0, "it was not written anew");
        assert_eq!((metadata.mode() & 0o777, metadata.uid()), (mode, owner));
        // The lock has gone on to the new file.
        assert!(matches!(Store::open(&real), Err(Error::Locked { .. })));
        store.append(&clustered(3, 3, DIM).view(), &EncodeOptions::default()).unwrap();
        drop(store);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(Index::open(&link).unwrap().len(), Index::open(&real).unwrap().len());
    }
    // A new file where a link leads to nothing.
    symlink("elsewhere/new.vlc", at("next.vlc")).unwrap();
    compress_to(&clustered(5, ROWS, DIM).view(), at("next.vlc"), &config(Metric::Cosine, 0.7)).unwrap();
    assert!(fs::symlink_metadata(at("next.vlc")).unwrap().is_symlink() && at("elsewhere/new.vlc").is_file());
    let left = [listing(folder.path()), listing(&at("elsewhere"))].concat();
    assert!(left.iter().all(|path| !path.file_name().unwrap().to_string_lossy().starts_with('.')), "{left:?}");
}

/// A file of two names stays one file, whatever is done to it by either name.
#[cfg(unix)]
#[test]
fn hard_links_stay_one_file() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.vlc"), folder.path().join("b.vlc"));
    grown(&a, None);
    fs::hard_link(&a, &b).unwrap();
    let mut expected = Index::open(&a).unwrap().len();
    for round in 0..60u64 {
        let path = if round % 2 == 0 { &a } else { &b };
        let other = if round % 2 == 0 { &b } else { &a };
        let mut store = Store::open(path).unwrap();
        assert!(matches!(Store::open(other), Err(Error::Locked { .. })));
        // Some appends are larger than all there is, which would be written anew in a file of one name.
        let count = if round == 20 { 1500 } else { 7 };
        let report = store.append(&clustered(round, count, DIM).view(), &EncodeOptions::default()).unwrap();
        let deleted = store.delete(&(report.first_row..report.first_row + 3).collect()).unwrap().deleted;
        expected += count - deleted as usize;
        let error = store.compact().unwrap_err();
        assert!(matches!(&error, Error::Config(text) if text.contains("2 names")), "{error}");
        assert_eq!(Index::open(other).unwrap().len(), expected, "round {round}");
    }
    assert_eq!(fs::metadata(&a).unwrap().ino(), fs::metadata(&b).unwrap().ino());
    Index::open(&b).unwrap().verify().unwrap();
    fs::remove_file(&b).unwrap();
    Store::open(&a).unwrap().compact().unwrap();
    assert_eq!(Index::open(&a).unwrap().len(), expected);
}

/// Another file in the place of one that is open to be changed: told, and neither is touched.
#[test]
fn a_file_put_in_the_place_of_an_open_one_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("a.vlc"), folder.path().join("b.vlc"));
    grown(&path, None);
    grown(&other, None);
    let mut store = Store::open(&path).unwrap();
    fs::rename(&other, &path).unwrap();
    let before = fs::read(&path).unwrap();
    for _ in 0..2 {
        let error = store.append(&clustered(3, 3, DIM).view(), &EncodeOptions::default()).unwrap_err();
        assert!(error.to_string().contains("another file in its place"), "{error}");
        assert!(store.compact().is_err());
    }
    assert!(fs::read(&path).unwrap() == before);
    drop(store);
    Store::open(&path).unwrap().append(&clustered(3, 3, DIM).view(), &EncodeOptions::default()).unwrap();
}

/// Temporary files are ours or in the way: no link is followed, and nothing of others is removed.
#[test]
fn what_is_not_ours_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (path, temporary) = (at("a.vlc"), at(".a.vlc.tmp"));
    grown(&path, None);
    let compact = || -> Result<(), Error> {
        let mut store = Store::open(&path)?;
        store.delete(&[30].into_iter().collect())?;
        store.compact()
    };
    // Somebody's own file.
    fs::write(&temporary, b"notes").unwrap();
    Index::open(&path).unwrap();
    let error = compact().unwrap_err();
    assert!(error.to_string().contains(".a.vlc.tmp is in the way"), "{error}");
    assert_eq!(fs::read(&temporary).unwrap(), b"notes");
    fs::remove_file(&temporary).unwrap();
    #[cfg(unix)]
    {
        fs::write(at("precious"), b"precious").unwrap();
        std::os::unix::fs::symlink("precious", &temporary).unwrap();
        Index::open(&path).unwrap();
        let error = compact().unwrap_err();
        assert!(error.to_string().contains("is in the way"), "{error}");
        let rows = clustered(5, ROWS, DIM);
        assert!(compress_to(&rows.view(), &path, &config(Metric::Cosine, 0.7)).is_err());
        assert_eq!(fs::read(at("precious")).unwrap(), b"precious");
        fs::remove_file(&temporary).unwrap();
        // Nor is a lock file made, or followed, that earlier builds had.
        std::os::unix::fs::symlink("precious", at(".a.vlc.lock")).unwrap();
        Store::open(&path).unwrap();
        assert_eq!(fs::read(at("precious")).unwrap(), b"precious");
        fs::remove_file(at(".a.vlc.lock")).unwrap();
    }
    // What a writer left that died: with the magic number, or empty.
    for left in [&b"\x89VLC\r\n\x1a\nrest"[..], b""] {
        for reader in [true, false] {
            fs::write(&temporary, left).unwrap();
            if reader {
                Index::open(&path).unwrap();
            } else {
                Store::open(&path).unwrap();
            }
            assert!(!temporary.exists());
        }
        fs::write(&temporary, left).unwrap();
        let new: PathBuf = at("a.vlc");
        compress_to(&clustered(5, ROWS, DIM).view(), &new, &config(Metric::Cosine, 0.7)).unwrap();
        assert!(!temporary.exists());
    }
    compact().unwrap();
}

/// Files of earlier versions become the newest at their first change, not before, and lose nothing by it.
#[test]
fn earlier_versions_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut seen = [0; 4];
    for file in listing(&golden).into_iter().filter(|path| path.extension().is_some_and(|e| e == "vlc")) {
        let path = folder.path().join("a.vlc");
        fs::copy(&file, &path).unwrap();
        let index = Index::open(&path).unwrap();
        let (info, before) = (index.info(), contents(&index));
        drop(index);
        seen[info.version as usize] += 1;
        let mut store = Store::open(&path).unwrap();
        let first = before.keys().next().unwrap().clone();
        let one: Ids = match info.ids {
            vlc::IdKind::Text => [first.clone()].into_iter().collect(),
            _ => [first.parse::<u64>().unwrap()].into_iter().collect(),
        };
        assert_eq!(store.delete(&one).unwrap().deleted, 1);
        let index = store.index().unwrap();
        index.verify().unwrap();
        assert_eq!(index.info().version, vlc::FORMAT_VERSION);
        assert!(index.info().generation > info.generation);
        let mut expected = before;
        expected.remove(&first);
        assert!(contents(&index) == expected, "{}", file.display());
    }
    assert!(seen[1] >= 4 && seen[2] >= 7, "{seen:?}");
}

/// Ids are not looked up in damaged bytes: by no filter, no list and no selection.
#[test]
fn nothing_is_looked_up_in_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vlc");
    for (kind, name) in [(b"ROWS", None), (b"IDSS", Some((|i| format!("row {i}")) as fn(usize) -> String))] {
        grown(&path, name);
        let mut bytes = fs::read(&path).unwrap();
        let sections = vlc_reference::container::sections(&bytes).unwrap();
        let found = sections.iter().find(|s| s.kind == *kind).unwrap();
        let at = found.offset + found.bytes.len() / 2;
        bytes[at] ^= 16;
        fs::write(&path, &bytes).unwrap();
        let index = Index::open(&path).unwrap();
        let ids: Ids =
            if name.is_some() { ["row 30".to_owned()].into_iter().collect() } else { [30].into_iter().collect() };
        let errors = [
            index.filter(vlc::Filter::Allow(&ids)).map(drop).unwrap_err(),
            index.filter(vlc::Filter::Deny(&ids)).map(drop).unwrap_err(),
            index.vectors(&ids).map(drop).unwrap_err(),
            index.ids(0..5).map(drop).unwrap_err(),
            Store::open(&path).unwrap().delete(&ids).map(drop).unwrap_err(),
        ];
        for error in errors {
            let text = error.to_string();
            assert!(matches!(error, Error::Format { .. }), "{text}");
            assert!(text.contains("a.vlc") && text.contains(std::str::from_utf8(kind).unwrap()), "{text}");
        }
    }
}
