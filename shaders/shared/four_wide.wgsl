// Rows of a multiple of four values, four at a time.
@group(0) @binding(1) var<storage, read> left_rows: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> right_rows: array<vec4<f32>>;

// Values k to k + 3 (k a multiple of four) of a row of d, zeros past its end.
fn left_four(row: u32, d: u32, k: u32) -> vec4<f32> {
    if k >= d {
        return vec4<f32>();
    }
    return left_rows[(row * d + k) / 4u];
}

fn right_four(row: u32, d: u32, k: u32) -> vec4<f32> {
    if k >= d {
        return vec4<f32>();
    }
    return right_rows[(row * d + k) / 4u];
}
