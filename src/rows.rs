//! From all rows to the file: encoded as they stream by, kept in row order in a spool, written out in cell order.

use std::{
    fs::File,
    io::{BufWriter, Cursor, Seek, SeekFrom, Write},
    path::Path,
};

use memmap2::Mmap;
use rayon::prelude::*;
use tempfile::NamedTempFile;

use crate::{
    Backend, CodeKind, Config, Error, Mat, RowSource, Searcher, Stage,
    encode::{RowCodes, encode_rows},
    exact::recall,
    format::{BLOCK, BlockShape, FileShape, Meta, Writer, place_side, place_symbols},
    ops::Ops,
    platform::BARE,
    prepare::{Prepared, to_unit},
    probe::{self, MEASURED},
    read::chunk_rows,
    search::{Exact, Neighbors},
    train::{TARGET_K, Trained, factor},
};

/// Codes kept in memory on their way to the file; more go through a temporary file, where there are files.
pub(crate) const SPOOL_MEMORY: u64 = 128 << 20;
/// Rows of a unit of parallel work.
const RECORDS: usize = 256;
/// Blocks put together at a time.
const BLOCKS: usize = 4096;

/// Where a file is written, and read back to be measured.
pub(crate) trait Target: Write + Seek + Send {
    fn read_back<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> std::io::Result<R>;
}

impl Target for Cursor<Vec<u8>> {
    fn read_back<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> std::io::Result<R> {
        Ok(look(self.get_ref()))
    }
}

pub(crate) struct FileTarget(pub(crate) NamedTempFile);

impl Write for FileTarget {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl Seek for FileTarget {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.0.seek(to)
    }
}

impl Target for FileTarget {
    fn read_back<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> std::io::Result<R> {
        crate::mmap::map_own(self.0.as_file()).map(|bytes| look(&bytes))
    }
}

/// The codes of all rows in row order, a record of fixed size each.
enum Spool {
    Memory(Vec<u8>),
    File(BufWriter<File>),
}

/// A spool that can be read.
enum Spooled {
    Memory(Vec<u8>),
    File(Mmap),
}

impl Spool {
    fn new(bytes: u64, directory: Option<&Path>) -> std::io::Result<Spool> {
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

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Spool::Memory(all) => {
                all.extend_from_slice(bytes);
                Ok(())
            }
            Spool::File(file) => file.write_all(bytes),
        }
    }

    fn finish(self) -> std::io::Result<Spooled> {
        match self {
            Spool::Memory(all) => Ok(Spooled::Memory(all)),
            Spool::File(file) => {
                crate::mmap::map_own(&file.into_inner().map_err(|e| e.into_error())?).map(Spooled::File)
            }
        }
    }
}

impl Spooled {
    fn bytes(&self) -> &[u8] {
        match self {
            Spooled::Memory(all) => all,
            Spooled::File(map) => map,
        }
    }
}

/// How a row's codes stand in the spool: symbols (two to a byte for chain codes), then a byte per side nibble.
#[derive(Clone, Copy)]
struct Record {
    shape: BlockShape,
}

impl Record {
    fn symbol_bytes(self) -> usize {
        match self.shape.kind {
            CodeKind::Chain => self.shape.symbols.div_ceil(2),
            CodeKind::Pq8 => self.shape.symbols,
        }
    }

    fn len(self) -> usize {
        self.symbol_bytes() + self.shape.side_nibbles
    }

    /// Fills the part of `out` that holds the symbols; side nibbles follow.
    fn put(self, symbols: &[u8], out: &mut [u8]) {
        match self.shape.kind {
            CodeKind::Chain => {
                for (o, pair) in out.iter_mut().zip(symbols.chunks(2)) {
                    *o = pair[0] | pair.get(1).map_or(0, |high| high << 4);
                }
            }
            CodeKind::Pq8 => out[..symbols.len()].copy_from_slice(symbols),
        }
    }

