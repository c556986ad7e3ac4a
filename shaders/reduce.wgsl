// Robust statistics of each cell. Rows are sorted by cell (by distance within it where some are to be dropped), then every cell adds up
// its own, a part of its rows at a time and the parts in order.
//
// All of it is in whole numbers, so the same on every device, whatever its compiler does to floats. A column is measured in
// 2^-46 of the power of two above its largest value. A value is then a whole number below 2^46, of which nothing is lost down to 2^-22 of
// the largest and less than one unit below; a sum is three limbs,
//     sum = limbs.z 2^46 + limbs.y 2^23 + limbs.x    with limbs.x and limbs.y from 0 to 2^23 - 1,
// and limbs.z, the sum over 2^46 rounded down, fits 32 bits up to 2^31 rows, which one binding (4 bytes a row, below 4 GiB) never holds.

const THREADS = 256u;
// Rows between two carries: with 23 bits to a value their sum is below 2^30, and that plus a limb and a carry fits 32 bits.
const CARRY = 128u;
const LIMB = 23u;
const MASK = 0x7fffffi;

struct MaximaParams {
    first: u32,
    count: u32,
    dim: u32,
    lanes: u32,
}

struct SumsParams {
    first: u32,
    count: u32,
    cells: u32,
    length: u32,
    first_row: u32,
    rows: u32,
    dim: u32,
    column: u32,
    columns: u32,
    // 1 where there are sums already.
    add: u32,
    _pad0: u32,
    _pad1: u32,
}

struct MeansParams {
    first: u32,
    count: u32,
    // First cell of the part of the means.
    part: u32,
    dim: u32,
    column: u32,
    columns: u32,
    _pad0: u32,
    _pad1: u32,
}

@group(0) @binding(0) var<uniform> maxima_params: MaximaParams;
@group(0) @binding(0) var<uniform> sums_params: SumsParams;
@group(0) @binding(0) var<uniform> means_params: MeansParams;

// Rows in the order found so far.
@group(0) @binding(1) var<storage, read> order: array<u32>;
@group(0) @binding(6) var<storage, read> starts: array<u32>;
@group(0) @binding(8) var<storage, read> sizes: array<u32>;
// Parts before each cell; all of them at the end.
@group(0) @binding(9) var<storage, read> parts: array<u32>;
// Floats as their bits.
@group(0) @binding(10) var<storage, read> values: array<u32>;
// The largest value of each column but for its sign, as bits, which order as they do.
@group(0) @binding(11) var<storage, read_write> new_maxima: array<atomic<u32>>;
@group(0) @binding(12) var<storage, read> maxima: array<u32>;
// Three limbs for each column of each part.
@group(0) @binding(13) var<storage, read_write> sums: array<i32>;
@group(0) @binding(14) var<storage, read_write> means: array<u32>;

// The largest value of each column in some rows. There are a whole number of lanes to a column, so a lane stays in its own.
@compute @workgroup_size(256)
fn column_maxima(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let lane = group.x * THREADS + t;
    if lane >= min(maxima_params.lanes, maxima_params.count) {
        return;
    }
    var largest = 0u;
    for (var i = lane; i < maxima_params.count; i += maxima_params.lanes) {
        largest = max(largest, values[maxima_params.first + i] & 0x7fffffffu);
    }
    if largest > 0u {
        atomicMax(&new_maxima[lane % maxima_params.dim], largest);
    }
}

// Four values as whole numbers: (high 2^23 + low) 2^(top - 172), both limbs below 2^23 and of the value's sign. `top` is the exponent of the
// largest value of the column as floats have it, 1 for those below the normal ones.
struct Fixed {
    high: vec4<i32>,
    low: vec4<i32>,
}

fn fixed(bits: vec4<u32>, top: u32) -> Fixed {
    let exponent = (bits >> vec4(23u)) & vec4(255u);
    let mantissa = (bits & vec4(0x7fffffu)) | select(vec4(0x800000u), vec4(0u), exponent == vec4(0u));
    // The whole number is the mantissa times 2^22, shifted down by this. Shifts of 32 bits and more mean nothing.
    let below = vec4(top) - max(exponent, vec4(1u));
    let left = vec4(22u) - min(below, vec4(22u));
    let right = min(max(below, vec4(22u)) - vec4(22u), vec4(31u));
    let high = mantissa >> min(below + vec4(1u), vec4(31u));
    let low = ((mantissa << left) >> right) & vec4(0x7fffffu);
    let sign = select(vec4(1i), vec4(-1i), (bits >> vec4(31u)) != vec4(0u));
    return Fixed(vec4<i32>(high) * sign, vec4<i32>(low) * sign);
}

// Adds to a sum: |low|, |high| at most 2^30, so that nothing overflows on the way.
fn plus(sum: vec3<i32>, high: i32, low: i32) -> vec3<i32> {
    let x = sum.x + low;
    let y = sum.y + high + (x >> LIMB);
    return vec3(x & MASK, y & MASK, sum.z + (y >> LIMB));
}

