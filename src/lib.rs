//! Shrinks a store of embedding vectors to 2-3 % of its float32 bytes and answers nearest-neighbour queries straight
//! from the compressed file.
//!
//! The modules read in the order of the data: [`read`] vectors, `train` a model, `encode` the rows, write one file
//! (`format`), map it ([`Index`]), [search](Searcher) it.
#![warn(missing_docs, unreachable_pub)]

mod compress;
mod config;
mod device;
mod embedding;
mod encode;
mod error;
mod file;
pub mod format;
mod ids;
mod index;
mod learned;
mod math;
mod matrix;
pub mod measure;
mod model;
mod neighbors;
pub mod ops;
mod platform;
mod printable;
pub mod read;
mod refine;
mod report;
mod search;
mod store;
pub mod train;

pub use compress::{
    compress, compress_to,
    drift::{AppendReport, DRIFT, LONGER},
    plan::plan,
    with_model::EncodeOptions,
};
pub use config::{AnnealingConfig, Budget, Config, Decoder};
pub use device::{Backend, DeviceChoice};
pub use embedding::Embedding;
pub use error::{Error, InputError};
pub use file::{guard::guard_mappings, mmap::MappedFile};
pub use ids::Ids;
pub use index::{
    Index,
    filter::{Filter, RowFilter},
    info::{Appended, DecoderInfo, IdKind, Info},
    searcher::{SearchOptions, Searcher},
    write_index,
};
pub use matrix::{Mat, MatRef};
pub use model::kinds::{CodeKind, DecoderShape, Metric};
pub use neighbors::{Hit, Neighbors};
pub use ops::types::Assignments;
pub use printable::{Printable, is_unprintable, printable};
pub use read::{file::VectorFile, source::RowSource};
pub use report::{Event, HeldOutRecall, Plan, ProgressFn, QuerySource, Report, Stage};
pub use search::{
    exact::{exact_neighbors, exact_neighbors_with},
    probe::Probe,
    recall::{recall, recall_among, recall_beside},
};
pub use store::{
    BuildReport, DeleteReport, SalvageReport, Store, compress_with_model, merge, salvage, train_to, transcode,
};
pub use train::{anneal, anneal::AnchorSet};

/// The result of a call of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The example of the README, compiled and run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