    fn place(self, record: &[u8], block: &mut [u8], i: usize, symbols: &mut [u8]) {
        for (t, symbol) in symbols.iter_mut().enumerate() {
            *symbol = match self.shape.kind {
                CodeKind::Chain => (record[t / 2] >> (4 * (t % 2))) & 15,
                CodeKind::Pq8 => record[t],
            };
        }
        place_symbols(self.shape, block, i, symbols);
        place_side(self.shape, block, i, &record[self.symbol_bytes()..]);
    }
}

/// All rows encoded, and the truth that recall is measured against.
pub(crate) struct EncodedRows {
    labels: Vec<u32>,
    spool: Spooled,
    truth: Option<Neighbors>,
}

/// Encodes every row, a chunk at a time; on the way it finds the exact neighbours of the held-out queries.
pub(crate) fn encode_all<O: Ops>(
    ops: &O,
    prepared: &Prepared<'_>,
    trained: &Trained,
    config: &Config<'_>,
    output: &Path,
    report: &dyn Fn(Stage, usize, usize) -> Result<(), Error>,
) -> Result<EncodedRows, Error> {
    let (rows, model) = (prepared.rows, &trained.model);
    let (n, dim, symbols) = (rows.rows(), rows.dim(), model.symbols());
    let record = Record { shape: BlockShape { kind: model.kind(), symbols, side_nibbles: model.side.nibbles() } };
    let spool_error = |e| Error::io(output, e);
    let mut spool = Spool::new(n as u64 * record.len() as u64, output.parent()).map_err(spool_error)?;
    let mut labels = Vec::with_capacity(n);
    let k = (TARGET_K + usize::from(prepared.held_rows.is_some())).min(n);
    let mut exact = (prepared.held.rows() > 0).then(|| Exact::new(prepared.held.clone(), k, config.metric));
    // Large enough that waiting for the last unit of work of each step costs little.
    let step = (ops.chunks() * chunk_rows(dim)).min(n);
    let read = |start: usize, mut buffer: Mat| -> Result<(Mat, Vec<f32>), Error> {
        let count = step.min(n - start);
        if count != buffer.rows() {
            buffer = Mat::zeros(count, dim);
        }
        read_parts(rows, start, &mut buffer)?;
        let gains =
            to_unit(&mut buffer, config.metric, &prepared.center, |i, fault| fault.at(rows.path(), start + i))?;
        Ok((buffer, gains))
    };
    let mut encode = |start: usize, buffer: &Mat, gains: &[f32]| -> Result<RowCodes, Error> {
        let resident = ops.upload(buffer.view())?;
        if let Some(exact) = &mut exact {
            let products = ops.give(ops.project(&resident, &vec![0.0; dim], exact.queries())?)?;
            // The gain of cosine is not kept and plays no part in scores.
            let ones = vec![1.0; if model.side.gain_nibbles == 0 { gains.len() } else { 0 }];
            exact.offer_products(start as u64, products.view(), if ones.is_empty() { gains } else { &ones });
        }
        encode_rows(ops, &trained.encoder, model, &resident)
    };
    let mut records = Vec::new();
    let mut spare = Mat::zeros(0, dim);
    let mut start = 0;
    let mut next = Some(read(start, Mat::zeros(0, dim)));
    while let Some(current) = next.take() {
        report(Stage::Encode, start, n)?;
        let (buffer, gains) = current?;
        // A device encodes while the next rows are read.
        let codes = rayon::in_place_scope(|scope| {
            if start + step < n {
                let (next, read, spare) = (&mut next, &read, std::mem::replace(&mut spare, Mat::zeros(0, dim)));
                scope.spawn(move |_| *next = Some(read(start + step, spare)));
            }
            encode(start, &buffer, &gains)
        })?;
        start += gains.len();
        spare = buffer;
        records.resize(gains.len() * record.len(), 0);
        records.par_chunks_mut(record.len().max(1) * RECORDS).enumerate().for_each(|(part, out)| {
            for (r, out) in out.chunks_exact_mut(record.len().max(1)).enumerate() {
                let i = part * RECORDS + r;
                record.put(&codes.symbols[i * symbols..(i + 1) * symbols], out);
                let side = &mut out[record.symbol_bytes()..];
                let factors = model.side.factor_nibbles();
                if factors == 1 {
                    side[0] = model.side.factor_code(factor(codes.norms[i], trained.alpha));
                }
                let gain = model.side.gain_code(gains[i]);
                side[factors..].iter_mut().enumerate().for_each(|(s, nibble)| *nibble = (gain >> (4 * s) & 15) as u8);
            }
        });
        spool.write(&records).map_err(spool_error)?;
        labels.extend_from_slice(&codes.labels);
    }
    report(Stage::Encode, n, n)?;
    Ok(EncodedRows { labels, spool: spool.finish().map_err(spool_error)?, truth: exact.map(Exact::finish) })
}

