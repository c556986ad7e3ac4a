//! A whole `.vlc` file, parsed and verified, with all its segments: `docs/format.md`, sections 11
//! to 14, written from that text alone.

use std::collections::BTreeSet;

use xxhash_rust::xxh3::xxh3_128;

use crate::{
    container::{self, Container, MODEL},
    distance::largest,
    file::File,
    ids::{self, Id},
    model,
    packed::Cursor,
    rows,
};

/// Everything a file says.
#[derive(Clone, Debug, PartialEq)]
pub struct Store {
    /// 1 to 3.
    pub version: u32,
    /// Counts the commits of the file.
    pub generation: u64,
    /// How many bytes of the file are committed.
    pub end: usize,
    /// What rows share; itself without rows.
    pub model: File,
    /// Where the model is, if in another file.
    pub model_file: Option<ModelFile>,
    /// Rows in the order they were added.
    pub segments: Vec<Segment>,
    /// The rows that are not deleted, in the order of their numbers.
    pub rows: Vec<Row>,
    /// Section `HIST`.
    pub history: Vec<Added>,
}

/// Rows that were added together.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// The number of its first row.
    pub first: usize,
    /// How many row numbers it has; n of them are rows.
    pub span: usize,
    /// The model with the rows of the segment, deleted ones too, counted from its first.
    pub file: File,
    /// The *positions* of the deleted rows.
    pub deleted: Vec<usize>,
    /// s = n ids, if the file has ids of its own.
    pub ids: Option<Vec<Id>>,
}

/// A row that is not deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its number.
    pub number: usize,
    /// Its id, the number where the file has no ids.
    pub id: Id,
    /// Which segment it is of.
    pub segment: usize,
    /// Its number in the segment.
    pub local: usize,
    /// Its position in the segment.
    pub position: usize,
    /// Its anchor.
    pub anchor: usize,
    /// T.
    pub symbols: Vec<u8>,
}

/// Section `MREF`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFile {
    /// What the model is known by.
    pub hash: u128,
    /// The name of the file.
    pub name: String,
}

/// An entry of section `HIST`: rows that were added, and how well the model fitted them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// The number of the first row.
    pub first: u64,
    /// How many they were.
    pub rows: u64,
    /// The sum of their |u - u_hat|^2, times 2^32.
    pub energy: u128,
}

impl Store {
    /// Parses a file and checks all of it: header, slots, table, hashes, padding, reserved bytes,
    /// sizes, ranges, and that no row has two positions. Bad bytes are an `Err`. See also
    /// [`Store::ids_differ`].
    pub fn parse(bytes: &[u8]) -> Result<Store, String> {
        Store::read(bytes, None)
    }

    /// As [`Store::parse`], for a file whose model is in another file, the bytes of which are
    /// `model`.
    pub fn parse_with_model(bytes: &[u8], model: &[u8]) -> Result<Store, String> {
        Store::read(bytes, Some(model))
    }

    fn read(bytes: &[u8], model: Option<&[u8]>) -> Result<Store, String> {
        let container = container::open(bytes)?;
        let version = container.commit.version;
        let model_file = match container.find(b"MREF") {
            Some(bytes) => Some(model_file(bytes)?),
            None => None,
        };
        let model = match (&model_file, model) {
            (None, _) => File::model(&container, &container)?,
            (Some(wanted), Some(bytes)) => shared_model(&container, wanted, &container::open(bytes)?)?,
            (Some(wanted), None) => return Err(format!("the model is in the file {:?}", wanted.name)),
        };
        let mut segments: Vec<Segment> = Vec::new();
        // Each segment gets the model once more.
        let numbers: usize = model.anchors.iter().map(Vec::len).sum::<usize>()
            + model.charts.iter().flat_map(|c| c.columns.iter().chain(&c.code.tables)).map(Vec::len).sum::<usize>();
        if numbers.saturating_mul(container.segments) > model::LIMIT {
            return Err("too many segments of too large a model for the oracle".into());
        }
        for number in 0..container.segments {
            let next = segments.last().map_or(0, |before| before.first + before.span);
            segments.push(if version == 1 {
                let n = model.meta.n;
                let file = model.with_rows(&container, 0, n, n)?;
                Segment { first: 0, span: n, file, deleted: Vec::new(), ids: None }
            } else {
                segment(&container, &model, number, next)?
            });
        }
        let kinds: BTreeSet<u8> = segments.iter().map(Segment::id_kind).collect();
        if kinds.len() > 1 {
            return Err("segments have ids of different kinds".into());
        }
        let rows: Vec<Row> = (0..segments.len()).flat_map(|s| segments[s].live(s)).collect();
        let history = match container.find(b"HIST") {
            Some(bytes) => history(bytes)?,
            None => Vec::new(),
        };
        let generation = container.commit.generation;
        let end = container.commit.end;
        Ok(Store { version, generation, end, model, model_file, segments, rows, history })
    }

    /// The only segment, if it has all its rows.
    pub fn into_file(mut self) -> Result<File, String> {
        match self.segments.pop() {
            Some(only) if self.segments.is_empty() && only.deleted.is_empty() && only.span == only.file.meta.n => {
                Ok(only.file)
            }
            _ => Err("not a file of one segment with all its rows".into()),
        }
    }

    /// Whether no two live rows have the same id, as a writer sees to it.
    pub fn ids_differ(&self) -> bool {
        let different: BTreeSet<&Id> = self.rows.iter().map(|row| &row.id).collect();
        different.len() == self.rows.len()
    }

    /// Row number `rank` of those that are not deleted.
    fn place(&self, rank: usize) -> (&File, usize) {
        let row = &self.rows[rank];
        (&self.segments[row.segment].file, row.local)
    }

