//! The rows of a store that are not deleted, in the order of their numbers: where their codes are.

use std::collections::VecDeque;

use crate::{
    format::{parse::Parsed, row_ids::Walk, segment::Segment},
    math::bits::Bits,
};

/// Rows looked for together, at least.
const PART: u64 = 4096;
/// The most numbers looked at for each row that is wanted.
const SPARSE: u64 = 64;

/// Where a row's code is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The row's number.
    pub(crate) row: u64,
    pub(crate) segment: usize,
    /// Its anchor.
    pub(crate) cell: usize,
    /// Its position in the segment.
    pub(crate) position: u64,
}

/// Walks over the live rows of a store.
pub(crate) struct Live<'a> {
    parsed: &'a Parsed,
    bytes: &'a [u8],
    segment: usize,
    walk: Option<(Walk<'a>, Bits)>,
    /// The next row of the segment that has not been looked for, counted from its first.
    next: u64,
    found: VecDeque<Place>,
}

impl<'a> Live<'a> {
    /// Starts with live row number `rank`, counted from 0. O(cells), and O(rows before it in its segment) where rows are missing.
    pub(crate) fn new(parsed: &'a Parsed, bytes: &'a [u8], mut rank: u64) -> Live<'a> {
        let mut live = Live { parsed, bytes, segment: 0, walk: None, next: 0, found: VecDeque::new() };
        while let Some(segment) = parsed.segments.get(live.segment).filter(|s| s.live() <= rank) {
            rank -= segment.live();
            live.segment += 1;
        }
        let whole = |s: &Segment| s.live() == s.span;
        if parsed.segments.get(live.segment).is_some_and(whole) {
            live.next = rank;
        } else {
            live.skip(rank);
        }
        live
    }

    /// The next `count` rows, fewer at the end.
    pub(crate) fn take(&mut self, count: usize) -> Vec<Place> {
        while self.found.len() < count {
            let Some(segment) = self.parsed.segments.get(self.segment) else { break };
            if self.next >= segment.span || segment.live() == 0 {
                (self.segment, self.next, self.walk) = (self.segment + 1, 0, None);
                continue;
            }
            self.look(segment, (count - self.found.len()) as u64);
        }
        self.found.drain(..count.min(self.found.len())).collect()
    }

    /// Passes over the next `count` rows, which are not kept.
    fn skip(&mut self, mut count: u64) {
        while count > 0 {
            let passed = self.take(count.min(PART) as usize).len() as u64;
            if passed == 0 {
                break;
            }
            count -= passed;
        }
    }

    /// Finds the rows among the next numbers of a segment that has any.
    fn look(&mut self, segment: &'a Segment, wanted: u64) {
        let (bytes, next, number) = (self.bytes, self.next, self.segment);
        let (walk, dead) = self.walk.get_or_insert_with(|| {
            let dead = Bits::new(segment.n, segment.deleted_positions(bytes));
            (Walk::new(segment.row_ids(bytes), next), dead)
        });
        // Numbers that no row has cost nothing, however many they are.
        let from = next.max(walk.next_row().unwrap_or(segment.span)).min(segment.span);
        let sparse = (segment.span / segment.n.max(1)).clamp(1, SPARSE);
        let end = from.saturating_add(wanted.max(PART).saturating_mul(sparse)).min(segment.span);
        let mut places = Vec::new();
        walk.until(end, |row, cell, position| {
            // A damaged file may give rows that are passed.
            if row >= from && !dead.has(position) {
                places.push(Place { row: segment.first + row, segment: number, cell, position });
            }
        });
        places.sort_unstable_by_key(|place| (place.row, place.position));
        places.dedup_by_key(|place| place.row);
        self.found.extend(places);
        self.next = end;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use crate::{
        config::{Budget, Config},
        format::{meta::MOST_ROWS, segment::MOST_BARE_ROWS, write::Writer},
        ids::Ids,
        index::{Index, filter::Filter},
        matrix::MatRef,
    };

    use crate::math::bits::Bits;
    use crate::math::bits::Ranks;

    const ROWS: usize = 40;

    fn small() -> Index<Vec<u8>> {
        let values: Vec<f32> = (0..ROWS * 4).map(|i| 1.0 + ((i * 37) % 101) as f32).collect();
        let mut config = Config { budget: Budget::BytesPerVector(60.0), charts: Some(1), ..Config::default() };
        config.annealing.anchors = Some(3);
        crate::compress(MatRef::new(&values, ROWS, 4).unwrap(), &config).unwrap()
    }

    type Sections = Vec<([u8; 4], Vec<u8>)>;

    fn head(index: &Index<Vec<u8>>) -> Sections {
        let entries = index.parsed().entries().iter();
        let head = entries.filter(|e| ![*b"SEGM", *b"CELL", *b"ROWS", *b"CODE"].contains(&e.kind));
        head.map(|e| (e.kind, index.bytes()[e.range()].to_vec())).collect()
    }

    fn file(head: &Sections, rest: impl FnOnce(&mut Writer<Cursor<Vec<u8>>>)) -> Index<Vec<u8>> {
        try_file(head, rest).unwrap()
    }

    fn try_file(
        head: &Sections,
        rest: impl FnOnce(&mut Writer<Cursor<Vec<u8>>>),
    ) -> Result<Index<Vec<u8>>, crate::error::Error> {
        let mut writer = Writer::create(Cursor::new(Vec::new())).unwrap();
        head.iter().for_each(|(kind, bytes)| writer.section(*kind, 0, bytes).unwrap());
        rest(&mut writer);
        let mut written = writer.finish(1).unwrap();
        written.write_header().unwrap();
        Index::from_bytes(written.sink.into_inner())
    }

    #[test]
    fn bits_are_counted_and_come_back() {
        let n = 3000u64;
        for step in [1, 2, 63, 64, 65, 700] {
            let set: Vec<u64> = (0..n).filter(|p| p * p % step == 0).collect();
            let bits = Bits::new(n, set.iter().copied());
            assert_eq!(bits.iter().collect::<Vec<_>>(), set);
            assert_eq!(bits.count(), set.len() as u64);
            let ranks = Ranks::new(bits);
            for p in 0..n + 100 {
                assert_eq!(ranks.below(p), set.iter().filter(|&&q| q < p).count() as u64, "{p}");
            }
        }
        assert_eq!(Ranks::new(Bits::new(n, [])).below(17), 0);
    }

    /// Row numbers that no row has cost nothing, or a file of a few bytes would keep its reader busy for days.
    #[test]
    fn rows_may_be_far_apart() {
        let near = small();
        let segment = &near.parsed().segments[0];
        let far = |row: u64| row << 34 | row;
        let index = file(&head(&near), |writer| {
            let places = segment.row_ids(near.bytes());
            let rows_of = |cell: usize, out: &mut Vec<u64>| places.rows_of(cell, |_, row| out.push(far(row)));
            writer.write_places(0, (0, MOST_ROWS), &segment.cells, rows_of).unwrap();
            writer.write(segment.codes(near.bytes())).unwrap();
        });
        index.verify().unwrap();
        assert_eq!(index.ids(0..ROWS).unwrap(), (0..ROWS as u64).map(far).collect());
        assert_eq!(index.ids(30..33).unwrap(), (30..33).map(far).collect());
        assert_eq!(index.decode(0..ROWS).unwrap(), near.decode(0..ROWS).unwrap());
        let one: Ids = [far(7), 5].into_iter().collect();
        assert_eq!(index.filter(Filter::Allow(&one)).unwrap().len(), 1);
    }

    /// A row of no bytes that is deleted, a trillion times: a reader must not make room for each.
    #[test]
    fn deleted_rows_need_not_have_bytes() {
        let mut head = head(&small());
        for (kind, bytes) in &mut head {
            match &*kind {
                b"META" => bytes[24..29].fill(0),
                b"CHRT" => *bytes = [0u32.to_le_bytes(), 8u32.to_le_bytes()].concat(),
                b"ANCH" => *bytes = vec![0; 4],
                b"SIDE" => bytes.clear(),
                _ => {}
            }
        }
        let of = |n: u64| {
            try_file(&head, |writer| {
                writer.section(*b"SEGM", 0, &[n, 0, n, 0].map(u64::to_le_bytes).concat()).unwrap();
                writer.section(*b"CELL", 0, &[0, n, n, n].map(u64::to_le_bytes).concat()).unwrap();
                writer.section(*b"ROWS", 0, &[]).unwrap();
                writer.section(*b"CODE", 0, &[]).unwrap();
                writer.section(*b"TOMB", 0, &n.to_le_bytes()).unwrap();
            })
        };
        for n in [MOST_BARE_ROWS + 1, MOST_ROWS] {
            assert!(of(n).unwrap_err().to_string().contains("take no bytes"));
        }
        let index = of(MOST_BARE_ROWS).unwrap();
        index.verify().unwrap();
        assert!(index.is_empty());
        assert!(index.ids(0..0).unwrap().is_empty());
        assert!(index.query(&[1.0, 2.0, 3.0, 4.0], 10).unwrap().is_empty());
        let one: Ids = [7].into_iter().collect();
        assert!(index.filter(Filter::Deny(&one)).unwrap().is_empty());
    }
}
