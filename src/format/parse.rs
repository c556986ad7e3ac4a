//! Reads a file's model and checks what can be checked without touching the rows; `verify` checks the rest.

use std::{collections::BTreeMap, sync::Arc};

use xxhash_rust::xxh3::Xxh3;

use super::{
    bits::u32_at,
    features,
    gain::KIND as GAIN,
    header::{self, DEAD, FLAG_MUST_KNOW, SLOTS_END, SectionEntry},
    history::{self, Written},
    ids::Ids,
    learned,
    meta::Meta,
    model,
    model_ref::{self, ModelParts, ModelRef},
    refine,
    rows::BlockShape,
    score::{self, KIND as SCORE},
    segment::{MOST_BARE_ROWS, MOST_SEGMENTS, Segment, SegmentShape, intact, matches},
    sums,
};
use crate::{
    error::{Error, ParseError},
    ids::IdsKind,
    model::{Model, kinds::CodeKind, learned::Learned, refine::Refine},
};

/// Sections that are checked when a file is opened.
const OPEN: [[u8; 4]; 16] = [
    *b"META", *b"MEAN", *b"CHRT", *b"ANCH", *b"SIDE", *b"RFNM", *b"DECO", *b"CELL", *b"KEYV", *b"SEGM", *b"TOMB",
    *b"HIST", *b"MREF", *b"FEAT", GAIN, SCORE,
];
/// The others that this build knows.
const LATER: [[u8; 4]; 7] = [*b"ROWS", *b"CODE", *b"RFNC", *b"IDSU", *b"IDSS", *b"SUMS", DEAD];
/// Kinds that each segment has for itself.
const OF_SEGMENT: [[u8; 4]; 10] =
    [*b"SEGM", *b"CELL", *b"TOMB", *b"ROWS", *b"CODE", *b"RFNC", *b"IDSU", *b"IDSS", *b"SUMS", GAIN];
/// Kinds that came with version 2, and with version 3.
const SINCE_2: [[u8; 4]; 10] =
    [*b"SEGM", *b"TOMB", *b"IDSU", *b"IDSS", *b"HIST", *b"MREF", *b"RFNM", *b"RFNC", *b"DECO", DEAD];
const SINCE_3: [[u8; 4]; 4] = [*b"FEAT", *b"SUMS", GAIN, SCORE];
/// Bytes the sections checked at open may have together.
const MAX_MODEL: u64 = 1 << 30;
/// Pairs of metadata, each of which takes far more room in memory than in the file.
pub(crate) const MOST_PAIRS: u32 = 1 << 16;
/// Values of the table that a query is turned into, beside one for each byte of the model.
const TABLE_VALUES: u64 = 1 << 22;

/// A file's facts and model, and where its rows lie.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) layout: header::Layout,
    pub(crate) meta: Meta,
    pub(crate) model: Arc<Model>,
    /// What a refine layer shares, where there is one.
    pub(crate) refine: Option<Refine>,
    /// The learned decoder, where there is one.
    pub(crate) learned: Option<Learned>,
    /// What the model is known by.
    pub(crate) model_hash: u128,
    /// Where the model is, when it is not in the file.
    pub(crate) model_ref: Option<ModelRef>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) history: Vec<Written>,
    pub(crate) segments: Vec<Segment>,
    pub(crate) block: BlockShape,
    /// The gain of each gain code, where a segment has no scale of its own.
    gains: Vec<f32>,
}

impl Parsed {
    /// Rows that are not deleted.
    pub(crate) fn live(&self) -> u64 {
        self.segments.iter().map(Segment::live).sum()
    }

    /// The length of each length code in a segment; one value, that of all rows, where lengths are not kept.
    pub(crate) fn gains(&self, segment: usize) -> &[f32] {
        self.segments.get(segment).and_then(Segment::gains).unwrap_or(&self.gains)
    }

    /// Whether a row takes no bytes, as where all rows are alike and nothing is kept beside their codes.
    pub(crate) fn rows_are_bare(&self) -> bool {
        self.block.bytes() == 0 && self.refine.is_none()
    }

    /// The number that the next row appended gets.
    pub(crate) fn next_row(&self) -> u64 {
        self.segments.last().map_or(0, |s| s.first + s.span)
    }

