//! Appending, deleting and compacting, on any disk.

use std::{cell::RefCell, path::Path};

use super::{
    commit::{commit, mend},
    gather::{Gathered, gather},
    join::{is_joined, join, parts},
};
use crate::{
    error::{Error, InputError, ParseError},
    file::{
        disk::{Disk, DiskFile, Name},
        head,
        publish::{Tell, publish},
        segments::{NewSegment, Part, Source, bare, write_segment},
    },
    format::{
        self,
        header::SectionEntry,
        history::{Written as Appended, bytes as history_bytes},
        meta::MOST_ROWS,
        parse::{Parsed, is_of_segment},
        segment::{MOST_BARE_ROWS, Segment, tombs_bytes},
    },
    ids::{Ids, Wanted},
    index::{Index, find::positions},
    math::bits::Bits,
    report::{Event, Stage},
};

/// Rows of a segment that an append takes with it, as a multiple of those it has anyway: so there are few segments, and a row is
/// copied a few times only however the rows come.
const TAKEN_WITH: u64 = 2;
/// When a file is compacted by itself: dead bytes as a share of the others, and entries of its table.
const DEAD_SHARE: f64 = 0.5;
const DEAD_LEAST: u64 = 1 << 20;
const ENTRIES: usize = 2048;
const SEGMENTS: usize = 48;
/// Segments from which on those on different scales of lengths are joined.
const CROWDED: usize = 24;

/// Changes one store. Whoever makes one has the lock.
pub(crate) struct Editor<'a, D> {
    pub(crate) disk: &'a D,
    /// For messages.
    pub(crate) path: &'a Path,
    /// The bytes of the model file of a store that names its model.
    pub(crate) model: Option<&'a [u8]>,
    /// Hears how far a change is, and may end it until it is committed.
    pub(crate) tell: &'a Tell<'a>,
}

/// Rows just encoded.
pub(crate) struct NewRows<'a> {
    pub(crate) labels: &'a [u32],
    pub(crate) records: &'a [u8],
    /// The length of each; empty where lengths are not kept.
    pub(crate) lengths: &'a [f32],
    pub(crate) ids: Option<&'a Ids>,
    /// Sum of their squared errors.
    pub(crate) error: u128,
    /// Asked as rows are written, with those done and all, and before they are committed: an error ends it, and nothing has changed.
    pub(crate) whole: &'a dyn Fn() -> Result<(), Error>,
}

/// The file as it is, and its bytes.
pub(crate) type Loaded<D> = (<D as Disk>::File, Index<<<D as Disk>::File as DiskFile>::Bytes>);

