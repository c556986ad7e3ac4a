// Products of panels on the tensor cores, a tile of 256 (or 128) rows against all of the right operand, handed to a visitor
// as they come: what is never written need never be read.
//
// Three tiers in one source: wgmma with the bulk copy engine (sm_90a), mma.sync with cp.async (sm_80 and up), nothing
// below. In all of them a thread holds, of each group of 8 right rows, two neighbouring ones, for SLOTS left rows.
//
// A visitor has:
//   void begin(u32 row_tile, int part, int first);   a tile of left rows starts: the thread's first row in it, and which part of
//                                                    the right rows it will see
//   void tile(int first);                            a tile of right rows is being multiplied; the thread's first in it
//   void visit(int slot, int i, float p, float q);   products with right rows 8 i from that on and the one after
//   void end(); void finish();                       the end of the tile of right rows, of left rows
#pragma once
#include "panel.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define TIER_WGMMA 1
#define TIER_MMA 0
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define TIER_WGMMA 0
#define TIER_MMA 1
#else
#define TIER_WGMMA 0
#define TIER_MMA 0
#endif

#if TIER_WGMMA
constexpr int TILE_THREADS = 384;
// Groups of 8 right rows of a tile that a thread sees, and parts that a tile is divided into among warps.
constexpr int GROUPS = RIGHT / 8;
constexpr int PARTS_OF_TILE = 1;
#else
constexpr int TILE_THREADS = 256;
constexpr int GROUPS = RIGHT / 16;
constexpr int PARTS_OF_TILE = 2;
#endif

// Left rows of a thread, and where they stand from its first on.
constexpr int SLOTS = 4;
__device__ __forceinline__ int slot_offset(int slot) { return (TIER_WGMMA ? 64 : 16) * (slot / 2) + 8 * (slot % 2); }


__device__ __forceinline__ u32 shared_at(const void* p) { return (u32)__cvta_generic_to_shared(p); }

// What a block works through: items blockIdx.x, + gridDim.x, ...; item i is row tile i / splits, part i % splits of the right tiles.
struct Work {
    u32 row_tiles;
    int splits;
    int tiles;       // of the right operand
    int tiles_each;  // of a part
    int panels;
    int stages;

    __device__ __forceinline__ u32 items() const { return row_tiles * splits; }
    __device__ __forceinline__ int first(u32 item) const { return (int)(item % splits) * tiles_each; }
    __device__ __forceinline__ int count(u32 item) const { return min(tiles_each, tiles - first(item)); }
};

#if TIER_WGMMA

constexpr int A_PANEL = LEFT * PANEL_ROW;
constexpr int B_PANEL = RIGHT * PANEL_ROW;
constexpr int MAX_STAGES = 8;

__device__ __forceinline__ void barrier_init(u64* bar, u32 count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_at(bar)), "r"(count));
}

__device__ __forceinline__ void barrier_arrive(u64* bar) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_at(bar)) : "memory");
}

__device__ __forceinline__ void barrier_expect(u64* bar, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_at(bar)), "r"(bytes) : "memory");
}

__device__ __forceinline__ void barrier_wait(u64* bar, u32 parity) {
    asm volatile(
        "{\n.reg .pred p;\nwait:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n@p bra done;\nbra wait;\ndone:\n}\n" ::"r"(
            shared_at(bar)),
        "r"(parity)
        : "memory");
}

__device__ __forceinline__ void bulk_copy(void* to, const void* from, u32 bytes, u64* bar) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_at(to)),
        "l"(from), "r"(bytes), "r"(shared_at(bar))
        : "memory");
}

// K-major operand with the 128-byte swizzle; groups of 8 rows are 1024 bytes apart.
__device__ __forceinline__ u64 descriptor(const void* p) {
    return (u64)((shared_at(p) & 0x3FFFF) >> 4) | (u64)1 << 16 | (u64)64 << 32 | (u64)1 << 62;
}

#define R8(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])

__device__ __forceinline__ void wgmma_128(float (&d)[64], u64 a, u64 b, int accumulate) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
        "%64, %65, p, 1, 1, 0, 0;\n}\n"
        : R8(d, 0), R8(d, 8), R8(d, 16), R8(d, 24), R8(d, 32), R8(d, 40), R8(d, 48), R8(d, 56)
        : "l"(a), "l"(b), "r"(accumulate));
}

struct Pipe {
    u64 full[MAX_STAGES];
    u64 empty[MAX_STAGES];
    // Of the left rows of each group.
    u64 left_full[2];
    u64 left_empty[2];
};

