// (x - offset) A^T for every row x; copies of rows.
struct ProjectParams {
    row0: u32,      // of the rows bound: the first to take
    rows: u32,      // how many
    d: u32,
    a: u32,         // rows of the transform
    out0: u32,      // of the results bound: the first to write
    offset: u32,    // whether there is one
    _pad0: u32,
    _pad1: u32,
}

@group(0) @binding(0) var<uniform> project_params: ProjectParams;
@group(0) @binding(3) var<storage, read> offset: array<f32>;
@group(0) @binding(4) var<storage, read_write> projected: array<f32>;

fn left_at(row: u32, d: u32, k: u32) -> vec4<f32> {
    var x = left_four(row, d, k);
    if project_params.offset != 0u {
        if k < d {
            x.x -= offset[k];
        }
        if k + 1u < d {
            x.y -= offset[k + 1u];
        }
        if k + 2u < d {
            x.z -= offset[k + 2u];
        }
        if k + 3u < d {
            x.w -= offset[k + 3u];
        }
    }
    return x;
}

fn write_row(row: u32, column0: u32, values: vec4<f32>) {
    let params = project_params;
    if row >= params.rows {
        return;
    }
    let at = (params.out0 + row) * params.a + column0;
    if column0 < params.a {
        projected[at] = values.x;
    }
    if column0 + 1u < params.a {
        projected[at + 1u] = values.y;
    }
    if column0 + 2u < params.a {
        projected[at + 2u] = values.z;
    }
    if column0 + 3u < params.a {
        projected[at + 3u] = values.w;
    }
}

// rows n x d, transform a x d, results n x a. A group for each tile of rows (x) and of the transform (y).
@compute @workgroup_size(256)
fn project(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let params = project_params;
    let row0 = group.x * SIDE;
    let column0 = group.y * SIDE;
    multiply(invocation, params.row0 + row0, params.row0 + params.rows, column0, params.a, params.d);
    let column = column0 + right_of(invocation, 0u);
    let row = row0 + left_of(invocation, 0u);
    write_row(row, column, vec4(p0.x, p1.x, p2.x, p3.x));
    write_row(row, column + 64u, vec4(p4.x, p5.x, p6.x, p7.x));
    write_row(row + 1u, column, vec4(p0.y, p1.y, p2.y, p3.y));
    write_row(row + 1u, column + 64u, vec4(p4.y, p5.y, p6.y, p7.y));
    write_row(row + 2u, column, vec4(p0.z, p1.z, p2.z, p3.z));
    write_row(row + 2u, column + 64u, vec4(p4.z, p5.z, p6.z, p7.z));
    write_row(row + 3u, column, vec4(p0.w, p1.w, p2.w, p3.w));
    write_row(row + 3u, column + 64u, vec4(p4.w, p5.w, p6.w, p7.w));
    write_row(row + 64u, column, vec4(q0.x, q1.x, q2.x, q3.x));
    write_row(row + 64u, column + 64u, vec4(q4.x, q5.x, q6.x, q7.x));
    write_row(row + 65u, column, vec4(q0.y, q1.y, q2.y, q3.y));
    write_row(row + 65u, column + 64u, vec4(q4.y, q5.y, q6.y, q7.y));
    write_row(row + 66u, column, vec4(q0.z, q1.z, q2.z, q3.z));
    write_row(row + 66u, column + 64u, vec4(q4.z, q5.z, q6.z, q7.z));
    write_row(row + 67u, column, vec4(q0.w, q1.w, q2.w, q3.w));
    write_row(row + 67u, column + 64u, vec4(q4.w, q5.w, q6.w, q7.w));
}
