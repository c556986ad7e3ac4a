//! `vlc decode`.

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    time::Instant,
};

use serde::Serialize;
use vlc::{
    Ids, Index, MatRef,
    read::{NpyWriter, Sink},
    text::printable,
};

use crate::{
    args::{RowRange, Threads},
    error::CliError,
    interrupt,
    output::{Output, count, shown},
    outputs::{Target, check_apart, input},
    progress::Progress,
    stores::{ModelArg, ids_for},
};

/// Turn a .vlc file back into (approximate) float32 vectors
#[derive(clap::Args)]
#[command(after_help = "\
Rows come in the order of their numbers, without those that were deleted; --ids says which they are. With --select they
come in the order of a list of ids, such as those of hits; an id that is not there is an error (exit 3).

An output that is there is replaced once the new one is whole, unless it is a .vlc file.

Examples:
  vlc decode base.vlc -o approx.npy
  vlc decode base.vlc -o some.npy --rows 1000..2000 --ids some-ids.npy
  vlc decode base.vlc -o hits.npy --select ids-of-hits.txt
  vlc decode base.vlc -o - | zstd > approx.npy.zst")]
pub(crate) struct Args {
    /// The .vlc file
    #[arg(value_name = "INDEX", value_parser = input())]
    index: PathBuf,
    /// Where to write the vectors, an .npy file of float32; - is standard output
    #[arg(short, long, value_name = "OUT.npy")]
    output: PathBuf,
    /// Write their ids too: .npy of int64, or .txt with an id a line
    #[arg(long, value_name = "ids.npy|ids.txt")]
    ids: Option<PathBuf>,
    /// Only these rows: from A, up to but without B, counted without those deleted, so that they are no ids [default: all]
    #[arg(long, value_name = "A..B")]
    rows: Option<RowRange>,
    /// Only the rows with these ids, in this order: .npy or text as for compress
    #[arg(long, value_name = "FILE", conflicts_with = "rows", value_parser = input())]
    select: Option<PathBuf>,
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
    let others = [args.select.as_deref(), args.model.path()].into_iter().flatten();
    let inputs: Vec<&Path> = others.chain([args.index.as_path()]).collect();
    let vectors = Target::new("-o", &args.output, &inputs)?;
    vectors.ending(&["npy"])?;
    vectors.no_terminal()?;
    let ids = args.ids.as_deref().map(|path| Target::new("--ids", path, &inputs)).transpose()?;
    let targets: Vec<&Target> = std::iter::once(&vectors).chain(&ids).collect();
    check_apart(&targets, out)?;
    let files = targets.iter().any(|target| target.is_file());
    let on_stdout = targets.iter().any(|target| target.is_stdout());
    if let Some(ids) = &ids
        && ids.ending(&["npy", "txt"])? == Some("npy")
    {
        ids.no_terminal()?;
    }

    let index = args.model.open(&args.index)?;
    let selected = args.select.as_deref().map(|path| ids_for(path, &index.info())).transpose()?;
    let rows = match args.rows {
        Some(rows) => rows.within(index.len())?,
        None => 0..index.len(),
    };
    let _careful = files.then(interrupt::careful);
    // First, as they may not fit the file. Neither file is there before both are whole.
    let ids = ids.as_ref().map(|target| write_ids(target, &index, selected.as_ref(), rows.clone())).transpose()?;
    let progress = Progress::new(out);
    let start = Instant::now();
    let total = selected.as_ref().map_or(rows.len(), Ids::len);
    let mut writer = NpyWriter::over(vectors.open()?, total, index.dim())?;
    let mut done = 0;
    let mut stopped = Ok(());
    let each = |part: MatRef<'_>| {
        stopped = interrupt::check();
        if stopped.is_err() {
            return Err(vlc::Error::Cancelled);
        }
        progress.update("decoding", done, total as u64);
        done += part.rows() as u64;
        writer.write_rows(part)
    };
    let decoded = match &selected {
        Some(ids) => index.vectors_each(ids, each),
        None => index.decode_each(rows, each),
    };
    stopped?;
    decoded?;
    drop(progress);
    if files {
        interrupt::commit()?;
    }
    // Files first: of a stream that fails it can be said that they are there.
    match ids {
        Some(ids) if !vectors.is_file() => ids.finish().and_then(|()| writer.finish())?,
        ids => writer.finish().and_then(|()| ids.map_or(Ok(()), Sink::finish))?,
    }
    let decoded = Decoded { rows: total, dim: index.dim(), seconds: start.elapsed().as_secs_f64() };
    let text = |Decoded { rows, dim, seconds }: &Decoded| {
        format!("{}: {} vectors x {dim} in {seconds:.2} s", shown(&args.output), count(rows))
    };
    if on_stdout {
        out.note(&text(&decoded));
        return Ok(());
    }
    out.result(&decoded, || text(&decoded) + "\n")
}

/// Writes the ids of the rows, as far as the sink that is still to be finished.
fn write_ids<D: AsRef<[u8]>>(
    target: &Target,
    index: &Index<D>,
    selected: Option<&Ids>,
    rows: std::ops::Range<usize>,
) -> Result<Sink, CliError> {
    let all;
    let ids = match selected {
        Some(ids) => ids,
        None => {
            all = index.ids(rows)?;
            &all
        }
    };
    let mut sink = target.open()?;
    match ids {
        Ids::Text(ids) if target.is_stdout() && io::stdout().is_terminal() => {
            sink.lines(ids.iter().map(|id| printable(id).to_string()))?;
        }
        ids => sink.ids(ids)?,
    }
    Ok(sink)
}
