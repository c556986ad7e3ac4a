// (x - offset) A^T for every row x, in fp32; and the small moves of rows.
#include "fp32.cuh"

// rows n x d, transform a x d, out n x a; `offset` of d values or null. blockIdx.x tiles the rows, blockIdx.y the transform.
extern "C" __global__ void __launch_bounds__(256, 2)
    project(const float* rows, u32 n, int d, const float* offset, const float* transform, u32 a, float* out) {
    __shared__ Sides sides;
    const u32 row0 = blockIdx.x * SIDE, column0 = blockIdx.y * SIDE;
    const u32 loaded = threadIdx.x / 2;
    const float* x = row0 + loaded < n ? rows + (u64)(row0 + loaded) * d : 0;
    const float* y = column0 + loaded < a ? transform + (u64)(column0 + loaded) * d : 0;
    float acc[8][8] = {};
    product(sides, x, offset, y, d, acc);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const u32 row = row0 + left_of(i);
        if (row >= n) continue;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            const u32 column = column0 + right_of(j);
            if (column < a) out[(u64)row * a + column] = acc[i][j];
        }
    }
}

// Copies of the rows `picked`. A block per row.
extern "C" __global__ void select_rows(const float* rows, int d, const u32* picked, u32 count, float* out) {
    for (u32 i = blockIdx.x; i < count; i += gridDim.x) {
        const float* from = rows + (u64)picked[i] * d;
        for (int k = threadIdx.x; k < d; k += blockDim.x) out[(u64)i * d + k] = from[k];
    }
}
