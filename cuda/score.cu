// The best rows of a batch of queries: codes laid out for scanning; a sample that says what a score must reach; all rows against that, in
// fp32 by tables or, for batches, as products on the tensor cores of decoded rows, whose bounds say which rows are then scored by
// tables; a list of what reaches it. Scores by tables are bit for bit those of the CPU: four sums, added in its order.
#include "codes.cuh"
#include "decoded.cuh"

// From blocks as the file has them (chunk of positions from `first` on, a multiple of 32) to words.
extern "C" __global__ void __launch_bounds__(256)
    lay_out(const u8* blocks, u32 count, int block_bytes, int symbols, int side_nibbles, int alphabet, int group_words, u64 first_group,
            u32* words) {
    const u32 group = blockIdx.x * (256 / GROUP) + threadIdx.x / GROUP;
    if (group >= count) return;
    const int lane = threadIdx.x % GROUP;
    const u8* block = blocks + (u64)group * block_bytes;
    u32* out = words + (first_group + group) * group_words * GROUP;
    const u8* side = block + symbols * (alphabet == 16 ? 16 : 32);
    auto nibble = [&](const u8* plane) { return (u32)(plane[lane % 16] >> (4 * (lane / 16)) & 15); };
    if (alphabet == 16) {
        for (int w = 0; w < group_words; w++) {
            u32 word = 0;
            for (int i = 0; i < 8; i++) {
                int t = w * 8 + i;
                if (t < symbols + side_nibbles) word |= nibble(block + t * 16) << (4 * i);
            }
            out[w * GROUP + lane] = word;
        }
    } else {
        const int own = group_words - (side_nibbles > 0);
        for (int w = 0; w < own; w++) {
            u32 word = 0;
            for (int i = 0; i < 4 && w * 4 + i < symbols; i++) word |= (u32)block[(w * 4 + i) * 32 + lane] << (8 * i);
            out[w * GROUP + lane] = word;
        }
        if (side_nibbles > 0) {
            u32 word = 0;
            for (int s = 0; s < side_nibbles; s++) word |= nibble(side + s * 16) << (4 * s);
            out[own * GROUP + lane] = word;
        }
    }
}

extern "C" __global__ void __launch_bounds__(256) find_cells(const u64* cells, int cell_count, u32 groups, u32* first_cells) {
    for (u32 g = blockIdx.x * 256 + threadIdx.x; g < groups; g += gridDim.x * 256) {
        u64 position = (u64)g * GROUP;
        u32 low = 0, high = cell_count;  // the last cell that starts at or before it
        while (low + 1 < high) {
            u32 middle = (low + high) / 2;
            if (cells[middle] <= position) low = middle; else high = middle;
        }
        first_cells[g] = low;
    }
}

// The four sums of a lane's row, by tables that `table(t, c)` reads.
template <class Table>
__device__ __forceinline__ void sum_symbols(const Codes& codes, const u32* words, int lane, Table table, float (&sums)[4]) {
    sums[0] = sums[1] = sums[2] = sums[3] = 0.0f;
    const int bits = codes.alphabet == 16 ? 4 : 8, per_word = 32 / bits;
    for (int first = 0; first < codes.symbols; first += per_word) {
        const u32 word = words[first / per_word * GROUP + lane];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            if (i >= per_word || first + i >= codes.symbols) break;
            sums[i % 4] = __fadd_rn(sums[i % 4], table(first + i, word >> (bits * i) & (codes.alphabet - 1)));
        }
    }
}

// Tables in shared memory hold two queries together, value by value, where there are several: sixteen values of two then lie on all
// banks once, and lanes that look up different ones do not wait for each other, as they would with four together.
template <int Q>
struct Layout {
    static constexpr int TOGETHER = Q > 1 ? 2 : 1;
};

// Where the value of query q for symbol c at t stands.
template <int Q>
__device__ __forceinline__ int table_at(const Codes& codes, int t, u32 c, int q) {
    constexpr int T = Layout<Q>::TOGETHER;
    return ((q / T * codes.symbols + t) * codes.alphabet + c) * T + q % T;
}

