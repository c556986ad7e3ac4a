//! `vlc decode`.

use std::{path::PathBuf, time::Instant};

use serde::Serialize;
use vlc::read::NpyWriter;

use crate::{
    args::{RowRange, Threads, check_output},
    error::CliError,
    interrupt,
    output::{Output, count},
    progress::Progress,
};

/// Turn a .vlc file back into (approximate) float32 vectors
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vlc decode base.vlc -o approx.npy
  vlc decode base.vlc -o some.npy --rows 1000..2000")]
pub(crate) struct Args {
    /// The .vlc file
    #[arg(value_name = "INDEX")]
    index: PathBuf,
    /// Where to write the vectors, an .npy file of float32
    #[arg(short, long, value_name = "OUT.npy")]
    output: PathBuf,
    /// Only these rows: from A, up to but without B [default: all]
    #[arg(long, value_name = "A..B")]
    rows: Option<RowRange>,
    /// Refuse to replace an existing output (by default it is replaced once the new one is whole)
    #[arg(long)]
    no_clobber: bool,
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
    check_output(&args.output, &[&args.index], args.no_clobber)?;
    let index = vlc::Index::open(&args.index)?;
    let rows = match args.rows {
        Some(rows) => rows.within(index.len())?,
        None => 0..index.len(),
    };
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
