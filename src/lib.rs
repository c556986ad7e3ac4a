//! Shrinks a store of embedding vectors to 2-3 % of its float32 bytes and answers nearest-neighbour queries straight
//! from the compressed file.
//!
//! The modules read in the order of the data: [`read`] vectors, `train` a model, `encode` the rows, write one file
//! (`format`), map it ([`Index`]), [search](Searcher) it.
#![warn(missing_docs, unreachable_pub)]

mod backend;
mod compress;
mod config;
mod embedding;
mod encode;
mod error;
mod escape;
mod file;
mod format;
mod ids;
mod index;
mod learned;
mod math;
mod matrix;
mod model;
mod neighbors;
mod ops;
mod platform;
pub mod read;
mod refine;
mod report;
mod search;
mod store;
mod timing;
mod train;

pub use backend::{Backend, Compute, DeviceChoice};
pub use compress::{
    compress, compress_to,
    drift::{AppendReport, DRIFT, LONGER},
    plan::plan,
    with_model::{BuildReport, EncodeOptions, compress_with_model, train_to},
};
pub use config::{AnnealingConfig, Budget, Config, Decoder};
pub use embedding::Embedding;
pub use error::{Error, InputError, ParseError};
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
pub use report::{Event, HeldOutRecall, Plan, ProgressFn, QuerySource, Report, Stage};
pub use search::probe::Probe;
pub use store::{
    DeleteReport, Store,
    merge::{merge, transcode},
    salvage::{SalvageReport, salvage},
};

/// The first bytes of a `.vlc` file, of any version.
pub use format::header::MAGIC as FORMAT_MAGIC;
/// The newest version of the file that this build reads, and the one it writes.
pub use format::header::VERSION as FORMAT_VERSION;

/// The devices there are, and how they are.
pub mod device {
    pub use crate::{
        backend::{DeviceInfo, Health},
        ops::{devices, health},
    };
}

/// How good answers are, and how fast the operations of training: exact neighbours, recall, anchors, times.
pub mod measure {
    pub use crate::{
        ops::types::Assignments,
        search::{
            exact::{exact_neighbors, exact_neighbors_with},
            recall::{recall, recall_among, recall_beside},
        },
        timing::{Timed, time_assign, time_kmeans},
        train::{anneal, anneal::AnchorSet},
    };
}

/// Names that come from files, made fit for a terminal and a log.
pub mod text {
    pub use crate::escape::{Printable, is_unprintable, printable};
}

/// The result of a call of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The example of the README, compiled and run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
