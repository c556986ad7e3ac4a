//! Changes to a store as an input says, beside a model of what it holds.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

use vlc::{EncodeOptions, Error, Ids, Index, MatRef, Store, merge};

use crate::{BASES, folder::folder, input::Input};

const DIM: usize = 4;
/// Rows that a base was made of, deleted ones among them.
const BASE_ROWS: u64 = 45;
/// Rows from which on none are added.
const MOST: usize = 300;

/// The decoded values, to the bit, of each live row by its id.
pub type Contents = BTreeMap<String, Vec<u32>>;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Rows,
    Numbers,
    Text,
}

/// What a sound store holds.
pub fn contents(index: &Index<impl AsRef<[u8]>>) -> Contents {
    index.verify().unwrap();
    let n = index.len();
    let decoded = index.decode(0..n).unwrap();
    let names = names(&index.ids(0..n).unwrap());
    assert_eq!(names.len(), n);
    let rows = (0..n).map(|row| decoded.row(row).iter().map(|v| v.to_bits()).collect());
    let all: Contents = names.into_iter().zip(rows).collect();
    assert_eq!(all.len(), n, "an id stands twice");
    all
}

fn names(ids: &Ids) -> Vec<String> {
    match ids {
        Ids::Numbers(ids) => ids.iter().map(u64::to_string).collect(),
        Ids::Text(ids) => ids.clone(),
    }
}

/// A store on its way.
struct Machine {
    kind: Kind,
    path: PathBuf,
    /// Closed where files are changed by hand.
    store: Option<Store>,
    now: Contents,
    /// The number the next row gets.
    next: u64,
}

/// Does what an input says, and checks the store after each change.
pub fn run(input: &mut Input<'_>) {
    let base = input.below(3);
    let path = folder().join("store.vlc");
    fs::write(&path, BASES[base]).unwrap();
    let kind = [Kind::Rows, Kind::Numbers, Kind::Text][base];
    let now = contents(&Index::open(&path).unwrap());
    let mut machine = Machine { kind, path, store: None, now, next: BASE_ROWS };
    for _ in 0..40 {
        if input.is_empty() {
            break;
        }
        match input.u8() % 12 {
            0..=2 => machine.append(input),
            3..=5 => machine.delete(input),
            6 => machine.store().compact().unwrap(),
            7 => machine.store = None,
            8 => machine.junk(input),
            9 | 10 => machine.interrupt(input),
            _ => machine.merge(),
        }
        machine.check();
    }
    drop(machine.store.take());
    crate::exercise::exercise(&fs::read(&machine.path).unwrap());
}

impl Machine {
    fn store(&mut self) -> &mut Store {
        self.store.get_or_insert_with(|| Store::open(&self.path).unwrap())
    }

    fn read(&self) -> Contents {
        contents(&Index::read(&self.path).unwrap())
    }

    /// The store holds what it should, and there is nothing beside it.
    fn check(&self) {
        let found = self.read();
        assert!(found == self.now, "holds {:?} instead of {:?}", found.keys(), self.now.keys());
        let left = names_in(folder());
        assert_eq!(left, ["store.vlc"]);
    }

    fn ids(&self, names: &[String]) -> Ids {
        match self.kind {
            Kind::Text => names.iter().cloned().collect(),
            _ => names.iter().map(|name| name.parse::<u64>().unwrap()).collect(),
        }
    }

    fn any_id(&self, input: &mut Input<'_>) -> String {
        match self.kind {
            Kind::Rows => u64::from(input.u16() % 400).to_string(),
            Kind::Numbers if input.u8() & 3 == 0 => input.nasty().to_string(),
            Kind::Numbers => (u64::from(input.u8()) * 1000).to_string(),
            Kind::Text => {
                let len = usize::from(input.u8() % 8);
                String::from_utf8_lossy(input.bytes(len)).into_owned()
            }
        }
    }

    fn append(&mut self, input: &mut Input<'_>) {
        if self.now.len() > MOST {
            return;
        }
        let count = [1, 1, 2, 3, 7, 20][input.below(6)];
        let values: Vec<f32> = (0..count * DIM).map(|_| f32::from(input.u8() as i8) / 16.0).collect();
        let new: Vec<String> = match self.kind {
            Kind::Rows => (self.next..self.next + count as u64).map(|row| row.to_string()).collect(),
            _ => (0..count).map(|_| self.any_id(input)).collect(),
        };
        let ids = self.ids(&new);
        let options = EncodeOptions { ids: (self.kind != Kind::Rows).then_some(&ids), ..EncodeOptions::default() };
        let outcome = self.store().append(&MatRef::new(&values, count, DIM).unwrap(), &options);
        let different = new.iter().collect::<HashSet<_>>().len() == count;
        let usable = self.kind == Kind::Text || values.chunks(DIM).all(|row| row.iter().any(|v| *v != 0.0));
        if !different || !usable || new.iter().any(|id| self.now.contains_key(id)) {
            assert!(matches!(outcome, Err(Error::Input(_))), "{outcome:?}");
            return;
        }
        let report = outcome.unwrap();
        assert_eq!((report.rows, report.n), (count as u64, (self.now.len() + count) as u64));
        assert!(self.kind != Kind::Rows || report.first_row == self.next, "{report:?} instead of {}", self.next);
        self.next += count as u64;
        // What they decode to is not known before, that it stays so is.
        let found = self.read();
        for id in new {
            self.now.insert(id.clone(), found[&id].clone());
        }
    }

