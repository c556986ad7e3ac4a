// Products of rows in fp32, a tile of SIDE by SIDE by 256 threads, 8 by 8 for each.
#pragma once
#include "common.cuh"

constexpr int SIDE = 128;
constexpr int DEPTH = 8;

struct Sides {
    float left[2][DEPTH][SIDE + 4], right[2][DEPTH][SIDE + 4];
};

// The rows of the tile that a thread's acc[i][.] and acc[.][j] stand for.
__device__ __forceinline__ int left_of(int i) { return threadIdx.x / 16 * 4 + i / 4 * 64 + i % 4; }
__device__ __forceinline__ int right_of(int j) { return threadIdx.x % 16 * 4 + j / 4 * 64 + j % 4; }

// acc[i][j] += the product of left row i (less `offset`, if there is one) and right row j. Each thread brings half of a row of both:
// `x` and `y` point to rows threadIdx.x / 2 of the tile, or are null where there is none. Products add up in the order of k.
__device__ __forceinline__ void product(Sides& sides, const float* x, const float* offset, const float* y, int d, float (&acc)[8][8]) {
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16, row = threadIdx.x / 2, part = threadIdx.x % 2 * 4;
    const bool wide = d % 4 == 0;
    const int steps = (d + DEPTH - 1) / DEPTH;
    float4 p, q;
    auto fetch = [&](int k) {
        p = four_at(x, d, k, wide);
        q = four_at(y, d, k, wide);
        if (offset && x) {
            float4 o = four_at(offset, d, k, wide);
            p = make_float4(p.x - o.x, p.y - o.y, p.z - o.z, p.w - o.w);
        }
    };
    auto put = [&](int s) {
        sides.left[s][part][row] = p.x, sides.left[s][part + 1][row] = p.y;
        sides.left[s][part + 2][row] = p.z, sides.left[s][part + 3][row] = p.w;
        sides.right[s][part][row] = q.x, sides.right[s][part + 1][row] = q.y;
        sides.right[s][part + 2][row] = q.z, sides.right[s][part + 3][row] = q.w;
    };
    fetch(part);
    put(0);
    __syncthreads();
    for (int step = 0; step < steps; step++) {
        const int s = step % 2;
        if (step + 1 < steps) fetch((step + 1) * DEPTH + part);
#pragma unroll
        for (int k = 0; k < DEPTH; k++) {
            float4 x0 = *(float4*)&sides.left[s][k][ty * 4], x1 = *(float4*)&sides.left[s][k][64 + ty * 4];
            float4 y0 = *(float4*)&sides.right[s][k][tx * 4], y1 = *(float4*)&sides.right[s][k][64 + tx * 4];
            float xs[8] = {x0.x, x0.y, x0.z, x0.w, x1.x, x1.y, x1.z, x1.w};
            float ys[8] = {y0.x, y0.y, y0.z, y0.w, y1.x, y1.y, y1.z, y1.w};
#pragma unroll
            for (int i = 0; i < 8; i++)
#pragma unroll
                for (int j = 0; j < 8; j++) acc[i][j] = fmaf(xs[i], ys[j], acc[i][j]);
        }
        if (step + 1 < steps) put(1 - s);
        __syncthreads();
    }
}
