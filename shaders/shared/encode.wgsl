// The symbols of least squared error, 32 invocations for each row.
//
// Chain codes of up to two lags: the Viterbi algorithm over the 256 pairs of neighbouring symbols, which is exact. The squared error is a
// constant, a term per symbol that is linear in the row, and terms of two symbols one or two steps apart that all rows share
// (src/ops/chain.rs). Costs are whole numbers of up to 24 bits above 4 bits for the symbol they came from, so that a minimum carries
// its origin along. Chain codes of more lags: encode_survivors.wgsl. pq8: every subspace on its own.
//
// The rows of a group are in step, as barriers take it: a row past the end repeats the last one, a repeated try is tried again.
struct EncodeParams {
    rows: u32,           // of this launch
    row0: u32,           // the first of them among the rows bound
    try0: u32,           // where the tries of the first stand
    try_step: u32,       // from the tries of a row to those of the next; 0 where all have the same
    found0: u32,         // where what is found of the first goes
    first_try: u32,      // of this launch; those before have left what they found
    end_try: u32,
    directions: u32,
    symbols: u32,
    lags: u32,
    words: u32,          // of the symbols of a row: eight or, of pq8, four symbols in each
    scratch_words: u32,  // of a row: where its paths came from, then the words of its symbols
    // Where these begin in `shared_tables`: the first three in fours, the other two in words.
    far: u32,
    near: u32,
    alone: u32,
    offsets: u32,
    symbol_of: u32,
    scale: f32,          // steps of whole numbers in 1
    alphabet: u32,
    rounds: u32,         // times that a group may take rows
}

const LANES = 32u;     // invocations for a row
const ROWS = 2u;       // rows of a group
const STATES = 16u;
const AHEAD = 16u;     // symbols prepared, and traced, at a time
const HUGE = 3.0e38;

@group(0) @binding(0) var<uniform> params: EncodeParams;
@group(0) @binding(1) var<storage, read> rows: array<f32>;
@group(0) @binding(2) var<storage, read> anchors: array<f32>;
@group(0) @binding(3) var<storage, read> tries: array<u32>;
// Per direction (lags + 1) x alphabet.
@group(0) @binding(4) var<storage, read> tables: array<vec4<f32>>;
// What all rows share: what two symbols cost together, by symbol t; `far` two steps apart as [t][q / 4][s][q % 4], `near` one step apart
// as [t][p / 4 % 2][p / 8][s][p % 4], so that the invocations of a row read one block. Both in steps of 1 / `scale` above TAG bits, those
// of `far` with q in them. What a symbol costs alone (symbols x 16, f32). The first direction of each symbol, then the number of
// directions. The symbol of each direction.
@group(0) @binding(5) var<storage, read> shared_tables: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read_write> scratch: array<u32>;
// Of each row the anchor chosen, the bits of its squared error, and its symbols.
@group(0) @binding(7) var<storage, read_write> found: array<u32>;
// Rows taken so far: groups that start late find nothing left to do.
@group(0) @binding(8) var<storage, read_write> taken: atomic<u32>;

var<workgroup> first_row: u32;
var<workgroup> sums: array<f32, ROWS * LANES>;
// Of each row two sets of 256 costs, [s][p] with the fours of a row in an order of its own; later a stage for the trace.
var<workgroup> costs: array<vec4<u32>, ROWS * 128>;

// A row with an anchor to try.
struct Trial {
    lane: u32,
    slot: u32,     // of the row in its group
    row: u32,      // its first value
    anchor: u32,   // the first value of the anchor
    scratch: u32,  // its first word
}

fn residual(at: Trial, v: u32) -> f32 {
    return rows[at.row + v] - anchors[at.anchor + v];
}

fn shared_word(at: u32) -> u32 {
    return shared_tables[at / 4u][at % 4u];
}

// The first direction of symbol t.
fn offset(t: u32) -> u32 {
    return shared_word(params.offsets + t);
}

fn table(at: u32) -> f32 {
    return tables[at / 4u][at % 4u];
}

// The first of the group's next rows.
fn next_rows(invocation: u32) -> u32 {
    if invocation == 0u {
        first_row = atomicAdd(&taken, ROWS);
    }
    return workgroupUniformLoad(&first_row);
}

fn aim(invocation: u32, group: u32, row: u32, candidate: u32) -> Trial {
    let slot = invocation / LANES;
    let anchor = tries[params.try0 + row * params.try_step + candidate];
    return Trial(
        invocation % LANES,
        slot,
        (params.row0 + row) * params.directions,
        anchor * params.directions,
        (group * ROWS + slot) * params.scratch_words,
    );
}

// The sum over the invocations of a row, the same for all of them.
fn row_sum(at: Trial, value: f32) -> f32 {
    workgroupBarrier();
    sums[at.slot * LANES + at.lane] = value;
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < LANES; i++) {
        total += sums[at.slot * LANES + i];
    }
    return total;
}

