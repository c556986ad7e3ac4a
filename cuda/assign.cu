// The nearest anchors of every row: |a|^2 / 2 - <x, a> orders anchors as the distance does.
//
// On tensor cores, a fast pass over 16-bit operands keeps for each row its best scores and the one after; rows where these
// are closer than twice what rounding can have moved them (a bound, not an estimate: |x - x'| |a| + |x'| |a - a'| by Cauchy and
// Schwarz, with measured lengths) go into a list and are scored again in fp32 against all anchors. So the answer is that
// of fp32. Without tensor cores all rows are scored in fp32.
#include "fp32.cuh"
#include "lowest.cuh"
#include "tile.cuh"

// What a pass over panels works with.
struct Pass {
    const u8 *left, *right;
    u32 n;  // rows of `left`; where `list` is given, at most
    const u32 *list, *count;
    int split;       // whether operands have two parts
    int panels;      // of both, parts counted
    int tiles;       // of the right operand
    int tiles_each;  // of those, for one item of work
    int stages;
    int parts;       // records of a row: what several items, or several warps of a block, found of it
    const float* scales;
    const Lengths* lengths;
    const float* half;
    const Summary* summary;
    u32* labels;
    u32 *again, *again_count;  // rows that have to be scored again
    void* records;             // where there is more than one to a row: parts x padded n
    u32 padded;

    __device__ __forceinline__ u32 rows() const { return list ? min(*count, n) : n; }
    __device__ __forceinline__ int splits() const { return (tiles + tiles_each - 1) / tiles_each; }
};

// A row's labels, and whether it has to be scored again.
template <int KEEP>
__device__ __forceinline__ void settle_row(const Lowest<KEEP>& found, u32 slot, float scale, const Pass& pass) {
    u32 row = pass.list ? pass.list[slot] : slot;
    found.store(pass.labels, row);
    if (!found.certain(2.0f * score_bound(pass.lengths[slot], scale, pass.summary, pass.split, pass.panels))) {
        pass.again[atomicAdd(pass.again_count, 1u)] = row;
    }
}

template <int KEEP>
struct Nearest {
    const Pass& pass;
    u32 rows, row0;
    int part, right;
    float scales[SLOTS];
    Lowest<KEEP> all[SLOTS];
    Seen<KEEP> seen[SLOTS];
    float2 half[GROUPS];

    __device__ __forceinline__ void begin(u32 tile, int its_part, int first) {
        row0 = tile * LEFT + first;
        part = its_part;
        for (int s = 0; s < SLOTS; s++) {
            all[s].clear();
            scales[s] = pass.scales[row0 + slot_offset(s)];
        }
    }
    __device__ __forceinline__ void tile(int first) {
        right = first;
        for (int i = 0; i < GROUPS; i++) half[i] = *(const float2*)(pass.half + right + 8 * i);
        for (int s = 0; s < SLOTS; s++) seen[s].clear();
    }
    __device__ __forceinline__ void visit(int slot, int i, float p, float q) {
        seen[slot].offer(numbered(fmaf(-p, scales[slot], half[i].x), 2 * i),
                         numbered(fmaf(-q, scales[slot], half[i].y), 2 * i + 1));
    }
    __device__ __forceinline__ void end() {
        for (int s = 0; s < SLOTS; s++) all[s].join(seen[s].result(right));
    }
    __device__ __forceinline__ void finish() {
        for (int s = 0; s < SLOTS; s++) {
            all[s].merge(4);
            const u32 slot = row0 + slot_offset(s);
            if (lane_of_thread() % 4 != 0 || slot >= rows) continue;
            if (pass.records) {
                ((Lowest<KEEP>*)pass.records)[(u64)part * pass.padded + slot] = all[s];
            } else {
                settle_row<KEEP>(all[s], slot, scales[s], pass);
            }
        }
    }
};

