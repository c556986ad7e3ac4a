//! The bytes of a `.vlc` file, as docs/format.md specifies them. Pure: no I/O policy, no arithmetic backend.

mod bits;
mod commit;
mod elias_fano;
mod header;
mod history;
mod ids;
mod learned;
mod meta;
mod model;
mod model_ref;
mod numbers;
mod parse;
mod refine;
mod row_ids;
mod rows;
mod segment;
mod write;

pub(crate) use elias_fano::bytes_at_most as row_ids_len;
#[cfg(test)]
pub(crate) use elias_fano::encode as encode_rows;
pub(crate) use header::{DEAD, Layout, SLOTS_END as HEADER_BYTES, SectionEntry};
pub(crate) use history::{Written as Appended, bytes as history_bytes, fixed};
pub(crate) use ids::{Ids, IdsKind, numbers_bytes, text_bytes};
pub(crate) use learned::learned_bytes;
pub(crate) use meta::{MOST_ROWS, Meta};
pub(crate) use model_ref::ModelRef;
pub(crate) use parse::{MOST_PAIRS, Parsed, check_model, parse, verify};
pub(crate) use refine::{MOST_SYMBOLS, RefineRows, put_refine_rows};
#[cfg(test)]
pub(crate) use row_ids::starts as row_starts;
pub(crate) use row_ids::{RowIds, Walk};
pub(crate) use rows::{BLOCK, BlockShape, place_side, place_symbols};
pub(crate) use segment::{MOST_BARE_ROWS, Segment, tombs_bytes};
pub(crate) use write::{FileShape, SECTIONS, Writer, file_len, metadata_bytes};

/// The newest version of the file this build reads and the one it writes.
pub const VERSION: u32 = 2;

/// What is wrong with the bytes of a `.vlc` file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The first bytes are not those of a `.vlc` file.
    #[error("not a .vlc file (its first bytes are not the magic number); was it written by another program?")]
    Magic,
    /// The file is newer than this build.
    #[error("the file has format version {found}, this build reads up to {VERSION}; upgrade vlc to read it")]
    Version {
        /// The version in the file.
        found: u32,
    },
    /// The file ends before it should, or goes on after it.
    #[error("the file should have {expected} bytes and has {found}: truncated or damaged; restore it from a copy")]
    Length {
        /// Bytes the header, or the least file, calls for.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// A part of the file could not be read while it was used.
    #[error(
        "the file was truncated while it was used, or a part of it cannot be read; open it again, or restore it from a copy"
    )]
    Shrunk,
    /// A part does not match its checksum.
    #[error("{part} does not match its checksum: the file is damaged; restore it from a copy")]
    Checksum {
        /// The header, the table or a section.
        part: String,
    },
    /// A required section is missing.
    #[error("section {0} is missing")]
    Missing(&'static str),
    /// The file needs something this build does not know.
    #[error("section {0} is unknown to this build and needed to read the file; upgrade vlc to read it")]
    Unknown(String),
    /// The file names a model that stands in a file of its own.
    #[error("the file needs the model {name} (hash {hash:032x}), which is not beside it; name it with --model")]
    Model {
        /// The model's file name when the file was written.
        name: String,
        /// The model's hash.
        hash: u128,
    },
    /// A value breaks a rule of the format.
    #[error("{part}: {message}")]
    Invalid {
        /// Where.
        part: &'static str,
        /// Which rule.
        message: String,
    },
}

impl ParseError {
    fn invalid(part: &'static str, message: impl Into<String>) -> Self {
        ParseError::Invalid { part, message: message.into() }
    }
}
