// The symbols of least squared error, a warp per row.
//
// Chain codes of up to two lags: the Viterbi algorithm over the 256 pairs of neighbouring symbols, which is exact. The squared error is a
// constant, a term per symbol that is linear in the row, and terms of two symbols one or two steps apart that all rows share
// (src/ops/chain.rs). Costs are whole numbers of up to 26 bits above 4 bits for the symbol they came from, so that a minimum carries
// its origin along. Chain codes of more lags: 16 states with a few survivors each, that carry their own past (per-survivor
// processing, Raheli et al., 1995). pq8: every subspace on its own.
#include "common.cuh"

constexpr int STATES = 16;
constexpr int TAG = 4;  // bits below a cost
constexpr u32 CUT = 1u << 26;
constexpr int WARPS = 8;
// Words of a warp's scratch for each symbol: where the paths came from. After those of all symbols come the symbols found.
constexpr int TRAIL = 32;

struct Job {
    const float* rows;     // n x active
    const float* anchors;  // anchor count x active
    const u32* tries;      // n x candidates, or null: anchor 0 for all
    u32 n;
    int candidates, active, symbols, lags, alphabet;
    const float* tables;   // per direction (lags + 1) x alphabet
    const u32* offsets;    // first direction of each symbol, and the number of directions
    const u32* symbol_of;  // of each direction
    // Of the exact search: what a symbol costs alone (symbols x 16, f32); together with the one before, [t][s][p], and with the one
    // before that, [t][s][q], both in steps of 1 / `scale`, above TAG bits, the latter with q in them.
    const float* alone;
    const u32 *near, *far;
    float scale;
    u32* scratch;
    u32 scratch_words;  // of a warp
    u32* labels;
    u8* found;
    float* errors;
};

// A row less an anchor.
struct Residual {
    const float *row, *anchor;
    __device__ __forceinline__ float at(u32 v) const { return row[v] - anchor[v]; }
};

__device__ __forceinline__ u32 warp_min(u32 v) {
#if __CUDA_ARCH__ >= 800
    return __reduce_min_sync(FULL, v);
#else
    for (int o = WARP / 2; o > 0; o /= 2) v = min(v, __shfl_xor_sync(FULL, v, o));
    return v;
#endif
}

