//! What is sound of a damaged file, in a new one.

use std::{collections::HashSet, path::Path};

use super::gather::{Gathered, LeftOut, gather_but};
use crate::{
    compress::with_model::write_whole,
    error::{Error, ParseError},
    file::{
        head,
        mmap::{MappedFile, Watch},
        segments::{NewSegment, Part},
    },
    format::{self, salvage::Sound, segment::Segment},
    ids::Ids,
    math::bits::Bits,
    report::{ProgressFn, teller},
};

/// What was saved of a file, and what was not.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SalvageReport {
    /// Rows saved.
    pub rows: u64,
    /// Rows that were there and are lost, as far as their number is known.
    pub lost: u64,
    /// The ids of those whose ids are known.
    pub lost_ids: Ids,
    /// What is damaged, in words; nothing where the file is sound.
    pub problems: Vec<String>,
    /// Which commit of the file was read.
    pub generation: u64,
    /// Whether that is the latest for sure: where header or table are damaged there may have been a later one, which is lost.
    pub latest: bool,
    /// Bytes of the new file.
    pub file_bytes: u64,
}

/// Writes what is sound of the damaged file `from` to the file `path`: rows whose code, number and id lie in bytes that are as they were
/// written. Damage to codes, row numbers and ids is told apart in parts of 64 KiB. O(file), with a copy in memory where `copy` is given.
///
/// `copy` is an older copy of the file, or the file that holds its model: sections that are damaged in `from`, and stand whole in the copy,
/// are taken from there. Only what has the hash that `from` asks for is taken. It also is the model file of a file that names one.
///
/// # Errors
/// [`Error::Format`] naming the damaged part where nothing can be saved: header and table, or the model. The errors of writing, and
/// [`Error::Cancelled`].
pub fn salvage(
    from: impl AsRef<Path>,
    path: impl AsRef<Path>,
    copy: Option<&Path>,
    progress: Option<&ProgressFn<'_>>,
) -> Result<SalvageReport, Error> {
    let (from, path) = (from.as_ref(), path.as_ref());
    let damaged = |source| Error::Format { path: from.to_owned(), source };
    let file = MappedFile::open(from)?;
    let watch = Watch::new(&file, from);
    // However short it is; but not zeros in place of what was cut off meanwhile.
    let whole = || watch.as_ref().map_or(Ok(()), |watch| watch.check(0));
    let copy = copy.map(MappedFile::open).transpose()?;
    let mut first_error = match format::parse(file.as_ref(), None) {
        Err(error) => error,
        Ok(_) => ParseError::Missing("META"),
    };
    let layouts = format::layouts_left(file.as_ref());
    let header = format::parse_header(file.as_ref()).err();
    for layout in layouts {
        let generation = layout.commit.generation;
        let mended = copy.as_ref().and_then(|copy| mend(file.as_ref(), &layout, copy.as_ref()));
        let bytes = mended.as_deref().unwrap_or(file.as_ref());
        let beside = model_beside(from, bytes, &layout);
        let model = copy.as_ref().or(beside.as_ref()).map(AsRef::as_ref);
        match format::sound(bytes, layout, model) {
            Ok(sound) => {
                return write(bytes, sound, path, (generation, header), progress, &whole);
            }
            Err(error) => first_error = error,
        }
    }
    Err(damaged(first_error))
}

/// The model file that a file names, where it lies beside it.
fn model_beside(from: &Path, bytes: &[u8], layout: &format::Layout) -> Option<MappedFile> {
    let entry = layout.entries.iter().find(|e| e.kind == *b"MREF")?;
    let name = std::str::from_utf8(bytes.get(entry.range())?.get(16..)?).ok()?;
    MappedFile::open(&from.with_file_name(name)).ok()
}

/// The file with those sections of a copy that it lacks; `None` where the copy has none of them.
fn mend(bytes: &[u8], layout: &format::Layout, copy: &[u8]) -> Option<Vec<u8>> {
    let donors: Vec<format::SectionEntry> =
        format::layouts_left(copy).into_iter().flat_map(|layout| layout.entries).collect();
    let mut mended: Option<Vec<u8>> = None;
    for entry in &layout.entries {
        let sound =
            |e: &format::SectionEntry, bytes: &[u8]| xxhash_rust::xxh3::xxh3_64(&bytes[e.range()]) == entry.hash;
        if sound(entry, bytes) {
            continue;
        }
        let same = |e: &&format::SectionEntry| (e.kind, e.len, e.hash) == (entry.kind, entry.len, entry.hash);
        if let Some(donor) = donors.iter().filter(same).find(|e| sound(e, copy)) {
            mended.get_or_insert_with(|| bytes.to_vec())[entry.range()].copy_from_slice(&copy[donor.range()]);
        }
    }
    mended
}

