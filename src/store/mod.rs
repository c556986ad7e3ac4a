//! Changes to a file: rows appended and deleted, space given back. Every change is a commit: after a crash at any point the file is what
//! it was before, or what it was to be.

pub(crate) mod commit;
pub(crate) mod edit;
pub(crate) mod gather;
pub(crate) mod join;
pub(crate) mod merge;
pub(crate) mod salvage;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::{
    compress::{
        drift::{AppendReport, DRIFT, expected_energy, trained_lengths},
        with_model::{EncodeOptions, encode},
    },
    error::{Error, ParseError},
    file::{disk::Folder, lengths::Lengths, mmap::MappedFile, publish::Tell},
    format,
    ids::Ids,
    index::Index,
    ops::{
        run,
        seam::{Ops, WithOps},
    },
    platform::Stopwatch,
    read::source::RowSource,
    report::{ProgressFn, teller},
};
use edit::{Editor, NewRows};

/// What a deletion gave.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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
///
/// What is locked is the file itself, whatever name led to it: a hard link, a symbolic one, another path. Writing it anew (compacting, which
/// also happens by itself) keeps permissions and, where allowed, its owner, and goes through symbolic links. A file of several names (hard
/// links) is never written anew, as the others would keep the old one: [`Store::compact`] refuses that.
///
/// ```
/// use vlc::{Config, EncodeOptions, Ids, Index, MatRef, Store, compress_to};
///
/// let values: Vec<f32> = (0..64_000).map(|i| ((i * 37 % 1013) as f32 / 500.0) - 1.0).collect();
/// let rows = MatRef::new(&values, 1000, 64)?;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("store.vlc");
/// compress_to(&rows.slice(0..800), &path, &Config::default())?;
/// let reader = Index::open(&path)?;
///
/// let mut store = Store::open(&path)?;
/// store.append(&rows.slice(800..1000), &EncodeOptions::default())?;
/// assert_eq!(store.delete(&Ids::Numbers(vec![17, 4000]))?.missing, [1]);
/// store.compact()?;
///
/// assert!(!reader.is_current()?);
/// assert_eq!(reader.newer()?.map(|index| index.len()), Some(999));
/// # Ok::<(), vlc::Error>(())
/// ```
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    model: Option<MappedFile>,
    /// The file of that, where it was named.
    model_path: Option<PathBuf>,
    /// With the lock.
    folder: Folder,
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
        let folder = Folder::locked(path)?;
        let model_path = model.map(Path::to_owned);
        let model = match model {
            Some(model) => Some(MappedFile::open(model)?),
            None => match format::parse(MappedFile::open(path)?.as_ref(), None) {
                Err(ParseError::Model { name, .. }) if path.with_file_name(&name).is_file() => {
                    Some(MappedFile::open(&path.with_file_name(name))?)
                }
                _ => None,
            },
        };
        folder.sweep();
        let store = Store { path: path.to_owned(), model, model_path, folder };
        store.editor(&|_| Ok(())).load()?;
        Ok(store)
    }

    fn editor<'a>(&'a self, tell: &'a Tell<'a>) -> Editor<'a, Folder> {
        let model = self.model.as_ref().map(AsRef::as_ref);
        Editor { disk: &self.folder, path: &self.path, model, tell }
    }

    /// The file as it is now, to search or to look at.
    ///
    /// # Errors
    /// As [`Index::open`].
    pub fn index(&self) -> Result<Index<MappedFile>, Error> {
        let (_, index) = self.editor(&|_| Ok(())).load()?;
        Ok(index.at(&self.path, self.model_path.as_deref()))
    }

    /// Appends `rows` (m x dim), encoded with the model of the file: O(m (anchors + dim) dim), and as few bytes written as there
    /// are new rows, give or take a small multiple. Their numbers go on from the last row ever appended.
    ///
    /// # Errors
    /// [`Error::Input`] for rows that cannot be used and ids that are there already or twice, [`Error::Config`] for ids of another
    /// kind than the file's or rows of another embedding model, [`Error::Format`] where what would be copied is damaged, [`Error::Io`] and
    /// the errors of the backend. The file is unchanged then; only after [`Error::Uncertain`] it may be or not.
    pub fn append(&mut self, rows: &dyn RowSource, options: &EncodeOptions<'_>) -> Result<AppendReport, Error> {
        struct Job<'a>(&'a Store, &'a dyn RowSource, &'a EncodeOptions<'a>);
        impl WithOps for Job<'_> {
            type Output = AppendReport;
            fn run<O: Ops>(self, ops: O) -> Result<AppendReport, Error> {
                append_on(&ops, self.0, self.1, self.2)
            }
        }
        let job = Job(self, rows, options);
        run(&options.compute, job)
    }

    /// Deletes rows by id. They are not found from then on; their bytes stay until the file is compacted, which it is by itself
    /// when a third of it is dead.
    ///
    /// # Errors
    /// [`Error::Config`] for ids of another kind than the file's, [`Error::Format`] where what ids are looked up in is damaged,
    /// [`Error::Io`]: the file is unchanged; [`Error::Uncertain`]. Ids that no row has are not an error.
    pub fn delete(&mut self, ids: &Ids) -> Result<DeleteReport, Error> {
        self.delete_with(ids, None)
    }

    /// As [`Store::delete`], telling `progress` and cancelled by it.
    ///
    /// # Errors
    /// As [`Store::delete`], and [`Error::Cancelled`].
    pub fn delete_with(&mut self, ids: &Ids, progress: Option<&ProgressFn<'_>>) -> Result<DeleteReport, Error> {
        let tell = teller(progress);
        let editor = self.editor(&tell);
        let before = editor.load()?.1.len() as u64;
        let (found, deleted) = editor.delete(ids)?;
        let missing: Vec<usize> = (0..found.len()).filter(|&i| !found[i]).collect();
        Ok(DeleteReport { deleted, missing, n: before - deleted })
    }

    /// Writes the file anew without what is deleted or outdated, once every byte of it was verified. O(file).
    ///
    /// # Errors
    /// [`Error::Format`] where it is damaged, [`Error::Config`] where it has several names (hard links), [`Error::Io`]; the file is unchanged
    /// then. [`Error::Uncertain`].
    pub fn compact(&mut self) -> Result<(), Error> {
        self.compact_with(None)
    }

    /// As [`Store::compact`], telling `progress` and cancelled by it.
    ///
    /// # Errors
    /// As [`Store::compact`], and [`Error::Cancelled`].
    pub fn compact_with(&mut self, progress: Option<&ProgressFn<'_>>) -> Result<(), Error> {
        self.editor(&teller(progress)).compact()
    }
}