// Leaves the symbols in `symbols`; `trail` is scratch of symbols x TRAIL words, `costs` of 256 words of shared memory.
__device__ __forceinline__ void search_pairs(const Job& job, const Residual& residual, u32* costs, u32* trail, u8* symbols) {
    const int lane = threadIdx.x % WARP, s = lane % STATES, part = lane / STATES;
    const int entries = job.alphabet * (job.lags + 1);
    for (int i = lane; i < STATES * STATES; i += WARP) costs[i] = 0;
    __syncwarp();
    // What this row adds to the costs of the symbol alone: of the last three symbols, the oldest first complete.
    float own[3] = {0.0f, 0.0f, 0.0f};
    u32 lowered = 0;
    for (int step = 0; step < job.symbols + 2; step++) {
        own[2] = own[1], own[1] = own[0], own[0] = 0.0f;
        if (step < job.symbols) {
            const u32 to = job.offsets[step + 1];
            for (u32 v = job.offsets[step] + part; v < to; v += 2) {
                const float twice = -2.0f * residual.at(v);
                const float* table = job.tables + (u64)v * entries + s;
                own[0] = fmaf(twice, table[0], own[0]);
                if (job.lags > 0) own[1] = fmaf(twice, table[STATES], own[1]);
                if (job.lags > 1) own[2] = fmaf(twice, table[2 * STATES], own[2]);
            }
        }
        const int t = step - 2;
        if (t < 0) continue;
        float alone = own[2] + __shfl_xor_sync(FULL, own[2], STATES) + job.alone[t * STATES + s];
        float least = alone;
        for (int o = STATES / 2; o > 0; o /= 2) least = fminf(least, __shfl_xor_sync(FULL, least, o));
        const u32 mine = (u32)fminf((alone - least) * job.scale + 0.5f, (float)CUT) << TAG;
        u32 far[STATES], near[STATES / 2];
        const uint4* from = (const uint4*)(job.far + (u64)(t * STATES + s) * STATES);
        for (int i = 0; i < 4; i++) {
            uint4 v = from[i];
            far[4 * i] = v.x, far[4 * i + 1] = v.y, far[4 * i + 2] = v.z, far[4 * i + 3] = v.w;
        }
        const uint4* beside = (const uint4*)(job.near + (u64)(t * STATES + s) * STATES + part * (STATES / 2));
        for (int i = 0; i < 2; i++) {
            uint4 v = beside[i];
            near[4 * i] = v.x, near[4 * i + 1] = v.y, near[4 * i + 2] = v.z, near[4 * i + 3] = v.w;
        }
        u32 best[STATES / 2];
#pragma unroll
        for (int p = 0; p < STATES / 2; p++) best[p] = 0xFFFFFFFFu;
        const uint4* now = (const uint4*)(costs + part * (STATES / 2));
#pragma unroll
        for (int q = 0; q < STATES; q++) {
            uint4 a = now[q * (STATES / 4)], b = now[q * (STATES / 4) + 1];
            best[0] = min(best[0], a.x + far[q]), best[1] = min(best[1], a.y + far[q]);
            best[2] = min(best[2], a.z + far[q]), best[3] = min(best[3], a.w + far[q]);
            best[4] = min(best[4], b.x + far[q]), best[5] = min(best[5], b.y + far[q]);
            best[6] = min(best[6], b.z + far[q]), best[7] = min(best[7], b.w + far[q]);
        }
        u32 came = 0, low = 0xFFFFFFFFu;
#pragma unroll
        for (int p = 0; p < STATES / 2; p++) {
            came |= (best[p] & 15) << (4 * p);
            // No cost can have been lower than the least before.
            best[p] = min((best[p] & ~15u) + near[p] + (mine - lowered), CUT << TAG);
            low = min(low, best[p]);
        }
        lowered = warp_min(low);
        trail[t * TRAIL + lane] = came;
        __syncwarp();
#pragma unroll
        for (int p = 0; p < STATES / 2; p++) costs[(part * (STATES / 2) + p) * STATES + s] = best[p];
        __syncwarp();
    }
    // The best last pair, of equally good ones the lowest last symbol, then the lowest before it.
    u32 low = 0xFFFFFFFFu;
    for (int i = lane; i < STATES * STATES; i += WARP) low = min(low, costs[i]);
    low = warp_min(low);
    u32 pair = 0xFFFFFFFFu;
    for (int i = lane; i < STATES * STATES; i += WARP) {
        if (costs[i] == low) pair = min(pair, (u32)(i % STATES * STATES + i / STATES));
    }
    pair = warp_min(pair);
    u32 last = pair / STATES, before = pair % STATES;
    constexpr int AHEAD = 8;
    for (int t = job.symbols - 1; t >= 0; t -= AHEAD) {
        u32 words[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; i++) words[i] = t - i >= 0 ? trail[(t - i) * TRAIL + lane] : 0;
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            if (t - i < 0) break;
            if (lane == 0) symbols[t - i] = (u8)last;
            u32 word = __shfl_sync(FULL, words[i], last + STATES * (before / (STATES / 2)));
            u32 q = word >> (4 * (before % (STATES / 2))) & 15;
            last = before;
            before = q;
        }
    }
    __syncwarp();
}

constexpr int SURVIVORS = 4;