impl<D: Disk> Editor<'_, D> {
    fn io(&self) -> impl Fn(std::io::Error) -> Error {
        |error| Error::io(self.path, error)
    }

    /// Reads the file and mends what an interrupted writer left. A file of an earlier version is rewritten first.
    pub(crate) fn load(&self) -> Result<Loaded<D>, Error> {
        let (mut file, mut index) = self.look()?;
        if index.parsed().layout.version < format::VERSION {
            drop(file);
            self.rewrite(index)?;
            (file, index) = self.look()?;
        }
        mend(&mut file, &index.parsed().layout).map_err(self.io())?;
        Ok((file, index))
    }

    fn look(&self) -> Result<Loaded<D>, Error> {
        let file = self.disk.open(Name::Store).map_err(self.io())?;
        let bytes = file.bytes().map_err(self.io())?;
        let parsed = format::parse(bytes.as_ref(), self.model).map_err(|source| self.damaged(source))?;
        let watch = file.watch(&bytes, self.path);
        Ok((file, Index::of(bytes, parsed).watched(watch)))
    }

    fn damaged(&self, source: ParseError) -> Error {
        Error::Format { path: self.path.to_owned(), source }
    }

    /// Refuses to go on where sections that are copied or looked up in are damaged: what is written would be sealed with new hashes.
    fn check(&self, parsed: &Parsed, bytes: &[u8], used: impl Fn(&SectionEntry) -> bool) -> Result<(), Error> {
        format::check_sections(parsed, bytes, used).map_err(|source| self.damaged(source))
    }

    /// The same for every byte.
    fn verify(&self, parsed: &Parsed, bytes: &[u8]) -> Result<(), Error> {
        let stopped = RefCell::new(None);
        let go_on = |done, total| {
            let mut stopped = stopped.borrow_mut();
            if stopped.is_none() {
                *stopped = (self.tell)(&Event::Progress { stage: Stage::Verify, done, total }).err();
            }
            stopped.is_none()
        };
        let verified = format::verify(parsed, bytes, &go_on).map_err(|source| self.damaged(source));
        stopped.into_inner().map_or(verified, Err)
    }

    /// How far writing is.
    fn report(&self) -> impl Fn(usize, usize) -> Result<(), Error> {
        let tell = self.tell;
        move |done, total| tell(&Event::Progress { stage: Stage::Write, done: done as u64, total: total as u64 })
    }

    /// Adds rows that were encoded with the model of the file. Small segments at the end become one with them. Gives the bytes of the file.
    pub(crate) fn append(&self, rows: &NewRows<'_>) -> Result<u64, Error> {
        let (mut file, index) = self.load()?;
        let (parsed, bytes) = (index.parsed(), index.bytes());
        let count = rows.labels.len() as u64;
        if rows.ids.is_some() {
            self.check(parsed, bytes, is_ids)?;
        }
        check_ids(parsed, bytes, rows.ids, count)?;
        if parsed.next_row() + count > MOST_ROWS {
            let message = format!("{} rows and {count} more are above the limit of 2^40", parsed.next_row());
            return Err(InputError::new(Some(self.path), message).into());
        }
        let stored = count + parsed.segments.iter().map(|s| s.n).sum::<u64>();
        if parsed.rows_are_bare() && stored > MOST_BARE_ROWS {
            return Err(bare(stored));
        }
        let kept = kept_beside(parsed, rows);
        self.check(parsed, bytes, |e| is_of_segment(e) && usize::from(e.segment) >= kept)?;
        if kept == 0 && !parsed.segments.is_empty() && self.disk.names() == 1 {
            // All is written anyway, and a new file leaves nothing dead.
            drop(file);
            return self.append_anew(index, rows);
        }
        let added = Added::new(parsed, bytes, rows, kept);
        let (io, report) = (self.io(), self.report());
        let whole =
            |done, total| index.check_whole().and_then(|()| (rows.whole)()).and_then(|()| report(done, total));
        let replaced = |e: &SectionEntry| e.kind == *b"HIST" || (is_of_segment(e) && usize::from(e.segment) >= kept);
        let len = commit(&mut file, self.path, bytes, &parsed.layout, replaced, self.tell, |writer| {
            writer.section(*b"HIST", 0, &added.history).map_err(&io)?;
            write_segment(writer, added.new, &added.sources, added.ids(rows), &io, &whole)
        })?;
        drop(file);
        self.committed(len)
    }

    /// The same in a new file, with all rows in one segment.
    fn append_anew(&self, index: Index<<D::File as DiskFile>::Bytes>, rows: &NewRows<'_>) -> Result<u64, Error> {
        let (io, report) = (self.io(), self.report());
        // The mapping goes with what writes, as in `rewrite`.
        publish(self.disk, self.path, self.tell, move |file| {
            let (parsed, bytes) = (index.parsed(), index.bytes());
            let added = Added::new(parsed, bytes, rows, 0);
            let mut head = head::of(parsed, bytes);
            head::set(&mut head, *b"HIST", added.history.clone());
            let generation = parsed.layout.commit.generation + 1;
            let whole =
                |done, total| index.check_whole().and_then(|()| (rows.whole)()).and_then(|()| report(done, total));
            let part = Part { new: added.new, sources: &added.sources, ids: added.ids(rows) };
            head::write_file(file, generation, &head, &[part], &io, &whole)
        })
    }

    /// Deletes rows by id. Gives which of the ids were found and how many rows went; without any the file is not touched.
    pub(crate) fn delete(&self, ids: &Ids) -> Result<(Vec<bool>, u64), Error> {
        let (mut file, index) = self.load()?;
        let (parsed, bytes) = (index.parsed(), index.bytes());
        parsed.check_kind(Some(ids))?;
        self.check(parsed, bytes, |e| is_ids(e) || e.kind == *b"ROWS")?;
        let wanted = Wanted::new(ids);
        let mut found = vec![false; ids.len()];
        // Of each segment with a loss all that is deleted by now.
        let mut tombs: Vec<(u16, Vec<u8>)> = Vec::new();
        let mut deleted = 0;
        for (number, segment) in parsed.segments.iter().enumerate() {
            let mut gone = Bits::new(segment.n, segment.deleted_positions(bytes));
            let mut more = false;
            for (id, position) in positions(segment, bytes, &wanted) {
                if !gone.has(position) {
                    (found[id], more) = (true, true);
                    gone.set(segment.n, position);
                }
            }
            if more {
                deleted += gone.count() - segment.deleted;
                tombs.push((number as u16, tombs_bytes(segment.n, &gone)));
            }
        }
        let found = ids.firsts().into_iter().map(|first| found[first]).collect();
        if tombs.is_empty() {
            return Ok((found, 0));
        }
        let replaced = |e: &SectionEntry| e.kind == *b"TOMB" && tombs.iter().any(|(number, _)| *number == e.segment);
        let io = self.io();
        let len = commit(&mut file, self.path, bytes, &parsed.layout, replaced, self.tell, |writer| {
            tombs.iter().try_for_each(|(number, bytes)| writer.section(*b"TOMB", *number, bytes)).map_err(&io)?;
            index.check_whole()
        })?;
        drop(file);
        self.committed(len)?;
        Ok((found, deleted))
    }

    /// What follows a commit, of which `len` is the length of the file: from here on nothing may be said to have failed.
    fn committed(&self, len: u64) -> Result<u64, Error> {
        self.disk.check().map_err(|source| Error::uncertain(self.path, source))?;
        Ok(self
            .tidy()
            .unwrap_or_else(|error| {
                // The next change tries again.
                log::warn!("{}: not compacted: {error}", self.path.display());
                None
            })
            .unwrap_or(len))
    }

    /// Makes the file what a fresh one with the rows that are left would be: one segment (for each scale of lengths), nothing dead.
    /// Generations go on.
    pub(crate) fn compact(&self) -> Result<(), Error> {
        let (file, index) = self.load()?;
        drop(file);
        let parsed = index.parsed();
        let compact = is_joined(&parsed.segments) && parsed.segments.iter().all(|s| s.deleted == 0);
        if compact && parsed.entries().iter().all(|e| e.kind != format::DEAD) {
            // Who asks for a file without waste is told of damage too.
            return self.verify(parsed, index.bytes());
        }
        self.rewrite(index).map(drop)
    }

    /// Compacts a file in which much is dead, and then gives its bytes.
    fn tidy(&self) -> Result<Option<u64>, Error> {
        let (file, index) = self.look()?;
        let layout = &index.parsed().layout;
        let dead: u64 = layout.entries.iter().filter(|e| e.kind == format::DEAD).map(|e| e.len).sum();
        let much = dead > DEAD_LEAST && dead as f64 > DEAD_SHARE * (layout.end - dead) as f64;
        let due = much || layout.entries.len() >= ENTRIES || index.parsed().segments.len() >= SEGMENTS;
        if !due || self.disk.names() > 1 {
            return Ok(None);
        }
        drop(file);
        self.rewrite(index).map(Some)
    }

    /// Writes the file anew, once all of it is known to be sound. Gives its bytes.
    fn rewrite(&self, index: Index<<D::File as DiskFile>::Bytes>) -> Result<u64, Error> {
        let (parsed, bytes) = (index.parsed(), index.bytes());
        let names = self.disk.names();
        if names > 1 {
            return Err(Error::Config(format!(
                "{} has {names} names (hard links), and writing it anew would leave the others with the old file; remove them, or copy \
                 the file first",
                self.path.display()
            )));
        }
        self.verify(parsed, bytes)?;
        let (io, report) = (self.io(), self.report());
        // The mapping goes with what writes: no other file can take the place of one that is mapped, on Windows.
        publish(self.disk, self.path, self.tell, move |file| {
            let (parsed, bytes) = (index.parsed(), index.bytes());
            let segments: Vec<_> = parsed.segments.iter().map(|segment| (segment, bytes)).collect();
            let joined = join(&segments);
            let head = head::of(parsed, bytes);
            let generation = parsed.layout.commit.generation + 1;
            let whole = |done, total| index.check_whole().and_then(|()| report(done, total));
            let len = head::write_file(file, generation, &head, &parts(parsed, &joined), &io, &whole)?;
            index.check_whole().map(|()| len)
        })
    }
}