// Brings the tables of Q queries from `first` on into shared memory; those past the last repeat it.
template <int Q>
__device__ __forceinline__ void bring_tables(const Codes& codes, const Queries& queries, int first, int chart, float* shared) {
    const int per_chart = codes.symbols * codes.alphabet;
    for (int i = threadIdx.x; i < per_chart * Q; i += blockDim.x) {
        const int q = i / per_chart, at = i % per_chart;
        const int query = min(first + q, queries.count - 1);
        shared[table_at<Q>(codes, at / codes.alphabet, at % codes.alphabet, q)] =
            queries.tables[((u64)query * queries.charts + chart) * per_chart + at];
    }
    __syncthreads();
}

// The four sums of a lane's row of chain codes, by tables in shared memory (at a multiple of 1024 bytes). Four words are on their way
// while four are worked on; a lookup is a shift, a mask, a load and an addition, which takes saying so.
template <int Q>
__device__ __forceinline__ void sum_chain(const Codes& codes, const u32* words, int lane, const float* shared, float (&sums)[Q][4]) {
    constexpr int T = Layout<Q>::TOGETHER, BITS = T == 2 ? 3 : 2, STEP = 64 * T, AHEAD = 4;
    const u32 tables = (u32)__cvta_generic_to_shared(shared), pair = codes.symbols * STEP;
    const int whole = codes.symbols / 8, rest = codes.symbols % 8;
    for (int q = 0; q < Q; q++) sums[q][0] = sums[q][1] = sums[q][2] = sums[q][3] = 0.0f;
    auto look_up = [&](u32 base, int i, u32 word) {
        const u32 shifted = 4 * i >= BITS ? word >> (4 * i - BITS) : word << (BITS - 4 * i);
        u32 place;
        asm("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=r"(place) : "r"(shifted), "n"(15 << BITS), "r"(base));
#pragma unroll
        for (int q = 0; q < Q; q += T) {
            if (T == 1) {
                float v;
                asm volatile("ld.shared.f32 %0, [%1];" : "=f"(v) : "r"(place + i * STEP));
                sums[0][i % 4] = __fadd_rn(sums[0][i % 4], v);
            } else {
                float v, u;
                asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(v), "=f"(u) : "r"(place + q / T * pair + i * STEP));
                sums[q][i % 4] = __fadd_rn(sums[q][i % 4], v);
                sums[q + T - 1][i % 4] = __fadd_rn(sums[q + T - 1][i % 4], u);
            }
        }
    };
    // What is fetched past the last word is of the next group, or of the room behind the last one, and not looked at.
    const u32* from = words + lane;
    u32 next[AHEAD];
#pragma unroll
    for (int j = 0; j < AHEAD; j++) next[j] = from[j * GROUP];
    u32 base = tables;
    for (int w = AHEAD; w <= whole; w += AHEAD) {
        u32 now[AHEAD];
        from += AHEAD * GROUP;
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
            now[j] = next[j];
            next[j] = from[j * GROUP];
        }
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
#pragma unroll
            for (int i = 0; i < 8; i++) look_up(base + j * (8 * STEP), i, now[j]);
        }
        base += AHEAD * (8 * STEP);
    }
#pragma unroll
    for (int j = 0; j < AHEAD; j++) {
        if (j < whole % AHEAD) {
#pragma unroll
            for (int i = 0; i < 8; i++) look_up(base + j * (8 * STEP), i, next[j]);
        } else if (j == whole % AHEAD) {
#pragma unroll
            for (int i = 0; i < 7; i++) {
                if (i < rest) look_up(base + j * (8 * STEP), i, next[j]);
            }
        }
    }
}

