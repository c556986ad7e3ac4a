//! Stores of few bytes, random changes to them, and what they should hold.

use std::{collections::BTreeMap, path::Path, sync::LazyLock};

use super::disk::{Memory, Random};
use crate::{
    config::{Budget, Config},
    error::Error,
    file::{publish::Tell, spool::Record},
    format::rows::BlockShape,
    ids::Ids,
    index::{Index, live::Live},
    matrix::MatRef,
    store::edit::{Editor, NewRows},
};

/// What a store holds: the code of each live row by its id.
pub(super) type Contents = BTreeMap<String, Vec<u8>>;

/// The kind of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Rows,
    Numbers,
    Text,
}

const ROWS: usize = 40;

fn base(kind: Kind) -> Vec<u8> {
    let mut random = Random(7);
    let values: Vec<f32> = (0..ROWS * 4).map(|_| random.below(2001) as f32 - 1000.0).collect();
    let ids = match kind {
        Kind::Rows => None,
        Kind::Numbers => Some(Ids::Numbers((0..ROWS as u64).map(|i| i * 1000).collect())),
        Kind::Text => Some(Ids::Text((0..ROWS).map(|i| format!("base-{i}")).collect())),
    };
    let mut config = Config { budget: Budget::BytesPerVector(60.0), ids: ids.as_ref(), ..Config::default() };
    config.annealing.anchors = Some(3);
    let index = crate::compress(MatRef::new(&values, ROWS, 4).unwrap(), &config).unwrap();
    index.bytes().to_vec()
}

/// A store as `compress` makes it.
pub(super) fn fresh(kind: Kind) -> Vec<u8> {
    static BASES: LazyLock<[Vec<u8>; 3]> = LazyLock::new(|| [Kind::Rows, Kind::Numbers, Kind::Text].map(base));
    BASES[kind as usize].clone()
}

/// What is in a store, which must be sound.
#[track_caller]
pub(super) fn contents(bytes: &[u8]) -> Contents {
    let index = Index::from_bytes(bytes).unwrap();
    index.verify().unwrap();
    let parsed = index.parsed();
    let n = index.len();
    let names: Vec<String> = match index.ids(0..n).unwrap() {
        Ids::Numbers(ids) => ids.iter().map(u64::to_string).collect(),
        Ids::Text(ids) => ids,
    };
    let places = Live::new(parsed, index.bytes(), 0).take(n);
    assert_eq!(places.len(), n);
    let of = |place: &crate::index::live::Place| {
        let shape = parsed.block;
        let (b, i) = ((place.position / 32) as usize, (place.position % 32) as usize);
        let block = &parsed.segments[place.segment].codes(index.bytes())[b * shape.bytes()..][..shape.bytes()];
        let symbols = (0..shape.symbols).map(|t| shape.symbol(block, t, i));
        let sides = (0..shape.side_nibbles).map(|s| shape.side(block, s, i));
        symbols.chain(sides).chain([place.cell as u8]).collect()
    };
    let all: Contents = names.into_iter().zip(places.iter().map(of)).collect();
    assert_eq!(all.len(), n, "an id stands twice");
    all
}

/// A change to a store.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// New ids and, for each, its code: symbols, sides, anchor.
    Append(Vec<(String, Vec<u8>)>),
    Delete(Vec<String>),
    Compact,
}

/// What changes need to know of a store.
pub(super) struct Machine {
    pub(super) kind: Kind,
    shape: BlockShape,
    anchors: usize,
    /// The next row number, or what new ids are made of.
    next: u64,
}

impl Machine {
    pub(super) fn new(kind: Kind) -> Machine {
        let bytes = fresh(kind);
        let index = Index::from_bytes(&bytes).unwrap();
        let parsed = index.parsed();
        Machine { kind, shape: parsed.block, anchors: parsed.model.anchors(), next: ROWS as u64 }
    }

