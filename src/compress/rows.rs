//! From all rows to the file: encoded as they stream by, kept in row order in a spool, written out in cell order.

use std::{
    fs::File,
    io::{Cursor, Seek, SeekFrom, Write},
    path::Path,
};

use rayon::prelude::*;

use super::{fit::Fitted, held_out};
use crate::{
    encode::{Encoder, RowCodes, encode_rows, shares::Share},
    error::{Error, InputError},
    file::{
        lengths::error_outside,
        segments::{NewSegment, Source, write_segment},
        spool::{Record, Spool, Spooled},
    },
    format::{history::fixed, learned::learned_bytes, meta::Meta, rows::BlockShape, write::Writer},
    learned::synthesis::Synthesizer,
    math::product::squared_distance,
    matrix::{Mat, MatRef},
    model::{Model, Scales, factor, kinds::Metric, learned::Learned, packed::pack, refine::Refine},
    neighbors::Neighbors,
    ops::seam::Ops,
    read::{prepare::chunk_rows, source::RowSource},
    refine::encode::{RefineCodes, RefineEncoder},
    report::Stage,
    search::exact::Exact,
    train::{calibrate::TARGET_K, sample::to_unit},
};

/// Rows of a unit of parallel work.
const RECORDS: usize = 256;

/// Where a file is written, and read back to be measured.
pub(crate) trait Target: Write + Seek + Send {
    fn read_back<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> std::io::Result<R>;
}

impl Target for Cursor<Vec<u8>> {
    fn read_back<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> std::io::Result<R> {
        Ok(look(self.get_ref()))
    }
}

pub(crate) struct FileTarget(pub(crate) File);

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
        let bytes = crate::file::mmap::Mapping::of_own(&self.0)?;
        let seen = look(&bytes);
        bytes.whole().map(|()| seen)
    }
}

/// Rows that are to be encoded with a model.
pub(crate) struct Encoding<'a> {
    pub(crate) rows: &'a dyn RowSource,
    pub(crate) model: &'a Model,
    pub(crate) encoder: &'a Encoder,
    pub(crate) refine: Option<(&'a Refine, &'a RefineEncoder)>,
    pub(crate) learned: Option<(&'a Learned, &'a Synthesizer)>,
    /// Exponent of the score factor.
    pub(crate) alpha: f32,
    /// The file to be, for messages, and beside which there is room.
    pub(crate) output: &'a Path,
    /// Whether to add up the errors of the rows, which takes decoding them.
    pub(crate) errors: bool,
}

/// All rows encoded.
pub(crate) struct EncodedRows {
    pub(crate) labels: Vec<u32>,
    pub(crate) spool: Spooled,
    /// The length of each row; empty where lengths are not kept.
    pub(crate) lengths: Vec<f32>,
    /// The truth that recall is measured against.
    pub(crate) truth: Option<Neighbors>,
    /// Sum of the squared errors of the rows, decoded without a refine layer, as shares of their lengths, in fixed point; 0 when it was
    /// not asked for.
    pub(crate) error: u128,
}

