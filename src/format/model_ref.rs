//! What a model is known by, and files that name theirs instead of holding it (docs/format.md, section 13).

use xxhash_rust::xxh3::Xxh3;

use super::{
    features,
    header::{self, SectionEntry},
};
use crate::error::ParseError;

/// The sections that every model has, beside the facts in `META`.
const PARTS: [&str; 4] = ["MEAN", "CHRT", "ANCH", "SIDE"];
/// That of a model with further tables for scores, of one with a refine layer, and of one with a learned decoder.
const SCORE: [u8; 4] = super::score::KIND;
const REFINE: [u8; 4] = *b"RFNM";
const LEARNED: [u8; 4] = *b"DECO";

/// The sections of a model.
pub(super) struct ModelParts<'a> {
    /// In the order of `PARTS`.
    pub(super) base: [&'a [u8]; 4],
    pub(super) score: Option<&'a [u8]>,
    pub(super) refine: Option<&'a [u8]>,
    pub(super) learned: Option<&'a [u8]>,
}

impl ModelParts<'_> {
    /// Section `CHRT`.
    pub(super) fn charts(&self) -> &[u8] {
        self.base[1]
    }
}

/// A model that stands in a file of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelRef {
    pub(crate) hash: u128,
    /// Where it was when this file was written: a file name, beside this file.
    pub(crate) name: String,
}

impl ModelRef {
    /// Section `MREF`.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        [&self.hash.to_le_bytes()[..], self.name.as_bytes()].concat()
    }

    pub(super) fn parse(b: &[u8]) -> Result<ModelRef, ParseError> {
        let bad = |message: &str| ParseError::invalid("MREF", message);
        let (hash, name) = b.split_first_chunk().ok_or_else(|| bad("ends before its contents do"))?;
        let name = std::str::from_utf8(name).map_err(|_| bad("is not UTF-8"))?;
        // It is looked up beside the file, and must not lead anywhere else.
        if name.is_empty() || name.len() > 255 || name.contains(['/', '\\', '\0']) || name == ".." || name == "." {
            return Err(bad("its name is not that of a file in the same folder"));
        }
        Ok(ModelRef { hash: u128::from_le_bytes(*hash), name: name.to_owned() })
    }

    /// The sections of the model in the bytes of its file.
    pub(super) fn resolve<'a>(&self, file: Option<&'a [u8]>) -> Result<ModelParts<'a>, ParseError> {
        let file = file.ok_or_else(|| ParseError::Model { name: self.name.clone(), hash: self.hash })?;
        let layout = header::parse(file)?;
        features::check(&layout, file)?;
        for entry in layout.entries.iter().filter(|e| is_part(e)) {
            super::segment::intact(file, entry)?;
        }
        parts(&layout.entries, file)
    }
}

fn is_part(entry: &SectionEntry) -> bool {
    [SCORE, REFINE, LEARNED].contains(&entry.kind) || PARTS.iter().any(|kind| kind.as_bytes() == entry.kind)
}

/// Whether a table has a section of a model.
pub(super) fn any_part(entries: &[SectionEntry]) -> bool {
    entries.iter().any(is_part)
}

/// The sections of the model in `bytes`.
pub(super) fn parts<'a>(entries: &[SectionEntry], bytes: &'a [u8]) -> Result<ModelParts<'a>, ParseError> {
    let find = |kind: &[u8]| entries.iter().find(|e| e.segment == 0 && e.kind == kind).map(|e| &bytes[e.range()]);
    let mut base = [&bytes[..0]; 4];
    for (part, kind) in base.iter_mut().zip(PARTS) {
        *part = find(kind.as_bytes()).ok_or(ParseError::Missing(kind))?;
    }
    Ok(ModelParts { base, score: find(&SCORE), refine: find(&REFINE), learned: find(&LEARNED) })
}

/// What a model of these sections is known by.
pub(crate) fn hash_of(head: &[([u8; 4], Vec<u8>)]) -> u128 {
    let find = |kind: &[u8]| head.iter().find(|(k, _)| k == kind).map(|(_, bytes)| bytes.as_slice());
    let base = PARTS.map(|kind| find(kind.as_bytes()).unwrap_or_default());
    let parts = ModelParts { base, score: find(&SCORE), refine: find(&REFINE), learned: find(&LEARNED) };
    hash(find(b"META").unwrap_or(&[0; 8]), &parts)
}

/// What a model is known by: XXH3-128 of its facts and sections. The number of rows in the facts, which version 1 has there, is
/// left out.
pub(super) fn hash(meta: &[u8], parts: &ModelParts<'_>) -> u128 {
    let mut hasher = Xxh3::new();
    hasher.update(&[0; 8]);
    hasher.update(&meta[8..]);
    parts
        .base
        .iter()
        .chain(&parts.score)
        .chain(&parts.refine)
        .chain(&parts.learned)
        .for_each(|part| hasher.update(part));
    hasher.digest128()
}
