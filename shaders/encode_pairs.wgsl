// The exact search of chain codes of up to two lags. Follows shared/encode.wgsl.
const TAG = 4u;            // bits below a cost
const CUT = 16777216.0;    // what a symbol may cost alone, 2^24: no choice that is dearer is on the best path
// Costs are lowered every so many steps, by the least of them. In between that grows by at most 2^24 a step, and what is 2^24 above it
// does not matter, so costs below 2^27 are kept apart.
const LOWERED = 4u;
const MOST = 0x80000000u;

// Of each row, what its next AHEAD symbols cost alone, 16 values each, and the least of each four of these.
var<workgroup> own: array<vec4<f32>, ROWS * AHEAD * 4>;
var<workgroup> own_least: array<f32, ROWS * AHEAD * 4>;
// Of each lane the least cost, with p in its lowest bits: when costs are lowered, and at the end.
var<workgroup> lows: array<u32, ROWS * LANES>;
var<workgroup> ends: array<u32, ROWS * LANES>;

// What the symbols from t0 on cost alone. Four lanes for each of eight symbols.
fn prepare(at: Trial, t0: u32) {
    let four = at.lane % 4u;
    let fours = (params.lags + 1u) * 4u;
    for (var i = at.lane / 4u; i < AHEAD; i += LANES / 4u) {
        let t = t0 + i;
        var sum = vec4(0.0);
        if t < params.symbols {
            sum = bitcast<vec4<f32>>(shared_tables[params.alone + t * 4u + four]);
            // The directions that the symbol reaches with a lag.
            let reached = min(params.lags, params.symbols - 1u - t);
            for (var lag = 0u; lag <= reached; lag++) {
                let to = offset(t + lag + 1u);
                for (var v = offset(t + lag); v < to; v++) {
                    sum += (-2.0 * residual(at, v)) * tables[v * fours + lag * 4u + four];
                }
            }
        }
        let place = (at.slot * AHEAD + i) * 4u + four;
        own[place] = sum;
        own_least[place] = min(min(sum.x, sum.y), min(sum.z, sum.w));
    }
}

// The least cost of coming to a pair, over the four fours of costs of its p; `turn` is the order these stand in.
fn cheapest(start: u32, turn: u32, a: vec4<u32>, b: vec4<u32>, c: vec4<u32>, d: vec4<u32>) -> u32 {
    let four = min(
        min(costs[start + turn] + a, costs[start + (1u ^ turn)] + b),
        min(costs[start + (2u ^ turn)] + c, costs[start + (3u ^ turn)] + d),
    );
    let two = min(four.xy, four.zw);
    return min(two.x, two.y);
}

// Leaves where the paths came from in the scratch; returns the last two symbols of the best, the last first.
fn search_pairs(at: Trial) -> vec2<u32> {
    let s = at.lane % STATES;
    let part = at.lane / STATES;
    let turn = s / 2u % 4u;
    // The lane's p are those of its part.
    let p0 = vec4(0u, 1u, 2u, 3u) + part * 8u;
    let p1 = p0 + 4u;
    let base = at.slot * 128u;
    costs[base + at.lane] = vec4(0u);
    costs[base + LANES + at.lane] = vec4(0u);
    var lowered = 0u;
    for (var t = 0u; t < params.symbols; t++) {
        let ahead = t % AHEAD;
        if ahead == 0u {
            prepare(at, t);
            workgroupBarrier();
        }
        let place = (at.slot * AHEAD + ahead) * 4u;
        let least = min(min(own_least[place], own_least[place + 1u]), min(own_least[place + 2u], own_least[place + 3u]));
        let alone = own[place + s / 4u][s % 4u];
        let mine = (u32(min((alone - least) * params.scale + 0.5, CUT)) << TAG) - lowered;
        let far = params.far + t * 64u + s;
        let a = shared_tables[far];
        let b = shared_tables[far + 16u];
        let c = shared_tables[far + 32u];
        let d = shared_tables[far + 48u];
        let near = params.near + t * 64u + at.lane;
        let start = base + t % 2u * 64u + part * 32u;
        var best0 = vec4(
            cheapest(start, 0u, a, b, c, d),
            cheapest(start + 4u, 0u, a, b, c, d),
            cheapest(start + 8u, 1u, a, b, c, d),
            cheapest(start + 12u, 1u, a, b, c, d),
        );
        var best1 = vec4(
            cheapest(start + 16u, 2u, a, b, c, d),
            cheapest(start + 20u, 2u, a, b, c, d),
            cheapest(start + 24u, 3u, a, b, c, d),
            cheapest(start + 28u, 3u, a, b, c, d),
        );
        let tags = ((best0 & vec4(15u)) << vec4(0u, 4u, 8u, 12u)) | ((best1 & vec4(15u)) << vec4(16u, 20u, 24u, 28u));
        scratch[at.scratch + t * LANES + at.lane] = tags.x | tags.y | tags.z | tags.w;
        // No cost can have been lower than the least before.
        best0 = min((best0 & vec4(~15u)) + shared_tables[near] + mine, vec4(MOST));
        best1 = min((best1 & vec4(~15u)) + shared_tables[near + LANES] + mine, vec4(MOST));
        let to = base + (t + 1u) % 2u * 64u + s * 4u;
        costs[to + ((2u * part) ^ turn)] = best0;
        costs[to + ((2u * part + 1u) ^ turn)] = best1;
        lowered = 0u;
        let lower = t % LOWERED == LOWERED - 1u;
        let last = t + 1u == params.symbols;
        if lower || last {
            let four = min(best0 | p0, best1 | p1);
            let low = min(min(four.x, four.y), min(four.z, four.w));
            if lower {
                lows[at.slot * LANES + at.lane] = low;
            }
            if last {
                ends[at.slot * LANES + at.lane] = low;
            }
        }
        workgroupBarrier();
        if lower {
            var low = MOST;
            for (var i = at.slot * LANES; i < at.slot * LANES + 8u; i++) {
                low = min(low, min(min(lows[i], lows[i + 8u]), min(lows[i + 16u], lows[i + 24u])));
            }
            lowered = low & ~15u;
        }
    }
    // The best last pair, of equally good ones the lowest last symbol, then the lowest before it.
    var end = vec2(0u);
    var low = 0xFFFFFFFFu;
    if params.symbols > 0u {
        for (var i = 0u; i < STATES; i++) {
            let word = min(ends[at.slot * LANES + i], ends[at.slot * LANES + STATES + i]);
            if (word >> TAG) < (low >> TAG) {
                low = word;
                end = vec2(i, word & 15u);
            }
        }
    }
    return end;
}

// The squared error of the codeword, whose symbols it leaves in the scratch.
fn search(at: Trial) -> f32 {
    return trace(at, search_pairs(at), false);
}

@compute @workgroup_size(ROWS * LANES)
fn encode_pairs(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    encode(invocation, group.x);
}
