//! `vlc append`.

use std::path::PathBuf;

use serde::Serialize;
use vlc::{
    EncodeOptions, Event,
    read::{RowSource, VectorFile},
};

use crate::{
    args::Compute,
    error::CliError,
    interrupt,
    output::{Output, count, shown, size},
    outputs::input,
    progress::Progress,
    report::{per_vector, warn_of_drift, warn_of_lengths},
    stores::{CheckedEmbedding, ModelArg, ids_for, ids_of_rows},
};

/// Add vectors to a .vlc file, encoded with the model it has
#[derive(clap::Args)]
#[command(after_help = "\
The file changes all at once: after Ctrl-C, an error or a crash it is what it was before. Searches that have it open
go on with what they opened. One process at a time changes a file (else exit 5, naming the other).

`energy` is the error of the new rows, to be compared with that of the rows the model was trained on; where it is 1.2
times that or more, a new model is due. Lengths (dot, l2) are kept whatever they are; where they are not those the model
was trained on, a warning says so.

Examples:
  vlc append base.vlc more.npy
  vlc append base.vlc more.npy --ids more-ids.txt --embedding-model sentence-transformers/all-MiniLM-L6-v2")]
pub(crate) struct Args {
    /// The .vlc file
    #[arg(value_name = "INDEX", value_parser = input())]
    index: PathBuf,
    /// The vectors: .npy (floats or whole numbers), .fvecs, .bvecs or .fbin
    #[arg(value_name = "MORE", value_parser = input())]
    more: PathBuf,
    /// Their ids, .npy or text as for compress; needed where INDEX has ids of its own
    #[arg(long, value_name = "FILE", value_parser = input())]
    ids: Option<PathBuf>,
    #[command(flatten)]
    embedding: CheckedEmbedding,
    #[command(flatten)]
    model: ModelArg,
    #[command(flatten)]
    compute: Compute,
}

#[derive(Serialize)]
struct Appended {
    rows: u64,
    first_row: u64,
    n: u64,
    file_bytes: u64,
    bytes_per_vector: Option<f64>,
    energy: f64,
    trained_energy: f64,
    drifted: bool,
    lengths: Option<(f32, f32)>,
    trained_lengths: Option<(f32, f32)>,
    seconds: f64,
    backend: String,
}

pub(crate) fn run(args: Args, out: &Output) -> Result<(), CliError> {
    let more = VectorFile::open(&args.more)?;
    let mut store = args.model.store(&args.index)?;
    let index = store.index()?;
    args.embedding.check(&index, out)?;
    let info = index.info();
    drop(index);
    let ids = match &args.ids {
        Some(path) => Some(ids_of_rows(path, ids_for(path, &info)?, more.rows())?),
        None => None,
    };

    let _careful = interrupt::careful();
    let progress = Progress::new(out);
    let on_event = |event: &Event<'_>| {
        if let Event::Progress { stage, done, total } = event {
            progress.stage(*stage, *done, *total);
        }
        interrupt::hear(event)
    };
    let options = EncodeOptions {
        ids: ids.as_ref(),
        // Checked above.
        embedding: None,
        compute: args.compute.choice(),
        progress: Some(&on_event),
    };
    let report = store.append(&more, &options)?;
    drop(progress);
    let appended = Appended {
        rows: report.rows,
        first_row: report.first_row,
        n: report.n,
        file_bytes: report.file_bytes,
        bytes_per_vector: per_vector(report.file_bytes, report.n),
        energy: report.energy,
        trained_energy: report.trained_energy,
        drifted: report.drifted,
        lengths: report.lengths,
        trained_lengths: report.trained_lengths,
        seconds: report.seconds,
        backend: report.backend.to_string(),
    };
    warn_of_drift(out, report.energy, report.trained_energy, report.drifted);
    if report.unlike_lengths() {
        warn_of_lengths(out, report.lengths, report.trained_lengths);
    }
    out.result(&appended, || human(&args, &appended))
}

fn human(args: &Args, a: &Appended) -> String {
    format!(
        "{}: {} vectors appended from row {} on; {} vectors in {}, {:.2} bytes per vector\n\
         energy {:.5} (trained {:.5})\n{:.1} s on {}\n",
        shown(&args.index),
        count(a.rows),
        a.first_row,
        count(a.n),
        size(a.file_bytes),
        a.bytes_per_vector.unwrap_or_default(),
        a.energy,
        a.trained_energy,
        a.seconds,
        a.backend,
    )
}
