// What training the residual network takes beside products, and measuring what it misses.
struct FitRowsParams {
    count: u32,
    width: u32,
    first: u32,     // of the rows bound, or of the moves: the first to take
    listed: u32,    // whether there are moves
}

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

@group(0) @binding(0) var<uniform> rows_params: FitRowsParams;
@group(0) @binding(0) var<uniform> move_params: MoveParams;

// gather
@group(0) @binding(1) var<storage, read> rows: array<f32>;
@group(0) @binding(2) var<storage, read> targets: array<f32>;
// Of each copy: the row it is of, and where it goes.
@group(0) @binding(3) var<storage, read> moves: array<u32>;
@group(0) @binding(4) var<storage, read> input_scale: array<f32>;
@group(0) @binding(5) var<storage, read_write> scaled: array<f32>;
@group(0) @binding(6) var<storage, read_write> differences: array<f32>;
// misses
@group(0) @binding(1) var<storage, read> missing: array<f32>;
@group(0) @binding(2) var<storage, read_write> squares: array<f32>;
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