// Tiles of 256 left rows against tiles of right rows. Thread group 0 copies, the two others multiply 128 rows each. With RESIDENT the left panels stay in shared memory, else
// they come again with each tile of the right operand.
template <bool RESIDENT, class Visitor>
__device__ __forceinline__ void tile_products(const u8* left, const u8* right, const Work& work, u8* shared, Pipe& pipe,
                                              Visitor& visitor) {
    const int group = threadIdx.x / 128, panels = work.panels, stages = work.stages;
    constexpr int HALF = A_PANEL / 2;
    u8* a = shared;
    u8* ring = shared + (RESIDENT ? panels * A_PANEL : 0);
    const int stage_bytes = B_PANEL + (RESIDENT ? 0 : A_PANEL);
    if (threadIdx.x == 0) {
        for (int s = 0; s < stages; s++) {
            barrier_init(&pipe.full[s], 1);
            barrier_init(&pipe.empty[s], 2);
        }
        for (int g = 0; g < 2; g++) {
            barrier_init(&pipe.left_full[g], 1);
            barrier_init(&pipe.left_empty[g], 1);
        }
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    __syncthreads();
    int stage = 0;
    u32 phase = 0, left_phase = 0;
    if (group == 0) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        if (threadIdx.x != 0) return;
        for (u32 item = blockIdx.x; item < work.items(); item += gridDim.x) {
            const u8* rows = left + (u64)(item / work.splits) * panels * A_PANEL;
            const u8* from = right + (u64)work.first(item) * panels * B_PANEL;
            const int tiles = work.count(item);
            if (RESIDENT) {
                for (int g = 0; g < 2; g++) {
                    barrier_wait(&pipe.left_empty[g], left_phase ^ 1);
                    barrier_expect(&pipe.left_full[g], panels * HALF);
                    for (int c = 0; c < panels; c++) {
                        bulk_copy(a + c * A_PANEL + g * HALF, rows + (u64)c * A_PANEL + g * HALF, HALF, &pipe.left_full[g]);
                    }
                }
                left_phase ^= 1;
            }
            for (int t = 0; t < tiles; t++) {
                for (int c = 0; c < panels; c++) {
                    barrier_wait(&pipe.empty[stage], phase ^ 1);
                    u8* to = ring + stage * stage_bytes;
                    barrier_expect(&pipe.full[stage], stage_bytes);
                    bulk_copy(to, from + ((u64)t * panels + c) * B_PANEL, B_PANEL, &pipe.full[stage]);
                    if (!RESIDENT) bulk_copy(to + B_PANEL, rows + (u64)c * A_PANEL, A_PANEL, &pipe.full[stage]);
                    if (++stage == stages) stage = 0, phase ^= 1;
                }
            }
        }
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
        const int own = (group - 1) * HALF;
        const bool leader = threadIdx.x % 128 == 0;
        for (u32 item = blockIdx.x; item < work.items(); item += gridDim.x) {
            const int tiles = work.count(item);
            visitor.begin(item / work.splits, item % work.splits,
                          (group - 1) * (LEFT / 2) + (threadIdx.x % 128 / WARP) * 16 + lane_of_thread() / 4);
            if (RESIDENT) barrier_wait(&pipe.left_full[group - 1], left_phase);
            left_phase ^= 1;
            for (int t = 0; t < tiles; t++) {
                float d0[64], d1[64];
                int last = -1;
                for (int c = 0; c < panels; c++) {
                    barrier_wait(&pipe.full[stage], phase);
                    const u8* from = ring + stage * stage_bytes;
                    u64 b = descriptor(from);
                    u64 a0 = descriptor((RESIDENT ? a + c * A_PANEL : from + B_PANEL) + own);
                    u64 a1 = a0 + (64 * PANEL_ROW >> 4);
                    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
                    for (int k = 0; k < PANEL_K / 16; k++) {
                        wgmma_128(d0, a0 + 2 * k, b + 2 * k, c | k);
                        wgmma_128(d1, a1 + 2 * k, b + 2 * k, c | k);
                    }
                    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
                    if (last >= 0) {
                        asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
                        if (leader) barrier_arrive(&pipe.empty[last]);
                    }
                    last = stage;
                    if (++stage == stages) stage = 0, phase ^= 1;
                }
                visitor.tile((work.first(item) + t) * RIGHT + 2 * (lane_of_thread() % 4));
                asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
                if (leader) {
                    barrier_arrive(&pipe.empty[last]);
                    if (RESIDENT && t + 1 == tiles) barrier_arrive(&pipe.left_empty[group - 1]);
                }
#pragma unroll
                for (int i = 0; i < GROUPS; i++) {
                    visitor.visit(0, i, d0[4 * i], d0[4 * i + 1]);
                    visitor.visit(1, i, d0[4 * i + 2], d0[4 * i + 3]);
                    visitor.visit(2, i, d1[4 * i], d1[4 * i + 1]);
                    visitor.visit(3, i, d1[4 * i + 2], d1[4 * i + 3]);
                }
                visitor.end();
            }
            visitor.finish();
        }
    }
}

