//! `vlc verify`.

use std::{path::PathBuf, time::Instant};

use serde::Serialize;

use crate::{
    error::{CliError, io_error},
    interrupt,
    output::{Output, count, shown},
    outputs::input,
    progress::Progress,
    stores::ModelArg,
};

/// Check every byte of a .vlc file against its checksums (exit 4 when one is wrong)
#[derive(clap::Args)]
#[command(after_help = "\
Bytes behind the last commit, which a writer that did not finish leaves, are no damage: they are told on stderr, and the
next change of the file clears them away.

Examples:\n  vlc verify base.vlc && echo sound")]
pub(crate) struct Args {
    /// The .vlc file
    #[arg(value_name = "INDEX", value_parser = input())]
    index: PathBuf,
    #[command(flatten)]
    model: ModelArg,
}

#[derive(Serialize)]
struct Verified {
    file: String,
    ok: bool,
    file_bytes: u64,
    uncommitted_bytes: u64,
    /// Of checking, on one thread.
    seconds: f64,
}

pub(crate) fn run(args: Args, out: &Output) -> Result<(), CliError> {
    let index = args.model.open(&args.index)?;
    let started = Instant::now();
    let progress = Progress::new(out);
    index.verify_with(|done, total| {
        progress.update("checking", done, total);
        interrupt::flow()
    })?;
    drop(progress);
    let seconds = started.elapsed().as_secs_f64();
    let file_bytes = index.info().file_bytes;
    let all = std::fs::metadata(&args.index).map_err(|e| io_error(&args.index, e))?.len();
    let uncommitted_bytes = all.saturating_sub(file_bytes);
    if uncommitted_bytes > 0 {
        let path = shown(&args.index);
        out.note(&format!("vlc: {path}: {} bytes behind the last commit are of no use", count(uncommitted_bytes)));
    }
    let file = args.index.to_string_lossy().into_owned();
    let verified = Verified { file, ok: true, file_bytes, uncommitted_bytes, seconds };
    out.result(&verified, || format!("{}: ok\n", shown(&args.index)))
}
