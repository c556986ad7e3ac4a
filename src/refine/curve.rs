//! Recall against bytes of a whole file with a layer, on vectors that are not in the repository. Not run by default:
//!
//!     VLC_CURVE=DIR VLC_CURVE_BASE=46.08 VLC_CURVE_LAYERS=64,96 cargo test --release --lib -- --ignored --nocapture refine::curve
//!
//! `DIR` has `base.i8.npy`, `queries-train.i8.npy` and `queries-test.i8.npy`.

use std::time::Instant;

use super::{
    Rescorer, candidates,
    testing::{Layer, Store},
};
use crate::{
    Backend, Budget, Config, Mat, MatRef, Metric, Searcher, VectorFile, exact_neighbors,
    query::{QueryModel, prepare_queries},
    read::read_all,
    recall,
};

/// Candidates that the curve is given for, the last for all rows.
const CANDIDATES: [usize; 6] = [50, 100, 140, 200, 400, 2000];

fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.into())
}

fn first(of: MatRef<'_, u64>, k: usize) -> Mat<u64> {
    let values = (0..of.rows()).flat_map(|q| of.row(q)[..k].to_vec()).collect();
    Mat::new(values, of.rows(), k).unwrap()
}

#[test]
#[ignore = "needs vectors that are not in the repository, and minutes"]
fn curve() {
    let dir = setting("VLC_CURVE", "");
    assert!(!dir.is_empty(), "VLC_CURVE must name the folder of the vectors");
    let read = |name: &str| read_all(&VectorFile::open(format!("{dir}/{name}.i8.npy")).unwrap()).unwrap();
    let (rows, sample, queries) = (read("base"), read("queries-train"), read("queries-test"));
    let layers: Vec<usize> =
        setting("VLC_CURVE_LAYERS", "64,80,96,112").split(',').map(|v| v.parse().unwrap()).collect();
    let truth = exact_neighbors(&rows.view(), queries.view(), 100, Metric::Cosine).unwrap().ids;
    for base in setting("VLC_CURVE_BASE", "46.08").split(',') {
        let budget = Budget::BytesPerVector(base.parse().unwrap());
        let seed = setting("VLC_CURVE_SEED", "1").parse().unwrap();
        let config = Config { budget, queries: Some(sample.view()), seed, ..Config::default() };
        let store = Store::new(rows.view(), &config, &layers);
        let searcher = Searcher::open(&store.index, Backend::Cpu).unwrap();
        let found = searcher.query_batch(queries.view(), CANDIDATES[CANDIDATES.len() - 1]).unwrap().ids;
        let base = store.index.bytes().len() as f64 / rows.rows() as f64;
        println!("base {base:.2} B, energy {:.5}: recall@10 {:.4}", store.trained.energy, {
            recall(first(found.view(), 10).view(), first(truth.view(), 10).view())
        });
        for layer in &store.layers {
            one(&store, layer, queries.view(), found.view(), truth.view(), base);
        }
    }
}

/// One point of the curve, at several numbers of candidates.
fn one(store: &Store, layer: &Layer, queries: MatRef<'_>, found: MatRef<'_, u64>, truth: MatRef<'_, u64>, base: f64) {
    let (refine, n) = (&layer.trained.refine, store.unit.rows());
    let model = &store.index.parsed().model;
    let prepared = prepare_queries(queries, model.metric, &model.center, model.dim, 0).unwrap().rows;
    let tables = QueryModel::new(model).tables(model, prepared.view(), None);
    let mut position_of = vec![0; n];
    store.rows().iter().enumerate().for_each(|(at, &row)| position_of[row as usize] = at as u64);
    let codes = store.codes();
    let rescorer = Rescorer::new(&codes, refine, store.in_cell_order(layer));
    let best = |c: usize, k: usize| {
        let positions: Vec<u64> = first(found, c).into_vec().iter().map(|&row| position_of[row as usize]).collect();
        let positions = Mat::new(positions, queries.rows(), c).unwrap();
        rescorer.best(prepared.view(), &tables, positions.view(), k).unwrap().ids
    };
    let at = |c: usize, k: usize| recall(best(c, k).view(), first(truth, k).view());
    // A nibble of the factor for each row, the layer, and two entries of the section table with their padding.
    let row = refine.symbols() as f64 / 2.0 + 0.5;
    let shared = (refine.stored_bytes() + 2 * (32 + 64)) as f64 / n as f64;
    print!(
        "layer of {} B + 0.5, shared {shared:.2}, all in {:.2} B; alpha {}, energy {:.5}; recall@10",
        row - 0.5,
        base + row + shared,
        layer.trained.alpha,
        layer.trained.energy
    );
    CANDIDATES.iter().for_each(|&c| print!(" {c}: {:.4}", at(c, 10)));
    for k in [1, 100] {
        print!("; recall@{k} {}: {:.4} 2000: {:.4}", candidates(k), at(candidates(k), k), at(2000, k));
    }
    let clock = Instant::now();
    best(200, 10);
    let each = clock.elapsed().as_secs_f64() / queries.rows() as f64;
    println!("; 200 candidates {:.1} us a query on {} threads", 1e6 * each, rayon::current_num_threads());
}
