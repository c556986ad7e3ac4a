//! `cuda/ptx/MANIFEST`: what the committed PTX was made from, so that it is never taken for newer sources.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use super::{Kernel, TARGETS, file_name, hash, read_text};

/// Name of the file.
pub(crate) const NAME: &str = "MANIFEST";

/// What to do after a kernel was changed.
pub(crate) const ADVICE: &str =
    "make the PTX anew: eval \"$(cuda/get-nvrtc.sh)\" && cargo run -p xtask -- ptx, and commit cuda/ptx";

const HEAD: &str = "\
# Written by `cargo run -p xtask -- ptx`: the compiler, and for each kernel a hash of what it was compiled from
# (source, headers, options, targets) and one of the PTX for all targets.
";

/// The hashes of one kernel.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    source: String,
    ptx: String,
}

/// The compiler and the hashes by stem.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    nvrtc: String,
    entries: BTreeMap<String, Entry>,
}

impl Manifest {
    pub(crate) fn new(nvrtc: (u32, u32)) -> Manifest {
        Manifest { nvrtc: format!("{}.{}", nvrtc.0, nvrtc.1), entries: BTreeMap::new() }
    }

    /// Notes the PTX of a kernel, in the order of `TARGETS`.
    pub(crate) fn insert(&mut self, kernel: &Kernel, ptx: &[String]) {
        self.entries.insert(kernel.stem.clone(), Entry { source: kernel.hash(), ptx: hash_all(ptx) });
    }

    pub(crate) fn parse(text: &str) -> Result<Manifest, String> {
        let mut manifest = Manifest { nvrtc: String::new(), entries: BTreeMap::new() };
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["nvrtc", version] => manifest.nvrtc = version.to_owned(),
                [stem, source, ptx] => {
                    let entry = Entry { source: source.to_owned(), ptx: ptx.to_owned() };
                    manifest.entries.insert(stem.to_owned(), entry);
                }
                _ => return Err(format!("{NAME} has the line {line:?}; {ADVICE}")),
            }
        }
        Ok(manifest)
    }
}

impl std::fmt::Display for Manifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{HEAD}nvrtc {}", self.nvrtc)?;
        self.entries.iter().try_for_each(|(stem, e)| writeln!(f, "{stem} {} {}", e.source, e.ptx))
    }
}

/// The committed PTX of a kernel in the order of `TARGETS`, or why it cannot be taken.
pub(crate) fn committed(cuda: &Path, kernel: &Kernel) -> Result<Vec<String>, String> {
    let dir = cuda.join("ptx");
    let stem = &kernel.stem;
    let text = read_text(&dir.join(NAME)).map_err(|e| format!("{e}; {ADVICE}"))?;
    let manifest = Manifest::parse(&text)?;
    let Some(entry) = manifest.entries.get(stem) else {
        return Err(format!("cuda/{stem}.cu has no committed PTX; {ADVICE}"));
    };
    if entry.source != kernel.hash() {
        return Err(format!(
            "cuda/{stem}.cu, a header it includes or how it is compiled has changed since its PTX was made; {ADVICE}"
        ));
    }
    let mut images = Vec::new();
    for target in &TARGETS {
        let name = file_name(stem, target);
        let image = read_text(&dir.join(&name)).map_err(|e| format!("{e}; {ADVICE}"))?;
        if image.trim().is_empty() {
            return Err(format!("cuda/ptx/{name} is empty; {ADVICE}"));
        }
        images.push(image);
    }
    if entry.ptx != hash_all(&images) {
        return Err(format!("the files cuda/ptx/{stem}.*.ptx are not those that {NAME} lists; {ADVICE}"));
    }
    Ok(images)
}

fn hash_all(images: &[String]) -> String {
    let mut all = String::new();
    for image in images {
        let _ = write!(all, "{}\n{image}", image.len());
    }
    hash(&all)
}