    /// The ids of the segment that has a row, and the row's place there; `None` where numbers are ids.
    pub(crate) fn ids_of<'a>(&self, row: u64, bytes: &'a [u8]) -> Option<(Ids<'a>, usize)> {
        let behind = self.segments.partition_point(|s| s.first <= row);
        let segment = self.segments.get(behind.checked_sub(1)?).filter(|s| row - s.first < s.n)?;
        Some((segment.ids(bytes)?, (row - segment.first) as usize))
    }

    /// The id of a row, where ids are numbers; else its number.
    pub(crate) fn number_id(&self, row: u64, bytes: &[u8]) -> u64 {
        self.ids_of(row, bytes).and_then(|(ids, local)| ids.number(local)).unwrap_or(row)
    }

    /// The kind of ids, where rows have any of their own.
    pub(crate) fn ids_kind(&self) -> Option<IdsKind> {
        self.segments.first().and_then(Segment::ids_kind)
    }

    /// Refuses ids of another kind than the file has. A file without rows takes any.
    pub(crate) fn check_kind(&self, ids: Option<&crate::ids::Ids>) -> Result<(), Error> {
        use IdsKind::{Numbers, Text};
        let message = match (self.ids_kind(), ids.map(crate::ids::Ids::kind)) {
            (None | Some(Numbers), Some(Text)) if !self.segments.is_empty() => {
                "the ids of this file are numbers, not strings"
            }
            (Some(Text), Some(Numbers)) => "the ids of this file are strings, not numbers",
            _ => return Ok(()),
        };
        Err(Error::Config(message.into()))
    }

    /// The sections of a table, dead ones among them.
    pub(crate) fn entries(&self) -> &[SectionEntry] {
        &self.layout.entries
    }
}

/// Reads header, table and model. The cost depends on the size of the model and the number of segments, not on n.
/// `model_file` has the bytes of the model file of a file that names one.
pub(crate) fn parse(bytes: &[u8], model_file: Option<&[u8]>) -> Result<Parsed, ParseError> {
    let layout = header::parse(bytes)?;
    features::check(&layout, bytes)?;
    parse_layout(bytes, layout, model_file, true)
}

/// Reads what is left of a damaged file: sections and segments may be missing.
pub(super) fn parse_sound(
    bytes: &[u8],
    layout: header::Layout,
    model_file: Option<&[u8]>,
) -> Result<Parsed, ParseError> {
    features::check_known(&layout, bytes)?;
    parse_layout(bytes, layout, model_file, false)
}

/// Reads the sections of a table. Segments follow each other in row numbers, where the file is `whole`.
fn parse_layout(
    bytes: &[u8],
    layout: header::Layout,
    model_file: Option<&[u8]>,
    whole: bool,
) -> Result<Parsed, ParseError> {
    let entries = &layout.entries;
    check_entries(bytes, &layout, whole)?;
    let section = |kind: &'static str| {
        let found = entries.iter().find(|e| e.segment == 0 && e.kind == kind.as_bytes());
        found.map(|e| &bytes[e.range()]).ok_or(ParseError::Missing(kind))
    };
    let meta_bytes = section("META")?;
    let (meta, rows) = Meta::parse(meta_bytes, layout.version)?;
    let model_ref = section("MREF").ok().map(ModelRef::parse).transpose()?;
    let parts = match &model_ref {
        None => model_ref::parts(entries, bytes)?,
        Some(_) if model_ref::any_part(entries) => {
            return Err(ParseError::invalid("MREF", "the model stands in the file itself"));
        }
        Some(wanted) => wanted.resolve(model_file)?,
    };
    let model_hash = model_ref::hash(meta_bytes, &parts);
    if model_ref.as_ref().is_some_and(|wanted| wanted.hash != model_hash) {
        return Err(ParseError::invalid("MREF", "this is not the model that the file was written with"));
    }
    let (model, refine, learned) = parse_model(&meta, &parts)?;
    let model = Arc::new(model);
    let metadata = match section("KEYV") {
        Ok(keyv) => parse_metadata(keyv)?,
        Err(_) => BTreeMap::new(),
    };
    let history = match section("HIST") {
        Ok(hist) => history::parse(hist)?,
        Err(_) => Vec::new(),
    };
    let block = BlockShape { kind: meta.kind, symbols: meta.symbols as usize, side_nibbles: model.side.nibbles() };
    let shape = SegmentShape {
        anchors: meta.anchors as usize,
        block,
        refine: refine.as_ref().map(Refine::width),
        gain_nibbles: meta.gain_nibbles,
    };
    let segments = parse_segments(bytes, &layout, rows, shape, whole)?;
    let stored: u64 = segments.iter().map(|segment| segment.n).sum();
    if block.bytes() == 0 && refine.is_none() && stored > MOST_BARE_ROWS {
        let message = format!("{stored} rows take no bytes; {MOST_BARE_ROWS} such rows are allowed");
        return Err(ParseError::invalid("SEGM", message));
    }
    let gains = model.side.gain_table();
    Ok(Parsed {
        layout,
        meta,
        model,
        refine,
        learned,
        model_hash,
        model_ref,
        metadata,
        history,
        segments,
        block,
        gains,
    })
}

