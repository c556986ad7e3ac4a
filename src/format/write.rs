//! Writes a file: sections front to back with their hashes, then their table, the header last.

use std::{
    collections::BTreeMap,
    io::{self, Seek, SeekFrom, Write},
};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::{
    commit::{Commit, ENTRY_LEN},
    elias_fano, features,
    header::{self, ALIGN, DEAD, SLOTS_END, SectionEntry},
    learned::learned_bytes,
    meta::Meta,
    model, refine,
    rows::BlockShape,
    score, segment,
    sums::{self, Summing},
};
use crate::model::{Model, learned::Learned, refine::Refine};

/// The sections that all rows of a file share.
pub(crate) struct FileShape {
    pub(crate) block: BlockShape,
    /// Kind and bytes of each.
    pub(crate) head: Vec<([u8; 4], Vec<u8>)>,
}

pub(crate) fn metadata_bytes(pairs: &BTreeMap<String, String>) -> Vec<u8> {
    let mut out = (pairs.len() as u32).to_le_bytes().to_vec();
    for (key, value) in pairs {
        out.extend_from_slice(&(key.len() as u32).to_le_bytes());
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(value.as_bytes());
    }
    out
}

/// Bytes of a file of one commit with sections of these lengths.
pub(crate) fn file_len(lengths: &[u64]) -> u64 {
    let sections = lengths.iter().fold(SLOTS_END as u64, |end, len| end.next_multiple_of(ALIGN) + len);
    sections.next_multiple_of(ALIGN) + (lengths.len() * ENTRY_LEN) as u64
}

/// Number of sections this build writes: those of the model, and the segment's.
pub(crate) const SECTIONS: usize = 10;

impl FileShape {
    pub(crate) fn new(
        meta: &Meta,
        model: &Model,
        refine: Option<&Refine>,
        learned: Option<&Learned>,
        metadata: &BTreeMap<String, String>,
    ) -> FileShape {
        let block =
            BlockShape { kind: meta.kind, symbols: meta.symbols as usize, side_nibbles: model.side.nibbles() };
        let mut head = vec![
            (*b"META", meta.to_bytes()),
            (*b"MEAN", model::mean_bytes(model)),
            (*b"CHRT", model::charts_bytes(model)),
            (*b"ANCH", model::anchors_bytes(model)),
            (*b"SIDE", model::side_bytes(&model.side)),
        ];
        head.extend(score::score_bytes(&model.side, model.metric).map(|bytes| (score::KIND, bytes)));
        head.extend(refine.map(|refine| (*b"RFNM", refine::refine_bytes(refine))));
        head.extend(learned.map(|learned| (*b"DECO", learned_bytes(learned))));
        head.push((*b"KEYV", metadata_bytes(metadata)));
        FileShape { block, head }
    }
}

/// Writes sections one behind the other.
pub(crate) struct Writer<W> {
    sink: W,
    at: u64,
    open: Option<Open>,
    entries: Vec<SectionEntry>,
    /// Of the sections of the segment that is being written.
    sums: Vec<u8>,
}

/// The section that is being written.
struct Open {
    entry: SectionEntry,
    hasher: Xxh3,
    summing: Option<Summing>,
}

impl<W: Write> Writer<W> {
    /// Starts a file.
    pub(crate) fn create(mut sink: W) -> io::Result<Self> {
        // The magic number first, by which what a writer leaves that dies is known to be ours; the rest of the header comes last.
        sink.write_all(&header::MAGIC)?;
        sink.write_all(&[0; SLOTS_END - header::MAGIC.len()])?;
        Ok(Writer::resume(sink, SLOTS_END as u64, Vec::new()))
    }

    /// Goes on behind the sections `entries`, at `at`, where `sink` writes.
    pub(crate) fn resume(sink: W, at: u64, entries: Vec<SectionEntry>) -> Self {
        Writer { sink, at, open: None, entries, sums: Vec::new() }
    }

    fn align(&mut self) -> io::Result<u64> {
        let offset = self.at.next_multiple_of(ALIGN);
        self.sink.write_all(&[0; ALIGN as usize][..(offset - self.at) as usize])?;
        self.at = offset;
        Ok(offset)
    }

    /// Starts a section of a segment.
    pub(crate) fn begin(&mut self, kind: [u8; 4], segment: u16) -> io::Result<()> {
        self.close();
        let offset = self.align()?;
        let entry = SectionEntry { kind, flags: 0, segment, offset, len: 0, hash: 0 };
        self.open = Some(Open { entry, hasher: Xxh3::new(), summing: Summing::of(kind) });
        Ok(())
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sink.write_all(bytes)?;
        self.at += bytes.len() as u64;
        if let Some(open) = &mut self.open {
            open.entry.len += bytes.len() as u64;
            open.hasher.update(bytes);
            if let Some(summing) = &mut open.summing {
                summing.update(bytes);
            }
        }
        Ok(())
    }

    /// Writes a whole section.
    pub(crate) fn section(&mut self, kind: [u8; 4], segment: u16, bytes: &[u8]) -> io::Result<()> {
        self.begin(kind, segment)?;
        self.write(bytes)
    }