#elif TIER_MMA

constexpr int A_PANEL = LEFT * PANEL_ROW;
constexpr int B_PANEL = RIGHT * PANEL_ROW;
constexpr int A_HALF = A_PANEL / 2;

struct Pipe {};

__device__ __forceinline__ void load_matrices(u32 (&r)[4], u32 at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at));
}

__device__ __forceinline__ void mma_16_8(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Halves of tiles of 256 left rows against tiles of right rows: 8 warps, each 32 rows by 64. Both operands come through a ring of
// stages.
template <bool RESIDENT, class Visitor>
__device__ __forceinline__ void tile_products(const u8* left, const u8* right, const Work& work, u8* ring, Pipe&, Visitor& visitor) {
    constexpr int STAGE = A_HALF + B_PANEL;
    const int warp = threadIdx.x / WARP, lane = lane_of_thread(), warp_m = warp / 2, warp_n = warp % 2;
    const int panels = work.panels, stages = work.stages;
    const u32 base = shared_at(ring);
    for (u32 item = blockIdx.x; item < 2 * work.items(); item += gridDim.x) {
        const u32 half = item % 2, own = item / 2;
        const u8* rows = left + (u64)(own / work.splits) * panels * A_PANEL + half * A_HALF;
        const u8* from = right + (u64)work.first(own) * panels * B_PANEL;
        const int tiles = work.count(own), steps = tiles * panels;
        auto bring = [&](int step) {
            if (step < steps) {
                const u32 to = base + step % stages * STAGE + threadIdx.x * 16;
                const u8* a = rows + (u64)(step % panels) * A_PANEL + threadIdx.x * 16;
                const u8* b = from + (u64)step * B_PANEL + threadIdx.x * 16;
                for (int i = 0; i < A_HALF; i += TILE_THREADS * 16) {
                    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to + i), "l"(a + i) : "memory");
                }
                for (int i = 0; i < B_PANEL; i += TILE_THREADS * 16) {
                    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to + A_HALF + i), "l"(b + i) : "memory");
                }
            }
            // A group for every step, also where there is nothing more to bring: those that are waited for are counted.
            asm volatile("cp.async.commit_group;" ::: "memory");
        };
        visitor.begin(own / work.splits, own % work.splits * PARTS_OF_TILE + warp_n, half * (LEFT / 2) + warp_m * 32 + lane / 4);
        for (int s = 0; s + 1 < stages; s++) bring(s);
        float d[2][8][4];
        for (int step = 0; step < steps; step++) {
            if (stages == 2) asm volatile("cp.async.wait_group 0;" ::: "memory");
            else asm volatile("cp.async.wait_group 1;" ::: "memory");
            __syncthreads();
            bring(step + stages - 1);
            if (step % panels == 0) {
                for (int m = 0; m < 2; m++)
                    for (int n = 0; n < 8; n++)
                        for (int i = 0; i < 4; i++) d[m][n][i] = 0.0f;
                visitor.tile((work.first(own) + step / panels) * RIGHT + warp_n * (RIGHT / 2) + 2 * (lane % 4));
            }
            const u32 a = base + step % stages * STAGE, b = a + A_HALF;
#pragma unroll
            for (int k = 0; k < PANEL_K / 16; k++) {
                u32 as[2][4];
                for (int m = 0; m < 2; m++) {
                    const int row = warp_m * 32 + m * 16 + lane % 16;
                    load_matrices(as[m], a + row * PANEL_ROW + ((2 * k + lane / 16) ^ (row % 8)) * 16);
                }
#pragma unroll
                for (int n = 0; n < 8; n += 2) {
                    u32 bs[4];
                    const int row = warp_n * (RIGHT / 2) + n * 8 + lane / 16 * 8 + lane % 8;
                    load_matrices(bs, b + row * PANEL_ROW + ((2 * k + lane / 8 % 2) ^ (row % 8)) * 16);
                    for (int m = 0; m < 2; m++) {
                        mma_16_8(d[m][n], as[m], bs[0], bs[1]);
                        mma_16_8(d[m][n + 1], as[m], bs[2], bs[3]);
                    }
                }
            }
            if (step % panels == panels - 1) {
#pragma unroll
                for (int i = 0; i < GROUPS; i++) {
                    visitor.visit(0, i, d[0][i][0], d[0][i][1]);
                    visitor.visit(1, i, d[0][i][2], d[0][i][3]);
                    visitor.visit(2, i, d[1][i][0], d[1][i][1]);
                    visitor.visit(3, i, d[1][i][2], d[1][i][3]);
                }
                visitor.end();
            }
        }
        visitor.finish();
        asm volatile("cp.async.wait_group 0;" ::: "memory");
        __syncthreads();
    }
}

#endif
