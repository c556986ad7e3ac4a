// Rows of any length, four values at a time.
@group(0) @binding(1) var<storage, read> left_rows: array<f32>;
@group(0) @binding(2) var<storage, read> right_rows: array<f32>;

// Values k to k + 3 of a row of d, zeros past its end.
fn left_four(row: u32, d: u32, k: u32) -> vec4<f32> {
    let at = row * d + k;
    if k + 3u < d {
        return vec4(left_rows[at], left_rows[at + 1u], left_rows[at + 2u], left_rows[at + 3u]);
    }
    var out = vec4<f32>();
    if k < d {
        out.x = left_rows[at];
    }
    if k + 1u < d {
        out.y = left_rows[at + 1u];
    }
    if k + 2u < d {
        out.z = left_rows[at + 2u];
    }
    return out;
}

fn right_four(row: u32, d: u32, k: u32) -> vec4<f32> {
    let at = row * d + k;
    if k + 3u < d {
        return vec4(right_rows[at], right_rows[at + 1u], right_rows[at + 2u], right_rows[at + 3u]);
    }
    var out = vec4<f32>();
    if k < d {
        out.x = right_rows[at];
    }
    if k + 1u < d {
        out.y = right_rows[at + 1u];
    }
    if k + 2u < d {
        out.z = right_rows[at + 2u];
    }
    return out;
}
