// The residual network: rows through its layers, and slopes back.
//
// Between the layers stand matrices of `count` rows, padded as mlp.cuh has it, those that go into a layer (x) and the slopes at what comes
// out of one. The matrix of slopes first has the slope of the activation, or what is missing from the target, and is worked on in place.
// Every product comes in tiles of 64 rows, for few of them, and of 128.
#include "mlp.cuh"

// src/ops/mlp.rs
__device__ __forceinline__ float act(float z) { return z * fminf(fmaxf(z + 3.0f, 0.0f), 6.0f) * (1.0f / 6.0f); }

__device__ __forceinline__ float act_slope(float z) {
    return z <= -3.0f ? 0.0f : z >= 3.0f ? 1.0f : (2.0f * z + 3.0f) * (1.0f / 6.0f);
}

template <class F> __device__ __forceinline__ float4 map(float4 v, F f) { return make_float4(f(v.x), f(v.y), f(v.z), f(v.w)); }

__device__ __forceinline__ float4 operator+(float4 a, float4 b) { return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w); }

struct Nothing {
    template <class T> __device__ __forceinline__ void operator()(const T&) const {}
};

// Of the rows `picked`, or of those from `first` on: what goes into the first layer, and what is missing where nothing is added to them.
// A block per row, of which there are more than `count`: those are zeros.
extern "C" __global__ void gather(const float* rows, const float* targets, u32 d, const float* scale, const u32* picked, u32 first,
                                  u32 count, u32 padded_count, float* x, float* missing) {
    const u32 wide = padded(d);
    for (u32 i = blockIdx.x; i < padded_count; i += gridDim.x) {
        const bool there = i < count;
        const u64 from = there ? (u64)(picked ? picked[i] : first + i) * d : 0;
        for (u32 k = threadIdx.x; k < wide; k += blockDim.x) {
            const bool is = there && k < d;
            const float y = is ? rows[from + k] : 0.0f;
            x[(u64)i * wide + k] = is ? y * scale[k] : 0.0f;
            missing[(u64)i * wide + k] = is ? targets[from + k] - y : 0.0f;
        }
    }
}

// A layer: x W^T + b. Of a hidden one, the activation of that goes into `next` and its slope into `slopes`, unless that is null. Of the
// last, which has no `next`, it is taken from what is missing, which stands in `slopes`, and the rest multiplied by `scale`; rows from
// `count` on become zeros. blockIdx.x tiles the rows, blockIdx.y the outputs.
template <int ROWS>
__device__ __forceinline__ void forward(const float* x, const float* weights, const float* bias, u32 inputs, u32 outputs, float* next,
                                        float* slopes, u32 count, float scale) {
    __shared__ Shared<ROWS> shared;
    const u32 row0 = blockIdx.x * ROWS, column0 = blockIdx.y * WIDE, wide = padded(inputs);
    auto put = [&](int row, int column, float4 z) {
        const u64 at = (u64)(row0 + row) * padded(outputs) + column0 + column;
        z = z + *(const float4*)(bias + column0 + column);
        if (next) {
            *(float4*)(next + at) = map(z, act);
            if (slopes) *(float4*)(slopes + at) = map(z, act_slope);
        } else {
            const float4 m = *(float4*)(slopes + at);
            const float s = row0 + row < count ? scale : 0.0f;
            *(float4*)(slopes + at) = make_float4(s * (m.x - z.x), s * (m.y - z.y), s * (m.z - z.z), s * (m.w - z.w));
        }
    };
    multiply<ROWS>(shared, Left<ROWS, true>(x + (u64)row0 * wide, wide), Right<ROWS, true>(weights + (u64)column0 * wide, wide),
                   slabs_of<ROWS>(inputs), Nothing(), put);
}

// What becomes of slopes that have gone back through the first layer, for the rows from `first` on: y + damp (missing + scale * slopes), n x d
// as the rows are.
struct Aim {
    const float *missing, *rows, *scale, *damp;
    float* out;
    u32 first, count;

    __device__ __forceinline__ void put(u32 row, u32 column, u32 d, float4 v) const {
        if (row >= count) return;
        const float by = damp[first + row];
        const float* m = missing + (u64)row * padded(d);
        const u64 at = (u64)(first + row) * d;
        const float values[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const u32 k = column + i;
            if (k < d) out[at + k] = rows[at + k] + by * (m[k] + scale[k] * values[i]);
        }
    }
};

// Slopes after a layer to those before it: slopes W, times the slope of the activation, which stands in `before`. That is null for the first
// layer. blockIdx.y tiles the inputs.
template <int ROWS>
__device__ __forceinline__ void backward(const float* slopes, const float* weights, u32 inputs, u32 outputs, float* before, const Aim& aim) {
    __shared__ Shared<ROWS> shared;
    const u32 row0 = blockIdx.x * ROWS, column0 = blockIdx.y * WIDE, wide = padded(outputs);
    auto put = [&](int row, int column, float4 v) {
        if (!before) return aim.put(row0 + row, column0 + column, inputs, v);
        float4* at = (float4*)(before + (u64)(row0 + row) * padded(inputs) + column0 + column);
        const float4 s = *at;
        *at = make_float4(v.x * s.x, v.y * s.y, v.z * s.z, v.w * s.w);
    };
    multiply<ROWS>(shared, Left<ROWS, true>(slopes + (u64)row0 * wide, wide), Right<ROWS, false>(weights + column0, padded(inputs)),
                   slabs_of<ROWS>(outputs), Nothing(), put);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) forward_64(const float* x, const float* weights, const float* bias, u32 inputs,
                                                                    u32 outputs, float* next, float* slopes, u32 count, float scale) {
    forward<64>(x, weights, bias, inputs, outputs, next, slopes, count, scale);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) forward_128(const float* x, const float* weights, const float* bias, u32 inputs,
                                                                     u32 outputs, float* next, float* slopes, u32 count, float scale) {
    forward<128>(x, weights, bias, inputs, outputs, next, slopes, count, scale);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
    backward_64(const float* slopes, const float* weights, u32 inputs, u32 outputs, float* before, ARGUMENT Aim aim) {
    backward<64>(slopes, weights, inputs, outputs, before, aim);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
    backward_128(const float* slopes, const float* weights, u32 inputs, u32 outputs, float* before, ARGUMENT Aim aim) {
    backward<128>(slopes, weights, inputs, outputs, before, aim);
}

// The squared length of every row of what is missing, of d values. A warp per row.
extern "C" __global__ void __launch_bounds__(THREADS) misses(const float* missing, u32 d, u32 count, float* out) {
    const u32 wide = padded(d) / 4;
    for (u32 i = (blockIdx.x * THREADS + threadIdx.x) / WARP; i < count; i += gridDim.x * (THREADS / WARP)) {
        float sum = 0;
        for (u32 k = lane_of_thread(); k < wide; k += WARP) {
            const float4 m = ((const float4*)missing)[(u64)i * wide + k];
            sum += m.x * m.x + m.y * m.y + (m.z * m.z + m.w * m.w);
        }
        sum = warp_sum(sum);
        if (lane_of_thread() == 0) out[i] = sum;
    }
}
