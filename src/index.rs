//! An index: the bytes of a `.vlc` file, wherever they are, ready to be asked.

use std::{collections::BTreeMap, ops::Range, path::Path, sync::OnceLock};

use rayon::prelude::*;

use crate::{
    Backend, CodeKind, Embedding, Error, Hit, Ids, Mat, MatRef, Metric, Neighbors, Searcher,
    format::{self, BLOCK, IdsKind, ParseError, Parsed},
    live::{Live, Place},
    mmap::{MappedFile, Watch},
    ops::product_nn,
    query::QueryModel,
    read::chunk_rows,
    store::publish_at,
};

/// A compressed store over bytes of any kind: a mapped file, a vector, a slice.
#[derive(Debug)]
pub struct Index<D> {
    bytes: D,
    parsed: Parsed,
    /// Where the bytes are a mapped file's.
    watch: Option<Watch>,
    /// Unpacked for the first query.
    query_model: OnceLock<QueryModel>,
}

/// Where the queries of a held-out recall came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum QuerySource {
    /// Sample queries that were held out from training.
    Sample,
    /// Rows of the store asked for their own neighbours (themselves left out).
    Rows,
}

/// Recall measured when the file was written, on queries that had no part in training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeldOutRecall {
    /// The mean share of the true `k` nearest rows among the `k` found.
    pub recall: f32,
    /// The k of it.
    pub k: u32,
    /// On how many queries.
    pub queries: u32,
    /// Which queries.
    pub source: QuerySource,
}

/// The facts of an index.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Info {
    /// Version of the file.
    pub version: u32,
    /// Rows.
    pub n: u64,
    /// Dimensions.
    pub dim: u32,
    /// What "near" means.
    pub metric: Metric,
    /// The kind of code.
    pub code: CodeKind,
    /// How many earlier symbols a codeword depends on.
    pub lags: u32,
    /// Anchors.
    pub anchors: u32,
    /// Charts.
    pub charts: u32,
    /// Symbols per row.
    pub symbols: u32,
    /// Bytes of symbols per row.
    pub code_bytes: f64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// The same per row.
    pub bytes_per_vector: f64,
    /// The same as a share of float32.
    pub ratio: f64,
    /// Mean squared L2 error of the decoded training rows, as unit vectors.
    pub energy: f64,
    /// The same when only the anchor is kept.
    pub anchor_energy: f64,
    /// Recall on held-out queries, when it was measured.
    pub recall: Option<HeldOutRecall>,
    /// The seed.
    pub seed: u64,
    /// Rows the model was trained on.
    pub training_rows: u64,
    /// Cells that [`Probe::Auto`](crate::Probe::Auto) looks at for 10 and for 100 hits of a query; `None` when it was not
    /// measured, and all are looked at.
    pub probe_cells: Option<[u32; 2]>,
    /// Sections of the file with their bytes.
    pub sections: Vec<(String, u64)>,
    /// Key-value pairs.
    pub metadata: BTreeMap<String, String>,
}

impl Index<MappedFile> {
    /// Maps a file. The cost depends on the size of the model, not on the number of rows; see [`Index::verify`] for
    /// a check of every byte. A model file that the file names is looked for beside it.
    ///
    /// What is mapped is one commit: appending and deleting go on behind it, and replace the file by renaming another over it.
    /// Other programs must not truncate or change the file in place while it is mapped; where that cannot be promised, as on some
    /// network drives, see [`Index::read`].
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be opened, [`Error::Format`] when it is not a sound `.vlc` file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        map(path.as_ref(), None)
    }

    /// As [`Index::open`], with the model in the file `model`.
    ///
    /// # Errors
    /// As [`Index::open`], and [`Error::Format`] when it is another model.
    pub fn open_with_model(path: impl AsRef<Path>, model: impl AsRef<Path>) -> Result<Self, Error> {
        map(path.as_ref(), Some(model.as_ref()))
    }
}

impl Index<Vec<u8>> {
    /// Reads a file into memory: whatever happens to the file afterwards, truncation included, does not touch this index.
    ///
    /// # Errors
    /// As [`Index::open`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        open(path.as_ref(), None, |path| std::fs::read(path).map_err(|e| Error::io(path, e)))
    }

    /// As [`Index::read`], with the model in the file `model`.
    ///
    /// # Errors
    /// As [`Index::open_with_model`].
    pub fn read_with_model(path: impl AsRef<Path>, model: impl AsRef<Path>) -> Result<Self, Error> {
        open(path.as_ref(), Some(model.as_ref()), |path| std::fs::read(path).map_err(|e| Error::io(path, e)))
    }
}

