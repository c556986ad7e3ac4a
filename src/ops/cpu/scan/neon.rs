//! NEON: a table lookup of 16 symbols, widened and added in 16 bits.

use std::arch::aarch64::{
    uint8x16_t, uint16x8_t, vaddw_high_u8, vaddw_u8, vandq_u8, vdupq_n_u8, vdupq_n_u16, vget_low_u8, vqtbl1q_u8,
    vshrq_n_u8,
};

use bytemuck::cast;

use super::sums::{Quad, RUN, Sums, quads};
use crate::format::rows::{BLOCK, BlockShape};

pub(super) fn available() -> bool {
    std::arch::is_aarch64_feature_detected!("neon")
}

#[target_feature(enable = "neon")]
pub(super) fn sums<const Q: usize>(
    blocks: &[u8],
    shape: BlockShape,
    tables: &[[Quad; Q]],
    out: &mut [[Sums; RUN]; Q],
) {
    for (b, block) in blocks.chunks_exact(shape.bytes()).enumerate() {
        let mut sums = [[vdupq_n_u16(0); 4]; Q];
        let (whole, tail) = quads(&block[..shape.side_at()]);
        for (planes, tables) in whole.iter().zip(tables) {
            add(planes, tables, &mut sums);
        }
        if let (Some(planes), Some(tables)) = (tail, tables.last()) {
            add(&planes, tables, &mut sums);
        }
        for q in 0..Q {
            out[q][b] = cast::<[uint16x8_t; 4], [u16; BLOCK]>(sums[q]);
        }
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn add<const Q: usize>(planes: &Quad, tables: &[Quad; Q], sums: &mut [[uint16x8_t; 4]; Q]) {
    let planes: [uint8x16_t; 4] = cast(*planes);
    for (h, planes) in planes.into_iter().enumerate() {
        let first = vandq_u8(planes, vdupq_n_u8(15));
        let second = vshrq_n_u8::<4>(planes);
        for q in 0..Q {
            let table = cast::<Quad, [uint8x16_t; 4]>(tables[q])[h];
            let (low, high) = (vqtbl1q_u8(table, first), vqtbl1q_u8(table, second));
            sums[q][0] = vaddw_u8(sums[q][0], vget_low_u8(low));
            sums[q][1] = vaddw_high_u8(sums[q][1], low);
            sums[q][2] = vaddw_u8(sums[q][2], vget_low_u8(high));
            sums[q][3] = vaddw_high_u8(sums[q][3], high);
        }
    }
}