// What a pass does with the scores: takes the maximum of every `sampled` groups, or lists those that reach a threshold, or writes all.
struct Output {
    float* maxima;            // queries x maxima_count, or null
    u32 maxima_count, stride;  // of the groups that are looked at these: 0, stride, 2 stride, ...
    const float* thresholds;  // of each query
    u32* counts;              // entries of each query's list so far, also of those that found no room
    uint2* lists;             // queries x capacity: position, bits of the score
    u32 capacity;
    float* scores;            // of one query, all rows of the groups that are looked at, or null
};

__device__ __forceinline__ void list(const Output& out, int q, u64 position, float score) {
    u32 at = atomicAdd(&out.counts[q], 1u);
    if (at < out.capacity) out.lists[(u64)q * out.capacity + at] = make_uint2((u32)position, __float_as_uint(score));
}

// All rows of one chart that may be found, for Q queries; blockIdx.y chooses the queries. Tables of chain codes go through shared memory;
// what has others, or tables that do not fit there, takes the general way, which reads them where they are.
template <int Q, bool GENERAL>
__device__ __forceinline__ void scan(const Codes& codes, const Queries& queries, const Output& out, int chart) {
    extern __shared__ __align__(1024) float tables[];
    const int first = blockIdx.y * Q, lane = threadIdx.x % GROUP;
    if (!GENERAL) bring_tables<Q>(codes, queries, first, chart, tables);
    const u32 looked_at = (queries.groups + out.stride - 1) / out.stride;
    const u32 warps = gridDim.x * (blockDim.x / GROUP), warp = blockIdx.x * (blockDim.x / GROUP) + threadIdx.x / GROUP;
    const int per_chart = codes.symbols * codes.alphabet;
    // Maxima: a warp takes every maxima_count-th of the groups looked at.
    float best[Q];
    for (u32 m = warp; m < (out.maxima ? out.maxima_count : warps); m += warps) {
        for (int q = 0; q < Q; q++) best[q] = -INFINITE;
        for (u32 g = m; g < looked_at; g += out.maxima ? out.maxima_count : warps) {
            const u32 number = g * out.stride;
            const uint2 entry = group_of(queries.chosen, number);
            const u32 group = entry.x;
            const u64 position = (u64)group * GROUP + lane;
            const bool there = position < codes.n && (entry.y >> lane & 1);
            const u32 cell = there ? cell_at(codes, position, codes.first_cells[group]) : 0;
            const bool in = there && codes.charts[cell] == chart;
            if (!__ballot_sync(FULL, in)) continue;
            const u32* words = codes.words + (u64)group * codes.group_words * GROUP;
            float sums[Q][4];
            if (GENERAL) {
                const float* own = queries.tables + ((u64)first * queries.charts + chart) * per_chart;
                sum_symbols(codes, words, lane, [&](int t, u32 c) { return own[t * codes.alphabet + c]; }, sums[0]);
            } else {
                sum_chain<Q>(codes, words, lane, tables, sums);
            }
            const u32 side = side_of(codes, words, lane);
#pragma unroll
            for (int q = 0; q < Q; q++) {
                const int query = first + q;
                if (query >= queries.count || !in || !is_looked_at(queries, query, cell)) continue;
                const float score = finished(codes, queries.bases[(u64)query * codes.cell_count + cell], sums[q], side);
                if (out.maxima) best[q] = fmaxf(best[q], score);
                else if (out.scores) out.scores[(u64)number * GROUP + lane] = score;
                else if (score >= out.thresholds[query]) list(out, query, position, score);
            }
        }
        if (!out.maxima) break;
        for (int q = 0; q < Q; q++) {
            const float most = warp_max(best[q]);
            float* place = out.maxima + (u64)(first + q) * out.maxima_count + m;
            // One chart after the other: what another found stays.
            if (lane == 0 && first + q < queries.count) *place = fmaxf(*place, most);
        }
    }
}

// Blocks of a pass that run on a processor at once; src/ops/cuda/score.rs starts as many.
constexpr int BLOCKS_OF_1 = 6, BLOCKS_OF_4 = 4;

