//! `vlc query`.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Instant,
};

use serde::Serialize;
use vlc::{
    IdKind, Index, Mat, MatRef, Searcher,
    read::{write_lines, write_npy_f32, write_npy_i64},
};

use crate::{
    args::{Compute, Probing, check_output, read_queries},
    error::CliError,
    interrupt,
    output::{Output, count, printable},
    progress::Progress,
    stores::{CheckedEmbedding, FilterArg, ModelArg},
};

/// Find the nearest vectors of a .vlc file to each query
#[derive(clap::Args)]
#[command(after_help = "\
Without -o each hit is a line on stdout: query (row, from 0), rank (from 1), id and score, with tabs between.
Ids are row numbers, from 0, unless the file has ids of its own. A larger score is nearer. With --json the object holds `ids` and `scores` when -o is not given.

The queries must be from the embedding model of the rows; with --embedding-model it is checked where the file names one.

Examples:
  vlc query base.vlc queries.npy -k 10 > hits.tsv
  vlc query base.vlc queries.npy -k 100 -o ids.npy --scores scores.npy --json
  vlc query base.vlc queries.npy --allow ids-of-this-tenant.txt")]
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
    /// Write the ids (replaces an existing file): queries x k of int64, or if it ends in .txt a line a query with tabs between
    #[arg(short, long, value_name = "ids.npy|ids.txt")]
    output: Option<PathBuf>,
    /// Queries handed over at a time; 1 measures what a single query costs
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    #[command(flatten)]
    probing: Probing,
    #[command(flatten)]
    filter: FilterArg,
    /// Write the scores, an .npy file of float32, queries x k (replaces an existing one)
    #[arg(long, value_name = "s.npy")]
    scores: Option<PathBuf>,
    #[command(flatten)]
    embedding: CheckedEmbedding,
    /// Read the file into memory instead of mapping it: where others may truncate it, as on some network drives
    #[arg(long)]
    no_mmap: bool,
    #[command(flatten)]
    model: ModelArg,
    #[command(flatten)]
    compute: Compute,
}

#[derive(Serialize)]
struct Answer<'a> {
    queries: usize,
    k: u32,
    seconds: f64,
    queries_per_second: f64,
    probe: String,
    backend: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<Vec<Vec<Id<'a>>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scores: Option<Vec<Vec<f32>>>,
}

/// An id as it is printed.
#[derive(Serialize)]
#[serde(untagged)]
enum Id<'a> {
    Number(u64),
    Text(&'a str),
}

pub(crate) fn run(args: Args, out: &Output) -> Result<(), CliError> {
    let inputs = [args.index.as_path(), args.queries.as_path()];
    for path in args.output.iter().chain(&args.scores) {
        check_output(path, &inputs, false)?;
    }
    if args.output.is_some() && args.output == args.scores {
        return Err(CliError::Usage("-o and --scores name the same file".into()));
    }
    args.compute.threads.install(|| match args.no_mmap {
        true => query(&args.model.read(&args.index)?, &args, out),
        false => query(&args.model.open(&args.index)?, &args, out),
    })
}

