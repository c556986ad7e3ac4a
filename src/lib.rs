//! Shrinks a store of embedding vectors to 2-3 % of its float32 bytes and answers nearest-neighbour queries straight
//! from the compressed, memory-mapped file. The originals can be deleted.
//!
//! Vectors become codes of a few bits a dimension, behind a model that all of them share and that is kept in the file. A query looks at
//! all codes unless it is told otherwise, with the widest vector instructions of the processor, or on a GPU. The size asked for is the size of
//! the file, and the recall it bought is measured on held-out queries and kept in it.
//!
//! # Compress and query
//!
//! ```
//! use vlc::{Budget, Config, Index, MatRef, compress_to};
//!
//! // 1,000 vectors of 64 dimensions; yours come from a model.
//! let values: Vec<f32> = (0..64_000).map(|i| ((i * 37 % 1013) as f32 / 500.0) - 1.0).collect();
//! let rows = MatRef::new(&values, 1000, 64)?;
//! # let folder = tempfile::tempdir().unwrap();
//! let path = "store.vlc";
//! # let path = folder.path().join(path);
//! let report = compress_to(&rows, &path, &Config { budget: Budget::Ratio(0.10), ..Config::default() })?;
//! assert!(report.ratio <= 0.10);
//!
//! let index = Index::open(&path)?;
//! let hits = index.query(rows.row(7), 5)?;
//! assert_eq!(hits.len(), 5);
//! # Ok::<(), vlc::Error>(())
//! ```
//!
//! # A store that changes
//!
//! ```
//! use vlc::{Budget, Config, EncodeOptions, Ids, MatRef, Store, compress_to};
//!
//! # let values: Vec<f32> = (0..64_000).map(|i| ((i * 37 % 1013) as f32 / 500.0) - 1.0).collect();
//! # let rows = MatRef::new(&values, 1000, 64)?;
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("store.vlc");
//! compress_to(&rows.slice(0..900), &path, &Config { budget: Budget::Ratio(0.10), ..Config::default() })?;
//! let mut store = Store::open(&path)?;
//! let reader = store.index()?;
//! let appended = store.append(&rows.slice(900..1000), &EncodeOptions::default())?;
//! assert_eq!((appended.first_row, appended.n), (900, 1000));
//! store.delete(&Ids::Numbers(vec![3, 5]))?;
//! // Whoever searches goes on with the commit it opened, and asks for a newer one.
//! assert_eq!(reader.len(), 900);
//! assert_eq!(vlc::Index::open(&path)?.len(), 998);
//! # Ok::<(), vlc::Error>(())
//! ```
//!
//! # Filtered search from many threads
//!
//! ```
//! use std::{sync::Arc, thread};
//! use vlc::{Backend, Config, MatRef, SearchOptions, compress};
//!
//! # let values: Vec<f32> = (0..64_000).map(|i| ((i * 37 % 1013) as f32 / 500.0) - 1.0).collect();
//! # let rows = MatRef::new(&values, 1000, 64)?;
//! let index = Arc::new(compress(rows, &Config::default())?);
//! // The codes are on the device once, whoever has a clone.
//! let searcher = index.searcher(Backend::Cpu)?;
//! let even = index.filter_by(|id| id % 2 == 0)?;
//! thread::scope(|scope| {
//!     for q in 0..4 {
//!         let (searcher, even) = (searcher.clone(), &even);
//!         scope.spawn(move || {
//!             let found = searcher.search(rows.slice(q..q + 1), &SearchOptions::new(3).filtered(even)).unwrap();
//!             assert!(found.ids.row(0).iter().all(|id| id % 2 == 0));
//!         });
//!     }
//! });
//! # Ok::<(), vlc::Error>(())
//! ```
//!
//! # Where things are
//!
//! | what | where |
//! |---|---|
//! | make a file | [`compress`], [`compress_to`], [`plan`]; with a model of its own [`train_to`], [`compress_with_model`] |
//! | search it | [`Index`], [`Searcher`], [`SearchOptions`], [`Filter`], [`Hit`], [`Neighbors`] |
//! | change it | [`Store`], [`merge`], [`transcode`], [`salvage`] |
//! | files of vectors and ids | [`read`] |
//! | devices | [`Compute`], [`device`] |
//! | recall, exact neighbours, times | [`measure`] |
//! | names that come from files | [`text`] |
//! | what can go wrong | [`Error`], with the [exit code](Error::code) of the command line |
//!
//! # Features
//!
//! - `gpu-wgpu` (default): any GPU with Vulkan, Metal or Direct3D 12.
//! - `gpu-cuda`: NVIDIA GPUs. Needs no toolkit to build, and the driver alone to run.
//! - `serde`: `Serialize` and `Deserialize` for [`Info`], [`Report`], [`Plan`], [`Hit`] and the like.
//!
//! Without features everything runs on the CPU, in WebAssembly too.
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
            similarity::{SimilarityRatio, similarity_ratio},
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
