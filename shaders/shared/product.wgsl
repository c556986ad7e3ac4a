// Products of rows, a tile of SIDE by SIDE by 256 invocations, 8 by 8 for each. Follows four_wide.wgsl or four_narrow.wgsl; what
// follows it defines left_at(row, k), which may subtract from a left row.
const SIDE = 128u;
const DEPTH = 8u;
const PLANE = 256u;  // fours of a slice of DEPTH columns of SIDE rows

// Two slices of both operands, by column: while one is multiplied the next is brought.
var<workgroup> left_tile: array<vec4<f32>, 512>;
var<workgroup> right_tile: array<vec4<f32>, 512>;

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

// Where four rows of column k stand. Columns from the fourth on are moved by sixteen banks, as the two invocations that bring a row write
// columns four apart at once.
fn place(slice: u32, k: u32, four: u32) -> u32 {
    return slice * PLANE + k * (SIDE / 4u) + (four ^ (k & 4u));
}

fn put(slice: u32, row: u32, k: u32, x: vec4<f32>, y: vec4<f32>) {
    let four = row / 4u;
    let within = row % 4u;
    left_tile[place(slice, k + 0u, four)][within] = x.x;
    right_tile[place(slice, k + 0u, four)][within] = y.x;
    left_tile[place(slice, k + 1u, four)][within] = x.y;
    right_tile[place(slice, k + 1u, four)][within] = y.y;
    left_tile[place(slice, k + 2u, four)][within] = x.z;
    right_tile[place(slice, k + 2u, four)][within] = y.z;
    left_tile[place(slice, k + 3u, four)][within] = x.w;
    right_tile[place(slice, k + 3u, four)][within] = y.w;
}

// Multiplies left rows left0.. (up to left_end) with right rows right0.. (up to right_end), d values each. All invocations of a group
// come here together, and leave together.
fn multiply(invocation: u32, left0: u32, left_end: u32, right0: u32, right_end: u32, d: u32) {
    let tx = invocation % 16u;
    let ty = invocation / 16u;
    let row = invocation / 2u;
    let part = invocation % 2u * 4u;
    // Past the end the last row is read again, and its products are not looked at.
    let x_row = min(left0 + row, left_end - 1u);
    let y_row = min(right0 + row, right_end - 1u);
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
    put(0u, row, part, left_at(x_row, d, part), right_four(y_row, d, part));
    workgroupBarrier();
    let steps = (d + DEPTH - 1u) / DEPTH;
    for (var step = 0u; step < steps; step++) {
        let slice = step % 2u;
        var x: vec4<f32>;
        var y: vec4<f32>;
        if step + 1u < steps {
            let k = (step + 1u) * DEPTH + part;
            x = left_at(x_row, d, k);
            y = right_four(y_row, d, k);
        }
        add_products(slice, 0u, ty, tx);
        add_products(slice, 1u, ty, tx);
        add_products(slice, 2u, ty, tx);
        add_products(slice, 3u, ty, tx);
        add_products(slice, 4u, ty, tx);
        add_products(slice, 5u, ty, tx);
        add_products(slice, 6u, ty, tx);
        add_products(slice, 7u, ty, tx);
        if step + 1u < steps {
            put(1u - slice, row, part, x, y);
        }
        workgroupBarrier();
    }
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