impl Encoding<'_> {
    /// How a row's codes stand in the spool.
    fn record(&self) -> Record {
        let (model, symbols) = (self.model, self.model.symbols());
        let shape = BlockShape { kind: model.kind(), symbols, side_nibbles: model.side.nibbles() };
        Record { shape, refine: self.refine.map_or(0, |(refine, _)| refine.width()) }
    }

    /// Reads `count` rows from `start` on as unit rows, with their lengths.
    fn read(&self, start: usize, count: usize, mut buffer: Mat) -> Result<(Mat, Vec<f32>), Error> {
        let (rows, model) = (self.rows, self.model);
        if count != buffer.rows() {
            buffer = Mat::zeros(count, rows.dim());
        }
        read_parts(rows, start, &mut buffer)?;
        let gains = to_unit(&mut buffer, model.metric, &model.center, |i, fault| fault.at(rows.path(), start + i))?;
        let one_length = model.metric != Metric::Cosine && model.side.gain_nibbles == 0;
        if let Some(i) = gains.iter().position(|&gain| one_length && !model.side.holds(gain)) {
            let message = format!(
                "its length is {}, and the model keeps none, as the rows it was made of all have length {} or nearly: bring the row \
                 to that length, or compress all rows anew",
                gains[i], model.side.gain_range.0
            );
            return Err(InputError::new(rows.path(), message).at_row(start + i).into());
        }
        Ok((buffer, gains))
    }

    /// The factor's code of each row: that of its reach where there are reaches, else that of the scales it should have.
    fn factor_codes(&self, unit: MatRef<'_>, codes: &RowCodes) -> Vec<u8> {
        let (side, rows) = (&self.model.side, 0..unit.rows());
        if side.factors.is_empty() {
            return Vec::new();
        }
        if !side.reaches.is_empty() {
            let reaches = self.encoder.reaches(self.model, unit, &codes.labels);
            return reaches.par_iter().with_min_len(RECORDS).map(|&reach| side.reach_code(reach)).collect();
        }
        let wanted: Vec<Scales> = if side.weights.is_empty() {
            rows.map(|i| Scales { factor: factor(codes.norms[i], self.alpha), weight: 1.0 }).collect()
        } else {
            let shares = self.encoder.shares(self.model, unit, codes);
            shares.iter().map(|share: &Share| share.restored(self.alpha)).collect()
        };
        wanted.par_iter().with_min_len(RECORDS).map(|&wanted| side.factor_code(wanted)).collect()
    }

    /// Puts the codes of the rows at `gains` into records.
    fn fill(&self, record: Record, found: &Found, gains: &[f32], records: &mut [u8]) {
        let (side_levels, symbols, codes) = (&self.model.side, self.model.symbols(), &found.codes);
        records.par_chunks_mut(record.len().max(1) * RECORDS).enumerate().for_each(|(part, out)| {
            for (r, out) in out.chunks_exact_mut(record.len().max(1)).enumerate() {
                let i = part * RECORDS + r;
                record.put(&codes.symbols[i * symbols..(i + 1) * symbols], out);
                let (base, further) = out.split_at_mut(record.base_len());
                let side = &mut base[record.symbol_bytes()..];
                let factors = side_levels.factor_nibbles();
                let (of_factor, of_gain) = side.split_at_mut(factors);
                let put = |nibbles: &mut [u8], code: u16| {
                    nibbles.iter_mut().enumerate().for_each(|(s, nibble)| *nibble = (code >> (4 * s) & 15) as u8);
                };
                put(of_factor, found.factors.get(i).copied().unwrap_or(0).into());
                put(of_gain, side_levels.gain_code(gains[i]));
                if let (Some(refine), Some((last, packed))) = (&found.refine, further.split_last_mut()) {
                    let count = refine.symbols.len() / refine.factors.len().max(1);
                    pack(&refine.symbols[i * count..(i + 1) * count], packed);
                    *last = refine.factors[i];
                }
            }
        });
    }

    /// Encodes unit rows, which are on the device as `resident`.
    fn encode<O: Ops>(&self, ops: &O, unit: &Mat, gains: &[f32], resident: &O::Rows) -> Result<Found, Error> {
        let mut codes = encode_rows(ops, self.encoder, self.model, resident)?;
        if let Some((learned, synthesizer)) = self.learned {
            synthesizer.encode(ops, learned, resident, &mut codes)?;
        }
        let factors = self.factor_codes(unit.view(), &codes);
        let mut found = Found { codes, factors, refine: None, error: 0 };
        if self.errors || self.refine.is_some() {
            let decoded = match self.learned {
                Some((learned, synthesizer)) => synthesizer.decode(learned, self.encoder, &found.codes),
                None => self.encoder.decode(self.model, &found.codes),
            };
            if self.errors {
                found.error = self.error(unit, gains, &decoded);
            }
            if let Some((refine, encoder)) = self.refine {
                found.refine = Some(encoder.encode(ops, refine, unit.view(), decoded)?);
            }
        }
        Ok(found)
    }

    /// Sum of the squared errors of rows of these lengths as shares of them, in fixed point. What a length that the model's scale does not
    /// hold is off by is not among them.
    fn error(&self, unit: &Mat, gains: &[f32], decoded: &Mat) -> u128 {
        let of_row = |i: usize| {
            let ratio = self.model.side.length_ratio(gains[i]);
            if ratio == 1.0 {
                return fixed(squared_distance(unit.row(i), decoded.row(i)).into());
            }
            let off = unit.row(i).iter().zip(decoded.row(i)).map(|(u, x)| f64::from(u - ratio * x).powi(2));
            fixed(off.sum())
        };
        (0..unit.rows()).into_par_iter().with_min_len(RECORDS).map(of_row).sum()
    }
}

