// Rows sorted by cell, by distance within it where some are to be dropped: a stable radix sort, and where the cells and their parts begin.

const THREADS = 256u;
// Rows that a workgroup sorts, a run of them by each invocation.
const RUN = 8u;
const SORTED = 2048u;
const DIGITS = 16u;
// Counters of two digits each, 16 bits wide: no count in a workgroup is above SORTED.
const WORDS = 8u;
// Invocations that add up the counters of one word, RUN of them each.
const SEGMENTS = 32u;
// Values of the prefix sum that an invocation takes at a time.
const PREFIX = 8u;

struct SortParams {
    n: u32,
    stride: u32,
    shift: u32,
    blocks: u32,
    first: u32,
    count: u32,
    // 1 where rows come as they are, not in `order`.
    unsorted: u32,
    _pad0: u32,
}

struct PrefixParams {
    count: u32,
    _pad0: u32,
    _pad1: u32,
    _pad2: u32,
}

struct StartsParams {
    n: u32,
    stride: u32,
    cells: u32,
    _pad0: u32,
}

// The share of rows to drop is mantissa / 2^shift, shift at least 23.
struct PartsParams {
    cells: u32,
    length: u32,
    mantissa: u32,
    shift: u32,
}

@group(0) @binding(0) var<uniform> sort_params: SortParams;
@group(0) @binding(0) var<uniform> prefix_params: PrefixParams;
@group(0) @binding(0) var<uniform> starts_params: StartsParams;
@group(0) @binding(0) var<uniform> parts_params: PartsParams;

// Rows in the order found so far.
@group(0) @binding(1) var<storage, read> order: array<u32>;
@group(0) @binding(2) var<storage, read> keys: array<u32>;
// Counts that become the sums of those before each.
@group(0) @binding(3) var<storage, read_write> counts: array<u32>;
@group(0) @binding(4) var<storage, read_write> moved: array<u32>;
// Where each cell starts in the order; the end of the last one more.
@group(0) @binding(5) var<storage, read_write> new_starts: array<u32>;
@group(0) @binding(6) var<storage, read> starts: array<u32>;
// Rows of each cell that are added up.
@group(0) @binding(7) var<storage, read_write> new_sizes: array<u32>;

// Word w of invocation t at w * THREADS + t.
var<workgroup> counters: array<u32, 2048>;
var<workgroup> totals: array<u32, 256>;
var<workgroup> digit_starts: array<u32, 16>;

fn row_at(i: u32) -> u32 {
    if sort_params.unsorted != 0u {
        return i;
    }
    return order[i];
}

// The digit of a row: four bits of its key. Distances are not negative and but for the sign of a zero their bits order as they do.
fn digit_of(row: u32) -> u32 {
    return ((keys[row * sort_params.stride] & 0x7fffffffu) >> sort_params.shift) & (DIGITS - 1u);
}

// How often each digit comes up in the run of each invocation, then in all runs before it. Leaves the counts of each segment in `totals`.
fn count_digits(block: u32, t: u32) {
    for (var w = 0u; w < WORDS; w++) {
        counters[w * THREADS + t] = 0u;
    }
    let first = block * SORTED + t * RUN;
    for (var i = first; i < min(first + RUN, sort_params.n); i++) {
        let digit = digit_of(row_at(i));
        counters[(digit / 2u) * THREADS + t] += 1u << (digit % 2u * 16u);
    }
    workgroupBarrier();
    // Word t / SEGMENTS, invocations from (t % SEGMENTS) * RUN on: t * RUN in all, as SEGMENTS * RUN = THREADS.
    var total = 0u;
    for (var i = 0u; i < RUN; i++) {
        total += counters[t * RUN + i];
    }
    totals[t] = total;
    workgroupBarrier();
    var sum = 0u;
    for (var s = t / SEGMENTS * SEGMENTS; s < t; s++) {
        sum += totals[s];
    }
    for (var i = 0u; i < RUN; i++) {
        let count = counters[t * RUN + i];
        counters[t * RUN + i] = sum;
        sum += count;
    }
    workgroupBarrier();
}

fn half_of(word: u32, digit: u32) -> u32 {
    return (word >> (digit % 2u * 16u)) & 0xffffu;
}

