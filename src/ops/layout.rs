//! What shaders and the host must lay out alike: the parameters of every kernel, each as the structure of the same name in
//! shaders/ (a test compares them).

use bytemuck::{NoUninit, Zeroable};

// assign

/// Of the search for the nearest anchors.
#[repr(C)]
#[derive(Debug, Clone, Copy, NoUninit, Zeroable)]
pub(super) struct AssignParams {
    pub(super) row0: u32,
    pub(super) rows: u32,
    pub(super) first: u32,
    pub(super) d: u32,
    pub(super) anchors: u32,
    pub(super) each: u32,
    pub(super) all_rows: u32,
    pub(super) split0: u32,
    pub(super) anchor0: u32,
    pub(super) _pad0: u32,
    pub(super) _pad1: u32,
    pub(super) _pad2: u32,
}

/// Of what goes before and after that search.
#[repr(C)]
#[derive(Debug, Clone, Copy, NoUninit, Zeroable)]
pub(super) struct SettleParams {
    pub(super) row0: u32,
    pub(super) rows: u32,
    pub(super) first: u32,
    pub(super) d: u32,
    pub(super) splits: u32,
    pub(super) all_rows: u32,
    pub(super) candidate: u32,
    pub(super) candidates: u32,
    pub(super) anchor0: u32,
    pub(super) anchors: u32,
    pub(super) _pad0: u32,
    pub(super) _pad1: u32,
}

// project

/// Of products of rows with a transform.
#[repr(C)]
#[derive(Debug, Clone, Copy, NoUninit, Zeroable)]
pub(super) struct ProjectParams {
    pub(super) row0: u32,
    pub(super) rows: u32,
    pub(super) d: u32,
    pub(super) a: u32,
    pub(super) out0: u32,
    pub(super) offset: u32,
    pub(super) _pad0: u32,
    pub(super) _pad1: u32,
}

/// Of copies of rows.
#[repr(C)]
#[derive(Debug, Clone, Copy, NoUninit, Zeroable)]
pub(super) struct SelectParams {
    pub(super) count: u32,
    pub(super) d: u32,
    pub(super) _pad0: u32,
    pub(super) _pad1: u32,
}

// reduce and update

/// Of the search for the largest value of each column, `count` of them from `first` on.
#[repr(C)]
#[derive(Debug, Clone, Copy, NoUninit, Zeroable)]
pub(super) struct MaximaParams {
    pub(super) first: u32,
    pub(super) count: u32,
    pub(super) dim: u32,
    pub(super) lanes: u32,
}

/// Of a step of the sort: `count` blocks of rows from `first` on, of `blocks`.
#[repr(C)]
#[derive(Debug, Clone, Copy, NoUninit, Zeroable)]
pub(super) struct SortParams {
    pub(super) n: u32,
    pub(super) stride: u32,
    pub(super) shift: u32,
    pub(super) blocks: u32,
    pub(super) first: u32,
    pub(super) count: u32,
    /// 1 where rows come as they are, not in `order`.
    pub(super) unsorted: u32,
    pub(super) _pad0: u32,
}

/// Of a prefix sum.
#[repr(C)]
#[derive(Debug, Clone, Copy, NoUninit, Zeroable)]
pub(super) struct PrefixParams {
    pub(super) count: u32,
    pub(super) _pad0: u32,
    pub(super) _pad1: u32,
    pub(super) _pad2: u32,
}

/// Of the search for where cells start.
#[repr(C)]
#[derive(Debug, Clone, Copy, NoUninit, Zeroable)]
pub(super) struct StartsParams {
    pub(super) n: u32,
    pub(super) stride: u32,
    pub(super) cells: u32,
    pub(super) _pad0: u32,
}

/// Of the division of cells into parts; the share of rows to drop is mantissa / 2^shift, shift at least 23.
#[repr(C)]
#[derive(Debug, Clone, Copy, NoUninit, Zeroable)]
pub(super) struct PartsParams {
    pub(super) cells: u32,
    pub(super) length: u32,
    pub(super) mantissa: u32,
    pub(super) shift: u32,
}

