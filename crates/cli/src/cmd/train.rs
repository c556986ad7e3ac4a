//! `vlc train`.

use std::path::{Path, PathBuf};

use serde::Serialize;
use vlc::{
    Config,
    read::{RowSource, VectorFile},
};

use crate::{
    args::{self, Compute, read_queries},
    error::CliError,
    interrupt,
    output::{Output, shown, size},
    outputs::{ForceArg, input, note_swapped},
    report::Listener,
    stores::{EmbeddingArg, hex},
    training::Training,
};

/// Train a model and write it to a file of its own, for `vlc compress --model`
#[derive(clap::Args)]
#[command(after_help = "\
The size (--ratio, --bytes) is that of a file with the rows of --rows and the model in it.

Examples:
  vlc train sample.npy -o model.vlc --rows 10000000 --queries queries.npy
  vlc compress part-1.npy -o part-1.vlc --model model.vlc
  vlc compress part-2.npy -o part-2.vlc --model model.vlc
  vlc merge part-1.vlc part-2.vlc -o all.vlc")]
pub(crate) struct Args {
    /// The vectors to train on: .npy (floats or whole numbers), .fvecs, .bvecs or .fbin
    #[arg(value_name = "BASE", value_parser = input())]
    base: PathBuf,
    /// Where to write the model
    #[arg(short, long, value_name = "MODEL.vlc")]
    output: PathBuf,
    #[command(flatten)]
    training: Training,
    /// Rows that will be encoded with it, in all files together [default: those of BASE]
    #[arg(long = "rows", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    expected_rows: Option<u64>,
    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    embedding: EmbeddingArg,
    /// Keep a note in the file, and in those made with it; may be given again
    #[arg(long, value_name = "KEY=VALUE", value_parser = args::key_value)]
    meta: Vec<(String, String)>,
    #[command(flatten)]
    force: ForceArg,
}

#[derive(Serialize)]
struct Trained {
    dim: u32,
    file_bytes: u64,
    energy: f64,
    model: String,
    seconds: f64,
    backend: String,
}

pub(crate) fn run(args: Args, out: &Output) -> Result<(), CliError> {
    let inputs: Vec<&Path> = std::iter::once(args.base.as_path()).chain(args.training.queries()).collect();
    args.force.check(&args.output, &inputs)?;
    let base = VectorFile::open(&args.base)?;
    let queries = args.training.queries().map(|path| read_queries(path, base.dim())).transpose()?;
    if let (Some(path), Some(queries)) = (args.training.queries(), &queries) {
        note_swapped((&args.base, base.rows()), (path, queries.rows()), out);
    }

    let _careful = interrupt::careful();
    let listener = Listener::new(out, (base.rows(), base.dim()), false);
    let on_event = |event: &vlc::Event<'_>| listener.hear(event);
    let config = Config {
        expected_rows: args.expected_rows,
        embedding: args.embedding.get(),
        metadata: args.meta.iter().cloned().collect(),
        ..args.training.config(queries.as_ref().map(|q| q.view()), &args.compute, &on_event)
    };
    let report = vlc::train_to(&base, &args.output, &config)?;
    drop(listener);
    let trained = Trained {
        dim: report.dim,
        file_bytes: report.file_bytes,
        energy: report.energy,
        model: hex(report.model_hash),
        seconds: report.seconds,
        backend: report.backend.to_string(),
    };
    out.result(&trained, || {
        let Trained { dim, file_bytes, energy, model, seconds, backend } = &trained;
        let bytes = size(*file_bytes);
        format!(
            "{}: model {model} of {dim} dimensions in {bytes}\nenergy {energy:.5}\n{seconds:.1} s on {backend}\n",
            shown(&args.output)
        )
    })
}