/// How often a file that a writer is just committing to is looked at again.
const LOOKS: usize = 100;

fn map(path: &Path, model: Option<&Path>) -> Result<Index<MappedFile>, Error> {
    let mut index = open(path, model, MappedFile::open)?;
    index.watch = Watch::new(&index.bytes, path);
    Ok(index)
}

/// Opens a file by `load`, and its model.
fn open<D: AsRef<[u8]>>(
    path: &Path,
    model: Option<&Path>,
    load: impl Fn(&Path) -> Result<D, Error>,
) -> Result<Index<D>, Error> {
    crate::store::sweep(path);
    let mut look = 0;
    loop {
        let bytes = load(path)?;
        let outcome = match model {
            Some(model) => parse_with(bytes.as_ref(), model)?,
            None => match format::parse(bytes.as_ref(), None) {
                Err(ParseError::Model { name, .. }) if path.with_file_name(&name).is_file() => {
                    parse_with(bytes.as_ref(), &path.with_file_name(name))?
                }
                other => other,
            },
        };
        match outcome {
            Ok(parsed) => return Ok(Index::of(bytes, parsed)),
            // A commit is two writes, and this may have been between them, or the file shorter when it was mapped.
            Err(source) => {
                look += 1;
                if look == LOOKS || !changed(path, bytes.as_ref()) {
                    return Err(Error::Format { path: path.to_owned(), source });
                }
            }
        }
    }
}

/// Whether the header or the length of a file is other than those of `bytes` by now.
fn changed(path: &Path, bytes: &[u8]) -> bool {
    use std::io::Read;
    let mut header = Vec::new();
    let read = std::fs::File::open(path).and_then(|mut file| {
        file.by_ref().take(format::HEADER_BYTES as u64).read_to_end(&mut header)?;
        Ok(file.metadata()?.len())
    });
    // A truncated mapping must not be touched.
    read.is_ok_and(|len| len > bytes.len() as u64 || (len == bytes.len() as u64 && !bytes.starts_with(&header)))
}

fn parse_with(bytes: &[u8], model: &Path) -> Result<Result<Parsed, ParseError>, Error> {
    let file = MappedFile::open(model)?;
    Ok(format::parse(bytes, Some(file.as_ref())))
}

impl<D: AsRef<[u8]>> Index<D> {
    /// Reads an index from bytes in memory.
    ///
    /// # Errors
    /// [`Error::Format`] when they are not those of a sound `.vlc` file.
    pub fn from_bytes(bytes: D) -> Result<Self, Error> {
        let parsed = format::parse(bytes.as_ref(), None).map_err(in_memory)?;
        Ok(Index::of(bytes, parsed))
    }

    pub(crate) fn of(bytes: D, parsed: Parsed) -> Self {
        Index { bytes, parsed, watch: None, query_model: OnceLock::new() }
    }

    pub(crate) fn parsed(&self) -> &Parsed {
        &self.parsed
    }

    pub(crate) fn query_model(&self) -> &QueryModel {
        self.query_model.get_or_init(|| QueryModel::new(&self.parsed.model))
    }

    pub(crate) fn watch(&self) -> Option<&Watch> {
        self.watch.as_ref()
    }

    /// Refuses to go on where the mapped file has been truncated.
    pub(crate) fn check_whole(&self) -> Result<(), Error> {
        self.watch.as_ref().map_or(Ok(()), |watch| watch.check(self.parsed.layout.end))
    }

