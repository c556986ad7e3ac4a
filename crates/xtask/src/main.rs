//! Chores of this repository, by `cargo run -p xtask -- NAME`. `ptx` makes the files of `cuda/ptx` that a build without a
//! CUDA compiler takes; `ptx --check` says whether they are what the sources give. `rooms` says whether the files of `src/` import
//! from the rooms below their own alone.

#[allow(dead_code, reason = "shared with the build script, which uses another part of it")]
#[path = "../../../build/ptx.rs"]
mod ptx;
mod rooms;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use ptx::{
    TARGETS, file_name, io_error,
    manifest::{self, Manifest},
    nvrtc::Nvrtc,
    read_kernels, read_text,
};

const USAGE: &str = "usage: cargo run -p xtask -- ptx [--check] | rooms";

/// The version whose PTX is committed, and which `cuda/get-nvrtc.sh` installs. Others write other text for the same sources.
const PINNED: (u32, u32) = (12, 6);

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let result = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["ptx"] => remake(),
        ["ptx", "--check"] => check(),
        ["rooms"] => rooms::check(&root().join("src"), &rooms::HOUSE).map(|report| report.to_string()),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(message) => {
            println!("{message}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// Texts by file name.
type Files = BTreeMap<String, String>;

fn remake() -> Result<String, String> {
    let dir = cuda().join("ptx");
    let new = generate()?;
    fs::create_dir_all(&dir).map_err(|e| io_error(&dir, e))?;
    let changed = differing(&new, &read_files(&dir)?);
    for name in &changed {
        let file = dir.join(name);
        let done = match new.get(name) {
            Some(text) => fs::write(&file, text),
            None => fs::remove_file(&file),
        };
        done.map_err(|e| io_error(&file, e))?;
    }
    Ok(format!("cuda/ptx: {} files, of which {} changed or went", new.len(), changed.len()))
}

fn check() -> Result<String, String> {
    let new = generate()?;
    let changed = differing(&new, &read_files(&cuda().join("ptx"))?);
    if changed.is_empty() {
        return Ok(format!("cuda/ptx: {} files, all as the sources give them", new.len()));
    }
    Err(format!("cuda/ptx is not what the sources give: {}\n{}", changed.join(", "), manifest::ADVICE))
}

/// All that belongs into `cuda/ptx`.
fn generate() -> Result<Files, String> {
    let Some(path) = env::var_os("VLC_NVRTC_LIB") else {
        return Err("VLC_NVRTC_LIB is not set: eval \"$(cuda/get-nvrtc.sh)\"".to_owned());
    };
    let nvrtc = Nvrtc::open(Path::new(&path))?;
    let (major, minor) = nvrtc.version();
    if (major, minor) != PINNED {
        let (wanted, of) = PINNED;
        return Err(format!("the committed PTX is that of NVRTC {wanted}.{of}, and this is {major}.{minor}"));
    }
    let mut files = Files::new();
    let mut manifest = Manifest::new(PINNED);
    for kernel in read_kernels(&cuda())? {
        let mut images = Vec::new();
        for target in &TARGETS {
            let compiled = nvrtc.compile(&kernel, target)?;
            eprint!("{}", compiled.log);
            files.insert(file_name(&kernel.stem, target), compiled.ptx.clone());
            images.push(compiled.ptx);
        }
        manifest.insert(&kernel, &images);
    }
    files.insert(manifest::NAME.to_owned(), manifest.to_string());
    Ok(files)
}

/// The PTX and the manifest of a folder; none where there is no folder yet.
fn read_files(dir: &Path) -> Result<Files, String> {
    let mut files = Files::new();
    if !dir.is_dir() {
        return Ok(files);
    }
    for entry in fs::read_dir(dir).map_err(|e| io_error(dir, e))? {
        let entry = entry.map_err(|e| io_error(dir, e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".ptx") || name == manifest::NAME {
            files.insert(name, read_text(&entry.path())?);
        }
    }
    Ok(files)
}

/// Names of the files that only one side has, or that differ.
fn differing(a: &Files, b: &Files) -> Vec<String> {
    let mut names: Vec<&String> = a.keys().chain(b.keys()).filter(|&name| a.get(name) != b.get(name)).collect();
    names.sort();
    names.dedup();
    names.into_iter().cloned().collect()
}

fn cuda() -> PathBuf {
    root().join("cuda")
}

fn root() -> PathBuf {
    // As cargo says now: a build folder shared by several checkouts may hold the program of another.
    let package =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.join("../..")
}
