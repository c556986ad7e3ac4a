//! The laws of the layer: scores are those of the rows it decodes, errors fall, and a seed says it all.

use vlc_reference::{chain, distance, file};

use super::{
    Refine, Rescorer, candidates,
    testing::{Layer, Store, clustered},
    unpack,
};
use crate::{
    Budget, Config, Mat, Metric,
    query::{QueryModel, prepare_queries},
};

const DIM: usize = 40;
const ROWS: usize = 3000;

fn config(metric: Metric) -> Config<'static> {
    Config { budget: Budget::BytesPerVector(10.0), metric, ..Config::default() }
}

/// The decoded residual of a row, by the reference.
fn decoded(refine: &Refine, symbols: &[u8]) -> Vec<f64> {
    let (chart, dim) = (refine.chart(), refine.model().dim);
    let tables = chart.code.tables.chunks_exact(chart.code.entries());
    let code = chain::Code {
        kind: chain::CodeKind::Chain,
        lags: chart.code.lags,
        widths: chart.code.widths.iter().map(|&w| w.into()).collect(),
        tables: tables.map(|t| t.iter().map(|&v| v.into()).collect()).collect(),
    };
    let y = chain::decode(&code, &vec![0.0; chart.active()], symbols);
    let column = |i: usize| (0..y.len()).map(|j| y[j] * f64::from(chart.decoder.value(j, i))).sum();
    (0..dim).map(column).collect()
}

fn symbols_of(layer: &Layer, row: usize) -> &[u8] {
    let count = layer.trained.refine.symbols();
    &layer.codes.symbols[row * count..(row + 1) * count]
}

fn squared_error(a: &[f32], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum()
}

#[test]
fn scores_are_those_of_the_decoded_rows() {
    // 22 and 16 symbols, then as many as the directions can use, 21 and 27: each leaves another number of symbols after the last
    // four.
    let cases: [(Metric, usize, &[usize]); 5] = [
        (Metric::Cosine, DIM, &[11, 8]),
        (Metric::Dot, DIM, &[11]),
        (Metric::L2, DIM, &[11]),
        (Metric::Cosine, 7, &[50]),
        (Metric::Cosine, 9, &[50]),
    ];
    for (metric, dim, layers) in cases {
        let rows = clustered(3, ROWS, dim);
        let store = Store::new(rows.view(), &config(metric), layers);
        let file = file::parse(store.index.bytes()).unwrap();
        let queries = clustered(4, 5, dim);
        let model = &store.index.parsed().model;
        let prepared = prepare_queries(queries.view(), metric, &model.center, dim, 0).unwrap();
        let tables = QueryModel::new(model).tables(model, prepared.rows.view(), None);
        let (codes, by_position) = (store.codes(), store.rows());
        for layer in &store.layers {
            let refine = &layer.trained.refine;
            let rescorer = Rescorer::new(&codes, refine, store.in_cell_order(layer));
            let all: Vec<u64> = (0..5).flat_map(|_| 0..ROWS as u64).collect();
            let all = Mat::new(all, 5, ROWS).unwrap();
            let found = rescorer.best(prepared.rows.view(), &tables, all.view(), ROWS).unwrap();
            let residuals: Vec<Vec<f64>> = (0..ROWS).map(|row| decoded(refine, symbols_of(layer, row))).collect();
            for q in 0..5 {
                let query: Vec<f64> = prepared.rows.row(q).iter().map(|&v| v.into()).collect();
                let expected = |row: usize| {
                    let product = distance::dot(&query, &file.unit(row)) + distance::dot(&query, &residuals[row]);
                    let factor = f64::from(refine.factors()[usize::from(layer.codes.factors[row])]);
                    let gain = file.gain(row);
                    match metric {
                        Metric::L2 => 2.0 * gain * factor * product - gain * gain,
                        _ => gain * factor * product,
                    }
                };
                let largest = (0..ROWS).map(|row| expected(row).abs()).fold(0.0, f64::max);
                for (&row, &score) in found.ids.row(q).iter().zip(found.scores.row(q)) {
                    let expected = expected(row as usize);
                    assert!((f64::from(score) - expected).abs() < 1e-5 * largest, "{metric:?}: {score} {expected}");
                }
                assert!(found.scores.row(q).windows(2).all(|w| w[0] >= w[1]), "best first");
            }
            // Of few candidates the best are those that are best of all.
            let some: Vec<u64> = (0..5).flat_map(|q| (0..200).map(move |i| (q * 31 + i * 7) as u64)).collect();
            let some = Mat::new(some, 5, 200).unwrap();
            let best = rescorer.best(prepared.rows.view(), &tables, some.view(), 10).unwrap();
            for q in 0..5 {
                let asked: Vec<u64> = some.row(q).iter().map(|&at| by_position[at as usize]).collect();
                let expected: Vec<u64> = found.ids.row(q).iter().copied().filter(|id| asked.contains(id)).collect();
                assert_eq!(best.ids.row(q), &expected[..10]);
            }
        }
    }
}

#[test]
fn equal_scores_go_to_the_lower_row() {
    let mut rows = clustered(5, ROWS, DIM);
    // The same row many times over; positions of equal rows are those of rows in order, so candidates come the other way.
    let same = rows.row(0).to_vec();
    (0..40).for_each(|i| rows.row_mut(i * 70).copy_from_slice(&same));
    let store = Store::new(rows.view(), &config(Metric::Cosine), &[8]);
    let (codes, by_position) = (store.codes(), store.rows());
    let rescorer = Rescorer::new(&codes, &store.layers[0].trained.refine, store.in_cell_order(&store.layers[0]));
    let query = Mat::new(store.unit.row(0).to_vec(), 1, DIM).unwrap();
    let model = &store.index.parsed().model;
    let tables = QueryModel::new(model).tables(model, query.view(), None);
    let mut positions: Vec<u64> = (0..ROWS as u64).filter(|&at| by_position[at as usize] % 70 == 0).collect();
    positions.sort_by_key(|&at| std::cmp::Reverse(by_position[at as usize]));
    let count = positions.len();
    let positions = Mat::new(positions, 1, count).unwrap();
    let found = rescorer.best(query.view(), &tables, positions.view(), 10).unwrap();
    assert_eq!(found.ids.row(0), (0..10).map(|i| i * 70).collect::<Vec<u64>>());
}

