//! Hand-made files, parsed and decoded.

use super::writer::{Raw, RawChart};
use crate::{
    CodeKind, Metric,
    distance::{dot, squared_l2},
    parse,
};

/// A table of 16 (m + 1) entries: entry i is `f(lag, symbol)`.
fn table(lags: usize, f: impl Fn(i32, i32) -> i32) -> Vec<i8> {
    let entry = |i: usize| f((i / 16) as i32, (i % 16) as i32) as i8;
    (0..16 * (lags + 1)).map(entry).collect()
}

/// 3 dimensions, 2 charts, 3 anchors, 3 symbols with 1 lag, l2, one factor and two gain nibbles,
/// 300 rows, a last block of 12.
///
/// Chart 0 has the directions e_0 and e_2 (2 bits: q = 2 is +1/2 scale, q = 3 is 3/2 scale);
/// its symbol 0 has width 0 and acts through the lag. Chart 1 has no direction at all.
pub(super) fn small() -> Raw {
    let n = 300;
    let chart = RawChart {
        widths: vec![0, 1, 1],
        column_scale: vec![2.0, 4.0],
        column_bits: vec![2, 3],
        // b_0 = 2 (q - 1.5) = (1, -1, 3), b_1 = 4 (q - 3.5) = (-14, 2, -2)
        columns: vec![vec![2, 1, 3], vec![0, 4, 3]],
        table_scale: vec![0.5, 0.25],
        tables: vec![table(1, |l, c| c - 10 * l), table(1, |l, c| -c + 3 * l * c)],
        anchor_offset: vec![1.0, -1.0],
        anchor_scale: vec![0.5, 7.0],
        anchor_bits: vec![3, 0],
        // Anchors 0 and 2 are of chart 0: (1 + 0.5 * 5, -1) and (1 + 0.5 * 2, -1).
        anchors: vec![vec![5, 2], vec![0, 0]],
    };
    let nothing = RawChart {
        widths: vec![0, 0, 0],
        column_scale: vec![],
        column_bits: vec![],
        columns: vec![],
        table_scale: vec![],
        tables: vec![],
        anchor_offset: vec![],
        anchor_scale: vec![],
        anchor_bits: vec![],
        anchors: vec![],
    };
    Raw {
        d: 3,
        metric: 2,
        kind: 0,
        lags: 1,
        center: vec![10.0, 20.0, 30.0],
        mean: vec![0.5, 0.25, 0.125],
        charts: vec![chart, nothing],
        chart_of: vec![0, 1, 0],
        factor_levels: (0..16).map(|i| 1.0 + i as f32 / 16.0).collect(),
        gain_nibbles: 2,
        gain_range: vec![2.0, 32.0],
        labels: (0..n).map(|i| [0, 2, 2, 1][i % 4]).collect(),
        symbols: (0..n).map(|i| [i, i / 16, 3 * i].map(|c| (c % 16) as u8).to_vec()).collect(),
        factor_codes: (0..n).map(|i| (i % 16) as u8).collect(),
        gain_codes: (0..n).map(|i| (i % 256) as u16).collect(),
        key_values: vec![("a", "1"), ("vlc.version", "0.1.0")],
    }
}

