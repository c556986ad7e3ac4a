// The best rows of a batch of queries: a sample of the rows says what a score must reach; all rows are held against that; a list of
// what reaches it. Scores are those of the CPU, four sums added in its order, but for what a compiler contracts.
//
// Scores are compared as keys: whole numbers that order as they do, 0 where there is no row, so that nothing hangs on what a compiler
// makes of infinities and of what is no number.

struct ScanParams {
    first_group: u32,   // of the part of the codes, among all groups
    first: u32,         // group to begin with, of the part or of those chosen
    groups: u32,        // how many are looked at: first, first + stride, ...
    stride: u32,
    n: u32,
    symbols: u32,
    alphabet: u32,      // values per symbol: 16 or 256
    group_words: u32,   // words of a row
    side_nibbles: u32,
    cell_count: u32,
    chart: u32,         // rows of other charts are passed over
    charts: u32,
    factor_nibbles: u32,  // 0, 1 or 2
    squared: u32,
    query_count: u32,
    bases_at: u32,      // where in `queries` what the cells add stands
    looked_at: u32,     // where the bits of the cells stand that a query looks at
    looked_words: u32,  // of each query; 0 where all are looked at
    mode: u32,
    maxima: u32,        // of a query
    capacity: u32,      // entries of a query's list
    head: u32,          // so many of which stand together with those of other queries
    chosen: u32,        // whether groups are looked at that `chosen` lists, instead of all
    _pad0: u32,
}

// What becomes of scores: an invocation's greatest, a list of those that reach the query's threshold, or all of one query.
const MAXIMA = 0u;
const LIST = 1u;

@group(0) @binding(0) var<uniform> scan: ScanParams;
// Groups of 32 positions, a lane each; word w of a group holds, for each lane, eight of its nibbles (chain codes) or four of its bytes
// (pq8), side nibbles after the symbols.
@group(0) @binding(1) var<storage, read> words: array<u32>;
// Of each group of the part: the cell of its first position.
@group(0) @binding(2) var<storage, read> first_cells: array<u32>;
// Where each cell starts, and n; the chart of each cell; 16 or 256 factors; as many weights; gains.
@group(0) @binding(3) var<storage, read> store: array<u32>;
// queries x charts x symbols x alphabet: what a symbol adds; queries x cells: what a cell adds; queries x words: cells looked at.
@group(0) @binding(4) var<storage, read> queries: array<u32>;
// The thresholds of the queries, then how many entries their lists have, also of those that found no room.
@group(0) @binding(5) var<storage, read_write> marks: array<atomic<u32>>;
// Keys: queries x maxima; or a position and a key for each entry of the lists; or one for each row of the groups looked at.
@group(0) @binding(6) var<storage, read_write> found: array<u32>;
// Where only some rows may be found: the groups that hold such rows, each with a bit for every such row.
@group(0) @binding(7) var<storage, read> chosen: array<u32>;

const GROUP = 32u;
const THREADS = 256u;
const AT_ONCE = THREADS / GROUP;
// Values of tables in workgroup memory: 15 KiB.
const ROOM = 3840u;

var<workgroup> tables_1: array<f32, ROOM>;
// Of two queries, value by value.
var<workgroup> tables_2: array<vec2f, ROOM / 2>;

// Orders as the score does; -0 as +0, and what is no number as minus infinity.
fn key_of(score: f32) -> u32 {
    var bits = bitcast<u32>(score);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) { bits = 0xFF800000u; }
    if (bits == 0x80000000u) { bits = 0u; }
    return select(bits | 0x80000000u, ~bits, bits >> 31u == 1u);
}

struct Row {
    there: bool,
    cell: u32,
    position: u32,
    place: u32,  // among the rows of the groups looked at
    at: u32,     // of its first word
}

// Of the `number`th group to be looked at.
fn row_of(number: u32, lane: u32) -> Row {
    var row: Row;
    var group = number;
    var bits = 0xFFFFFFFFu;
    if (scan.chosen == 1u) {
        group = chosen[2u * number];
        bits = chosen[2u * number + 1u];
    }
    row.place = number * GROUP + lane;
    row.position = (scan.first_group + group) * GROUP + lane;
    row.at = group * scan.group_words * GROUP + lane;
    row.there = row.position < scan.n && (bits >> lane & 1u) == 1u;
    if (row.there) {
        var cell = first_cells[group];
        while (store[cell + 1u] <= row.position) { cell++; }
        row.cell = cell;
        if (scan.charts > 1u) { row.there = store[scan.cell_count + 1u + cell] == scan.chart; }
    }
    return row;
}

fn looks_at(query: u32, cell: u32) -> bool {
    if (scan.looked_words == 0u) { return true; }
    return (queries[scan.looked_at + query * scan.looked_words + cell / 32u] >> (cell % 32u) & 1u) == 1u;
}