    /// The bytes of the file, as far as they are committed.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes.as_ref()[..self.parsed.layout.end as usize]
    }

    /// Number of rows, deleted ones not counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parsed.live() as usize
    }

    /// Whether there are no rows: in a model file, or where all are deleted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Dimensions of rows and queries.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.parsed.meta.dim as usize
    }

    /// What "near" means.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.parsed.meta.metric
    }

    /// The embedding model its rows are from, when it was named.
    #[must_use]
    pub fn embedding(&self) -> Option<Embedding> {
        Embedding::of(&self.parsed.metadata)
    }

    /// Refuses vectors of another embedding model than that of the rows; a file that names none takes any.
    ///
    /// # Errors
    /// [`Error::Config`] naming both.
    pub fn check_embedding(&self, of_queries: &Embedding) -> Result<(), Error> {
        self.embedding().map_or(Ok(()), |own| own.check(of_queries))
    }

    /// The facts of the file.
    #[must_use]
    pub fn info(&self) -> Info {
        let meta = &self.parsed.meta;
        let file_bytes = self.bytes().len() as u64;
        let n = self.parsed.live();
        let bytes_per_vector = file_bytes as f64 / n as f64;
        let symbol_bytes = if meta.kind == CodeKind::Chain { 0.5 } else { 1.0 };
        let source = match meta.query_source {
            1 => Some(QuerySource::Sample),
            2 => Some(QuerySource::Rows),
            _ => None,
        };
        Info {
            version: self.parsed.layout.version,
            n,
            dim: meta.dim,
            metric: meta.metric,
            code: meta.kind,
            lags: meta.lags.into(),
            anchors: meta.anchors,
            charts: meta.charts,
            symbols: meta.symbols,
            code_bytes: symbol_bytes * f64::from(meta.symbols),
            file_bytes,
            bytes_per_vector,
            ratio: bytes_per_vector / (4.0 * f64::from(meta.dim)),
            energy: meta.energy,
            anchor_energy: meta.anchor_energy,
            recall: source.filter(|_| !meta.recall.is_nan()).map(|source| HeldOutRecall {
                recall: meta.recall,
                k: meta.recall_k,
                queries: meta.recall_queries,
                source,
            }),
            seed: meta.seed,
            training_rows: meta.training_rows,
            probe_cells: (meta.probe_cells[0] > 0).then_some(meta.probe_cells),
            sections: self.parsed.entries().iter().map(|e| (e.name(), e.len)).collect(),
            metadata: self.parsed.metadata.clone(),
        }
    }

    /// Checks every byte of the file. O(file).
    ///
    /// # Errors
    /// [`Error::Format`] naming the part that is damaged.
    pub fn verify(&self) -> Result<(), Error> {
        self.check_whole()?;
        format::verify(&self.parsed, self.bytes()).map_err(in_memory)
    }

    /// The `min(k, n)` nearest rows of one query, nearest first, on the CPU. Exhaustive: O(n x symbols).
    ///
    /// # Errors
    /// As [`Searcher::query_batch`].
    pub fn query(&self, query: &[f32], k: usize) -> Result<Vec<Hit>, Error> {
        let found = self.query_batch(MatRef::new(query, 1, query.len())?, k)?;
        let pairs = found.ids.as_slice().iter().zip(found.scores.as_slice());
        Ok(pairs.map(|(&id, &score)| Hit { id, score }).collect())
    }

    /// The `min(k, n)` nearest rows of every query (queries x dim), on all threads of the current rayon pool.
    ///
    /// # Errors
    /// As [`Searcher::query_batch`].
    pub fn query_batch(&self, queries: MatRef<'_>, k: usize) -> Result<Neighbors, Error> {
        Searcher::open(self, Backend::Cpu)?.query_batch(queries, k)
    }

    /// Decodes the rows `rows`: what the file knows of the vectors that were compressed (normalised for cosine). Rows are counted
    /// without those that are deleted. O(rows x active x d + anchors).
    ///
    /// # Errors
    /// [`Error::Config`] when the range is not within the rows.
    pub fn decode(&self, rows: Range<usize>) -> Result<Mat, Error> {
        let mut all = Vec::with_capacity(rows.len() * self.dim());
        let count = rows.len();
        self.decode_each(rows, |part| {
            all.extend_from_slice(part.as_slice());
            Ok(())
        })?;
        Mat::new(all, count, self.dim())
    }

    /// Decodes the rows `rows` in order, some thousands at a time, so that memory does not grow with their number.
    /// An error of `each` ends it.
    ///
    /// # Errors
    /// As [`Index::decode`], and those of `each`.
    pub fn decode_each(
        &self,
        rows: Range<usize>,
        mut each: impl FnMut(MatRef<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if rows.start > rows.end || rows.end > self.len() {
            let message = format!("rows {}..{} of an index of {}", rows.start, rows.end, self.len());
            return Err(Error::Config(message));
        }
        const CHUNK: usize = 256;
        let mut live = Live::new(&self.parsed, self.bytes(), rows.start as u64);
        let decoder = Decoder::new(&self.parsed, self.bytes());
        let step = chunk_rows(self.dim());
        for first in rows.clone().step_by(step) {
            self.check_whole()?;
            let count = step.min(rows.end - first);
            let mut places = live.take(count);
            // A row that a damaged file does not have gets any place within bounds.
            places.resize(count, Place { row: 0, segment: 0, cell: 0, position: 0 });
            let mut out = Mat::zeros(count, self.dim());
            let parts = out.as_mut_slice().par_chunks_mut(CHUNK * self.dim());
            parts.zip(places.par_chunks(CHUNK)).for_each(|(out, places)| decoder.decode(places, out));
            each(out.view())?;
        }
        Ok(())
    }

    /// The ids of the rows `rows`, counted as [`Index::decode`] does.
    ///
    /// # Errors
    /// [`Error::Config`] when the range is not within the rows.
    pub fn ids(&self, rows: Range<usize>) -> Result<Ids, Error> {
        if rows.start > rows.end || rows.end > self.len() {
            let message = format!("rows {}..{} of an index of {}", rows.start, rows.end, self.len());
            return Err(Error::Config(message));
        }
        let places = Live::new(&self.parsed, self.bytes(), rows.start as u64).take(rows.len());
        let text = self.parsed.segments.first().is_some_and(|s| s.ids_kind() == Some(IdsKind::Text));
        Ok(if text {
            Ids::Text(places.iter().map(|p| self.text_id(p.row).unwrap_or_default().to_owned()).collect())
        } else {
            Ids::Numbers(places.iter().map(|p| self.parsed.number_id(p.row, self.bytes())).collect())
        })
    }

    /// The string that is the id of the row with this number; `None` where ids are numbers, or there is no such row.
    #[must_use]
    pub fn text_id(&self, row: u64) -> Option<&str> {
        let (ids, local) = self.parsed.ids_of(row, self.bytes())?;
        ids.text(local)
    }
}

