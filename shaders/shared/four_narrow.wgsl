// Rows of any length, four values at a time.
@group(0) @binding(1) var<storage, read> left_rows: array<f32>;
@group(0) @binding(2) var<storage, read> right_rows: array<f32>;

// Four values from `at` on, of which those before `end` are there; zeros for others.
fn left_until(at: u32, end: u32) -> vec4<f32> {
    if at + 3u < end {
        return vec4(left_rows[at], left_rows[at + 1u], left_rows[at + 2u], left_rows[at + 3u]);
    }
    var out = vec4<f32>();
    if at < end {
        out.x = left_rows[at];
    }
    if at + 1u < end {
        out.y = left_rows[at + 1u];
    }
    if at + 2u < end {
        out.z = left_rows[at + 2u];
    }
    return out;
}

fn right_until(at: u32, end: u32) -> vec4<f32> {
    if at + 3u < end {
        return vec4(right_rows[at], right_rows[at + 1u], right_rows[at + 2u], right_rows[at + 3u]);
    }
    var out = vec4<f32>();
    if at < end {
        out.x = right_rows[at];
    }
    if at + 1u < end {
        out.y = right_rows[at + 1u];
    }
    if at + 2u < end {
        out.z = right_rows[at + 2u];
    }
    return out;
}

// Values k to k + 3 of a row of d, zeros past its end.
fn left_four(row: u32, d: u32, k: u32) -> vec4<f32> {
    return left_until(row * d + k, row * d + d);
}

fn right_four(row: u32, d: u32, k: u32) -> vec4<f32> {
    return right_until(row * d + k, row * d + d);
}
