//! Rows by id: what hits name, decoded.

use super::{Index, find::positions, live::Place};
use crate::{
    error::{Error, InputError},
    ids::{Ids, Wanted},
    index::{filter::Filter, searcher::SearchOptions},
    math::bits::Bits,
    matrix::{Mat, MatRef},
};

/// Ids named of those that are not there.
const NAMED: usize = 5;

impl<D: AsRef<[u8]>> Index<D> {
    /// Decodes the rows with these ids, in the order given, ids x dim: what the file knows of the vectors that were compressed (normalised
    /// for cosine). The ids are those of hits, row numbers where rows have none of their own; where they are text, hits have row numbers,
    /// of which [`Index::text_id`] tells the ids. An id may be given more than once.
    ///
    /// O(ids x active x d + rows), or O(ids x anchors) in place of the rows for a few of rows without ids of their own; 4 x ids x dim bytes.
    ///
    /// # Errors
    /// [`Error::Input`] naming the ids that no row has, and when the memory is not there; [`Error::Config`] for ids of another kind than the
    /// store's.
    pub fn vectors(&self, ids: &Ids) -> Result<Mat, Error> {
        let mut all = Vec::new();
        let fits = ids.len().checked_mul(self.dim()).is_some_and(|len| all.try_reserve_exact(len).is_ok());
        if !fits {
            let message =
                format!("{} x {} float32 do not fit into memory; ask for fewer rows", ids.len(), self.dim());
            return Err(InputError::new(self.path(), message).into());
        }
        self.vectors_each(ids, |part| {
            all.extend_from_slice(part.as_slice());
            Ok(())
        })?;
        Mat::new(all, ids.len(), self.dim())
    }

