//! A toolkit's nvcc as a maker of PTX. Recent ones have given up old architectures, so it is asked for what it makes.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{Compiled, Kernel, OPTIONS, Target, parse_version, read_text};

/// An nvcc that starts.
pub(crate) struct Nvcc {
    program: PathBuf,
    release: (u32, u32),
    /// Lines such as `compute_90`.
    archs: String,
}

impl Nvcc {
    pub(crate) fn open(program: PathBuf) -> Result<Nvcc, String> {
        let (archs, _) = run(Command::new(&program).arg("--list-gpu-arch"))?;
        let (version, _) = run(Command::new(&program).arg("--version"))?;
        Nvcc::new(program, &version, archs)
    }

    /// From what nvcc answers to `--version` and `--list-gpu-arch`.
    pub(crate) fn new(program: PathBuf, version: &str, archs: String) -> Result<Nvcc, String> {
        let release = version.split_once("release ").and_then(|(_, rest)| parse_version(rest.split(',').next()?));
        let release =
            release.ok_or_else(|| format!("{} --version names no release:\n{version}", program.display()))?;
        Ok(Nvcc { program, release, archs })
    }

    /// Whether this release knows a target. The list leaves out those of one architecture alone, which came with 12.0.
    pub(crate) fn makes(&self, target: &Target) -> bool {
        let listed = format!("compute_{}{}", target.arch.0, target.arch.1);
        self.archs.lines().any(|l| l.trim() == listed) && (!target.specific || self.release >= (12, 0))
    }

    /// Compiles a kernel of the folder `cuda`; `out` is written on the way.
    pub(crate) fn compile(
        &self,
        cuda: &Path,
        kernel: &Kernel,
        target: &Target,
        out: &Path,
    ) -> Result<Compiled, String> {
        let arch = target.name();
        let mut command = Command::new(&self.program);
        command.arg("--ptx").args(OPTIONS).arg("-Wno-deprecated-gpu-targets");
        command.arg(format!("-gencode=arch=compute_{arch},code=compute_{arch}"));
        command.arg("-I").arg(cuda).arg("-o").arg(out).arg(cuda.join(format!("{}.cu", kernel.stem)));
        let (stdout, stderr) = run(&mut command)?;
        Compiled::new(&read_text(out)?, stdout + &stderr, target)
    }
}

/// What a command printed, the two streams apart.
fn run(command: &mut Command) -> Result<(String, String), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|s| String::from_utf8_lossy(s).into_owned());
    if !output.status.success() {
        return Err(format!("{command:?}: {}\n{stdout}{stderr}", output.status));
    }
    Ok((stdout, stderr))
}