extern "C" __global__ void __launch_bounds__(256, BLOCKS_OF_1)
    scan_1(ARGUMENT Codes codes, ARGUMENT Queries queries, ARGUMENT Output out, int chart) {
    scan<1, false>(codes, queries, out, chart);
}
extern "C" __global__ void __launch_bounds__(256, BLOCKS_OF_4)
    scan_4(ARGUMENT Codes codes, ARGUMENT Queries queries, ARGUMENT Output out, int chart) {
    scan<4, false>(codes, queries, out, chart);
}
extern "C" __global__ void __launch_bounds__(256, BLOCKS_OF_1)
    scan_general(ARGUMENT Codes codes, ARGUMENT Queries queries, ARGUMENT Output out, int chart) {
    scan<1, true>(codes, queries, out, chart);
}

extern "C" __global__ void __launch_bounds__(256) fill(float* values, u64 count, float value) {
    for (u64 i = (u64)blockIdx.x * 256 + threadIdx.x; i < count; i += (u64)gridDim.x * 256) values[i] = value;
}

// The k-th largest of each query's `count` maxima: at least k rows score as much. Found bit by bit. A block per query.
extern "C" __global__ void __launch_bounds__(256) kth(const float* maxima, u32 count, u32 k, float* thresholds) {
    __shared__ u32 above;
    const float* own = maxima + (u64)blockIdx.x * count;
    u32 found = 0;
    for (int bit = 31; bit >= 0; bit--) {
        if (threadIdx.x == 0) above = 0;
        __syncthreads();
        const u32 tried = found | 1u << bit;
        u32 reached = 0;
        for (u32 i = threadIdx.x; i < count; i += 256) reached += ordered(own[i]) >= tried;
        for (int o = WARP / 2; o > 0; o /= 2) reached += __shfl_xor_sync(FULL, reached, o);
        if (threadIdx.x % WARP == 0) atomicAdd(&above, reached);
        __syncthreads();
        if (above >= k) found = tried;
        __syncthreads();
    }
    if (threadIdx.x == 0) thresholds[blockIdx.x] = count < k ? -INFINITE : from_ordered(found);
}

// The lists of all queries one after the other; starts[q] are the sums of min(count, capacity) before each. A block per query.
extern "C" __global__ void __launch_bounds__(256)
    gather(const uint2* lists, const u32* counts, const u32* starts, u32 capacity, uint2* out) {
    const u32 q = blockIdx.x, count = min(counts[q], capacity);
    for (u32 i = threadIdx.x; i < count; i += 256) out[starts[q] + i] = lists[(u64)q * capacity + i];
}

// Scores the listed rows, numbered among those of the groups that are looked at, by tables; those that reach the threshold go to the lists of `out`. blockIdx.y is the query.
extern "C" __global__ void __launch_bounds__(128)
    score_listed(ARGUMENT Codes codes, ARGUMENT Queries queries, ARGUMENT Output out, const u32* listed_counts, const u32* listed, u32 capacity) {
    const int q = blockIdx.y;
    const u32 count = min(listed_counts[q], capacity);
    const int per_chart = codes.symbols * codes.alphabet;
    for (u32 i = blockIdx.x * 128 + threadIdx.x; i < count; i += gridDim.x * 128) {
        const u32 row = listed[(u64)q * capacity + i], group = group_of(queries.chosen, row / GROUP).x;
        const int lane = (int)(row % GROUP);
        const u64 position = (u64)group * GROUP + lane;
        const u32 cell = cell_at(codes, position, codes.first_cells[group]);
        if (!is_looked_at(queries, q, cell)) continue;
        const u32* words = codes.words + (u64)group * codes.group_words * GROUP;
        const float* tables = queries.tables + ((u64)q * queries.charts + codes.charts[cell]) * per_chart;
        float sums[4];
        sum_symbols(codes, words, lane, [&](int t, u32 c) { return tables[t * codes.alphabet + c]; }, sums);
        const float score = finished(codes, queries.bases[(u64)q * codes.cell_count + cell], sums, side_of(codes, words, lane));
        if (score >= out.thresholds[q]) list(out, q, position, score);
    }
}
