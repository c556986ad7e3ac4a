//! Queries answered: tables from a query, the scan, the best k.

use super::{
    Index,
    filter::{self, RowFilter},
};
use crate::{
    device::{Backend, DeviceChoice},
    error::Error,
    file::mmap::Watch,
    format::parse::Parsed,
    ids::IdsKind,
    learned::rescore::LearnedModel,
    matrix::{Mat, MatRef},
    model::kinds::Metric,
    neighbors::{Hit, Neighbors, best_of},
    ops::{
        self,
        allowed::Allowed,
        seam::{Ops, WithOps},
        types::{CodesRef, ScoreTables},
    },
    read::prepare::prepare_queries,
    refine::rescore::{RefineLayer, candidates},
    search::{
        probe::{self, Probe},
        rescore::{Part, Rescorer},
        tables::{QueryModel, possible},
    },
};
use std::{cell::OnceCell, sync::Arc};

/// How a search is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SearchOptions {
    /// How much of the store a query looks at.
    pub probe: Probe,
    /// Whether the best rows of the scan are scored again, with the refine layer or the learned decoder that the file has: 4 k + 100 rows
    /// with the one; with the other as many as were found to lose next to nothing for ten hits, and four for each hit beyond.
    pub refine: bool,
}

impl Default for SearchOptions {
    fn default() -> Self {
        SearchOptions::probing(Probe::default())
    }
}

impl SearchOptions {
    /// Searches that look at as much of the store as `probe` says.
    #[must_use]
    pub fn probing(probe: Probe) -> SearchOptions {
        SearchOptions { probe, refine: true }
    }

    /// The same with or without the refine layer or the learned decoder.
    #[must_use]
    pub fn refining(self, refine: bool) -> SearchOptions {
        SearchOptions { refine, ..self }
    }
}

/// An index made ready on one backend for many queries.
pub struct Searcher<'a> {
    parsed: &'a Parsed,
    bytes: &'a [u8],
    watch: Option<&'a Watch>,
    query_model: &'a QueryModel,
    /// The live rows of each segment, where some are deleted.
    masks: Vec<Option<Arc<Allowed>>>,
    backend: Backend,
    loaded: Box<dyn Search + 'a>,
    /// Where there is a refine layer or a learned decoder.
    rescorer: Option<Second<'a>>,
}

/// What scores the best rows of a scan again.
enum Second<'a> {
    Refine(Rescorer<'a, RefineLayer<'a>>),
    Learned(Rescorer<'a, &'a LearnedModel>),
}

impl Second<'_> {
    fn best(
        &self,
        queries: MatRef<'_>,
        tables: &ScoreTables,
        candidates: MatRef<'_, u64>,
        k: usize,
    ) -> Result<Neighbors, Error> {
        match self {
            Second::Refine(rescorer) => rescorer.best(queries, tables, candidates, k),
            Second::Learned(rescorer) => rescorer.best(queries, tables, candidates, k),
        }
    }
}

/// What the ids of hits are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Numbers {
    Rows,
    /// Positions; those of a segment follow those of the ones before.
    Positions,
}

trait Search {
    /// The best rows of the whole store; `masks` has one for each of its segments.
    fn score(
        &self,
        queries: &mut ScoreTables,
        k: usize,
        masks: &[Option<Arc<Allowed>>],
        numbers: Numbers,
    ) -> Result<Neighbors, Error>;
}

/// The codes of a segment with rows.
#[derive(Clone)]
struct LiveSegment<'a> {
    /// Its place among all segments.
    number: usize,
    /// The number of its first row.
    row: u64,
    /// Its first position among those of such segments.
    position: u64,
    codes: CodesRef<'a>,
}

impl<'a> LiveSegment<'a> {
    /// The same for a layer with what that has of its rows.
    fn part<R>(&self, behind: R) -> Part<'a, R> {
        Part { position: self.position, row: self.row, codes: self.codes.clone(), behind }
    }

    fn first(&self, numbers: Numbers) -> u64 {
        match numbers {
            Numbers::Rows => self.row,
            Numbers::Positions => self.position,
        }
    }
}

/// Segments on a device: ready for hits by row, by position, or both, once they are asked for so.
struct Loaded<'a, O: Ops> {
    ops: O,
    segments: Vec<LiveSegment<'a>>,
    by_row: OnceCell<Vec<O::Codes<'a>>>,
    by_position: OnceCell<Vec<O::Codes<'a>>>,
}