/// The codes of some rows.
struct Found {
    codes: RowCodes,
    /// The factor's code of each; empty without factors.
    factors: Vec<u8>,
    refine: Option<RefineCodes>,
    error: u128,
}

/// Encodes every row, a chunk at a time; on the way it finds the exact neighbours of the queries of `exact`.
pub(crate) fn encode_all<O: Ops>(
    ops: &O,
    encoding: &Encoding<'_>,
    mut exact: Option<Exact>,
    report: &dyn Fn(Stage, usize, usize) -> Result<(), Error>,
) -> Result<EncodedRows, Error> {
    let (rows, model, output) = (encoding.rows, encoding.model, encoding.output);
    let (n, dim) = (rows.rows(), rows.dim());
    let record = encoding.record();
    let spool_error = |e| Error::io(output, e);
    let mut spool = Spool::new(n as u64 * record.len() as u64, output.parent()).map_err(spool_error)?;
    let mut labels = Vec::with_capacity(n);
    let (mut error, mut lengths) = (0, Vec::new());
    // Large enough that waiting for the last unit of work of each step costs little.
    // A model may have more symbols than the rows have values.
    let step = (ops.chunks() * chunk_rows(dim.max(model.symbols() / 4))).min(n).max(1);
    let read = |start: usize, buffer: Mat| encoding.read(start, step.min(n - start), buffer);
    let mut encode = |start: usize, buffer: &Mat, gains: &[f32]| -> Result<Found, Error> {
        let resident = ops.upload(buffer.view())?;
        if let Some(exact) = &mut exact {
            let products = ops.download_owned(ops.project(&resident, &vec![0.0; dim], exact.queries())?)?;
            // The length of a row plays no part in the cosine.
            let ones = vec![1.0; if model.metric == Metric::Cosine { gains.len() } else { 0 }];
            exact.offer_products(start as u64, products.view(), if ones.is_empty() { gains } else { &ones });
        }
        encoding.encode(ops, buffer, gains, &resident)
    };
    let mut records = Vec::new();
    let mut spare = Mat::zeros(0, dim);
    let mut start = 0;
    let mut next = (n > 0).then(|| read(start, Mat::zeros(0, dim)));
    while let Some(current) = next.take() {
        report(Stage::Encode, start, n)?;
        let (buffer, gains) = current?;
        // A device encodes while the next rows are read.
        let found = rayon::in_place_scope(|scope| {
            if start + step < n {
                let (next, read, spare) = (&mut next, &read, std::mem::replace(&mut spare, Mat::zeros(0, dim)));
                scope.spawn(move |_| *next = Some(read(start + step, spare)));
            }
            encode(start, &buffer, &gains)
        })?;
        error += found.error;
        start += gains.len();
        spare = buffer;
        records.resize(gains.len() * record.len(), 0);
        encoding.fill(record, &found, &gains, &mut records);
        spool.write(&records).map_err(spool_error)?;
        labels.extend_from_slice(&found.codes.labels);
        if model.side.gain_nibbles > 0 {
            lengths.extend_from_slice(&gains);
        }
    }
    if encoding.errors {
        error += error_outside(&model.side, &lengths);
    }
    report(Stage::Encode, n, n)?;
    let spool = spool.finish().map_err(spool_error)?;
    Ok(EncodedRows { labels, spool, lengths, truth: exact.map(Exact::finish), error })
}

