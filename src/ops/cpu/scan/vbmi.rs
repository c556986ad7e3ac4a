//! pq8 codes with AVX-512 VBMI: a table of 256 bytes fills four registers, and two permutations look 64 symbols up in it,
//! 32 of each of two blocks.

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_unpackhi_epi16, _mm256_unpacklo_epi16, _mm512_add_epi16, _mm512_castsi256_si512,
    _mm512_inserti64x4, _mm512_mask_blend_epi8, _mm512_movepi8_mask, _mm512_permutex2var_epi8, _mm512_setzero_si512,
    _mm512_slli_epi16, _mm512_srli_epi16, _mm512_sub_epi16,
};

use bytemuck::cast;

use super::sums::{Quad, RUN, Sums};
use crate::format::rows::{BLOCK, BlockShape};

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vbmi,avx512vnni")]
pub(super) fn sums<const Q: usize>(
    blocks: &[u8],
    shape: BlockShape,
    tables: &[[Quad; Q]],
    out: &mut [[Sums; RUN]; Q],
) {
    let stride = shape.bytes();
    for (pair, blocks) in blocks.chunks(2 * stride).enumerate() {
        // An odd last block goes with itself.
        let (a, b) = (&blocks[..stride], &blocks[blocks.len() - stride..]);
        let (a, b) = (a.as_chunks::<BLOCK>().0, b.as_chunks::<BLOCK>().0);
        let mut pairs = [_mm512_setzero_si512(); Q];
        let mut upper = pairs;
        for t in 0..shape.symbols {
            let a = _mm512_castsi256_si512(cast::<[u8; BLOCK], __m256i>(a[t]));
            let symbols = _mm512_inserti64x4::<1>(a, cast::<[u8; BLOCK], __m256i>(b[t]));
            let in_upper_half = _mm512_movepi8_mask(symbols);
            for q in 0..Q {
                let quad = |i: usize| cast::<Quad, __m512i>(tables[4 * t + i][q]);
                let low = _mm512_permutex2var_epi8(quad(0), symbols, quad(1));
                let high = _mm512_permutex2var_epi8(quad(2), symbols, quad(3));
                let found = _mm512_mask_blend_epi8(in_upper_half, low, high);
                // As in the loop for AVX2: pairs of bytes, and their upper bytes.
                pairs[q] = _mm512_add_epi16(pairs[q], found);
                upper[q] = _mm512_add_epi16(upper[q], _mm512_srli_epi16::<8>(found));
            }
        }
        for q in 0..Q {
            let even = _mm512_sub_epi16(pairs[q], _mm512_slli_epi16::<8>(upper[q]));
            let (even, odd): ([__m256i; 2], [__m256i; 2]) = (cast(even), cast(upper[q]));
            for half in 0..blocks.len() / stride {
                // Within each half of a register the rows come in order.
                let low = cast::<__m256i, [[u16; 8]; 2]>(_mm256_unpacklo_epi16(even[half], odd[half]));
                let high = cast::<__m256i, [[u16; 8]; 2]>(_mm256_unpackhi_epi16(even[half], odd[half]));
                out[q][2 * pair + half] = cast([low[0], high[0], low[1], high[1]]);
            }
        }
    }
}