    /// The score of live row `rank`, a place in `rows`.
    pub fn score(&self, query: &[f64], rank: usize) -> f64 {
        let (file, local) = self.place(rank);
        file.score(query, local)
    }

    /// x_hat of live row `rank`. Returns d numbers.
    pub fn decode(&self, rank: usize) -> Vec<f64> {
        let (file, local) = self.place(rank);
        file.decode(local)
    }

    /// The `k` live rows of highest score as (place in `rows`, score), ties to the lower number.
    pub fn search(&self, query: &[f64], k: usize) -> Vec<(usize, f64)> {
        let scores: Vec<f64> = (0..self.rows.len()).map(|rank| self.score(query, rank)).collect();
        largest(&scores, k)
    }
}

impl Segment {
    /// 0 for no ids, 1 for numbers, 2 for strings. A segment with ids has rows.
    fn id_kind(&self) -> u8 {
        match self.ids.as_deref() {
            None | Some([]) => 0,
            Some([Id::Number(_), ..]) => 1,
            Some([Id::Text(_), ..]) => 2,
        }
    }

    /// The rows that are not deleted, in the order of their numbers.
    fn live(&self, segment: usize) -> Vec<Row> {
        let mut positions: Vec<usize> = (0..self.file.meta.n).collect();
        positions.retain(|p| self.deleted.binary_search(p).is_err());
        positions.sort_by_key(|&p| self.file.row_at[p]);
        let row = |position: usize| {
            let local = self.file.row_at[position];
            let number = self.first + local;
            let id = self.ids.as_ref().map_or(Id::Number(number as u64), |ids| ids[local].clone());
            let anchor = self.file.labels[local];
            Row { number, id, segment, local, position, anchor, symbols: self.file.symbols[position].clone() }
        };
        positions.into_iter().map(row).collect()
    }
}

/// `SEGM`, and the sections of that segment, which starts with row number `next`.
fn segment(container: &Container<'_>, model: &File, number: usize, next: usize) -> Result<Segment, String> {
    let mut at = Cursor::new("SEGM", container.required(b"SEGM", number)?);
    let (n, first, span) = (at.count64()?, at.count64()?, at.count64()?);
    at.zeros(8)?;
    at.end()?;
    if span == 0 || span > 1 << 40 || n > span {
        return Err(format!("SEGM: {n} rows of a span of {span}"));
    }
    if first != next || first + span > 1 << 40 {
        return Err(format!("SEGM: rows {first} to {} behind row {next}", first + span));
    }
    let file = model.with_rows(container, number, n, span)?;
    let deleted = match container.of_segment(b"TOMB", number) {
        Some(bytes) => rows::deleted(bytes, n)?,
        None => Vec::new(),
    };
    let ids = match (container.of_segment(b"IDSU", number), container.of_segment(b"IDSS", number)) {
        (None, None) => None,
        (Some(bytes), None) => Some(ids::numbers(bytes, n)?),
        (None, Some(bytes)) => Some(ids::texts(bytes, n)?),
        (Some(_), Some(_)) => return Err("a segment has both IDSU and IDSS".into()),
    };
    if ids.is_some() && n != span {
        return Err(format!("SEGM: {n} rows with ids of a span of {span}"));
    }
    Ok(Segment { first, span, file, deleted, ids })
}

/// Section 13: a hash, and a name that is no path.
fn model_file(bytes: &[u8]) -> Result<ModelFile, String> {
    let mut at = Cursor::new("MREF", bytes);
    let hash = at.u128()?;
    let rest = at.take(bytes.len() - at.at())?.to_vec();
    let name = String::from_utf8(rest).map_err(|_| "MREF: not UTF-8".to_string())?;
    if !(1..=255).contains(&name.len()) || name.contains(['/', '\\', '\0']) || name == "." || name == ".." {
        return Err(format!("MREF: {name:?} is not the name of a file"));
    }
    Ok(ModelFile { hash, name })
}

/// What a model is known by: the hash of its sections, the number of rows in `META` of version 1
/// left out. `meta` is that of the file, `other` the file that has the rest.
pub fn model_hash(meta: &[u8], other: &Container<'_>) -> Result<u128, String> {
    let mut all = meta.to_vec();
    all.iter_mut().take(8).for_each(|byte| *byte = 0);
    for kind in MODEL {
        all.extend(other.required(kind, 0)?);
    }
    for kind in [b"SCOR", b"RFNM", b"DECO"] {
        all.extend(other.find(kind).unwrap_or_default());
    }
    Ok(xxh3_128(&all))
}

/// The model of another file, with what the file itself says.
fn shared_model(container: &Container<'_>, wanted: &ModelFile, other: &Container<'_>) -> Result<File, String> {
    let meta = container.required(b"META", 0)?;
    let found = model_hash(meta, other)?;
    if found != wanted.hash {
        return Err(format!("{:?} holds another model, {found:032x} instead of {:032x}", wanted.name, wanted.hash));
    }
    File::model(container, other)
}

/// Section 12: 1 to 256 entries of 32 bytes.
fn history(bytes: &[u8]) -> Result<Vec<Added>, String> {
    let entries = bytes.len() / 32;
    if !(1..=256).contains(&entries) {
        return Err(format!("HIST: {entries} entries, 1 to 256 expected"));
    }
    let mut at = Cursor::new("HIST", bytes);
    let mut added = Vec::new();
    for _ in 0..entries {
        added.push(Added { first: at.u64()?, rows: at.u64()?, energy: at.u128()? });
    }
    at.end()?;
    Ok(added)
}