/// New rows and those of the segments that go into one with them.
struct Added<'a> {
    sources: Vec<Source<'a>>,
    /// The ids of all of them, where the segments have any.
    together: Option<Ids>,
    new: NewSegment<'a>,
    history: Vec<u8>,
}

impl<'a> Added<'a> {
    /// Of `rows` and the segments of a file from `kept` on.
    fn new(parsed: &'a Parsed, bytes: &'a [u8], rows: &'a NewRows<'_>, kept: usize) -> Added<'a> {
        let count = rows.labels.len() as u64;
        let tail = &parsed.segments[kept..];
        let first = tail.first().map_or(parsed.next_row(), |s| s.first);
        let Gathered { mut sources, ids: mut together, span } = gather(tail, bytes, first);
        sources.push(Source::fresh(rows.labels, parsed.model.anchors(), rows.records, rows.lengths, span));
        if let (Some(all), Some(new)) = (&mut together, rows.ids) {
            all.extend_from(new);
        }
        let mut history = parsed.history.clone();
        history.push(Appended { first: parsed.next_row(), rows: count, error: rows.error });
        let new = NewSegment::of(parsed, kept as u16, first, span + count);
        Added { sources, together, new, history: history_bytes(&history) }
    }

    fn ids<'b>(&'b self, rows: &NewRows<'b>) -> Option<&'b Ids> {
        self.together.as_ref().or(rows.ids)
    }
}

