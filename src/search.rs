//! Queries answered: tables from a query, the scan, the best k.

use std::sync::Arc;

use crate::{
    Backend, DeviceChoice, Error, Mat, MatRef, Metric,
    filter::{self, RowFilter},
    format::{IdsKind, Parsed, Segment},
    index::Index,
    mmap::Watch,
    ops::{self, Allowed, CodesRef, Ops, ScoreTables, WithOps},
    probe::{self, Probe},
    query::{QueryModel, prepare_queries},
};
pub(crate) use crate::{exact::Exact, topk::TopK};

/// One row found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// The row's id, where ids are numbers; else its number, for [`Index::text_id`]. Without ids of its own a store's row numbers are
    /// its ids: from 0, in the order in which rows were compressed and appended.
    pub id: u64,
    /// Larger is nearer: the estimated cosine, inner product, or negative squared distance.
    pub score: f32,
}

/// Rows found for a batch of queries, best first; of equal scores the lower row first.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbors {
    /// Queries x min(k, n) ids, as [`Hit::id`].
    pub ids: Mat<u64>,
    /// Their scores.
    pub scores: Mat<f32>,
}

/// How a search is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SearchOptions {
    /// How much of the store a query looks at.
    pub probe: Probe,
}

impl SearchOptions {
    /// Searches that look at as much of the store as `probe` says.
    #[must_use]
    pub fn probing(probe: Probe) -> SearchOptions {
        SearchOptions { probe }
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
}

trait Search {
    /// The best rows of the whole store; `masks` has one for each of its segments.
    fn score(&self, queries: &mut ScoreTables, k: usize, masks: &[Option<Arc<Allowed>>]) -> Result<Neighbors, Error>;
}

/// The codes of each segment with rows: its place among all, and the number of its first row.
struct Loaded<'a, O: Ops> {
    ops: O,
    segments: Vec<(usize, u64, O::Codes<'a>)>,
}

impl<O: Ops> Search for Loaded<'_, O> {
    fn score(&self, queries: &mut ScoreTables, k: usize, masks: &[Option<Arc<Allowed>>]) -> Result<Neighbors, Error> {
        let mut found = Vec::with_capacity(self.segments.len());
        for (number, first, codes) in &self.segments {
            queries.allowed.clone_from(&masks[*number]);
            let mut part = self.ops.score(codes, queries, k)?;
            part.ids.as_mut_slice().iter_mut().for_each(|row| *row += first);
            found.push(part);
        }
        Ok(best_of(found, queries.bases.rows(), k))
    }
}

/// The k best of what was found in each segment; of equal scores the lower row first.
fn best_of(mut found: Vec<Neighbors>, queries: usize, k: usize) -> Neighbors {
    if found.len() == 1 {
        return found.remove(0);
    }
    let width = found.iter().map(|part| part.ids.dim()).sum::<usize>().min(k);
    let (mut ids, mut scores) = (Mat::zeros(queries, width), Mat::zeros(queries, width));
    let mut hits = Vec::new();
    for q in 0..queries {
        hits.clear();
        found
            .iter()
            .for_each(|part| hits.extend(part.scores.row(q).iter().copied().zip(part.ids.row(q).iter().copied())));
        hits.sort_unstable_by(|a: &(f32, u64), b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (i, &(score, row)) in hits[..width].iter().enumerate() {
            (scores.row_mut(q)[i], ids.row_mut(q)[i]) = (score, row);
        }
    }
    Neighbors { ids, scores }
}

struct Open<'a> {
    parsed: &'a Parsed,
    query_model: &'a QueryModel,
    bytes: &'a [u8],
    watch: Option<&'a Watch>,
}

impl<'a> WithOps for Open<'a> {
    type Output = Searcher<'a>;

    fn run<O: Ops>(self, ops: O) -> Result<Searcher<'a>, Error> {
        let parsed = self.parsed;
        let load = |(number, segment): (usize, &'a Segment)| {
            let codes = ops.load(CodesRef {
                model: &parsed.model,
                shape: parsed.block,
                blocks: segment.codes(self.bytes),
                labels: segment.row_ids(self.bytes),
                anchor_chart: &parsed.model.anchor_chart,
                alphabet: parsed.model.charts.first().map_or(16, |c| c.code.alphabet()),
                factors: &parsed.model.side.factors,
                gains: &parsed.gains,
                squared: parsed.model.metric == Metric::L2,
            });
            Ok((number, segment.first, codes?))
        };
        let live = parsed.segments.iter().enumerate().filter(|(_, segment)| segment.live() > 0);
        let segments = live.map(load).collect::<Result<_, Error>>()?;
        let masks = parsed.segments.iter().map(|segment| filter::live(segment, self.bytes)).collect();
        let backend = ops.backend();
        Ok(Searcher {
            parsed,
            bytes: self.bytes,
            watch: self.watch,
            query_model: self.query_model,
            masks,
            backend,
            loaded: Box::new(Loaded { ops, segments }),
        })
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
        let open = Open { parsed, query_model, bytes, watch: index.watch() };
        ops::dispatch(backend, device, open)
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
        Ok(self.named(self.search_rows(queries, k, options)?))
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
        Ok(self.named(self.search_masked(queries, k, options, &masks)?))
    }

    /// As [`Searcher::search`], with the numbers of the rows in place of their ids.
    ///
    /// # Errors
    /// As [`Searcher::search`].
    pub fn search_rows(&self, queries: MatRef<'_>, k: usize, options: &SearchOptions) -> Result<Neighbors, Error> {
        self.search_masked(queries, k, options, &self.masks)
    }

    /// Puts ids in the place of row numbers.
    fn named(&self, mut found: Neighbors) -> Neighbors {
        if self.parsed.ids_kind() == Some(IdsKind::Numbers) {
            found.ids.as_mut_slice().iter_mut().for_each(|id| *id = self.parsed.number_id(*id, self.bytes));
        }
        found
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
        // Tables take kilobytes per query, so a large batch goes in parts.
        for start in (0..queries.rows()).step_by(QUERIES) {
            let part = queries.slice(start..(start + QUERIES).min(queries.rows()));
            let prepared = prepare_queries(part, model.metric, &model.center, model.dim, start)?;
            let mut tables = self.query_model.tables(model, prepared.rows.view(), reach);
            self.watch.map_or(Ok(()), |watch| watch.check(self.parsed.layout.end))?;
            let mut found = self.loaded.score(&mut tables, k, masks)?;
            width = found.ids.dim();
            for (row, &constant) in
                found.scores.as_mut_slice().chunks_exact_mut(width.max(1)).zip(&prepared.constants)
            {
                row.iter_mut().for_each(|score| *score -= constant);
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
        Ok((self.loaded.score(&mut tables, k, &self.masks)?, tables.bases))
    }
}

/// Queries of a part of a batch.
const QUERIES: usize = 1024;