impl<'a, O: Ops> Loaded<'a, O> {
    fn codes(&self, numbers: Numbers) -> Result<&[O::Codes<'a>], Error> {
        let cell = match numbers {
            Numbers::Rows => &self.by_row,
            Numbers::Positions => &self.by_position,
        };
        if let Some(codes) = cell.get() {
            return Ok(codes);
        }
        let load = |segment: &LiveSegment<'a>| {
            let mut codes = segment.codes.clone();
            if numbers == Numbers::Positions {
                codes.labels = codes.labels.positions();
            }
            self.ops.load(codes)
        };
        let codes = self.segments.iter().map(load).collect::<Result<_, Error>>()?;
        Ok(cell.get_or_init(|| codes))
    }
}

impl<O: Ops> Search for Loaded<'_, O> {
    fn score(
        &self,
        queries: &mut ScoreTables,
        k: usize,
        masks: &[Option<Arc<Allowed>>],
        numbers: Numbers,
    ) -> Result<Neighbors, Error> {
        let mut found = Vec::with_capacity(self.segments.len());
        for (segment, codes) in self.segments.iter().zip(self.codes(numbers)?) {
            queries.allowed.clone_from(&masks[segment.number]);
            let mut part = self.ops.score(codes, queries, k)?;
            let first = segment.first(numbers);
            part.ids.as_mut_slice().iter_mut().for_each(|row| *row += first);
            found.push(part);
        }
        Ok(best_of(found, queries.bases.rows(), k))
    }
}

impl<D: AsRef<[u8]>> Index<D> {
    /// The `min(k, n)` nearest rows of one query, nearest first, on the CPU. Exhaustive: O(n x symbols).
    ///
    /// # Errors
    /// As [`Searcher::query_batch`].
    pub fn query(&self, query: &[f32], k: usize) -> Result<Vec<Hit>, Error> {
        let found = self.query_batch(MatRef::new(query, 1, query.len())?, k)?;
        let pairs = found.ids.as_slice().iter().zip(found.scores.as_slice());
        Ok(pairs.map(|(&id, &score)| Hit { id, score }).collect())
    }

    /// The `min(k, n)` nearest rows of every query (queries x dim), on all threads of the current rayon pool.
    ///
    /// # Errors
    /// As [`Searcher::query_batch`].
    pub fn query_batch(&self, queries: MatRef<'_>, k: usize) -> Result<Neighbors, Error> {
        Searcher::open(self, Backend::Cpu)?.query_batch(queries, k)
    }
}

struct Open<'a> {
    parsed: &'a Parsed,
    learned_model: Option<&'a LearnedModel>,
    query_model: &'a QueryModel,
    bytes: &'a [u8],
    watch: Option<&'a Watch>,
}

impl<'a> WithOps for Open<'a> {
    type Output = Searcher<'a>;

    fn run<O: Ops>(self, ops: O) -> Result<Searcher<'a>, Error> {
        let parsed = self.parsed;
        let segments = self.segments();
        let rescorer = parsed.refine.as_ref().map(|refine| {
            let part = |live: &LiveSegment<'a>| {
                let refine = parsed.segments[live.number].refine_rows(self.bytes)?;
                Some(live.part(refine))
            };
            Second::Refine(Rescorer::new(RefineLayer::new(refine), segments.iter().filter_map(part).collect()))
        });
        let rescorer = rescorer.or_else(|| {
            let parts = segments.iter().map(|live| live.part(()));
            Some(Second::Learned(Rescorer::new(self.learned_model?, parts.collect())))
        });
        let masks = parsed.segments.iter().map(|segment| filter::live(segment, self.bytes)).collect();
        let backend = ops.backend();
        let loaded = Loaded { ops, segments, by_row: OnceCell::new(), by_position: OnceCell::new() };
        // What searches will most likely ask for.
        loaded.codes(if rescorer.is_some() { Numbers::Positions } else { Numbers::Rows })?;
        Ok(Searcher {
            parsed,
            bytes: self.bytes,
            watch: self.watch,
            query_model: self.query_model,
            masks,
            backend,
            loaded: Box::new(loaded),
            rescorer,
        })
    }
}

impl<'a> Open<'a> {
    /// The segments with rows that are not deleted.
    fn segments(&self) -> Vec<LiveSegment<'a>> {
        let parsed = self.parsed;
        let mut position = 0;
        let live = parsed.segments.iter().enumerate().filter(|(_, segment)| segment.live() > 0);
        live.map(|(number, segment)| {
            let codes = CodesRef {
                model: &parsed.model,
                shape: parsed.block,
                blocks: segment.codes(self.bytes),
                labels: segment.row_ids(self.bytes),
                anchor_chart: &parsed.model.anchor_chart,
                alphabet: parsed.model.charts.first().map_or(16, |c| c.code.alphabet()),
                factors: &parsed.model.side.factors,
                gains: parsed.gains(number),
                squared: parsed.model.metric == Metric::L2,
            };
            let first = position;
            position += segment.n;
            LiveSegment { number, row: segment.first, position: first, codes }
        })
        .collect()
    }
}

