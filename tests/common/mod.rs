//! Seeded data, the data set of the repository, and comparison with the reference.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "every test binary uses its own part of this and fails by panicking"
)]

pub mod refined;
pub mod sections;

use std::path::{Path, PathBuf};

use vlc::{Budget, Config, Ids, Index, Mat, MatRef, Metric, Neighbors, SearchOptions, read::VectorFile};
use vlc_reference::{Id, Store, distance, file::File, store::Row};

/// A stream of random numbers (Steele et al., SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// Uniform in 0..1.
    pub fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Nearly normal: a sum of uniforms, which every machine rounds the same way.
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }

    pub fn mat(&mut self, rows: usize, dim: usize) -> Mat {
        Mat::new((0..rows * dim).map(|_| self.normal()).collect(), rows, dim).unwrap()
    }
}

/// Rows in a few clusters, with later directions of less variance: like embeddings, only small.
pub fn clustered(seed: u64, rows: usize, dim: usize) -> Mat {
    let mut random = Random(seed);
    let centers = random.mat(6, dim);
    let mut out = random.mat(rows, dim);
    for i in 0..rows {
        let center = random.below(6);
        for (c, v) in out.row_mut(i).iter_mut().enumerate() {
            *v = centers.row(center)[c] + *v * 0.8 / (1.0 + 0.3 * c as f32);
        }
    }
    out
}

/// A file of the data set in examples/.
pub fn example(name: &str) -> Mat {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/docs-minilm-384-5k");
    let file = VectorFile::open(directory.join(name)).unwrap();
    vlc::read::read_all(&file).unwrap()
}

/// Some rows, each times a length of its own between 0.1 and 10.
pub fn scaled(rows: MatRef<'_>, seed: u64) -> Mat {
    let mut random = Random(seed);
    let mut out = Mat::new(rows.as_slice().to_vec(), rows.rows(), rows.dim()).unwrap();
    for i in 0..out.rows() {
        let norm = out.row(i).iter().map(|v| v * v).sum::<f32>().sqrt();
        let length = 0.1 * 100f32.powf(random.uniform()) / norm;
        out.row_mut(i).iter_mut().for_each(|v| *v *= length);
    }
    out
}

pub fn config(metric: Metric, ratio: f64) -> Config<'static> {
    Config { metric, budget: Budget::Ratio(ratio), ..Config::default() }
}

pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// The file as the reference reads it.
#[track_caller]
pub fn reference<D: AsRef<[u8]>>(index: &Index<D>) -> File {
    vlc_reference::parse(index.bytes()).expect("the reference reads every file that is written")
}

/// Checks found rows and scores of every query against the reference, near-ties aside.
#[track_caller]
pub fn assert_answers(file: &File, queries: MatRef<'_>, found: &Neighbors, k: usize) {
    let n = file.meta.n;
    let k = k.min(n);
    assert_eq!((found.ids.rows(), found.ids.dim()), (queries.rows(), k));
    let scored: Vec<Vec<f64>> = (0..n).map(|row| file.scored(row)).collect();
    for q in 0..queries.rows() {
        let query = wide(queries.row(q));
        let scores: Vec<f64> = (0..n).map(|row| file.score_of(&query, row, &scored[row])).collect();
        assert_hits(file, &query, &scores, |id| id as usize, (found.ids.row(q), found.scores.row(q)));
    }
}

/// The same for a file of any segments, of which some rows may be deleted.
#[track_caller]
pub fn assert_store_answers(store: &Store, queries: MatRef<'_>, found: &Neighbors, k: usize) {
    let k = k.min(store.rows.len());
    assert_eq!((found.ids.rows(), found.ids.dim()), (queries.rows(), k));
    for q in 0..queries.rows() {
        let query = wide(queries.row(q));
        let scores: Vec<f64> = (0..store.rows.len()).map(|rank| store.score(&query, rank)).collect();
        let rank = |id| store.rows.iter().position(|row| name(row) == id).expect("an id of a live row");
        assert_hits(&store.model, &query, &scores, rank, (found.ids.row(q), found.scores.row(q)));
    }
}

/// What a hit calls a row: its id if that is a number, else its number.
pub fn name(row: &Row) -> u64 {
    match row.id {
        Id::Number(id) => id,
        Id::Text(_) => row.number as u64,
    }
}

