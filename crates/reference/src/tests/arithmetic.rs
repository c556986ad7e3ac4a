//! Packed integers, distances, k-means, water-filling and chain codes.

use crate::{
    chain::{Code, CodeKind, decode, encode_exhaustive, error},
    distance::{Metric, largest, nearest, recall, top_k},
    kmeans::{energy, reduce},
    packed::{pack, unpack},
    waterfill::{distortion, level, rates},
};

#[test]
fn packed_integers() {
    // 101, 011 and 110, each low bit first: 101 110 01|1, read from bit 0 of byte 0 on.
    assert_eq!(pack(&[5, 3, 6], 3), [0b1001_1101, 0b1]);
    assert_eq!(unpack(&[0b1001_1101, 0b1], 3, 3).unwrap(), [5, 3, 6]);
    assert!(unpack(&[0b1001_1101, 0b11], 3, 3).unwrap_err().contains("spare"));
    assert_eq!(unpack(&[], 0, 4).unwrap(), [0; 4]);
    assert_eq!(unpack(&[], 7, 0).unwrap(), []);
    assert!(unpack(&[0], 0, 4).is_err());
    assert!(unpack(&[0; 3], 17, 1).is_err());
    assert!(unpack(&[], 16, usize::MAX).is_err());
    for bits in 0..=16 {
        let mask = (1_u32 << bits) - 1;
        let values: Vec<u32> = (0..37).map(|i: u32| i.wrapping_mul(0x9E37_79B9) >> 7 & mask).collect();
        let ends = [vec![mask, 0, mask], values].concat();
        assert_eq!(unpack(&pack(&ends, bits), bits, ends.len()).unwrap(), ends);
    }
}

#[test]
fn nearest_neighbours_and_recall() {
    let anchors = [0.0, 0.0, 2.0, 0.0, 2.0, 0.0];
    let (labels, distances) = nearest(&[1.0, 0.0, 1.5, 1.0], &anchors, 2);
    assert_eq!((labels, distances), (vec![0, 1], vec![1.0, 1.25]));
    let rows = [3.0, 0.0, 0.0, 1.0, 1.0, 1.0, 2.0, 0.0];
    let ids = |metric| top_k(&rows, &[1.0, 0.0], metric, 3).iter().map(|r| r.0).collect::<Vec<_>>();
    assert_eq!(ids(Metric::Cosine), [0, 3, 2]);
    assert_eq!(ids(Metric::Dot), [0, 3, 2]);
    assert_eq!(ids(Metric::L2), [2, 3, 1]);
    let order = largest(&[f64::NAN, -0.0, 0.0, 1.0], 9);
    assert_eq!(order.iter().map(|r| r.0).collect::<Vec<_>>(), [3, 1, 2, 0]);
    assert_eq!(recall(&[4, 1, 9], &[1, 2, 4], 3), 2.0 / 3.0);
    assert_eq!(recall(&[4, 1, 9], &[1, 2, 4], 1), 0.0);
    assert_eq!(recall(&[1, 1, 1], &[1, 2, 4], 3), 1.0 / 3.0);
}

#[test]
fn cells_drop_their_farthest_rows() {
    let rows = [0.0, 1.0, -1.0, 10.0, 5.0];
    let anchors = [0.0, 6.0, 8.0];
    let labels = [0, 0, 0, 0, 1];
    // floor(0.6 * 4) = 2: row 3, then row 2, equally far as row 1 but of a higher number.
    let cells = reduce(&rows, &labels, &anchors, 1, 0.6);
    assert_eq!(cells.mean, [0.5, 5.0, 8.0]);
    assert_eq!(cells.variance, [102.0 / 4.0, 1.0, 0.0]);
    assert_eq!(cells.count, [4, 1, 0]);
    assert_eq!(energy(&rows, &labels, &anchors, 1), 103.0 / 5.0);
    assert_eq!(reduce(&rows, &labels, &anchors, 1, 1.0).mean, anchors);
}

#[test]
fn water_filling_spends_the_rate() {
    let variances = [4.0, 1.0, 0.25, 1e-9, 0.0];
    for total in [0.0, 0.5, 3.0, 40.0] {
        let theta = level(&variances, total);
        let sum: f64 = rates(&variances, theta).iter().sum();
        assert!((sum - total).abs() < 1e-9, "{sum} bits for {total}");
    }
    // 3 bits on 4 and 1: theta with 1/2 log2(4 / theta^2) = 3 would be 1/4, the third variance.
    assert!((level(&variances, 3.0) - 0.25).abs() < 1e-12);
    assert_eq!(distortion(&variances, 0.25), 0.75 + 1e-9);
    assert_eq!(level(&[0.0, 0.0], 5.0), 0.0);
    assert_eq!(rates(&[0.0, 0.0], 0.0), [0.0, 0.0]);
}

/// Three directions in two subspaces of a chain of one lag, with numbers in no order.
fn chain() -> Code {
    let entry = |j: usize, i: usize| ((i * 37 + j * 11) % 23) as f64 - 11.0;
    Code {
        kind: CodeKind::Chain,
        lags: 1,
        widths: vec![1, 2, 0],
        tables: (0..3).map(|j| (0..32).map(|i| entry(j, i)).collect()).collect(),
    }
}

#[test]
fn exhaustive_encoding_finds_the_best_sequence() {
    let (code, anchor) = (chain(), [0.5, -0.5, 1.0]);
    let y = decode(&code, &anchor, &[7, 2, 0]);
    assert_eq!(y[0], anchor[0] + code.tables[0][7]);
    assert_eq!(y[2], anchor[2] + code.tables[2][2] + code.tables[2][16 + 7]);
    // The last symbol changes nothing, so its lowest value wins.
    let (symbols, at_code) = encode_exhaustive(&code, &anchor, &y);
    assert_eq!((decode(&code, &anchor, &symbols), at_code, symbols[2]), (y, 0.0, 0));

    let target = [3.3, -4.1, 0.7];
    let (best, least) = encode_exhaustive(&code, &anchor, &target);
    assert_eq!(error(&code, &anchor, &target, &best), least);
    for c0 in 0..16 {
        for c1 in 0..16 {
            assert!(error(&code, &anchor, &target, &[c0, c1, 9]) >= least);
        }
    }
    let none = Code { widths: vec![], tables: vec![], ..code };
    assert_eq!(encode_exhaustive(&none, &[], &[]), (vec![], 0.0));
}