// Side nibbles of a row, the first lowest.
fn side_of(row: Row) -> u32 {
    if (scan.side_nibbles == 0u) { return 0u; }
    if (scan.alphabet == 256u) { return words[row.at + (scan.group_words - 1u) * GROUP]; }
    let w = scan.symbols / 8u;
    let shift = scan.symbols % 8u * 4u;
    var side = words[row.at + w * GROUP] >> shift;
    if (shift > 0u && w + 1u < scan.group_words) { side |= words[row.at + (w + 1u) * GROUP] << (32u - shift); }
    if (scan.side_nibbles < 8u) { side &= (1u << (4u * scan.side_nibbles)) - 1u; }
    return side;
}

// The key of a row's score, of its sum.
fn finished(query: u32, row: Row, side: u32, sum: f32) -> u32 {
    var score = bitcast<f32>(queries[scan.bases_at + query * scan.cell_count + row.cell]);
    let factors_at = 2u * scan.cell_count + 1u;
    let levels = select(16u, 256u, scan.factor_nibbles == 2u);
    if (scan.factor_nibbles == 0u) {
        score += sum;
    } else {
        let code = side & (levels - 1u);
        score += bitcast<f32>(store[factors_at + levels + code]) * sum;
        score *= bitcast<f32>(store[factors_at + code]);
    }
    let gain = bitcast<f32>(store[factors_at + 2u * levels + (side >> (4u * scan.factor_nibbles))]);
    if (scan.squared == 1u) { score = 2.0 * gain * score - gain * gain; } else { score = gain * score; }
    return key_of(score);
}

// Lists the row, or keeps its key, as the mode has it.
fn put(query: u32, row: Row, key: u32, threshold: u32) {
    if (scan.mode == LIST) {
        if (key < threshold) { return; }
        let at = atomicAdd(&marks[scan.query_count + query], 1u);
        if (at >= scan.capacity) { return; }
        var place = query * scan.head + at;
        if (at >= scan.head) {
            place = scan.query_count * scan.head + query * (scan.capacity - scan.head) + at - scan.head;
        }
        found[2u * place] = row.position;
        found[2u * place + 1u] = key;
    } else if (scan.mode != MAXIMA) {
        found[row.place] = key;
    }
}

// An invocation's rows are its own, so that so many rows score as much as maxima do. What another part of the codes, or another chart,
// found stays.
fn keep_maximum(query: u32, invocation: u32, key: u32) {
    if (scan.mode != MAXIMA) { return; }
    let at = query * scan.maxima + invocation;
    found[at] = max(found[at], key);
}

fn table_of(query: u32) -> u32 {
    return (min(query, scan.query_count - 1u) * scan.charts + scan.chart) * scan.symbols * scan.alphabet;
}

// What eight symbols add, the tables of the first of which stand at `base`.
fn add_word_1(word: u32, base: u32, sums: vec4f) -> vec4f {
    let low = vec4f(
        tables_1[base + (word & 15u)],
        tables_1[base + 16u + (word >> 4u & 15u)],
        tables_1[base + 32u + (word >> 8u & 15u)],
        tables_1[base + 48u + (word >> 12u & 15u)],
    );
    let high = vec4f(
        tables_1[base + 64u + (word >> 16u & 15u)],
        tables_1[base + 80u + (word >> 20u & 15u)],
        tables_1[base + 96u + (word >> 24u & 15u)],
        tables_1[base + 112u + (word >> 28u)],
    );
    return (sums + low) + high;
}

// Four words are on their way together.
fn sum_1(row: Row) -> f32 {
    let whole = scan.symbols / 8u;
    var sums = vec4f();
    var place = row.at;
    var base = 0u;
    var w = 0u;
    for (; w + 4u <= whole; w += 4u) {
        let a = words[place];
        let b = words[place + GROUP];
        let c = words[place + 2u * GROUP];
        let d = words[place + 3u * GROUP];
        sums = add_word_1(a, base, sums);
        sums = add_word_1(b, base + 128u, sums);
        sums = add_word_1(c, base + 256u, sums);
        sums = add_word_1(d, base + 384u, sums);
        place += 4u * GROUP;
        base += 512u;
    }
    for (; w < whole; w++) {
        sums = add_word_1(words[place], base, sums);
        place += GROUP;
        base += 128u;
    }
    let rest = scan.symbols % 8u;
    if (rest > 0u) {
        let word = words[place];
        sums.x += tables_1[base + (word & 15u)];
        if (rest > 1u) { sums.y += tables_1[base + 16u + (word >> 4u & 15u)]; }
        if (rest > 2u) { sums.z += tables_1[base + 32u + (word >> 8u & 15u)]; }
        if (rest > 3u) { sums.w += tables_1[base + 48u + (word >> 12u & 15u)]; }
        if (rest > 4u) { sums.x += tables_1[base + 64u + (word >> 16u & 15u)]; }
        if (rest > 5u) { sums.y += tables_1[base + 80u + (word >> 20u & 15u)]; }
        if (rest > 6u) { sums.z += tables_1[base + 96u + (word >> 24u & 15u)]; }
    }
    return (sums.x + sums.y) + (sums.z + sums.w);
}