    fn delete(&mut self, input: &mut Input<'_>) {
        let how = input.u8();
        let mut gone: Vec<String> = match how % 16 {
            0 => self.now.keys().cloned().collect(),
            1..=4 => {
                let step = 1 + input.below(5);
                self.now.keys().skip(input.below(7)).step_by(step).cloned().collect()
            }
            _ => (0..how / 16 % 8).filter_map(|_| self.now.keys().nth(input.u8().into()).cloned()).collect(),
        };
        if how & 1 == 0 {
            gone.push(self.any_id(input));
        }
        let mut seen = HashSet::new();
        gone.retain(|id| seen.insert(id.clone()));
        let ids = self.ids(&gone);
        let report = self.store().delete(&ids).unwrap();
        let missing: Vec<usize> = (0..gone.len()).filter(|&i| !self.now.contains_key(&gone[i])).collect();
        gone.iter().for_each(|id| drop(self.now.remove(id)));
        assert_eq!((report.deleted as usize, report.n as usize), (gone.len() - missing.len(), self.now.len()));
        assert_eq!(report.missing, missing);
    }

    /// Bytes behind the commit: not looked at, and cut off by the next writer.
    fn junk(&mut self, input: &mut Input<'_>) {
        self.store = None;
        // What an interrupted change left goes first.
        drop(Store::open(&self.path).unwrap());
        let mut bytes = fs::read(&self.path).unwrap();
        let committed = bytes.len();
        let count = usize::from(input.u8());
        bytes.extend_from_slice(input.bytes(count));
        fs::write(&self.path, bytes).unwrap();
        self.check();
        drop(Store::open(&self.path).unwrap());
        assert_eq!(fs::metadata(&self.path).unwrap().len() as usize, committed);
    }

    /// A change that got as far as some part of its slot.
    fn interrupt(&mut self, input: &mut Input<'_>) {
        drop(Store::open(&self.path));
        self.store = None;
        let (before, held, next) = (fs::read(&self.path).unwrap(), self.now.clone(), self.next);
        if input.u8() & 1 == 0 {
            self.append(input)
        } else {
            self.delete(input)
        }
        self.store = None;
        let after = fs::read(&self.path).unwrap();
        // A file that was renamed over the other is there or is not.
        if after.len() <= before.len() || after[192..before.len()] != before[192..] {
            return;
        }
        let mut torn = after.clone();
        let (mask, tail) = (input.u64(), input.u8());
        for (i, byte) in torn[64..192].iter_mut().enumerate() {
            if mask >> (i % 64) & 1 == 0 {
                *byte = before[64 + i];
            }
        }
        let old = torn[64..192] == before[64..192];
        if old {
            for _ in 0..tail % 8 {
                let at = before.len() + input.below(after.len() - before.len());
                torn[at] ^= input.u8();
            }
            torn.truncate(after.len() - input.below(after.len() - before.len()));
        }
        fs::write(&self.path, &torn).unwrap();
        let found = self.read();
        if found == held && (old || found != self.now) {
            (self.now, self.next) = (held, next);
        }
        // A deletion of nobody changes nothing; an append of rows shows in the next number, which is the store's to say.
        self.check();
    }

    /// The store with the base it came from behind it, put in its place.
    fn merge(&mut self) {
        if self.now.len() > MOST {
            return;
        }
        self.store = None;
        let (other, out) = (folder().join("other.vlc"), folder().join("out.vlc"));
        fs::write(&other, BASES[self.kind as usize]).unwrap();
        let more = contents(&Index::open(&other).unwrap());
        let outcome = merge(&[&self.path, &other], &out, None);
        fs::remove_file(&other).unwrap();
        if self.kind == Kind::Rows {
            let report = outcome.unwrap();
            assert_eq!(report.n as usize, self.now.len() + more.len());
            let shifted = |id: String| (id.parse::<u64>().unwrap() + self.next).to_string();
            self.now.extend(more.into_iter().map(|(id, row)| (shifted(id), row)));
            self.next += BASE_ROWS;
        } else if more.keys().any(|id| self.now.contains_key(id)) {
            assert!(matches!(outcome, Err(Error::Input(_))), "{outcome:?}");
            return;
        } else {
            assert_eq!(outcome.unwrap().n as usize, self.now.len() + more.len());
            self.now.extend(more);
        }
        fs::rename(&out, &self.path).unwrap();
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