/// Encodes the rows of a compression; on the way it finds the exact neighbours of the held-out queries.
pub(crate) fn encode_prepared<O: Ops>(
    ops: &O,
    fitted: &Fitted<'_>,
    output: &Path,
    report: &dyn Fn(Stage, usize, usize) -> Result<(), Error>,
) -> Result<EncodedRows, Error> {
    let Fitted { prepared, trained, .. } = fitted;
    // More than are asked for, to see where ties go on.
    let k = (2 * TARGET_K + 1 + usize::from(prepared.held_rows.is_some())).min(prepared.rows.rows());
    let exact = (prepared.held.rows() > 0).then(|| Exact::new(prepared.held.clone(), k, fitted.config.metric));
    let (model, encoder, alpha) = (&trained.model, &trained.encoder, trained.alpha);
    let refine = fitted.refine.as_ref().map(|t| (&t.refine, &t.encoder));
    let synthesizer = fitted.learned.as_ref().map(|learned| Synthesizer::new(model, encoder, learned.unit));
    let learned = fitted.learned.as_ref().zip(synthesizer.as_ref());
    let encoding = Encoding { rows: prepared.rows, model, encoder, refine, learned, alpha, output, errors: false };
    encode_all(ops, &encoding, exact, report)
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
    fitted: &Fitted<'_>,
    encoded: EncodedRows,
    output: &Path,
    report: &dyn Fn(Stage, usize, usize) -> Result<(), Error>,
) -> Result<(T, Meta, u64), Error> {
    let Fitted { config, prepared, trained, learned, .. } = fitted;
    let model = &trained.model;
    let n = prepared.rows.rows() as u64;
    let mut meta = fitted.meta();
    let shape = fitted.shape(&meta);
    let io = |e| Error::io(output, e);
    let mut writer = Writer::create(target).map_err(io)?;
    writer.write_head(&shape).map_err(io)?;
    let source = Source::fresh(&encoded.labels, model.anchors(), encoded.spool.bytes(), &encoded.lengths, 0);
    let new = NewSegment {
        number: 0,
        first: 0,
        span: n,
        anchors: model.anchors(),
        block: shape.block,
        side: &model.side,
        refine: fitted.refine.as_ref().map_or(0, |t| t.refine.width()),
    };
    let blocks = |done: usize, total: usize| report(Stage::Write, done.min(total.saturating_sub(1)), total);
    write_segment(&mut writer, new, &[source], config.ids, &io, &blocks)?;
    encoded.spool.whole().map_err(io)?;
    let mut written = writer.finish(1).map_err(io)?;
    written.write_header().map_err(io)?;
    if let Some(truth) = &encoded.truth {
        let k = TARGET_K.min(n as usize);
        let look = |bytes: &[u8]| held_out::measure(bytes, prepared, truth, &encoded.labels, k);
        let measured = written.sink.read_back(look).map_err(io)??;
        meta.recall = measured.recall as f32;
        meta.probe_cells = measured.probe_cells;
        meta.recall_k = k as u32;
        meta.recall_queries = prepared.held.rows() as u32;
        meta.query_source = if prepared.held_rows.is_some() { 2 } else { 1 };
        let mut known = vec![(*b"META", meta.to_bytes())];
        if let (Some(learned), Some(shortlist)) = (learned, measured.shortlist) {
            known.push((*b"DECO", learned_bytes(&learned.with_shortlist(shortlist))));
        }
        written.replace(&known).map_err(io)?;
    }
    report(Stage::Write, n as usize, n as usize)?;
    let len = written.len();
    Ok((written.sink, meta, len))
}
