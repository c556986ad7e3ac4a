// Robust statistics of each cell. Rows are sorted by cell (by distance within it where some are to be dropped), then every cell adds up
// its own, PART rows at a time and the parts in order: no atomics, and the same result every time.
#include "common.cuh"

constexpr int THREADS = 256;
constexpr int WARPS = THREADS / WARP;
// Rows that a block sorts, a share of them by each warp.
constexpr int SORTED = 2048;
constexpr int SHARE = SORTED / WARPS;
constexpr int DIGITS = 256;
// Rows of a partial sum.
constexpr int PART = 256;

// The digit of a row: eight bits of its key. Rows come in the order of `order`, or as they are.
struct Digit {
    const u32* order;
    const u32* keys;
    int stride, shift;
    u32 n;

    __device__ __forceinline__ u32 row(u32 i) const { return order ? order[i] : i; }
    __device__ __forceinline__ u32 of(u32 row) const { return keys[(u64)row * stride] >> shift & (DIGITS - 1); }
};

// Lanes that hold the same digit; `in` says whether this one holds any.
__device__ __forceinline__ u32 peers_of(u32 digit, bool in) {
    u32 peers = __ballot_sync(FULL, in);
    for (int b = 0; b < 8; b++) {
        u32 set = __ballot_sync(FULL, digit >> b & 1);
        peers &= digit >> b & 1 ? set : ~set;
    }
    return in ? peers : 0;
}

// How often each digit comes up in the share of each warp.
__device__ __forceinline__ void count_digits(const Digit& of, u32 (&counts)[WARPS][DIGITS]) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    for (int i = threadIdx.x; i < WARPS * DIGITS; i += THREADS) counts[i / DIGITS][i % DIGITS] = 0;
    __syncthreads();
    for (int r = 0; r < SHARE / WARP; r++) {
        u32 i = blockIdx.x * SORTED + warp * SHARE + r * WARP + lane;
        u32 digit = i < of.n ? of.of(of.row(i)) : 0;
        u32 peers = peers_of(digit, i < of.n);
        if (peers && __ffs(peers) - 1 == lane) counts[warp][digit] += __popc(peers);
        __syncwarp();
    }
    __syncthreads();
}

// counts[digit][block]: how often each digit comes up in each block's rows.
extern "C" __global__ void __launch_bounds__(THREADS)
    sort_count(const u32* order, const u32* keys, int stride, int shift, u32 n, u32* totals) {
    __shared__ u32 counts[WARPS][DIGITS];
    Digit of = {order, keys, stride, shift, n};
    count_digits(of, counts);
    u32 total = 0;
    for (int w = 0; w < WARPS; w++) total += counts[w][threadIdx.x];
    totals[threadIdx.x * gridDim.x + blockIdx.x] = total;
}

// Puts every row where its digit belongs, keeping the order of equal ones. `starts` are the sums of the counts before each.
extern "C" __global__ void __launch_bounds__(THREADS)
    sort_move(const u32* order, const u32* keys, int stride, int shift, u32 n, const u32* starts, u32* out) {
    __shared__ u32 counts[WARPS][DIGITS];
    Digit of = {order, keys, stride, shift, n};
    count_digits(of, counts);
    u32 start = starts[threadIdx.x * gridDim.x + blockIdx.x];
    for (int w = 0; w < WARPS; w++) {
        u32 count = counts[w][threadIdx.x];
        counts[w][threadIdx.x] = start;
        start += count;
    }
    __syncthreads();
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    for (int r = 0; r < SHARE / WARP; r++) {
        u32 i = blockIdx.x * SORTED + warp * SHARE + r * WARP + lane;
        u32 row = i < n ? of.row(i) : 0;
        u32 digit = i < n ? of.of(row) : 0;
        u32 peers = peers_of(digit, i < n);
        if (peers) out[counts[warp][digit] + __popc(peers & ((1u << lane) - 1))] = row;
        __syncwarp();
        if (peers && __ffs(peers) - 1 == lane) counts[warp][digit] += __popc(peers);
        __syncwarp();
    }
}

// Each value becomes the sum of those before it, and values[count] the sum of all. One block of 1024 threads.
extern "C" __global__ void __launch_bounds__(1024) prefix(u32* values, u32 count) {
    __shared__ u32 sums[WARP];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    u32 before = 0;
    for (u32 first = 0; first < count; first += 4096) {
        u32 at = first + threadIdx.x * 4, v[4], total = 0;
        for (int i = 0; i < 4; i++) {
            v[i] = at + i < count ? values[at + i] : 0;
            total += v[i];
        }
        u32 scan = total;
        for (int o = 1; o < WARP; o *= 2) {
            u32 other = __shfl_up_sync(FULL, scan, o);
            if (lane >= o) scan += other;
        }
        if (lane == WARP - 1) sums[warp] = scan;
        __syncthreads();
        u32 all = 0, own = 0;
        for (int w = 0; w < WARP; w++) {
            if (w == warp) own = all;
            all += sums[w];
        }
        u32 sum = before + own + scan - total;
        for (int i = 0; i < 4; i++) {
            if (at + i < count) values[at + i] = sum;
            sum += v[i];
        }
        before += all;
        __syncthreads();
    }
    if (threadIdx.x == 0) values[count] = before;
}