// The same with survivors; `shared` are 2 x 64 words of costs and pasts.
__device__ __forceinline__ void search_survivors(const Job& job, const Residual& residual, u32* shared, u32* trail, u8* symbols) {
    const int lane = threadIdx.x % WARP, s = lane % STATES;
    const int entries = job.alphabet * (job.lags + 1);
    float* costs = (float*)shared;
    u32* pasts = shared + STATES * SURVIVORS;
    u8* came = (u8*)trail;  // symbols x SURVIVORS x STATES
    for (int i = lane; i < STATES * SURVIVORS; i += WARP) costs[i] = i == 0 ? 0.0f : INFINITE, pasts[i] = 0;
    __syncwarp();
    for (int t = 0; t < job.symbols; t++) {
        const int lags = min(job.lags, t), paths = t == 0 ? 1 : STATES * SURVIVORS;
        float cost[SURVIVORS];
        u32 from[SURVIVORS];
        for (int l = 0; l < SURVIVORS; l++) cost[l] = INFINITE, from[l] = 0;
        for (int p = 0; p < paths; p += SURVIVORS) {
            float best = INFINITE;
            u32 origin = p;
            for (int path = p; path < min(p + SURVIVORS, paths); path++) {
                float total = costs[path];
                if (total == INFINITE) continue;
                for (u32 v = job.offsets[t]; v < job.offsets[t + 1]; v++) {
                    const float* table = job.tables + (u64)v * entries;
                    float left = residual.at(v) - table[s];
                    for (int lag = 0; lag < lags; lag++) left -= table[STATES * (lag + 1) + (pasts[path] >> (4 * lag) & 15)];
                    total = fmaf(left, left, total);
                }
                if (total < best) best = total, origin = path;
            }
            for (int l = 0; l < SURVIVORS; l++) {
                if (best < cost[l]) {
                    float c = cost[l];
                    u32 f = from[l];
                    cost[l] = best, from[l] = origin;
                    best = c, origin = f;
                }
            }
        }
        u32 past[SURVIVORS];
        for (int l = 0; l < SURVIVORS; l++) past[l] = pasts[from[l]] << 4 | s;
        __syncwarp();
        if (lane < STATES) {
            for (int l = 0; l < SURVIVORS; l++) {
                costs[s * SURVIVORS + l] = cost[l];
                pasts[s * SURVIVORS + l] = past[l];
                came[(t * SURVIVORS + l) * STATES + s] = (u8)from[l];
            }
        }
        __syncwarp();
    }
    if (lane == 0) {
        int state = 0, survivor = 0;
        for (int i = 1; i < STATES; i++) {
            if (costs[i * SURVIVORS] < costs[state * SURVIVORS]) state = i;
        }
        for (int t = job.symbols - 1; t >= 0; t--) {
            symbols[t] = (u8)state;
            int path = came[(t * SURVIVORS + survivor) * STATES + state];
            state = path / SURVIVORS, survivor = path % SURVIVORS;
        }
    }
    __syncwarp();
}

// Nearest codeword of every subspace on its own.
__device__ __forceinline__ void search_independent(const Job& job, const Residual& residual, u8* symbols) {
    const int lane = threadIdx.x % WARP;
    for (int t = 0; t < job.symbols; t++) {
        float cost[8] = {};
        for (u32 v = job.offsets[t]; v < job.offsets[t + 1]; v++) {
            const float y = residual.at(v);
            for (int i = 0; i < 8; i++) {
                float e = y - job.tables[(u64)v * 256 + i * WARP + lane];
                cost[i] = fmaf(e, e, cost[i]);
            }
        }
        float best = cost[0];
        u32 at = lane;
        for (int i = 1; i < 8; i++) {
            if (cost[i] < best) best = cost[i], at = i * WARP + lane;
        }
        for (int o = WARP / 2; o > 0; o /= 2) {
            float other = __shfl_xor_sync(FULL, best, o);
            u32 place = __shfl_xor_sync(FULL, at, o);
            if (other < best || (other == best && place < at)) best = other, at = place;
        }
        if (lane == 0) symbols[t] = (u8)at;
    }
    __syncwarp();
}

// Value v of the codeword of `symbols`.
__device__ __forceinline__ float codeword_at(const float* tables, int lags, int alphabet, const u8* symbols, u32 t, u32 v) {
    const float* table = tables + (u64)v * alphabet * (lags + 1);
    float value = 0.0f;
    for (int lag = 0; lag <= lags && lag <= (int)t; lag++) value += table[lag * alphabet + symbols[t - lag]];
    return value;
}

