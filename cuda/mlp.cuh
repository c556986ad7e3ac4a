// Products of matrices in fp32, a tile of ROWS by WIDE by a block of 256 threads, 8 by 8 for each thread.
//
// That is more threads than a tile has such squares: they stand in groups of ROWS threads, and each group takes 8 of the k of every slab.
// So a small tile keeps as many warps busy as a large one. What the groups found is added up at the end, always in the same order.
//
// All matrices have rows padded with zeros to a multiple of WIDE, and as many rows as tiles cover: nothing is asked when loading.
#pragma once
#include "common.cuh"

constexpr int WIDE = 64;
constexpr int THREADS = 256;

__device__ __forceinline__ u32 padded(u32 width) { return (width + WIDE - 1) / WIDE * WIDE; }

template <int ROWS> struct Sides {
    static constexpr int GROUPS = THREADS / ROWS;
    static constexpr int DEPTH = 8 * GROUPS;  // k of a slab
    float left[2][DEPTH][ROWS + 4], right[2][DEPTH][WIDE + 4];
};

template <int ROWS> union Shared {
    Sides<ROWS> sides;
    float4 sums[Sides<ROWS>::GROUPS / 2][ROWS][WIDE / 4];
};

// How many slabs so many k are.
template <int ROWS> __device__ __forceinline__ int slabs_of(u32 k) { return (k + Sides<ROWS>::DEPTH - 1) / Sides<ROWS>::DEPTH; }

// What a thread brings of one side of a slab. ALONG: k runs along the rows of the matrix, which are those of the tile; otherwise k counts
// the rows, and the tile has columns.
template <int SIDE, int DEPTH, bool ALONG> struct Piece {
    static constexpr int LOADS = SIDE * DEPTH / (4 * THREADS);
    const float* from;
    u32 stride;
    float4 v[LOADS];

    static __device__ __forceinline__ int place() { return ALONG ? threadIdx.x / 2 % SIDE : threadIdx.x % (SIDE / 4) * 4; }
    static __device__ __forceinline__ int k_of(int i) {
        // Two threads to a row, so that neither memory nor the banks are hit twice.
        if (ALONG) return 4 * (int)(threadIdx.x % 2 + threadIdx.x / (2 * SIDE) * 2 + i * (THREADS / SIDE));
        return threadIdx.x / (SIDE / 4) + i * (4 * THREADS / SIDE);
    }
    // `matrix` begins at the tile.
    __device__ __forceinline__ Piece(const float* matrix, u32 width)
        : from(matrix + (ALONG ? (u64)place() * width + k_of(0) : (u64)k_of(0) * width + place())), stride(width) {}
    // The next slab.
    __device__ __forceinline__ void fetch() {
#pragma unroll
        for (int i = 0; i < LOADS; i++) v[i] = *(const float4*)(from + (ALONG ? k_of(i) - k_of(0) : (k_of(i) - k_of(0)) * stride));
        from += ALONG ? DEPTH : DEPTH * stride;
    }
    __device__ __forceinline__ void put(float (&to)[DEPTH][SIDE + 4]) const {
#pragma unroll
        for (int i = 0; i < LOADS; i++) {
            const int k = k_of(i), p = place();
            if (ALONG) {
                to[k][p] = v[i].x, to[k + 1][p] = v[i].y, to[k + 2][p] = v[i].z, to[k + 3][p] = v[i].w;
            } else {
                *(float4*)&to[k][p] = v[i];
            }
        }
    }
};

template <int ROWS, bool ALONG> using Left = Piece<ROWS, Sides<ROWS>::DEPTH, ALONG>;
template <int ROWS, bool ALONG> using Right = Piece<WIDE, Sides<ROWS>::DEPTH, ALONG>;

// The products of the two sides over so many slabs (at least one), handed to `each(row, column, four values)` as they stand in the tile.
// `seen(left)` is called with every piece of the left side.
template <int ROWS, class L, class R, class Seen, class Each>
__device__ __forceinline__ void multiply(Shared<ROWS>& shared, L left, R right, int slabs, Seen seen, Each each) {
    constexpr int GROUPS = Sides<ROWS>::GROUPS;
    const int group = threadIdx.x / ROWS, lane = threadIdx.x % WARP;
    const int tx = lane % 8, ty = threadIdx.x % ROWS / WARP * 4 + lane / 8;
    Sides<ROWS>& sides = shared.sides;
    float acc[8][8] = {};
    left.fetch(), right.fetch();
    seen(left);
    left.put(sides.left[0]), right.put(sides.right[0]);
    __syncthreads();
    for (int slab = 0; slab < slabs; slab++) {
        const int s = slab % 2;
        const bool more = slab + 1 < slabs;
        if (more) left.fetch(), right.fetch();
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const float(&x)[ROWS + 4] = sides.left[s][group * 8 + i];
            const float(&y)[WIDE + 4] = sides.right[s][group * 8 + i];
            float4 x0 = *(float4*)&x[ty * 4], x1 = *(float4*)&x[ROWS / 2 + ty * 4];
            float4 y0 = *(float4*)&y[tx * 4], y1 = *(float4*)&y[WIDE / 2 + tx * 4];
            float xs[8] = {x0.x, x0.y, x0.z, x0.w, x1.x, x1.y, x1.z, x1.w};
            float ys[8] = {y0.x, y0.y, y0.z, y0.w, y1.x, y1.y, y1.z, y1.w};
#pragma unroll
            for (int a = 0; a < 8; a++)
#pragma unroll
                for (int b = 0; b < 8; b++) acc[a][b] = fmaf(xs[a], ys[b], acc[a][b]);
        }
        if (more) {
            seen(left);
            left.put(sides.left[1 - s]), right.put(sides.right[1 - s]);
        }
        __syncthreads();
    }
    auto row_of = [&](int a) { return ty * 4 + a % 4 + a / 4 * (ROWS / 2); };
    auto write = [&](int slot) {
#pragma unroll
        for (int a = 0; a < 8; a++)
#pragma unroll
            for (int b = 0; b < 2; b++)
                shared.sums[slot][row_of(a)][b * (WIDE / 8) + tx] =
                    make_float4(acc[a][4 * b], acc[a][4 * b + 1], acc[a][4 * b + 2], acc[a][4 * b + 3]);
    };
#pragma unroll
    for (int half = GROUPS / 2; half > 0; half /= 2) {
        if (group >= half && group < 2 * half) write(group - half);
        __syncthreads();
        if (group < half) {
#pragma unroll
            for (int a = 0; a < 8; a++)
#pragma unroll
                for (int b = 0; b < 2; b++) {
                    const float4 v = shared.sums[group][row_of(a)][b * (WIDE / 8) + tx];
                    acc[a][4 * b] += v.x, acc[a][4 * b + 1] += v.y, acc[a][4 * b + 2] += v.z, acc[a][4 * b + 3] += v.w;
                }
        }
        // The next to write into a slot are others than those that read it.
        if (half > 1) __syncthreads();
    }
    // Each thread of the first group writes where it alone has read.
    if (group == 0) write(0);
    __syncthreads();
    const int column = threadIdx.x % (WIDE / 4);
#pragma unroll
    for (int row = threadIdx.x / (WIDE / 4); row < ROWS; row += THREADS / (WIDE / 4)) each(row, 4 * column, shared.sums[0][row][column]);
}
