//! `vlc compress`.

use std::path::{Path, PathBuf};

use vlc::{
    Config,
    read::{self, RowSource, VectorFile},
};

use crate::{
    args::{self, Compute, read_queries},
    error::CliError,
    interrupt,
    output::{Output, shown},
    outputs::{ForceArg, check_store, input, note_swapped},
    report::{Built, Listener, Report, warn_of_drift, warn_of_lengths},
    stores::{EmbeddingArg, ids_of_rows},
    training::Training,
};

/// Compress vectors into one .vlc file of a given size
#[derive(clap::Args)]
#[command(after_help = "\
Sample queries (--queries, a few hundred to a few thousand, like those to come) are worth about 2 points of recall.
Nothing is written unless all went well; Ctrl-C leaves no file behind. A file that is there is replaced with --force alone.

With --model nothing is trained, and the same rows give the same bytes: parts of a large set can be encoded by several
processes or machines and put together with `vlc merge`.

Ids (--ids) are an .npy file of whole numbers or strings, or text with an id a line: numbers where every line is one
(without leading zeros), else text. Without them a row's number, from 0, is its id.

Examples:
  vlc compress base.npy -o base.vlc
  vlc compress base.npy -o base.vlc --bytes 46 --queries sample.npy --meta source=manual
  vlc compress base.npy -o base.vlc --ratio 0.05 --dry-run
  vlc compress base.npy -o base.vlc --ids ids.txt --embedding-model sentence-transformers/all-MiniLM-L6-v2
  vlc compress part-1.npy -o part-1.vlc --model model.vlc")]
pub(crate) struct Args {
    /// The vectors: .npy (floats or whole numbers), .fvecs, .bvecs or .fbin
    #[arg(value_name = "BASE", value_parser = input())]
    base: PathBuf,
    /// Where to write the compressed file
    #[arg(short, long, value_name = "OUT.vlc")]
    output: PathBuf,
    #[command(flatten)]
    training: Training,
    #[command(flatten)]
    compute: Compute,
    /// Rows there will be once others are appended: the model is sized for so many [default: those of BASE]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    expected_rows: Option<u64>,
    /// Encode with the model in this file (of `vlc train`, or any other .vlc file) instead of training one
    #[arg(long, value_name = "M.vlc", value_parser = input(), conflicts_with_all = Training::NAMES)]
    #[arg(conflicts_with_all = ["expected_rows", "dry_run"])]
    model: Option<PathBuf>,
    /// Leave the model in its file and name that, which must stay beside OUT.vlc: for many small stores
    #[arg(long, requires = "model")]
    refer: bool,
    /// Ids of the rows, kept in the file and counted in its size: .npy or text
    #[arg(long, value_name = "FILE", value_parser = input())]
    ids: Option<PathBuf>,
    /// Take ids as text even if all are numbers
    #[arg(long, requires = "ids")]
    text_ids: bool,
    #[command(flatten)]
    embedding: EmbeddingArg,
    /// Keep a note in the file; may be given again
    #[arg(long, value_name = "KEY=VALUE", value_parser = args::key_value)]
    meta: Vec<(String, String)>,
    #[command(flatten)]
    force: ForceArg,
    /// Print the plan on stdout and stop
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: Args, out: &Output) -> Result<(), CliError> {
    let others = [args.training.queries(), args.ids.as_deref(), args.model.as_deref()];
    let inputs: Vec<&Path> = std::iter::once(args.base.as_path()).chain(others.into_iter().flatten()).collect();
    match args.dry_run {
        true => check_store(&args.output, &inputs)?,
        false => args.force.check(&args.output, &inputs)?,
    }
    let base = VectorFile::open(&args.base)?;
    let queries = args.training.queries().map(|path| read_queries(path, base.dim())).transpose()?;
    if let (Some(path), Some(queries)) = (args.training.queries(), &queries) {
        note_swapped((&args.base, base.rows()), (path, queries.rows()), out);
    }
    let ids = match &args.ids {
        Some(path) => {
            let ids = if args.text_ids { read::read_text_ids(path)? } else { read::read_ids(path)? };
            Some(ids_of_rows(path, ids, base.rows())?)
        }
        None => None,
    };

    let _careful = interrupt::careful();
    let listener = Listener::new(out, (base.rows(), base.dim()), args.dry_run);
    let on_event = |event: &vlc::Event<'_>| listener.hear(event);
    let config = Config {
        ids: ids.as_ref(),
        expected_rows: args.expected_rows,
        embedding: args.embedding.get(),
        metadata: args.meta.iter().cloned().collect(),
        ..args.training.config(queries.as_ref().map(|q| q.view()), &args.compute, &on_event)
    };
    if let Some(model) = &args.model {
        let report = encode(&args, &base, model, &config)?;
        let built = Built::new(&report);
        drop(listener);
        warn_of_drift(out, report.energy, report.trained_energy, report.drifted);
        if report.unlike_lengths() {
            warn_of_lengths(out, report.lengths, report.trained_lengths);
        }
        if args.refer && folder(model) != folder(&args.output) {
            let (model, output) = (shown(model), shown(&args.output));
            out.note(&format!("vlc: {model} is not beside {output}; open it with --model {model}"));
        }
        return out.result(&built, || built.text(&args.output));
    }
    let report = vlc::compress_to(&base, &args.output, &config);
    match (report, listener.planned()) {
        (Err(vlc::Error::Cancelled), Some((plan, text))) if args.dry_run => out.result(&plan, || text),
        (report, _) => {
            let report = Report::new(report?);
            out.result(&report, || report.text(&args.output))
        }
    }
}

/// Encodes with the model of a file.
fn encode(args: &Args, base: &VectorFile, model: &Path, config: &Config<'_>) -> Result<vlc::BuildReport, CliError> {
    let options = vlc::EncodeOptions {
        ids: config.ids,
        embedding: config.embedding.clone(),
        compute: config.compute,
        progress: config.progress,
    };
    Ok(vlc::compress_with_model(base, model, &args.output, args.refer, &config.metadata, &options)?)
}

/// The folder that a file is in, where that can be told.
fn folder(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok()?.parent().map(Path::to_owned)
}