/// Reads the rows from `start` on, parts of them at once; of several errors the first counts.
fn read_parts(rows: &dyn RowSource, start: usize, buffer: &mut Mat) -> Result<(), Error> {
    let dim = buffer.dim();
    let parts = buffer.as_mut_slice().par_chunks_mut(RECORDS * dim).enumerate();
    let read: Vec<_> = parts.map(|(part, out)| rows.read(start + part * RECORDS, out)).collect();
    read.into_iter().collect()
}

/// Writes the file, measures recall on it, and completes its facts.
pub(crate) fn write_file<T: Target>(
    target: T,
    prepared: &Prepared<'_>,
    trained: &Trained,
    encoded: EncodedRows,
    config: &Config<'_>,
    output: &Path,
    report: &dyn Fn(Stage, usize, usize) -> Result<(), Error>,
) -> Result<(T, Meta, u64), Error> {
    let model = &trained.model;
    let n = prepared.sizes.n;
    let mut meta = Meta {
        dim: prepared.sizes.dim as u32,
        metric: config.metric,
        kind: model.kind(),
        lags: prepared.sizes.lags as u8,
        anchors: model.anchors() as u32,
        charts: model.charts.len() as u32,
        symbols: model.symbols() as u32,
        factor_nibbles: model.side.factor_nibbles() as u8,
        gain_nibbles: model.side.gain_nibbles,
        energy: trained.energy,
        anchor_energy: trained.anchor_energy,
        recall: f32::NAN,
        recall_k: 0,
        recall_queries: 0,
        query_source: 0,
        seed: config.seed,
        training_rows: prepared.unit.rows() as u64,
        alpha: trained.alpha,
        probe_cells: [0; 2],
    };
    let shape = FileShape::new(&meta, model, &config.metadata, &[], None);
    let (cells, rows) = cell_order(&encoded.labels, model.anchors());
    let record = Record { shape: shape.block };
    let io = |e| Error::io(output, e);
    let mut writer = Writer::create(target).map_err(io)?;
    writer.write_head(&shape).map_err(io)?;
    let rows_of = |cell: usize, out: &mut Vec<u64>| {
        out.extend_from_slice(&rows[cells[cell] as usize..cells[cell + 1] as usize]);
    };
    writer.write_places(0, (0, n), &cells, rows_of).map_err(io)?;
    let (bytes, spool) = (shape.block.bytes(), encoded.spool.bytes());
    for (part, rows_of_part) in rows.chunks(BLOCKS * BLOCK).enumerate() {
        report(Stage::Write, part * BLOCKS * BLOCK, rows.len())?;
        let mut blocks = vec![0u8; rows_of_part.len().div_ceil(BLOCK) * bytes];
        blocks.par_chunks_mut(bytes.max(1)).zip(rows_of_part.par_chunks(BLOCK)).for_each(|(block, members)| {
            let mut symbols = vec![0; shape.block.symbols];
            for (i, &row) in members.iter().enumerate() {
                let at = row as usize * record.len();
                record.place(&spool[at..at + record.len()], block, i, &mut symbols);
            }
        });
        writer.write(&blocks).map_err(io)?;
    }
    if let Some(ids) = config.ids {
        writer.section(ids.kind().section(), 0, &ids.bytes()).map_err(io)?;
    }
    let mut written = writer.finish(1).map_err(io)?;
    written.write_header().map_err(io)?;
    if let Some(truth) = &encoded.truth {
        let k = TARGET_K.min(n as usize);
        let look = |bytes: &[u8]| measure(bytes, prepared, truth, &encoded.labels, k);
        let (recall, probe_cells) = written.sink.read_back(look).map_err(io)??;
        meta.recall = recall as f32;
        meta.probe_cells = probe_cells;
        meta.recall_k = k as u32;
        meta.recall_queries = prepared.held.rows() as u32;
        meta.query_source = if prepared.held_rows.is_some() { 2 } else { 1 };
        written.replace_meta(&meta).map_err(io)?;
    }
    report(Stage::Write, rows.len(), rows.len())?;
    let len = written.len();
    Ok((written.sink, meta, len))
}