impl<'a> Searcher<'a> {
    /// Makes `index` ready on `backend`. On the CPU this copies nothing.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the backend is not there, [`Error::Device`] when it fails.
    pub fn open<D: AsRef<[u8]>>(index: &'a Index<D>, backend: Backend) -> Result<Searcher<'a>, Error> {
        Searcher::open_on(index, backend, DeviceChoice::Best)
    }

    /// As [`Searcher::open`], on a certain device of the backend.
    ///
    /// # Errors
    /// As [`Searcher::open`], and [`Error::Config`] for a device that the backend does not have.
    pub fn open_on<D: AsRef<[u8]>>(
        index: &'a Index<D>,
        backend: Backend,
        device: DeviceChoice,
    ) -> Result<Searcher<'a>, Error> {
        let (parsed, query_model, bytes) = (index.parsed(), index.query_model(), index.bytes());
        let open = Open { parsed, learned_model: index.learned_model(), query_model, bytes, watch: index.watch() };
        index.check_whole()?;
        let searcher = ops::dispatch(backend, device, open)?;
        // What was copied to a device, and which rows are deleted.
        index.check_whole()?;
        Ok(searcher)
    }

    /// The backend that answers.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The `min(k, n)` nearest rows of every query, exhaustively: O(n x symbols) per query.
    ///
    /// # Errors
    /// [`Error::Config`] when k is 0; [`Error::Input`] when the queries have another width than the index, hold a value
    /// that is not finite, or a zero row under cosine.
    pub fn query_batch(&self, queries: MatRef<'_>, k: usize) -> Result<Neighbors, Error> {
        self.search(queries, k, &SearchOptions::default())
    }

    /// The `min(k, n)` nearest of the rows that `options` has every query look at.
    ///
    /// # Errors
    /// As [`Searcher::query_batch`], and [`Error::Config`] for options out of range.
    pub fn search(&self, queries: MatRef<'_>, k: usize, options: &SearchOptions) -> Result<Neighbors, Error> {
        self.named(self.search_rows(queries, k, options)?)
    }

    /// The `min(k, filter.len())` nearest of the rows that `filter` allows, with the scores they have without it. Rows it does not
    /// allow are left out inside the scan, so a query costs less the fewer are allowed; probing counts cells and rows of
    /// those that are.
    ///
    /// # Errors
    /// As [`Searcher::search`], and [`Error::Config`] for a filter of another file or commit.
    pub fn search_filtered(
        &self,
        queries: MatRef<'_>,
        k: usize,
        options: &SearchOptions,
        filter: &RowFilter,
    ) -> Result<Neighbors, Error> {
        filter.check(self.parsed)?;
        let masks: Vec<_> = filter.masks().iter().map(|mask| Some(Arc::clone(mask))).collect();
        self.named(self.search_masked(queries, k, options, &masks)?)
    }

    /// As [`Searcher::search`], with the numbers of the rows in place of their ids.
    ///
    /// # Errors
    /// As [`Searcher::search`].
    pub fn search_rows(&self, queries: MatRef<'_>, k: usize, options: &SearchOptions) -> Result<Neighbors, Error> {
        self.search_masked(queries, k, options, &self.masks)
    }

    /// Puts ids in the place of row numbers.
    fn named(&self, mut found: Neighbors) -> Result<Neighbors, Error> {
        if self.parsed.ids_kind() == Some(IdsKind::Numbers) {
            found.ids.as_mut_slice().iter_mut().for_each(|id| *id = self.parsed.number_id(*id, self.bytes));
            self.check_whole()?;
        }
        Ok(found)
    }

