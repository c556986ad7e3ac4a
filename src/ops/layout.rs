//! What shaders and the host must lay out alike: the parameters of every kernel, each as the structure of the same name in
//! shaders/, where the fields are explained (wgpu/shader_tests.rs compares them).

use bytemuck::{NoUninit, Zeroable};

/// Of a structure: its name, its size, and each field's name, type and offset.
#[cfg(test)]
pub(super) type Layout<'a> = (&'a str, usize, Vec<(&'a str, &'a str, usize)>);

/// Defines structures that can be sent to a device, and for tests lists how they are laid out.
macro_rules! params {
    ($(
        $(#[$doc:meta])*
        struct $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }
    )*) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            #[derive(Debug, Clone, Copy, NoUninit, Zeroable)]
            pub(super) struct $name {
                $($(#[$field_doc])* pub(super) $field: $type,)*
            }
        )*

        #[cfg(test)]
        pub(super) fn layouts() -> Vec<Layout<'static>> {
            vec![$((
                stringify!($name),
                size_of::<$name>(),
                vec![$((stringify!($field), stringify!($type), std::mem::offset_of!($name, $field))),*],
            )),*]
        }
    };
}

params! {
    // assign

    /// Of the search for the nearest anchors.
    struct AssignParams {
        row0: u32,
        rows: u32,
        first: u32,
        d: u32,
        anchors: u32,
        each: u32,
        all_rows: u32,
        split0: u32,
        anchor0: u32,
        _pad0: u32,
        _pad1: u32,
        _pad2: u32,
    }

    /// Of what goes before and after that search.
    struct SettleParams {
        row0: u32,
        rows: u32,
        first: u32,
        d: u32,
        splits: u32,
        all_rows: u32,
        candidate: u32,
        candidates: u32,
        anchor0: u32,
        anchors: u32,
        _pad0: u32,
        _pad1: u32,
    }

    // project

    /// Of products of rows with a transform.
    struct ProjectParams {
        row0: u32,
        rows: u32,
        d: u32,
        a: u32,
        out0: u32,
        offset: u32,
        _pad0: u32,
        _pad1: u32,
    }

    /// Of copies of rows.
    struct SelectParams {
        count: u32,
        d: u32,
        _pad0: u32,
        _pad1: u32,
    }

    // reduce and update

    /// Of the search for the largest value of each column, `count` of them from `first` on.
    struct MaximaParams {
        first: u32,
        count: u32,
        dim: u32,
        lanes: u32,
    }

    /// Of a step of the sort: `count` blocks of rows from `first` on, of `blocks`.
    struct SortParams {
        n: u32,
        stride: u32,
        shift: u32,
        blocks: u32,
        first: u32,
        count: u32,
        /// 1 where rows come as they are, not in `order`.
        unsorted: u32,
        _pad0: u32,
    }

    /// Of a prefix sum.
    struct PrefixParams {
        count: u32,
        _pad0: u32,
        _pad1: u32,
        _pad2: u32,
    }

    /// Of the search for where cells start.
    struct StartsParams {
        n: u32,
        stride: u32,
        cells: u32,
        _pad0: u32,
    }

    /// Of the division of cells into parts; the share of rows to drop is mantissa / 2^shift, shift at least 23.
    struct PartsParams {
        cells: u32,
        length: u32,
        mantissa: u32,
        shift: u32,
    }

    /// Of the sums of `count` parts from `first` on.
    struct SumsParams {
        first: u32,
        count: u32,
        cells: u32,
        length: u32,
        first_row: u32,
        rows: u32,
        dim: u32,
        column: u32,
        columns: u32,
        /// 1 where there are sums already.
        add: u32,
        _pad0: u32,
        _pad1: u32,
    }

    /// Of the means of `count` cells from `first` on.
    struct MeansParams {
        first: u32,
        count: u32,
        /// First cell of the part of the means.
        part: u32,
        dim: u32,
        column: u32,
        columns: u32,
        _pad0: u32,
        _pad1: u32,
    }

    /// Of a step of `count` anchors from `first` on.
    struct UpdateParams {
        first: u32,
        count: u32,
        dim: u32,
        rate: f32,
    }

    // encode

    /// Of the search for codes, and of the codewords of what it found.
    struct EncodeParams {
        rows: u32,
        row0: u32,
        try0: u32,
        try_step: u32,
        found0: u32,
        first_try: u32,
        end_try: u32,
        directions: u32,
        symbols: u32,
        lags: u32,
        words: u32,
        scratch_words: u32,
        far: u32,
        near: u32,
        alone: u32,
        offsets: u32,
        symbol_of: u32,
        scale: f32,
        alphabet: u32,
        rounds: u32,
    }

    /// Of the lengths of decoded rows.
    struct LengthsParams {
        rows: u32,
        directions: u32,
        row0: u32,
        constant: f32,
    }

    // mlp and fit

    /// Of a product of the residual network.
    struct MlpParams {
        rows: u32,
        columns: u32,
        depth: u32,
        each: u32,
        first: u32,
        add: u32,
        scale: f32,
        _pad0: u32,
    }

    /// Of what goes into the network, and of what it misses.
    struct MlpRowsParams {
        count: u32,
        width: u32,
        first: u32,
        listed: u32,
    }

    /// Of a step of a layer's parameters.
    struct MoveParams {
        count: u32,
        weights: u32,
        inputs: u32,
        splits: u32,
        rounds: u32,
        top: f32,
        rate: f32,
        keep: f32,
        mean_scale: f32,
        square_scale: f32,
        _pad0: u32,
        _pad1: u32,
    }

    // score

    /// Of one pass over a part of the codes (shaders/score.wgsl).
    struct ScanParams {
        first_group: u32,
        first: u32,
        groups: u32,
        stride: u32,
        n: u32,
        symbols: u32,
        alphabet: u32,
        group_words: u32,
        side_nibbles: u32,
        cell_count: u32,
        chart: u32,
        charts: u32,
        factor_nibbles: u32,
        squared: u32,
        query_count: u32,
        bases_at: u32,
        looked_at: u32,
        looked_words: u32,
        mode: u32,
        maxima: u32,
        capacity: u32,
        head: u32,
        chosen: u32,
        _pad0: u32,
    }

    /// Of the search for a query's k-th largest maximum.
    struct KthParams {
        count: u32,
        k: u32,
        _pad0: u32,
        _pad1: u32,
    }
}
