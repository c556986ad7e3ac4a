//! `vlc decode`.

use std::{path::PathBuf, time::Instant};

use serde::Serialize;
use vlc::read::{NpyWriter, write_ids};

use crate::{
    args::{RowRange, Threads, check_output},
    error::CliError,
    interrupt,
    output::{Output, count},
    progress::Progress,
    stores::ModelArg,
};

/// Turn a .vlc file back into (approximate) float32 vectors
#[derive(clap::Args)]
#[command(after_help = "\
Rows come in the order of their numbers, without those that were deleted; --ids says which they are.

Examples:
  vlc decode base.vlc -o approx.npy
  vlc decode base.vlc -o some.npy --rows 1000..2000 --ids some-ids.npy")]
pub(crate) struct Args {
    /// The .vlc file
    #[arg(value_name = "INDEX")]
    index: PathBuf,
    /// Where to write the vectors, an .npy file of float32
    #[arg(short, long, value_name = "OUT.npy")]
    output: PathBuf,
    /// Write their ids too, an .npy file of int64 or, by any other name, an id a line (replaces an existing one)
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
    /// Only these rows: from A, up to but without B, deleted ones not counted [default: all]
    #[arg(long, value_name = "A..B")]
    rows: Option<RowRange>,
    /// Refuse to replace an existing output (by default it is replaced once the new one is whole)
    #[arg(long)]
    no_clobber: bool,
    #[command(flatten)]
    model: ModelArg,
    #[command(flatten)]
    threads: Threads,
}

#[derive(Serialize)]
struct Decoded {
    rows: usize,
    dim: usize,
    seconds: f64,
}

pub(crate) fn run(args: Args, out: &Output) -> Result<(), CliError> {
    args.threads.install(|| decode(&args, out))
}

fn decode(args: &Args, out: &Output) -> Result<(), CliError> {
    for path in std::iter::once(&args.output).chain(&args.ids) {
        check_output(path, &[&args.index], args.no_clobber)?;
    }
    if args.ids.as_ref() == Some(&args.output) {
        return Err(CliError::Usage("-o and --ids name the same file".into()));
    }
    let index = args.model.open(&args.index)?;
    let rows = match args.rows {
        Some(rows) => rows.within(index.len())?,
        None => 0..index.len(),
    };
    // First, as they may not fit the file.
    if let Some(path) = &args.ids {
        write_ids(path, &index.ids(rows.clone())?)?;
    }
    let _careful = interrupt::careful();
    let progress = Progress::new(out);
    let start = Instant::now();
    let mut writer = NpyWriter::create(&args.output, rows.len(), index.dim())?;
    let mut done = 0;
    let mut stopped = Ok(());
    let decoded = index.decode_each(rows.clone(), |part| {
        stopped = interrupt::check();
        if stopped.is_err() {
            return Err(vlc::Error::Cancelled);
        }
        progress.update("decoding", done, rows.len() as u64);
        done += part.rows() as u64;
        writer.write_rows(part)
    });
    stopped?;
    decoded?;
    writer.finish()?;
    drop(progress);
    let decoded = Decoded { rows: rows.len(), dim: index.dim(), seconds: start.elapsed().as_secs_f64() };
    out.result(&decoded, || {
        let Decoded { rows, dim, seconds } = decoded;
        format!("{}: {} vectors x {dim} in {seconds:.2} s\n", args.output.display(), count(rows))
    })
}
