//! What a search reads of an index.

use crate::{
    error::Error,
    file::mmap::Watch,
    format::parse::Parsed,
    learned::rescore::LearnedModel,
    model::{kinds::Metric, refine::Refine},
    ops::types::CodesRef,
    search::{rescore::Part, tables::QueryModel},
};

/// An index, whatever its bytes are.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) parsed: &'a Parsed,
    pub(crate) bytes: &'a [u8],
    pub(crate) watch: Option<&'a Watch>,
    pub(crate) query_model: &'a QueryModel,
    pub(crate) behind: Behind<'a>,
}

/// What scores the best rows of a scan again.
#[derive(Clone, Copy)]
pub(crate) enum Behind<'a> {
    Nothing,
    Refine(&'a Refine, &'a QueryModel),
    Learned(&'a LearnedModel),
}

/// The codes of a segment with rows.
pub(crate) struct LiveSegment<'a> {
    /// Its place among all segments.
    pub(crate) number: usize,
    /// The number of its first row.
    row: u64,
    /// Its first position among those of such segments.
    position: u64,
    pub(crate) codes: CodesRef<'a>,
}

impl<'a> LiveSegment<'a> {
    /// The same for a layer with what that has of its rows.
    pub(crate) fn part<R>(&self, behind: R) -> Part<'a, R> {
        Part { position: self.position, row: self.row, codes: self.codes.clone(), behind }
    }

    pub(crate) fn first(&self, numbers: Numbers) -> u64 {
        match numbers {
            Numbers::Rows => self.row,
            Numbers::Positions => self.position,
        }
    }
}

impl<'a> View<'a> {
    /// The segments with rows that are not deleted.
    pub(crate) fn segments(&self) -> Vec<LiveSegment<'a>> {
        let View { parsed, bytes, .. } = *self;
        let mut position = 0;
        let live = parsed.segments.iter().enumerate().filter(|(_, segment)| segment.live() > 0);
        live.map(|(number, segment)| {
            let codes = CodesRef {
                model: &parsed.model,
                shape: parsed.block,
                blocks: segment.codes(bytes),
                labels: segment.row_ids(bytes),
                anchor_chart: &parsed.model.anchor_chart,
                alphabet: parsed.model.charts.first().map_or(16, |c| c.code.alphabet()),
                factors: &parsed.model.side.factors,
                weights: &parsed.model.side.weights,
                gains: parsed.gains(number),
                squared: parsed.model.metric == Metric::L2,
            };
            let first = position;
            position += segment.n;
            LiveSegment { number, row: segment.first, position: first, codes }
        })
        .collect()
    }

    /// As [`Index::check_whole`](super::Index::check_whole).
    pub(crate) fn check_whole(&self) -> Result<(), Error> {
        self.watch.map_or(Ok(()), |watch| watch.check(self.parsed.layout.end))
    }
}

/// What the ids of hits are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    Rows,
    /// Positions; those of a segment follow those of the ones before.
    Positions,
}