/// Where the cells start, and the row at each position: a counting sort by anchor.
fn cell_order(labels: &[u32], anchors: usize) -> (Vec<u64>, Vec<u64>) {
    let mut cells = vec![0u64; anchors + 1];
    labels.iter().for_each(|&label| cells[label as usize + 1] += 1);
    for k in 0..anchors {
        cells[k + 1] += cells[k];
    }
    let mut next = cells.clone();
    let mut rows = vec![0u64; labels.len()];
    for (row, &label) in labels.iter().enumerate() {
        rows[next[label as usize] as usize] = row as u64;
        next[label as usize] += 1;
    }
    (cells, rows)
}

/// Recall of the file in `bytes` on the held-out queries, and the cells that probing takes.
fn measure(
    bytes: &[u8],
    prepared: &Prepared<'_>,
    truth: &Neighbors,
    labels: &[u32],
    k: usize,
) -> Result<(f64, [u32; 2]), Error> {
    let index = crate::Index::from_bytes(bytes)?;
    let own = prepared.held_rows.as_deref();
    let searcher = Searcher::open(&index, Backend::Cpu)?;
    let (found, bases) = searcher.query_prepared(prepared.held.view(), MEASURED[1] + usize::from(own.is_some()))?;
    // A row that is its own query finds itself, which says nothing.
    let without_self = |found: &Mat<u64>, k: usize| -> Result<Mat<u64>, Error> {
        let width = k.min(found.dim() - usize::from(own.is_some()));
        let mut out = Vec::with_capacity(found.rows() * width);
        for q in 0..found.rows() {
            let itself = own.map(|rows| rows[q] as u64);
            out.extend(found.row(q).iter().copied().filter(|id| Some(*id) != itself).take(width));
        }
        Mat::new(out, found.rows(), width)
    };
    let recall = recall(without_self(&found.ids, k)?.view(), without_self(&truth.ids, k)?.view());
    let mut cells = without_self(&found.ids, MEASURED[1])?;
    cells.as_mut_slice().iter_mut().for_each(|row| *row = labels[*row as usize].into());
    let sizes: Vec<u64> = index.parsed().segments[0].cells.windows(2).map(|w| w[1] - w[0]).collect();
    Ok((recall, probe::measure(&bases, cells.view(), &sizes)))
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
            let record = Record { shape };
            let symbols = [1, 15, 7, 0, 9];
            let mut bytes = vec![0; record.len()];
            record.put(&symbols, &mut bytes);
            bytes[record.symbol_bytes()..].copy_from_slice(&[3, 12]);
            let mut block = vec![0; shape.bytes()];
            record.place(&bytes, &mut block, 21, &mut [0; 5]);
            for (t, symbol) in symbols.iter().enumerate() {
                assert_eq!(shape.symbol(&block, t, 21), *symbol);
            }
            assert_eq!([shape.side(&block, 0, 21), shape.side(&block, 1, 21)], [3, 12]);
        }
    }

    #[test]
    fn cells_are_in_row_order() {
        let (cells, rows) = cell_order(&[2, 0, 2, 1, 0], 4);
        assert_eq!(cells, [0, 2, 3, 5, 5]);
        assert_eq!(rows, [1, 4, 3, 0, 2]);
    }
}