/// Checks the table as a whole, and the sections that are read when a file is opened.
fn check_entries(bytes: &[u8], layout: &header::Layout, whole: bool) -> Result<(), ParseError> {
    let entries = &layout.entries;
    let model_bytes: u64 = entries.iter().filter(|e| OPEN.contains(&e.kind)).map(|e| e.len).sum();
    if model_bytes > MAX_MODEL {
        return Err(ParseError::invalid(
            "section table",
            format!("{model_bytes} bytes of model; {MAX_MODEL} are allowed"),
        ));
    }
    let segments = entries.iter().filter(|e| e.kind == *b"SEGM").count();
    for e in entries {
        let open = OPEN.contains(&e.kind);
        check_place(e, layout.version, segments)?;
        if !open && !LATER.contains(&e.kind) && e.flags & FLAG_MUST_KNOW != 0 {
            return Err(ParseError::Unknown(e.name()));
        }
        if open {
            intact(bytes, e)?;
        }
        if e.kind == sums::KIND && whole {
            sums::check(entries, e)?;
        }
    }
    Ok(())
}

/// The model, and what may stand behind its codes.
fn parse_model(meta: &Meta, parts: &ModelParts<'_>) -> Result<(Model, Option<Refine>, Option<Learned>), ParseError> {
    // A symbol takes two bytes of a chart, and its part of the table up to a kilobyte.
    let alphabet = if meta.kind == CodeKind::Chain { 16 } else { 256 };
    let table = u64::from(meta.charts) * u64::from(meta.symbols) * alphabet;
    if table > TABLE_VALUES + parts.charts().len() as u64 {
        let message =
            format!("{} charts of {} symbols are too many for a model of so few bytes", meta.charts, meta.symbols);
        return Err(ParseError::invalid("META", message));
    }
    let mut model = model::parse(meta, parts.base)?;
    score::complete(&mut model.side, parts.score, meta)?;
    let refine = parts.refine.map(|bytes| refine::parse(bytes, meta)).transpose()?;
    let learned = parts.learned.map(|bytes| learned::parse(bytes, meta, &model)).transpose()?;
    if refine.is_some() && learned.is_some() {
        return Err(ParseError::invalid("DECO", "there is a refine layer beside it"));
    }
    if refine.is_some() && !model.side.weights.is_empty() {
        return Err(ParseError::invalid("SCOR", "it has weights, and there is a refine layer"));
    }
    Ok((model, refine, learned))
}

/// Whether a reader would take a model, known by its sections: a writer asks before it does the work.
pub(crate) fn check_model(head: &[([u8; 4], Vec<u8>)]) -> Result<(), ParseError> {
    let find = |kind: &[u8; 4]| head.iter().find(|(k, _)| k == kind).map(|(_, bytes)| bytes.as_slice());
    let need = |kind: &[u8; 4]| find(kind).unwrap_or_default();
    let base = [need(b"MEAN"), need(b"CHRT"), need(b"ANCH"), need(b"SIDE")];
    let (meta, _) = Meta::parse(need(b"META"), super::VERSION)?;
    parse_model(&meta, &ModelParts { base, score: find(&SCORE), refine: find(b"RFNM"), learned: find(b"DECO") })
        .map(drop)
}

/// Refuses a section that does not belong in a file of this version, or of so many segments.
fn check_place(e: &SectionEntry, version: u32, segments: usize) -> Result<(), ParseError> {
    let bad = |what: &str| Err(ParseError::invalid("section table", format!("section {} {what}", e.name())));
    let known = OPEN.contains(&e.kind) || LATER.contains(&e.kind);
    if version == 1 && (SINCE_2.contains(&e.kind) || SINCE_3.contains(&e.kind)) {
        return bad("does not belong in a file of version 1");
    }
    if version == 2 && SINCE_3.contains(&e.kind) {
        return bad("does not belong in a file of version 2");
    }
    if version == 1 {
        return Ok(());
    }
    if OF_SEGMENT.contains(&e.kind) {
        return if usize::from(e.segment) < segments { Ok(()) } else { bad("is of a segment that is not there") };
    }
    if known && e.kind != DEAD && e.segment != 0 { bad("is of a segment, but is for all rows") } else { Ok(()) }
}

/// Whether a section belongs to a segment rather than to the file.
pub(crate) fn is_of_segment(entry: &SectionEntry) -> bool {
    OF_SEGMENT.contains(&entry.kind)
}

