// The step of the anchors.
#include "common.cuh"

// Moves the anchors (count x d) of cells that have rows: a += rate * (mean - a) + noise; `noise` count x d or null.
extern "C" __global__ void __launch_bounds__(256)
    update(float* anchors, u32 count, int d, const float* means, const u32* counts, float rate, const float* noise) {
    const u64 total = (u64)count * d;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < total; i += (u64)gridDim.x * blockDim.x) {
        if (counts[i / d] == 0) continue;
        // Exactly the mean at rate 1, without the rounding of a + (m - a).
        float a = rate == 1.0f ? means[i] : anchors[i] + rate * (means[i] - anchors[i]);
        anchors[i] = noise ? a + noise[i] : a;
    }
}
