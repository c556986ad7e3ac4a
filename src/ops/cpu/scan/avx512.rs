//! AVX-512 with VBMI and VNNI: one permutation looks up 64 symbols, four of each of 16 rows, in the tables of four
//! symbols at once; one dot product with ones adds a row's four. Two instructions for 64 lookups, once the symbols are unpacked,
//! which the queries of a group share.

use std::arch::x86_64::{
    __m128i, __m256i, __m512i, _mm_and_si128, _mm_set1_epi8, _mm_srli_epi16, _mm256_set_m128i, _mm256_setzero_si256,
    _mm512_castsi256_si512, _mm512_cmpge_epu16_mask, _mm512_cvtepu8_epi16, _mm512_cvtusepi32_epi16,
    _mm512_dpbusd_epi32, _mm512_permutexvar_epi8, _mm512_permutexvar_epi16, _mm512_set1_epi8, _mm512_set1_epi32,
    _mm512_setzero_si512, _mm512_srli_epi16, _mm512_ternarylogic_epi32,
};

use bytemuck::cast;

use super::sums::{Needs, Quad, RUN, Sums, factor_codes, quads};
use crate::format::rows::BlockShape;

pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512vnni")
}

/// `(a & b) | c`.
const AND_OR: i32 = 0b1110_1010;

/// From four planes, 16 bytes each, to 16 rows, four bytes each.
const BY_ROW: Quad = {
    let mut order = [0; 64];
    let mut i = 0;
    while i < 64 {
        order[i] = (16 * (i % 4) + i / 4) as u8;
        i += 1;
    }
    order
};

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
pub(super) fn sums<const Q: usize>(
    blocks: &[u8],
    shape: BlockShape,
    tables: &[[Quad; Q]],
    out: &mut [[Sums; RUN]; Q],
) {
    for (b, block) in blocks.chunks_exact(shape.bytes()).enumerate() {
        let sums = block_sums(&block[..shape.side_at()], tables);
        for q in 0..Q {
            out[q][b] = cast(sums[q]);
        }
    }
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vbmi,avx512vnni")]
pub(super) fn reaching<const Q: usize>(
    blocks: &[u8],
    shape: BlockShape,
    tables: &[[Quad; Q]],
    needs: &[Needs; Q],
    out: &mut [[u32; RUN]; Q],
) {
    let nibble = _mm_set1_epi8(15);
    let mut by_code = [_mm512_setzero_si512(); Q];
    for q in 0..Q {
        by_code[q] = _mm512_castsi256_si512(cast::<Needs, __m256i>(needs[q]));
    }
    for (b, block) in blocks.chunks_exact(shape.bytes()).enumerate() {
        let sums = block_sums(&block[..shape.side_at()], tables);
        let codes = cast::<[u8; 16], __m128i>(factor_codes(block, shape));
        let high = _mm_and_si128(_mm_srli_epi16::<4>(codes), nibble);
        let codes = _mm512_cvtepu8_epi16(_mm256_set_m128i(high, _mm_and_si128(codes, nibble)));
        for q in 0..Q {
            let need = _mm512_permutexvar_epi16(codes, by_code[q]);
            out[q][b] = _mm512_cmpge_epu16_mask(cast(sums[q]), need);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
fn block_sums<const Q: usize>(planes: &[u8], tables: &[[Quad; Q]]) -> [[__m256i; 2]; Q] {
    let mut low = [_mm512_setzero_si512(); Q];
    let mut high = low;
    let (whole, tail) = quads(planes);
    for (planes, tables) in whole.iter().zip(tables) {
        add(planes, tables, &mut low, &mut high);
    }
    if let (Some(planes), Some(tables)) = (tail, tables.last()) {
        add(&planes, tables, &mut low, &mut high);
    }
    let mut out = [[_mm256_setzero_si256(); 2]; Q];
    for q in 0..Q {
        out[q] = [_mm512_cvtusepi32_epi16(low[q]), _mm512_cvtusepi32_epi16(high[q])];
    }
    out
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
fn add<const Q: usize>(planes: &Quad, tables: &[Quad; Q], low: &mut [__m512i; Q], high: &mut [__m512i; Q]) {
    let nibble = _mm512_set1_epi8(15);
    let ones = _mm512_set1_epi8(1);
    // Which of the four tables a byte looks into.
    let table_of = _mm512_set1_epi32(0x3020_1000);
    let by_row = _mm512_permutexvar_epi8(cast(BY_ROW), cast::<Quad, __m512i>(*planes));
    let first = _mm512_ternarylogic_epi32::<AND_OR>(by_row, nibble, table_of);
    let second = _mm512_ternarylogic_epi32::<AND_OR>(_mm512_srli_epi16::<4>(by_row), nibble, table_of);
    for q in 0..Q {
        let table = cast::<Quad, __m512i>(tables[q]);
        low[q] = _mm512_dpbusd_epi32(low[q], _mm512_permutexvar_epi8(first, table), ones);
        high[q] = _mm512_dpbusd_epi32(high[q], _mm512_permutexvar_epi8(second, table), ones);
    }
}
