//! Changes to a file: rows appended and deleted, space given back. Every change is a commit: after a crash at any point the file is what
//! it was before, or what it was to be.

mod build;
mod commit;
mod derive;
mod disk;
mod edit;
mod find;
mod head;
mod lock;
mod publish;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use build::{BuildReport, compress_with_model, train_to};
pub use derive::{merge, transcode};
pub(crate) use find::positions;
pub(crate) use publish::{publish_at, sweep};

use crate::{
    Backend, Config, DeviceChoice, Embedding, Error, Event, Ids, Index, InputError, ProgressFn, RowSource, Stage,
    encode::Encoder,
    format::{self, Meta, ParseError},
    learned::Synthesizer,
    mmap::MappedFile,
    ops::{Ops, WithOps, dispatch},
    platform::Stopwatch,
    refine::RefineEncoder,
    rows::{Encoding, encode_all},
};
use disk::Folder;
use edit::{Editor, NewRows};
use lock::Lock;

/// How rows are encoded with a model that is there.
#[derive(Clone, Default)]
pub struct EncodeOptions<'a> {
    /// Ids of the rows; without them a row's number is its id.
    pub ids: Option<&'a Ids>,
    /// The embedding model that the rows are from: refused where the file is of another.
    pub embedding: Option<Embedding>,
    /// Where the arithmetic runs.
    pub backend: Backend,
    /// Which device of the backend.
    pub device: DeviceChoice,
    /// CPU threads; `None` is one per core.
    pub threads: Option<usize>,
    /// Receives progress and may cancel.
    pub progress: Option<&'a ProgressFn<'a>>,
}

/// What an append gave.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AppendReport {
    /// Rows added.
    pub rows: u64,
    /// The number of the first of them.
    pub first_row: u64,
    /// Rows the file has now.
    pub n: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Mean squared L2 error of the new rows, as unit vectors.
    pub energy: f64,
    /// The same of the rows the model was trained on.
    pub trained_energy: f64,
    /// Whether the model no longer fits the rows that come: an error of more than [`DRIFT`] times that which rows like the training
    /// rows would have.
    pub drifted: bool,
    /// All of it.
    pub seconds: f64,
    /// Where the arithmetic ran.
    pub backend: Backend,
}

/// The error of new rows, as a multiple of that of rows like the training rows, from which on a model counts as outgrown.
pub const DRIFT: f64 = 1.2;

/// The error that rows like the training rows are to have, though the model has not seen them: K means and d directions fit the N rows
/// they were made of by about (K + d) / N closer than all, and others by as much less. What a learned decoder makes of rows it has not seen
/// was measured when it was trained.
fn expected_energy(meta: &Meta, unseen: Option<f64>) -> f64 {
    let parameters = f64::from(meta.anchors) + f64::from(meta.dim);
    unseen.filter(|e| e.is_finite()).unwrap_or(meta.energy)
        * (1.0 + 2.0 * parameters / meta.training_rows.max(1) as f64)
}

/// What a deletion gave.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeleteReport {
    /// Rows deleted.
    pub deleted: u64,
    /// The ids that no row has, by their places in what was given.
    pub missing: Vec<usize>,
    /// Rows the file has now.
    pub n: u64,
}

/// A file opened to be changed. There is one at a time: others, in this process and any other, get [`Error::Locked`]. Whoever has it open
/// to search goes on with what was committed then.
///
/// The disk may be on a network only if that keeps locks and the order of synced writes.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    model: Option<MappedFile>,
    _lock: Lock,
}

impl Store {
    /// Opens a file, and clears away what a writer left that did not finish.
    ///
    /// # Errors
    /// [`Error::Locked`] when another writer has it open, [`Error::Io`], and [`Error::Format`] when it is not a sound `.vlc` file.
    pub fn open(path: impl AsRef<Path>) -> Result<Store, Error> {
        Store::open_by(path.as_ref(), None)
    }

