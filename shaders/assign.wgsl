// The nearest anchors of every row: |a|^2 / 2 - <x, a> orders anchors as the distance does. Follows shared/product.wgsl.
struct AssignParams {
    row0: u32,      // of the rows bound: the first to take
    rows: u32,      // how many
    first: u32,     // its number among all rows
    d: u32,
    anchors: u32,   // how many are bound
    each: u32,      // anchors of a split, a multiple of SIDE
    all_rows: u32,
    split0: u32,    // the first split of the anchors bound, of all splits
    anchor0: u32,   // the number of the first anchor bound, of all anchors
    _pad0: u32,
    _pad1: u32,
    _pad2: u32,
}

@group(0) @binding(0) var<uniform> assign_params: AssignParams;
@group(0) @binding(3) var<storage, read> half_lengths: array<f32>;
// Of each row, or of each split of the anchors and row: the lowest score's bits, and its anchor.
@group(0) @binding(4) var<storage, read> floors: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read_write> found: array<vec2<u32>>;

const INFINITE = 3.4e38;

// Whether a pass looks for the next candidates, those above a row's floor.
override NEXT: bool = false;

fn left_at(row: u32, d: u32, k: u32) -> vec4<f32> {
    return left_four(row, d, k);
}

// The lowest scores of an invocation's rows and their anchors: of rows left_of(0) to left_of(3), and of the other four.
var<private> best_p: vec4<f32>;
var<private> best_q: vec4<f32>;
var<private> index_p: vec4<u32>;
var<private> index_q: vec4<u32>;
// The last candidates of those rows.
var<private> floor_p: vec4<f32>;
var<private> floor_q: vec4<f32>;
var<private> floor_index_p: vec4<u32>;
var<private> floor_index_q: vec4<u32>;

// Scores four rows with an anchor whose number is the highest so far, so that of equal ones the lower stays.
fn offer(anchor: u32, p: vec4<f32>, q: vec4<f32>) {
    if anchor >= split_end {
        return;
    }
    let number = assign_params.anchor0 + anchor;
    let h = vec4(half_lengths[number]);
    let s = h - p;
    let t = h - q;
    var lower_p = s < best_p;
    var lower_q = t < best_q;
    if NEXT {
        let above = vec4(number);
        lower_p = lower_p & ((s > floor_p) | ((s == floor_p) & (above > floor_index_p)));
        lower_q = lower_q & ((t > floor_q) | ((t == floor_q) & (above > floor_index_q)));
    }
    best_p = select(best_p, s, lower_p);
    best_q = select(best_q, t, lower_q);
    index_p = select(index_p, vec4(number), lower_p);
    index_q = select(index_q, vec4(number), lower_q);
}

var<private> split_end: u32;

// A group for each tile of rows (x) and split of the anchors (y).
@compute @workgroup_size(256)
fn nearest(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let params = assign_params;
    let row0 = group.x * SIDE;
    let start = group.y * params.each;
    split_end = min(start + params.each, params.anchors);
    best_p = vec4(INFINITE);
    best_q = vec4(INFINITE);
    index_p = vec4<u32>();
    index_q = vec4<u32>();
    if NEXT {
        for (var i = 0u; i < 4u; i++) {
            let last = params.first + params.rows - 1u;
            let f = floors[min(params.first + row0 + left_of(invocation, i), last)];
            let g = floors[min(params.first + row0 + left_of(invocation, i + 4u), last)];
            floor_p[i] = bitcast<f32>(f.x);
            floor_index_p[i] = f.y;
            floor_q[i] = bitcast<f32>(g.x);
            floor_index_q[i] = g.y;
        }
    }
    for (var anchor0 = start; anchor0 < split_end; anchor0 += SIDE) {
        multiply(invocation, params.row0 + row0, params.row0 + params.rows, anchor0, split_end, params.d);
        let near = anchor0 + right_of(invocation, 0u);
        let far = anchor0 + right_of(invocation, 4u);
        offer(near, p0, q0);
        offer(near + 1u, p1, q1);
        offer(near + 2u, p2, q2);
        offer(near + 3u, p3, q3);
        offer(far, p4, q4);
        offer(far + 1u, p5, q5);
        offer(far + 2u, p6, q6);
        offer(far + 3u, p7, q7);
    }
    // Sixteen invocations have each row. Numbers of anchors are whole in 24 bits.
    let at = invocation % 16u * (SIDE / 4u) + invocation / 16u;
    left_tile[at] = best_p;
    left_tile[at + 16u] = best_q;
    right_tile[at] = vec4<f32>(index_p);
    right_tile[at + 16u] = vec4<f32>(index_q);
    workgroupBarrier();
    if invocation >= SIDE || row0 + invocation >= params.rows {
        return;
    }
    var best = left_tile[invocation / 4u][invocation % 4u];
    var index = right_tile[invocation / 4u][invocation % 4u];
    for (var i = 1u; i < 16u; i++) {
        let place = i * (SIDE / 4u) + invocation / 4u;
        let score = left_tile[place][invocation % 4u];
        let anchor = right_tile[place][invocation % 4u];
        if score < best || (score == best && anchor < index) {
            best = score;
            index = anchor;
        }
    }
    found[(params.split0 + group.y) * params.all_rows + params.first + row0 + invocation] = vec2(bitcast<u32>(best), u32(index));
}
