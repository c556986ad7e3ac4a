//! AVX2: a shuffle looks up 32 symbols in two tables of 16 bytes. Bytes are summed as pairs in 16 bits: one accumulator takes
//! the pair as it is, another its upper byte, which is what the first must be rid of at the end.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_add_epi16, _mm_unpackhi_epi16, _mm_unpacklo_epi16, _mm256_add_epi16, _mm256_and_si256,
    _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_set1_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8,
    _mm256_slli_epi16, _mm256_srli_epi16, _mm256_sub_epi16,
};

use bytemuck::cast;

use super::{Quad, RUN, Sums, quads};
use crate::format::{BLOCK, BlockShape};

pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx2")
}

/// Of 16 rows: the sums of pairs of bytes as 16 bits, and of their upper bytes.
#[derive(Clone, Copy)]
struct Half {
    pairs: __m256i,
    upper: __m256i,
}

#[target_feature(enable = "avx2")]
pub(super) fn sums<const Q: usize>(
    blocks: &[u8],
    shape: BlockShape,
    tables: [&[Quad]; Q],
    out: &mut [[Sums; RUN]; Q],
) {
    let tables = tables.map(|t| &t[..shape.symbols.div_ceil(4)]);
    let zero = _mm256_setzero_si256();
    for (b, block) in blocks.chunks_exact(shape.bytes()).enumerate() {
        let mut low = [Half { pairs: zero, upper: zero }; Q];
        let mut high = low;
        let (whole, tail) = quads(&block[..shape.side_at()]);
        for (g, planes) in whole.iter().enumerate() {
            add(planes, tables, g, &mut low, &mut high);
        }
        if let Some(planes) = tail {
            add(&planes, tables, whole.len(), &mut low, &mut high);
        }
        for q in 0..Q {
            let halves: [[__m128i; 2]; 2] = [rows(low[q]), rows(high[q])];
            out[q][b] = cast::<[[__m128i; 2]; 2], [u16; BLOCK]>(halves);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn add<const Q: usize>(planes: &Quad, tables: [&[Quad]; Q], g: usize, low: &mut [Half; Q], high: &mut [Half; Q]) {
    let nibble = _mm256_set1_epi8(15);
    let planes: [__m256i; 2] = cast(*planes);
    for (h, planes) in planes.into_iter().enumerate() {
        let first = _mm256_and_si256(planes, nibble);
        let second = _mm256_and_si256(_mm256_srli_epi16::<4>(planes), nibble);
        for q in 0..Q {
            let table = cast::<Quad, [__m256i; 2]>(tables[q][g])[h];
            take(&mut low[q], _mm256_shuffle_epi8(table, first));
            take(&mut high[q], _mm256_shuffle_epi8(table, second));
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn take(half: &mut Half, found: __m256i) {
    half.pairs = _mm256_add_epi16(half.pairs, found);
    half.upper = _mm256_add_epi16(half.upper, _mm256_srli_epi16::<8>(found));
}

/// The sums of 16 rows in order.
#[inline]
#[target_feature(enable = "avx2")]
fn rows(half: Half) -> [__m128i; 2] {
    let even = _mm256_sub_epi16(half.pairs, _mm256_slli_epi16::<8>(half.upper));
    let fold = |v: __m256i| _mm_add_epi16(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
    let (even, odd) = (fold(even), fold(half.upper));
    [_mm_unpacklo_epi16(even, odd), _mm_unpackhi_epi16(even, odd)]
}