    /// As [`Store::open`], with the model in the file `model`.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with_model(path: impl AsRef<Path>, model: impl AsRef<Path>) -> Result<Store, Error> {
        Store::open_by(path.as_ref(), Some(model.as_ref()))
    }

    fn open_by(path: &Path, model: Option<&Path>) -> Result<Store, Error> {
        // What cannot be opened is told before a lock file is made beside it.
        let file = MappedFile::open(path)?;
        let lock = Lock::take(path)?;
        drop(file);
        let model = match model {
            Some(model) => Some(MappedFile::open(model)?),
            None => match format::parse(MappedFile::open(path)?.as_ref(), None) {
                Err(ParseError::Model { name, .. }) if path.with_file_name(&name).is_file() => {
                    Some(MappedFile::open(&path.with_file_name(name))?)
                }
                _ => None,
            },
        };
        let store = Store { path: path.to_owned(), model, _lock: lock };
        publish::clear(&Folder::new(path));
        store.editor().load()?;
        Ok(store)
    }

    fn editor(&self) -> Editor<'_, Folder> {
        Editor { disk: Folder::new(&self.path), path: &self.path, model: self.model.as_ref().map(AsRef::as_ref) }
    }

    /// The file as it is now, to search or to look at.
    ///
    /// # Errors
    /// As [`Index::open`].
    pub fn index(&self) -> Result<Index<impl AsRef<[u8]>>, Error> {
        Ok(self.editor().load()?.1)
    }

    /// Appends `rows` (m x dim), encoded with the model of the file: O(m (anchors + dim) dim), and as few bytes written as there
    /// are new rows, give or take a small multiple. Their numbers go on from the last row ever appended.
    ///
    /// # Errors
    /// [`Error::Input`] for rows that cannot be used and ids that are there already or twice, [`Error::Config`] for ids of another
    /// kind than the file's or rows of another embedding model, [`Error::Io`] and the errors of the backend. The file is
    /// unchanged then.
    pub fn append(&mut self, rows: &dyn RowSource, options: &EncodeOptions<'_>) -> Result<AppendReport, Error> {
        struct Job<'a>(&'a Editor<'a, Folder>, &'a dyn RowSource, &'a EncodeOptions<'a>);
        impl WithOps for Job<'_> {
            type Output = AppendReport;
            fn run<O: Ops>(self, ops: O) -> Result<AppendReport, Error> {
                append_on(&ops, self.0, self.1, self.2)
            }
        }
        let editor = self.editor();
        let job = Job(&editor, rows, options);
        let config = Config { threads: options.threads, ..Config::default() };
        crate::compress::with_threads(&config, || dispatch(options.backend, options.device, job))
    }

    /// Deletes rows by id. They are not found from then on; their bytes stay until the file is compacted, which it is by itself
    /// when a third of it is dead.
    ///
    /// # Errors
    /// [`Error::Config`] for ids of another kind than the file's, [`Error::Io`]. Ids that no row has are not an error.
    pub fn delete(&mut self, ids: &Ids) -> Result<DeleteReport, Error> {
        let editor = self.editor();
        let before = editor.load()?.1.len();
        let found = editor.delete(ids)?;
        let missing: Vec<usize> = (0..found.len()).filter(|&i| !found[i]).collect();
        let n = editor.load()?.1.len();
        Ok(DeleteReport { deleted: (before - n) as u64, missing, n: n as u64 })
    }

    /// Writes the file anew without what is deleted or outdated. O(file).
    ///
    /// # Errors
    /// [`Error::Io`]; the file is unchanged then.
    pub fn compact(&mut self) -> Result<(), Error> {
        self.editor().compact()
    }
}

fn append_on<O: Ops>(
    ops: &O,
    editor: &Editor<'_, Folder>,
    rows: &dyn RowSource,
    options: &EncodeOptions<'_>,
) -> Result<AppendReport, Error> {
    let watch = Stopwatch::start();
    let (_, index) = editor.load()?;
    let (first_row, meta) = (index.parsed().next_row(), index.parsed().meta.clone());
    let unseen = index.parsed().learned.as_ref().map(|learned| learned.unseen_energy);
    let encoded = encode(ops, &index, rows, editor.path, options)?;
    drop(index);
    let report = stage_report(options);
    report(Stage::Write, 0, rows.rows())?;
    let new = NewRows {
        labels: &encoded.labels,
        records: encoded.spool.bytes(),
        ids: options.ids,
        error: encoded.error,
        each: &|done, total| {
            encoded.spool.whole().map_err(|error| Error::io(editor.path, error))?;
            report(Stage::Write, done.min(total.saturating_sub(1)), total)
        },
    };
    editor.append(&new)?;
    let (_, index) = editor.load()?;
    report(Stage::Write, rows.rows(), rows.rows())?;
    let energy = format::Appended { first: first_row, rows: rows.rows() as u64, error: encoded.error }.energy();
    Ok(AppendReport {
        rows: rows.rows() as u64,
        first_row,
        n: index.len() as u64,
        file_bytes: index.bytes().len() as u64,
        energy,
        trained_energy: meta.energy,
        drifted: energy > DRIFT * expected_energy(&meta, unseen),
        seconds: watch.seconds(),
        backend: ops.backend(),
    })
}

fn stage_report<'a>(options: &EncodeOptions<'a>) -> impl Fn(Stage, usize, usize) -> Result<(), Error> + use<'a> {
    let progress = options.progress;
    move |stage, done: usize, total: usize| match progress {
        Some(progress) if progress(&Event::Progress { stage, done: done as u64, total: total as u64 }).is_break() => {
            Err(Error::Cancelled)
        }
        _ => Ok(()),
    }
}

/// Encodes rows with the model of an index.
fn encode<O: Ops, D: AsRef<[u8]>>(
    ops: &O,
    index: &Index<D>,
    rows: &dyn RowSource,
    output: &Path,
    options: &EncodeOptions<'_>,
) -> Result<crate::rows::EncodedRows, Error> {
    let (model, meta) = (&*index.parsed().model, &index.parsed().meta);
    if rows.dim() != model.dim {
        let message = format!("the rows have {} dimensions, the file has {}", rows.dim(), model.dim);
        return Err(InputError::new(rows.path(), message).into());
    }
    if rows.rows() == 0 {
        return Err(InputError::new(rows.path(), "there are no rows; give at least one").into());
    }
    if let (Some(own), Some(given)) = (index.embedding(), &options.embedding) {
        own.check(given)?;
    }
    let report = stage_report(options);
    let begun = || report(Stage::Encode, 0, rows.rows());
    let encoder = Encoder::of(model, &begun)?;
    let layer = index.parsed().refine.as_ref();
    let layer_encoder = layer.map(|layer| RefineEncoder::of(layer, &begun)).transpose()?;
    let learned = index.parsed().learned.as_ref();
    let synthesizer = learned.map(|learned| Synthesizer::new(model, &encoder, learned.unit));
    let encoding = Encoding {
        rows,
        model,
        encoder: &encoder,
        refine: layer.zip(layer_encoder.as_ref()),
        learned: learned.zip(synthesizer.as_ref()),
        alpha: meta.alpha,
        output,
        errors: true,
    };
    let encoded = encode_all(ops, &encoding, None, &report)?;
    index.check_whole()?;
    Ok(encoded)
}