fn append_on<O: Ops>(
    ops: &O,
    store: &Store,
    rows: &dyn RowSource,
    options: &EncodeOptions<'_>,
) -> Result<AppendReport, Error> {
    let watch = Stopwatch::start();
    let tell = teller(options.progress);
    let editor = store.editor(&tell);
    let (_, index) = editor.load()?;
    let (first_row, meta) = (index.parsed().next_row(), index.parsed().meta.clone());
    let trained_lengths = trained_lengths(&index.parsed().model);
    let expected = expected_energy(index.parsed());
    let encoded = encode(ops, &index, rows, editor.path, options)?;
    let before = index.len() as u64;
    drop(index);
    let new = NewRows {
        labels: &encoded.labels,
        records: encoded.spool.bytes(),
        lengths: &encoded.lengths,
        ids: options.ids,
        error: encoded.error,
        whole: &|| encoded.spool.whole().map_err(|error| Error::io(editor.path, error)),
    };
    let file_bytes = editor.append(&new)?;
    let energy = format::Appended { first: first_row, rows: rows.rows() as u64, error: encoded.error }.energy();
    Ok(AppendReport {
        rows: rows.rows() as u64,
        first_row,
        n: before + rows.rows() as u64,
        file_bytes,
        energy,
        trained_energy: meta.energy,
        drifted: energy > DRIFT * expected,
        lengths: Lengths::of(&encoded.lengths).range(),
        trained_lengths,
        seconds: watch.seconds(),
        backend: ops.backend(),
    })
}
