// Products of the residual network, a tile of SIDE by SIDE by 256 invocations, 4 by 4 for each: smaller than those of product.wgsl,
// as a batch and a layer would not make enough of these to fill a device. Either operand may stand column by column.
struct MlpParams {
    rows: u32,      // of the product
    columns: u32,
    depth: u32,     // products that are added for each of its values
    each: u32,      // of them, those of a group (z), a multiple of DEPTH
    first: u32,     // of the rows bound: the first to take
    add: u32,       // whether there are gradients to add to
    scale: f32,     // of what is missing
    _pad0: u32,
}

@group(0) @binding(0) var<uniform> mlp_params: MlpParams;
// rows x depth, or depth x rows.
@group(0) @binding(1) var<storage, read> left: array<f32>;
// columns x depth, or depth x columns. Behind the weights of a layer, outputs x inputs, are its biases.
@group(0) @binding(2) var<storage, read> right: array<f32>;

// forward
@group(0) @binding(3) var<storage, read_write> outputs: array<f32>;
@group(0) @binding(4) var<storage, read_write> activated: array<f32>;
// forward_last; aim too reads what is missing
@group(0) @binding(3) var<storage, read> missing: array<f32>;
@group(0) @binding(4) var<storage, read_write> slopes: array<f32>;
// backward
@group(0) @binding(3) var<storage, read> outputs_before: array<f32>;
@group(0) @binding(4) var<storage, read_write> slopes_before: array<f32>;
// aim
@group(0) @binding(4) var<storage, read> input_scale: array<f32>;
@group(0) @binding(5) var<storage, read> rows: array<f32>;
@group(0) @binding(6) var<storage, read> damp: array<f32>;
@group(0) @binding(7) var<storage, read_write> aimed: array<f32>;
// gradient: of each split, of the weights and behind them of the biases
@group(0) @binding(3) var<storage, read_write> gradients: array<f32>;

// Which operands stand column by column.
override LEFT_DOWN: bool = false;
override RIGHT_DOWN: bool = false;
// Whether the right one, which stands column by column, has a column of ones behind its last.
override ONES: bool = false;

const SIDE = 64u;
const DEPTH = 16u;
const PLANE = 256u;  // fours of a slice of DEPTH columns of SIDE rows

// Two slices of both operands, by column: while one is multiplied the next is brought.
var<workgroup> left_tile: array<vec4<f32>, 512>;
var<workgroup> right_tile: array<vec4<f32>, 512>;

// The products of an invocation: four columns of each of its rows. Named one by one, as an array would not be kept in registers
// everywhere.
var<private> p0: vec4<f32>;
var<private> p1: vec4<f32>;
var<private> p2: vec4<f32>;
var<private> p3: vec4<f32>;

// Where four rows of column k stand. Columns are moved by eight banks for each four, as the four invocations that bring a row write
// columns four apart at once.
fn place(slice: u32, k: u32, four: u32) -> u32 {
    return slice * PLANE + k * (SIDE / 4u) + (four ^ (k / 4u * 2u));
}

// Four values from `at` on, of which those before `end` are there; zeros for others.
fn left_four(at: u32, end: u32) -> vec4<f32> {
    if at + 3u < end {
        return vec4(left[at], left[at + 1u], left[at + 2u], left[at + 3u]);
    }
    var out = vec4<f32>();
    if at < end {
        out.x = left[at];
    }
    if at + 1u < end {
        out.y = left[at + 1u];
    }
    if at + 2u < end {
        out.z = left[at + 2u];
    }
    return out;
}

fn right_four(at: u32, end: u32) -> vec4<f32> {
    if at + 3u < end {
        return vec4(right[at], right[at + 1u], right[at + 2u], right[at + 3u]);
    }
    var out = vec4<f32>();
    if at < end {
        out.x = right[at];
    }
    if at + 1u < end {
        out.y = right[at + 1u];
    }
    if at + 2u < end {
        out.z = right[at + 2u];
    }
    return out;
}

// What an invocation brings of a slice: the row and first column of four values in a line, or the column and first row of four below
// each other.
fn bring_left(invocation: u32, row0: u32, k0: u32, k_end: u32) -> vec4<f32> {
    let params = mlp_params;
    if LEFT_DOWN {
        let k = k0 + invocation / 16u;
        if k >= k_end {
            return vec4<f32>();
        }
        return left_four(k * params.rows + row0 + invocation % 16u * 4u, (k + 1u) * params.rows);
    }
    let row = row0 + invocation / 4u;
    if row >= params.rows {
        return vec4<f32>();
    }
    return left_four(row * params.depth + k0 + invocation % 4u * 4u, row * params.depth + k_end);
}

