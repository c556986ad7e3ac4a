//! Which rows of a segment a search may return, a bit for each position.

use std::sync::Arc;

use crate::{
    format::{rows::BLOCK, segment::Segment},
    ops::allowed::Allowed,
};

/// The rows of a segment that are not deleted; `None` where none is, or all are and the segment is not searched.
/// O(n / 32 + deleted).
pub(crate) fn live(segment: &Segment, bytes: &[u8]) -> Option<Arc<Allowed>> {
    (segment.deleted > 0 && segment.live() > 0)
        .then(|| Arc::new(without_deleted(segment, bytes, vec![u32::MAX; words_of(segment)])))
}

pub(crate) fn without_deleted(segment: &Segment, bytes: &[u8], mut words: Vec<u32>) -> Allowed {
    segment.deleted_positions(bytes).for_each(|position| set(&mut words, position, false));
    Allowed::new(words, &segment.cells)
}

pub(crate) fn words_of(segment: &Segment) -> usize {
    segment.n.div_ceil(BLOCK as u64) as usize
}

pub(crate) fn set(words: &mut [u32], position: u64, to: bool) {
    let bit = 1 << (position % BLOCK as u64);
    if let Some(word) = words.get_mut((position / BLOCK as u64) as usize) {
        *word = if to { *word | bit } else { *word & !bit };
    }
}

/// Rows that a search may return: a mask for each segment.
pub(crate) type Masks = [Option<Arc<Allowed>>];
