//! The rows and ids that are left of some segments.

use crate::{file::segments::Source, format::segment::Segment, ids::Ids, math::bits::Bits};

/// The rows of segments on their way into one.
pub(crate) struct Gathered<'a> {
    pub(crate) sources: Vec<Source<'a>>,
    /// Their ids, where they have any.
    pub(crate) ids: Option<Ids>,
    /// Row numbers that they take, from 0.
    pub(crate) span: u64,
}

/// The live rows of neighbouring segments, with row numbers counted from `first`. Rows with ids of their own are numbered anew.
pub(crate) fn gather<'a>(segments: &'a [Segment], bytes: &'a [u8], first: u64) -> Gathered<'a> {
    gather_but(segments, bytes, first, |_, segment| {
        let positions = Bits::new(segment.n, segment.deleted_positions(bytes));
        // Only rows with ids of their own are numbered anew; numbers of others may be up to 2^40.
        let rows = match segment.ids_kind() {
            Some(_) => segment.rows_at(bytes, &positions),
            None => Bits::new(0, []),
        };
        LeftOut { positions, rows }
    })
}

/// What is not gathered of a segment.
pub(crate) struct LeftOut {
    pub(crate) positions: Bits,
    /// The rows that stand there, counted from the segment's first.
    pub(crate) rows: Bits,
}

/// The same without what `left_out` gives for each segment.
pub(crate) fn gather_but<'a>(
    segments: &'a [Segment],
    bytes: &'a [u8],
    first: u64,
    mut left_out: impl FnMut(usize, &Segment) -> LeftOut,
) -> Gathered<'a> {
    let mut all = Gathered { sources: Vec::new(), ids: None, span: 0 };
    for (number, segment) in segments.iter().enumerate() {
        let LeftOut { positions, rows } = left_out(number, segment);
        match segment.ids_without(bytes, &rows) {
            Some(ids) => {
                all.sources.push(Source::stored(segment, bytes, positions, all.span, rows));
                all.span += ids.len() as u64;
                match &mut all.ids {
                    Some(all) => all.extend_from(&ids),
                    None => all.ids = Some(ids),
                }
            }
            None => {
                let base = segment.first - first;
                all.sources.push(Source::stored(segment, bytes, positions, base, Bits::new(0, [])));
                all.span = segment.first + segment.span - first;
            }
        }
    }
    all
}
