//! `vlc query`.

use std::{fmt::Write as _, path::PathBuf, time::Instant};

use serde::Serialize;
use vlc::{
    Index, MappedFile, Mat, MatRef, SearchOptions, Searcher,
    read::{write_npy_f32, write_npy_i64},
};

use crate::{
    args::{Compute, Probing, check_output, read_queries},
    error::CliError,
    interrupt,
    output::{Output, count},
    progress::Progress,
};

/// Find the nearest vectors of a .vlc file to each query
#[derive(clap::Args)]
#[command(after_help = "\
Without -o each hit is a line on stdout: query (row, from 0), rank (from 1), id and score, with tabs between.
A larger score is nearer. With --json the object holds `ids` and `scores` when -o is not given.

Examples:
  vlc query base.vlc queries.npy -k 10 > hits.tsv
  vlc query base.vlc queries.npy -k 100 -o ids.npy --scores scores.npy --json")]
pub(crate) struct Args {
    /// The .vlc file
    #[arg(value_name = "INDEX")]
    index: PathBuf,
    /// The query vectors: .npy, .fvecs, .bvecs or .fbin
    #[arg(value_name = "QUERIES")]
    queries: PathBuf,
    /// Hits per query
    #[arg(short, value_name = "K", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    k: u32,
    /// Write the ids, an .npy file of int64, queries x k (replaces an existing one)
    #[arg(short, long, value_name = "ids.npy")]
    output: Option<PathBuf>,
    /// Queries handed over at a time; 1 measures what a single query costs
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    #[command(flatten)]
    probing: Probing,
    /// Write the scores, an .npy file of float32, queries x k (replaces an existing one)
    #[arg(long, value_name = "s.npy")]
    scores: Option<PathBuf>,
    #[command(flatten)]
    compute: Compute,
}

#[derive(Serialize)]
struct Answer {
    queries: usize,
    k: u32,
    seconds: f64,
    queries_per_second: f64,
    probe: String,
    backend: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<Vec<Vec<u64>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scores: Option<Vec<Vec<f32>>>,
}

pub(crate) fn run(args: Args, out: &Output) -> Result<(), CliError> {
    let inputs = [args.index.as_path(), args.queries.as_path()];
    for path in args.output.iter().chain(&args.scores) {
        check_output(path, &inputs, false)?;
    }
    if args.output.is_some() && args.output == args.scores {
        return Err(CliError::Usage("-o and --scores name the same file".into()));
    }
    args.compute.threads.install(|| query(&args, out))
}

fn query(args: &Args, out: &Output) -> Result<(), CliError> {
    let index = Index::open(&args.index)?;
    let queries = read_queries(&args.queries, index.dim())?;
    let searcher = Searcher::open_on(&index, args.compute.backend.into(), args.compute.device())?;
    let careful = args.output.is_some() || args.scores.is_some();
    let _careful = careful.then(interrupt::careful);
    let start = Instant::now();
    let hits = search(&index, &searcher, &queries, args, out)?;
    let seconds = start.elapsed().as_secs_f64();

    if let Some(path) = &args.output {
        write_npy_i64(path, MatRef::new(&hits.ids, queries.rows(), hits.k)?)?;
    }
    if let Some(path) = &args.scores {
        write_npy_f32(path, MatRef::new(&hits.scores, queries.rows(), hits.k)?)?;
    }
    let listed = args.output.is_none();
    let answer = Answer {
        queries: queries.rows(),
        k: args.k,
        seconds,
        queries_per_second: queries.rows() as f64 / seconds.max(1e-9),
        probe: args.probing.probe.to_string(),
        backend: searcher.backend().to_string(),
        ids: listed.then(|| hits.ids.chunks(hits.k.max(1)).map(<[u64]>::to_vec).collect()),
        scores: listed.then(|| hits.scores.chunks(hits.k.max(1)).map(<[f32]>::to_vec).collect()),
    };
    let summary = format!(
        "{} queries, k = {}: {seconds:.3} s, {} queries/s on {}",
        count(answer.queries),
        answer.k,
        count(answer.queries_per_second as u64),
        answer.backend
    );
    if listed {
        out.note(&summary);
    }
    out.result(&answer, || if listed { hits.lines() } else { summary + "\n" })
}

/// `queries x k` hits, best first.
struct Hits {
    k: usize,
    ids: Vec<u64>,
    scores: Vec<f32>,
}

impl Hits {
    fn lines(&self) -> String {
        let mut text = String::new();
        for (i, (id, score)) in self.ids.iter().zip(&self.scores).enumerate() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{}\t{}\t{id}\t{score}", i / self.k, i % self.k + 1);
        }
        text
    }
}

fn search(
    index: &Index<MappedFile>,
    searcher: &Searcher<'_>,
    queries: &Mat,
    args: &Args,
    out: &Output,
) -> Result<Hits, CliError> {
    let k = index.len().min(args.k as usize);
    let options = SearchOptions::probing(args.probing.probe);
    let mut hits = Hits { k, ids: Vec::new(), scores: Vec::new() };
    let progress = Progress::new(out);
    let batch = args.batch as usize;
    for first in (0..queries.rows()).step_by(batch) {
        interrupt::check()?;
        progress.update("searching", first as u64, queries.rows() as u64);
        let chunk = queries.view().slice(first..queries.rows().min(first + batch));
        let found = searcher.search(chunk, k, &options)?;
        hits.ids.extend_from_slice(found.ids.as_slice());
        hits.scores.extend_from_slice(found.scores.as_slice());
    }
    Ok(hits)
}
