//! A batch of queries: tables, the scan, and the best of it scored again.

use super::{
    engine::Engine,
    masks::Masks,
    view::{Behind, LiveSegment, Numbers, View},
};
use crate::{
    error::Error,
    ids::IdsKind,
    matrix::{Mat, MatRef},
    neighbors::Neighbors,
    ops::{reach::Reach, types::ScoreTables},
    read::prepare::prepare_queries,
    refine::rescore::{RefineLayer, candidates},
    search::{rescore::Rescorer, tables::possible},
};

/// Queries of a part of a batch.
const QUERIES: usize = 1024;

impl<'a> View<'a> {
    /// The `k` best rows of every query that `masks` allow, by their numbers; `refine` says whether the best of the scan are scored again.
    pub(crate) fn search(
        &self,
        engine: &Engine,
        queries: MatRef<'_>,
        k: usize,
        reach: Reach,
        refine: bool,
        masks: &Masks,
    ) -> Result<Neighbors, Error> {
        let model = &*self.parsed.model;
        let (mut ids, mut scores, mut width) = (Vec::new(), Vec::new(), 0);
        let (k, step) = self.room(queries.rows(), k, &mut ids, &mut scores)?;
        for start in (0..queries.rows()).step_by(step) {
            let part = queries.slice(start..(start + step).min(queries.rows()));
            let prepared = prepare_queries(part, model.metric, &model.center, model.dim, start)?;
            let mut tables = self.query_model.tables(model, prepared.rows.view(), reach);
            self.check_whole()?;
            let mut found = self.best(engine, prepared.rows.view(), &mut tables, k, masks, refine)?;
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

    /// The same for queries that are as the codec sees them and look at all rows, with what each anchor adds to their scores
    /// (queries x anchors); scores lack the queries' own constants.
    pub(crate) fn search_prepared(
        &self,
        engine: &Engine,
        queries: MatRef<'_>,
        k: usize,
    ) -> Result<(Neighbors, Mat), Error> {
        let mut tables = self.query_model.tables(&self.parsed.model, queries, None);
        Ok((self.best(engine, queries, &mut tables, k, engine.live(), true)?, tables.bases))
    }

    /// The k best rows of queries as the codec sees them; of equal scores the lower row first.
    fn best(
        &self,
        engine: &Engine,
        queries: MatRef<'_>,
        tables: &mut ScoreTables,
        k: usize,
        masks: &Masks,
        refine: bool,
    ) -> Result<Neighbors, Error> {
        let segments = self.segments();
        let mut shortlist = |rows| engine.score(&segments, tables, rows, masks, Numbers::Positions);
        match self.behind {
            Behind::Refine(layer, model) if refine => {
                let found = shortlist(candidates(k))?;
                let rows = |live: &LiveSegment<'a>| {
                    Some(live.part(self.parsed.segments[live.number].refine_rows(self.bytes)?))
                };
                let parts = segments.iter().filter_map(rows).collect();
                Rescorer::new(RefineLayer::new(layer, model), parts).best(queries, tables, found.ids.view(), k)
            }
            Behind::Learned(layer) if refine => {
                let rows = self.parsed.learned.as_ref().map_or(k, |learned| learned.candidates(k));
                let found = shortlist(rows)?;
                let parts = segments.iter().map(|live| live.part(())).collect();
                Rescorer::new(layer, parts).best(queries, tables, found.ids.view(), k)
            }
            _ => engine.score(&segments, tables, k, masks, Numbers::Rows),
        }
    }

    /// Puts ids in the place of row numbers.
    pub(crate) fn name(&self, mut found: Neighbors) -> Result<Neighbors, Error> {
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
}