fn query<D: AsRef<[u8]>>(index: &Index<D>, args: &Args, out: &Output) -> Result<(), CliError> {
    args.embedding.check(index, out)?;
    let text = index.info().ids == IdKind::Text;
    let lines = args.output.as_deref().is_some_and(is_text);
    if let Some(path) = args.output.as_ref().filter(|_| text && !lines) {
        let message = format!("{}: the ids are text, which .npy does not hold; name a .txt file", path.display());
        return Err(CliError::Usage(message));
    }
    let queries = read_queries(&args.queries, index.dim())?;
    let searcher = Searcher::open_on(index, args.compute.backend.into(), args.compute.device())?;
    let start = Instant::now();
    let hits = search(index, &searcher, &queries, args, out)?;
    let seconds = start.elapsed().as_secs_f64();
    // Up to here there is nothing to clean up, and a signal ends the search at once.
    let careful = args.output.is_some() || args.scores.is_some();
    let _careful = careful.then(interrupt::careful);

    if let Some(path) = &args.output {
        match lines {
            true => {
                let lines = hits.rows(&hits.ids, queries.rows()).map(|ids| line(index, text, ids));
                let lines = lines.collect::<Result<Vec<_>, _>>()?;
                index.check_whole()?;
                write_lines(path, lines)?;
            }
            false => write_npy_i64(path, MatRef::new(&hits.ids, queries.rows(), hits.k)?)?,
        }
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
        ids: (listed && out.json).then(|| {
            let name = |&id: &u64| id_of(index, text, id);
            hits.rows(&hits.ids, queries.rows()).map(|ids| ids.iter().map(name).collect()).collect()
        }),
        scores: (listed && out.json).then(|| hits.rows(&hits.scores, queries.rows()).map(<[f32]>::to_vec).collect()),
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
    let lines = if listed && !out.json { hits.lines(|id| id_of(index, text, id)) } else { summary + "\n" };
    // Text ids were read from the file just now.
    index.check_whole()?;
    out.result(&answer, || lines)
}

/// `queries x k` hits, best first.
struct Hits {
    k: usize,
    ids: Vec<u64>,
    scores: Vec<f32>,
}

impl Hits {
    /// The part of each query of ids or scores.
    fn rows<'a, T>(&self, all: &'a [T], queries: usize) -> impl Iterator<Item = &'a [T]> + use<'a, T> {
        let k = self.k;
        (0..queries).map(move |query| &all[query * k..(query + 1) * k])
    }

    fn lines<'a>(&self, name: impl Fn(u64) -> Id<'a>) -> String {
        let mut text = String::new();
        for (i, (&id, score)) in self.ids.iter().zip(&self.scores).enumerate() {
            let id = match name(id) {
                Id::Number(id) => id.to_string(),
                Id::Text(id) => printable(id),
            };
            // Writing to a string does not fail.
            let _ = writeln!(text, "{}\t{}\t{id}\t{score}", i / self.k, i % self.k + 1);
        }
        text
    }
}

/// Whether a name is that of a text file.
fn is_text(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("txt"))
}

/// The id of a hit: where ids are text, hits have row numbers.
fn id_of<D: AsRef<[u8]>>(index: &Index<D>, text: bool, id: u64) -> Id<'_> {
    if text { Id::Text(index.text_id(id).unwrap_or_default()) } else { Id::Number(id) }
}

/// The ids of a query as a line.
fn line<D: AsRef<[u8]>>(index: &Index<D>, text: bool, ids: &[u64]) -> Result<String, CliError> {
    let name = |&id: &u64| match id_of(index, text, id) {
        Id::Number(id) => Ok(id.to_string()),
        Id::Text(id) if id.contains('\t') => Err(CliError::Usage(format!(
            "the id {id:?} has a tab in it, which divides ids in a .txt file; ask for --json"
        ))),
        Id::Text(id) => Ok(id.to_owned()),
    };
    Ok(ids.iter().map(name).collect::<Result<Vec<_>, _>>()?.join("\t"))
}

fn search<D: AsRef<[u8]>>(
    index: &Index<D>,
    searcher: &Searcher<'_>,
    queries: &Mat,
    args: &Args,
    out: &Output,
) -> Result<Hits, CliError> {
    let filter = args.filter.ready(index)?;
    let rows = filter.as_ref().map_or(index.len(), |filter| filter.len() as usize);
    let k = rows.min(args.k as usize);
    let options = args.probing.options();
    let mut hits = Hits { k, ids: Vec::new(), scores: Vec::new() };
    if k == 0 {
        return Ok(hits);
    }
    let progress = Progress::new(out);
    let batch = args.batch as usize;
    for first in (0..queries.rows()).step_by(batch) {
        interrupt::check()?;
        progress.update("searching", first as u64, queries.rows() as u64);
        let chunk = queries.view().slice(first..queries.rows().min(first + batch));
        let found = match &filter {
            Some(filter) => searcher.search_filtered(chunk, k, &options, filter)?,
            None => searcher.search(chunk, k, &options)?,
        };
        hits.ids.extend_from_slice(found.ids.as_slice());
        hits.scores.extend_from_slice(found.scores.as_slice());
    }
    Ok(hits)
}
