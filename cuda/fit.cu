// One step of the training of the residual network: the gradients of its weights, and what AdamW makes of them.
//
// The parameters of all layers stand in one row, and so do their moments: of each layer the weights, padded as mlp.cuh has it, then the
// biases. So each kernel is launched once for all layers. The batch is divided among blocks, whose shares are added up in order.
#include "mlp.cuh"

constexpr int ROWS = 64;

// src/ops/cuda/mlp.rs
struct Place {
    u32 outputs, inputs;
    u32 first;                   // parameter
    u32 inputs_at, outputs_at;  // widths of the matrices of inputs, and of slopes, that stand before those of the layer
    u32 tiles_at;                // tiles of the layers before
};

// Gradients of the weights: slopes^T x, over `slabs_each` slabs of the batch of m rows for each part. blockIdx.x is a tile of a layer,
// blockIdx.y a part. Inputs and slopes are those of all layers, one behind the other.
extern "C" __global__ void __launch_bounds__(THREADS, 2) gradient(const Place* places, u32 layers, const float* inputs, const float* slopes,
                                                                  u32 m, u32 slabs_each, u32 parameters, float* parts) {
    __shared__ Shared<ROWS> shared;
    u32 layer = 0;
    while (layer + 1 < layers && places[layer + 1].tiles_at <= blockIdx.x) layer++;
    const Place place = places[layer];
    const u32 wide = padded(place.inputs), high = padded(place.outputs);
    const u32 tile = blockIdx.x - place.tiles_at, output0 = tile / (wide / WIDE) * WIDE, input0 = tile % (wide / WIDE) * WIDE;
    constexpr u32 DEPTH = Sides<ROWS>::DEPTH;
    const u32 first = blockIdx.y * slabs_each, row0 = first * DEPTH;
    float* part = parts + (u64)blockIdx.y * parameters + place.first;
    float4 bias = make_float4(0, 0, 0, 0);
    multiply<ROWS>(
        shared, Left<ROWS, false>(slopes + (u64)m * place.outputs_at + (u64)row0 * high + output0, high),
        Right<ROWS, false>(inputs + (u64)m * place.inputs_at + (u64)row0 * wide + input0, wide), min(slabs_each, m / DEPTH - first),
        [&](const Left<ROWS, false>& left) {
#pragma unroll
            for (int i = 0; i < left.LOADS; i++) bias.x += left.v[i].x, bias.y += left.v[i].y, bias.z += left.v[i].z, bias.w += left.v[i].w;
        },
        [&](int row, int column, float4 v) { *(float4*)(part + (u64)(output0 + row) * wide + input0 + column) = v; });
    if (input0 > 0) return;
    // Sixteen threads have a share of the same four sums.
    __syncthreads();
    float4(&shares)[THREADS] = *(float4(*)[THREADS])&shared;
    shares[threadIdx.x] = bias;
    __syncthreads();
    if (threadIdx.x >= ROWS) return;
    float sum = 0;
    for (int i = 0; i < THREADS / (ROWS / 4); i++) sum += ((const float*)&shares[i * (ROWS / 4) + threadIdx.x / 4])[threadIdx.x % 4];
    part[(u64)high * wide + output0 + threadIdx.x] = sum;
}

struct Adam {
    float rate, keep, mean_scale, square_scale;
};

// src/ops/mlp.rs
constexpr float BETA_1 = 0.9f, BETA_2 = 0.98f, EPSILON = 1e-8f;

__device__ __forceinline__ float moved(const Adam& adam, float w, float gradient, float& mean, float& square, float keep) {
    mean = BETA_1 * mean + (1.0f - BETA_1) * gradient;
    square = BETA_2 * square + (1.0f - BETA_2) * gradient * gradient;
    return keep * w - __fdiv_rn(adam.rate * (mean * adam.mean_scale), __fsqrt_rn(square * adam.square_scale) + EPSILON);
}

__device__ __forceinline__ float rounded(float w, float step, float top) {
    return fminf(fmaxf(floorf(__fdiv_rn(w, step)) + 0.5f, -top), top) * step;
}

// Moves all parameters, four to a thread, by the sums of their `count` gradients, and writes what rows see of them. Where nothing is, there
// is no gradient, and zeros stay; but no zero is the rounding of anything. `steps` has one for each output, 0 where weights are not rounded.
extern "C" __global__ void __launch_bounds__(THREADS) move_all(const Place* places, u32 layers, u32 parameters, const float* parts, u32 count,
                                                               ARGUMENT Adam adam, const float* steps, float top, float* weights,
                                                               float* means, float* squares, float* seen) {
    const u32 at = (blockIdx.x * THREADS + threadIdx.x) * 4;
    if (at >= parameters) return;
    u32 layer = 0;
    while (layer + 1 < layers && places[layer + 1].first <= at) layer++;
    const Place place = places[layer];
    const u32 wide = padded(place.inputs), within = at - place.first, output = within / wide, input = within % wide;
    const bool is_bias = output >= padded(place.outputs);
    float4 g = make_float4(0, 0, 0, 0);
    for (u32 i = 0; i < count; i++) {
        const float4 part = *(const float4*)(parts + (u64)i * parameters + at);
        g.x += part.x, g.y += part.y, g.z += part.z, g.w += part.w;
    }
    float4 w = *(float4*)(weights + at), mean = *(float4*)(means + at), square = *(float4*)(squares + at);
    const float keep = is_bias ? 1.0f : adam.keep;
    w.x = moved(adam, w.x, g.x, mean.x, square.x, keep);
    w.y = moved(adam, w.y, g.y, mean.y, square.y, keep);
    w.z = moved(adam, w.z, g.z, mean.z, square.z, keep);
    w.w = moved(adam, w.w, g.w, mean.w, square.w, keep);
    *(float4*)(weights + at) = w, *(float4*)(means + at) = mean, *(float4*)(squares + at) = square;
    const float step = is_bias ? 0.0f : steps[place.outputs_at + output];
    if (step != 0.0f) {
        w.x = rounded(w.x, step, top);
        w.y = input + 1 < place.inputs ? rounded(w.y, step, top) : 0.0f;
        w.z = input + 2 < place.inputs ? rounded(w.z, step, top) : 0.0f;
        w.w = input + 3 < place.inputs ? rounded(w.w, step, top) : 0.0f;
        if (input >= place.inputs) w.x = 0.0f;
    }
    *(float4*)(seen + at) = w;
}
