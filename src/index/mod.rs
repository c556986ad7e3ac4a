//! An index: the bytes of a `.vlc` file, wherever they are, ready to be asked.

pub(crate) mod decode;
pub(crate) mod engine;
pub(crate) mod filter;
pub(crate) mod find;
pub(crate) mod info;
pub(crate) mod live;
pub(crate) mod masks;
pub(crate) mod search;
pub(crate) mod searcher;
pub(crate) mod select;
pub(crate) mod view;

use std::{
    cell::Cell,
    ops::{ControlFlow, Range},
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use crate::{
    backend::{Backend, DeviceChoice},
    embedding::Embedding,
    error::{Error, ParseError},
    file::{
        mmap::{MappedFile, Watch},
        publish::publish_at,
    },
    format::{self, parse::Parsed},
    ids::{Ids, IdsKind},
    learned::rescore::LearnedModel,
    model::kinds::Metric,
    search::tables::QueryModel,
};
use engine::Engine;
use live::Live;
use view::{Behind, View};

/// A compressed store over bytes of any kind: a mapped file, a vector, a slice.
///
/// ```
/// use vlc::{Budget, Config, Ids, Index, MatRef, compress};
///
/// let values: Vec<f32> = (0..64_000).map(|i| ((i * 37 % 1013) as f32 / 500.0) - 1.0).collect();
/// let rows = MatRef::new(&values, 1000, 64)?;
/// let ids: Ids = (0..1000).map(|i| format!("passage-{i}")).collect();
/// let index = compress(rows, &Config { budget: Budget::Ratio(0.10), ids: Some(&ids), ..Config::default() })?;
///
/// // From whatever holds its bytes: here a slice.
/// let index = Index::from_bytes(index.bytes())?;
/// let hit = index.query(rows.row(7), 1)?[0];
/// assert!(index.text_id(hit.id).is_some_and(|id| id.starts_with("passage-")));
/// assert_eq!(index.vectors(&Ids::Text(vec!["passage-7".into()]))?.dim(), 64);
/// index.verify()?;
/// # Ok::<(), vlc::Error>(())
/// ```
#[derive(Debug)]
pub struct Index<D> {
    bytes: D,
    parsed: Parsed,
    /// The file that the bytes are from, where they are from one, for messages.
    path: Option<PathBuf>,
    /// The file that its model is from, where one was named.
    model_path: Option<PathBuf>,
    /// Where the bytes are a mapped file's.
    watch: Option<Watch>,
    /// Set once what ids are looked up in was found to be sound.
    looked_up: OnceLock<()>,
    /// Unpacked for the first query.
    query_model: OnceLock<QueryModel>,
    refine_model: OnceLock<QueryModel>,
    learned_model: OnceLock<LearnedModel>,
    /// For searches on the CPU, once there has been one.
    on_cpu: OnceLock<Engine>,
}

impl Index<MappedFile> {
    /// Maps a file. The cost depends on the size of the model, not on the number of rows; see [`Index::verify`] for
    /// a check of every byte. A model file that the file names is looked for beside it.
    ///
    /// What is mapped is one commit: appending and deleting go on behind it, and replace the file by renaming another over it.
    /// Other programs must not truncate or change the file in place while it is mapped; where that cannot be promised, as on some
    /// network drives, see [`Index::read`], and [`guard_mappings`](crate::file::guard::guard_mappings) for an error in place of the end of the process.
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

    /// Whether the file still is the one that was opened, with no commit since. It reads the header, O(1); where it cannot tell, as while a
    /// commit is being written, the answer is no.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be opened any more.
    pub fn is_current(&self) -> Result<bool, Error> {
        let Some(path) = self.path() else { return Ok(true) };
        let now = MappedFile::open(path)?;
        let commit = |layout: format::Layout| (layout.commit.generation, layout.commit.table_hash);
        let same = format::parse_header(now.as_ref()).is_ok_and(|layout| {
            let own = &self.parsed.layout.commit;
            commit(layout) == (own.generation, own.table_hash)
        });
        Ok(same)
    }

    /// The file as it is now, where that is another commit than this one; `None` where nothing has changed. This index stays what it is, for
    /// whoever searches it. O(1), or as [`Index::open`].
    ///
    /// # Errors
    /// As [`Index::open`].
    pub fn newer(&self) -> Result<Option<Index<MappedFile>>, Error> {
        let Some(path) = self.path().filter(|_| !matches!(self.is_current(), Ok(true))) else { return Ok(None) };
        let now = map(path, self.model_path.as_deref())?;
        let commit = |index: &Self| {
            let commit = &index.parsed.layout.commit;
            (commit.generation, commit.table_hash)
        };
        Ok((commit(&now) != commit(self)).then_some(now))
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
    index.check_whole()?;
    Ok(index)
}

/// Opens a file by `load`, and its model.
fn open<D: AsRef<[u8]>>(
    path: &Path,
    model: Option<&Path>,
    load: impl Fn(&Path) -> Result<D, Error>,
) -> Result<Index<D>, Error> {
    crate::file::publish::sweep(path);
    let of = |bytes, parsed| Index::of(bytes, parsed).at(path, model);
    let (mut look, mut torn) = (0, Vec::new());
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
        look += 1;
        match outcome {
            // Slots are read one after the other, and commits may come in between: one slot of long ago beside one that is being
            // written looks like a crash. A crash stays as it is.
            Ok(parsed) if parsed.layout.torn && look < LOOKS => {
                let header = bytes.as_ref()[..format::HEADER_BYTES].to_vec();
                if header == torn {
                    return Ok(of(bytes, parsed));
                }
                torn = header;
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(parsed) => return Ok(of(bytes, parsed)),
            // A commit is two writes, and this may have been between them, or the file shorter when it was mapped.
            Err(source) if look == LOOKS || !changed(path, bytes.as_ref()) => {
                return Err(Error::Format { path: path.to_owned(), source });
            }
            Err(_) => {}
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
    // A file of another length is another one, or another commit; a truncated mapping must not be touched.
    read.is_ok_and(|len| len != bytes.len() as u64 || !bytes.starts_with(&header))
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
        let parsed = format::parse(bytes.as_ref(), None).map_err(|source| damaged(None, source))?;
        Ok(Index::of(bytes, parsed))
    }

    pub(crate) fn of(bytes: D, parsed: Parsed) -> Self {
        Index {
            bytes,
            parsed,
            path: None,
            model_path: None,
            watch: None,
            looked_up: OnceLock::new(),
            query_model: OnceLock::new(),
            refine_model: OnceLock::new(),
            learned_model: OnceLock::new(),
            on_cpu: OnceLock::new(),
        }
    }

    /// The same, from this file, with its model in that.
    pub(crate) fn at(self, path: &Path, model: Option<&Path>) -> Self {
        Index { path: Some(path.to_owned()), model_path: model.map(Path::to_owned), ..self }
    }

    /// The same with what tells whether its bytes are still those of the file.
    pub(crate) fn watched(mut self, watch: Option<Watch>) -> Self {
        self.watch = watch;
        self
    }

    /// The same with another number of rows that its learned decoder scores again.
    pub(crate) fn with_shortlist(&mut self, shortlist: u32) -> &Self {
        if let Some(learned) = &mut self.parsed.learned {
            learned.shortlist = shortlist;
        }
        self
    }

    pub(crate) fn parsed(&self) -> &Parsed {
        &self.parsed
    }

    /// What a search reads of it.
    pub(crate) fn view(&self) -> View<'_> {
        let model = &self.parsed.model;
        let behind = match (&self.parsed.refine, &self.parsed.learned) {
            (Some(refine), _) => {
                Behind::Refine(refine, self.refine_model.get_or_init(|| QueryModel::new(refine.model())))
            }
            (None, Some(learned)) => {
                let make = || LearnedModel::new(learned, model, self.parsed.meta.alpha);
                Behind::Learned(self.learned_model.get_or_init(make))
            }
            (None, None) => Behind::Nothing,
        };
        let query_model = self.query_model.get_or_init(|| QueryModel::new(model));
        View { parsed: &self.parsed, bytes: self.bytes(), watch: self.watch.as_ref(), query_model, behind }
    }

    /// Itself, ready to be searched on the CPU.
    pub(crate) fn on_cpu(&self) -> Result<&Engine, Error> {
        if let Some(engine) = self.on_cpu.get() {
            return Ok(engine);
        }
        let engine = Engine::open(&self.view(), Backend::Cpu, DeviceChoice::Best)?;
        Ok(self.on_cpu.get_or_init(|| engine))
    }

    /// The file it was opened from.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Refuses to go on where the mapped file has been truncated; also after work, whose outcome is of no use then. The calls of this
    /// library that give an error ask by themselves; for what [`Index::bytes`] and [`Index::text_id`] gave it is the caller's to ask,
    /// where the [guard](crate::file::guard::guard_mappings) is on. O(1).
    ///
    /// # Errors
    /// [`Error::Format`] when it has been.
    pub fn check_whole(&self) -> Result<(), Error> {
        self.watch.as_ref().map_or(Ok(()), |watch| watch.check(self.parsed.layout.end))
    }

    /// Refuses to look up ids in bytes that are damaged: others would be found, or none, without a word. The first time O(row numbers and
    /// ids) at gigabytes a second.
    pub(crate) fn check_lookup(&self) -> Result<(), Error> {
        self.check_whole()?;
        if self.looked_up.get().is_none() {
            let used = |e: &format::SectionEntry| [*b"ROWS", *b"IDSU", *b"IDSS"].contains(&e.kind);
            format::check_sections(&self.parsed, self.bytes(), used)
                .map_err(|source| damaged(self.path(), source))?;
            let _ = self.looked_up.set(());
        }
        Ok(())
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

    /// Checks every byte of the file. O(file).
    ///
    /// # Errors
    /// [`Error::Format`] naming the file, where it was opened from one, and the part that is damaged.
    pub fn verify(&self) -> Result<(), Error> {
        self.verify_with(|_, _| ControlFlow::Continue(()))
    }

    /// As [`Index::verify`]; `progress` is told how many bytes of how many have been looked at, several times a second, and may end it.
    ///
    /// # Errors
    /// As [`Index::verify`], and [`Error::Cancelled`] where `progress` asked for it.
    pub fn verify_with(&self, progress: impl Fn(u64, u64) -> ControlFlow<()>) -> Result<(), Error> {
        self.check_whole()?;
        // Once is enough: what is not looked at is not sound.
        let cancelled = Cell::new(false);
        let go_on = |done, total| {
            cancelled.set(cancelled.get() || progress(done, total).is_break());
            !cancelled.get()
        };
        let verified =
            format::verify(&self.parsed, self.bytes(), &go_on).map_err(|source| damaged(self.path(), source));
        self.check_whole()?;
        if cancelled.get() { Err(Error::Cancelled) } else { verified }
    }

    /// The ids of the rows `rows`, counted as [`Index::decode`] does.
    ///
    /// # Errors
    /// [`Error::Config`] when the range is not within the rows, [`Error::Format`] when row numbers or ids are damaged.
    pub fn ids(&self, rows: Range<usize>) -> Result<Ids, Error> {
        if rows.start > rows.end || rows.end > self.len() {
            let message = format!("rows {}..{} of an index of {}", rows.start, rows.end, self.len());
            return Err(Error::Config(message));
        }
        // So many at a time.
        const PART: usize = 1 << 16;
        self.check_lookup()?;
        let mut live = Live::new(&self.parsed, self.bytes(), rows.start as u64);
        let parts = rows.clone().step_by(PART).map(|first| live.take(PART.min(rows.end - first)));
        let places = parts.flatten();
        let text = self.parsed.segments.first().is_some_and(|s| s.ids_kind() == Some(IdsKind::Text));
        let ids = if text {
            Ids::Text(places.map(|p| self.text_id(p.row).unwrap_or_default().to_owned()).collect())
        } else {
            Ids::Numbers(places.map(|p| self.parsed.number_id(p.row, self.bytes())).collect())
        };
        self.check_whole().map(|()| ids)
    }

    /// The string that is the id of the row with this number; `None` where ids are numbers, or there is no such row.
    #[must_use]
    pub fn text_id(&self, row: u64) -> Option<&str> {
        let (ids, local) = self.parsed.ids_of(row, self.bytes())?;
        ids.text(local)
    }
}

fn damaged(path: Option<&Path>, source: ParseError) -> Error {
    // Bytes in memory have no name.
    Error::Format { path: path.unwrap_or(Path::new("index")).to_owned(), source }
}

/// Writes an index to a file: under a temporary name beside it, synced, then renamed, so that `path` holds either
/// what it held before or the whole index.
///
/// # Errors
/// [`Error::Format`] where the index is damaged, [`Error::Io`]; nothing is left behind then. [`Error::Locked`] while another writer has `path`.
pub fn write_index<D: AsRef<[u8]>>(index: &Index<D>, path: impl AsRef<Path>) -> Result<(), Error> {
    use std::io::Write;
    let path = path.as_ref();
    index.verify()?;
    publish_at(path, &|_| Ok(()), |file| {
        file.write_all(index.bytes()).map_err(|e| Error::io(path, e))?;
        index.check_whole()
    })
}
