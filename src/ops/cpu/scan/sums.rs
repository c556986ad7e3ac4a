//! What the loops of all instruction sets share: the shapes of tables and sums.

use crate::format::rows::{BLOCK, BlockShape};

/// Blocks summed by one call.
pub(crate) const RUN: usize = 16;

/// 64 bytes: the tables of four symbols of 16 values, a quarter of one of 256 values, or four planes of symbols.
pub(crate) type Quad = [u8; 64];

/// The sums of a block.
pub(crate) type Sums = [u16; BLOCK];

/// The least sum that matters for each factor code.
pub(crate) type Needs = [u16; 16];

/// The plane of a block's factor codes; zeros without factors.
#[inline(always)]
pub(crate) fn factor_codes(block: &[u8], shape: BlockShape) -> [u8; 16] {
    block[shape.side_at()..].first_chunk().copied().unwrap_or_default()
}

/// The planes of a block's symbols, four at a time, the last ones filled up with zeros.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
pub(crate) fn quads(planes: &[u8]) -> (&[Quad], Option<Quad>) {
    let (whole, rest) = planes.as_chunks::<64>();
    let tail = (!rest.is_empty()).then(|| {
        let mut tail = [0; 64];
        tail[..rest.len()].copy_from_slice(rest);
        tail
    });
    (whole, tail)
}
