// Products of rows, a tile of SIDE by SIDE, 8 by 8 for each invocation. Follows four_wide.wgsl or four_narrow.wgsl, and tile.wgsl; what
// follows it defines left_at(row, d, k), which may subtract from a left row.
const SIDE = 128u;
const DEPTH = 8u;
const MOVED = 4u;  // two invocations bring a row, sixteen rows a subgroup of 32

// The products of an invocation: of left rows left_of(0) to left_of(3) with right row right_of(j) in p_j, of the other four in q_j. Named
// one by one, as arrays of them would not be kept in registers everywhere.
var<private> p0: vec4<f32>;
var<private> q0: vec4<f32>;
var<private> p1: vec4<f32>;
var<private> q1: vec4<f32>;
var<private> p2: vec4<f32>;
var<private> q2: vec4<f32>;
var<private> p3: vec4<f32>;
var<private> q3: vec4<f32>;
var<private> p4: vec4<f32>;
var<private> q4: vec4<f32>;
var<private> p5: vec4<f32>;
var<private> q5: vec4<f32>;
var<private> p6: vec4<f32>;
var<private> q6: vec4<f32>;
var<private> p7: vec4<f32>;
var<private> q7: vec4<f32>;

// The rows of the tile that an invocation's products stand for.
fn left_of(invocation: u32, i: u32) -> u32 {
    return invocation / 16u * 4u + i / 4u * 64u + i % 4u;
}

fn right_of(invocation: u32, j: u32) -> u32 {
    return invocation % 16u * 4u + j / 4u * 64u + j % 4u;
}

// The rows of which an invocation brings four columns of each slice, from `part` on.
struct Bring {
    left: u32,
    right: u32,
    part: u32,
    d: u32,
}

fn bring_left(tile: Bring, k: u32) -> vec4<f32> {
    return left_at(tile.left, tile.d, k + tile.part);
}

fn bring_right(tile: Bring, k: u32) -> vec4<f32> {
    return right_four(tile.right, tile.d, k + tile.part);
}

fn put(slice: u32, invocation: u32, x: vec4<f32>, y: vec4<f32>) {
    put_left(slice, invocation / 2u, invocation % 2u * 4u, x);
    put_right(slice, invocation / 2u, invocation % 2u * 4u, y);
}

// Multiplies left rows left0.. (up to left_end) with right rows right0.. (up to right_end), d values each.
fn multiply(invocation: u32, left0: u32, left_end: u32, right0: u32, right_end: u32, d: u32) {
    let row = invocation / 2u;
    // Past the end the last row is read again, and its products are not looked at.
    let tile = Bring(min(left0 + row, left_end - 1u), min(right0 + row, right_end - 1u), invocation % 2u * 4u, d);
    multiply_tile(invocation, tile, 0u, d);
}

fn clear_products() {
    p0 = vec4<f32>();
    q0 = vec4<f32>();
    p1 = vec4<f32>();
    q1 = vec4<f32>();
    p2 = vec4<f32>();
    q2 = vec4<f32>();
    p3 = vec4<f32>();
    q3 = vec4<f32>();
    p4 = vec4<f32>();
    q4 = vec4<f32>();
    p5 = vec4<f32>();
    q5 = vec4<f32>();
    p6 = vec4<f32>();
    q6 = vec4<f32>();
    p7 = vec4<f32>();
    q7 = vec4<f32>();
}

fn add_slice(slice: u32, invocation: u32) {
    let tx = invocation % 16u;
    let ty = invocation / 16u;
    add_products(slice, 0u, ty, tx);
    add_products(slice, 1u, ty, tx);
    add_products(slice, 2u, ty, tx);
    add_products(slice, 3u, ty, tx);
    add_products(slice, 4u, ty, tx);
    add_products(slice, 5u, ty, tx);
    add_products(slice, 6u, ty, tx);
    add_products(slice, 7u, ty, tx);
}

fn add_products(slice: u32, k: u32, ty: u32, tx: u32) {
    let a = left_tile[place(slice, k, ty)];
    let b = left_tile[place(slice, k, ty + 16u)];
    let c = right_tile[place(slice, k, tx)];
    let e = right_tile[place(slice, k, tx + 16u)];
    p0 = fma(a, vec4(c.x), p0);
    q0 = fma(b, vec4(c.x), q0);
    p1 = fma(a, vec4(c.y), p1);
    q1 = fma(b, vec4(c.y), q1);
    p2 = fma(a, vec4(c.z), p2);
    q2 = fma(b, vec4(c.z), q2);
    p3 = fma(a, vec4(c.w), p3);
    q3 = fma(b, vec4(c.w), q3);
    p4 = fma(a, vec4(e.x), p4);
    q4 = fma(b, vec4(e.x), q4);
    p5 = fma(a, vec4(e.y), p5);
    q5 = fma(b, vec4(e.y), q5);
    p6 = fma(a, vec4(e.z), p6);
    q6 = fma(b, vec4(e.z), q6);
    p7 = fma(a, vec4(e.w), p7);
    q7 = fma(b, vec4(e.w), q7);
}
