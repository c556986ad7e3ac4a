//! Files out of files: several that share a model put together, and one made smaller without the original rows.

use std::path::Path;

use super::join::{all_ids, join, parts};
use crate::{
    backend::Backend,
    compress::{
        drift::{has_drifted, trained_lengths},
        with_model::{BuildReport, write_whole},
    },
    config::Config,
    error::Error,
    file::{head, mmap::MappedFile},
    format::history::{Written as Appended, bytes as history_bytes},
    index::{
        Index,
        decode::Decoder,
        live::{Live, Place},
    },
    platform::Stopwatch,
    read::source::{RowSource, rows_asked},
    report::{ProgressFn, teller},
};

/// Puts the rows of several files that share a model into one, in the order of the files; row numbers go on from one to the next. Ids of
/// their own stay. Memory for some bytes per row of a cell, and for ids.
///
/// # Errors
/// [`Error::Config`] when models, metadata or kinds of ids differ, [`Error::Input`] when an id is in two files, [`Error::Format`] naming the one
/// that is damaged anywhere, [`Error::Cancelled`] when `progress` asked for it, and the errors of reading and writing.
pub fn merge<P: AsRef<Path>>(
    files: &[P],
    path: impl AsRef<Path>,
    progress: Option<&ProgressFn<'_>>,
) -> Result<BuildReport, Error> {
    let watch = Stopwatch::start();
    let indexes: Vec<Index<MappedFile>> = files.iter().map(Index::open).collect::<Result<_, _>>()?;
    let Some(first) = indexes.first() else {
        return Err(Error::Config("there are no files to merge; name at least one".into()));
    };
    // What is written gets new hashes: only what is sound is copied.
    for (index, file) in indexes.iter().zip(files) {
        index.verify().map_err(|error| error.of_file(file.as_ref()))?;
    }
    check_alike(files, &indexes)?;
    let mut written = Appended { first: 0, rows: 0, error: 0 };
    for entry in
        indexes.iter().filter(|index| !index.parsed().segments.is_empty()).flat_map(|index| &index.parsed().history)
    {
        written.rows += entry.rows;
        written.error += entry.error;
    }
    let of = |index| -> Vec<_> {
        let index: &Index<MappedFile> = index;
        index.parsed().segments.iter().map(|segment| (segment, index.bytes())).collect()
    };
    let joined = join(&indexes.iter().flat_map(of).collect::<Vec<_>>());
    if let Some(ids) = all_ids(&joined) {
        ids.check(ids.len())?;
    }
    let parsed = first.parsed();
    let mut head = head::of(parsed, first.bytes());
    if written.rows > 0 {
        head::set(&mut head, *b"HIST", history_bytes(&[written]));
    }
    let path = path.as_ref();
    let whole = || indexes.iter().try_for_each(Index::check_whole);
    let file_bytes = write_whole(path, &head, &parts(parsed, &joined), &teller(progress), &whole)?;
    let energy = if written.rows > 0 { written.energy() } else { parsed.meta.energy };
    Ok(BuildReport {
        n: indexes.iter().map(|index| index.len() as u64).sum(),
        dim: parsed.meta.dim,
        file_bytes,
        energy,
        trained_energy: parsed.meta.energy,
        drifted: written.rows > 0 && has_drifted(parsed, energy),
        lengths: None,
        trained_lengths: trained_lengths(&parsed.model),
        model_hash: parsed.model_hash,
        seconds: watch.seconds(),
        backend: Backend::Cpu,
    })
}

