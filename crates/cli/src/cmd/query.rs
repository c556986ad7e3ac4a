//! `vlc query`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use serde::Serialize;
use vlc::{IdKind, Index, Mat, MatRef, Searcher, read::Sink, text::printable};

use crate::{
    args::{Compute, Probing, read_queries},
    error::CliError,
    interrupt,
    output::{Output, count, json_line, shown},
    outputs::{Target, check_apart, input, note_base_as_queries},
    progress::Progress,
    stores::{CheckedEmbedding, FilterArg, ModelArg},
};

/// Find the nearest vectors of a .vlc file to each query
#[derive(clap::Args)]
#[command(after_help = "\
Without -o each hit is a line on stdout: query (row, from 0), rank (from 1), id and score, with tabs between.
Ids are row numbers, from 0, unless the file has ids of its own; what does not print of them is escaped, but not in files.
A larger score is nearer. With --json the object holds `ids` and `scores` when -o is not given.

-o writes what the ending of its name says: ids as .npy (queries x k of int64) or .txt (a line a query, with tabs between),
ids and scores as .tsv (the lines of stdout) or .json (the object). - is standard output; a device or pipe without such an
ending gets lines. An output that is there is replaced once the new one is whole, unless it is a .vlc file.

The queries must be from the embedding model of the rows; with --embedding-model it is checked where the file names one.

Examples:
  vlc query base.vlc queries.npy -k 10 > hits.tsv
  vlc query base.vlc queries.npy -k 100 -o ids.npy --scores scores.npy --json
  vlc query base.vlc queries.npy -k 10 -o hits.json
  vlc query base.vlc queries.npy --allow ids-of-this-tenant.txt")]
pub(crate) struct Args {
    /// The .vlc file
    #[arg(value_name = "INDEX", value_parser = input())]
    index: PathBuf,
    /// The query vectors: .npy, .fvecs, .bvecs or .fbin
    #[arg(value_name = "QUERIES", value_parser = input())]
    queries: PathBuf,
    /// Hits per query
    #[arg(short, value_name = "K", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    k: u32,
    /// Write the hits: .npy or .txt with their ids, .tsv or .json with scores too; - is standard output
    #[arg(short, long, value_name = "HITS.npy|txt|tsv|json")]
    output: Option<PathBuf>,
    /// Queries handed over at a time; 1 measures what a single query costs
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    #[command(flatten)]
    probing: Probing,
    #[command(flatten)]
    filter: FilterArg,
    /// Write the scores, an .npy file of float32, queries x k; - is standard output
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

/// What `-o` writes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Npy,
    Txt,
    Tsv,
    Json,
}

/// Where hits and scores go; without the first, hits go to standard output.
struct Targets {
    hits: Option<(Target, Format)>,
    scores: Option<Target>,
}

pub(crate) fn run(args: Args, out: &Output) -> Result<(), CliError> {
    let targets = targets(&args, out)?;
    args.compute.threads.install(|| match args.no_mmap {
        true => query(&Arc::new(args.model.read(&args.index)?), &args, &targets, out),
        false => query(&Arc::new(args.model.open(&args.index)?), &args, &targets, out),
    })
}

fn targets(args: &Args, out: &Output) -> Result<Targets, CliError> {
    let others = [args.filter.path(), args.model.path()].into_iter().flatten();
    let inputs: Vec<&Path> = others.chain([args.index.as_path(), args.queries.as_path()]).collect();
    let hits = args.output.as_deref().map(|path| Target::new("-o", path, &inputs)).transpose()?;
    let scores = args.scores.as_deref().map(|path| Target::new("--scores", path, &inputs)).transpose()?;
    check_apart(&hits.iter().chain(&scores).collect::<Vec<_>>(), out)?;
    if let Some(scores) = &scores {
        scores.ending(&["npy"])?;
        scores.no_terminal()?;
        if hits.is_none() && scores.is_stdout() {
            let message = "the hits go to standard output, and --scores too; name a file for one of them";
            return Err(CliError::Usage(message.into()));
        }
    }
    let format = |target: &Target| -> Result<Format, CliError> {
        Ok(match target.ending(&["npy", "txt", "tsv", "json"])? {
            Some("npy") => Format::Npy,
            Some("txt") => Format::Txt,
            Some("json") => Format::Json,
            _ => Format::Tsv,
        })
    };
    let Some(hits) = hits.filter(|hits| !hits.is_stdout()) else { return Ok(Targets { hits: None, scores }) };
    let format = format(&hits)?;
    if format == Format::Npy {
        hits.no_terminal()?;
    }
    Ok(Targets { hits: Some((hits, format)), scores })
}