template <bool RESIDENT, int KEEP>
__device__ __forceinline__ void nearest(const Pass& pass) {
#if TIER_WGMMA || TIER_MMA
    extern __shared__ __align__(1024) u8 shared[];
    __shared__ Pipe pipe;
    const u32 rows = pass.rows();
    Work work = {(rows + LEFT - 1) / LEFT, pass.splits(), pass.tiles, pass.tiles_each, pass.panels, pass.stages};
    Nearest<KEEP> visitor = {pass, rows};
    tile_products<RESIDENT>(pass.left, pass.right, work, shared, pipe, visitor);
#endif
}

#define NEAREST(name, RESIDENT, KEEP) \
    extern "C" __global__ void __launch_bounds__(TILE_THREADS, 1) name(ARGUMENT Pass pass) { nearest<RESIDENT, KEEP>(pass); }
NEAREST(nearest_resident_1, true, 1)
NEAREST(nearest_resident_2, true, 2)
NEAREST(nearest_streamed_1, false, 1)
NEAREST(nearest_streamed_2, false, 2)

// What the items that share a row found, put together.
template <int KEEP>
__device__ __forceinline__ void join(const Pass& pass) {
    const u32 rows = pass.rows();
    for (u32 slot = blockIdx.x * blockDim.x + threadIdx.x; slot < rows; slot += gridDim.x * blockDim.x) {
        const Lowest<KEEP>* records = (const Lowest<KEEP>*)pass.records + slot;
        Lowest<KEEP> found = records[0];
        for (int b = 1; b < pass.parts; b++) found.join(records[(u64)b * pass.padded]);
        settle_row<KEEP>(found, slot, pass.scales[slot], pass);
    }
}

extern "C" __global__ void __launch_bounds__(256) join_1(ARGUMENT Pass pass) { join<1>(pass); }
extern "C" __global__ void __launch_bounds__(256) join_2(ARGUMENT Pass pass) { join<2>(pass); }

// Lowest first by score, then by anchor.
__device__ __forceinline__ u64 key_of(float score, u32 anchor) { return (u64)ordered(score) << 32 | anchor; }

// In fp32: the lowest key of each row above its floor, if there are floors, over the anchors of this block. Rows are those of `list`,
// of which there are *count, or all. blockIdx.y divides the anchors, a multiple of SIDE to each.
template <bool FLOOR>
__device__ __forceinline__ void exact(const float* rows, int d, const u32* list, const u32* count, u32 n, const float* anchors,
                                      u32 anchor_count, u32 per_block, const float* half, const u64* floors, u64* keys) {
    __shared__ Sides sides;
    const u32 total = list ? *count : n;
    const int tx = threadIdx.x % 16, loaded = threadIdx.x / 2;
    const u32 from = blockIdx.y * per_block, to = min(from + per_block, anchor_count);
    for (u32 tile = blockIdx.x; tile * SIDE < total; tile += gridDim.x) {
        const u32 slot0 = tile * SIDE, own = slot0 + loaded;
        const float* x = own < total ? rows + (u64)(list ? list[own] : own) * d : 0;
        u64 best[8];
        for (int i = 0; i < 8; i++) best[i] = ~0ull;
        for (u32 j0 = from; j0 < to; j0 += SIDE) {
            const float* y = j0 + loaded < to ? anchors + (u64)(j0 + loaded) * d : 0;
            float acc[8][8] = {};
            product(sides, x, 0, y, d, acc);
#pragma unroll
            for (int j = 0; j < 8; j++) {
                u32 anchor = j0 + right_of(j);
                if (anchor >= to) continue;
                float h = half[anchor];
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    u64 key = key_of(h - acc[i][j], anchor);
                    if (FLOOR) {
                        u32 slot = slot0 + left_of(i);
                        if (slot < total && key <= floors[slot]) continue;
                    }
                    if (key < best[i]) best[i] = key;
                }
            }
        }
#pragma unroll
        for (int i = 0; i < 8; i++) {
            for (int o = 8; o > 0; o /= 2) {
                u64 other = __shfl_xor_sync(FULL, best[i], o);
                best[i] = other < best[i] ? other : best[i];
            }
            u32 slot = slot0 + left_of(i);
            if (tx == 0 && slot < total) atomicMin(&keys[slot], best[i]);
        }
    }
}

