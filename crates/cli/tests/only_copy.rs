//! Several writers by several names, signals at any moment, disks that are slow or fail: what the program says is what happened.
//!
//! A few rounds of each; `VLC_PAIRS=1000` and `VLC_INTERRUPTS=500` for more (of each verb).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![cfg(unix)]

mod common;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::LazyLock,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use vlc::Index;

use common::*;

const ROWS: usize = 700;
const MORE: usize = 40;

/// A model, two parts made with it, and vectors.
static FILES: LazyLock<Files> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let all = values("base.i8.npy", ROWS + MORE);
    write_npy(dir.path().join("base.npy"), "|i1", (ROWS, DIM), &all[..ROWS * DIM]);
    write_npy(dir.path().join("more.npy"), "|i1", (MORE, DIM), &all[ROWS * DIM..]);
    write_npy(dir.path().join("queries.npy"), "|i1", (20, DIM), &values("queries.i8.npy", 20));
    text(&dir, "train base.npy -o model.vlc --ratio 0.2 --backend cpu --anchors 4 -q");
    text(&dir, "compress base.npy -o a.vlc --model model.vlc --backend cpu -q");
    text(&dir, "compress more.npy -o part.vlc --model model.vlc --backend cpu -q");
    Files::of(&dir)
});

fn files() -> TempDir {
    FILES.copy()
}

fn rounds(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn rows(path: &Path) -> usize {
    let index = Index::open(path).unwrap();
    index.verify().unwrap();
    index.len()
}

/// Two programs that change one store at once, by names that differ: each commit is there or was refused, and the file is sound.
#[test]
fn no_commit_is_lost_whatever_the_name() {
    let mut both = 0;
    for pair in 0..rounds("VLC_PAIRS", 24) {
        let dir = files();
        let at = |name: &str| dir.path().join(name);
        fs::hard_link(at("a.vlc"), at("hard.vlc")).unwrap();
        fs::create_dir(at("sub")).unwrap();
        symlink("a.vlc", at("soft.vlc")).unwrap();
        symlink("../a.vlc", at("sub/far.vlc")).unwrap();
        let absolute = at("a.vlc").to_str().unwrap().to_owned();
        let names = ["hard.vlc", "soft.vlc", "sub/far.vlc", "sub/../a.vlc", absolute.as_str(), "a.vlc"];
        // Without the hard link the store may be written anew.
        let other = names[pair % names.len()];
        if pair % 4 != 0 && other != "hard.vlc" {
            fs::remove_file(at("hard.vlc")).unwrap();
        }
        let spawn = |args: String| -> Child {
            let mut command = vlc(&args);
            command.current_dir(&dir).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let append = |name: &str| format!("append {name} more.npy --backend cpu --threads 1 -q");
        let change = match pair % 3 {
            0 => format!("delete {other} 1 2 3 -q"),
            _ => append(other),
        };
        let children = [spawn(append("a.vlc")), spawn(change)];
        let outcomes = children.map(|child| child.wait_with_output().unwrap());
        let mut expected = ROWS;
        for (i, output) in outcomes.iter().enumerate() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            match output.status.code() {
                Some(0) if i == 1 && pair % 3 == 0 => expected -= 3,
                Some(0) => expected += MORE,
                // The other has it.
                Some(5) if stderr.contains("locked by") => {}
                other => panic!("pair {pair}: {other:?}, {stderr}"),
            }
        }
        both += usize::from(outcomes.iter().all(|output| output.status.success()));
        assert_eq!(rows(&at("a.vlc")), expected, "pair {pair}, {other}");
        assert_eq!(rows(&at(other)), expected, "pair {pair}, {other}");
        assert!(listing(&dir).iter().all(|(name, _)| !name.starts_with('.')), "{:?}", listing(&dir));
    }
    println!("{both} pairs in which both went through");
}

/// The library that stands between the program and the disk; `None` where there is no C compiler.
fn slow_disk() -> Option<&'static Path> {
    static LIBRARY: LazyLock<Option<(TempDir, PathBuf)>> = LazyLock::new(|| {
        let dir = tempfile::tempdir().unwrap();
        let library = dir.path().join("slow_disk.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/slow_disk.c");
        let built =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).arg("-ldl").status();
        built.is_ok_and(|status| status.success()).then_some((dir, library))
    });
    // The linker of Rust is one on Linux; elsewhere the library is none.
    assert!(!cfg!(target_os = "linux") || LIBRARY.is_some(), "cc could not build tests/common/slow_disk.c");
    LIBRARY.as_ref().map(|(_, library)| library.as_path())
}

