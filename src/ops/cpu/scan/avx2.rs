//! AVX2: a shuffle looks up 32 symbols in two tables of 16 bytes. Two such are added as bytes. Those are summed as pairs in 16 bits: one accumulator takes
//! the pair as it is, another its upper byte, which is what the first must be rid of at the end.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_add_epi16, _mm_and_si128, _mm_set1_epi8, _mm_srli_epi16, _mm_unpackhi_epi16,
    _mm_unpacklo_epi16, _mm256_add_epi8, _mm256_add_epi16, _mm256_and_si256, _mm256_castsi256_si128,
    _mm256_cmpeq_epi16, _mm256_extracti128_si256, _mm256_max_epu16, _mm256_movemask_epi8, _mm256_packs_epi16,
    _mm256_packus_epi16, _mm256_permute2x128_si256, _mm256_permute4x64_epi64, _mm256_set_m128i, _mm256_set1_epi8,
    _mm256_set1_epi16, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi16, _mm256_srli_epi16,
    _mm256_sub_epi16, _mm256_unpackhi_epi8, _mm256_unpacklo_epi8,
};

use bytemuck::cast;

use super::sums::{Needs, Quad, RUN, Sums, factor_codes, quads};
use crate::format::rows::{BLOCK, BlockShape};

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
    tables: &[[Quad; Q]],
    out: &mut [[Sums; RUN]; Q],
) {
    for (b, block) in blocks.chunks_exact(shape.bytes()).enumerate() {
        let sums = block_sums(&block[..shape.side_at()], tables);
        for q in 0..Q {
            out[q][b] = cast::<[[__m128i; 2]; 2], [u16; BLOCK]>(sums[q]);
        }
    }
}

#[target_feature(enable = "avx2")]
pub(super) fn reaching<const Q: usize>(
    blocks: &[u8],
    shape: BlockShape,
    tables: &[[Quad; Q]],
    needs: &[Needs; Q],
    out: &mut [[u32; RUN]; Q],
) {
    let nibble = _mm_set1_epi8(15);
    let mut by_code = [(_mm256_setzero_si256(), _mm256_setzero_si256()); Q];
    for q in 0..Q {
        // The table's lower and upper bytes apart, each in both halves of a register.
        let table = cast::<Needs, __m256i>(needs[q]);
        let lower = _mm256_and_si256(table, _mm256_set1_epi16(255));
        let upper = _mm256_srli_epi16::<8>(table);
        let both = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi16(lower, upper));
        by_code[q] = (_mm256_permute2x128_si256::<0x00>(both, both), _mm256_permute2x128_si256::<0x11>(both, both));
    }
    for (b, block) in blocks.chunks_exact(shape.bytes()).enumerate() {
        let sums = block_sums(&block[..shape.side_at()], tables);
        let codes = cast::<[u8; 16], __m128i>(factor_codes(block, shape));
        let high = _mm_and_si128(_mm_srli_epi16::<4>(codes), nibble);
        let codes = _mm256_set_m128i(high, _mm_and_si128(codes, nibble));
        for q in 0..Q {
            let (lower, upper) = by_code[q];
            let (lower, upper) = (_mm256_shuffle_epi8(lower, codes), _mm256_shuffle_epi8(upper, codes));
            let [[a, b1], [c, d]] = sums[q];
            // Rows 0 to 7 and 16 to 23, then 8 to 15 and 24 to 31.
            let first = reaches(_mm256_set_m128i(c, a), _mm256_unpacklo_epi8(lower, upper));
            let second = reaches(_mm256_set_m128i(d, b1), _mm256_unpackhi_epi8(lower, upper));
            out[q][b] = _mm256_movemask_epi8(_mm256_packs_epi16(first, second)).cast_unsigned();
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn reaches(sums: __m256i, needs: __m256i) -> __m256i {
    _mm256_cmpeq_epi16(_mm256_max_epu16(sums, needs), sums)
}

#[inline]
#[target_feature(enable = "avx2")]
fn block_sums<const Q: usize>(planes: &[u8], tables: &[[Quad; Q]]) -> [[[__m128i; 2]; 2]; Q] {
    let zero = _mm256_setzero_si256();
    let mut low = [Half { pairs: zero, upper: zero }; Q];
    let mut high = low;
    let (whole, tail) = quads(planes);
    for (planes, tables) in whole.iter().zip(tables) {
        add(planes, tables, &mut low, &mut high);
    }
    if let (Some(planes), Some(tables)) = (tail, tables.last()) {
        add(&planes, tables, &mut low, &mut high);
    }
    let mut out = [[[_mm256_castsi256_si128(zero); 2]; 2]; Q];
    for q in 0..Q {
        out[q] = [rows(low[q]), rows(high[q])];
    }
    out
}

#[inline]
#[target_feature(enable = "avx2")]
fn add<const Q: usize>(planes: &Quad, tables: &[Quad; Q], low: &mut [Half; Q], high: &mut [Half; Q]) {
    let nibble = _mm256_set1_epi8(15);
    let planes: [__m256i; 2] = cast(*planes);
    let first = planes.map(|p| _mm256_and_si256(p, nibble));
    let second = planes.map(|p| _mm256_and_si256(_mm256_srli_epi16::<4>(p), nibble));
    for q in 0..Q {
        let table: [__m256i; 2] = cast(tables[q]);
        // Two of at most 127 fit in a byte.
        let found = |symbols: [__m256i; 2]| {
            _mm256_add_epi8(_mm256_shuffle_epi8(table[0], symbols[0]), _mm256_shuffle_epi8(table[1], symbols[1]))
        };
        take(&mut low[q], found(first));
        take(&mut high[q], found(second));
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
