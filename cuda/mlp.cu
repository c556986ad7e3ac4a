// A residual network over rows in fp32: what it makes of them, and the products its training takes. src/ops/mlp.rs says what is computed.
#include "common.cuh"

// A tile of TILE by TILE by 256 threads, 4 by 4 for each: batches are small, and larger tiles would leave processors idle.
constexpr int TILE = 64;
constexpr int DEEP = 16;

struct Tile {
    float left[2][DEEP][TILE + 4], right[2][DEEP][TILE + 4];
};

// An operand of a product: `count` lines of k values. Line i is row i of a matrix of `pitch` columns, or its column i where it is DOWN.
struct Operand {
    const float* values;
    u32 count;
    int pitch;
    // Of one that is DOWN: a further line of ones behind the last.
    bool ones;
};

__device__ __forceinline__ float act(float z) { return z * fminf(fmaxf(z + 3.0f, 0.0f), 6.0f) * (1.0f / 6.0f); }

__device__ __forceinline__ float act_slope(float z) {
    return z <= -3.0f ? 0.0f : z >= 3.0f ? 1.0f : (2.0f * z + 3.0f) * (1.0f / 6.0f);
}

// The row and column of the tile that acc[i][.] and acc[.][j] of a thread stand for.
__device__ __forceinline__ u32 left_of(int i) { return threadIdx.x / 16 * 4 + i; }
__device__ __forceinline__ u32 right_of(int j) { return threadIdx.x % 16 * 4 + j; }

// Four values of an operand from `line` on, at k.
__device__ __forceinline__ float4 four_down(const Operand& o, u32 line, int k, int end) {
    if (k >= end) return make_float4(0, 0, 0, 0);
    float4 v = four_at(o.values + (u64)k * o.pitch, (int)o.count, (int)line, o.pitch % 4 == 0 && o.count % 4 == 0);
    if (o.ones) {
        if (line == o.count) v.x = 1.0f;
        if (line + 1 == o.count) v.y = 1.0f;
        if (line + 2 == o.count) v.z = 1.0f;
        if (line + 3 == o.count) v.w = 1.0f;
    }
    return v;
}

template <bool DOWN>
struct Loader {
    const Operand& of;
    u32 line0;
    float4 held;

    __device__ __forceinline__ void fetch(int k0, int end) {
        if (DOWN) {
            held = four_down(of, line0 + threadIdx.x % 16 * 4, k0 + threadIdx.x / 16, end);
        } else {
            const u32 line = line0 + threadIdx.x / 4;
            const float* row = line < of.count ? of.values + (u64)line * of.pitch : 0;
            held = four_at(row, end, k0 + threadIdx.x % 4 * 4, of.pitch % 4 == 0 && end % 4 == 0);
        }
    }

    __device__ __forceinline__ void put(float (&side)[DEEP][TILE + 4]) const {
        if (DOWN) {
            *(float4*)&side[threadIdx.x / 16][threadIdx.x % 16 * 4] = held;
        } else {
            const int k = threadIdx.x % 4 * 4, line = threadIdx.x / 4;
            side[k][line] = held.x, side[k + 1][line] = held.y, side[k + 2][line] = held.z, side[k + 3][line] = held.w;
        }
    }
};

// acc[i][j] += the product of left line i and right line j of the tile over k of first..end, in the order of k.
template <bool LEFT_DOWN, bool RIGHT_DOWN>
__device__ __forceinline__ void multiply(Tile& tile, const Operand& left, const Operand& right, int first, int end, float (&acc)[4][4]) {
    Loader<LEFT_DOWN> l{left, blockIdx.x * TILE};
    Loader<RIGHT_DOWN> r{right, blockIdx.y * TILE};
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    l.fetch(first, end), r.fetch(first, end);
    l.put(tile.left[0]), r.put(tile.right[0]);
    __syncthreads();
    int s = 0;
    for (int k0 = first; k0 < end; k0 += DEEP, s = 1 - s) {
        const bool more = k0 + DEEP < end;
        if (more) l.fetch(k0 + DEEP, end), r.fetch(k0 + DEEP, end);
#pragma unroll
        for (int k = 0; k < DEEP; k++) {
            const float4 x = *(float4*)&tile.left[s][k][ty * 4], y = *(float4*)&tile.right[s][k][tx * 4];
            const float xs[4] = {x.x, x.y, x.z, x.w}, ys[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) acc[i][j] = fmaf(xs[i], ys[j], acc[i][j]);
        }
        if (more) l.put(tile.left[1 - s]), r.put(tile.right[1 - s]);
        __syncthreads();
    }
}

// Calls `f(row, column, place, value)` for what a thread has of an m x n product.
template <class F>
__device__ __forceinline__ void each(const float (&acc)[4][4], u32 m, u32 n, F f) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const u32 row = blockIdx.x * TILE + left_of(i);
        if (row >= m) continue;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const u32 column = blockIdx.y * TILE + right_of(j);
            if (column < n) f(row, column, (u64)row * n + column, acc[i][j]);
        }
    }
}

// Brings `count` rows and targets (n x a): those of the numbers `picked`, or from `first` on where that is null. input = scale * row,
// missing = target - row. A block per row.
extern "C" __global__ void gather_rows(
    const float* rows, const float* targets, const u32* picked, u32 first, u32 count, int a, const float* scale, float* input, float* missing) {
    for (u32 i = blockIdx.x; i < count; i += gridDim.x) {
        const u64 from = (u64)(picked ? picked[i] : first + i) * a, to = (u64)i * a;
        for (int k = threadIdx.x; k < a; k += blockDim.x) {
            const float y = rows[from + k];
            input[to + k] = y * scale[k];
            missing[to + k] = targets[from + k] - y;
        }
    }
}

