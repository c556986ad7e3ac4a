//! How `cuda/*.cu` become PTX: for which architectures, with which options, from which files. Shared by the build script
//! and `cargo run -p xtask -- ptx`.

pub(crate) mod manifest;
pub(crate) mod nvcc;
pub(crate) mod nvrtc;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs, io,
    path::Path,
};

use xxhash_rust::xxh3::xxh3_128;

/// An architecture that every kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    /// Compute capability.
    pub(crate) arch: (u32, u32),
    /// With instructions of this architecture alone, which no later one runs.
    pub(crate) specific: bool,
    /// Version of PTX to name in the file. A driver refuses a newer one than its own, whatever is in the file, so this
    /// is the lowest that has the architecture and what the kernels use on it.
    pub(crate) isa: (u32, u32),
}

const fn target(arch: (u32, u32), specific: bool, isa: (u32, u32)) -> Target {
    Target { arch, specific, isa }
}

/// Newest first: the first that fits a device is the best for it.
pub(crate) const TARGETS: [Target; 6] = [
    target((9, 0), true, (8, 0)),
    target((9, 0), false, (7, 8)),
    target((8, 9), false, (7, 8)),
    target((8, 0), false, (7, 0)),
    target((7, 5), false, (6, 5)),
    target((5, 3), false, (6, 5)),
];

/// Understood by NVRTC and nvcc alike.
pub(crate) const OPTIONS: [&str; 2] = ["--std=c++17", "--fmad=true"];

impl Target {
    /// The part behind `sm_` and `compute_`.
    pub(crate) fn name(&self) -> String {
        format!("{}{}{}", self.arch.0, self.arch.1, if self.specific { "a" } else { "" })
    }
}

/// A kernel file with the headers it includes.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// File name without `.cu`.
    pub(crate) stem: String,
    pub(crate) source: String,
    /// Text by name, those that headers include among them.
    pub(crate) headers: BTreeMap<String, String>,
}

/// What a compiler made, ready to be stored, and what it said on the way.
pub(crate) struct Compiled {
    pub(crate) ptx: String,
    pub(crate) log: String,
}

impl Compiled {
    fn new(raw: &str, log: String, target: &Target) -> Result<Compiled, String> {
        Ok(Compiled { ptx: lower_version(raw, target)?, log })
    }
}

/// All kernels of a folder, in order of their names.
pub(crate) fn read_kernels(dir: &Path) -> Result<Vec<Kernel>, String> {
    let mut stems = BTreeSet::new();
    for entry in fs::read_dir(dir).map_err(|e| io_error(dir, e))? {
        let name = entry.map_err(|e| io_error(dir, e))?.file_name();
        if let Some(stem) = name.to_string_lossy().strip_suffix(".cu") {
            // It becomes the name of a static.
            let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if !stem.starts_with(|c: char| c.is_ascii_lowercase()) || !stem.chars().all(good) {
                return Err(format!("{stem}.cu: names of kernel files have lower-case letters, digits and _ only"));
            }
            stems.insert(stem.to_owned());
        }
    }
    stems.into_iter().map(|stem| read_kernel(dir, stem)).collect()
}

fn read_kernel(dir: &Path, stem: String) -> Result<Kernel, String> {
    let file = format!("{stem}.cu");
    let source = read_text(&dir.join(&file))?;
    let mut headers = BTreeMap::new();
    let mut todo = includes(&file, &source)?;
    while let Some(name) = todo.pop() {
        if headers.contains_key(&name) {
            continue;
        }
        let text = read_text(&dir.join(&name)).map_err(|e| format!("{file} needs {name}: {e}"))?;
        todo.extend(includes(&name, &text)?);
        headers.insert(name, text);
    }
    Ok(Kernel { stem, source, headers })
}

/// What a file includes, whether or not the preprocessor would get there: one header too many does no harm.
fn includes(file: &str, text: &str) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let directive = line.trim_start().strip_prefix('#').map(str::trim_start);
        let Some(rest) = directive.and_then(|d| d.strip_prefix("include")) else { continue };
        let name = rest.trim().strip_prefix('"').and_then(|r| r.split_once('"')).map(|(name, _)| name);
        match name {
            Some(name) if Path::new(name).file_name() == Some(name.as_ref()) => names.push(name.to_owned()),
            // NVRTC comes without standard headers.
            _ => return Err(format!("{file}:{}: kernels include files of their own folder only", i + 1)),
        }
    }
    Ok(names)
}