/// Starts the program on a slow or failing disk.
fn on_disk(dir: &TempDir, args: &str, microseconds: u32, fails: Option<u32>) -> Child {
    let mut command = vlc(args);
    if let Some(library) = slow_disk() {
        command.env("LD_PRELOAD", library).env("VLC_DISK_US", microseconds.to_string());
        fails.map(|number| command.env("VLC_SYNC_FAILS", number.to_string()));
    }
    command.current_dir(dir).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What a verb changes: its arguments, and whether it was done.
struct Verb {
    name: &'static str,
    args: &'static str,
    done: fn(&Path) -> bool,
}

const VERBS: [Verb; 9] = [
    Verb {
        name: "append",
        args: "append a.vlc more.npy --backend cpu",
        done: |dir| rows(&dir.join("a.vlc")) == ROWS + MORE,
    },
    Verb { name: "delete", args: "delete a.vlc 3 4 5", done: |dir| rows(&dir.join("a.vlc")) == ROWS - 3 },
    Verb { name: "compact", args: "compact waste.vlc", done: |dir| info(&dir.join("waste.vlc")).deleted == 0 },
    Verb {
        name: "compress",
        args: "compress base.npy -o new.vlc --model model.vlc --backend cpu",
        done: |dir| dir.join("new.vlc").exists() && rows(&dir.join("new.vlc")) == ROWS,
    },
    Verb {
        name: "merge",
        args: "merge a.vlc part.vlc -o new.vlc",
        done: |dir| dir.join("new.vlc").exists() && rows(&dir.join("new.vlc")) == ROWS + MORE,
    },
    Verb {
        name: "transcode",
        args: "transcode part.vlc -o new.vlc --bytes 2000 --backend cpu",
        done: |dir| dir.join("new.vlc").exists() && rows(&dir.join("new.vlc")) == MORE,
    },
    Verb {
        name: "train",
        args: "train more.npy -o new.vlc --bytes 2000 --backend cpu",
        done: |dir| dir.join("new.vlc").exists() && rows(&dir.join("new.vlc")) == 0,
    },
    Verb {
        name: "query",
        args: "query a.vlc queries.npy -o hits.npy --backend cpu",
        done: |dir| dir.join("hits.npy").exists(),
    },
    Verb {
        name: "decode",
        args: "decode a.vlc -o rows.npy --ids ids.txt",
        done: |dir| {
            assert_eq!(dir.join("rows.npy").exists(), dir.join("ids.txt").exists(), "one file of two");
            dir.join("rows.npy").exists()
        },
    },
];

fn info(path: &Path) -> vlc::Info {
    let index = Index::open(path).unwrap();
    index.verify().unwrap();
    index.info()
}

/// Signals at random moments, most of them while a slow disk syncs: 130 means that nothing has changed, 0 that all has.
fn exit_codes_and_contents_agree(name: &str) {
    const DISK: u32 = 15_000;
    let verb = VERBS.iter().find(|verb| verb.name == name).unwrap();
    let mut seed = 88_172_645_463_325_252u64;
    let mut random = |n: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % n
    };
    let fresh = || {
        let dir = files();
        if verb.name == "compact" {
            fs::copy(dir.path().join("a.vlc"), dir.path().join("waste.vlc")).unwrap();
            text(&dir, "delete waste.vlc 7 8 9 -q");
        }
        dir
    };
    let names = |dir: &TempDir| -> Vec<String> { listing(dir).into_iter().map(|(name, _)| name).collect() };
    let dir = fresh();
    let start = Instant::now();
    assert_code(&on_disk(&dir, verb.args, DISK, None).wait_with_output().unwrap(), 0);
    let whole = start.elapsed().as_micros() as u64;
    assert!((verb.done)(dir.path()), "{name}");
    let (mut done, mut not) = (0, 0);
    for interrupt in 0..rounds("VLC_INTERRUPTS", 8) {
        let dir = fresh();
        let before = names(&dir);
        let child = on_disk(&dir, verb.args, DISK, None);
        std::thread::sleep(Duration::from_micros(random(whole + whole / 8)));
        let count = if interrupt % 5 == 4 { 3 } else { 1 };
        let signal = if interrupt % 2 == 0 { "-INT" } else { "-TERM" };
        for _ in 0..count {
            let _ = Command::new("kill").args([signal, &child.id().to_string()]).stderr(Stdio::null()).status();
        }
        let output = child.wait_with_output().unwrap();
        let case = format!("{name}, signal {interrupt}: {}", String::from_utf8_lossy(&output.stderr));
        match output.status.code() {
            Some(0) => {
                assert!((verb.done)(dir.path()), "said to be done, and is not: {case}");
                done += 1;
            }
            // None: it came before the program listened.
            Some(130) | None => {
                assert!(!(verb.done)(dir.path()), "said to be cancelled, and is done: {case}");
                // A program that was ended at once leaves a temporary file, which the next one clears away.
                assert!(count > 1 || names(&dir) == before, "left behind: {:?}, {case}", names(&dir));
                not += 1;
            }
            other => panic!("exit {other:?}: {case}"),
        }
        // Whatever happened, the next one works and nothing is left behind.
        if interrupt % 3 == 1 && !(verb.done)(dir.path()) {
            assert_code(&on_disk(&dir, verb.args, 0, None).wait_with_output().unwrap(), 0);
            assert!((verb.done)(dir.path()), "{case}");
            assert!(names(&dir).iter().all(|name| !name.starts_with('.')), "{:?}: {case}", names(&dir));
        }
    }
    println!("{name}: {done} done, {not} cancelled");
    assert!(done + not == rounds("VLC_INTERRUPTS", 8));
}