// counts[digit][block]: how often each digit comes up in each block of rows.
@compute @workgroup_size(256)
fn sort_count(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let number = group.y * groups.x + group.x;
    if number >= sort_params.count {
        return;
    }
    let block = sort_params.first + number;
    count_digits(block, t);
    if t < DIGITS {
        var total = 0u;
        for (var s = 0u; s < SEGMENTS; s++) {
            total += half_of(totals[t / 2u * SEGMENTS + s], t);
        }
        counts[t * sort_params.blocks + block] = total;
    }
}

// Puts every row where its digit belongs, keeping the order of equal ones.
@compute @workgroup_size(256)
fn sort_move(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let number = group.y * groups.x + group.x;
    if number >= sort_params.count {
        return;
    }
    let block = sort_params.first + number;
    if t < DIGITS {
        digit_starts[t] = counts[t * sort_params.blocks + block];
    }
    count_digits(block, t);
    let first = block * SORTED + t * RUN;
    for (var i = first; i < min(first + RUN, sort_params.n); i++) {
        let row = row_at(i);
        let digit = digit_of(row);
        let word = digit / 2u * THREADS + t;
        moved[digit_starts[digit] + half_of(counters[word], digit)] = row;
        counters[word] += 1u << (digit % 2u * 16u);
    }
}

// Each count becomes the sum of those before it, and counts[count] the sum of all. One workgroup.
@compute @workgroup_size(256)
fn prefix(@builtin(local_invocation_index) t: u32) {
    var before = 0u;
    for (var first = 0u; first < prefix_params.count; first += THREADS * PREFIX) {
        let begin = min(first + t * PREFIX, prefix_params.count);
        let end = min(begin + PREFIX, prefix_params.count);
        var own = 0u;
        for (var i = begin; i < end; i++) {
            own += counts[i];
        }
        totals[t] = own;
        workgroupBarrier();
        for (var o = 1u; o < THREADS; o *= 2u) {
            var other = 0u;
            if t >= o {
                other = totals[t - o];
            }
            workgroupBarrier();
            totals[t] += other;
            workgroupBarrier();
        }
        var sum = before + totals[t] - own;
        before += totals[THREADS - 1u];
        for (var i = begin; i < end; i++) {
            let count = counts[i];
            counts[i] = sum;
            sum += count;
        }
        workgroupBarrier();
    }
    if t == 0u {
        counts[prefix_params.count] = before;
    }
}

// Where each cell starts: the first place in the order whose label is not below it.
@compute @workgroup_size(256)
fn cell_starts(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    for (var cell = group.x * THREADS + t; cell <= starts_params.cells; cell += groups.x * THREADS) {
        var low = 0u;
        var high = starts_params.n;
        while low < high {
            let middle = (low + high) / 2u;
            if keys[order[middle] * starts_params.stride] < cell {
                low = middle + 1u;
            } else {
                high = middle;
            }
        }
        new_starts[cell] = low;
    }
}

// floor(count * mantissa / 2^shift), with the product as two words.
fn dropped_of(count: u32, mantissa: u32, shift: u32) -> u32 {
    let a = vec2(count & 0xffffu, count >> 16u);
    let b = vec2(mantissa & 0xffffu, mantissa >> 16u);
    let low = a.x * b.x;
    let cross = vec2(a.x * b.y, a.y * b.x);
    let middle = (low >> 16u) + (cross.x & 0xffffu) + (cross.y & 0xffffu);
    let word = vec2((middle << 16u) | (low & 0xffffu), a.y * b.y + (cross.x >> 16u) + (cross.y >> 16u) + (middle >> 16u));
    if shift >= 64u {
        return 0u;
    }
    if shift >= 32u {
        return word.y >> (shift - 32u);
    }
    return (word.y << (32u - shift)) | (word.x >> shift);
}

// Rows of each cell that are added up: all but the share to drop, the farthest. And the parts that they take.
@compute @workgroup_size(256)
fn cell_parts(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    for (var cell = group.x * THREADS + t; cell < parts_params.cells; cell += groups.x * THREADS) {
        let count = starts[cell + 1u] - starts[cell];
        let kept = count - dropped_of(count, parts_params.mantissa, parts_params.shift);
        new_sizes[cell] = kept;
        counts[cell] = (kept + parts_params.length - 1u) / parts_params.length;
    }
}
