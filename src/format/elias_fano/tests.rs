//! Sequences of every shape, sound and damaged.

use proptest::prelude::*;

use super::*;

fn layout_of(n: u64, rows: &[u64]) -> (Layout, Vec<u8>) {
    let layout = Layout::new(n, rows.len() as u64);
    let mut bytes = Vec::new();
    encode(n, rows, &mut bytes);
    assert_eq!(bytes.len() as u64, layout.bytes());
    (layout, bytes)
}

/// Everything a sequence can be asked, against the rows themselves.
fn assert_comes_back(n: u64, rows: &[u64], seeks: &[u64]) {
    let (layout, bytes) = layout_of(n, rows);
    let sequence = Sequence::new(layout, &bytes);
    sequence.check().unwrap();
    for (member, &row) in rows.iter().enumerate() {
        assert_eq!(sequence.get(member as u64), row, "member {member} of {rows:?} below {n}");
    }
    for &from in seeks.iter().chain(rows).chain(&[0, n - 1, n]) {
        let first = rows.partition_point(|&row| row < from);
        let mut cursor = sequence.seek(from);
        for (member, &row) in rows.iter().enumerate().skip(first).take(70) {
            assert_eq!((cursor.row, cursor.member), (row, member as u64), "from {from} of {rows:?} below {n}");
            sequence.advance(&mut cursor);
        }
        if rows.len() - first < 70 {
            assert_eq!((cursor.row, cursor.member), (NONE, rows.len() as u64));
        }
    }
}

fn ascending(n: u64, some: &[u64]) -> Vec<u64> {
    let mut rows: Vec<u64> = some.iter().map(|v| v % n).collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}

proptest! {
    #[test]
    fn sequences_come_back(
        n in 1u64..5000,
        some in prop::collection::vec(any::<u64>(), 0..3000),
        seeks in prop::collection::vec(0u64..5000, 10),
    ) {
        assert_comes_back(n, &ascending(n, &some), &seeks);
    }

    #[test]
    fn sequences_below_any_n_come_back(
        bits in 1u32..=40,
        below in 0u64..1000,
        some in prop::collection::vec(any::<u64>(), 0..60),
        seeks in prop::collection::vec(any::<u64>(), 10),
    ) {
        let n = ((1 << bits) - below.min(1 << (bits - 1))).max(1);
        let seeks: Vec<u64> = seeks.iter().map(|s| s % n).collect();
        assert_comes_back(n, &ascending(n, &some), &seeks);
    }

    #[test]
    fn the_low_bits_are_those_of_fewest_bits(n in 2u64..1 << 40, share in 0.0f64..1.0) {
        let members = (share.powi(8) * n as f64).ceil().clamp(1.0, n as f64 - 1.0) as u64;
        let bits = |low: u32| members * u64::from(low + 1) + ((n - 1) >> low);
        let least = (0..=40).min_by_key(|&low| bits(low)).unwrap();
        let layout = Layout::new(n, members);
        prop_assert_eq!(layout.low_bits, least);
        prop_assert_eq!(layout.upper + members * u64::from(least), bits(least));
        prop_assert!(layout.upper <= 3 * members);
    }

    #[test]
    fn cells_of_any_sizes_fit_the_bound(sizes in prop::collection::vec(0u64..40_000, 1..50)) {
        let n = sizes.iter().sum::<u64>().max(1);
        let total: u64 = sizes.iter().map(|&m| Layout::new(n, m).bytes()).sum();
        prop_assert!(total <= bytes_at_most(n, sizes.len() as u64));
    }

    #[test]
    fn any_bytes_give_rows_or_are_refused(
        n in 2u64..100_000,
        members in 1u64..3000,
        seed in any::<u64>(),
        density in 0u32..4,
    ) {
        let members = members.min(n);
        let layout = Layout::new(n, members);
        let mut state = seed;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        };
        let bytes: Vec<u8> =
            (0..layout.bytes()).map(|_| (0..density).fold(random(), |byte, _| byte & random())).collect();
        let sequence = Sequence::new(layout, &bytes);
        let rows: Vec<u64> = (0..members).map(|member| sequence.get(member)).collect();
        prop_assert!(rows.iter().all(|&row| row < n));
        for from in [0, n / 2, n - 1] {
            let mut cursor = sequence.seek(from);
            let mut seen = 0;
            while cursor.row != NONE {
                prop_assert!(cursor.row < n && cursor.member < members && seen < members);
                seen += 1;
                sequence.advance(&mut cursor);
            }
        }
        if sequence.check().is_ok() {
            prop_assert!(rows.windows(2).all(|w| w[0] < w[1]));
            prop_assert_eq!(layout_of(n, &rows).1, bytes);
        }
    }
}

