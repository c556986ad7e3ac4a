//! `vlc demo`.

use std::{fmt::Write as _, path::Path, sync::Arc, time::Instant};

use serde::Serialize;
use vlc::{
    Budget, Config, Event, Index, Mat, Metric, SearchOptions,
    read::{RowSource, VectorFile, read_all},
};

use crate::{
    args::Compute,
    data,
    error::{CliError, io_error},
    interrupt,
    output::{Output, count, size, table},
    progress::Progress,
};

const K: usize = 10;
const RATIOS: [f64; 2] = [0.03, 0.0833];

/// Compress and search real vectors that come with the program
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  vlc demo\n  vlc demo --backend cpu --json")]
pub(crate) struct Args {
    #[command(flatten)]
    compute: Compute,
}

#[derive(Serialize)]
struct Demo {
    n: usize,
    dim: usize,
    float32_bytes: u64,
    k: usize,
    queries: usize,
    truth_seconds: f64,
    /// The exact nearest of query 0.
    exact_ids: Vec<u64>,
    runs: Vec<Run>,
}

#[derive(Serialize)]
struct Run {
    asked_ratio: f64,
    file_bytes: u64,
    bytes_per_vector: f64,
    ratio: f64,
    recall: f64,
    seconds: f64,
    queries_per_second: f64,
    backend: String,
    /// The nearest found for query 0.
    ids: Vec<u64>,
}

pub(crate) fn run(args: Args, out: &Output) -> Result<(), CliError> {
    args.compute.threads.install(|| demo(&args, out))
}

fn demo(args: &Args, out: &Output) -> Result<(), CliError> {
    let _careful = interrupt::careful();
    let dir = tempfile::tempdir().map_err(|e| io_error(&std::env::temp_dir(), e))?;
    let files = data::write_embedded(dir.path())?;
    let base = VectorFile::open(&files.base)?;
    let queries = read_all(&VectorFile::open(&files.queries)?)?;
    let sample = read_all(&VectorFile::open(&files.sample)?)?;

    let progress = Progress::new(out);
    progress.update("exact search", 0, 1);
    let start = Instant::now();
    let truth = vlc::measure::exact_neighbors(&base, queries.view(), K, Metric::Cosine)?;
    let truth_seconds = start.elapsed().as_secs_f64();

    let mut demo = Demo {
        n: base.rows(),
        dim: base.dim(),
        float32_bytes: 4 * (base.rows() * base.dim()) as u64,
        k: K,
        queries: queries.rows(),
        truth_seconds,
        exact_ids: truth.ids.row(0).to_vec(),
        runs: Vec::new(),
    };
    for ratio in RATIOS {
        interrupt::check()?;
        let path = dir.path().join(format!("demo-{ratio}.vlc"));
        demo.runs.push(one(ratio, &path, args, &base, (&sample, &queries, &truth), &progress)?);
    }
    drop(progress);
    out.result(&demo, || human(&demo))
}

fn one(
    ratio: f64,
    path: &Path,
    args: &Args,
    base: &VectorFile,
    (sample, queries, truth): (&Mat, &Mat, &vlc::Neighbors),
    progress: &Progress,
) -> Result<Run, CliError> {
    let on_event = |event: &Event<'_>| {
        if let Event::Progress { stage, done, total } = event {
            progress.stage(*stage, *done, *total);
        }
        interrupt::flow()
    };
    let config = Config {
        budget: Budget::Ratio(ratio),
        compute: args.compute.choice(),
        queries: Some(sample.view()),
        progress: Some(&on_event),
        ..Default::default()
    };
    let report = vlc::compress_to(base, path, &config)?;
    let index = Arc::new(Index::open(path)?);
    let searcher = index.searcher(args.compute.choice())?;
    let start = Instant::now();
    let found = searcher.search(queries.view(), &SearchOptions::new(K))?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(Run {
        asked_ratio: ratio,
        file_bytes: report.file_bytes,
        bytes_per_vector: report.bytes_per_vector,
        ratio: report.ratio,
        recall: vlc::measure::recall(&found, truth, K),
        seconds: report.seconds,
        queries_per_second: queries.rows() as f64 / seconds.max(1e-9),
        backend: report.backend.to_string(),
        ids: found.ids.row(0).to_vec(),
    })
}

fn human(demo: &Demo) -> String {
    let rows: Vec<Vec<String>> = demo
        .runs
        .iter()
        .map(|r| {
            vec![
                size(demo.float32_bytes),
                size(r.file_bytes),
                format!("{:.1}", r.bytes_per_vector),
                format!("{:.2} %", 100.0 * r.ratio),
                format!("{:.3}", r.recall),
                format!("{:.1}", r.seconds),
                count(r.queries_per_second as u64),
                r.backend.clone(),
            ]
        })
        .collect();
    let header = ["float32", "file", "bytes/vector", "ratio", "recall@10", "seconds", "queries/s", "backend"];
    let mut text = format!(
        "{} passages of documentation, embedded with all-MiniLM-L6-v2 ({} dimensions).\n\
         Recall: share of the true 10 nearest among the 10 found, over {} queries, from the compressed file alone.\n\n{}\n",
        count(demo.n),
        demo.dim,
        count(demo.queries),
        table(&header, &rows)
    );
    text.push_str(
        "In so small a store the model takes a good part of a 3 % file; a larger one shares it among more rows.\n\n",
    );
    let ids = |ids: &[u64]| ids.iter().map(|id| format!("{id:>4}")).collect::<Vec<_>>().join(" ");
    // Writing to a string does not fail.
    let _ = writeln!(text, "Nearest to query 0, exact: {}", ids(&demo.exact_ids));
    for run in &demo.runs {
        let _ = writeln!(text, "             found at {:>2.0} %: {}", 100.0 * run.asked_ratio, ids(&run.ids));
    }
    text.push_str(
        "\nOn your own vectors:\n\
         \x20 vlc compress base.npy -o base.vlc --queries sample-queries.npy\n\
         \x20 vlc eval base.vlc --base base.npy --queries test-queries.npy\n",
    );
    text
}
