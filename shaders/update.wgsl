// The step of the anchors.

struct UpdateParams {
    // First anchor of the part.
    first: u32,
    count: u32,
    dim: u32,
    rate: f32,
}

@group(0) @binding(0) var<uniform> params: UpdateParams;
@group(0) @binding(1) var<storage, read_write> anchors: array<f32>;
@group(0) @binding(2) var<storage, read> means: array<f32>;
// Rows of each cell, of all parts.
@group(0) @binding(3) var<storage, read> counts: array<u32>;
@group(0) @binding(4) var<storage, read> noise: array<f32>;

fn moved(i: u32) -> f32 {
    // Exactly the mean at rate 1, without the rounding of a + (m - a).
    if params.rate == 1.0 {
        return means[i];
    }
    return anchors[i] + params.rate * (means[i] - anchors[i]);
}

// Moves the anchors of cells that have rows: a += rate * (mean - a).
@compute @workgroup_size(256)
fn update(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    for (var i = id.x; i < params.count * params.dim; i += groups.x * 256u) {
        if counts[params.first + i / params.dim] > 0u {
            anchors[i] = moved(i);
        }
    }
}

// The same and noise on top.
@compute @workgroup_size(256)
fn update_noisy(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    for (var i = id.x; i < params.count * params.dim; i += groups.x * 256u) {
        if counts[params.first + i / params.dim] > 0u {
            anchors[i] = moved(i) + noise[i];
        }
    }
}
