//! `vlc verify`.

use std::path::PathBuf;

use serde::Serialize;

use crate::{error::CliError, output::Output};

/// Check every byte of a .vlc file against its checksums (exit 4 when one is wrong)
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  vlc verify base.vlc && echo sound")]
pub(crate) struct Args {
    /// The .vlc file
    #[arg(value_name = "INDEX")]
    index: PathBuf,
}

#[derive(Serialize)]
struct Verified {
    ok: bool,
    file_bytes: u64,
}

pub(crate) fn run(args: Args, out: &Output) -> Result<(), CliError> {
    let index = vlc::Index::open(&args.index)?;
    index.verify()?;
    out.result(&Verified { ok: true, file_bytes: index.info().file_bytes }, || "ok\n".into())
}