    /// How many hits a query can have, and how many queries go together: fewer than [`QUERIES`] where each takes much. Room for all hits
    /// is reserved.
    fn room(
        &self,
        queries: usize,
        k: usize,
        ids: &mut Vec<u64>,
        scores: &mut Vec<f32>,
    ) -> Result<(usize, usize), Error> {
        const BYTES: usize = 24 << 20;
        let parsed = self.parsed;
        let live = parsed.live() as usize;
        let k = k.min(live.max(1));
        let hits = k
            .min(live)
            .checked_mul(queries)
            .filter(|&hits| ids.try_reserve_exact(hits).is_ok() && scores.try_reserve_exact(hits).is_ok());
        if hits.is_none() {
            let message = format!("{k} hits for each of {queries} queries do not fit into memory; ask for fewer");
            return Err(Error::Config(message));
        }
        let model = &*parsed.model;
        let alphabet = model.charts.first().map_or(16, |chart| chart.code.alphabet());
        let active: usize = model.charts.iter().map(|chart| chart.active()).sum();
        let again = parsed.refine.as_ref().map_or(0, |refine| refine.symbols() * 16 + refine.chart().active());
        // In f32; the byte tables of the scan are a quarter of it again.
        let values = model.charts.len() * model.symbols() * alphabet + model.anchors() + active + model.dim + again;
        let looked_at = match (&parsed.refine, &parsed.learned) {
            (None, None) => k,
            (Some(_), _) => candidates(k),
            (_, Some(learned)) => learned.candidates(k),
        };
        // A hit is kept by the thread that finds it, among those of all threads, and in the answer.
        let of_query = 5 * values + 40 * looked_at.min(live);
        let room = BYTES + parsed.layout.end as usize / 2;
        Ok((k, (room / of_query.max(1)).clamp(1, QUERIES)))
    }

    /// As [`Index::check_whole`].
    fn check_whole(&self) -> Result<(), Error> {
        self.watch.map_or(Ok(()), |watch| watch.check(self.parsed.layout.end))
    }

    fn search_masked(
        &self,
        queries: MatRef<'_>,
        k: usize,
        options: &SearchOptions,
        masks: &[Option<Arc<Allowed>>],
    ) -> Result<Neighbors, Error> {
        if k == 0 {
            return Err(Error::Config("k must be at least 1".into()));
        }
        if options.probe == Probe::Cells(0) {
            return Err(Error::Config("at least one cell must be probed".into()));
        }
        let model = &*self.parsed.model;
        let reach = probe::reach(options.probe, k, &self.parsed.meta);
        let mut ids = Vec::new();
        let mut scores = Vec::new();
        let mut width = 0;
        let (k, step) = self.room(queries.rows(), k, &mut ids, &mut scores)?;
        for start in (0..queries.rows()).step_by(step) {
            let part = queries.slice(start..(start + step).min(queries.rows()));
            let prepared = prepare_queries(part, model.metric, &model.center, model.dim, start)?;
            let mut tables = self.query_model.tables(model, prepared.rows.view(), reach);
            self.check_whole()?;
            let mut found = self.best(prepared.rows.view(), &mut tables, k, masks, options.refine)?;
            self.check_whole()?;
            width = found.ids.dim();
            for (row, &constant) in
                found.scores.as_mut_slice().chunks_exact_mut(width.max(1)).zip(&prepared.constants)
            {
                row.iter_mut().for_each(|score| *score = possible(model.metric, *score - constant));
            }
            ids.extend(found.ids.into_vec());
            scores.extend(found.scores.into_vec());
        }
        Ok(Neighbors { ids: Mat::new(ids, queries.rows(), width)?, scores: Mat::new(scores, queries.rows(), width)? })
    }
}

impl Searcher<'_> {
    /// As [`Searcher::query_batch`] for queries that are as the codec sees them, with what each anchor adds to their scores
    /// (queries x anchors); scores lack the queries' own constants.
    pub(crate) fn query_prepared(&self, queries: MatRef<'_>, k: usize) -> Result<(Neighbors, Mat), Error> {
        let mut tables = self.query_model.tables(&self.parsed.model, queries, None);
        Ok((self.best(queries, &mut tables, k, &self.masks, true)?, tables.bases))
    }

    /// The k best rows of queries as the codec sees them; of equal scores the lower row first.
    fn best(
        &self,
        queries: MatRef<'_>,
        tables: &mut ScoreTables,
        k: usize,
        masks: &[Option<Arc<Allowed>>],
        refine: bool,
    ) -> Result<Neighbors, Error> {
        match self.rescorer.as_ref().filter(|_| refine) {
            None => self.loaded.score(tables, k, masks, Numbers::Rows),
            Some(rescorer) => {
                let rows = self.parsed.learned.as_ref().map_or_else(|| candidates(k), |l| l.candidates(k));
                let found = self.loaded.score(tables, rows, masks, Numbers::Positions)?;
                rescorer.best(queries, tables, found.ids.view(), k)
            }
        }
    }
}

/// Queries of a part of a batch.
const QUERIES: usize = 1024;