/// Checks the hashes of the sections that are `used`. O(their bytes).
pub(crate) fn check_sections(
    parsed: &Parsed,
    bytes: &[u8],
    used: impl Fn(&SectionEntry) -> bool,
) -> Result<(), ParseError> {
    parsed.entries().iter().filter(|entry| used(entry)).try_for_each(|entry| intact(bytes, entry))
}

/// All segments, which follow each other in row numbers. A file of version 1 is one.
fn parse_segments(
    bytes: &[u8],
    layout: &header::Layout,
    rows: u64,
    shape: SegmentShape,
    whole: bool,
) -> Result<Vec<Segment>, ParseError> {
    let entries = &layout.entries;
    if layout.version == 1 {
        return Ok(vec![Segment::parse(bytes, entries, 0, Some(rows), shape)?]);
    }
    let count = entries.iter().filter(|e| e.kind == *b"SEGM").count();
    if count > MOST_SEGMENTS {
        return Err(ParseError::invalid("SEGM", format!("{count} segments; {MOST_SEGMENTS} are allowed")));
    }
    let mut segments: Vec<Segment> = Vec::with_capacity(count);
    for number in 0..count as u16 {
        let segment = Segment::parse(bytes, entries, number, None, shape)?;
        let first = segments.last().map_or(0, |s| s.first + s.span);
        if if whole { segment.first != first } else { segment.first < first } {
            return Err(ParseError::invalid("SEGM", "segments do not follow each other"));
        }
        if segments.first().is_some_and(|s| s.ids_kind() != segment.ids_kind()) {
            return Err(ParseError::invalid("SEGM", "segments have ids of different kinds"));
        }
        segments.push(segment);
    }
    Ok(segments)
}

fn parse_metadata(b: &[u8]) -> Result<BTreeMap<String, String>, ParseError> {
    let bad = |message: &str| ParseError::invalid("KEYV", message);
    let mut pairs: BTreeMap<String, String> = BTreeMap::new();
    let mut rest = b.get(4..).ok_or_else(|| bad("ends before its contents do"))?;
    if u32_at(b, 0) > MOST_PAIRS {
        return Err(bad("has more than 65,536 pairs"));
    }
    for _ in 0..u32_at(b, 0) {
        if rest.len() < 8 {
            return Err(bad("ends before its contents do"));
        }
        let (key_len, value_len) = (u32_at(rest, 0) as usize, u32_at(rest, 4) as usize);
        rest = &rest[8..];
        if rest.len() < key_len || rest.len() - key_len < value_len {
            return Err(bad("ends before its contents do"));
        }
        let text = |b: &[u8]| std::str::from_utf8(b).map(str::to_owned).map_err(|_| bad("is not UTF-8"));
        let key = text(&rest[..key_len])?;
        if pairs.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return Err(bad("its keys do not ascend"));
        }
        pairs.insert(key, text(&rest[key_len..key_len + value_len])?);
        rest = &rest[key_len + value_len..];
    }
    if rest.is_empty() { Ok(pairs) } else { Err(bad("goes on after its contents")) }
}

/// Bytes that are hashed between two looks at whoever may stop it.
const HASHED: usize = 32 << 20;

/// Checks every byte that is committed: all hashes, all padding, and that every row is in one cell. O(file). `go_on` is told bytes done
/// and in all; once it says no, all that follows is passed over.
pub(crate) fn verify(parsed: &Parsed, bytes: &[u8], go_on: &dyn Fn(u64, u64) -> bool) -> Result<(), ParseError> {
    let layout = &parsed.layout;
    let mut end = match layout.version {
        1 => layout.commit.end() as usize,
        _ => SLOTS_END,
    };
    let mut padding = Vec::new();
    for e in &layout.entries {
        padding.push(end..e.range().start);
        end = e.range().end;
        let mut hash = Xxh3::new();
        for (part, first) in bytes[e.range()].chunks(HASHED).zip((e.offset..).step_by(HASHED)) {
            if !go_on(first, layout.end) {
                return Ok(());
            }
            hash.update(part);
        }
        matches(e, hash.digest())?;
    }
    if layout.version > 1 {
        padding.push(end..layout.commit.table as usize);
    }
    if padding.into_iter().any(|range| bytes[range].iter().any(|&b| b != 0)) {
        return Err(ParseError::invalid("padding", "bytes between sections are not zero"));
    }
    let go_on = || go_on(layout.end, layout.end);
    parsed.segments.iter().try_for_each(|segment| {
        segment.verify(bytes, parsed.block, parsed.refine.as_ref().map_or(0, Refine::symbols), &go_on)
    })
}