// Encodes each row against each of its tries and keeps the best, of equally good ones the first.
template <class Search>
__device__ __forceinline__ void encode(const Job& job, Search search) {
    const int lane = threadIdx.x % WARP;
    const u32 warp = blockIdx.x * WARPS + threadIdx.x / WARP, warps = gridDim.x * WARPS;
    u32* trail = job.scratch + (u64)warp * job.scratch_words;
    u8* symbols = (u8*)(trail + (u64)job.symbols * TRAIL);
    for (u32 row = warp; row < job.n; row += warps) {
        u8* out = job.found + (u64)row * job.symbols;
        const u32* tries = job.tries ? job.tries + (u64)row * job.candidates : 0;
        float least = INFINITE;
        u32 label = tries ? tries[0] : 0;
        for (int c = 0; c < job.candidates; c++) {
            const u32 anchor = tries ? tries[c] : 0;
            bool seen = false;
            for (int i = 0; i < c; i++) seen |= tries[i] == anchor;
            if (seen) continue;
            Residual residual = {job.rows + (u64)row * job.active, job.anchors + (u64)anchor * job.active};
            search(residual, trail, symbols);
            float error = 0.0f;
            for (u32 v = lane; v < job.active; v += WARP) {
                float e = residual.at(v) - codeword_at(job.tables, job.lags, job.alphabet, symbols, job.symbol_of[v], v);
                error = fmaf(e, e, error);
            }
            error = warp_sum(error);
            if (c == 0 || error < least) {
                least = error;
                label = anchor;
                for (int t = lane; t < job.symbols; t += WARP) out[t] = symbols[t];
            }
            __syncwarp();
        }
        if (lane == 0) {
            job.labels[row] = label;
            job.errors[row] = least;
        }
    }
}

extern "C" __global__ void __launch_bounds__(WARPS * WARP) encode_pairs(ARGUMENT Job job) {
    __shared__ __align__(16) u32 costs[WARPS][STATES * STATES];
    encode(job, [&](const Residual& r, u32* trail, u8* symbols) { search_pairs(job, r, costs[threadIdx.x / WARP], trail, symbols); });
}

extern "C" __global__ void __launch_bounds__(WARPS * WARP) encode_survivors(ARGUMENT Job job) {
    __shared__ u32 shared[WARPS][2 * STATES * SURVIVORS];
    encode(job, [&](const Residual& r, u32* trail, u8* symbols) { search_survivors(job, r, shared[threadIdx.x / WARP], trail, symbols); });
}

extern "C" __global__ void __launch_bounds__(WARPS * WARP) encode_independent(ARGUMENT Job job) {
    encode(job, [&](const Residual& r, u32* trail, u8* symbols) { search_independent(job, r, symbols); });
}

// Anchor plus codeword of every row (n x active). A warp per row.
extern "C" __global__ void __launch_bounds__(256)
    codewords(const float* anchors, const u32* labels, const u8* found, u32 n, int active, int symbols, int lags, int alphabet,
              const float* tables, const u32* symbol_of, float* out) {
    u32 row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (row >= n) return;
    const u8* own = found + (u64)row * symbols;
    for (u32 v = threadIdx.x % WARP; v < active; v += WARP) {
        float value = codeword_at(tables, lags, alphabet, own, symbol_of[v], v);
        out[(u64)row * active + v] = anchors[(u64)labels[row] * active + v] + value;
    }
}

// sqrt(max(0, constant + <p + slope, y>)) for rows y and p (n x active). A warp per row.
extern "C" __global__ void __launch_bounds__(256)
    lengths(const float* y, const float* p, const float* slope, u32 n, int active, float constant, float* out) {
    u32 row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (row >= n) return;
    float total = 0.0f;
    for (u32 v = threadIdx.x % WARP; v < active; v += WARP) {
        u64 at = (u64)row * active + v;
        total = fmaf(p[at] + slope[v], y[at], total);
    }
    total = warp_sum(total);
    if (threadIdx.x % WARP == 0) out[row] = sqrtf(fmaxf(constant + total, 0.0f));
}
