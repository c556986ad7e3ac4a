// Products of the residual network, a tile of SIDE by SIDE, 4 by 4 for each invocation: smaller than those of product.wgsl, as a batch and
// a layer would not make enough of these to fill a device. Either operand may stand column by column. Follows four_narrow.wgsl and tile.wgsl.
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

// The left operand is rows x depth, or depth x rows; the right one columns x depth, or depth x columns. Behind the weights of a layer,
// outputs x inputs, are its biases.

// Which operands stand column by column.
override LEFT_DOWN: bool = false;
override RIGHT_DOWN: bool = false;
// Whether the right one, which stands column by column, has a column of ones behind its last.
override ONES: bool = false;

const SIDE = 64u;
const DEPTH = 16u;
const MOVED = 2u;  // four invocations bring a row, eight rows a subgroup of 32

// The products of an invocation: four columns of each of its rows. Named one by one, as an array would not be kept in registers
// everywhere.
var<private> p0: vec4<f32>;
var<private> p1: vec4<f32>;
var<private> p2: vec4<f32>;
var<private> p3: vec4<f32>;

// The corner of the tile, and the end of the columns that are multiplied.
struct Bring {
    invocation: u32,
    row0: u32,
    column0: u32,
    k_end: u32,
}

// What an invocation brings of a slice: the row and first column of four values in a line, or the column and first row of four below
// each other.
fn bring_left(tile: Bring, k0: u32) -> vec4<f32> {
    let params = mlp_params;
    if LEFT_DOWN {
        let k = k0 + tile.invocation / 16u;
        if k >= tile.k_end {
            return vec4<f32>();
        }
        return left_until(k * params.rows + tile.row0 + tile.invocation % 16u * 4u, (k + 1u) * params.rows);
    }
    let row = tile.row0 + tile.invocation / 4u;
    if row >= params.rows {
        return vec4<f32>();
    }
    return left_until(row * params.depth + k0 + tile.invocation % 4u * 4u, row * params.depth + tile.k_end);
}

fn bring_right(tile: Bring, k0: u32) -> vec4<f32> {
    let params = mlp_params;
    if RIGHT_DOWN {
        let k = k0 + tile.invocation / 16u;
        if k >= tile.k_end {
            return vec4<f32>();
        }
        let column = tile.column0 + tile.invocation % 16u * 4u;
        var values = right_until(k * params.columns + column, (k + 1u) * params.columns);
        if ONES && column <= params.columns && params.columns < column + 4u {
            values[params.columns - column] = 1.0;
        }
        return values;
    }
    let column = tile.column0 + tile.invocation / 4u;
    if column >= params.columns {
        return vec4<f32>();
    }
    return right_until(column * params.depth + k0 + tile.invocation % 4u * 4u, column * params.depth + tile.k_end);
}

fn put(slice: u32, invocation: u32, x: vec4<f32>, y: vec4<f32>) {
    let down = place(slice, invocation / 16u, invocation % 16u);
    if LEFT_DOWN {
        left_tile[down] = x;
    } else {
        put_left(slice, invocation / 4u, invocation % 4u * 4u, x);
    }
    if RIGHT_DOWN {
        right_tile[down] = y;
    } else {
        put_right(slice, invocation / 4u, invocation % 4u * 4u, y);
    }
}

// The products of a tile, of columns k0 to k_end.
fn multiply(invocation: u32, row0: u32, column0: u32, k0: u32, k_end: u32) {
    multiply_tile(invocation, Bring(invocation, row0, column0, k_end), k0, k_end);
}

fn clear_products() {
    p0 = vec4<f32>();
    p1 = vec4<f32>();
    p2 = vec4<f32>();
    p3 = vec4<f32>();
}

fn add_slice(slice: u32, invocation: u32) {
    for (var k = 0u; k < DEPTH; k++) {
        let a = left_tile[place(slice, k, invocation / 16u)];
        let b = right_tile[place(slice, k, invocation % 16u)];
        p0 = fma(vec4(a.x), b, p0);
        p1 = fma(vec4(a.y), b, p1);
        p2 = fma(vec4(a.z), b, p2);
        p3 = fma(vec4(a.w), b, p3);
    }
}
