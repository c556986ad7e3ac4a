//! Vectors from files or memory, row ranges at a time; files of ids, and of results.

pub(crate) mod destination;
pub(crate) mod dtype;
pub(crate) mod file;
pub(crate) mod format;
pub(crate) mod ids;
pub(crate) mod layout;
pub(crate) mod npy;
pub(crate) mod prepare;
pub(crate) mod sink;
pub(crate) mod source;
pub(crate) mod vecs;
pub(crate) mod write;

#[cfg(test)]
mod tests;

pub use destination::Destination;
pub use dtype::DType;
pub use file::VectorFile;
pub use format::FileFormat;
pub use ids::{read_ids, read_text_ids, write_ids};
pub use sink::Sink;
pub use source::{RowSource, read_all};
pub use write::{NpyWriter, write_lines, write_npy_f32, write_npy_i64};