// For every part of a cell the sums of some columns over those of its rows that are among `rows` rows from `first_row` on. An invocation
// per part and column.
@compute @workgroup_size(256)
fn part_sums(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let lane = (group.y * groups.x + group.x) * THREADS + t;
    if lane >= sums_params.count * sums_params.columns {
        return;
    }
    let part = sums_params.first + lane / sums_params.columns;
    let column = sums_params.column + lane % sums_params.columns;
    if part >= parts[sums_params.cells] {
        return;
    }
    // The cell: the last whose parts start at or before this one.
    var cell = 0u;
    var high_cell = sums_params.cells;
    while cell + 1u < high_cell {
        let middle = (cell + high_cell) / 2u;
        if parts[middle] <= part {
            cell = middle;
        } else {
            high_cell = middle;
        }
    }
    let begin = starts[cell] + (part - parts[cell]) * sums_params.length;
    let end = min(begin + sums_params.length, starts[cell] + sizes[cell]);
    let top = max(maxima[column] >> 23u, 1u);
    let out = (part * sums_params.columns + lane % sums_params.columns) * 3u;
    var sum = vec3(0i);
    if sums_params.add != 0u {
        sum = vec3(sums[out], sums[out + 1u], sums[out + 2u]);
    }
    for (var first = begin; first < end; first += CARRY) {
        let last = min(first + CARRY, end) - 1u;
        var high = vec4(0i);
        var low = vec4(0i);
        for (var i = first; i <= last; i += 4u) {
            // Four at a time, so that their loads are on their way together.
            let at = vec4(i, i + 1u, i + 2u, i + 3u);
            let near = min(at, vec4(last));
            let row = vec4(order[near.x], order[near.y], order[near.z], order[near.w]) - vec4(sums_params.first_row);
            let inside = (at <= vec4(last)) & (row < vec4(sums_params.rows));
            if !any(inside) {
                continue;
            }
            let place = select(vec4(0u), row, inside) * sums_params.dim + vec4(column);
            let bits = vec4(values[place.x], values[place.y], values[place.z], values[place.w]);
            let value = fixed(select(vec4(0u), bits, inside), top);
            high += value.high;
            low += value.low;
        }
        sum = plus(sum, high.x + high.y + high.z + high.w, low.x + low.y + low.z + low.w);
    }
    sums[out] = sum.x;
    sums[out + 1u] = sum.y;
    sums[out + 2u] = sum.z;
}

// One more limb of a quotient: the remainder, below the divisor and so below 2^31, with the limb behind it.
fn divide(remainder: u32, limb: u32, divisor: u32) -> vec2<u32> {
    var rest = remainder;
    var quotient = 0u;
    for (var b = 0u; b < LIMB; b++) {
        rest = rest * 2u + ((limb >> (LIMB - 1u - b)) & 1u);
        quotient *= 2u;
        if rest >= divisor {
            rest -= divisor;
            quotient += 1u;
        }
    }
    return vec2(quotient, rest);
}

// (high 2^23 + low) 2^(top - 172) as the bits of the nearest float, of two the even one.
fn float_bits(high: u32, low: u32, top: u32) -> u32 {
    if (high | low) == 0u {
        return 0u;
    }
    // The highest bit set.
    var bit = firstLeadingBit(low);
    if high > 0u {
        bit = LIMB + firstLeadingBit(high);
    }
    let exponent = max(i32(bit + top) - 45, 1);
    // At most 22: from 46 bits to 24, or fewer below the normal floats, where top is at least 1.
    let shift = exponent + 22 - i32(top);
    var mantissa: u32;
    if shift <= 0 {
        mantissa = ((high << LIMB) | low) << u32(-shift);
    } else {
        let s = u32(shift);
        mantissa = (high << (LIMB - s)) | (low >> s);
        let rest = low & ((1u << s) - 1u);
        let half = 1u << (s - 1u);
        if rest > half || (rest == half && (mantissa & 1u) == 1u) {
            mantissa += 1u;
        }
    }
    // The leading bit of the mantissa, where it has one, adds one to the exponent.
    return (u32(exponent - 1) << 23u) + mantissa;
}

// The mean of some columns of each cell's kept rows, zero where there are none: the sum of its parts over their number. An invocation per
// cell and column.
@compute @workgroup_size(256)
fn cell_means(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let lane = (group.y * groups.x + group.x) * THREADS + t;
    if lane >= means_params.count * means_params.columns {
        return;
    }
    let cell = means_params.first + lane / means_params.columns;
    let within = lane % means_params.columns;
    let column = means_params.column + within;
    var bits = 0u;
    let count = sizes[cell];
    if count > 0u {
        var sum = vec3(0i);
        for (var part = parts[cell]; part < parts[cell + 1u]; part++) {
            let at = (part * means_params.columns + within) * 3u;
            sum = plus(sum, sums[at + 1u], sums[at]);
            sum.z += sums[at + 2u];
        }
        let negative = sum.z < 0;
        if negative {
            sum = plus(vec3(0i, 0i, -sum.z), -sum.y, -sum.x);
        }
        // No value reaches 2^46, so the highest limb is below the number of rows.
        let high = divide(u32(sum.z), u32(sum.y), count);
        let low = divide(high.y, u32(sum.x), count);
        bits = float_bits(high.x, low.x, max(maxima[column] >> 23u, 1u));
        if negative {
            bits |= 0x80000000u;
        }
    }
    means[(cell - means_params.part) * means_params.dim + column] = bits;
}
