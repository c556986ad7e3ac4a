// A step of the training of the residual network: the gradients of its weights, and what AdamW makes of them. Follows
// shared/mlp_product.wgsl.

struct MoveParams {
    count: u32,     // of the parameters
    weights: u32,   // how many of them are weights, the first; the others are biases
    inputs: u32,
    splits: u32,    // of the gradients
    rounds: u32,    // whether weights are rounded
    top: f32,       // the largest multiple of a step
    rate: f32,
    keep: f32,      // what stays of a weight
    mean_scale: f32,
    square_scale: f32,
    _pad0: u32,
    _pad1: u32,
}

@group(0) @binding(0) var<uniform> move_params: MoveParams;

// gradient: of each split, of the weights and behind them of the biases
@group(0) @binding(3) var<storage, read_write> new_gradients: array<f32>;
// move_parameters
@group(0) @binding(1) var<storage, read> gradients: array<f32>;
@group(0) @binding(2) var<storage, read> steps: array<f32>;
@group(0) @binding(3) var<storage, read_write> parameters: array<f32>;
@group(0) @binding(4) var<storage, read_write> seen: array<f32>;
// Of the gradients, and of their squares.
@group(0) @binding(5) var<storage, read_write> means: array<f32>;
@group(0) @binding(6) var<storage, read_write> mean_squares: array<f32>;

override BETA_1: f32 = 0.9;
override BETA_2: f32 = 0.98;
override EPSILON: f32 = 1e-8;

fn write_gradient(split: u32, row: u32, column0: u32, values: vec4<f32>) {
    let params = mlp_params;
    let weights = params.rows * params.columns;
    for (var j = 0u; j < 4u; j++) {
        let column = column0 + j;
        if row < params.rows && column <= params.columns {
            let at = split * (weights + params.rows) + select(weights + row, row * params.columns + column, column < params.columns);
            if params.add != 0u {
                new_gradients[at] += values[j];
            } else {
                new_gradients[at] = values[j];
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

// A step of AdamW, and what rows see of the weights after it.
@compute @workgroup_size(256)
fn move_parameters(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let params = move_params;
    for (var i = id.x; i < params.count; i += groups.x * 256u) {
        var slope = 0.0;
        for (var split = 0u; split < params.splits; split++) {
            slope += gradients[split * params.count + i];
        }
        let is_weight = i < params.weights;
        let mean = BETA_1 * means[i] + (1.0 - BETA_1) * slope;
        let square = BETA_2 * mean_squares[i] + (1.0 - BETA_2) * slope * slope;
        means[i] = mean;
        mean_squares[i] = square;
        let kept = select(1.0, params.keep, is_weight) * parameters[i];
        let moved = kept - params.rate * (mean * params.mean_scale) / (sqrt(square * params.square_scale) + EPSILON);
        parameters[i] = moved;
        var rounded = moved;
        if is_weight && params.rounds != 0u {
            let step = steps[i / params.inputs];
            rounded = clamp(floor(moved / step) + 0.5, -params.top, params.top) * step;
        }
        seen[i] = rounded;
    }
}
