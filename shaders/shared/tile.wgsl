// The products of a tile of SIDE left rows and SIDE right rows by 256 invocations, a slice of DEPTH columns at a time. What follows
// (product.wgsl, mlp_product.wgsl) says how large the tile is, what an invocation brings of a slice (Bring, bring_left, bring_right, put) and
// which products are its own (clear_products, add_slice).
const PLANE = 256u;  // fours of a slice

// Two slices of both operands, by column: while one is multiplied the next is brought.
var<workgroup> left_tile: array<vec4<f32>, 512>;
var<workgroup> right_tile: array<vec4<f32>, 512>;

// Where four rows of column k stand. Each four columns are moved by MOVED fours from the last, as the invocations that bring a row write
// columns four apart at once: so they come to banks of their own.
fn place(slice: u32, k: u32, four: u32) -> u32 {
    return slice * PLANE + k * (SIDE / 4u) + (four ^ (k / 4u * MOVED));
}

// Puts columns k to k + 3 of a row.
fn put_left(slice: u32, row: u32, k: u32, x: vec4<f32>) {
    let four = row / 4u;
    let within = row % 4u;
    left_tile[place(slice, k, four)][within] = x.x;
    left_tile[place(slice, k + 1u, four)][within] = x.y;
    left_tile[place(slice, k + 2u, four)][within] = x.z;
    left_tile[place(slice, k + 3u, four)][within] = x.w;
}

fn put_right(slice: u32, row: u32, k: u32, y: vec4<f32>) {
    let four = row / 4u;
    let within = row % 4u;
    right_tile[place(slice, k, four)][within] = y.x;
    right_tile[place(slice, k + 1u, four)][within] = y.y;
    right_tile[place(slice, k + 2u, four)][within] = y.z;
    right_tile[place(slice, k + 3u, four)][within] = y.w;
}

// Multiplies columns k0 to k_end. All invocations of a group come here together, and leave together.
fn multiply_tile(invocation: u32, tile: Bring, k0: u32, k_end: u32) {
    clear_products();
    put(0u, invocation, bring_left(tile, k0), bring_right(tile, k0));
    workgroupBarrier();
    let slices = (k_end - k0 + DEPTH - 1u) / DEPTH;
    for (var i = 0u; i < slices; i++) {
        let slice = i % 2u;
        var x: vec4<f32>;
        var y: vec4<f32>;
        if i + 1u < slices {
            let k = k0 + (i + 1u) * DEPTH;
            x = bring_left(tile, k);
            y = bring_right(tile, k);
        }
        add_slice(slice, invocation);
        if i + 1u < slices {
            put(1u - slice, invocation, x, y);
        }
        workgroupBarrier();
    }
}