impl Kernel {
    /// A hash of all that the PTX is made from, in hexadecimal digits.
    pub(crate) fn hash(&self) -> String {
        let mut all = OPTIONS.join(" ");
        for target in &TARGETS {
            let _ = write!(all, " sm_{} {}.{}", target.name(), target.isa.0, target.isa.1);
        }
        let parts = self.headers.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        // Lengths, so that text cannot move from one file to the next unnoticed.
        for (name, text) in [(self.stem.as_str(), self.source.as_str())].into_iter().chain(parts) {
            let _ = write!(all, "\n{name} {}\n{text}", text.len());
        }
        hash(&all)
    }
}

fn hash(text: &str) -> String {
    format!("{:032x}", xxh3_128(text.as_bytes()))
}

/// Lowers the version that a compiler gave its PTX to the one of the target. Compilers name the newest they know, not
/// what the text needs; whether it really needs no more, ptxas says in CI.
pub(crate) fn lower_version(ptx: &str, target: &Target) -> Result<String, String> {
    let name = target.name();
    if !ptx.lines().any(|l| l.strip_prefix(".target sm_").is_some_and(|t| t.split(',').next() == Some(&name))) {
        return Err(format!("the compiler's PTX is not for sm_{name}"));
    }
    const KEY: &str = ".version ";
    let start = if ptx.starts_with(KEY) { Some(0) } else { ptx.find("\n.version ").map(|at| at + 1) };
    let (before, rest) = start.map_or((ptx, ""), |at| ptx.split_at(at));
    let line = rest.lines().next().unwrap_or_default();
    let version = line.strip_prefix(KEY).and_then(parse_version);
    let found = version.ok_or_else(|| format!("the PTX for sm_{name} names no version"))?;
    if found <= target.isa {
        return Ok(ptx.to_owned());
    }
    let lowered = format!("{before}{KEY}{}.{}{}", target.isa.0, target.isa.1, &rest[line.len()..]);
    if target.isa >= HINTS_SINCE {
        return Ok(lowered);
    }
    Ok(lowered.split_inclusive('\n').filter(|line| !line.trim_start().starts_with(HINT)).collect())
}

/// Says which bytes of a load are used: a hint that older versions do not know.
const HINT: &str = ".pragma \"used_bytes_mask";
const HINTS_SINCE: (u32, u32) = (8, 3);

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Name of the file with the PTX of one kernel for one target.
pub(crate) fn file_name(stem: &str, target: &Target) -> String {
    format!("{stem}.sm_{}.ptx", target.name())
}

/// Rust source for the images of one kernel, which stand beside it in `OUT_DIR`.
pub(crate) fn image_list(stem: &str) -> String {
    let mut list = format!("/// `cuda/{stem}.cu`, the newest architecture first.\n");
    let _ = writeln!(list, "pub(super) static {}: &[Image] = &[", stem.to_uppercase());
    for target in &TARGETS {
        let Target { arch, specific, .. } = target;
        let ptx = format!("include_str!(concat!(env!(\"OUT_DIR\"), \"/{}\"))", file_name(stem, target));
        let _ = writeln!(list, "    Image {{ arch: {arch:?}, specific: {specific}, ptx: {ptx} }},");
    }
    list.push_str("];\n");
    list
}

/// A kernel that does nothing for every target, by which a driver is asked what it takes.
pub(crate) fn probe_list() -> String {
    let mut list = String::from("/// A kernel that does nothing, for all that kernels are compiled for.\n");
    list.push_str("pub(super) static PROBE: &[Image] = &[\n");
    for target in &TARGETS {
        let Target { arch, specific, isa } = target;
        let head = format!(".version {}.{}\n.target sm_{}\n.address_size 64\n", isa.0, isa.1, target.name());
        let ptx = format!("{head}.visible .entry probe()\n{{\n    ret;\n}}\n");
        let _ = writeln!(list, "    Image {{ arch: {arch:?}, specific: {specific}, ptx: {ptx:?} }},");
    }
    list.push_str("];\n");
    list
}

/// Text with line feeds alone, as a checkout on Windows may have others and hashes must not tell them apart.
pub(crate) fn read_text(file: &Path) -> Result<String, String> {
    Ok(fs::read_to_string(file).map_err(|e| io_error(file, e))?.replace("\r\n", "\n"))
}

pub(crate) fn io_error(path: &Path, error: io::Error) -> String {
    format!("{}: {error}", path.display())
}