macro_rules! interrupted {
    ($($verb:ident)*) => { $(
        #[test]
        fn $verb() {
            exit_codes_and_contents_agree(stringify!($verb));
        }
    )* };
}

mod interrupted {
    use super::exit_codes_and_contents_agree;

    interrupted!(append delete compact compress merge transcode train query decode);
}

/// Each sync fails in turn: the change is there, is not there, or nobody is told either.
#[test]
fn a_failed_sync_is_told_as_it_is() {
    if slow_disk().is_none() {
        return;
    }
    for verb in VERBS.iter().filter(|verb| !["query", "decode", "compact"].contains(&verb.name)) {
        let mut unknown = 0;
        for number in 1.. {
            let dir = files();
            let args = format!("{} --json", verb.args);
            let output: Output = on_disk(&dir, &args, 0, Some(number)).wait_with_output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            let case = format!("{}, sync {number}: {stderr}", verb.name);
            if output.status.success() {
                assert!((verb.done)(dir.path()), "{case}");
                break;
            }
            assert_eq!(output.status.code(), Some(5), "{case}");
            if output.stdout.is_empty() {
                assert!(!(verb.done)(dir.path()), "said not to have happened: {case}");
            } else {
                let object: Value = serde_json::from_slice(&output.stdout).unwrap();
                assert_eq!(object["committed"], "unknown", "{case}");
                assert!(stderr.contains("look with vlc info"), "{case}");
                unknown += 1;
            }
            // The file is sound all the same.
            rows(&dir.path().join("a.vlc"));
        }
        assert!(unknown > 0, "{}: no sync was the last", verb.name);
    }
}