#[test]
fn every_further_byte_lowers_the_error() {
    let rows = clustered(6, ROWS, DIM);
    let store = Store::new(rows.view(), &config(Metric::Cosine), &[6, 12]);
    let file = file::parse(store.index.bytes()).unwrap();
    let mean = |of: &dyn Fn(usize) -> Vec<f64>| {
        (0..ROWS).map(|row| squared_error(store.unit.row(row), &of(row))).sum::<f64>() / ROWS as f64
    };
    let with = |layer: &Layer, row: usize| -> Vec<f64> {
        let residual = decoded(&layer.trained.refine, symbols_of(layer, row));
        file.unit(row).iter().zip(residual).map(|(u, e)| u + e).collect()
    };
    let base = mean(&|row| file.unit(row));
    let [few, many] = [0, 1].map(|l| mean(&|row| with(&store.layers[l], row)));
    // 48 bits over 40 directions lower the error of an ideal code 5 times.
    assert!(few < 0.4 * base, "{few} {base}");
    assert!(many < 0.4 * few, "{many} {few}");
    assert!((store.trained.energy - base).abs() < 0.1 * base, "the base is as it was");
    for (layer, error) in store.layers.iter().zip([few, many]) {
        assert!((layer.trained.energy - error).abs() < 0.1 * error, "{} {error}", layer.trained.energy);
        let worse = (0..ROWS).filter(|&row| {
            squared_error(store.unit.row(row), &with(layer, row))
                > squared_error(store.unit.row(row), &file.unit(row))
        });
        assert!(worse.count() < ROWS / 100, "hardly a row is decoded worse than before");
    }
}

#[test]
fn a_seed_says_it_all() {
    let rows = clustered(7, ROWS, DIM);
    let with_threads = |threads: usize, seed: u64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let config = Config { seed, ..config(Metric::Cosine) };
        let mut store = pool.install(|| Store::new(rows.view(), &config, &[8]));
        store.layers.remove(0)
    };
    let (a, b, other) = (with_threads(1, 1), with_threads(3, 1), with_threads(1, 2));
    assert_eq!(a.trained.refine, b.trained.refine);
    assert_eq!(a.codes, b.codes);
    assert_ne!(a.codes, other.codes);
}

#[test]
fn rows_without_residuals_are_left_as_they_are() {
    // All rows alike: the base decodes them but for rounding, and nothing is left to code.
    let rows = Mat::new([0.5f32, -1.0, 2.0, 0.25].repeat(600), 600, 4).unwrap();
    let config = Config { budget: Budget::BytesPerVector(40.0), ..Config::default() };
    let store = Store::new(rows.view(), &config, &[4]);
    let layer = &store.layers[0];
    assert_eq!(layer.codes.symbols.len(), 600 * layer.trained.refine.symbols());
    let file = file::parse(store.index.bytes()).unwrap();
    for row in [0, 599] {
        let residual = decoded(&layer.trained.refine, symbols_of(layer, row));
        let all: Vec<f64> = file.unit(row).iter().zip(residual).map(|(u, e)| u + e).collect();
        assert!(squared_error(store.unit.row(row), &all) < 1e-10);
    }
}

#[test]
fn more_symbols_than_directions_can_use_are_not_stored() {
    let rows = clustered(8, 600, 6);
    let config = Config { budget: Budget::BytesPerVector(14.0), ..Config::default() };
    let store = Store::new(rows.view(), &config, &[50]);
    assert_eq!(store.layers[0].trained.refine.symbols(), 18);
}

#[test]
fn stored_bytes_are_those_of_the_chart() {
    let rows = clustered(9, ROWS, DIM);
    let store = Store::new(rows.view(), &config(Metric::Cosine), &[8]);
    let refine = &store.layers[0].trained.refine;
    // The base has one chart too: what its section takes is a check of the formula.
    let base = Refine::new(Metric::Cosine, DIM, store.trained.model.charts[0].clone(), vec![1.0; 16]);
    let file = file::parse(store.index.bytes()).unwrap();
    assert!(file.charts.len() == 1 && refine.stored_bytes() > 0);
    assert_eq!(base.stored_bytes() - 64, section(store.index.bytes(), *b"CHRT"));
}

/// Bytes of a section.
fn section(bytes: &[u8], kind: [u8; 4]) -> usize {
    let entry = bytes[64..].chunks_exact(32).find(|e| e[..4] == kind).unwrap();
    u64::from_le_bytes(entry[16..24].try_into().unwrap()) as usize
}

#[test]
fn packed_symbols_are_what_is_looked_up() {
    let rows = clustered(10, ROWS, DIM);
    let store = Store::new(rows.view(), &config(Metric::Cosine), &[8]);
    let (layer, by_position) = (&store.layers[0], store.rows());
    let packed = store.in_cell_order(layer);
    for position in [0usize, 17, ROWS - 1] {
        let mut symbols = vec![0; layer.trained.refine.symbols()];
        unpack(super::Refined::packed(&packed, position as u64), &mut symbols);
        assert_eq!(symbols, symbols_of(layer, by_position[position] as usize));
    }
    assert!(candidates(10) >= 100 && candidates(usize::MAX) == usize::MAX);
}
