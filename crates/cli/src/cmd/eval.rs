//! `vlc eval`.

use std::{path::PathBuf, sync::Arc, time::Instant};

use serde::Serialize;
use vlc::{
    InputError,
    read::{RowSource, VectorFile},
};

use crate::{
    args::{Compute, Probing, read_queries},
    error::CliError,
    interrupt,
    output::{Output, count, pairs, shown},
    outputs::{input, note_base_as_queries},
    progress::Progress,
    stores::ModelArg,
};

/// Measure the recall of a .vlc file against exact search over the original vectors
#[derive(clap::Args)]
#[command(after_help = "\
Rows are compared by number, so BASE has all rows of INDEX in order, appended ones too, and none may have been deleted.

recall_at_k: share of the true k nearest among the k found. A row as near as the last of the true ones counts as one of
them; rows that were given equal scores, and were cut off by their numbers, count as if the wrong ones had come first.
recall_k_at_30, recall_k_at_100: share of the true k nearest among 30 or 100 found (what re-ranking those could reach).
recall_best: share of the queries whose nearest row is among the k found.
similarity_ratio: mean similarity of the k found over that of the true k, by the original vectors (for l2 the other way
round, of distances); similarity_ratio_worst is its mean over the worst twentieth of the queries.

Examples:
  vlc eval base.vlc --base base.npy --queries test.npy
  vlc eval base.vlc --base base.npy --queries test.npy -k 100 --json")]
pub(crate) struct Args {
    /// The .vlc file
    #[arg(value_name = "INDEX", value_parser = input())]
    index: PathBuf,
    /// The vectors it was made of
    #[arg(long, value_name = "BASE", value_parser = input())]
    base: PathBuf,
    /// The query vectors; not those it was trained with
    #[arg(long, value_name = "Q", value_parser = input())]
    queries: PathBuf,
    /// How many neighbours count
    #[arg(short, value_name = "K", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    k: u32,
    #[command(flatten)]
    probing: Probing,
    #[command(flatten)]
    model: ModelArg,
    #[command(flatten)]
    compute: Compute,
}

#[derive(Serialize)]
struct Evaluation {
    recall_at_k: f64,
    recall_k_at_30: f64,
    recall_k_at_100: f64,
    recall_best: f64,
    similarity_ratio: f64,
    similarity_ratio_worst: f64,
    k: u32,
    queries: usize,
    bytes_per_vector: f64,
    ratio: f64,
    queries_per_second: f64,
    truth_seconds: f64,
    probe: String,
    backend: String,
}

pub(crate) fn run(args: Args, out: &Output) -> Result<(), CliError> {
    args.compute.threads.install(|| eval(&args, out))
}

fn eval(args: &Args, out: &Output) -> Result<(), CliError> {
    let index = Arc::new(args.model.open(&args.index)?);
    let info = index.info();
    if info.next_row != info.n {
        let message = format!(
            "rows were deleted from it ({} of {}), so its row numbers are not those of any base; measure before deleting",
            count(info.next_row - info.n),
            count(info.next_row)
        );
        return Err(vlc::Error::Input(InputError::new(Some(&args.index), message)).into());
    }
    if index.is_empty() {
        return Err(vlc::Error::Input(InputError::new(Some(&args.index), "there are no vectors in it")).into());
    }
    let base = VectorFile::open(&args.base)?;
    if (base.rows(), base.dim()) != (index.len(), index.dim()) {
        let swapped =
            VectorFile::open(&args.queries).is_ok_and(|q| (q.rows(), q.dim()) == (index.len(), index.dim()));
        let message = format!(
            "these are {} vectors x {}, but {} was made of {} x {}; {}",
            base.rows(),
            base.dim(),
            shown(&args.index),
            index.len(),
            index.dim(),
            match swapped {
                true => "the queries are as many: are --base and --queries swapped?",
                false => "name the base it was made of",
            }
        );
        return Err(vlc::Error::Input(InputError::new(Some(&args.base), message)).into());
    }
    let queries = read_queries(&args.queries, index.dim())?;
    if queries.rows() == 0 {
        return Err(vlc::Error::Input(InputError::new(Some(&args.queries), "there are no queries in it")).into());
    }
    note_base_as_queries((&args.index, &index), (&args.queries, queries.rows()), out);
    let searcher = index.searcher(args.compute.on_these_threads())?;
    let k = index.len().min(args.k as usize);

    let progress = Progress::new(out);
    progress.update("exact search", 0, 1);
    let start = Instant::now();
    // More than are asked for, to see where ties go on.
    let with_ties = (2 * k + 1).min(index.len());
    let truth =
        vlc::measure::exact_neighbors_with(&base, queries.view(), with_ties, index.metric(), |done, total| {
            progress.update("exact search", done, total);
            interrupt::flow()
        })?;
    let truth_seconds = start.elapsed().as_secs_f64();

    progress.update("searching", 0, 1);
    // First the wider search, which also warms up the device and the page cache.
    let options = args.probing.options(k).by_row_number();
    let wide = searcher.search(queries.view(), &options.hits(with_ties.max(100).min(index.len())))?;
    let start = Instant::now();
    let found = searcher.search(queries.view(), &options)?;
    let seconds = start.elapsed().as_secs_f64();
    drop(progress);

    let ratio = vlc::measure::similarity_ratio(&base, queries.view(), &found, &truth, k, index.metric())?;
    let evaluation = Evaluation {
        recall_at_k: vlc::measure::recall_beside(&found, &wide, &truth, k),
        recall_k_at_30: vlc::measure::recall_among(&wide, &truth, k, k.max(30)),
        recall_k_at_100: vlc::measure::recall_among(&wide, &truth, k, k.max(100)),
        recall_best: vlc::measure::recall_among(&found, &truth, 1, k),
        similarity_ratio: ratio.mean,
        similarity_ratio_worst: ratio.worst,
        k: args.k,
        queries: queries.rows(),
        bytes_per_vector: info.bytes_per_vector,
        ratio: info.ratio,
        queries_per_second: queries.rows() as f64 / seconds.max(1e-9),
        truth_seconds,
        probe: args.probing.probe.to_string(),
        backend: searcher.backend().to_string(),
    };
    out.result(&evaluation, || human(&evaluation))
}

fn human(e: &Evaluation) -> String {
    pairs(&[
        (&format!("recall@{}", e.k), format!("{:.4} ({} queries)", e.recall_at_k, count(e.queries))),
        (&format!("recall {}@30", e.k), format!("{:.4}", e.recall_k_at_30)),
        (&format!("recall {}@100", e.k), format!("{:.4}", e.recall_k_at_100)),
        ("best hit found", format!("{:.4}", e.recall_best)),
        (
            "similarity",
            format!("{:.4} of the true ones', {:.4} in the worst 5 %", e.similarity_ratio, e.similarity_ratio_worst),
        ),
        ("per vector", format!("{:.2} bytes, ratio {:.4} of float32", e.bytes_per_vector, e.ratio)),
        ("speed", format!("{} queries/s on {}", count(e.queries_per_second as u64), e.backend)),
        ("exact search", format!("{:.2} s", e.truth_seconds)),
    ])
}