/// Started with some signals ignored, as by `nohup` or in a shell's background, the program ignores those and listens to the others.
#[test]
fn signals_that_are_ignored_leave_the_others_heard() {
    let dir = files();
    for (ignored, sent) in [("HUP", "-TERM"), ("INT", "-TERM"), ("HUP", "-INT"), ("HUP INT", "-TERM")] {
        let program = assert_cmd::cargo::cargo_bin!("vlc").display().to_string();
        let args = "compress base.npy -o new.vlc --model model.vlc --backend cpu -q --force";
        let mut command = Command::new("sh");
        command.args(["-c", &format!("trap '' {ignored}; exec \"$0\" {args}"), &program]).env("NO_COLOR", "1");
        if let Some(library) = slow_disk() {
            command.env("LD_PRELOAD", library).env("VLC_DISK_US", 150_000.to_string());
        }
        command.current_dir(&dir).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let kill = |signal: &str| {
            Command::new("kill").args([signal, &child.id().to_string()]).stderr(Stdio::null()).status().unwrap();
        };
        // It listens by then.
        let start = Instant::now();
        while !dir.path().join(".new.vlc.tmp").exists() && start.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(1));
        }
        ignored.split(' ').for_each(|signal| kill(&format!("-{signal}")));
        kill(sent);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        // Not ended by the signal, and what is said is what happened.
        let done = dir.path().join("new.vlc").exists();
        assert_eq!(output.status.code(), Some(if done { 0 } else { 130 }), "{ignored} ignored, {sent}: {stderr}");
        assert!(!dir.path().join(".new.vlc.tmp").exists(), "{ignored} ignored, {sent}");
        let _ = fs::remove_file(dir.path().join("new.vlc"));
    }
}

/// What cannot be said on stdout has happened all the same, and is said so.
#[cfg(target_os = "linux")]
#[test]
fn a_full_stdout_does_not_undo() {
    let dir = files();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = vlc("append a.vlc more.npy --backend cpu").current_dir(&dir).stdout(full).output().unwrap();
    let stderr = assert_code(&output, 5);
    assert!(stderr.contains("stdout") && stderr.contains("is there"), "{stderr}");
    assert_eq!(rows(&dir.path().join("a.vlc")), ROWS + MORE);
}

/// Damaged bytes are not copied, and the message names file and section.
#[test]
fn damage_is_refused_by_name() {
    let dir = files();
    let path = dir.path().join("a.vlc");
    let good = fs::read(&path).unwrap();
    let at = good.len() / 2;
    let mut bad = good.clone();
    bad[at] ^= 1;
    fs::write(&path, &bad).unwrap();
    for args in
        ["compact a.vlc", "merge a.vlc part.vlc -o new.vlc", "transcode a.vlc -o new.vlc --ratio 0.1 --backend cpu"]
    {
        let stderr = assert_fails(&dir, args, 4);
        assert!(stderr.contains("a.vlc") && stderr.contains("section"), "{stderr}");
    }
    assert!(fs::read(&path).unwrap() == bad);
}

/// What a salvage saved and what it did not is said: in words, in JSON, by the exit code and in a list of ids.
#[test]
fn a_salvage_says_what_is_lost() {
    let dir = files();
    let path = dir.path().join("a.vlc");
    text(&dir, "append a.vlc more.npy --backend cpu -q");
    let mut bytes = fs::read(&path).unwrap();
    let code = vlc_reference::container::sections(&bytes).unwrap();
    let code = code.iter().find(|s| s.kind == *b"CODE" && s.segment == 1).unwrap().offset;
    bytes[code + 3] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_fails(&dir, "verify a.vlc", 4);

    let output = run(&dir, "salvage a.vlc -o saved.vlc --lost lost.txt --json");
    assert!(assert_code(&output, 4).contains("saved.vlc"));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&object["rows"], &object["lost"]), (&ROWS.into(), &MORE.into()), "{object}");
    let expected: String = (ROWS..ROWS + MORE).map(|id| format!("{id}\n")).collect();
    assert_eq!(fs::read_to_string(dir.path().join("lost.txt")).unwrap(), expected);
    assert_eq!(rows(&dir.path().join("saved.vlc")), ROWS);
    assert!(fs::read(&path).unwrap() == bytes, "the damaged file is left as it is");
    assert_fails(&dir, "salvage a.vlc -o saved.vlc", 2);

    // A list that cannot be written takes nothing back, and is not passed over.
    #[cfg(target_os = "linux")]
    {
        symlink("/dev/full", dir.path().join("full.txt")).unwrap();
        let output = run(&dir, "salvage a.vlc -o other.vlc --lost full.txt");
        let stderr = assert_code(&output, 5);
        assert!(stderr.contains("full.txt") && stderr.contains("other.vlc is written all the same"), "{stderr}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("40 vectors are lost"));
        assert_eq!(rows(&dir.path().join("other.vlc")), ROWS);
    }
    // Of a sound file all is saved.
    text(&dir, "salvage saved.vlc -o again.vlc");
    assert_eq!(rows(&dir.path().join("again.vlc")), ROWS);
}
