// The lowest scores of a row, and whether they are certain.
#pragma once
#include "pack.cuh"

// What can have moved a score, in the scale of the anchors: rounding of the operands; of the sums (tensor cores add 16 products
// at a time, cutting off what is below the last bit); the places that a column's number takes; the rest.
__device__ __forceinline__ float score_bound(Lengths x, float scale, const Summary* summary, int split, int panels) {
    float length = __uint_as_float(summary->length), low = __uint_as_float(summary->low);
    float lost = __uint_as_float(split ? summary->split_lost : summary->lost);
    float sums = (panels * PANEL_K / 8 + 4) * 1.1920929e-7f;
    float product = x.lost * length + x.kept * lost + sums * x.kept * length + (split ? x.low * low : 0.0f);
    float score = x.kept * length * scale + __uint_as_float(summary->half);
    return 1.001f * product * scale + (1.0f / (1 << (22 - NUMBER_BITS))) * score;
}

// The lowest scores of a row, each with its anchor, as one thread or several put them together.
template <int KEEP>
struct Lowest;

template <>
struct Lowest<1> {
    float best, next;
    int index;

    __device__ __forceinline__ void clear() { best = next = INFINITE, index = 0; }
    __device__ __forceinline__ void join(Lowest<1> o) {
        next = fminf(fminf(next, o.next), fmaxf(best, o.best));
        // Equal scores are never certain, so which of them stays does not matter.
        index = o.best < best ? o.index : index;
        best = fminf(best, o.best);
    }
    // Takes in the other lanes of the same row.
    __device__ __forceinline__ void merge(int lanes) {
        for (int o = 1; o < lanes; o *= 2) {
            Lowest<1> other = {__shfl_xor_sync(FULL, best, o), __shfl_xor_sync(FULL, next, o), __shfl_xor_sync(FULL, index, o)};
            join(other);
        }
    }
    __device__ __forceinline__ bool certain(float bound) const { return next - best > bound; }
    __device__ __forceinline__ void store(u32* labels, u64 row) const { labels[row] = index; }
};

template <>
struct Lowest<2> {
    float best, next, third;
    int index, after;

    __device__ __forceinline__ void clear() { best = next = third = INFINITE, index = after = 0; }
    __device__ __forceinline__ void offer(float score, int j) {
        bool first = score < best, second = score < next;
        third = fminf(third, fmaxf(next, score));
        after = first ? index : second ? j : after;
        next = first ? best : second ? score : next;
        index = first ? j : index;
        best = first ? score : best;
    }
    __device__ __forceinline__ void join(Lowest<2> o) {
        third = fminf(third, o.third);
        offer(o.best, o.index);
        offer(o.next, o.after);
    }
    __device__ __forceinline__ void merge(int lanes) {
        for (int o = 1; o < lanes; o *= 2) {
            Lowest<2> other = {__shfl_xor_sync(FULL, best, o), __shfl_xor_sync(FULL, next, o), __shfl_xor_sync(FULL, third, o),
                               __shfl_xor_sync(FULL, index, o), __shfl_xor_sync(FULL, after, o)};
            join(other);
        }
    }
    __device__ __forceinline__ bool certain(float bound) const { return next - best > bound && third - next > bound; }
    __device__ __forceinline__ void store(u32* labels, u64 row) const { labels[2 * row] = index, labels[2 * row + 1] = after; }
};

// What a thread sees of a tile. The number of the column takes the last bits of its score, so that minima carry it along: a
// comparison and a selection less for each product.
template <int KEEP>
struct Seen;

__device__ __forceinline__ float numbered(float score, int number) {
    u32 bits;  // (score & mask) | number in one instruction, which the compiler does not find
    asm("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=r"(bits) : "r"(__float_as_uint(score)), "r"(~((1u << NUMBER_BITS) - 1)), "r"(number));
    return __uint_as_float(bits);
}

// The right row that a number stands for: 8 (number / 2) + number % 2 from the thread's first on.
__device__ __forceinline__ int column_of(float numbered) {
    int number = (int)(__float_as_uint(numbered) & ((1u << NUMBER_BITS) - 1));
    return number / 2 * 8 + number % 2;
}

template <>
struct Seen<1> {
    float best, next;

    __device__ __forceinline__ void clear() { best = next = INFINITE; }
    // Two at a time: the chain of what waits for one another is half as long.
    __device__ __forceinline__ void offer(float s, float t) {
        float low = fminf(s, t), high = fmaxf(s, t);
        next = fminf(next, fminf(high, fmaxf(best, low)));
        best = fminf(best, low);
    }
    __device__ __forceinline__ Lowest<1> result(int first) const {
        Lowest<1> found = {best, next, first + column_of(best)};
        return found;
    }
};

template <>
struct Seen<2> {
    float best, next, third;

    __device__ __forceinline__ void clear() { best = next = third = INFINITE; }
    __device__ __forceinline__ void offer(float s, float t) {
        float low = fminf(s, t), high = fmaxf(s, t);
        float a = fmaxf(best, low), b = fmaxf(next, high), c = fminf(next, high);
        best = fminf(best, low);
        next = fminf(a, c);
        third = fminf(third, fminf(b, fmaxf(a, c)));
    }
    __device__ __forceinline__ Lowest<2> result(int first) const {
        Lowest<2> found = {best, next, third, first + column_of(best), first + column_of(next)};
        return found;
    }
};