/// Checks what one query found. `place` finds the score of an id.
#[track_caller]
fn assert_hits(
    file: &File,
    query: &[f64],
    scores: &[f64],
    place: impl Fn(u64) -> usize,
    (ids, found): (&[u64], &[f32]),
) {
    // A score of l2 is a difference of squares, which are rounded at their own size.
    let length: f64 = query.iter().zip(&file.center).map(|(q, c)| (q - c) * (q - c)).sum();
    let size = scores.iter().fold(length.max(1e-6), |m, s| m.max(s.abs()));
    // Scores through a network are of activations rounded to bytes.
    let tolerance = if file.learned.is_some() { 1e-3 } else { 1e-5 } * size;
    let best = distance::largest(scores, ids.len());
    for (rank, (&id, &score)) in ids.iter().zip(found).enumerate() {
        let expected = scores[place(id)];
        assert!(!ids[..rank].contains(&id), "row {id} twice");
        let off = (f64::from(score) - possible(file, expected)).abs();
        assert!(off <= tolerance, "row {id}: score {score} instead of {expected}");
        let gap = (expected - best[rank].1).abs();
        assert!(gap <= 2.0 * tolerance, "rank {rank}: row {id} instead of {:?}", best[rank]);
    }
    assert!(found.windows(2).all(|w| w[0] >= w[1]), "scores do not descend");
}

/// A score as it is reported: an estimate may be beyond what scores can be.
fn possible(file: &File, score: f64) -> f64 {
    match file.meta.metric {
        distance::Metric::Cosine => score.clamp(-1.0, 1.0),
        distance::Metric::Dot => score,
        distance::Metric::L2 => score.min(0.0),
    }
}

/// Checks decoded rows and ids of a file of any segments.
#[track_caller]
pub fn assert_store_rows<D: AsRef<[u8]>>(index: &Index<D>, store: &Store) {
    let n = store.rows.len();
    assert_eq!(index.len(), n);
    let decoded = index.decode(0..n).unwrap();
    for (rank, row) in store.rows.iter().enumerate() {
        assert_close(decoded.row(rank), &store.decode(rank), &store.model.center, row.number);
        let text = index.text_id(row.number as u64);
        assert!(!matches!(&row.id, Id::Text(id) if text != Some(id)), "row {}: {text:?}", row.number);
    }
    let ids = match index.ids(0..n).unwrap() {
        Ids::Numbers(ids) => ids.into_iter().map(Id::Number).collect::<Vec<_>>(),
        Ids::Text(ids) => ids.into_iter().map(Id::Text).collect(),
    };
    // Without rows there is nothing that says what ids are.
    assert!(ids.iter().eq(store.rows.iter().map(|row| &row.id)), "{ids:?}");
}

/// Checks decoded rows against the reference.
#[track_caller]
pub fn assert_decodes<D: AsRef<[u8]>>(index: &Index<D>, file: &File, rows: std::ops::Range<usize>) {
    let decoded = index.decode(rows.clone()).unwrap();
    assert_eq!((decoded.rows(), decoded.dim()), (rows.len(), file.meta.d));
    for (r, row) in rows.enumerate() {
        assert_close(decoded.row(r), &file.decode(row), &file.center, row);
    }
}

#[track_caller]
fn assert_close(found: &[f32], expected: &[f64], center: &[f64], row: usize) {
    let size = expected.iter().chain(center).fold(1.0, |m: f64, v| m.max(v.abs()));
    for (c, (&found, expected)) in found.iter().zip(expected).enumerate() {
        let off = (f64::from(found) - expected).abs();
        assert!(off <= 1e-4 * size, "row {row}, column {c}: {found} instead of {expected}");
    }
}

/// The names in a directory.
pub fn listing(directory: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    names
}

/// An index of these rows that holds what it should and answers.
#[track_caller]
pub fn works(rows: MatRef<'_>, config: &Config<'_>) -> Index<Vec<u8>> {
    let index = vlc::compress(rows, config).unwrap();
    index.verify().unwrap();
    let file = reference(&index);
    let some = rows.rows().min(20);
    assert_decodes(&index, &file, 0..some);
    let queries = Random(3).mat(2, rows.dim());
    for k in [1, 10, rows.rows() + 1] {
        assert_answers(&file, queries.view(), &index.search(queries.view(), &SearchOptions::new(k)).unwrap(), k);
    }
    index
}

pub fn roomy(metric: Metric) -> Config<'static> {
    Config { budget: Budget::BytesPerVector(1e6), ..config(metric, 1.0) }
}
