// Copies of rows.
struct SelectParams {
    count: u32,
    d: u32,
    _pad0: u32,
    _pad1: u32,
}

@group(0) @binding(0) var<uniform> params: SelectParams;
@group(0) @binding(1) var<storage, read> rows: array<f32>;
// Of each copy: the row it is of, and where it goes.
@group(0) @binding(2) var<storage, read> moves: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> copies: array<f32>;

// A group for each copy.
@compute @workgroup_size(64)
fn select_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    for (var i = group.x; i < params.count; i += groups.x) {
        let pair = moves[i];
        for (var k = invocation; k < params.d; k += 64u) {
            copies[pair.y * params.d + k] = rows[pair.x * params.d + k];
        }
    }
}