/// Refuses files that have not all the same model, metadata and kind of ids.
fn check_alike<P: AsRef<Path>>(files: &[P], indexes: &[Index<MappedFile>]) -> Result<(), Error> {
    let name = |i: usize| files[i].as_ref().display();
    let first = indexes[0].parsed();
    for (i, other) in indexes.iter().enumerate().skip(1) {
        let differs = if first.model_hash != other.parsed().model_hash {
            "models"
        } else if first.metadata != other.parsed().metadata {
            "metadata"
        } else if first.model_ref != other.parsed().model_ref {
            "places of their models"
        } else {
            continue;
        };
        let message = format!(
            "{} and {} have different {differs}; files that were encoded with one model file can be merged",
            name(0),
            name(i)
        );
        return Err(Error::Config(message));
    }
    let mut kind = None;
    for (i, index) in indexes.iter().enumerate().filter(|(_, index)| !index.parsed().segments.is_empty()) {
        let own = index.parsed().ids_kind();
        if *kind.get_or_insert(own) != own {
            let message = format!("{} has ids of another kind than {}", name(i), name(0));
            return Err(Error::Config(message));
        }
    }
    Ok(())
}

/// Compresses a file anew, to a smaller budget, without the original rows: what it decodes to takes their place, so the error of the new file
/// comes on top of that of the old one. Rows keep their ids, and the file its metadata; `config` says the rest, but for the metric.
///
/// # Errors
/// As [`compress_to`](crate::compress::compress_to).
pub fn transcode(
    from: impl AsRef<Path>,
    path: impl AsRef<Path>,
    config: &Config<'_>,
) -> Result<crate::report::Report, Error> {
    let (from, path) = (from.as_ref(), path.as_ref());
    let index = Index::open(from)?;
    index.verify().map_err(|error| error.of_file(from))?;
    let parsed = index.parsed();
    if index.is_empty() {
        return Err(Error::Config(format!("{} has no rows to compress", from.display())));
    }
    let mut live = Live::new(parsed, index.bytes(), 0);
    let mut places = Vec::with_capacity(index.len());
    while places.len() < index.len() {
        let found = live.take(PLACES.min(index.len() - places.len()));
        if found.is_empty() {
            break;
        }
        places.extend(found.into_iter().map(|place| (place.segment as u64) << POSITION_BITS | place.position));
    }
    let own = parsed.segments.first().is_some_and(|segment| segment.ids_kind().is_some());
    // Numbers with gaps are kept as ids.
    let ids = if own || parsed.next_row() != parsed.live() { Some(index.ids(0..index.len())?) } else { None };
    let mut metadata = parsed.metadata.clone();
    metadata.extend(config.metadata.clone());
    let rows = Decoded { decoder: Decoder::new(parsed, index.bytes()), index: &index, places, path: from };
    let config = Config { metric: index.metric(), ids: ids.as_ref(), metadata, ..config.clone() };
    crate::compress::compress_as_is(&rows, path, &config)
}

/// Rows looked up at a time.
const PLACES: usize = 1 << 16;
/// Bits of a position in a segment, of which there are at most 256.
const POSITION_BITS: u32 = 40;

/// The live rows of an index as it decodes them.
struct Decoded<'a> {
    index: &'a Index<MappedFile>,
    decoder: Decoder<'a>,
    /// Segment and position of each.
    places: Vec<u64>,
    path: &'a Path,
}

impl RowSource for Decoded<'_> {
    fn rows(&self) -> usize {
        self.places.len()
    }

    fn dim(&self) -> usize {
        self.index.dim()
    }

    fn path(&self) -> Option<&Path> {
        Some(self.path)
    }

    fn read(&self, start: usize, out: &mut [f32]) -> Result<(), Error> {
        let count = rows_asked(self, start, out.len())?;
        self.index.check_whole()?;
        let place = |&at: &u64| {
            let (segment, position) = ((at >> POSITION_BITS) as usize, at & ((1 << POSITION_BITS) - 1));
            let of = &self.index.parsed().segments[segment];
            let cell = of.row_ids(self.index.bytes()).cell_of(position);
            Place { row: 0, segment, cell, position }
        };
        let places: Vec<Place> = self.places[start..start + count].iter().map(place).collect();
        self.decoder.decode(&places, out);
        self.index.check_whole()
    }
}