fn in_memory(source: format::ParseError) -> Error {
    Error::Format { path: "index".into(), source }
}

/// Decodes rows by position.
pub(crate) struct Decoder<'a> {
    parsed: &'a Parsed,
    /// The blocks of each segment.
    codes: Vec<&'a [u8]>,
    /// Decoder of each chart, one row per direction.
    directions: Vec<Mat>,
    anchors: Vec<Vec<f32>>,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(parsed: &'a Parsed, bytes: &'a [u8]) -> Self {
        let codes = parsed.segments.iter().map(|segment| segment.codes(bytes)).collect();
        let directions = parsed.model.charts.iter().map(|c| c.decoder.to_mat()).collect();
        Decoder { parsed, codes, directions, anchors: parsed.model.anchor_coordinates() }
    }

    /// Decodes rows into `out`, d values each.
    pub(crate) fn decode(&self, rows: &[Place], out: &mut [f32]) {
        let (model, shape) = (&self.parsed.model, self.parsed.block);
        let mut symbols = vec![0u8; shape.symbols];
        for (&Place { segment, cell: anchor, position, .. }, out) in rows.iter().zip(out.chunks_exact_mut(model.dim))
        {
            let (b, i) = ((position / BLOCK as u64) as usize, (position % BLOCK as u64) as usize);
            let block = &self.codes[segment][b * shape.bytes()..(b + 1) * shape.bytes()];
            for (t, symbol) in symbols.iter_mut().enumerate() {
                *symbol = shape.symbol(block, t, i);
            }
            let chart = usize::from(model.anchor_chart[anchor]);
            let mut y = Mat::zeros(1, self.anchors[anchor].len());
            y.as_mut_slice().copy_from_slice(&self.anchors[anchor]);
            model.charts[chart].code.add_codeword(&symbols, y.as_mut_slice());
            product_nn(out, y.view(), self.directions[chart].view());
            let mut gain_code = 0;
            for s in (model.side.factor_nibbles()..shape.side_nibbles).rev() {
                gain_code = gain_code << 4 | usize::from(shape.side(block, s, i));
            }
            let gain = self.parsed.gains[gain_code];
            for ((x, mean), center) in out.iter_mut().zip(&model.mean).zip(&model.center) {
                *x = center + gain * (*x + mean);
            }
        }
    }
}

/// Writes an index to a file: under a temporary name beside it, synced, then renamed, so that `path` holds either
/// what it held before or the whole index.
///
/// # Errors
/// [`Error::Io`]; nothing is left behind then. [`Error::Locked`] while another writer has `path`.
pub fn write_index<D: AsRef<[u8]>>(index: &Index<D>, path: impl AsRef<Path>) -> Result<(), Error> {
    use std::io::Write;
    let path = path.as_ref();
    publish_at(path, |file| file.write_all(index.bytes()).map_err(|e| Error::io(path, e)))
}

/// Refuses metadata that the file keeps for itself.
pub(crate) fn check_keys(metadata: &BTreeMap<String, String>) -> Result<(), Error> {
    match metadata.keys().find(|key| key.starts_with("vlc.") || key.is_empty()) {
        Some(key) => {
            Err(Error::Config(format!("the metadata key {key:?} is not allowed: it is empty or starts with vlc.")))
        }
        None => Ok(()),
    }
}