extern "C" __global__ void __launch_bounds__(256, 2)
    exact_first(const float* rows, int d, const u32* list, const u32* count, u32 n, const float* anchors, u32 anchor_count,
                u32 per_block, const float* half, const u64* floors, u64* keys) {
    exact<false>(rows, d, list, count, n, anchors, anchor_count, per_block, half, floors, keys);
}

extern "C" __global__ void __launch_bounds__(256, 2)
    exact_next(const float* rows, int d, const u32* list, const u32* count, u32 n, const float* anchors, u32 anchor_count,
               u32 per_block, const float* half, const u64* floors, u64* keys) {
    exact<true>(rows, d, list, count, n, anchors, anchor_count, per_block, half, floors, keys);
}

// Writes candidate c of `candidates` from the keys, which become the floors of the next and are cleared.
extern "C" __global__ void __launch_bounds__(256)
    settle(const u32* list, const u32* count, u32 n, int c, int candidates, u64* keys, u64* floors, u32* labels) {
    u32 total = list ? *count : n;
    for (u32 slot = blockIdx.x * blockDim.x + threadIdx.x; slot < total; slot += gridDim.x * blockDim.x) {
        u64 key = keys[slot];
        labels[(u64)(list ? list[slot] : slot) * candidates + c] = (u32)key;
        floors[slot] = key;
        keys[slot] = ~0ull;
    }
}

// Rows that a warp measures together, so that several are on their way at once.
constexpr int TOGETHER = 4;

// Squared distance of every row to its nearest anchor, measured directly: the expanded form cancels where they are close.
extern "C" __global__ void __launch_bounds__(256)
    distances(const float* rows, u32 n, int d, const float* anchors, const u32* labels, int candidates, float* out) {
    const u32 first = (blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP) * TOGETHER;
    if (first >= n) return;
    const float *x[TOGETHER], *a[TOGETHER];
    float total[TOGETHER] = {};
    for (int r = 0; r < TOGETHER; r++) {
        const u32 row = min(first + r, n - 1);
        x[r] = rows + (u64)row * d;
        a[r] = anchors + (u64)labels[(u64)row * candidates] * d;
    }
    if (d % 4 == 0) {
        for (int k = 4 * lane_of_thread(); k < d; k += 4 * WARP) {
            float4 u[TOGETHER], v[TOGETHER];
#pragma unroll
            for (int r = 0; r < TOGETHER; r++) u[r] = *(const float4*)(x[r] + k), v[r] = *(const float4*)(a[r] + k);
#pragma unroll
            for (int r = 0; r < TOGETHER; r++) {
                const float e = u[r].x - v[r].x, f = u[r].y - v[r].y, g = u[r].z - v[r].z, h = u[r].w - v[r].w;
                total[r] += (e * e + f * f) + (g * g + h * h);
            }
        }
    } else {
        for (int k = lane_of_thread(); k < d; k += WARP) {
            for (int r = 0; r < TOGETHER; r++) total[r] += (x[r][k] - a[r][k]) * (x[r][k] - a[r][k]);
        }
    }
    for (int r = 0; r < TOGETHER; r++) {
        const float sum = warp_sum(total[r]);
        if (lane_of_thread() == 0 && first + r < n) out[first + r] = sum;
    }
}

constexpr int SUMMED = 8192;

// The sums of every SUMMED distances, in an order that never changes.
extern "C" __global__ void __launch_bounds__(256) energy(const float* distances, u32 n, double* sums) {
    __shared__ double parts[256 / WARP];
    double total = 0.0;
    for (u32 i = threadIdx.x; i < SUMMED; i += blockDim.x) {
        u64 at = (u64)blockIdx.x * SUMMED + i;
        if (at < n) total += distances[at];
    }
    total = warp_sum(total);
    if (lane_of_thread() == 0) parts[threadIdx.x / WARP] = total;
    __syncthreads();
    if (threadIdx.x == 0) {
        total = 0.0;
        for (int w = 0; w < 256 / WARP; w++) total += parts[w];
        sums[blockIdx.x] = total;
    }
}
