//! What the targets share. Every one of them runs on one thread, so that the same input takes the same path.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a target reports by panicking")]

pub mod exercise;
pub mod folder;
pub mod input;
pub mod machine;
pub mod memory;
pub mod sealed;
pub mod vectors;

/// Stores that the structured targets start from; `examples/bases.rs` made them.
pub const BASES: [&[u8]; 9] = [
    include_bytes!("../bases/rows.vlc"),
    include_bytes!("../bases/numbers.vlc"),
    include_bytes!("../bases/text.vlc"),
    include_bytes!("../bases/l2.vlc"),
    include_bytes!("../bases/pq8.vlc"),
    include_bytes!("../../tests/golden/v1-cosine.vlc"),
    include_bytes!("../../tests/golden/v1-l2.vlc"),
    include_bytes!("../../tests/golden/v1-pq8.vlc"),
    include_bytes!("../../tests/golden/v2-decoder.vlc"),
];

/// Makes the calling thread the only one that works.
pub fn one_thread() {
    let _ = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global();
}
