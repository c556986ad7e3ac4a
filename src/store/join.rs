//! Which segments become one. Rows keep the lengths they are stored with: segments on different scales are not put together, unless
//! there are too many of them.

use super::gather::{Gathered, gather};
use crate::{
    file::segments::{NewSegment, Part},
    format::{gain::LengthScale, parse::Parsed, segment::Segment},
    ids::Ids,
};

/// Segments that different scales may make of a file; with more their rows are brought to one scale, each by half a step of it at most.
pub(crate) const MOST: usize = 16;

/// Whether nothing is gained by joining segments.
pub(crate) fn is_joined(segments: &[Segment]) -> bool {
    segments.len() <= MOST && segments.windows(2).all(|pair| pair[0].scale() != pair[1].scale())
}

/// The live rows of segments, and the bytes of the file that each is of, in as few parts as can be.
pub(crate) fn join<'a>(segments: &[(&'a Segment, &'a [u8])]) -> Vec<Gathered<'a>> {
    let runs = 1 + segments.windows(2).filter(|pair| pair[0].0.scale() != pair[1].0.scale()).count();
    let mut parts: Vec<(Option<&LengthScale>, Gathered<'a>)> = Vec::new();
    for &(segment, bytes) in segments {
        let next = gather(std::slice::from_ref(segment), bytes, segment.first);
        match parts.last_mut() {
            Some((scale, part)) if runs > MOST || *scale == segment.scale() => part.add(next),
            _ => parts.push((segment.scale(), next)),
        }
    }
    parts.into_iter().map(|(_, part)| part).collect()
}

impl<'a> Gathered<'a> {
    /// Puts rows behind these.
    fn add(&mut self, next: Gathered<'a>) {
        let span = self.span;
        self.sources.extend(next.sources.into_iter().map(|source| source.shifted(span)));
        self.span += next.span;
        match (&mut self.ids, next.ids) {
            (Some(all), Some(ids)) => all.extend_from(&ids),
            (all, ids) => *all = ids,
        }
    }
}

/// The segments that joined rows are written as.
pub(crate) fn parts<'a>(parsed: &'a Parsed, joined: &'a [Gathered<'a>]) -> Vec<Part<'a>> {
    let mut first = 0;
    let mut out: Vec<Part<'a>> = Vec::new();
    for Gathered { sources, ids, span } in joined.iter().filter(|part| part.span > 0) {
        out.push(Part { new: NewSegment::of(parsed, out.len() as u16, first, *span), sources, ids: ids.as_ref() });
        first += span;
    }
    out
}

/// All ids of joined rows.
pub(crate) fn all_ids(joined: &[Gathered<'_>]) -> Option<Ids> {
    let mut ids = joined.iter().filter_map(|part| part.ids.as_ref());
    let mut all = ids.next()?.clone();
    ids.for_each(|more| all.extend_from(more));
    Some(all)
}