fn query<D: AsRef<[u8]> + Send + Sync + 'static>(
    index: &Arc<Index<D>>,
    args: &Args,
    targets: &Targets,
    out: &Output,
) -> Result<(), CliError> {
    args.embedding.check(index, out)?;
    let text = index.info().ids == IdKind::Text;
    if let Some((target, Format::Npy)) = targets.hits.as_ref().filter(|_| text) {
        let path = shown(target.path());
        let message = format!("{path}: the ids are text, which .npy does not hold; name a .txt, .tsv or .json file");
        return Err(CliError::Usage(message));
    }
    let queries = read_queries(&args.queries, index.dim())?;
    note_base_as_queries((&args.index, index), (&args.queries, queries.rows()), out);
    let searcher = index.searcher(args.compute.on_these_threads())?;
    let start = Instant::now();
    let hits = search(index, &searcher, &queries, args, out)?;
    let seconds = start.elapsed().as_secs_f64();
    // Up to here there is nothing to clean up, and a signal ends the search at once.
    let files = targets.hits.iter().map(|(target, _)| target).chain(&targets.scores).any(Target::is_file);
    let _careful = files.then(interrupt::careful);

    let mut answer = Answer {
        queries: queries.rows(),
        k: args.k,
        seconds,
        queries_per_second: queries.rows() as f64 / seconds.max(1e-9),
        probe: args.probing.probe.to_string(),
        backend: searcher.backend().to_string(),
        ids: None,
        scores: None,
    };
    let name = |id: u64| id_of(index, text, id);
    let format = targets.hits.as_ref().map(|(_, format)| *format);
    if format == Some(Format::Json) || (format.is_none() && out.json) {
        let names = |ids: &[u64]| ids.iter().map(|&id| name(id)).collect();
        answer.ids = Some(hits.rows(&hits.ids, queries.rows()).map(names).collect());
        answer.scores = Some(hits.rows(&hits.scores, queries.rows()).map(<[f32]>::to_vec).collect());
    }
    // No file is there before all are whole.
    let mut sinks: Vec<Sink> = Vec::new();
    if let Some((target, format)) = &targets.hits {
        let mut sink = target.open()?;
        match format {
            Format::Npy => sink.npy_i64(MatRef::new(&hits.ids, queries.rows(), hits.k)?)?,
            Format::Txt => {
                let lines = hits.rows(&hits.ids, queries.rows()).map(|ids| line(ids.iter().map(|&id| name(id))));
                sink.lines(lines.collect::<Result<Vec<_>, _>>()?)?;
            }
            Format::Tsv => hits.lines(|line| sink.lines([line]).map_err(CliError::from), |id| exact(name(id)))?,
            Format::Json => sink.write(json_line(&answer)?.as_bytes())?,
        }
        sinks.push(sink);
        (answer.ids, answer.scores) = (None, None);
    }
    if let Some(target) = &targets.scores {
        let mut sink = target.open()?;
        sink.npy_f32(MatRef::new(&hits.scores, queries.rows(), hits.k)?)?;
        sinks.push(sink);
    }
    // Text ids were read from the file just now.
    index.check_whole()?;
    if files {
        interrupt::commit()?;
    }
    sinks.into_iter().try_for_each(Sink::finish)?;

    let summary = format!(
        "{} queries, k = {}: {seconds:.3} s, {} queries/s on {}",
        count(answer.queries),
        answer.k,
        count(answer.queries_per_second as u64),
        answer.backend
    );
    let listed = targets.hits.is_none();
    if listed {
        out.note(&summary);
    } else if targets.scores.as_ref().is_some_and(Target::is_stdout) {
        out.note(&summary);
        return Ok(());
    }
    let listing = || {
        let mut text = String::new();
        // Nothing of it fails.
        let _ = hits.lines(
            |line| {
                text.push_str(&line);
                text.push('\n');
                Ok(())
            },
            |id| Ok(escaped(name(id))),
        );
        text
    };
    let lines = if listed && !out.json { listing() } else { summary + "\n" };
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

    /// A line for each hit: query, rank, id and score.
    fn lines(
        &self,
        mut each: impl FnMut(String) -> Result<(), CliError>,
        name: impl Fn(u64) -> Result<String, CliError>,
    ) -> Result<(), CliError> {
        self.ids.iter().zip(&self.scores).enumerate().try_for_each(|(i, (&id, score))| {
            each(format!("{}\t{}\t{}\t{score}", i / self.k, i % self.k + 1, name(id)?))
        })
    }
}

/// The id of a hit: where ids are text, hits have row numbers.
fn id_of<D: AsRef<[u8]>>(index: &Index<D>, text: bool, id: u64) -> Id<'_> {
    if text { Id::Text(index.text_id(id).unwrap_or_default()) } else { Id::Number(id) }
}

/// An id as it is printed.
fn escaped(id: Id<'_>) -> String {
    match id {
        Id::Number(id) => id.to_string(),
        Id::Text(id) => printable(id).to_string(),
    }
}

/// An id as it stands in a file of columns.
fn exact(id: Id<'_>) -> Result<String, CliError> {
    match id {
        Id::Number(id) => Ok(id.to_string()),
        Id::Text(id) if id.contains(['\t', '\n', '\r']) => Err(CliError::Usage(format!(
            "the id {id:?} has a tab or a line break in it, which divide columns and lines; name a .json file"
        ))),
        Id::Text(id) => Ok(id.to_owned()),
    }
}

/// The ids of a query as a line.
fn line<'a>(ids: impl Iterator<Item = Id<'a>>) -> Result<String, CliError> {
    Ok(ids.map(exact).collect::<Result<Vec<_>, _>>()?.join("\t"))
}

fn search<D: AsRef<[u8]>>(
    index: &Index<D>,
    searcher: &Searcher,
    queries: &Mat,
    args: &Args,
    out: &Output,
) -> Result<Hits, CliError> {
    let filter = args.filter.ready(index, out)?;
    let rows = filter.as_ref().map_or(index.len(), |filter| filter.len() as usize);
    let k = rows.min(args.k as usize);
    let mut options = args.probing.options(k);
    options.filter = filter.as_ref();
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
        let found = searcher.search(chunk, &options)?;
        hits.ids.extend_from_slice(found.ids.as_slice());
        hits.scores.extend_from_slice(found.scores.as_slice());
    }
    Ok(hits)
}
