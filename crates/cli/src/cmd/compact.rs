//! `vlc compact`.

use std::{path::PathBuf, time::Instant};

use serde::Serialize;
use vlc::Event;

use crate::{
    error::CliError,
    interrupt,
    output::{Output, count, shown, size},
    outputs::input,
    progress::Progress,
    report::per_vector,
    stores::ModelArg,
};

/// Write a .vlc file anew without what was deleted or is outdated
#[derive(clap::Args)]
#[command(after_help = "\
The old file stays until the new one is whole; ids stay. It takes as much disk once more while it runs.

Examples:
  vlc compact base.vlc")]
pub(crate) struct Args {
    /// The .vlc file
    #[arg(value_name = "INDEX", value_parser = input())]
    index: PathBuf,
    #[command(flatten)]
    model: ModelArg,
}

#[derive(Serialize)]
struct Compacted {
    n: u64,
    file_bytes_before: u64,
    file_bytes: u64,
    bytes_per_vector: Option<f64>,
    seconds: f64,
}

pub(crate) fn run(args: Args, out: &Output) -> Result<(), CliError> {
    let progress = Progress::new(out);
    let on_event = |event: &Event<'_>| {
        if let Event::Progress { done, total, .. } = event {
            progress.update("compacting", *done, *total);
        }
        interrupt::hear(event)
    };
    let _careful = interrupt::careful();
    let start = Instant::now();
    let mut store = args.model.store(&args.index)?;
    let before = store.index()?.info().file_bytes;
    store.compact_with(Some(&on_event))?;
    let info = store.index()?.info();
    drop(progress);
    let compacted = Compacted {
        n: info.n,
        file_bytes_before: before,
        file_bytes: info.file_bytes,
        bytes_per_vector: per_vector(info.file_bytes, info.n),
        seconds: start.elapsed().as_secs_f64(),
    };
    out.result(&compacted, || {
        let Compacted { n, file_bytes_before, file_bytes, seconds, .. } = compacted;
        let each = compacted.bytes_per_vector.map(|b| format!(", {b:.2} bytes per vector")).unwrap_or_default();
        let (before, after) = (size(file_bytes_before), size(file_bytes));
        format!("{}: {} vectors, {before} to {after}{each}, {seconds:.2} s\n", shown(&args.index), count(n))
    })
}