    /// Any change to a store that holds `now`.
    pub(super) fn any(&mut self, random: &mut Random, now: &Contents) -> Change {
        match random.below(if now.len() > 300 { 10 } else { 7 }) {
            0..=3 => {
                let count = [1, 1, 2, 5, 40][random.below(5)];
                Change::Append((0..count).map(|_| self.row(random)).collect())
            }
            4 | 7..=9 if !now.is_empty() => {
                let share = [1, 2, 10, 50][random.below(4)];
                let count = 1 + now.len() * share / 100;
                let mut ids: Vec<String> =
                    (0..count).map(|_| now.keys().nth(random.below(now.len())).unwrap().clone()).collect();
                ids.sort();
                ids.dedup();
                Change::Delete(ids)
            }
            5 if !now.is_empty() && random.below(20) == 0 => Change::Delete(now.keys().cloned().collect()),
            6 => Change::Compact,
            _ => Change::Append(vec![self.row(random)]),
        }
    }

    fn row(&mut self, random: &mut Random) -> (String, Vec<u8>) {
        let id = match self.kind {
            Kind::Rows => self.next.to_string(),
            Kind::Numbers => (self.next * 0x9E37_79B9 % (1 << 40)).to_string(),
            Kind::Text => format!("row {} {}", self.next, "x".repeat(random.below(9))),
        };
        self.next += 1;
        let mut code: Vec<u8> =
            (0..self.shape.symbols + self.shape.side_nibbles).map(|_| random.below(16) as u8).collect();
        code.push(random.below(self.anchors) as u8);
        (id, code)
    }

    /// Where row numbers go on after a change that did or did not happen.
    pub(super) fn settle(&mut self, bytes: &[u8]) {
        if self.kind == Kind::Rows {
            self.next = Index::from_bytes(bytes).unwrap().parsed().next_row();
        }
    }

    fn ids(&self, names: impl Iterator<Item = String>) -> Ids {
        match self.kind {
            Kind::Text => Ids::Text(names.collect()),
            _ => Ids::Numbers(names.map(|name| name.parse().unwrap()).collect()),
        }
    }

    /// Does a change on a disk.
    pub(super) fn apply(&self, disk: &Memory, change: &Change) -> Result<(), Error> {
        self.apply_telling(disk, change, &|_| Ok(()))
    }

    /// The same, telling how far it is.
    pub(super) fn apply_telling(&self, disk: &Memory, change: &Change, tell: &Tell<'_>) -> Result<(), Error> {
        let editor = Editor { disk, path: Path::new("test.vlc"), model: None, tell };
        match change {
            Change::Append(rows) => {
                let labels: Vec<u32> = rows.iter().map(|(_, code)| u32::from(code[code.len() - 1])).collect();
                let record = Record { shape: self.shape, refine: 0 };
                let mut records = vec![0; rows.len() * record.len()];
                for ((_, code), out) in rows.iter().zip(records.chunks_exact_mut(record.len())) {
                    let (symbols, rest) = code.split_at(self.shape.symbols);
                    record.put(symbols, out);
                    out[record.symbol_bytes()..].copy_from_slice(&rest[..self.shape.side_nibbles]);
                }
                let ids = self.ids(rows.iter().map(|(id, _)| id.clone()));
                let ids = (self.kind != Kind::Rows).then_some(&ids);
                let (error, whole) = (rows.len() as u128, &|| Ok(()));
                let new = NewRows { labels: &labels, records: &records, lengths: &[], ids, error, whole };
                editor.append(&new).map(drop)
            }
            Change::Delete(names) => {
                let (found, deleted) = editor.delete(&self.ids(names.iter().cloned()))?;
                assert!(found.iter().all(|found| *found));
                assert_eq!(deleted as usize, names.len());
                Ok(())
            }
            Change::Compact => editor.compact(),
        }
    }
}

/// What a store holds after a change.
pub(super) fn after(now: &Contents, change: &Change) -> Contents {
    let mut next = now.clone();
    match change {
        Change::Append(rows) => next.extend(rows.iter().cloned()),
        Change::Delete(names) => next.retain(|name, _| !names.contains(name)),
        Change::Compact => {}
    }
    next
}