// The least error of the tries of earlier launches.
fn least_before(row: u32) -> f32 {
    if params.first_try == 0u {
        return HUGE;
    }
    return bitcast<f32>(found[params.found0 + row * (params.words + 2u) + 1u]);
}

// Keeps what the row's scratch holds if it is the best so far; returns the least error.
fn keep(at: Trial, row: u32, exists: bool, candidate: u32, error: f32, least: f32) -> f32 {
    if candidate > 0u && !(error < least) {
        return least;
    }
    if exists {
        let to = params.found0 + row * (params.words + 2u);
        if at.lane == 0u {
            found[to] = tries[params.try0 + row * params.try_step + candidate];
            found[to + 1u] = bitcast<u32>(error);
        }
        // Every invocation copies the words that it wrote itself.
        let start = at.scratch + params.scratch_words - params.words;
        for (var k = at.lane; k < params.words; k += LANES) {
            found[to + 2u + k] = scratch[start + k];
        }
    }
    return error;
}

// The squared error in the directions of eight symbols, `first` and those that follow; each lane's share. The symbols are in `high`, the
// eight before them in `low`.
fn measure(at: Trial, low: u32, high: u32, first: u32) -> f32 {
    let i = at.lane % 8u;
    let t = first + i;
    var error = 0.0;
    if t < params.symbols {
        let to = offset(t + 1u);
        let last = min(params.lags, t);
        for (var v = offset(t) + at.lane / 8u; v < to; v += LANES / 8u) {
            var e = residual(at, v);
            var start = v * (params.lags + 1u) * STATES;
            for (var lag = 0u; lag <= last; lag++) {
                let place = 8u + i - lag;
                e -= table(start + ((select(low, high, place >= 8u) >> (4u * (place % 8u))) & 15u));
                start += STATES;
            }
            error += e * e;
        }
    }
    return error;
}

// Goes back from where the best path ends: at its last symbol and the one before; of the search with survivors, its last state and
// survivor. Leaves the symbols in the scratch and returns the squared error of the codeword.
fn trace(at: Trial, end: vec2<u32>, survivors: bool) -> f32 {
    var state = end;
    var error = 0.0;
    var high = 0u;
    let stage = at.slot * 128u;
    let words = at.scratch + params.scratch_words - params.words;
    for (var block = (params.symbols + AHEAD - 1u) / AHEAD; block > 0u; block--) {
        let t0 = (block - 1u) * AHEAD;
        workgroupBarrier();
        // Every invocation brings the words that it wrote itself.
        for (var j = 0u; j < AHEAD / 4u; j++) {
            var four = vec4(0u);
            let t = t0 + 4u * j;
            let start = at.scratch + t * LANES + at.lane;
            if t < params.symbols {
                four.x = scratch[start];
            }
            if t + 1u < params.symbols {
                four.y = scratch[start + LANES];
            }
            if t + 2u < params.symbols {
                four.z = scratch[start + 2u * LANES];
            }
            if t + 3u < params.symbols {
                four.w = scratch[start + 3u * LANES];
            }
            costs[stage + j * LANES + at.lane] = four;
        }
        workgroupBarrier();
        for (var half = 2u; half > 0u; half--) {
            let k = t0 / 8u + half - 1u;
            if k < params.words {
                var word = 0u;
                for (var i = min(8u, params.symbols - 8u * k); i > 0u; i--) {
                    let step = 8u * (half - 1u) + i - 1u;
                    word |= state.x << (4u * (i - 1u));
                    let place = stage + step / 4u * LANES;
                    if survivors {
                        let path = costs[place + state.x][step % 4u] >> (8u * state.y);
                        state = vec2((path / 4u) & 15u, path & 3u);
                    } else {
                        let came = costs[place + state.x + STATES * (state.y / 8u)][step % 4u];
                        state = vec2(state.y, (came >> (4u * (state.y % 8u))) & 15u);
                    }
                }
                error += measure(at, word, high, 8u * (k + 1u));
                if at.lane == k % LANES {
                    scratch[words + k] = word;
                }
                high = word;
            }
        }
    }
    error += measure(at, 0u, high, 0u);
    return row_sum(at, error);
}

// Rows by groups, until none is left: every try of each, and the best kept. What follows defines search(at), which leaves the symbols in
// the scratch and returns the squared error.
fn encode(invocation: u32, group: u32) {
    for (var round = 0u; round < params.rounds; round++) {
        let first = next_rows(invocation);
        if first >= params.rows {
            break;
        }
        let row = min(first + invocation / LANES, params.rows - 1u);
        var least = least_before(row);
        for (var candidate = params.first_try; candidate < params.end_try; candidate++) {
            let at = aim(invocation, group, row, candidate);
            let error = search(at);
            least = keep(at, row, first + invocation / LANES < params.rows, candidate, error, least);
        }
    }
}
