// Batches of queries on the tensor cores: rows are decoded a slab at a time and multiplied with all queries.
#pragma once
#include "codes.cuh"
#include "tile.cuh"

// A chart's decoder of symbols, and what is to come of a slab of rows.
struct Slab {
    const float* tables;      // per direction (lags + 1) x alphabet
    const u32* offsets;       // first direction of each symbol
    const float* anchors;     // cells x active
    int lags, active, chart, panels;
    float scale, one;         // of the decoded values; the value whose product with a query's last one is its constant
    float unit;               // what a product of scaled values stands for
    u64 first;                // row, among those of the groups that are looked at
    u32 count;                // rows, a multiple of GROUP but for the last
    float slack;              // what a score may be off by, of a row's length, for any query
    u8* left;                 // panels
    float2* lines;            // of each row: what its products are multiplied by, and what is added to bound its score from above
    const uint2* chosen;      // the groups that are looked at (codes.cuh), or null
};

// Halves of a row of a panel that wait in shared memory to be written together, and two more, so that the lanes of a warp, which are on
// the same column of different rows, are on different banks.
constexpr int STAGED = PANEL_K + 2;

// What a thread that decodes a row writes to: values of one column of 32 rows at a time, which go to their panel together.
struct Staging {
    u16* own;          // the thread's row
    const u16* first;  // the warp's first row
    u8* to;            // where the warp's rows start in the current panel
    u32 row0;
    int at;
    float kept;

    __device__ __forceinline__ void put(float scaled) {
        kept = fmaf(scaled, scaled, kept);
        own[at++] = to_half(scaled);
        if (at == PANEL_K) flush();
    }
    // All lanes are at the same place.
    __device__ __forceinline__ void flush() {
        const int lane = lane_of_thread();
        __syncwarp();
        for (int r = lane / 8; r < GROUP; r += 4) {
            const u32* from = (const u32*)(first + STAGED * r) + lane % 8 * 4;
            const u32 row = (row0 + r) % LEFT;
            *(uint4*)(to + row * PANEL_ROW + ((lane % 8) ^ (row % 8)) * 16) = make_uint4(from[0], from[1], from[2], from[3]);
        }
        __syncwarp();
        to += LEFT * PANEL_ROW;
        at = 0;
    }
};

// Decodes rows into panels: anchor plus codeword, then a 1 that takes on the query's constant. A thread per row, blockDim.x a multiple
// of 32. Shared memory: STAGED halves for each thread, then the tables where they fit (SHARED).
template <bool SHARED>
__device__ __forceinline__ void decode(const Codes& codes, const Slab& slab) {
    extern __shared__ __align__(1024) u16 staged[];
    const int entries = codes.alphabet * (slab.lags + 1), lane = threadIdx.x % GROUP;
    float* shared = (float*)(staged + STAGED * blockDim.x);
    if (SHARED) {
        for (int i = threadIdx.x; i < slab.active * entries; i += blockDim.x) shared[i] = slab.tables[i];
        __syncthreads();
    }
    const int bits = codes.alphabet == 16 ? 4 : 8, per_word = 32 / bits;
    const u32 padded = (slab.count + LEFT - 1) / LEFT * LEFT;
    for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < padded; i += gridDim.x * blockDim.x) {
        const uint2 entry = i < slab.count ? group_of(slab.chosen, (u32)((slab.first + i) / GROUP)) : make_uint2(0, 0);
        const u32 group = entry.x;
        const u64 position = (u64)group * GROUP + lane;
        bool in = position < codes.n && (entry.y >> lane & 1);
        const u32 cell = in ? cell_at(codes, position, codes.first_cells[group]) : 0;
        in = in && codes.charts[cell] == slab.chart;
        const u32* words = codes.words + (u64)group * codes.group_words * GROUP + lane;
        u32 side = in ? side_of(codes, words - lane, lane) : 0;
        const u32 code = factor_code(codes, side);
        const float of_codeword = codes.weights ? codes.weights[code] : 1.0f;
        const float* anchor = slab.anchors + (u64)cell * slab.active;
        const u32 row0 = i - lane;
        Staging out = {staged + STAGED * threadIdx.x, staged + STAGED * (threadIdx.x - lane),
                       slab.left + (u64)(row0 / LEFT) * slab.panels * (LEFT * PANEL_ROW), row0, 0, 0.0f};
        // A row that is not there is all zeros.
        const float scale = in ? slab.scale : 0.0f;
        const float* table = SHARED ? shared : slab.tables;
        u64 past = 0;  // the latest symbols, a byte each, the last one lowest
        u32 word = 0, from = 0;
        for (int t = 0; t < codes.symbols; t++) {
            if (t % per_word == 0) {
                word = in ? *words : 0;
                words += GROUP;
            }
            past = past << 8 | (word & (codes.alphabet - 1));
            word >>= bits;
            const u32 to = slab.offsets[t + 1];
            if (slab.lags == 2 && t >= 2) {
                const float* first = table + (past & 255);
                const float* second = table + codes.alphabet + (past >> 8 & 255);
                const float* third = table + 2 * codes.alphabet + (past >> 16 & 255);
                for (; from < to; from++) {
                    out.put((*anchor + of_codeword * (*first + *second + *third)) * scale);
                    anchor++, first += entries, second += entries, third += entries, table += entries;
                }
            } else {
                for (; from < to; from++) {
                    float codeword = 0.0f;
                    for (int l = 0; l <= slab.lags && l <= t; l++) codeword += table[l * codes.alphabet + (past >> (8 * l) & 255)];
                    out.put((*anchor++ + of_codeword * codeword) * scale);
                    table += entries;
                }
            }
        }
        out.put(slab.one * scale);
        const float kept = out.kept;
        for (int place = slab.active + 1; place < slab.panels * PANEL_K; place++) out.put(0.0f);
        // What is no number reaches no threshold, not even minus infinity.
        float2 line = make_float2(0.0f, __int_as_float(0x7FFFFFFF));
        if (in) {
            float weight = codes.factors ? codes.factors[code] : 1.0f;
            const float gain = codes.gains[side >> (4 * codes.factor_nibbles)];
            weight *= codes.squared ? 2.0f * gain : gain;
            line.x = weight * slab.unit;
            line.y = 1.001f * fabsf(weight) * sqrtf(kept) * slab.slack - (codes.squared ? gain * gain * 0.999999f : 0.0f);
        }
        slab.lines[i] = line;
    }
}