#[test]
fn extreme_sequences_come_back() {
    let large = 1u64 << 40;
    let dense: Vec<u64> = (0..9999).collect();
    let late: Vec<u64> = (0..5000).map(|i| large - 5000 + i).collect();
    let apart: Vec<u64> = (0..5000).map(|i| if i < 2500 { i } else { large - 5000 + i }).collect();
    for (n, rows) in [
        (1, vec![0]),
        (2, vec![1]),
        (10_000, (0..10_000).collect()),
        (10_000, dense.clone()),
        (10_000, dense.iter().map(|row| row + 1).collect()),
        (20_000, dense.iter().map(|row| 2 * row + 1).collect()),
        ((1 << 32) + 1, dense),
        (large, vec![large - 1]),
        (large, late),
        (large, apart),
    ] {
        assert_comes_back(n, &rows, &[n / 3, n / 2]);
    }
}

/// A few dozen words at most are looked through, so every bit of a small sequence can be tried.
#[test]
fn every_flipped_bit_is_found_unless_it_is_another_sequence() {
    for (n, rows) in [(9000, (0..1200).map(|i| i * i % 7 + 7 * i).collect::<Vec<u64>>()), (50, vec![3, 4, 49])] {
        let (layout, good) = layout_of(n, &rows);
        for bit in 0..8 * good.len() {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let sequence = Sequence::new(layout, &bad);
            let found: Vec<u64> = (0..rows.len() as u64).map(|member| sequence.get(member)).collect();
            assert!(found.iter().all(|&row| row < n));
            assert!(sequence.check().is_err() || found != rows, "bit {bit}");
        }
    }
}

/// Sizes worked out by hand from docs/format.md, section 8: 2^20 members below 2^32 take 11 low bits, an upper string of 3,145,727 and
/// 767 samples of 4 bytes; one number more, and samples take 8.
#[test]
fn samples_take_more_beyond_2_to_the_32() {
    assert_eq!(Layout::new(1 << 32, 1 << 20).bytes(), 767 * 4 + 1_835_008);
    assert_eq!(Layout::new((1 << 32) + 1, 1 << 20).bytes(), 767 * 8 + 1_835_008);
}

/// The bound that sizes are planned with holds for cells of any sizes, and lies close to what even ones take.
#[test]
fn the_bound_on_all_cells_is_close() {
    for (n, cells) in [(1000u64, 2u64), (4096, 64), (70_000, 9), (100_000, 256), (1 << 26, 1024)] {
        let even = cells * Layout::new(n, n / cells).bytes();
        let (large, small) = (n - n / 4, n / 4 / (cells - 1));
        let uneven = Layout::new(n, large).bytes() + (cells - 1) * Layout::new(n, small).bytes();
        let bound = bytes_at_most(n, cells);
        assert!(uneven <= bound && even <= bound, "{n} rows, {cells} cells: {even}, {uneven}, at most {bound}");
        assert!(bound <= even + even / 100 + 2 * cells, "{n} rows, {cells} cells: {even}, at most {bound}");
    }
    assert_eq!((bytes_at_most(1000, 1), bytes_at_most(1000, 0)), (0, 0));
}
