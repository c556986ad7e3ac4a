//! The part of the build script that chooses who makes the PTX and writes it to `OUT_DIR`.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use crate::ptx::{
    Compiled, Kernel, TARGETS, Target, file_name, image_list, io_error, manifest, nvcc::Nvcc, nvrtc::Nvrtc,
    probe_list, read_kernels,
};

const STRICT: &str = "VLC_CUDA_STRICT";

/// What decides who makes the PTX; `PATH` because nvcc may come and go there.
const WATCHED: [&str; 6] = ["DOCS_RS", "VLC_NVRTC_LIB", "NVCC", "CUDA_HOME", "PATH", STRICT];

/// Writes one file of PTX for each kernel and architecture and `kernels.rs`, which includes them.
pub(crate) fn run() -> Result<(), String> {
    for name in WATCHED {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let cuda = required("CARGO_MANIFEST_DIR")?.join("cuda");
    let out = required("OUT_DIR")?;
    watch(&cuda)?;

    let mut list = String::from("// Written by the build script.\n");
    list.push_str(&probe_list());
    let kernels = read_kernels(&cuda)?;
    if !kernels.is_empty() {
        let maker = Maker::choose()?;
        let mut told = BTreeSet::new();
        for kernel in &kernels {
            embed(kernel, &maker, &cuda, &out, &mut told)?;
            list.push_str(&image_list(&kernel.stem));
        }
    }
    write(&out.join("kernels.rs"), &list)
}

/// `told` is what compilers have said so far, which is shown once and not for every architecture.
fn embed(kernel: &Kernel, maker: &Maker, cuda: &Path, out: &Path, told: &mut BTreeSet<String>) -> Result<(), String> {
    let lacking: Vec<String> = TARGETS.iter().filter(|t| !maker.makes(t)).map(Target::name).collect();
    if !lacking.is_empty() && variable(STRICT).is_some_and(|v| v != "0") {
        return Err(format!(
            "{STRICT} forbids the committed PTX, and {} for sm_{}. VLC_NVRTC_LIB names a compiler that makes all: \
             eval \"$(cuda/get-nvrtc.sh)\"",
            maker.excuse(),
            lacking.join(", sm_"),
        ));
    }
    let committed = if lacking.is_empty() { Vec::new() } else { manifest::committed(cuda, kernel)? };
    for (i, target) in TARGETS.iter().enumerate() {
        let file = out.join(file_name(&kernel.stem, target));
        let text = match maker {
            Maker::Nvrtc(nvrtc) => tell(nvrtc.compile(kernel, target)?, told),
            Maker::Nvcc(nvcc) if nvcc.makes(target) => tell(nvcc.compile(cuda, kernel, target, &file)?, told),
            Maker::Nvcc(_) | Maker::Nobody => committed[i].clone(),
        };
        write(&file, &text)?;
    }
    Ok(())
}

/// Who makes the PTX of this build.
enum Maker {
    Nvrtc(Nvrtc),
    Nvcc(Nvcc),
    /// The committed files are taken.
    Nobody,
}

impl Maker {
    /// A compiler that is found and does not work is an error: falling back would hide that the sources were not compiled.
    fn choose() -> Result<Maker, String> {
        if variable("DOCS_RS").is_some() {
            return Ok(Maker::Nobody);
        }
        if let Some(path) = variable("VLC_NVRTC_LIB") {
            return Ok(Maker::Nvrtc(Nvrtc::open(Path::new(&path))?));
        }
        match find_nvcc() {
            Some(program) => Ok(Maker::Nvcc(Nvcc::open(program)?)),
            None => Ok(Maker::Nobody),
        }
    }

    fn makes(&self, target: &Target) -> bool {
        match self {
            Maker::Nvrtc(_) => true,
            Maker::Nvcc(nvcc) => nvcc.makes(target),
            Maker::Nobody => false,
        }
    }

    fn excuse(&self) -> &str {
        if matches!(self, Maker::Nobody) { "no compiler was found" } else { "this compiler makes none" }
    }
}

fn find_nvcc() -> Option<PathBuf> {
    if let Some(program) = variable("NVCC") {
        return Some(program.into());
    }
    let name = format!("nvcc{}", env::consts::EXE_SUFFIX);
    let home = variable("CUDA_HOME").map(|home| Path::new(&home).join("bin"));
    let path = variable("PATH").unwrap_or_default();
    home.into_iter().chain(env::split_paths(&path)).map(|dir| dir.join(&name)).find(|file| file.is_file())
}

/// Shows what the compiler warned of.
fn tell(compiled: Compiled, told: &mut BTreeSet<String>) -> String {
    if !told.contains(&compiled.log) {
        for line in compiled.log.lines().filter(|l| !l.trim().is_empty()) {
            println!("cargo::warning={line}");
        }
        told.insert(compiled.log);
    }
    compiled.ptx
}

/// The folders as well as the files, so that a file that comes is noticed.
fn watch(cuda: &Path) -> Result<(), String> {
    for dir in [cuda.to_path_buf(), cuda.join("ptx")] {
        if !dir.is_dir() {
            continue;
        }
        println!("cargo::rerun-if-changed={}", dir.display());
        for entry in fs::read_dir(&dir).map_err(|e| io_error(&dir, e))? {
            let file = entry.map_err(|e| io_error(&dir, e))?.path();
            let kind = file.extension().unwrap_or_default();
            if ["cu", "cuh", "ptx"].iter().any(|k| kind == *k) || file.file_name() == Some(manifest::NAME.as_ref()) {
                println!("cargo::rerun-if-changed={}", file.display());
            }
        }
    }
    Ok(())
}

/// A variable that is set to nothing counts as not set.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|v| !v.is_empty())
}

fn required(name: &str) -> Result<PathBuf, String> {
    variable(name).map(PathBuf::from).ok_or_else(|| format!("cargo did not set {name}"))
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    fs::write(file, text).map_err(|e| io_error(file, e))
}
