// Rows and anchors as operands of the tensor cores, and what rounding takes away from them.
#pragma once
#include "panel.cuh"

// Lengths of a packed row, in its scale.
struct Lengths {
    float kept;  // of what its 16-bit parts add up to
    float lost;  // of what rounding took away
    float low;   // of the second part, where there are two
};

// What all packed anchors are below, as bits of floats that are not negative.
struct Summary {
    u32 largest;           // magnitude of a value, before scaling
    u32 length, half;      // length, half squared length
    u32 lost, split_lost;  // length of what rounding takes away, with one part and with two
    u32 low;               // length of the second part
};

// Panels of an operand of one part, or of two. The product of (x1 + x2) and (a1 + a2) but for x2 a2, which is below what matters, is
// one product of three times the length: left (x1, x1, x2), right (a1, a2, a1).
constexpr int PARTS = 3;

// Larger than any score, and still a number whatever its last bits.
constexpr float FARTHEST = 1.0e38f;
// Bits of a score that hold the number of its column, of the 32 that a thread has in a tile.
constexpr int NUMBER_BITS = 5;

__device__ __forceinline__ float largest_of(float4 v) {
    return fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w)));
}

// Packs four values and adds up what became of them.
template <int HEIGHT, bool SPLIT>
struct Packer {
    u8* out;  // where the row starts
    int panels, turn;
    float scale, kept, lost, low;

    __device__ __forceinline__ Packer(u8* panels_out, u32 row, int panels, float scale)
        : panels(panels), turn(row % 8), scale(scale), kept(0), lost(0), low(0) {
        out = panels_out + ((u64)(row / HEIGHT) * (SPLIT ? PARTS * panels : panels) * HEIGHT + row % HEIGHT) * PANEL_ROW;
    }
    __device__ __forceinline__ void put(int c, int quad, const u16* h) {
        u64 four = (u64)((u32)h[0] | (u32)h[1] << 16) | (u64)((u32)h[2] | (u32)h[3] << 16) << 32;
        *(u64*)(out + (u64)c * (HEIGHT * PANEL_ROW) + ((quad / 2) ^ turn) * 16 + quad % 2 * 8) = four;
    }
    __device__ __forceinline__ void add(float4 value, int k) {
        const int c = k / PANEL_K, quad = k % PANEL_K / 4;
        if (c >= panels) return;
        float v[4] = {value.x * scale, value.y * scale, value.z * scale, value.w * scale};
        u16 h[4], l[4];
        for (int i = 0; i < 4; i++) {
            h[i] = to_half(v[i]);
            float first = from_half(h[i]), rest = v[i] - first;
            if (SPLIT) {
                l[i] = to_half(rest);
                float second = from_half(l[i]);
                low += second * second;
                first += second;
                rest -= second;
            }
            kept += first * first;
            lost += rest * rest;
        }
        put(c, quad, h);
        if (SPLIT) {
            put(c + panels, quad, HEIGHT == LEFT ? h : l);
            put(c + 2 * panels, quad, HEIGHT == LEFT ? l : h);
        }
    }
    __device__ __forceinline__ Lengths finish() {
        // A little more, as these sums are rounded too.
        Lengths found = {1.0001f * sqrtf(warp_sum(kept)), 1.0001f * sqrtf(warp_sum(lost)), 1.0001f * sqrtf(warp_sum(low))};
        return found;
    }
};

