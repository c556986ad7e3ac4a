//! An index made ready on one backend: its codes on the device, and which rows are deleted. It borrows nothing, so that threads can share it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{
    masks::{Masks, live},
    view::{LiveSegment, Numbers, View},
};
use crate::{
    backend::{Backend, DeviceChoice},
    error::Error,
    neighbors::{Neighbors, best_of},
    ops::{
        self,
        allowed::Allowed,
        seam::{Ops, WithOps},
        types::ScoreTables,
    },
};

/// Codes that are ready to be searched.
pub(crate) struct Engine {
    /// The live rows of each segment, where some are deleted.
    live: Vec<Option<Arc<Allowed>>>,
    backend: Backend,
    loaded: Box<dyn Scan>,
}

/// Codes of segments on a device of whatever kind.
trait Scan: Send + Sync {
    /// The best rows of the whole store; `segments` are those that were loaded, and `masks` has one for each of all its segments.
    fn score(
        &self,
        segments: &[LiveSegment<'_>],
        queries: &mut ScoreTables,
        k: usize,
        masks: &Masks,
        numbers: Numbers,
    ) -> Result<Neighbors, Error>;
}

struct Loaded<O: Ops> {
    ops: O,
    /// Of each segment.
    codes: Vec<O::Codes>,
    /// One search at a time, where a device does one thing after the other anyway.
    turn: Option<Mutex<()>>,
}

impl<O: Ops> Scan for Loaded<O> {
    fn score(
        &self,
        segments: &[LiveSegment<'_>],
        queries: &mut ScoreTables,
        k: usize,
        masks: &Masks,
        numbers: Numbers,
    ) -> Result<Neighbors, Error> {
        let _turn: Option<MutexGuard<'_, ()>> =
            self.turn.as_ref().map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner));
        let mut found = Vec::with_capacity(segments.len());
        for (segment, loaded) in segments.iter().zip(&self.codes) {
            queries.allowed.clone_from(&masks[segment.number]);
            let mut codes = segment.codes.clone();
            if numbers == Numbers::Positions {
                codes.labels = codes.labels.positions();
            }
            let mut part = self.ops.score(&codes, loaded, queries, k)?;
            let first = segment.first(numbers);
            part.ids.as_mut_slice().iter_mut().for_each(|row| *row += first);
            found.push(part);
        }
        Ok(best_of(found, queries.bases.rows(), k))
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("backend", &self.backend).finish_non_exhaustive()
    }
}

impl Engine {
    /// Makes an index ready. On the CPU this copies nothing.
    pub(crate) fn open(view: &View<'_>, backend: Backend, device: DeviceChoice) -> Result<Engine, Error> {
        struct Open<'a>(&'a View<'a>);
        impl WithOps for Open<'_> {
            type Output = Engine;

            fn run<O: Ops>(self, ops: O) -> Result<Engine, Error> {
                let View { parsed, bytes, .. } = *self.0;
                let segments = self.0.segments();
                let codes = segments.iter().map(|segment| ops.load(&segment.codes)).collect::<Result<_, _>>()?;
                let live = parsed.segments.iter().map(|segment| live(segment, bytes)).collect();
                let backend = ops.backend();
                let turn = (backend != Backend::Cpu).then(|| Mutex::new(()));
                Ok(Engine { live, backend, loaded: Box::new(Loaded { ops, codes, turn }) })
            }
        }
        view.check_whole()?;
        let engine = ops::dispatch(backend, device, Open(view))?;
        // What was copied to a device, and which rows are deleted.
        view.check_whole()?;
        Ok(engine)
    }

    /// The backend that answers.
    pub(crate) fn backend(&self) -> Backend {
        self.backend
    }

    /// The rows of each segment that are not deleted; `None` where none is.
    pub(crate) fn live(&self) -> &Masks {
        &self.live
    }

    pub(crate) fn score(
        &self,
        segments: &[LiveSegment<'_>],
        queries: &mut ScoreTables,
        k: usize,
        masks: &Masks,
        numbers: Numbers,
    ) -> Result<Neighbors, Error> {
        self.loaded.score(segments, queries, k, masks, numbers)
    }
}