    /// The same some thousands of rows at a time, so that memory does not grow with their width. An error of `each` ends it.
    ///
    /// # Errors
    /// As [`Index::vectors`], before the first call of `each`, and those of `each`.
    pub fn vectors_each(&self, ids: &Ids, each: impl FnMut(MatRef<'_>) -> Result<(), Error>) -> Result<(), Error> {
        let places = self.places(ids)?;
        let mut rest = places.as_slice();
        let next = |count| {
            let (part, others) = rest.split_at(count);
            rest = others;
            part.to_vec()
        };
        self.decode_places(places.len(), next, each)
    }

    /// Whether there are rows with these ids, which are as for [`Index::vectors`]. O(ids + rows), or O(ids x anchors) in place of the rows for a
    /// few of rows without ids of their own.
    ///
    /// # Errors
    /// [`Error::Config`] for ids of another kind than the store's, [`Error::Format`] where what they are looked up in is damaged.
    pub fn contains(&self, ids: &Ids) -> Result<Vec<bool>, Error> {
        Ok(self.find(ids)?.iter().map(Option::is_some).collect())
    }

    /// The scores that a search gives the rows with these ids, queries x ids, in the order given; NaN for ids that no row has. On the CPU:
    /// O(ids + rows) once, then O(ids x symbols) a query.
    ///
    /// # Errors
    /// As [`Index::search`] and [`Index::contains`].
    pub fn score(&self, queries: MatRef<'_>, ids: &Ids) -> Result<Mat, Error> {
        let filter = self.filter(Filter::Allow(ids))?;
        let mut scores = Mat::zeros(queries.rows(), ids.len());
        scores.as_mut_slice().fill(f32::NAN);
        if filter.is_empty() {
            return Ok(scores);
        }
        let options = SearchOptions::new(filter.len() as usize).filtered(&filter);
        let found = self.search(queries, &options)?;
        let wanted = Wanted::new(ids);
        let firsts = ids.firsts();
        let column_of = |id: u64| match &wanted {
            Wanted::Numbers(wanted) => wanted.get(&id).copied(),
            Wanted::Text(wanted) => self.text_id(id).and_then(|id| wanted.get(id).copied()),
        };
        for q in 0..queries.rows() {
            for (&id, &score) in found.ids.row(q).iter().zip(found.scores.row(q)) {
                if let Some(column) = column_of(id) {
                    scores.row_mut(q)[column] = score;
                }
            }
            // An id may be given more than once.
            for (i, &first) in firsts.iter().enumerate() {
                scores.row_mut(q)[i] = scores.row(q)[first];
            }
        }
        Ok(scores)
    }

    /// Where the rows with these ids are.
    fn find(&self, ids: &Ids) -> Result<Vec<Option<Place>>, Error> {
        let (parsed, bytes) = (self.parsed(), self.bytes());
        parsed.check_kind(Some(ids))?;
        self.check_lookup()?;
        let wanted = Wanted::new(ids);
        let mut found: Vec<Option<Place>> = vec![None; ids.len()];
        for (number, segment) in parsed.segments.iter().enumerate().filter(|(_, segment)| segment.live() > 0) {
            let dead = Bits::new(segment.n, segment.deleted_positions(bytes));
            for (id, position) in positions(segment, bytes, &wanted) {
                if !dead.has(position) {
                    let cell = segment.cells.partition_point(|&first| first <= position).saturating_sub(1);
                    // Its number is not asked for.
                    found[id] = Some(Place { row: 0, segment: number, cell, position });
                }
            }
        }
        self.check_whole()?;
        Ok(ids.firsts().into_iter().map(|first| found[first]).collect())
    }

    /// The same, of ids that must all be there.
    fn places(&self, ids: &Ids) -> Result<Vec<Place>, Error> {
        let places = self.find(ids)?;
        let missing: Vec<usize> = (0..ids.len()).filter(|&i| places[i].is_none()).collect();
        if missing.is_empty() {
            return Ok(places.into_iter().flatten().collect());
        }
        let named: Vec<String> = missing.iter().take(NAMED).map(|&i| ids.name(i)).collect();
        let more = if missing.len() > NAMED { ", ..." } else { "" };
        let message = format!("{} of {} ids are not there: {}{more}", missing.len(), ids.len(), named.join(", "));
        Err(InputError::new(self.path(), message).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        compress::{compress_to, with_model::EncodeOptions},
        config::{Budget, Config},
        store::Store,
    };

    const ROWS: usize = 60;
    const DIM: usize = 4;

    fn rows(first: usize, count: usize) -> Vec<f32> {
        (first * DIM..(first + count) * DIM).map(|i| 1.0 + ((i * 37) % 101) as f32).collect()
    }

    /// A store of two segments with rows deleted from both, and its rows by id.
    fn store(
        ids: impl Fn(std::ops::Range<usize>) -> Option<Ids>,
    ) -> (tempfile::TempDir, Index<crate::file::mmap::MappedFile>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.vlc");
        let own = ids(0..ROWS);
        let mut config = Config { budget: Budget::BytesPerVector(90.0), ids: own.as_ref(), ..Config::default() };
        config.annealing.anchors = Some(3);
        compress_to(&MatRef::new(&rows(0, ROWS), ROWS, DIM).unwrap(), &path, &config).unwrap();
        let mut store = Store::open(&path).unwrap();
        let more = ids(ROWS..ROWS + 9);
        let options = EncodeOptions { ids: more.as_ref(), ..EncodeOptions::default() };
        store.append(&MatRef::new(&rows(ROWS, 9), 9, DIM).unwrap(), &options).unwrap();
        let gone = ids(3..5).unwrap_or_else(|| [3, 4].into_iter().collect());
        store.delete(&gone).unwrap();
        let gone = ids(61..62).unwrap_or_else(|| [61].into_iter().collect());
        store.delete(&gone).unwrap();
        drop(store);
        let index = Index::open(&path).unwrap();
        (folder, index)
    }

    /// Every row by its id is the row that `decode` counts.
    #[track_caller]
    fn agrees(index: &Index<crate::file::mmap::MappedFile>) {
        let all = index.decode(0..index.len()).unwrap();
        assert_eq!(index.len(), ROWS + 9 - 3);
        let ids = index.ids(0..index.len()).unwrap();
        assert_eq!(index.vectors(&ids).unwrap(), all);
        // In the order given, again where one comes again.
        let order: Vec<usize> = vec![60, 2, 3, 64, 2, 0];
        let some: Ids = match &ids {
            Ids::Numbers(ids) => order.iter().map(|&i| ids[i]).collect(),
            Ids::Text(ids) => order.iter().map(|&i| ids[i].clone()).collect(),
        };
        let found = index.vectors(&some).unwrap();
        assert!(order.iter().enumerate().all(|(i, &row)| found.row(i) == all.row(row)));
        assert_eq!(index.vectors(&[0; 0].into_iter().collect::<Ids>()).map(|m| m.rows()).unwrap_or(0), 0);
    }

    #[test]
    fn rows_by_number() {
        let (_folder, index) = store(|_| None);
        agrees(&index);
        // Row 5 is the fourth that is left: a hit's number is not the place that decode counts.
        let five = index.vectors(&[5].into_iter().collect()).unwrap();
        assert_eq!(five.row(0), index.decode(3..4).unwrap().row(0));
        let missing = index.vectors(&[0, 4, 69, 1].into_iter().collect()).unwrap_err();
        assert!(matches!(missing, Error::Input(_)));
        assert!(missing.to_string().ends_with("a.vlc: 2 of 4 ids are not there: 4, 69"), "{missing}");
        assert!(matches!(index.vectors(&Ids::Text(vec!["5".into()])), Err(Error::Config(_))));
    }

    #[test]
    fn scores_are_those_of_a_search() {
        for own in [false, true] {
            let name = |i: usize| 500 + 7 * i as u64;
            let (_folder, index) = store(|range| own.then(|| Ids::Numbers(range.map(name).collect())));
            let id = |i: usize| if own { name(i) } else { i as u64 };
            let queries = MatRef::new(&[1.0, 2.0, 3.0, 4.0, 4.0, 1.0, 0.5, 2.0], 2, DIM).unwrap();
            let all = index.search(queries, &SearchOptions::new(1000)).unwrap();
            let there: Vec<u64> = all.ids.row(0).to_vec();
            let mut ids = there.clone();
            ids.rotate_left(5);
            // One twice, and one that is not there.
            ids.extend([there[3], 1 << 40]);
            let ids = Ids::Numbers(ids);
            let scores = index.score(queries, &ids).unwrap();
            let Ids::Numbers(list) = &ids else { panic!() };
            assert_eq!(index.contains(&ids).unwrap(), list.iter().map(|id| *id < 1 << 40).collect::<Vec<_>>());
            for q in 0..2 {
                for (i, id) in list.iter().enumerate() {
                    match all.ids.row(q).iter().position(|found| found == id) {
                        Some(at) => assert_eq!(scores.row(q)[i], all.scores.row(q)[at]),
                        None => assert!(scores.row(q)[i].is_nan()),
                    }
                }
            }
            assert_eq!(index.contains(&Ids::Numbers(vec![id(0), 1 << 50])).unwrap().last(), Some(&false));
            assert_eq!(index.score(queries, &Ids::Numbers(Vec::new())).unwrap().dim(), 0);
            assert!(matches!(index.contains(&Ids::Text(vec!["a".into()])), Err(Error::Config(_))));
        }
    }

    #[test]
    fn rows_by_ids_of_their_own() {
        let (_folder, index) = store(|rows| Some(rows.map(|row| 1000 - row as u64).collect()));
        agrees(&index);
        let (_folder, index) = store(|rows| Some(rows.map(|row| format!("page {row}")).collect()));
        agrees(&index);
        let missing = index.vectors(&Ids::Text(vec!["page 1 ".into(), "page 0".into()])).unwrap_err();
        assert!(missing.to_string().ends_with("1 of 2 ids are not there: \"page 1 \""), "{missing}");
    }
}
