//! Turns `cuda/*.cu` into PTX and lists it for the CUDA backend. Without the feature `gpu-cuda` there is nothing to do.

#[cfg(feature = "gpu-cuda")]
#[path = "build/embed.rs"]
mod embed;
#[cfg(feature = "gpu-cuda")]
#[allow(dead_code, reason = "shared with crates/xtask, which uses another part of it")]
#[path = "build/ptx.rs"]
mod ptx;

use std::process::ExitCode;

fn main() -> ExitCode {
    // One line of the kind keeps cargo from running this again at every change in the package.
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "gpu-cuda")]
    if let Err(message) = embed::run() {
        for line in message.lines() {
            println!("cargo::error={line}");
        }
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