// One query: its tables of chain codes in workgroup memory.
@compute @workgroup_size(THREADS)
fn scan_1(
    @builtin(workgroup_id) workgroup: vec3u,
    @builtin(num_workgroups) workgroups: vec3u,
    @builtin(local_invocation_index) own: u32,
) {
    let query = workgroup.y;
    let tables = table_of(query);
    for (var i = own; i < scan.symbols * scan.alphabet; i += THREADS) { tables_1[i] = bitcast<f32>(queries[tables + i]); }
    workgroupBarrier();
    let threshold = atomicLoad(&marks[query]);
    var best = 0u;
    for (var g = workgroup.x * AT_ONCE + own / GROUP; g < scan.groups; g += workgroups.x * AT_ONCE) {
        let row = row_of(scan.first + g * scan.stride, own % GROUP);
        if (!row.there || !looks_at(query, row.cell)) { continue; }
        let key = finished(query, row, side_of(row), sum_1(row));
        put(query, row, key, threshold);
        best = max(best, key);
    }
    keep_maximum(query, workgroup.x * THREADS + own, best);
}

struct Sums {
    s0: vec2f,
    s1: vec2f,
    s2: vec2f,
    s3: vec2f,
}

fn add_word_2(word: u32, base: u32, sums: ptr<function, Sums>) {
    (*sums).s0 += tables_2[base + (word & 15u)];
    (*sums).s1 += tables_2[base + 16u + (word >> 4u & 15u)];
    (*sums).s2 += tables_2[base + 32u + (word >> 8u & 15u)];
    (*sums).s3 += tables_2[base + 48u + (word >> 12u & 15u)];
    (*sums).s0 += tables_2[base + 64u + (word >> 16u & 15u)];
    (*sums).s1 += tables_2[base + 80u + (word >> 20u & 15u)];
    (*sums).s2 += tables_2[base + 96u + (word >> 24u & 15u)];
    (*sums).s3 += tables_2[base + 112u + (word >> 28u)];
}

fn sum_2(row: Row) -> vec2f {
    let whole = scan.symbols / 8u;
    var sums = Sums();
    var place = row.at;
    var base = 0u;
    var w = 0u;
    for (; w + 4u <= whole; w += 4u) {
        let a = words[place];
        let b = words[place + GROUP];
        let c = words[place + 2u * GROUP];
        let d = words[place + 3u * GROUP];
        add_word_2(a, base, &sums);
        add_word_2(b, base + 128u, &sums);
        add_word_2(c, base + 256u, &sums);
        add_word_2(d, base + 384u, &sums);
        place += 4u * GROUP;
        base += 512u;
    }
    for (; w < whole; w++) {
        add_word_2(words[place], base, &sums);
        place += GROUP;
        base += 128u;
    }
    let rest = scan.symbols % 8u;
    if (rest > 0u) {
        let word = words[place];
        sums.s0 += tables_2[base + (word & 15u)];
        if (rest > 1u) { sums.s1 += tables_2[base + 16u + (word >> 4u & 15u)]; }
        if (rest > 2u) { sums.s2 += tables_2[base + 32u + (word >> 8u & 15u)]; }
        if (rest > 3u) { sums.s3 += tables_2[base + 48u + (word >> 12u & 15u)]; }
        if (rest > 4u) { sums.s0 += tables_2[base + 64u + (word >> 16u & 15u)]; }
        if (rest > 5u) { sums.s1 += tables_2[base + 80u + (word >> 20u & 15u)]; }
        if (rest > 6u) { sums.s2 += tables_2[base + 96u + (word >> 24u & 15u)]; }
    }
    return (sums.s0 + sums.s1) + (sums.s2 + sums.s3);
}

