//! What the pipeline is made of, as far as it can be called by itself, over the sizes that decide its cost. Synthetic rows; each
//! result is checked before anything is timed.
//!
//!     cargo bench --bench ops
#![expect(clippy::expect_used, reason = "a benchmark that fails has nothing to say")]

use std::sync::LazyLock;

use divan::{
    Bencher, black_box,
    counter::{BytesCount, ItemsCount},
};
use vlc::{
    AnnealingConfig, Backend, Budget, CodeKind, Config, Index, Mat, Metric, SearchOptions,
    measure::{AnchorSet, Assignments, exact_neighbors, recall},
    read::{RowSource, VectorFile, read_all},
};

const ROWS: usize = 10_000;
const DIM: usize = 128;
const K: usize = 10;

/// Rows of a mixture of clusters, with variances that fall along the dimensions.
static BASE: LazyLock<Mat> = LazyLock::new(|| mixture(ROWS, 1));
static QUERIES: LazyLock<Mat> = LazyLock::new(|| mixture(256, 2));
static CHAIN: LazyLock<Index<Vec<u8>>> = LazyLock::new(|| compressed(CodeKind::Chain));
static PQ8: LazyLock<Index<Vec<u8>>> = LazyLock::new(|| compressed(CodeKind::Pq8));

fn index(code: CodeKind) -> &'static Index<Vec<u8>> {
    if code == CodeKind::Pq8 { &PQ8 } else { &CHAIN }
}

fn compressed(code: CodeKind) -> Index<Vec<u8>> {
    let config = Config { budget: Budget::Ratio(0.06), code, metric: Metric::L2, ..Config::default() };
    vlc::compress(BASE.view(), &config).expect("compression")
}

fn mixture(rows: usize, stream: u64) -> Mat {
    let mut values = Vec::with_capacity(rows * DIM);
    for row in 0..rows as u64 {
        let cluster = mix(mix(stream) ^ row) % 100;
        for column in 0..DIM as u64 {
            let centre = normal(cluster << 32 | column);
            let own = normal(stream << 56 | row << 16 | column);
            values.push((centre + 0.7 * own) / (1.0 + column as f32).sqrt());
        }
    }
    Mat::new(values, rows, DIM).expect("a whole number of rows")
}

/// SplitMix64's finaliser.
fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Four uniforms of 16 bits have a sum that is nearly normal, of variance 1/3.
fn normal(number: u64) -> f32 {
    let bits = mix(number);
    let sum: f32 = (0..4).map(|i| (bits >> (16 * i) & 0xFFFF) as f32 / 65_536.0).sum();
    (sum - 2.0) * 3f32.sqrt()
}

/// One iteration without noise: the start, two assignments, a reduction, an update.
fn anneal_once(anchors: usize) -> (AnchorSet, Assignments) {
    let config = AnnealingConfig { anchors: Some(anchors), iterations: 1, temperature: 0.0, ..Default::default() };
    vlc::measure::anneal(BASE.view(), &config, 1, Backend::Cpu).expect("anchors")
}

fn main() {
    let nearest = |row: &[f32], anchors: &AnchorSet| {
        let anchors = anchors.anchors();
        let distance = |k: usize| -> f64 {
            row.iter().zip(anchors.row(k)).map(|(x, a)| f64::from(x - a) * f64::from(x - a)).sum()
        };
        (0..anchors.rows()).map(distance).fold(f64::INFINITY, f64::min)
    };
    let (anchors, assigned) = anneal_once(64);
    for row in (0..ROWS).step_by(97) {
        let (found, least) = (f64::from(assigned.distances[row]), nearest(BASE.row(row), &anchors));
        assert!(
            (found - least).abs() <= 1e-3 * least,
            "row {row}: {found} from its anchor, {least} from the nearest"
        );
    }
    assert!((anchors.energy() - assigned.energy()).abs() <= 1e-6 * anchors.energy());

    let truth = exact_neighbors(&BASE.view(), QUERIES.view(), K, Metric::L2).expect("exact search");
    for (code, least) in [(CodeKind::Chain, 0.8), (CodeKind::Pq8, 0.8)] {
        let index = index(code);
        let found = index.search(QUERIES.view(), &SearchOptions::new(K)).expect("search");
        let recall = recall(&found, &truth, K);
        println!("{code:?}: {:.1} bytes per vector, recall@{K} {recall:.3}", index.info().bytes_per_vector);
        assert!(recall >= least, "recall {recall:.3} is below {least}");
        let (some, all) = (index.decode(100..200).expect("decoding"), index.decode(0..ROWS).expect("decoding"));
        assert_eq!(
            some.as_slice(),
            all.view().slice(100..200).as_slice(),
            "a row decodes alike whichever are asked for"
        );
    }

    divan::main();
}

#[divan::bench(args = [16, 256], max_time = 4)]
fn anneal_one_iteration(bencher: Bencher<'_, '_>, anchors: usize) {
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| anneal_once(black_box(anchors)));
}

#[divan::bench(args = [1, 16, 256], max_time = 3)]
fn scan_chain(bencher: Bencher<'_, '_>, queries: usize) {
    scan(bencher, CodeKind::Chain, queries);
}

#[divan::bench(args = [1, 16, 256], max_time = 3)]
fn scan_pq8(bencher: Bencher<'_, '_>, queries: usize) {
    scan(bencher, CodeKind::Pq8, queries);
}

fn scan(bencher: Bencher<'_, '_>, code: CodeKind, count: usize) {
    let (index, queries) = (index(code), QUERIES.view().slice(0..count));
    bencher
        .counter(ItemsCount::new(count))
        .bench_local(|| index.search(black_box(queries), &SearchOptions::new(K)).expect("search"));
}

#[divan::bench(args = [1, 1_000], max_time = 2)]
fn decode(bencher: Bencher<'_, '_>, rows: usize) {
    // Near the end, where finding the rows costs most.
    let range = ROWS - rows..ROWS;
    bencher.counter(ItemsCount::new(rows)).bench_local(|| CHAIN.decode(black_box(range.clone())).expect("decoding"));
}

#[divan::bench(max_time = 2)]
fn parse(bencher: Bencher<'_, '_>) {
    let bytes = CHAIN.bytes();
    bencher.bench_local(|| Index::from_bytes(black_box(bytes)).expect("a sound file"));
}

#[divan::bench(max_time = 2)]
fn verify(bencher: Bencher<'_, '_>) {
    bencher.counter(BytesCount::new(CHAIN.bytes().len())).bench_local(|| CHAIN.verify().expect("a sound file"));
}

#[divan::bench(max_time = 2)]
fn exact_search(bencher: Bencher<'_, '_>) {
    let (base, queries) = (BASE.view(), QUERIES.view());
    bencher
        .counter(ItemsCount::new(queries.rows()))
        .bench_local(|| exact_neighbors(&base, black_box(queries), K, Metric::L2).expect("exact search"));
}

#[divan::bench(max_time = 2)]
fn read_int8(bencher: Bencher<'_, '_>) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/docs-minilm-384-5k/base.i8.npy");
    let file = VectorFile::open(path).expect("the vectors of the repository");
    bencher.counter(ItemsCount::new(file.rows())).bench_local(|| read_all(&file).expect("rows"));
}
