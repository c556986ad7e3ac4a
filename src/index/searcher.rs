//! Queries answered.

use std::{fmt, sync::Arc};

use rayon::ThreadPool;

use super::{Index, engine::Engine, filter::RowFilter, view::View};
use crate::{
    backend::{Backend, Compute},
    error::Error,
    matrix::MatRef,
    neighbors::{Hit, Neighbors},
    ops::threads,
    search::probe::{self, Probe},
};

/// What is asked of a search.
///
/// ```
/// use vlc::{Probe, SearchOptions};
///
/// let options = SearchOptions::new(20).probing(Probe::Auto);
/// assert_eq!((options.k, options.refine), (20, true));
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct SearchOptions<'a> {
    /// Hits for each query, at least 1. There are as many as there are rows at most.
    pub k: usize,
    /// The rows that may be hits; `None`: all. Scores do not depend on it. Rows that are not allowed are left out inside the scan, so a query
    /// costs less the fewer are allowed; probing counts cells and rows of those that are.
    pub filter: Option<&'a RowFilter>,
    /// How much of the store a query looks at.
    pub probe: Probe,
    /// Whether the best rows of the scan are scored again, with the refine layer or the learned decoder that the file has: 4 k + 100 rows
    /// with the one; with the other as many as were found to lose next to nothing for ten hits, and four for each hit beyond.
    pub refine: bool,
    /// Whether hits are named by the numbers of their rows where these have ids of their own.
    pub row_numbers: bool,
}

/// Ten hits of all rows.
impl Default for SearchOptions<'_> {
    fn default() -> Self {
        SearchOptions { k: 10, filter: None, probe: Probe::All, refine: true, row_numbers: false }
    }
}

impl<'a> SearchOptions<'a> {
    /// `k` hits of all rows.
    #[must_use]
    pub fn new(k: usize) -> SearchOptions<'a> {
        SearchOptions { k, ..SearchOptions::default() }
    }

    /// The same for `k` hits.
    #[must_use]
    pub fn hits(self, k: usize) -> SearchOptions<'a> {
        SearchOptions { k, ..self }
    }

    /// The same among the rows that `filter` allows.
    #[must_use]
    pub fn filtered(self, filter: &'a RowFilter) -> SearchOptions<'a> {
        SearchOptions { filter: Some(filter), ..self }
    }

    /// The same, looking at as much of the store as `probe` says.
    #[must_use]
    pub fn probing(self, probe: Probe) -> SearchOptions<'a> {
        SearchOptions { probe, ..self }
    }

    /// The same with or without the refine layer or the learned decoder.
    #[must_use]
    pub fn refining(self, refine: bool) -> SearchOptions<'a> {
        SearchOptions { refine, ..self }
    }

    /// The same with the numbers of rows as ids of hits.
    #[must_use]
    pub fn by_row_number(self) -> SearchOptions<'a> {
        SearchOptions { row_numbers: true, ..self }
    }
}

/// An index that is shared, whatever its bytes are.
trait Shared: Send + Sync {
    fn view(&self) -> View<'_>;
}

impl<D: AsRef<[u8]> + Send + Sync> Shared for Index<D> {
    fn view(&self) -> View<'_> {
        Index::view(self)
    }
}

/// An index made ready on one backend for many queries, of any number of threads. A clone is the same searcher: the codes are on the device
/// once.
///
/// On the CPU threads search side by side, and each search uses the threads of the rayon pool it is called in, or a pool of its own where
/// [`Compute::threads`] is set. On a device searches take turns.
///
/// ```
/// use std::{sync::Arc, thread};
/// use vlc::{Backend, Config, Filter, Ids, MatRef, SearchOptions, compress};
///
/// let values: Vec<f32> = (0..64_000).map(|i| ((i * 37 % 1013) as f32 / 500.0) - 1.0).collect();
/// let rows = MatRef::new(&values, 1000, 64)?;
/// let index = Arc::new(compress(rows, &Config::default())?);
/// let searcher = index.searcher(Backend::Cpu)?;
/// let tenant = index.filter(Filter::Allow(&Ids::Numbers((100..200).collect())))?;
/// thread::scope(|scope| {
///     for _ in 0..4 {
///         let (searcher, tenant) = (searcher.clone(), &tenant);
///         scope.spawn(move || {
///             let found = searcher.search(rows.slice(150..151), &SearchOptions::new(5).filtered(tenant)).unwrap();
///             assert!(found.ids.row(0).iter().all(|id| (100..200).contains(id)));
///         });
///     }
/// });
/// # Ok::<(), vlc::Error>(())
/// ```
#[derive(Clone)]
pub struct Searcher {
    index: Arc<dyn Shared>,
    engine: Arc<Engine>,
    threads: Option<Arc<ThreadPool>>,
}

impl fmt::Debug for Searcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Searcher").field("backend", &self.backend()).finish_non_exhaustive()
    }
}