// Packs rows (n x d) as left operand, each with its own scale, whose inverse goes into `scales`: the rows of `list`, of which
// there are *count, or all. What there are more of than `capacity` goes into the list `over` instead. A warp per row of the
// padded number, which keeps HELD * 128 columns in registers.
template <bool SPLIT, int HELD>
__device__ __forceinline__ void pack(const float* rows, u32 n, int d, int panels, const u32* list, const u32* count, u32 capacity,
                                     u8* out, float* scales, Lengths* lengths, u32* over, u32* over_count) {
    const u32 total = list ? *count : n, packed = min(total, capacity), padded = (packed + LEFT - 1) / LEFT * LEFT;
    const u32 warps = gridDim.x * (blockDim.x / WARP);
    const int lane = lane_of_thread();
    for (u32 slot = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP; slot < max(padded, total); slot += warps) {
        if (slot >= padded) {
            if (lane == 0) over[atomicAdd(over_count, 1u)] = list[slot];
            continue;
        }
        const float* row = slot < packed ? rows + (u64)(list ? list[slot] : slot) * d : 0;
        const bool wide = d % 4 == 0;
        float4 held[HELD];
        float most = 0.0f;
#pragma unroll
        for (int i = 0; i < HELD; i++) {
            if (i * 128 >= panels * PANEL_K) break;
            held[i] = four_at(row, d, i * 128 + 4 * lane, wide);
            most = fmaxf(most, largest_of(held[i]));
        }
        for (int k = HELD * 128 + 4 * lane; k < d; k += 128) most = fmaxf(most, largest_of(four_at(row, d, k, wide)));
        Packer<LEFT, SPLIT> packer(out, slot, panels, panel_scale(warp_max(most)));
#pragma unroll
        for (int i = 0; i < HELD; i++) {
            if (i * 128 >= panels * PANEL_K) break;
            packer.add(held[i], i * 128 + 4 * lane);
        }
        for (int k = HELD * 128 + 4 * lane; k < panels * PANEL_K; k += 128) packer.add(four_at(row, d, k, wide), k);
        Lengths found = packer.finish();
        if (lane == 0) {
            scales[slot] = 1.0f / packer.scale;
            lengths[slot] = found;
        }
    }
}

#define PACK(name, SPLIT, HELD, BLOCKS)                                                                                        \
    extern "C" __global__ void __launch_bounds__(256, BLOCKS)                                                                  \
        name(const float* rows, u32 n, int d, int panels, const u32* list, const u32* count, u32 capacity, u8* out,            \
             float* scales, Lengths* lengths, u32* over, u32* over_count) {                                                    \
        pack<SPLIT, HELD>(rows, n, d, panels, list, count, capacity, out, scales, lengths, over, over_count);                  \
    }
PACK(pack_rows, false, 3, 6)
PACK(pack_wide_rows, false, 12, 3)
PACK(pack_rows_split, true, 3, 4)

// The largest magnitude of all values.
extern "C" __global__ void __launch_bounds__(256) largest(const float* values, u64 count, Summary* summary) {
    float most = 0.0f;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (u64)gridDim.x * blockDim.x) {
        most = fmaxf(most, fabsf(values[i]));
    }
    most = warp_max(most);
    if (lane_of_thread() == 0) atomicMax(&summary->largest, __float_as_uint(most));
}

// Half the squared length of each of the anchors (count x d).
extern "C" __global__ void __launch_bounds__(256) half_lengths(const float* anchors, u32 count, int d, float* half) {
    u32 row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (row >= count) return;
    const float* from = anchors + (u64)row * d;
    double total = 0.0;
    for (int k = lane_of_thread(); k < d; k += WARP) total += (double)from[k] * from[k];
    total = warp_sum(total);
    if (lane_of_thread() == 0) half[row] = (float)(0.5 * total);
}

// Anchors (count x d) as right operand of one part and of two, all with the scale that `summary->largest` gives. `scaled` are the
// half squared lengths times that scale, very large for the rows of padding, which so are never nearest.
extern "C" __global__ void __launch_bounds__(256)
    pack_anchors(const float* anchors, u32 count, u32 padded, int d, int panels, u8* out, u8* split_out, const float* half,
                 float* scaled, Summary* summary) {
    u32 row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (row >= padded) return;
    const int lane = lane_of_thread();
    const float* from = row < count ? anchors + (u64)row * d : 0;
    const float scale = panel_scale(__uint_as_float(summary->largest));
    Packer<RIGHT, false> one(out, row, panels, scale);
    Packer<RIGHT, true> two(split_out, row, panels, scale);
    for (int k = 4 * lane; k < panels * PANEL_K; k += 128) {
        float4 v = four_at(from, d, k, d % 4 == 0);
        one.add(v, k);
        two.add(v, k);
    }
    Lengths first = one.finish(), second = two.finish();
    if (lane == 0) {
        scaled[row] = from ? scale * half[row] : FARTHEST;
        if (from) {
            atomicMax(&summary->length, __float_as_uint(1.0001f * scale * sqrtf(2.0f * half[row])));
            atomicMax(&summary->half, __float_as_uint(scale * half[row]));
            atomicMax(&summary->lost, __float_as_uint(first.lost));
            atomicMax(&summary->split_lost, __float_as_uint(second.lost));
            atomicMax(&summary->low, __float_as_uint(second.low));
        }
    }
}
