//! What the tests of the program share: running it, and the embedded vectors.
#![allow(dead_code, reason = "each test program uses a part")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const DIM: usize = 384;

/// The program with the words of `args`.
pub(crate) fn vlc(args: &str) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("vlc"));
    command.args(args.split_whitespace()).env("NO_COLOR", "1");
    command
}

pub(crate) fn run(dir: &TempDir, args: &str) -> Output {
    vlc(args).current_dir(dir).output().unwrap()
}

#[track_caller]
pub(crate) fn assert_code(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "stderr: {stderr}");
    stderr
}

/// Succeeds; what it prints on stdout.
#[track_caller]
pub(crate) fn text(dir: &TempDir, args: &str) -> String {
    let output = run(dir, args);
    assert_code(&output, 0);
    String::from_utf8(output.stdout).unwrap()
}

/// Succeeds; the object it prints with `--json`.
#[track_caller]
pub(crate) fn json(dir: &TempDir, args: &str) -> Value {
    serde_json::from_str(&text(dir, &format!("{args} --json"))).expect("one JSON object on stdout")
}

/// Fails with this code, says so, prints no data, and leaves the directory as it was.
#[track_caller]
pub(crate) fn assert_fails(dir: &TempDir, args: &str, code: i32) -> String {
    let before = listing(dir);
    let output = run(dir, args);
    let stderr = assert_code(&output, code);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert!(stderr.contains("error: "), "{stderr}");
    assert_eq!(listing(dir), before);
    stderr
}

pub(crate) fn listing(dir: &TempDir) -> BTreeSet<(String, u64)> {
    fs::read_dir(dir)
        .unwrap()
        .map(Result::unwrap)
        .map(|e| (e.file_name().into_string().unwrap(), e.metadata().unwrap().len()))
        .collect()
}

/// The files of a directory, made once for the tests of a program.
pub(crate) struct Files(Vec<(String, Vec<u8>)>);

impl Files {
    pub(crate) fn of(dir: &TempDir) -> Files {
        Files(listing(dir).into_iter().map(|(name, _)| (name.clone(), read(dir, &name))).collect())
    }

    /// A directory of a test's own with these files.
    pub(crate) fn copy(&self) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in &self.0 {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        dir
    }
}

pub(crate) fn read(dir: &TempDir, name: &str) -> Vec<u8> {
    fs::read(dir.path().join(name)).unwrap()
}

#[track_caller]
pub(crate) fn assert_fields(value: &Value, fields: &str) {
    for field in fields.split_whitespace() {
        assert!(value.get(field).is_some(), "{field} is missing in {value}");
    }
}

pub(crate) fn embedded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/docs-minilm-384-5k").join(name)
}

/// The int8 values of the first rows of an embedded file.
pub(crate) fn values(name: &str, rows: usize) -> Vec<u8> {
    let bytes = fs::read(embedded(name)).unwrap();
    bytes[128..128 + rows * DIM].to_vec()
}

pub(crate) fn write_npy(to: PathBuf, descr: &str, (rows, dim): (usize, usize), values: &[u8]) {
    let dict = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {dim}), }}");
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend_from_slice(format!("{dict:<117}\n").as_bytes());
    bytes.extend_from_slice(values);
    fs::write(to, bytes).unwrap();
}

/// The values of an .npy file of this type and shape.
#[track_caller]
pub(crate) fn read_npy(path: PathBuf, descr: &str, shape: (usize, usize)) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    let end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = String::from_utf8_lossy(&bytes[10..end]);
    assert!(header.contains(descr) && header.contains(&format!("{shape:?}")), "{header}");
    bytes[end..].to_vec()
}

pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}
