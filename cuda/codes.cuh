// Codes on the device, and what a row's score is.
#pragma once
#include "common.cuh"

// Codes on the device: groups of 32 positions, a lane each; word w of a group holds, for each lane, eight of its nibbles (chain codes) or four
// of its bytes (pq8), side nibbles after the symbols.
struct Codes {
    const u32* words;
    const u32* first_cells;  // of each group: the cell of its first position
    const u64* cells;        // where each cell starts, and the number of positions
    const u8* charts;        // of each cell
    const float* factors;    // of the 16 or 256 factor codes, or null
    const float* weights;    // what codewords are multiplied with, by factor code, or null
    const float* gains;      // of each gain code; that of all rows where there are none
    u64 n;
    int symbols, side_nibbles, group_words, alphabet, cell_count, squared, factor_nibbles, unused;
};

struct Queries {
    const float* tables;  // queries x charts x symbols x alphabet
    const float* bases;   // queries x cells
    const u32* looked;    // a bit for each cell that a query looks at (queries x looked_words), or null
    const uint2* chosen;  // the groups that are looked at, or null for all
    int looked_words, count, charts;
    u32 groups;           // how many are looked at
};

constexpr int GROUP = 32;

// The `number`th group that is looked at, and a bit for each of its rows that may be found. `chosen` lists the groups that have
// such rows; where it is null, all rows may be found.
__device__ __forceinline__ uint2 group_of(const uint2* chosen, u32 number) { return chosen ? chosen[number] : make_uint2(number, FULL); }

// Eight side nibbles or fewer.
__device__ __forceinline__ u32 side_of(const Codes& codes, const u32* words, int lane) {
    if (codes.side_nibbles == 0) return 0;
    if (codes.alphabet == 256) return words[(codes.group_words - 1) * GROUP + lane];
    const int at = codes.symbols / 8, shift = codes.symbols % 8 * 4;
    u64 both = words[at * GROUP + lane];
    if (at + 1 < codes.group_words) both |= (u64)words[(at + 1) * GROUP + lane] << 32;
    return (u32)(both >> shift) & ((1u << (4 * codes.side_nibbles)) - 1);
}

// The code of a row's factor, of its side nibbles.
__device__ __forceinline__ u32 factor_code(const Codes& codes, u32 side) { return side & ((1u << (4 * codes.factor_nibbles)) - 1); }

// What a row's weight, factor and gain make of its sum: exactly the CPU's operations, none contracted.
__device__ __forceinline__ float finished(const Codes& codes, float base, const float* sums, u32 side) {
    const u32 code = factor_code(codes, side);
    float sum = __fadd_rn(__fadd_rn(sums[0], sums[1]), __fadd_rn(sums[2], sums[3]));
    if (codes.weights) sum = __fmul_rn(codes.weights[code], sum);
    float score = __fadd_rn(base, sum);
    if (codes.factors) score = __fmul_rn(score, codes.factors[code]);
    side >>= 4 * codes.factor_nibbles;
    float gain = codes.gains[side];
    if (codes.squared) score = __fadd_rn(__fmul_rn(__fmul_rn(2.0f, gain), score), -__fmul_rn(gain, gain));
    else score = __fmul_rn(gain, score);
    return score == score ? score : -INFINITE;
}

__device__ __forceinline__ u32 cell_at(const Codes& codes, u64 position, u32 cell) {
    while (codes.cells[cell + 1] <= position) cell++;
    return cell;
}

__device__ __forceinline__ bool is_looked_at(const Queries& queries, int q, u32 cell) {
    return !queries.looked || (queries.looked[(u64)q * queries.looked_words + cell / 32] >> (cell % 32) & 1);
}
