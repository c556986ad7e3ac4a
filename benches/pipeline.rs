//! The pipeline on the 5,000 real vectors of the repository: compress, open, query, decode, and the exact search it replaces.
//! Each result is checked before anything is timed, and recall is printed above the speeds it was reached at.
//!
//!     cargo bench --bench pipeline
#![expect(clippy::expect_used, reason = "a benchmark that fails has nothing to say")]

use std::sync::LazyLock;

use divan::{Bencher, black_box, counter::ItemsCount};
use tempfile::TempDir;
use vlc::{
    Budget, Config, Index, Mat, Metric, Neighbors, SearchOptions,
    measure::{exact_neighbors, recall},
    read::{VectorFile, read_all},
};

const K: usize = 10;
/// Shares of float32, and the recall@10 below which a speed would not be worth having.
const RATIOS: [(f64, f64); 2] = [(0.03, 0.68), (0.0833, 0.89)];

struct Bench {
    base: Mat,
    queries: Mat,
    sample: Mat,
    truth: Neighbors,
    dir: TempDir,
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| {
    let base = read("base.i8.npy");
    let queries = read("queries.i8.npy");
    let truth = exact_neighbors(&base.view(), queries.view(), K, Metric::Cosine).expect("exact search");
    let dir = tempfile::tempdir().expect("a temporary directory");
    Bench { base, queries, sample: read("queries-train.i8.npy"), truth, dir }
});

/// The index of the larger ratio, which all but compression is timed on.
static INDEX: LazyLock<Index<Vec<u8>>> = LazyLock::new(|| compressed(RATIOS[1].0));

fn read(name: &str) -> Mat {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/docs-minilm-384-5k/");
    let file = VectorFile::open(format!("{dir}{name}")).expect("the vectors of the repository");
    read_all(&file).expect("the vectors of the repository")
}

fn compressed(ratio: f64) -> Index<Vec<u8>> {
    let config = Config { budget: Budget::Ratio(ratio), queries: Some(BENCH.sample.view()), ..Config::default() };
    vlc::compress(BENCH.base.view(), &config).expect("compression")
}

fn main() {
    for (ratio, least) in RATIOS {
        let again;
        let index = if ratio == RATIOS[1].0 {
            &*INDEX
        } else {
            again = compressed(ratio);
            &again
        };
        let found = index.search(BENCH.queries.view(), &SearchOptions::new(K)).expect("search");
        let recall = recall(&found, &BENCH.truth, K);
        let info = index.info();
        println!("ratio {:.4} (asked {ratio}): recall@{K} {recall:.3}", info.ratio);
        assert!(info.ratio <= ratio, "the file has {:.4} of float32, {ratio} was asked for", info.ratio);
        assert!(recall >= least, "recall {recall:.3} is below {least}");
        index.verify().expect("a sound file");
    }

    // One by one the answers are those of the batch; from the mapped file, those from memory.
    let found = INDEX.search(BENCH.queries.view(), &SearchOptions::new(K)).expect("search");
    let path = BENCH.dir.path().join("bench.vlc");
    vlc::write_index(&*INDEX, &path).expect("writing");
    let opened = Index::open(&path).expect("opening");
    for q in 0..20 {
        let hits = opened.query(BENCH.queries.row(q), K).expect("search");
        assert!(
            hits.iter().map(|hit| hit.id).eq(found.ids.row(q).iter().copied()),
            "query {q} alone finds other rows"
        );
    }
    // Rows are coded in fewer bits than they have entropy, but near enough to be found by.
    let decoded = opened.decode(0..opened.len()).expect("decoding");
    let error = 1.0 - mean_cosine(&decoded, &BENCH.base);
    println!("decoded rows: mean 1 - cosine {error:.3}");
    assert!(error < 0.05, "mean 1 - cosine {error:.3}");

    divan::main();
}

fn mean_cosine(a: &Mat, b: &Mat) -> f64 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(x * y)).sum::<f64>();
    let cosine = |i: usize| dot(a.row(i), b.row(i)) / (dot(a.row(i), a.row(i)) * dot(b.row(i), b.row(i))).sqrt();
    (0..a.rows()).map(cosine).sum::<f64>() / a.rows() as f64
}

#[divan::bench(args = [RATIOS[1].0], sample_count = 1, sample_size = 1)]
fn compress(bencher: Bencher<'_, '_>, ratio: f64) {
    bencher.counter(ItemsCount::new(BENCH.base.rows())).bench_local(|| compressed(ratio));
}

#[divan::bench(max_time = 2)]
fn open(bencher: Bencher<'_, '_>) {
    let path = BENCH.dir.path().join("bench.vlc");
    bencher.bench_local(|| Index::open(&path).expect("opening"));
}

#[divan::bench(max_time = 2)]
fn query_one(bencher: Bencher<'_, '_>) {
    let mut next = 0;
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| {
        next = (next + 1) % BENCH.queries.rows();
        INDEX.query(BENCH.queries.row(next), K).expect("search")
    });
}

#[divan::bench(max_time = 3)]
fn query_batch(bencher: Bencher<'_, '_>) {
    let queries = BENCH.queries.view();
    bencher
        .counter(ItemsCount::new(queries.rows()))
        .bench_local(|| INDEX.search(black_box(queries), &SearchOptions::new(K)).expect("search"));
}

#[divan::bench(max_time = 3)]
fn decode_all(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(INDEX.len())).bench_local(|| INDEX.decode(0..INDEX.len()).expect("decoding"));
}

#[divan::bench(name = "exact_neighbors", max_time = 3)]
fn exact(bencher: Bencher<'_, '_>) {
    let (base, queries) = (BENCH.base.view(), BENCH.queries.view());
    bencher
        .counter(ItemsCount::new(queries.rows()))
        .bench_local(|| exact_neighbors(&base, black_box(queries), K, Metric::Cosine).expect("exact search"));
}