/// Whether a section has the ids of rows.
fn is_ids(entry: &SectionEntry) -> bool {
    [*b"IDSU", *b"IDSS"].contains(&entry.kind)
}

/// How many segments stay as they are when rows are appended; those behind them become one with the rows.
fn kept_beside(parsed: &Parsed, rows: &NewRows<'_>) -> usize {
    let mut kept = parsed.segments.len();
    let mut taken = rows.labels.len() as u64;
    // Those on a scale of lengths that does not hold the new ones stay by themselves, so that no row changes.
    let scale = parsed.segments.last().and_then(Segment::scale);
    let side = &parsed.model.side;
    let holds = |&length: &f32| scale.map_or_else(|| side.holds(length), |scale| scale.holds(length));
    let any = kept >= CROWDED;
    let goes_along = rows.lengths.iter().all(holds);
    let joins = |segment: &Segment| any || (goes_along && segment.scale() == scale);
    while kept > 0 && parsed.segments[kept - 1].live() <= TAKEN_WITH * taken && joins(&parsed.segments[kept - 1]) {
        kept -= 1;
        taken += parsed.segments[kept].live();
    }
    kept
}

/// Refuses ids that cannot be added: of another kind, or there already.
fn check_ids(parsed: &Parsed, bytes: &[u8], ids: Option<&Ids>, count: u64) -> Result<(), Error> {
    if let Some(ids) = ids {
        ids.check(count as usize)?;
    }
    let Some(first) = parsed.segments.first() else { return Ok(()) };
    parsed.check_kind(ids)?;
    match (first.ids_kind(), ids) {
        (None, None) => return Ok(()),
        (None, Some(_)) => {
            return Err(Error::Config("the rows of this file have no ids of their own; append without ids".into()));
        }
        (Some(_), None) => {
            return Err(Error::Config(
                "the rows of this file have ids of their own; give one for each new row".into(),
            ));
        }
        (Some(_), Some(_)) => {}
    }
    let Some(ids) = ids else { return Ok(()) };
    let wanted = Wanted::new(ids);
    for segment in &parsed.segments {
        let dead = Bits::new(segment.n, segment.deleted_positions(bytes));
        if let Some((id, _)) = positions(segment, bytes, &wanted).into_iter().find(|(_, p)| !dead.has(*p)) {
            let message = format!("the id {} is in the file already; delete it first", ids.name(id));
            return Err(InputError::new(None, message).at_row(id).into());
        }
    }
    Ok(())
}