extern "C" __global__ void __launch_bounds__(1024) decode_shared(ARGUMENT Codes codes, ARGUMENT Slab slab) { decode<true>(codes, slab); }
extern "C" __global__ void __launch_bounds__(1024) decode_general(ARGUMENT Codes codes, ARGUMENT Slab slab) { decode<false>(codes, slab); }

// Queries (count x active, and a constant each) as right operand. A warp per row of the padded number.
extern "C" __global__ void __launch_bounds__(256)
    pack_queries(const float* rotated, const float* constants, u32 count, int active, int panels, float scale, u8* out, float2* lengths) {
    const u32 row = blockIdx.x * 8 + threadIdx.x / WARP;
    if (row >= (count + RIGHT - 1) / RIGHT * RIGHT) return;
    u8* to = out + ((u64)(row / RIGHT) * panels * RIGHT + row % RIGHT) * PANEL_ROW;
    float kept = 0.0f, lost = 0.0f;
    for (int k = threadIdx.x % WARP; k < panels * PANEL_K; k += WARP) {
        float value = row >= count || k > active ? 0.0f : k == active ? constants[row] : rotated[(u64)row * active + k];
        float scaled = value * scale;
        u16 h = to_half(scaled);
        float r = from_half(h), l = scaled - r;
        kept += r * r, lost += l * l;
        *(u16*)(to + (u64)(k / PANEL_K) * (RIGHT * PANEL_ROW) + ((k % PANEL_K / 8) ^ (row % 8)) * 16 + k % 8 * 2) = h;
    }
    kept = warp_sum(kept), lost = warp_sum(lost);
    if (threadIdx.x % WARP == 0) lengths[row] = make_float2(1.0001f * sqrtf(kept), 1.0001f * sqrtf(lost));
}

#if TIER_WGMMA || TIER_MMA
// Lists the rows whose bound reaches a query's threshold.
struct Above {
    const Slab& slab;
    const float* thresholds;  // of the padded queries; infinite for padding
    u32* counts;
    u32* lists;  // queries x capacity: rows, among those of the groups that are looked at
    u32 capacity;
    u32 row0;
    int right;
    float2 lines[4];
    float2 thresholds_now[GROUPS];

    __device__ __forceinline__ void begin(u32 tile, int, int first) {
        row0 = tile * LEFT + first;
        for (int s = 0; s < 4; s++) lines[s] = slab.lines[row0 + slot_offset(s)];
    }
    __device__ __forceinline__ void tile(int first) {
        right = first;
        for (int i = 0; i < GROUPS; i++) thresholds_now[i] = *(const float2*)(thresholds + right + 8 * i);
    }
    __device__ __forceinline__ void put(int slot, int query) {
        u32 at = atomicAdd(&counts[query], 1u);
        if (at < capacity) lists[(u64)query * capacity + at] = (u32)(slab.first + row0 + slot_offset(slot));
    }
    __device__ __forceinline__ void visit(int slot, int i, float p, float q) {
        const bool first = fmaf(p, lines[slot].x, lines[slot].y) >= thresholds_now[i].x;
        const bool second = fmaf(q, lines[slot].x, lines[slot].y) >= thresholds_now[i].y;
        if (first || second) {
            if (first) put(slot, right + 8 * i);
            if (second) put(slot, right + 8 * i + 1);
        }
    }
    __device__ __forceinline__ void end() {}
    __device__ __forceinline__ void finish() {}
};
#endif

// Products of a slab with all queries; `thresholds` of the padded number, infinite for padding.
extern "C" __global__ void __launch_bounds__(TILE_THREADS, 1)
    above(ARGUMENT Slab slab, const u8* right, int tiles, int stages, int resident, const float* thresholds, u32* counts, u32* lists, u32 capacity) {
#if TIER_WGMMA || TIER_MMA
    extern __shared__ __align__(1024) u8 ring[];
    __shared__ Pipe pipe;
    Work work = {(slab.count + LEFT - 1) / LEFT, 1, tiles, tiles, slab.panels, stages};
    Above visitor = {slab, thresholds, counts, lists, capacity};
    if (resident) tile_products<true>(slab.left, right, work, ring, pipe, visitor);
    else tile_products<false>(slab.left, right, work, ring, pipe, visitor);
#endif
}