impl Searcher {
    /// The backend that answers.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.engine.backend()
    }

    /// The `min(k, n)` nearest of the rows that `options` has every query (queries x dim) look at, nearest first; of equal scores the lower row.
    /// O(n x symbols) a query.
    ///
    /// # Errors
    /// [`Error::Config`] for options out of range, and a filter of another file or commit; [`Error::Input`] when the queries have another width
    /// than the index, hold a value that is not finite, or a zero row under cosine; [`Error::Device`] when the device fails.
    pub fn search(&self, queries: MatRef<'_>, options: &SearchOptions<'_>) -> Result<Neighbors, Error> {
        match &self.threads {
            None => search(&self.index.view(), &self.engine, queries, options),
            Some(pool) => pool.install(|| search(&self.index.view(), &self.engine, queries, options)),
        }
    }

    /// As [`Searcher::search`], into memory of the caller's: for each query `k` ids and `k` scores. Gives how many hits each query has;
    /// behind them stand `u64::MAX` and minus infinity.
    ///
    /// # Errors
    /// As [`Searcher::search`], and [`Error::Config`] where `ids` and `scores` are not queries x k long.
    pub fn search_into(
        &self,
        queries: MatRef<'_>,
        options: &SearchOptions<'_>,
        ids: &mut [u64],
        scores: &mut [f32],
    ) -> Result<usize, Error> {
        let wanted = queries.rows().checked_mul(options.k);
        if Some(ids.len()) != wanted || Some(scores.len()) != wanted {
            return Err(Error::Config(format!(
                "room for {} ids and {} scores: {} queries with {} hits each are asked for",
                ids.len(),
                scores.len(),
                queries.rows(),
                options.k
            )));
        }
        let found = self.search(queries, options)?;
        let width = found.ids.dim();
        ids.fill(u64::MAX);
        scores.fill(f32::NEG_INFINITY);
        for q in 0..queries.rows() {
            ids[q * options.k..][..width].copy_from_slice(found.ids.row(q));
            scores[q * options.k..][..width].copy_from_slice(found.scores.row(q));
        }
        Ok(width)
    }
}

impl<D: AsRef<[u8]> + Send + Sync + 'static> Index<D> {
    /// Makes the index ready on a backend, for any number of threads that share what is given. On the CPU this copies nothing.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the backend is not there, [`Error::Device`] when it fails, [`Error::Config`] for a device that it does not
    /// have, and for threads that cannot be started.
    pub fn searcher(self: &Arc<Self>, compute: impl Into<Compute>) -> Result<Searcher, Error> {
        let Compute { backend, device, threads } = compute.into();
        let engine = Arc::new(Engine::open(&Index::view(self), backend, device)?);
        let threads = threads::pool(threads)?.map(Arc::new);
        Ok(Searcher { index: Arc::<Index<D>>::clone(self), engine, threads })
    }
}

impl<D: AsRef<[u8]>> Index<D> {
    /// The `min(k, n)` nearest rows of one query, nearest first, on the CPU. Exhaustive: O(n x symbols).
    ///
    /// # Errors
    /// As [`Searcher::search`].
    pub fn query(&self, query: &[f32], k: usize) -> Result<Vec<Hit>, Error> {
        let found = self.search(MatRef::new(query, 1, query.len())?, &SearchOptions::new(k))?;
        let pairs = found.ids.as_slice().iter().zip(found.scores.as_slice());
        Ok(pairs.map(|(&id, &score)| Hit { id, score }).collect())
    }

    /// As [`Searcher::search`], on the CPU, on all threads of the current rayon pool.
    ///
    /// # Errors
    /// As [`Searcher::search`].
    pub fn search(&self, queries: MatRef<'_>, options: &SearchOptions<'_>) -> Result<Neighbors, Error> {
        search(&self.view(), self.on_cpu()?, queries, options)
    }
}

fn search(
    view: &View<'_>,
    engine: &Engine,
    queries: MatRef<'_>,
    options: &SearchOptions<'_>,
) -> Result<Neighbors, Error> {
    let SearchOptions { k, filter, probe, refine, row_numbers } = *options;
    if k == 0 {
        return Err(Error::Config("k must be at least 1".into()));
    }
    if probe == Probe::Cells(0) {
        return Err(Error::Config("at least one cell must be probed".into()));
    }
    let reach = probe::reach(probe, k, &view.parsed.meta);
    let found = match filter {
        None => view.search(engine, queries, k, reach, refine, engine.live())?,
        Some(filter) => {
            filter.check(view.parsed)?;
            let masks: Vec<_> = filter.masks().iter().map(|mask| Some(Arc::clone(mask))).collect();
            view.search(engine, queries, k, reach, refine, &masks)?
        }
    };
    if row_numbers { Ok(found) } else { view.name(found) }
}
