//! What a reader must know to read a file: bits in the slots of a commit, named in section `FEAT` (docs/format.md, section 3).

use super::header::{Layout, SectionEntry};
use crate::error::ParseError;

/// Segments with a scale of their own for the lengths of rows: section `GAIN`.
pub(crate) const LENGTHS: u64 = 1 << 0;

/// Weights of codewords, 256 factors, one gain for all rows: section `SCOR`.
pub(crate) const SCORES: u64 = 1 << 1;

/// The features that this build knows, by bit.
const NAMES: [(u64, &str); 2] = [(LENGTHS, "lengths"), (SCORES, "scores")];

/// Kinds of section that are there only where a feature is used.
const KINDS: [([u8; 4], u64); 2] = [(*b"GAIN", LENGTHS), (*b"SCOR", SCORES)];

/// The section that names the features.
pub(super) const FEAT: [u8; 4] = *b"FEAT";

/// The features that a file with these sections uses.
pub(super) fn used(entries: &[SectionEntry]) -> u64 {
    let has = |kind: [u8; 4]| entries.iter().any(|entry| entry.kind == kind);
    KINDS.iter().filter(|(kind, _)| has(*kind)).fold(0, |all, (_, bit)| all | bit)
}

/// Section `FEAT`: bit, length of the name and name of each feature, ascending.
pub(super) fn names_bytes(features: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for (bit, name) in NAMES.iter().filter(|(bit, _)| features & bit != 0) {
        out.extend_from_slice(&[bit.trailing_zeros() as u8, name.len() as u8]);
        out.extend_from_slice(name.as_bytes());
    }
    out
}

/// Refuses, by name, a file that uses what this build does not know; and one whose bits, names and sections do not agree.
pub(super) fn check(layout: &Layout, bytes: &[u8]) -> Result<(), ParseError> {
    check_known(layout, bytes)?;
    let section = layout.entries.iter().find(|entry| entry.kind == FEAT);
    let features = layout.commit.features;
    let bad = |what: &str| Err(ParseError::invalid("FEAT", what));
    match section {
        None if features != 0 => bad("the features of the file are not named"),
        Some(_) if features == 0 => bad("it names features, and the file has none"),
        Some(entry) if bytes[entry.range()] != names_bytes(features) => {
            bad("its names are not those of the features")
        }
        _ if used(&layout.entries) & !features != 0 => bad("a section is there whose feature is not"),
        _ => Ok(()),
    }
}

/// Refuses, by name, a file that uses what this build does not know.
pub(super) fn check_known(layout: &Layout, bytes: &[u8]) -> Result<(), ParseError> {
    let section = layout.entries.iter().find(|entry| entry.kind == FEAT);
    let features = layout.commit.features;
    let known = NAMES.iter().fold(0, |all, (bit, _)| all | bit);
    if features & !known != 0 {
        let bit = (features & !known).trailing_zeros() as u8;
        let name = section.and_then(|entry| name_of(&bytes[entry.range()], bit));
        return Err(ParseError::Feature { bit, name: name.unwrap_or("without a name").to_owned() });
    }
    Ok(())
}

/// The name of a bit in section `FEAT`.
fn name_of(mut section: &[u8], bit: u8) -> Option<&str> {
    while let [found, len, rest @ ..] = section {
        let (name, behind) = rest.split_at_checked((*len).into())?;
        if *found == bit {
            return std::str::from_utf8(name).ok();
        }
        section = behind;
    }
    None
}
