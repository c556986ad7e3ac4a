//! The bytes of a `.vlc` file, as docs/format.md specifies them. Pure: no I/O policy, no arithmetic backend.

pub(crate) mod bits;
pub(crate) mod commit;
pub(crate) mod elias_fano;
pub(crate) mod features;
pub(crate) mod gain;
pub(crate) mod header;
pub(crate) mod history;
pub(crate) mod ids;
pub(crate) mod learned;
pub(crate) mod meta;
pub(crate) mod model;
pub(crate) mod model_ref;
pub(crate) mod numbers;
pub(crate) mod parse;
pub(crate) mod refine;
pub(crate) mod row_ids;
pub(crate) mod rows;
pub(crate) mod salvage;
pub(crate) mod segment;
pub(crate) mod sums;
pub(crate) mod write;

pub(crate) use header::{
    DEAD, Layout, SLOTS_END as HEADER_BYTES, SectionEntry, parse as parse_header, salvage as layouts_left,
};
pub(crate) use history::Written as Appended;
pub(crate) use ids::Ids;
pub(crate) use parse::{MOST_PAIRS, Parsed, check_model, check_sections, parse, verify};
pub(crate) use rows::BLOCK;
pub(crate) use salvage::sound;

use crate::printable;

/// The newest version of the file this build reads and the one it writes.
pub const VERSION: u32 = 3;

/// The first bytes of a `.vlc` file, of any version.
pub const MAGIC: [u8; 8] = header::MAGIC;

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
    #[error("{} does not match its checksum: the file is damaged; restore it from a copy", printable(part))]
    Checksum {
        /// The header, the table or a section.
        part: String,
    },
    /// A required section is missing.
    #[error("section {0} is missing")]
    Missing(&'static str),
    /// The file needs something this build does not know.
    #[error("section {} is unknown to this build and needed to read the file; upgrade vlc to read it", printable(.0))]
    Unknown(String),
    /// The file uses a feature of the format that this build does not know.
    #[error("the file uses the feature {name:?} (bit {bit}), which this build does not know; upgrade vlc to read it")]
    Feature {
        /// Its bit.
        bit: u8,
        /// Its name, as the file has it.
        name: String,
    },
    /// The file names a model that stands in a file of its own.
    #[error(
        "the file needs the model {} (hash {hash:032x}), which is not beside it; name it with --model",
        printable(name)
    )]
    Model {
        /// The model's file name when the file was written.
        name: String,
        /// The model's hash.
        hash: u128,
    },
    /// A value breaks a rule of the format.
    #[error("{part}: {}", printable(message))]
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
