//! Writes a file: sections front to back with their hashes, the header last.

use std::{
    collections::BTreeMap,
    io::{self, Seek, SeekFrom, Write},
};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::{
    BlockShape, Meta, SectionEntry, elias_fano,
    header::{self, ALIGN},
    model,
};
use crate::model::Model;

/// The sections of a file whose lengths are known before its rows are encoded.
pub(crate) struct FileShape {
    pub(crate) n: u64,
    pub(crate) block: BlockShape,
    /// Kind and bytes of each section that stands before the rows.
    head: Vec<([u8; 4], Vec<u8>)>,
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

/// Bytes of a file with sections of these lengths.
pub(crate) fn file_len(lengths: &[u64]) -> u64 {
    lengths.iter().fold(header::sections_start(lengths.len()), |end, len| end.next_multiple_of(ALIGN) + len)
}

/// Number of sections this build writes.
pub(crate) const SECTIONS: usize = 9;

impl FileShape {
    pub(crate) fn new(meta: &Meta, model: &Model, metadata: &BTreeMap<String, String>) -> FileShape {
        let block =
            BlockShape { kind: meta.kind, symbols: meta.symbols as usize, side_nibbles: model.side.nibbles() };
        let head = vec![
            (*b"META", meta.to_bytes()),
            (*b"MEAN", model::mean_bytes(model)),
            (*b"CHRT", model::charts_bytes(model)),
            (*b"ANCH", model::anchors_bytes(model)),
            (*b"SIDE", model::side_bytes(&model.side)),
            (*b"KEYV", metadata_bytes(metadata)),
        ];
        FileShape { n: meta.n, block, head }
    }
}

/// Writes the sections of one file in order.
pub(crate) struct Writer<W> {
    sink: W,
    at: u64,
    open: Option<(SectionEntry, Xxh3)>,
    entries: Vec<SectionEntry>,
    sections: usize,
}

impl<W: Write + Seek> Writer<W> {
    /// Starts a file of `sections` sections.
    pub(crate) fn new(mut sink: W, sections: usize) -> io::Result<Self> {
        let at = header::sections_start(sections);
        sink.write_all(&vec![0; at as usize])?;
        Ok(Writer { sink, at, open: None, entries: Vec::new(), sections })
    }

    pub(crate) fn begin(&mut self, kind: [u8; 4]) -> io::Result<()> {
        self.close();
        let offset = self.at.next_multiple_of(ALIGN);
        self.sink.write_all(&vec![0; (offset - self.at) as usize])?;
        self.at = offset;
        self.open = Some((SectionEntry { kind, flags: 0, offset, len: 0, hash: 0 }, Xxh3::new()));
        Ok(())
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sink.write_all(bytes)?;
        self.at += bytes.len() as u64;
        if let Some((entry, hasher)) = &mut self.open {
            entry.len += bytes.len() as u64;
            hasher.update(bytes);
        }
        Ok(())
    }

    fn close(&mut self) {
        if let Some((mut entry, hasher)) = self.open.take() {
            entry.hash = hasher.digest();
            self.entries.push(entry);
        }
    }

    /// Writes everything that stands before the codes: model, metadata, and which row is where.
    /// `rows` are those of each position.
    pub(crate) fn write_head(&mut self, shape: &FileShape, cells: &[u64], rows: &[u64]) -> io::Result<()> {
        for (kind, bytes) in &shape.head {
            self.begin(*kind)?;
            self.write(bytes)?;
        }
        self.begin(*b"CELL")?;
        self.write(bytemuck::cast_slice(&cells.iter().map(|c| c.to_le()).collect::<Vec<_>>()))?;
        self.begin(*b"ROWS")?;
        let mut bytes = Vec::new();
        for cell in cells.windows(2) {
            bytes.clear();
            elias_fano::encode(shape.n, &rows[cell[0] as usize..cell[1] as usize], &mut bytes);
            self.write(&bytes)?;
        }
        self.begin(*b"CODE")
    }

    /// Writes header and table.
    pub(crate) fn finish(mut self) -> io::Result<Written<W>> {
        self.close();
        debug_assert_eq!(self.entries.len(), self.sections);
        let mut written = Written { sink: self.sink, entries: self.entries, len: self.at };
        written.write_header()?;
        Ok(written)
    }
}

/// A whole file, whose facts may still be completed.
pub(crate) struct Written<W> {
    pub(crate) sink: W,
    entries: Vec<SectionEntry>,
    pub(crate) len: u64,
}

impl<W: Write + Seek> Written<W> {
    fn write_header(&mut self) -> io::Result<()> {
        self.sink.seek(SeekFrom::Start(0))?;
        self.sink.write_all(&header::write(&self.entries, self.len))?;
        self.sink.seek(SeekFrom::Start(self.len))?;
        self.sink.flush()
    }

    /// Puts other facts in the place of those written first.
    pub(crate) fn replace_meta(&mut self, meta: &Meta) -> io::Result<()> {
        let bytes = meta.to_bytes();
        for entry in self.entries.iter_mut().filter(|e| e.kind == *b"META") {
            entry.hash = xxh3_64(&bytes);
            self.sink.seek(SeekFrom::Start(entry.offset))?;
            self.sink.write_all(&bytes)?;
        }
        self.write_header()
    }
}