    fn close(&mut self) {
        if let Some(Open { mut entry, hasher, summing }) = self.open.take() {
            entry.hash = hasher.digest();
            self.entries.push(entry);
            self.sums.extend(summing.map(Summing::finish).unwrap_or_default());
        }
    }

    /// Writes what all rows share.
    pub(crate) fn write_head(&mut self, shape: &FileShape) -> io::Result<()> {
        shape.head.iter().try_for_each(|(kind, bytes)| self.section(*kind, 0, bytes))
    }

    /// Writes what stands before the codes of a segment whose row numbers are `first..first + span`, and begins the codes.
    /// `rows_of` appends the rows of a cell, counted from `first`, in ascending order.
    pub(crate) fn write_places(
        &mut self,
        number: u16,
        (first, span): (u64, u64),
        cells: &[u64],
        mut rows_of: impl FnMut(usize, &mut Vec<u64>),
    ) -> io::Result<()> {
        let n = cells.last().copied().unwrap_or(0);
        self.section(*b"SEGM", number, &segment::facts_bytes(n, first, span))?;
        let starts: Vec<u64> = cells.iter().map(|c| c.to_le()).collect();
        self.section(*b"CELL", number, bytemuck::cast_slice(&starts))?;
        self.begin(*b"ROWS", number)?;
        let (mut rows, mut bytes) = (Vec::new(), Vec::new());
        for cell in 0..cells.len() - 1 {
            rows.clear();
            bytes.clear();
            // All numbers there are take no bytes, and need not be listed.
            if cells[cell + 1] - cells[cell] < span {
                rows_of(cell, &mut rows);
                elias_fano::encode(span, &rows, &mut bytes);
                self.write(&bytes)?;
            }
        }
        self.begin(*b"CODE", number)
    }

    /// Ends a segment: writes the hashes of the parts of its long sections.
    pub(crate) fn end_segment(&mut self, number: u16) -> io::Result<()> {
        self.close();
        let sums = std::mem::take(&mut self.sums);
        if sums.is_empty() { Ok(()) } else { self.section(sums::KIND, number, &sums) }
    }

    /// Names the features that the sections use, and no others.
    fn name_features(&mut self) -> io::Result<u64> {
        let features = features::used(&self.entries);
        let names = features::names_bytes(features);
        let is_same = |e: &SectionEntry| e.len == names.len() as u64 && e.hash == xxh3_64(&names);
        let same = features != 0 && self.entries.iter().any(|e| e.kind == features::FEAT && is_same(e));
        if !same {
            for entry in self.entries.iter_mut().filter(|e| e.kind == features::FEAT) {
                (entry.kind, entry.segment, entry.flags) = (DEAD, 0, 0);
            }
            if features != 0 {
                self.section(features::FEAT, 0, &names)?;
                self.close();
            }
        }
        Ok(features)
    }

    /// Writes the table and says what commits it as this generation.
    pub(crate) fn finish(mut self, generation: u64) -> io::Result<Written<W>> {
        self.close();
        let features = self.name_features()?;
        let table = self.align()?;
        let bytes = header::table_bytes(&self.entries);
        self.sink.write_all(&bytes)?;
        let entries = self.entries.len() as u32;
        let commit = Commit { generation, table, entries, table_hash: xxh3_64(&bytes), features };
        Ok(Written { sink: self.sink, entries: self.entries, commit })
    }
}

/// Everything but the header.
pub(crate) struct Written<W> {
    pub(crate) sink: W,
    entries: Vec<SectionEntry>,
    pub(crate) commit: Commit,
}

impl<W> Written<W> {
    /// Bytes of the file.
    pub(crate) fn len(&self) -> u64 {
        self.commit.end()
    }

    /// The header of a new file.
    pub(crate) fn header(&self) -> Vec<u8> {
        header::write(&self.commit)
    }
}

impl<W: Write + Seek> Written<W> {
    /// Writes the header of a new file.
    pub(crate) fn write_header(&mut self) -> io::Result<()> {
        self.sink.seek(SeekFrom::Start(0))?;
        self.sink.write_all(&self.header())?;
        self.sink.seek(SeekFrom::Start(self.len()))?;
        self.sink.flush()
    }

    /// Puts other bytes, as many, in the place of those of sections that all rows share.
    pub(crate) fn replace(&mut self, sections: &[([u8; 4], Vec<u8>)]) -> io::Result<()> {
        for (kind, bytes) in sections {
            for entry in self.entries.iter_mut().filter(|e| e.kind == *kind && e.len == bytes.len() as u64) {
                entry.hash = xxh3_64(bytes);
                self.sink.seek(SeekFrom::Start(entry.offset))?;
                self.sink.write_all(bytes)?;
            }
        }
        let table = header::table_bytes(&self.entries);
        self.commit.table_hash = xxh3_64(&table);
        self.sink.seek(SeekFrom::Start(self.commit.table))?;
        self.sink.write_all(&table)?;
        self.write_header()
    }
}