// z = x w^T + bias (m x n) for x m x k, w n x k; next = act(z).
extern "C" __global__ void __launch_bounds__(256)
    forward(const float* x, u32 m, int k, const float* w, const float* bias, u32 n, float* z, float* next) {
    __shared__ Tile tile;
    float acc[4][4] = {};
    multiply<false, false>(tile, Operand{x, m, k, false}, Operand{w, n, k, false}, 0, k, acc);
    each(acc, m, n, [&](u32, u32 column, u64 at, float v) {
        const float value = v + bias[column];
        z[at] = value;
        next[at] = act(value);
    });
}

// The last layer: slope = scale * (missing - (x w^T + bias)).
extern "C" __global__ void __launch_bounds__(256)
    forward_last(const float* x, u32 m, int k, const float* w, const float* bias, u32 n, const float* missing, float scale, float* slope) {
    __shared__ Tile tile;
    float acc[4][4] = {};
    multiply<false, false>(tile, Operand{x, m, k, false}, Operand{w, n, k, false}, 0, k, acc);
    each(acc, m, n, [&](u32, u32 column, u64 at, float v) { slope[at] = scale * (missing[at] - (v + bias[column])); });
}

// before = (slope w) * act_slope(z), m x n, for slope m x k, w k x n.
extern "C" __global__ void __launch_bounds__(256)
    backward(const float* slope, u32 m, int k, const float* w, u32 n, const float* z, float* before) {
    __shared__ Tile tile;
    float acc[4][4] = {};
    multiply<false, true>(tile, Operand{slope, m, k, false}, Operand{w, n, (int)n, false}, 0, k, acc);
    each(acc, m, n, [&](u32, u32, u64 at, float v) { before[at] = v * act_slope(z[at]); });
}

// out = row + damp (missing + scale * (slope w)), of the `m` rows from `first` on; n values each.
extern "C" __global__ void __launch_bounds__(256) aim_rows(
    const float* slope, u32 m, int k, const float* w, u32 n, const float* rows, u32 first, const float* damp, const float* missing,
    const float* scale, float* out) {
    __shared__ Tile tile;
    float acc[4][4] = {};
    multiply<false, true>(tile, Operand{slope, m, k, false}, Operand{w, n, (int)n, false}, 0, k, acc);
    each(acc, m, n, [&](u32 row, u32 column, u64 at, float v) {
        const u64 there = (u64)first * n + at;
        out[there] = rows[there] + damp[first + row] * (missing[at] + scale[column] * v);
    });
}

// errors[first + i] = the squared length of row i of `missing` (m x a). A warp per row.
extern "C" __global__ void __launch_bounds__(256) square_rows(const float* missing, u32 m, int a, u32 first, float* errors) {
    const u32 row = (blockIdx.x * blockDim.x + threadIdx.x) / WARP;
    if (row >= m) return;
    float sum = 0;
    for (int k = lane_of_thread(); k < a; k += WARP) {
        const float e = missing[(u64)row * a + k];
        sum = fmaf(e, e, sum);
    }
    sum = warp_sum(sum);
    if (lane_of_thread() == 0) errors[first + row] = sum;
}

// Part blockIdx.z of the gradient, o x (n + 1): slope^T x (x m x n) and behind it the sums of the slopes, over `share` rows of the batch.
extern "C" __global__ void __launch_bounds__(256)
    gradient(const float* slope, u32 o, const float* x, u32 n, u32 m, u32 share, float* parts) {
    __shared__ Tile tile;
    float acc[4][4] = {};
    const u32 first = blockIdx.z * share, end = min(first + share, m);
    multiply<true, true>(tile, Operand{slope, o, (int)o, false}, Operand{x, n, (int)n, true}, (int)first, (int)end, acc);
    float* part = parts + (u64)blockIdx.z * o * (n + 1);
    each(acc, o, n + 1, [&](u32, u32, u64 at, float v) { part[at] = v; });
}

struct Adam {
    float rate, keep, mean_scale, square_scale;
};

// One step of AdamW (src/ops/mlp.rs) on weights (o x n) and biases, by the sum of `count` parts of their gradient in order; `seen` are the
// weights rounded on `steps`, or as they are where that is null. Means and squares are o x (n + 1).
extern "C" __global__ void __launch_bounds__(256) move_weights(
    const float* parts, u32 count, u32 o, u32 n, Adam adam, float* weights, float* bias, float* means, float* squares, const float* steps,
    float top, float* seen) {
    const u64 total = (u64)o * (n + 1);
    for (u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x; at < total; at += (u64)gridDim.x * blockDim.x) {
        const u32 row = (u32)(at / (n + 1)), column = (u32)(at % (n + 1));
        float g = 0;
        for (u32 p = 0; p < count; p++) g += parts[p * total + at];
        const float mean = 0.9f * means[at] + (1.0f - 0.9f) * g;
        const float square = 0.98f * squares[at] + (1.0f - 0.98f) * g * g;
        means[at] = mean, squares[at] = square;
        const float moved = adam.rate * (mean * adam.mean_scale) / (sqrtf(square * adam.square_scale) + 1e-8f);
        if (column == n) {
            bias[row] -= moved;
            continue;
        }
        const u64 place = (u64)row * n + column;
        const float w = adam.keep * weights[place] - moved;
        weights[place] = w;
        float rounded = w;
        if (steps) {
            const float step = steps[row];
            rounded = fminf(fmaxf(floorf(w / step) + 0.5f, -top), top) * step;
        }
        seen[place] = rounded;
    }
}
