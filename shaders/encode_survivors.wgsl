// The search of chain codes of more than two lags: 16 states with four survivors each, that carry their own past (per-survivor processing,
// Raheli et al., 1995). Follows shared/encode.wgsl.

// The squared error of each survivor so far, and its symbols, the last one lowest; four survivors of a state together.
var<workgroup> path_costs: array<vec4<f32>, ROWS * STATES>;
var<workgroup> pasts: array<vec4<u32>, ROWS * STATES>;
// What the survivors' pasts give in two directions.
var<workgroup> given: array<vec4<f32>, ROWS * 2 * STATES>;
// The best ways to a symbol of the second half of the states.
var<workgroup> other_costs: array<vec4<f32>, ROWS * STATES>;
var<workgroup> other_paths: array<vec4<u32>, ROWS * STATES>;

// The best ways to a symbol so far, best first, and the path that each continues.
struct Ways {
    cost: vec4<f32>,
    path: vec4<u32>,
}

fn insert(ways: Ways, cost: f32, path: u32) -> Ways {
    let lower = vec4(cost) < ways.cost;
    let before = vec4(false, lower.xyz);
    return Ways(
        select(ways.cost, select(vec4(cost), ways.cost.xxyz, before), lower),
        select(ways.path, select(vec4(path), ways.path.xxyz, before), lower),
    );
}

// Inserts the best of a state's four survivors, of equally good ones the first.
fn insert_best(ways: Ways, cost: vec4<f32>, path: u32) -> Ways {
    let right = vec2(cost.y < cost.x, cost.w < cost.z);
    let two = select(cost.xz, cost.yw, right);
    let places = select(vec2(0u, 2u), vec2(1u, 3u), right);
    let last = two.y < two.x;
    return insert(ways, select(two.x, two.y, last), path + select(places.x, places.y, last));
}

// What the symbols before t give in direction v to the four survivors of a state.
fn past_values(past: vec4<u32>, t: u32, v: u32) -> vec4<f32> {
    var value = vec4(0.0);
    var start = v * (params.lags + 1u) * STATES;
    for (var lag = 0u; lag < min(params.lags, t); lag++) {
        start += STATES;
        let symbols = (past >> vec4(4u * lag)) & vec4(15u);
        value += vec4(
            table(start + symbols.x),
            table(start + symbols.y),
            table(start + symbols.z),
            table(start + symbols.w),
        );
    }
    return value;
}

// Leaves the paths continued in the scratch; returns the last state and survivor of the best.
fn search_survivors(at: Trial) -> vec2<u32> {
    let s = at.lane % STATES;
    let part = at.lane / STATES;
    let own = at.slot * STATES + s;
    // The states that this lane looks at.
    let before = at.slot * STATES + part * 8u;
    if part == 0u {
        path_costs[own] = vec4(select(HUGE, 0.0, s == 0u), HUGE, HUGE, HUGE);
        pasts[own] = vec4(0u);
    }
    for (var t = 0u; t < params.symbols; t++) {
        workgroupBarrier();
        let past = pasts[own];
        var c0 = path_costs[before];
        var c1 = path_costs[before + 1u];
        var c2 = path_costs[before + 2u];
        var c3 = path_costs[before + 3u];
        var c4 = path_costs[before + 4u];
        var c5 = path_costs[before + 5u];
        var c6 = path_costs[before + 6u];
        var c7 = path_costs[before + 7u];
        let to = offset(t + 1u);
        // Two directions at a time, one for each half of the lanes.
        for (var v = offset(t); v < to; v += 2u) {
            let both = v + 1u < to;
            workgroupBarrier();
            if part == 0u || both {
                given[(at.slot * 2u + part) * STATES + s] = past_values(past, t, v + part);
            }
            workgroupBarrier();
            for (var i = 0u; i < select(1u, 2u, both); i++) {
                let left = vec4(residual(at, v + i) - table((v + i) * (params.lags + 1u) * STATES + s));
                let place = (at.slot * 2u + i) * STATES + part * 8u;
                let e0 = left - given[place];
                let e1 = left - given[place + 1u];
                let e2 = left - given[place + 2u];
                let e3 = left - given[place + 3u];
                let e4 = left - given[place + 4u];
                let e5 = left - given[place + 5u];
                let e6 = left - given[place + 6u];
                let e7 = left - given[place + 7u];
                c0 += e0 * e0;
                c1 += e1 * e1;
                c2 += e2 * e2;
                c3 += e3 * e3;
                c4 += e4 * e4;
                c5 += e5 * e5;
                c6 += e6 * e6;
                c7 += e7 * e7;
            }
        }
        var ways = Ways(vec4(HUGE), vec4(0u));
        let path = part * 32u;
        ways = insert_best(ways, c0, path);
        ways = insert_best(ways, c1, path + 4u);
        ways = insert_best(ways, c2, path + 8u);
        ways = insert_best(ways, c3, path + 12u);
        ways = insert_best(ways, c4, path + 16u);
        ways = insert_best(ways, c5, path + 20u);
        ways = insert_best(ways, c6, path + 24u);
        ways = insert_best(ways, c7, path + 28u);
        if part == 1u {
            other_costs[own] = ways.cost;
            other_paths[own] = ways.path;
        }
        workgroupBarrier();
        var history = vec4(0u);
        if part == 0u {
            let cost = other_costs[own];
            let paths = other_paths[own];
            ways = insert(ways, cost.x, paths.x);
            ways = insert(ways, cost.y, paths.y);
            ways = insert(ways, cost.z, paths.z);
            ways = insert(ways, cost.w, paths.w);
            let first = at.slot * STATES;
            history = vec4(
                pasts[first + ways.path.x / 4u][ways.path.x % 4u],
                pasts[first + ways.path.y / 4u][ways.path.y % 4u],
                pasts[first + ways.path.z / 4u][ways.path.z % 4u],
                pasts[first + ways.path.w / 4u][ways.path.w % 4u],
            );
        }
        workgroupBarrier();
        if part == 0u {
            path_costs[own] = ways.cost;
            pasts[own] = (history << vec4(4u)) | vec4(s);
            let paths = ways.path << vec4(0u, 8u, 16u, 24u);
            scratch[at.scratch + t * LANES + s] = paths.x | paths.y | paths.z | paths.w;
        }
    }
    workgroupBarrier();
    var state = 0u;
    for (var i = 1u; i < STATES; i++) {
        if path_costs[at.slot * STATES + i].x < path_costs[at.slot * STATES + state].x {
            state = i;
        }
    }
    return vec2(state, 0u);
}

// The squared error of the codeword, whose symbols it leaves in the scratch.
fn search(at: Trial) -> f32 {
    return trace(at, search_survivors(at), true);
}

@compute @workgroup_size(ROWS * LANES)
fn encode_survivors(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    encode(invocation, group.x);
}