/// Of the sums of `count` parts from `first` on.
#[repr(C)]
#[derive(Debug, Clone, Copy, NoUninit, Zeroable)]
pub(super) struct SumsParams {
    pub(super) first: u32,
    pub(super) count: u32,
    pub(super) cells: u32,
    pub(super) length: u32,
    pub(super) first_row: u32,
    pub(super) rows: u32,
    pub(super) dim: u32,
    pub(super) column: u32,
    pub(super) columns: u32,
    /// 1 where there are sums already.
    pub(super) add: u32,
    pub(super) _pad0: u32,
    pub(super) _pad1: u32,
}

/// Of the means of `count` cells from `first` on.
#[repr(C)]
#[derive(Debug, Clone, Copy, NoUninit, Zeroable)]
pub(super) struct MeansParams {
    pub(super) first: u32,
    pub(super) count: u32,
    /// First cell of the part of the means.
    pub(super) part: u32,
    pub(super) dim: u32,
    pub(super) column: u32,
    pub(super) columns: u32,
    pub(super) _pad0: u32,
    pub(super) _pad1: u32,
}

/// Of a step of `count` anchors from `first` on.
#[repr(C)]
#[derive(Debug, Clone, Copy, NoUninit, Zeroable)]
pub(super) struct UpdateParams {
    pub(super) first: u32,
    pub(super) count: u32,
    pub(super) dim: u32,
    pub(super) rate: f32,
}

// encode

/// Of the search for codes, and of the codewords of what it found.
#[repr(C)]
#[derive(Debug, Clone, Copy, NoUninit, Zeroable)]
pub(super) struct EncodeParams {
    pub(super) rows: u32,
    pub(super) row0: u32,
    pub(super) try0: u32,
    pub(super) try_step: u32,
    pub(super) found0: u32,
    pub(super) first_try: u32,
    pub(super) end_try: u32,
    pub(super) directions: u32,
    pub(super) symbols: u32,
    pub(super) lags: u32,
    pub(super) words: u32,
    pub(super) scratch_words: u32,
    pub(super) far: u32,
    pub(super) near: u32,
    pub(super) alone: u32,
    pub(super) offsets: u32,
    pub(super) symbol_of: u32,
    pub(super) scale: f32,
    pub(super) alphabet: u32,
    pub(super) rounds: u32,
}

/// Of the lengths of decoded rows.
#[repr(C)]
#[derive(Debug, Clone, Copy, NoUninit, Zeroable)]
pub(super) struct LengthsParams {
    pub(super) rows: u32,
    pub(super) directions: u32,
    pub(super) row0: u32,
    pub(super) constant: f32,
}

// score

/// Of one pass over a part of the codes (shaders/score.wgsl).
#[repr(C)]
#[derive(Debug, Clone, Copy, NoUninit, Zeroable)]
pub(super) struct ScanParams {
    pub(super) first_group: u32,
    pub(super) first: u32,
    pub(super) groups: u32,
    pub(super) stride: u32,
    pub(super) n: u32,
    pub(super) symbols: u32,
    pub(super) alphabet: u32,
    pub(super) group_words: u32,
    pub(super) side_nibbles: u32,
    pub(super) cell_count: u32,
    pub(super) chart: u32,
    pub(super) charts: u32,
    pub(super) factors: u32,
    pub(super) squared: u32,
    pub(super) query_count: u32,
    pub(super) bases_at: u32,
    pub(super) looked_at: u32,
    pub(super) looked_words: u32,
    pub(super) mode: u32,
    pub(super) maxima: u32,
    pub(super) capacity: u32,
    pub(super) head: u32,
    pub(super) _pad0: u32,
    pub(super) _pad1: u32,
}

/// Of the search for a query's k-th largest maximum.
#[repr(C)]
#[derive(Debug, Clone, Copy, NoUninit, Zeroable)]
pub(super) struct KthParams {
    pub(super) count: u32,
    pub(super) k: u32,
    pub(super) _pad0: u32,
    pub(super) _pad1: u32,
}