fn write(
    bytes: &[u8],
    sound: Sound,
    path: &Path,
    (generation, header): (u64, Option<ParseError>),
    progress: Option<&ProgressFn<'_>>,
    whole: &dyn Fn() -> Result<(), Error>,
) -> Result<SalvageReport, Error> {
    let Sound { parsed, damaged, gone, mut problems } = sound;
    let latest = header.is_none();
    if let Some(error) = header {
        problems.push(format!("{error}; what a later commit changed, if there was one, is lost"));
    }
    // Where deletions are lost, a row may come back whose id another row has by now: the later one stays.
    let mut taken = HashSet::new();
    let again: Vec<Vec<u64>> = {
        let of = |(number, segment): (usize, &Segment)| again(segment, bytes, &damaged[number], &mut taken);
        let mut all: Vec<_> = parsed.segments.iter().enumerate().rev().map(of).collect();
        all.reverse();
        all
    };
    let mut lost_ids: Option<Ids> = None;
    let mut lost = gone;
    let Gathered { sources, ids, span } = gather_but(&parsed.segments, bytes, 0, |number, segment| {
        let mut positions = Bits::new(segment.n, segment.deleted_positions(bytes));
        let rows: Vec<u64> = damaged[number].iter().copied().filter(|&p| !positions.has(p)).collect();
        lost += rows.len() as u64;
        let known = lost_of(&parsed, bytes, number, &rows);
        match &mut lost_ids {
            Some(all) => all.extend_from(&known),
            all => *all = Some(known),
        }
        rows.iter().chain(&again[number]).for_each(|&position| positions.set(segment.n, position));
        // What damaged row numbers say must not move ids.
        let rows = match segment.ids_kind() {
            Some(_) => segment.rows_left_out(bytes, &positions),
            None => Bits::new(0, []),
        };
        LeftOut { positions, rows }
    });
    let rows: u64 = sources.iter().map(crate::file::segments::Source::rows).sum();
    let new = (span > 0).then(|| NewSegment::of(&parsed, 0, 0, span));
    let part = new.map(|new| Part { new, sources: &sources, ids: ids.as_ref() });
    let file_bytes = write_whole(path, &head::of(&parsed, bytes), part.as_slice(), &teller(progress), whole)?;
    let lost_ids = lost_ids.unwrap_or(Ids::Numbers(Vec::new()));
    Ok(SalvageReport { rows, lost, lost_ids, problems, generation, latest, file_bytes })
}

/// The positions of live rows whose ids stand in a later segment too.
fn again(segment: &Segment, bytes: &[u8], damaged: &[u64], taken: &mut HashSet<Vec<u8>>) -> Vec<u64> {
    let Some(ids) = segment.ids(bytes) else { return Vec::new() };
    let dead = Bits::new(segment.n, segment.deleted_positions(bytes));
    let damaged = Bits::new(segment.n, damaged.iter().copied());
    let places = segment.row_ids(bytes);
    let mut found = Vec::new();
    for cell in 0..places.cells.len() - 1 {
        places.rows_of(cell, |position, row| {
            if dead.has(position) || damaged.has(position) {
                return;
            }
            let name = match ids.number(row as usize) {
                Some(number) => number.to_le_bytes().to_vec(),
                None => ids.text(row as usize).unwrap_or_default().as_bytes().to_vec(),
            };
            if !taken.insert(name) {
                found.push(position);
            }
        });
    }
    found.sort_unstable();
    found
}

/// The ids of rows at damaged positions, as far as they are sound, in the order of the rows.
fn lost_of(parsed: &format::Parsed, bytes: &[u8], number: usize, positions: &[u64]) -> Ids {
    let segment = &parsed.segments[number];
    let entries = parsed.entries();
    let of = |kind: &[u8; 4]| entries.iter().find(|e| e.kind == *kind && usize::from(e.segment) == number);
    let is_sound =
        |kind: &[u8; 4]| of(kind).is_none_or(|entry| xxhash_rust::xxh3::xxh3_64(&bytes[entry.range()]) == entry.hash);
    let known = is_sound(b"ROWS") && is_sound(b"IDSU") && is_sound(b"IDSS");
    let places = segment.row_ids(bytes);
    let mut rows: Vec<u64> = positions.iter().filter(|_| known).map(|&position| places.row(position)).collect();
    rows.sort_unstable();
    let rows = rows.into_iter();
    match segment.ids(bytes) {
        Some(ids @ format::Ids::Text(..)) => {
            Ids::Text(rows.map(|row| ids.text(row as usize).unwrap_or_default().to_owned()).collect())
        }
        Some(ids) => Ids::Numbers(rows.filter_map(|row| ids.number(row as usize)).collect()),
        None => Ids::Numbers(rows.map(|row| segment.first + row).collect()),
    }
}
