// What all kernels share. No standard headers: both nvcc and NVRTC compile these files as they are.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// For arguments that are structures: read where they are instead of being copied. Older devices have no such thing.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 700
#define ARGUMENT const __grid_constant__
#else
#define ARGUMENT const
#endif

#define FULL 0xFFFFFFFFu
#define INFINITE __int_as_float(0x7F800000)

// Threads of a warp; every GPU so far has 32.
constexpr int WARP = 32;

__device__ __forceinline__ int lane_of_thread() { return threadIdx.x % WARP; }

__device__ __forceinline__ float warp_sum(float v) {
    for (int o = WARP / 2; o > 0; o /= 2) v += __shfl_xor_sync(FULL, v, o);
    return v;
}

__device__ __forceinline__ double warp_sum(double v) {
    for (int o = WARP / 2; o > 0; o /= 2) v += __shfl_xor_sync(FULL, v, o);
    return v;
}

__device__ __forceinline__ float warp_max(float v) {
    for (int o = WARP / 2; o > 0; o /= 2) v = fmaxf(v, __shfl_xor_sync(FULL, v, o));
    return v;
}

// A number that orders as the float does; what is no number comes last.
__device__ __forceinline__ u32 ordered(float v) {
    if (v != v) return 0xFFFFFFFFu;
    u32 bits = __float_as_uint(v + 0.0f);  // -0 and +0 are equal
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float from_ordered(u32 v) {
    return __uint_as_float(v & 0x80000000u ? v & 0x7FFFFFFFu : ~v);
}

__device__ __forceinline__ u16 to_half(float v) {
    u16 h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(v));
    return h;
}

__device__ __forceinline__ float from_half(u16 h) {
    float v;
    asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(h));
    return v;
}

// Four values of a row of d, zeros past its end and where there is no row; `wide` where d is a multiple of four.
__device__ __forceinline__ float4 four_at(const float* row, int d, int k, bool wide) {
    if (!row) return make_float4(0, 0, 0, 0);
    if (wide) return k < d ? *(const float4*)(row + k) : make_float4(0, 0, 0, 0);
    return make_float4(k < d ? row[k] : 0, k + 1 < d ? row[k + 1] : 0, k + 2 < d ? row[k + 2] : 0, k + 3 < d ? row[k + 3] : 0);
}
