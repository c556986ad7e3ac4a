//! The naive oracle of `vlc`: every formula of the codec and of `docs/format.md` once more, in
//! `f64`, as directly as it can be written.
//!
//! Nothing here is fast and nothing here shares code with the `vlc` crate: a mistake would have to
//! be made twice to go unseen. Read it in the order of the data:
//!
//! 1. [`distance`]: squared distances, the nearest anchor, the exact top k, recall;
//! 2. [`kmeans`]: what one iteration of anchor training computes per cell;
//! 3. [`waterfill`]: how many bits each direction of a Gaussian source deserves;
//! 4. [`chain`]: from symbols to coordinates, and the best symbols by trying them all;
//! 5. [`packed`], [`header`], [`container`], [`model`], [`rows`], [`file`](mod@file): a `.vlc` file, from bits to codes;
//! 6. [`decode`]: from codes to vectors, scores and neighbours;
//! 7. [`mlp`], [`learned`]: the network of a learned decoder, and how a file has it;
//! 8. [`ids`], [`store`]: all segments of a file, what is deleted, and what its rows are called.
//!
//! Matrices are flat slices, row after row: "`rows`: n x d" means `rows[i * d + c]`. Functions on
//! plain numbers assert their shapes; functions on file bytes never panic and return `Err` with a
//! sentence instead.

#![allow(clippy::needless_range_loop, reason = "an index that appears in the equation appears in the loop")]

pub mod chain;
pub mod container;
pub mod decode;
pub mod distance;
pub mod file;
pub mod header;
pub mod ids;
pub mod kmeans;
pub mod learned;
pub mod mlp;
pub mod model;
pub mod packed;
pub mod rows;
pub mod store;
pub mod waterfill;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests;

pub use chain::{Code, CodeKind};
pub use distance::Metric;
pub use file::{File, parse, parse_with_model};
pub use ids::Id;
pub use store::Store;
