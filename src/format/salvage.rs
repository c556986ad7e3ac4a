//! What is sound of a damaged file: which sections can be done without, and which rows lie in damaged bytes.

use std::{collections::BTreeSet, ops::Range};

use super::{
    bits::u64_at,
    header::{Layout, SectionEntry},
    ids::Ids,
    parse::{Parsed, is_of_segment, parse_sound},
    refine::RefineRows,
    rows::BLOCK,
    segment::intact,
    sums::damaged,
};
use crate::{error::ParseError, ids::IdsKind};

/// Sections without which no row can be read.
const NEEDED: [[u8; 4]; 7] = [*b"META", *b"MREF", *b"MEAN", *b"CHRT", *b"ANCH", *b"SIDE", *b"SCOR"];
/// Those without which a segment says nothing.
const NEEDED_IN_SEGMENT: [[u8; 4]; 3] = [*b"SEGM", *b"CELL", *b"GAIN"];
/// Those that can be looked into where parts of them are damaged.
const IN_PARTS: [[u8; 4]; 5] = [*b"ROWS", *b"CODE", *b"RFNC", *b"IDSU", *b"IDSS"];

/// What is left of a file.
#[derive(Debug)]
pub(crate) struct Sound {
    pub(crate) parsed: Parsed,
    /// Of each segment that is left, the positions that are damaged, ascending; deleted ones among them.
    pub(crate) damaged: Vec<Vec<u64>>,
    /// Rows of segments that are gone, as far as their number is known.
    pub(crate) gone: u64,
    /// What is wrong, in words.
    pub(crate) problems: Vec<String>,
}

/// Reads what is sound.
///
/// # Errors
/// That of the first section without which nothing can be read.
pub(crate) fn sound(bytes: &[u8], mut layout: Layout, model: Option<&[u8]>) -> Result<Sound, ParseError> {
    let mut problems = Vec::new();
    let mut dropped: BTreeSet<u16> = BTreeSet::new();
    let mut kept: Vec<SectionEntry> = Vec::new();
    let mut refine = true;
    for entry in &layout.entries {
        let whole = intact(bytes, entry);
        match (&whole, entry.kind) {
            (Ok(()), _) => kept.push(*entry),
            (Err(error), kind) if NEEDED.contains(&kind) => return Err(error.clone()),
            (Err(_), kind) if NEEDED_IN_SEGMENT.contains(&kind) => {
                problems.push(format!(
                    "{} of segment {} is damaged: all its rows are lost",
                    entry.name(),
                    entry.segment
                ));
                dropped.insert(entry.segment);
            }
            (Err(_), kind) if IN_PARTS.contains(&kind) => {
                let parts = damaged(&layout.entries, bytes, entry);
                let lost: u64 = parts.iter().map(|part| part.end - part.start).sum();
                problems.push(format!(
                    "{} of segment {}: {lost} of {} bytes are damaged",
                    entry.name(),
                    entry.segment,
                    entry.len
                ));
                if ids_of(entry).is_some_and(|kind| !ids_open(bytes, &layout.entries, entry, kind)) {
                    dropped.insert(entry.segment);
                }
                kept.push(*entry);
            }
            // What nobody looks at.
            (Err(_), kind) if kind == super::DEAD || kind == *b"SUMS" => {}
            (Err(_), kind) => {
                refine &= kind != *b"RFNM";
                problems.push(format!("{} is damaged: {}", entry.name(), without(kind)));
            }
        }
    }
    let rows_of = |segment: u16| {
        let facts = kept.iter().find(|e| e.kind == *b"SEGM" && e.segment == segment);
        facts.map_or(0, |e| u64_at(bytes, e.range().start))
    };
    let gone = dropped.iter().map(|&segment| rows_of(segment)).sum();
    kept.retain(|e| !(is_of_segment(e) && dropped.contains(&e.segment)) && (refine || e.kind != *b"RFNC"));
    // Segments are numbered without gaps.
    for entry in kept.iter_mut().filter(|e| is_of_segment(e)) {
        entry.segment -= dropped.range(..entry.segment).count() as u16;
    }
    layout.entries = kept;
    let parsed = parse_sound(bytes, layout, model)?;
    let damaged = (0..parsed.segments.len()).map(|number| damaged_positions(&parsed, bytes, number)).collect();
    Ok(Sound { parsed, damaged, gone, problems })
}

/// What a file is without a section of this kind.
fn without(kind: [u8; 4]) -> &'static str {
    match &kind {
        b"KEYV" => "notes and the name of the embedding model are lost",
        b"HIST" => "how well the model fitted appended rows is lost",
        b"TOMB" => "rows that were deleted come back",
        b"DECO" => "rows are decoded without the learned decoder, less accurately",
        b"RFNM" => "the refine layer is lost",
        _ => "left out",
    }
}

fn ids_of(entry: &SectionEntry) -> Option<IdsKind> {
    [IdsKind::Numbers, IdsKind::Text].into_iter().find(|kind| kind.section() == entry.kind)
}

/// Whether the ids of a segment can be looked into at all.
fn ids_open(bytes: &[u8], entries: &[SectionEntry], ids: &SectionEntry, kind: IdsKind) -> bool {
    let facts = entries.iter().find(|e| e.kind == *b"SEGM" && e.segment == ids.segment);
    facts
        .is_some_and(|facts| Ids::new(kind, u64_at(bytes, facts.range().start) as usize, &bytes[ids.range()]).is_ok())
}

/// The positions of a segment whose code, row number or id lies in damaged bytes.
fn damaged_positions(parsed: &Parsed, bytes: &[u8], number: usize) -> Vec<u64> {
    let segment = &parsed.segments[number];
    let entries = parsed.entries();
    let parts_of = |kind: &[u8; 4]| -> Vec<Range<u64>> {
        let entry = entries.iter().find(|e| e.kind == *kind && usize::from(e.segment) == number);
        entry.map_or_else(Vec::new, |entry| damaged(entries, bytes, entry))
    };
    let mut positions: BTreeSet<u64> = BTreeSet::new();
    let stride = parsed.block.bytes() as u64;
    for part in parts_of(b"CODE") {
        let (first, last) = (part.start / stride.max(1), (part.end - 1) / stride.max(1));
        positions.extend((first * BLOCK as u64..(last + 1) * BLOCK as u64).take_while(|&p| p < segment.n));
    }
    if let Some(rows) = segment.refine_rows(bytes) {
        let pair = RefineRows::len(2, rows.width);
        for part in parts_of(b"RFNC") {
            positions.extend((part.start / pair * 2..(part.end - 1) / pair * 2 + 2).take_while(|&p| p < segment.n));
        }
    }
    let rows = segment.row_ids(bytes);
    for part in parts_of(b"ROWS") {
        for cell in 0..rows.cells.len() - 1 {
            if rows.starts[cell] < part.end && part.start < rows.starts[cell + 1] {
                positions.extend(rows.cells[cell]..rows.cells[cell + 1]);
            }
        }
    }
    if let Some(ids) = segment.ids(bytes) {
        let parts = [parts_of(b"IDSU"), parts_of(b"IDSS")].concat();
        if !parts.is_empty() {
            for cell in 0..rows.cells.len() - 1 {
                rows.rows_of(cell, |position, row| {
                    if ids.touches(row as usize, &parts) {
                        positions.insert(position);
                    }
                });
            }
        }
    }
    positions.into_iter().collect()
}
