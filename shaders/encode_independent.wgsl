// pq8, where every subspace has the nearest codeword of its own; and the lengths of decoded rows of any code. Follows shared/encode.wgsl.

const BATCH = 16u;   // symbols that are decided together
const PITCH = 33u;   // LANES and what is decided

// Of each symbol of a batch the least cost of each lane, and its codeword.
var<workgroup> nearest_costs: array<f32, ROWS * BATCH * PITCH>;
var<workgroup> nearest: array<u32, ROWS * BATCH * PITCH>;

// Four costs, the first of which is that of codeword `code`: the least cost with its codeword, of equally low ones the first.
struct Least {
    cost: f32,
    code: u32,
}

fn least_of(cost: vec4<f32>, code: u32) -> Least {
    let right = vec2(cost.y < cost.x, cost.w < cost.z);
    let two = select(cost.xz, cost.yw, right);
    let places = select(vec2(0u, 2u), vec2(1u, 3u), right);
    let last = two.y < two.x;
    return Least(select(two.x, two.y, last), code + select(places.x, places.y, last));
}

// Leaves the symbols in the scratch and returns the squared error.
fn search(at: Trial) -> f32 {
    let words = at.scratch + params.scratch_words - params.words;
    var error = 0.0;
    for (var t0 = 0u; t0 < params.symbols; t0 += BATCH) {
        let count = min(BATCH, params.symbols - t0);
        for (var i = 0u; i < count; i++) {
            var cost0 = vec4(0.0);
            var cost1 = vec4(0.0);
            let to = offset(t0 + i + 1u);
            for (var v = offset(t0 + i); v < to; v++) {
                let y = vec4(residual(at, v));
                let e0 = y - tables[v * 64u + at.lane];
                let e1 = y - tables[v * 64u + LANES + at.lane];
                cost0 += e0 * e0;
                cost1 += e1 * e1;
            }
            let low = least_of(cost0, 4u * at.lane);
            let high = least_of(cost1, 128u + 4u * at.lane);
            let place = (at.slot * BATCH + i) * PITCH + at.lane;
            nearest_costs[place] = select(low.cost, high.cost, high.cost < low.cost);
            nearest[place] = select(low.code, high.code, high.cost < low.cost);
        }
        workgroupBarrier();
        let own = (at.slot * BATCH + at.lane) * PITCH;
        if at.lane < count {
            var cost = nearest_costs[own];
            var code = nearest[own];
            for (var i = 1u; i < LANES; i++) {
                let other = nearest_costs[own + i];
                let place = nearest[own + i];
                if other < cost || (other == cost && place < code) {
                    cost = other;
                    code = place;
                }
            }
            error += cost;
            nearest[own + LANES] = code;
        }
        workgroupBarrier();
        let k = t0 / 4u + at.lane % (BATCH / 4u);
        // The lane that copies the word later.
        if at.lane == k % LANES && k < params.words {
            let decided = (at.slot * BATCH + 4u * (k % (BATCH / 4u))) * PITCH + LANES;
            let some = params.symbols - 4u * k;
            var word = nearest[decided];
            if some > 1u {
                word |= nearest[decided + PITCH] << 8u;
            }
            if some > 2u {
                word |= nearest[decided + 2u * PITCH] << 16u;
            }
            if some > 3u {
                word |= nearest[decided + 3u * PITCH] << 24u;
            }
            scratch[words + k] = word;
        }
    }
    return row_sum(at, error);
}

@compute @workgroup_size(ROWS * LANES)
fn encode_independent(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    encode(invocation, group.x);
}

@group(0) @binding(6) var<storage, read_write> decoded: array<f32>;

// Anchor plus codeword of every row.
@compute @workgroup_size(ROWS * LANES)
fn codewords(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let count = params.rows * params.directions;
    // Symbols of a word, and bits of each.
    let many = select(4u, 8u, params.alphabet == STATES);
    let bits = 32u / many;
    for (var i = id.x; i < count; i += groups.x * ROWS * LANES) {
        let row = i / params.directions;
        let v = i % params.directions;
        let own = params.found0 + row * (params.words + 2u);
        let t = shared_word(params.symbol_of + v);
        var value = anchors[found[own] * params.directions + v];
        var start = v * (params.lags + 1u) * params.alphabet;
        for (var lag = 0u; lag <= min(params.lags, t); lag++) {
            let place = t - lag;
            let symbol = found[own + 2u + place / many] >> (bits * (place % many));
            value += table(start + (symbol & (params.alphabet - 1u)));
            start += params.alphabet;
        }
        decoded[params.row0 * params.directions + i] = value;
    }
}

struct LengthsParams {
    rows: u32,
    directions: u32,
    row0: u32,      // the first of the rows bound
    constant: f32,
}

@group(0) @binding(0) var<uniform> lengths_params: LengthsParams;
@group(0) @binding(1) var<storage, read> coordinates: array<f32>;
@group(0) @binding(2) var<storage, read> products: array<f32>;
@group(0) @binding(3) var<storage, read> slope: array<f32>;
@group(0) @binding(4) var<storage, read_write> row_lengths: array<f32>;

// sqrt(max(0, constant + <p + slope, y>)) for rows y and p.
@compute @workgroup_size(ROWS * LANES)
fn lengths(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let lane = invocation % LANES;
    for (var first = group.x * ROWS; first < lengths_params.rows; first += groups.x * ROWS) {
        let own = first + invocation / LANES;
        let row = lengths_params.row0 + min(own, lengths_params.rows - 1u);
        var total = 0.0;
        for (var v = lane; v < lengths_params.directions; v += LANES) {
            let at = row * lengths_params.directions + v;
            total += (products[at] + slope[v]) * coordinates[at];
        }
        total = row_sum(Trial(lane, invocation / LANES, 0u, 0u, 0u), total);
        if lane == 0u && own < lengths_params.rows {
            row_lengths[row] = sqrt(max(lengths_params.constant + total, 0.0));
        }
    }
}
