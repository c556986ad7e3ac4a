//! `vlc transcode`.

use std::path::{Path, PathBuf};

use vlc::{Budget, Config};

use crate::{
    args::{self, Compute, read_queries},
    error::CliError,
    interrupt,
    output::Output,
    outputs::{ForceArg, input},
    report::{Listener, Report},
};

/// Compress a .vlc file anew, to another size, without the original vectors
#[derive(clap::Args)]
#[command(after_help = "\
What the file decodes to takes the place of the vectors, so its error adds to the new one's: where the vectors are at
hand, compress them. Rows keep their ids, and the file its notes.

Examples:
  vlc transcode base.vlc -o small.vlc --ratio 0.02
  vlc transcode base.vlc -o small.vlc --bytes 32 --queries sample.npy")]
pub(crate) struct Args {
    /// The .vlc file
    #[arg(value_name = "INDEX", value_parser = input())]
    index: PathBuf,
    /// Where to write the new file
    #[arg(short, long, value_name = "OUT.vlc")]
    output: PathBuf,
    /// Size of the whole file, model included, as a share of float32: 0.02 or 2%
    #[arg(long, value_name = "R", value_parser = args::ratio)]
    #[arg(required_unless_present = "bytes", conflicts_with = "bytes")]
    ratio: Option<f64>,
    /// The same as bytes per vector
    #[arg(long, value_name = "N", value_parser = args::bytes_per_vector)]
    bytes: Option<f64>,
    /// Sample queries to train with
    #[arg(long, value_name = "Q", value_parser = input())]
    queries: Option<PathBuf>,
    /// Seed of everything random: the same input and settings give the same bytes
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    force: ForceArg,
}

pub(crate) fn run(args: Args, out: &Output) -> Result<(), CliError> {
    let inputs: Vec<&Path> = std::iter::once(&args.index).chain(&args.queries).map(PathBuf::as_path).collect();
    args.force.check(&args.output, &inputs)?;
    let index = vlc::Index::open(&args.index)?;
    let shape = (index.len(), index.dim());
    let queries = args.queries.as_deref().map(|path| read_queries(path, index.dim())).transpose()?;
    drop(index);

    let _careful = interrupt::careful();
    let listener = Listener::new(out, shape, false);
    let on_event = |event: &vlc::Event<'_>| listener.hear(event);
    let config = Config {
        // One of the two is given.
        budget: args.bytes.map_or(Budget::Ratio(args.ratio.unwrap_or(0.03)), Budget::BytesPerVector),
        compute: args.compute.choice(),
        queries: queries.as_ref().map(|q| q.view()),
        seed: args.seed,
        progress: Some(&on_event),
        ..Config::default()
    };
    let report = vlc::transcode(&args.index, &args.output, &config)?;
    drop(listener);
    let report = Report::new(report);
    out.result(&report, || report.text(&args.output))
}
