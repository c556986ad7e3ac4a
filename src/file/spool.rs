//! Codes on their way to the file: kept in row order, where a file has them in cell order.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use super::mmap::Mapping;
use crate::{format::rows::BlockShape, model::kinds::CodeKind, platform::BARE};

/// Codes kept in memory on their way to the file; more go through a temporary file, where there are files.
pub(crate) const SPOOL_MEMORY: u64 = 128 << 20;

/// The codes of all rows in row order, a record of fixed size each.
pub(crate) enum Spool {
    Memory(Vec<u8>),
    File(BufWriter<File>),
}

/// A spool that can be read.
pub(crate) enum Spooled {
    Memory(Vec<u8>),
    File(Mapping),
}

impl Spool {
    pub(crate) fn new(bytes: u64, directory: Option<&Path>) -> std::io::Result<Spool> {
        if bytes <= SPOOL_MEMORY || BARE {
            return Ok(Spool::Memory(Vec::with_capacity(bytes as usize)));
        }
        // Beside the output, where there must be room for as much anyway.
        let file = match directory {
            Some(directory) if !directory.as_os_str().is_empty() => tempfile::tempfile_in(directory)?,
            _ => tempfile::tempfile()?,
        };
        Ok(Spool::File(BufWriter::with_capacity(1 << 20, file)))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Spool::Memory(all) => {
                all.extend_from_slice(bytes);
                Ok(())
            }
            Spool::File(file) => file.write_all(bytes),
        }
    }

    pub(crate) fn finish(self) -> std::io::Result<Spooled> {
        match self {
            Spool::Memory(all) => Ok(Spooled::Memory(all)),
            Spool::File(file) => Mapping::of_own(&file.into_inner().map_err(|e| e.into_error())?).map(Spooled::File),
        }
    }
}

impl Spooled {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Spooled::Memory(all) => all,
            Spooled::File(map) => map,
        }
    }

    /// An error where a part of it could not be read, and zeros stood in its place.
    pub(crate) fn whole(&self) -> std::io::Result<()> {
        match self {
            Spooled::Memory(_) => Ok(()),
            Spooled::File(map) => map.whole(),
        }
    }
}

/// How a row's codes stand in the spool: symbols (two to a byte for chain codes), then a byte per side nibble; where there is a refine
/// layer its symbols, two to a byte, and a byte for its factor.
#[derive(Clone, Copy)]
pub(crate) struct Record {
    pub(crate) shape: BlockShape,
    /// Bytes of the refine layer's symbols; 0 without one.
    pub(crate) refine: usize,
}

impl Record {
    pub(crate) fn symbol_bytes(self) -> usize {
        match self.shape.kind {
            CodeKind::Chain => self.shape.symbols.div_ceil(2),
            CodeKind::Pq8 => self.shape.symbols,
        }
    }

    /// Bytes of the codes that are scanned.
    pub(crate) fn base_len(self) -> usize {
        self.symbol_bytes() + self.shape.side_nibbles
    }

    pub(crate) fn len(self) -> usize {
        self.base_len() + if self.refine > 0 { self.refine + 1 } else { 0 }
    }

    /// Symbols and factor code of the refine layer, where there is one.
    pub(crate) fn refine(self, record: &[u8]) -> (&[u8], u8) {
        match record[self.base_len()..].split_last() {
            Some((&factor, packed)) => (packed, factor),
            None => (&[], 0),
        }
    }

    /// Fills the part of `out` that holds the symbols; side nibbles follow.
    pub(crate) fn put(self, symbols: &[u8], out: &mut [u8]) {
        match self.shape.kind {
            CodeKind::Chain => {
                for (o, pair) in out.iter_mut().zip(symbols.chunks(2)) {
                    *o = pair[0] | pair.get(1).map_or(0, |high| high << 4);
                }
            }
            CodeKind::Pq8 => out[..symbols.len()].copy_from_slice(symbols),
        }
    }

    /// Symbols and side nibbles of a record.
    pub(crate) fn read(self, record: &[u8], symbols: &mut [u8], sides: &mut [u8]) {
        for (t, symbol) in symbols.iter_mut().enumerate() {
            *symbol = match self.shape.kind {
                CodeKind::Chain => (record[t / 2] >> (4 * (t % 2))) & 15,
                CodeKind::Pq8 => record[t],
            };
        }
        sides.copy_from_slice(&record[self.symbol_bytes()..self.base_len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_spool_goes_through_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(SPOOL_MEMORY + 1, Some(directory.path())).unwrap();
        assert!(matches!(spool, Spool::File(_)));
        for part in 0..1000u32 {
            spool.write(&part.to_le_bytes()).unwrap();
        }
        let spooled = spool.finish().unwrap();
        let expected: Vec<u8> = (0..1000u32).flat_map(u32::to_le_bytes).collect();
        assert_eq!(spooled.bytes(), expected);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "the file has no name");
    }

    #[test]
    fn records_come_back() {
        for kind in [CodeKind::Chain, CodeKind::Pq8] {
            let shape = BlockShape { kind, symbols: 5, side_nibbles: 2 };
            let record = Record { shape, refine: 3 };
            let symbols = [1, 15, 7, 0, 9];
            let mut bytes = vec![0; record.len()];
            record.put(&symbols, &mut bytes);
            bytes[record.symbol_bytes()..].copy_from_slice(&[3, 12, 1, 2, 3, 9]);
            assert_eq!(record.refine(&bytes), (&[1, 2, 3][..], 9));
            let (mut read, mut sides) = ([0; 5], [0; 2]);
            record.read(&bytes, &mut read, &mut sides);
            assert_eq!((read, sides), (symbols, [3, 12]));
        }
    }
}
