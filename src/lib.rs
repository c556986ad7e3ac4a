//! Shrinks a store of embedding vectors to 2-3 % of its float32 bytes and answers nearest-neighbour queries straight
//! from the compressed file.
//!
//! The modules read in the order of the data: [`read`] vectors, `train` a model, `encode` the rows, write one file
//! (`format`), map it ([`Index`]), [search](Searcher) it.
#![warn(missing_docs, unreachable_pub)]

mod compress;
mod config;
mod decode;
mod embedding;
mod encode;
mod error;
mod exact;
mod expected;
mod filter;
pub mod format;
mod guard;
mod held_out;
mod ids;
mod index;
mod info;
mod learned;
mod lengths;
mod live;
mod matrix;
pub mod measure;
mod mmap;
mod model;
pub mod ops;
mod plan;
mod platform;
mod prepare;
mod printable;
mod probe;
mod query;
pub mod read;
mod recall;
mod refine;
mod rows;
mod search;
mod segments;
mod select;
mod spool;
mod store;
mod topk;
pub mod train;

pub use compress::{Report, compress, compress_to};
pub use config::{
    AnnealingConfig, Budget, CodeKind, Config, Decoder, DecoderShape, Event, Metric, ProgressFn, Stage,
};
pub use embedding::Embedding;
pub use error::{Error, InputError};
pub use exact::{exact_neighbors, exact_neighbors_with};
pub use filter::{Filter, RowFilter};
pub use guard::guard_mappings;
pub use ids::Ids;
pub use index::{Index, write_index};
pub use info::{Appended, DecoderInfo, HeldOutRecall, IdKind, Info, QuerySource};
pub use matrix::{Mat, MatRef};
pub use mmap::MappedFile;
pub use ops::{Assignments, Backend, DeviceChoice};
pub use plan::{Plan, plan};
pub use printable::{Printable, is_unprintable, printable};
pub use probe::Probe;
pub use read::{RowSource, VectorFile};
pub use recall::{recall, recall_among, recall_beside};
pub use search::{Hit, Neighbors, SearchOptions, Searcher};
pub use store::{
    AppendReport, BuildReport, DRIFT, DeleteReport, EncodeOptions, LONGER, SalvageReport, Store, compress_with_model,
    merge, salvage, train_to, transcode,
};
pub use train::{AnchorSet, anneal};

/// The result of a call of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The example of the README, compiled and run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