#[test]
fn a_small_file_is_read_and_decoded() {
    let file = parse(&small().write()).unwrap();
    assert_eq!((file.meta.n, file.meta.d, file.meta.anchors), (300, 3, 3));
    assert_eq!((file.meta.metric, file.meta.kind), (Metric::L2, CodeKind::Chain));
    assert!(file.meta.recall.is_nan());
    assert_eq!((file.meta.energy, file.meta.anchor_energy), (0.25, 0.5));
    assert_eq!((file.meta.seed, file.meta.training_rows), (7, 30));
    assert_eq!(file.center, [10.0, 20.0, 30.0]);
    assert_eq!(file.charts[0].columns, [[1.0, -1.0, 3.0], [-14.0, 2.0, -2.0]]);
    assert_eq!(file.charts[0].code.tables[0][16 + 3], 0.5 * -7.0);
    assert_eq!(file.anchors, [vec![3.5, -1.0], vec![], vec![2.0, -1.0]]);
    assert_eq!(file.cells, [0, 75, 150, 300]);
    assert_eq!(&file.row_at[148..153], &[295, 299, 1, 2, 5]);
    assert_eq!(file.key_values[1].1, "0.1.0");

    // Row 37: label 2, symbols 5, 2, 15, factor code 5, gain code 37.
    let row = 37;
    assert_eq!(file.labels[row], 2);
    assert_eq!(file.symbols[file.position_of[row]], [5, 2, 15]);
    // y_0 = 2 + 0.5 (2 + (5 - 10)), y_1 = -1 + 0.25 (-15 + (-2 + 3 * 2))
    let y = [0.5, -3.75];
    assert_eq!(file.coordinates(row), y);
    let u = [0.5 + 0.5 + 14.0 * 3.75, 0.25 - 0.5 - 7.5, 0.125 + 1.5 + 7.5];
    assert_eq!(file.unit(row), u);
    let gain = 2.0 * 16_f64.powf(36.0 / 254.0);
    assert!((file.gain(row) - gain).abs() < 1e-12);
    assert_eq!(file.factor(row, &file.unit(row)), 1.0 + 5.0 / 16.0);
    assert_eq!(file.decode(row)[1], 20.0 + file.gain(row) * u[1]);
    // Row 0 has gain code 0, row 255 the largest, row 3 a chart without directions.
    assert_eq!(file.decode(0), file.center);
    assert_eq!(file.gain(255), 32.0);
    assert_eq!(file.unit(3), file.mean);
}

#[test]
fn scores_of_every_metric() {
    let mut raw = small();
    let q = [1.0, 2.0, -3.0];
    let file = parse(&raw.write()).unwrap();
    let centred = [-9.0, -18.0, -33.0];
    let (g, f, u) = (file.gain(37), file.factor(37, &file.unit(37)), file.unit(37));
    let expected = 2.0 * g * f * dot(&centred, &u) - g * g - dot(&centred, &centred);
    assert!((file.score(&q, 37) - expected).abs() < 1e-9 * expected.abs());
    let exact = file.search_exact_metric(&q, 5);
    assert_eq!(exact[0].1, -squared_l2(&q, &file.decode(exact[0].0)));
    assert!(exact.is_sorted_by(|a, b| a.1 > b.1 || a.1 == b.1 && a.0 < b.0));
    let found = file.search(&q, 300);
    assert!(found.is_sorted_by(|a, b| a.1 > b.1 || a.1 == b.1 && a.0 < b.0));
    assert_eq!(found.len(), 300);

    raw.metric = 1;
    let file = parse(&raw.write()).unwrap();
    assert!((file.score(&q, 37) - g * f * dot(&q, &u)).abs() < 1e-9);

    raw.metric = 0;
    assert!(parse(&raw.write()).unwrap_err().contains("gain nibbles"));
    (raw.gain_nibbles, raw.gain_range) = (0, vec![]);
    let file = parse(&raw.write()).unwrap();
    assert_eq!(file.gain(0), 1.0);
    assert!((file.score(&q, 37) - f * dot(&q, &u) / 14_f64.sqrt()).abs() < 1e-9);
    assert_eq!(file.center, [0.0; 3]);
}

#[test]
fn pq8_and_one_anchor() {
    let mut raw = small();
    (raw.kind, raw.lags, raw.metric, raw.gain_nibbles) = (1, 0, 0, 0);
    raw.gain_range = vec![];
    raw.factor_levels = vec![];
    raw.charts.truncate(1);
    raw.charts[0].widths = vec![2];
    raw.charts[0].tables = vec![(0..256).map(|c| (c - 128) as i8).collect(); 2];
    raw.charts[0].anchors = vec![vec![7], vec![0]];
    raw.chart_of = vec![0];
    raw.labels = vec![0; 33];
    raw.symbols = (0..33).map(|i| vec![200 + i]).collect();
    let bytes = raw.write();
    let file = parse(&bytes).unwrap();
    assert_eq!(file.coordinates(32), [4.5 + 0.5 * 104.0, -1.0 + 0.25 * 104.0]);
    assert_eq!(file.row_at, (0..33).collect::<Vec<_>>());
    // Two blocks of one plane of 32 bytes; one cell of all rows takes none.
    assert_eq!(raw.sections()[9].2.len(), 64);
    assert!(raw.sections()[8].2.is_empty());
}
