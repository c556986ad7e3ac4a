// What goes before and after the search for the nearest anchors: their lengths; one answer of several splits; distances and energy.
struct SettleParams {
    row0: u32,      // of the rows bound: the first to take
    rows: u32,      // how many
    first: u32,     // its number among all rows
    d: u32,
    splits: u32,
    all_rows: u32,
    candidate: u32,
    candidates: u32,
    anchor0: u32,   // the number of the first anchor bound
    anchors: u32,   // how many are bound
    _pad0: u32,
    _pad1: u32,
}

@group(0) @binding(0) var<uniform> params: SettleParams;
@group(0) @binding(1) var<storage, read> rows: array<f32>;
@group(0) @binding(2) var<storage, read> anchors: array<f32>;
@group(0) @binding(3) var<storage, read> found: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read_write> labels: array<u32>;
@group(0) @binding(5) var<storage, read_write> floors: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read_write> values: array<f32>;
@group(0) @binding(7) var<storage, read> distances_found: array<f32>;

// Invocations that measure a row together, and rows of a group.
const LANES = 32u;
const GROUP_ROWS = 8u;

var<workgroup> sums: array<f32, 256>;

// Adds up what each LANES invocations have, as a tree.
fn add_lanes(invocation: u32, value: f32) {
    sums[invocation] = value;
    for (var step = LANES / 2u; step > 0u; step /= 2u) {
        workgroupBarrier();
        if invocation % LANES < step {
            sums[invocation] += sums[invocation + step];
        }
    }
}

// Half of the squared length of each anchor (values), which are the rows bound.
@compute @workgroup_size(256)
fn half_lengths(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let row = group.x * GROUP_ROWS + invocation / LANES;
    var total = 0.0;
    if row < params.anchors {
        for (var k = invocation % LANES; k < params.d; k += LANES) {
            let x = anchors[row * params.d + k];
            total = fma(x, x, total);
        }
    }
    add_lanes(invocation, total);
    if invocation % LANES == 0u && row < params.anchors {
        values[params.anchor0 + row] = 0.5 * sums[invocation];
    }
}

// One candidate of each row: the best of the splits, of equally good ones the lowest.
@compute @workgroup_size(256)
fn settle(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    for (var row = id.x; row < params.all_rows; row += groups.x * 256u) {
        var best = found[row];
        for (var s = 1u; s < params.splits; s++) {
            // Splits are in the order of their anchors.
            let other = found[s * params.all_rows + row];
            if bitcast<f32>(other.x) < bitcast<f32>(best.x) {
                best = other;
            }
        }
        labels[row * params.candidates + params.candidate] = best.y;
        floors[row] = best;
    }
}

// Squared distance of every row to its nearest anchor, measured directly: the expanded form cancels where they are close.
@compute @workgroup_size(256)
fn distances(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let row = group.x * GROUP_ROWS + invocation / LANES;
    var total = 0.0;
    var anchor = params.anchors;
    if row < params.rows {
        // Anchors below the first wrap around to numbers above all.
        anchor = labels[(params.first + row) * params.candidates] - params.anchor0;
    }
    if anchor < params.anchors {
        let x = (params.row0 + row) * params.d;
        for (var k = invocation % LANES; k < params.d; k += LANES) {
            let e = rows[x + k] - anchors[anchor * params.d + k];
            total = fma(e, e, total);
        }
    }
    add_lanes(invocation, total);
    if invocation % LANES == 0u && anchor < params.anchors {
        values[params.first + row] = sums[invocation];
    }
}

// Sums of LANES distances each, as many as there are (values).
@compute @workgroup_size(256)
fn energy(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    for (var first = group.x * 256u; first < params.all_rows; first += groups.x * 256u) {
        let row = first + invocation;
        var value = 0.0;
        if row < params.all_rows {
            value = distances_found[row];
        }
        add_lanes(invocation, value);
        if invocation % LANES == 0u && row < params.all_rows {
            values[row / LANES] = sums[invocation];
        }
        workgroupBarrier();
    }
}