// Two queries share the way to memory.
@compute @workgroup_size(THREADS)
fn scan_2(
    @builtin(workgroup_id) workgroup: vec3u,
    @builtin(num_workgroups) workgroups: vec3u,
    @builtin(local_invocation_index) own: u32,
) {
    let query = 2u * workgroup.y;
    let two = query + 1u < scan.query_count;
    let tables = vec2u(table_of(query), table_of(query + 1u));
    for (var i = own; i < scan.symbols * scan.alphabet; i += THREADS) {
        tables_2[i] = bitcast<vec2f>(vec2u(queries[tables.x + i], queries[tables.y + i]));
    }
    workgroupBarrier();
    let other = select(query, query + 1u, two);
    let thresholds = vec2u(atomicLoad(&marks[query]), atomicLoad(&marks[other]));
    var best = vec2u();
    for (var g = workgroup.x * AT_ONCE + own / GROUP; g < scan.groups; g += workgroups.x * AT_ONCE) {
        let row = row_of(scan.first + g * scan.stride, own % GROUP);
        if (!row.there) { continue; }
        let looked = vec2<bool>(looks_at(query, row.cell), two && looks_at(other, row.cell));
        if (!any(looked)) { continue; }
        let sums = sum_2(row);
        let side = side_of(row);
        if (looked.x) {
            let key = finished(query, row, side, sums.x);
            put(query, row, key, thresholds.x);
            best.x = max(best.x, key);
        }
        if (looked.y) {
            let key = finished(other, row, side, sums.y);
            put(other, row, key, thresholds.y);
            best.y = max(best.y, key);
        }
    }
    keep_maximum(query, workgroup.x * THREADS + own, best.x);
    if (two) { keep_maximum(other, workgroup.x * THREADS + own, best.y); }
}

// Any alphabet and any number of symbols: tables are read where they are.
fn sum_any(row: Row, tables: u32) -> f32 {
    let bits = select(4u, 8u, scan.alphabet == 256u);
    let per_word = 32u / bits;
    var sums = vec4f();
    var place = row.at;
    var at = tables;
    for (var first = 0u; first < scan.symbols; first += per_word) {
        var word = words[place];
        place += GROUP;
        let end = min(per_word, scan.symbols - first);
        for (var i = 0u; i < end; i += 4u) {
            sums.x += bitcast<f32>(queries[at + (word & (scan.alphabet - 1u))]);
            word >>= bits;
            at += scan.alphabet;
            if (i + 1u < end) { sums.y += bitcast<f32>(queries[at + (word & (scan.alphabet - 1u))]); }
            word >>= bits;
            at += scan.alphabet;
            if (i + 2u < end) { sums.z += bitcast<f32>(queries[at + (word & (scan.alphabet - 1u))]); }
            word >>= bits;
            at += scan.alphabet;
            if (i + 3u < end) { sums.w += bitcast<f32>(queries[at + (word & (scan.alphabet - 1u))]); }
            word >>= bits;
            at += scan.alphabet;
        }
    }
    return (sums.x + sums.y) + (sums.z + sums.w);
}

@compute @workgroup_size(THREADS)
fn scan_any(
    @builtin(workgroup_id) workgroup: vec3u,
    @builtin(num_workgroups) workgroups: vec3u,
    @builtin(local_invocation_index) own: u32,
) {
    let query = workgroup.y;
    let threshold = atomicLoad(&marks[query]);
    var best = 0u;
    for (var g = workgroup.x * AT_ONCE + own / GROUP; g < scan.groups; g += workgroups.x * AT_ONCE) {
        let row = row_of(scan.first + g * scan.stride, own % GROUP);
        if (!row.there || !looks_at(query, row.cell)) { continue; }
        let key = finished(query, row, side_of(row), sum_any(row, table_of(query)));
        put(query, row, key, threshold);
        best = max(best, key);
    }
    keep_maximum(query, workgroup.x * THREADS + own, best);
}

struct KthParams {
    count: u32,  // maxima of a query
    k: u32,
    _pad0: u32,
    _pad1: u32,
}

@group(0) @binding(0) var<uniform> kth_of: KthParams;
@group(0) @binding(1) var<storage, read> maxima: array<u32>;
@group(0) @binding(2) var<storage, read_write> thresholds: array<u32>;

var<workgroup> reached: atomic<u32>;

// The k-th largest of each query's maxima, found bit by bit: at least k rows score as much. Where there are fewer, it is 0, which every
// row reaches. A workgroup per query.
@compute @workgroup_size(THREADS)
fn kth(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) own: u32) {
    let first = workgroup.x * kth_of.count;
    var threshold = 0u;
    for (var bit = 32u; bit > 0u; bit--) {
        if (own == 0u) { atomicStore(&reached, 0u); }
        workgroupBarrier();
        let tried = threshold | 1u << (bit - 1u);
        var count = 0u;
        for (var i = own; i < kth_of.count; i += THREADS) { count += select(0u, 1u, maxima[first + i] >= tried); }
        if (count > 0u) { atomicAdd(&reached, count); }
        workgroupBarrier();
        if (atomicLoad(&reached) >= kth_of.k) { threshold = tried; }
        workgroupBarrier();
    }
    if (own == 0u) { thresholds[workgroup.x] = threshold; }
}
