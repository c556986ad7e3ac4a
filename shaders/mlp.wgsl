// The residual network: rows through its layers, slopes back, and what is missing. Follows shared/mlp_product.wgsl.

struct MlpRowsParams {
    count: u32,
    width: u32,
    first: u32,     // of the rows bound, or of the moves: the first to take
    listed: u32,    // whether there are moves
}

@group(0) @binding(0) var<uniform> rows_params: MlpRowsParams;

// forward
@group(0) @binding(3) var<storage, read_write> outputs: array<f32>;
@group(0) @binding(4) var<storage, read_write> activated: array<f32>;
// forward_last; aim and misses too read what is missing
@group(0) @binding(3) var<storage, read> missing: array<f32>;
@group(0) @binding(4) var<storage, read_write> slopes: array<f32>;
// backward
@group(0) @binding(3) var<storage, read> outputs_before: array<f32>;
@group(0) @binding(4) var<storage, read_write> slopes_before: array<f32>;
// aim; gather too takes the scale and the rows
@group(0) @binding(4) var<storage, read> input_scale: array<f32>;
@group(0) @binding(5) var<storage, read> rows: array<f32>;
@group(0) @binding(6) var<storage, read> damp: array<f32>;
@group(0) @binding(7) var<storage, read_write> aimed: array<f32>;
// gather
@group(0) @binding(1) var<storage, read> targets: array<f32>;
// Of each copy: the row it is of, and where it goes.
@group(0) @binding(2) var<storage, read> moves: array<u32>;
@group(0) @binding(6) var<storage, read_write> scaled: array<f32>;
@group(0) @binding(7) var<storage, read_write> differences: array<f32>;
// misses
@group(0) @binding(4) var<storage, read_write> squares: array<f32>;

// Invocations for each row that is measured.
const LANES = 32u;
const GROUP_ROWS = 8u;

var<workgroup> sums: array<f32, 256>;

// What goes into the network, and what is missing before it. A group for each row.
@compute @workgroup_size(64)
fn gather(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let params = rows_params;
    for (var i = group.x; i < params.count; i += groups.x) {
        var row = params.first + i;
        var to = i;
        if params.listed != 0u {
            to = moves[2u * row + 1u];
            row = moves[2u * row];
        }
        for (var k = invocation; k < params.width; k += 64u) {
            let y = rows[row * params.width + k];
            scaled[to * params.width + k] = y * input_scale[k];
            differences[to * params.width + k] = targets[row * params.width + k] - y;
        }
    }
}

fn write_forward(row: u32, column0: u32, values: vec4<f32>) {
    let params = mlp_params;
    for (var j = 0u; j < 4u; j++) {
        let column = column0 + j;
        if row < params.rows && column < params.columns {
            let at = row * params.columns + column;
            let z = values[j] + right_rows[params.columns * params.depth + column];
            outputs[at] = z;
            activated[at] = z * clamp(z + 3.0, 0.0, 6.0) * (1.0 / 6.0);
        }
    }
}

// Rows through a layer and the activation behind it. In all kernels a group is for a tile of rows (x) and of columns (y).
@compute @workgroup_size(256)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    multiply(invocation, group.x * SIDE, group.y * SIDE, 0u, mlp_params.depth);
    let row = group.x * SIDE + invocation / 16u * 4u;
    let column = group.y * SIDE + invocation % 16u * 4u;
    write_forward(row, column, p0);
    write_forward(row + 1u, column, p1);
    write_forward(row + 2u, column, p2);
    write_forward(row + 3u, column, p3);
}

fn write_last(row: u32, column0: u32, values: vec4<f32>) {
    let params = mlp_params;
    for (var j = 0u; j < 4u; j++) {
        let column = column0 + j;
        if row < params.rows && column < params.columns {
            let at = row * params.columns + column;
            slopes[at] = params.scale * (missing[at] - (values[j] + right_rows[params.columns * params.depth + column]));
        }
    }
}

// Rows through the last layer: what is missing after it, times the scale.
@compute @workgroup_size(256)
fn forward_last(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    multiply(invocation, group.x * SIDE, group.y * SIDE, 0u, mlp_params.depth);
    let row = group.x * SIDE + invocation / 16u * 4u;
    let column = group.y * SIDE + invocation % 16u * 4u;
    write_last(row, column, p0);
    write_last(row + 1u, column, p1);
    write_last(row + 2u, column, p2);
    write_last(row + 3u, column, p3);
}

fn act_slope(z: f32) -> f32 {
    if z <= -3.0 {
        return 0.0;
    }
    if z >= 3.0 {
        return 1.0;
    }
    return (2.0 * z + 3.0) * (1.0 / 6.0);
}

fn write_backward(row: u32, column0: u32, values: vec4<f32>) {
    let params = mlp_params;
    for (var j = 0u; j < 4u; j++) {
        let column = column0 + j;
        if row < params.rows && column < params.columns {
            let at = row * params.columns + column;
            slopes_before[at] = values[j] * act_slope(outputs_before[at]);
        }
    }
}

// Slopes at the outputs of a layer, to those at the outputs of the layer before.
@compute @workgroup_size(256)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    multiply(invocation, group.x * SIDE, group.y * SIDE, 0u, mlp_params.depth);
    let row = group.x * SIDE + invocation / 16u * 4u;
    let column = group.y * SIDE + invocation % 16u * 4u;
    write_backward(row, column, p0);
    write_backward(row + 1u, column, p1);
    write_backward(row + 2u, column, p2);
    write_backward(row + 3u, column, p3);
}

fn write_aim(row: u32, column0: u32, values: vec4<f32>) {
    let params = mlp_params;
    for (var j = 0u; j < 4u; j++) {
        let column = column0 + j;
        if row < params.rows && column < params.columns {
            let at = (params.first + row) * params.columns + column;
            let back = missing[row * params.columns + column] + input_scale[column] * values[j];
            aimed[at] = rows[at] + damp[params.first + row] * back;
        }
    }
}

// Slopes at the outputs of the first layer, to where the rows should aim.
@compute @workgroup_size(256)
fn aim(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    multiply(invocation, group.x * SIDE, group.y * SIDE, 0u, mlp_params.depth);
    let row = group.x * SIDE + invocation / 16u * 4u;
    let column = group.y * SIDE + invocation % 16u * 4u;
    write_aim(row, column, p0);
    write_aim(row + 1u, column, p1);
    write_aim(row + 2u, column, p2);
    write_aim(row + 3u, column, p3);
}

// The squared length of what is missing of each row.
@compute @workgroup_size(256)
fn misses(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let params = rows_params;
    let row = group.x * GROUP_ROWS + invocation / LANES;
    let lane = invocation % LANES;
    var sum = 0.0;
    if row < params.count {
        for (var k = lane; k < params.width; k += LANES) {
            let e = missing[row * params.width + k];
            sum = fma(e, e, sum);
        }
    }
    sums[invocation] = sum;
    workgroupBarrier();
    for (var far = LANES / 2u; far > 0u; far /= 2u) {
        if lane < far {
            sums[invocation] += sums[invocation + far];
        }
        workgroupBarrier();
    }
    if lane == 0u && row < params.count {
        squares[params.first + row] = sums[invocation];
    }
}