// Where each cell starts in the sorted order: starts[cell], and starts[cells] = n.
extern "C" __global__ void __launch_bounds__(THREADS)
    cell_starts(const u32* order, const u32* labels, int stride, u32 n, u32 cells, u32* starts) {
    for (u32 i = blockIdx.x * THREADS + threadIdx.x; i <= n; i += gridDim.x * THREADS) {
        u32 from = i == 0 ? 0 : labels[(u64)order[i - 1] * stride] + 1;
        u32 to = i == n ? cells : labels[(u64)order[i] * stride];
        for (u32 cell = from; cell <= to; cell++) starts[cell] = i;
    }
}

// Rows of each cell, and parts that it takes.
extern "C" __global__ void __launch_bounds__(THREADS) cell_parts(const u32* starts, u32 cells, u32* counts, u32* parts) {
    u32 cell = blockIdx.x * THREADS + threadIdx.x;
    if (cell >= cells) return;
    u32 count = starts[cell + 1] - starts[cell];
    counts[cell] = count;
    parts[cell] = (count + PART - 1) / PART;
}

// Rows of a cell that are kept: all but floor(trim * count), the farthest.
__device__ __forceinline__ u32 kept_of(u32 count, float trim) { return count - (u32)floor((double)trim * count); }

// For every part of a cell: the sum of its kept rows, the sum of the distances of all. `parts` are the sums of the parts before each
// cell; sums is parts x d. A block per part.
extern "C" __global__ void __launch_bounds__(128)
    part_sums(const float* rows, int d, const u32* order, const float* distances, const u32* starts, const u32* parts, u32 cells,
              float trim, double* sums, double* energies) {
    const u32 part = blockIdx.x;
    if (part >= parts[cells]) return;
    u32 low = 0, high = cells;  // the cell: the last whose parts start at or before this one
    while (low + 1 < high) {
        u32 middle = (low + high) / 2;
        if (parts[middle] <= part) low = middle; else high = middle;
    }
    const u32 cell = low, first = starts[cell] + (part - parts[cell]) * PART;
    const u32 end = min(first + PART, starts[cell + 1]);
    const u32 kept = min(end, starts[cell] + kept_of(starts[cell + 1] - starts[cell], trim));
    __shared__ u32 members[PART];
    __shared__ double energy[128 / WARP];
    double total = 0.0;
    for (u32 i = threadIdx.x; i < end - first; i += 128) {
        members[i] = order[first + i];
        total += distances[members[i]];
    }
    total = warp_sum(total);
    if (threadIdx.x % WARP == 0) energy[threadIdx.x / WARP] = total;
    __syncthreads();
    if (threadIdx.x == 0) energies[part] = (energy[0] + energy[1]) + (energy[2] + energy[3]);
    const u32 count = kept > first ? kept - first : 0;
    double* out = sums + (u64)part * d;
    if (d % 4 == 0) {
        for (int k = threadIdx.x * 4; k < d; k += 512) {
            double x = 0, y = 0, z = 0, w = 0;
#pragma unroll 4
            for (u32 i = 0; i < count; i++) {
                float4 v = *(const float4*)(rows + (u64)members[i] * d + k);
                x += v.x, y += v.y, z += v.z, w += v.w;
            }
            out[k] = x, out[k + 1] = y, out[k + 2] = z, out[k + 3] = w;
        }
    } else {
        for (int k = threadIdx.x; k < d; k += 128) {
            double x = 0;
#pragma unroll 4
            for (u32 i = 0; i < count; i++) x += rows[(u64)members[i] * d + k];
            out[k] = x;
        }
    }
}

// The mean of each cell's kept rows (zeros where there are none) and the mean squared distance of all, per dimension. A block per cell.
extern "C" __global__ void __launch_bounds__(128)
    cell_means(const u32* starts, const u32* parts, float trim, int d, const double* sums, const double* energies, float* means,
               float* variances) {
    const u32 cell = blockIdx.x, from = parts[cell], to = parts[cell + 1], count = starts[cell + 1] - starts[cell];
    const double kept = kept_of(count, trim);
    for (int k = threadIdx.x; k < d; k += 128) {
        double total = 0;
#pragma unroll 4
        for (u32 p = from; p < to; p++) total += sums[(u64)p * d + k];
        means[(u64)cell * d + k] = count ? (float)(total / kept) : 0.0f;
    }
    if (threadIdx.x == 0) {
        double total = 0;
        for (u32 p = from; p < to; p++) total += energies[p];
        variances[cell] = count ? (float)(total / ((double)count * d)) : 0.0f;
    }
}