fn bring_right(invocation: u32, column0: u32, k0: u32, k_end: u32) -> vec4<f32> {
    let params = mlp_params;
    if RIGHT_DOWN {
        let k = k0 + invocation / 16u;
        if k >= k_end {
            return vec4<f32>();
        }
        let column = column0 + invocation % 16u * 4u;
        var values = right_four(k * params.columns + column, (k + 1u) * params.columns);
        if ONES && column <= params.columns && params.columns < column + 4u {
            values[params.columns - column] = 1.0;
        }
        return values;
    }
    let column = column0 + invocation / 4u;
    if column >= params.columns {
        return vec4<f32>();
    }
    return right_four(column * params.depth + k0 + invocation % 4u * 4u, column * params.depth + k_end);
}

fn put(slice: u32, invocation: u32, x: vec4<f32>, y: vec4<f32>) {
    let down = place(slice, invocation / 16u, invocation % 16u);
    let four = invocation / 16u;
    let within = invocation / 4u % 4u;
    let k = invocation % 4u * 4u;
    if LEFT_DOWN {
        left_tile[down] = x;
    } else {
        left_tile[place(slice, k, four)][within] = x.x;
        left_tile[place(slice, k + 1u, four)][within] = x.y;
        left_tile[place(slice, k + 2u, four)][within] = x.z;
        left_tile[place(slice, k + 3u, four)][within] = x.w;
    }
    if RIGHT_DOWN {
        right_tile[down] = y;
    } else {
        right_tile[place(slice, k, four)][within] = y.x;
        right_tile[place(slice, k + 1u, four)][within] = y.y;
        right_tile[place(slice, k + 2u, four)][within] = y.z;
        right_tile[place(slice, k + 3u, four)][within] = y.w;
    }
}

// The products of a tile, of columns k0 to k_end. All invocations of a group come here together, and leave together.
fn multiply(invocation: u32, row0: u32, column0: u32, k0: u32, k_end: u32) {
    p0 = vec4<f32>();
    p1 = vec4<f32>();
    p2 = vec4<f32>();
    p3 = vec4<f32>();
    put(0u, invocation, bring_left(invocation, row0, k0, k_end), bring_right(invocation, column0, k0, k_end));
    workgroupBarrier();
    let steps = (k_end - k0 + DEPTH - 1u) / DEPTH;
    for (var step = 0u; step < steps; step++) {
        let slice = step % 2u;
        var x: vec4<f32>;
        var y: vec4<f32>;
        if step + 1u < steps {
            let k = k0 + (step + 1u) * DEPTH;
            x = bring_left(invocation, row0, k, k_end);
            y = bring_right(invocation, column0, k, k_end);
        }
        for (var k = 0u; k < DEPTH; k++) {
            let a = left_tile[place(slice, k, invocation / 16u)];
            let b = right_tile[place(slice, k, invocation % 16u)];
            p0 = fma(vec4(a.x), b, p0);
            p1 = fma(vec4(a.y), b, p1);
            p2 = fma(vec4(a.z), b, p2);
            p3 = fma(vec4(a.w), b, p3);
        }
        if step + 1u < steps {
            put(1u - slice, invocation, x, y);
        }
        workgroupBarrier();
    }
}

fn write_forward(row: u32, column0: u32, values: vec4<f32>) {
    let params = mlp_params;
    for (var j = 0u; j < 4u; j++) {
        let column = column0 + j;
        if row < params.rows && column < params.columns {
            let at = row * params.columns + column;
            let z = values[j] + right[params.columns * params.depth + column];
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
            slopes[at] = params.scale * (missing[at] - (values[j] + right[params.columns * params.depth + column]));
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

fn write_gradient(split: u32, row: u32, column0: u32, values: vec4<f32>) {
    let params = mlp_params;
    let weights = params.rows * params.columns;
    for (var j = 0u; j < 4u; j++) {
        let column = column0 + j;
        if row < params.rows && column <= params.columns {
            let at = split * (weights + params.rows) + select(weights + row, row * params.columns + column, column < params.columns);
            if params.add != 0u {
                gradients[at] += values[j];
            } else {
                gradients[at] = values[j];
            }
        }
    }
}

// The gradient of the weights of a layer, outputs x inputs, from slopes and inputs: that of the rows of a split (z). The column of ones makes
// that of the biases.
@compute @workgroup_size(256)
fn gradient(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let params = mlp_params;
    let k0 = min(group.z * params.each, params.depth);
    let k_end = min(k0 + params.each, params.depth);
    multiply(invocation, group.x * SIDE, group.y * SIDE, k0, k_end);
    let row = group.x * SIDE + invocation / 16u * 4u;
    let column = group.y * SIDE + invocation % 16u * 4u;
    write_gradient(group.z, row, column, p0);
    write_gradient(group.z, row + 1u, column, p1);
    write_gradient(group.z, row + 2u, column, p2);
    write_gradient(group.z, row + 3u, column, p3);
}
