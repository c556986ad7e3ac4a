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
pub(crate) mod score;
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

pub(crate) use header::{MAGIC, VERSION};
