//! Bad bytes are an `Err`, never a panic.

use super::{
    read::small,
    writer::{container, seal},
};
use crate::{header::VERSION, parse, rows::cell_bytes};

/// Every byte of a file is a field, is hashed, or must be zero.
#[test]
fn no_byte_can_change_and_none_can_go() {
    let good = small().write();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(parse(&bad).is_err(), "byte {at} changed unnoticed");
        assert!(parse(&good[..at]).is_err(), "cut at {at} unnoticed");
    }
    let mut longer = good.clone();
    longer.push(0);
    assert!(parse(&longer).is_err());
}

/// With the hashes made right again every section is parsed from wrong bytes: whatever comes
/// out, nothing panics.
#[test]
fn wrong_contents_do_not_panic() {
    let good = small().sections();
    let mut refused = 0;
    for s in 0..good.len() {
        for at in 0..good[s].2.len() {
            for flip in [1, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[s].2[at] ^= flip;
                refused += usize::from(parse(&container(&bad)).is_err());
            }
        }
        let mut short = good.clone();
        if short[s].2.pop().is_some() && short[s].0 != b"XTRA" {
            assert!(parse(&container(&short)).is_err(), "section {s} cut unnoticed");
        }
        let mut long = good.clone();
        long[s].2.push(0);
        assert_eq!(parse(&container(&long)).is_ok(), long[s].0 == b"XTRA");
    }
    assert!(refused > 1000, "{refused}");
}

/// The same for every byte of the section table.
#[test]
fn wrong_tables_do_not_panic() {
    let good = small().write();
    for at in 64..64 + 32 * 10 {
        for flip in [1, 0x40, 0xff] {
            let mut bad = good.clone();
            bad[at] ^= flip;
            seal(&mut bad, 10);
            let _ = parse(&bad);
        }
    }
}

#[test]
fn versions_and_unknown_sections() {
    let mut file = small().write();
    file[8] = VERSION as u8 + 1;
    assert!(parse(&file).unwrap_err().contains(&format!("version {},", VERSION + 1)));

    let mut sections = small().sections();
    sections.push((b"MORE", 1, vec![]));
    assert!(parse(&container(&sections)).unwrap_err().contains("MORE"));
    sections[10].1 = 0;
    assert!(parse(&container(&sections)).is_ok());
    sections[10].0 = b"TOMB";
    assert!(parse(&container(&sections)).unwrap_err().contains("TOMB"));
    sections[10].1 = 2;
    assert!(parse(&container(&sections)).unwrap_err().contains("flags"));
    sections[10] = (b"META", 1, vec![]);
    assert!(parse(&container(&sections)).unwrap_err().contains("two sections"));
    sections.truncate(9);
    assert!(parse(&container(&sections)).unwrap_err().contains("no section CODE"));
}

/// Padding between sections is zero; reserved bytes of the header too, whatever the hash says.
#[test]
fn padding_and_reserved_bytes() {
    let mut file = small().write();
    // Behind META of 128 bytes and MEAN of 24, which start where the table ends.
    let padding = 64 + 32 * 10 + 128 + 24;
    file[padding] = 1;
    assert!(parse(&file).unwrap_err().contains("padding"));
    file[padding] = 0;
    file[40] = 1;
    seal(&mut file, 10);
    assert!(parse(&file).unwrap_err().contains("header"));
}

/// Every row stands in one cell, once.
#[test]
fn disagreeing_cells_are_refused() {
    let mut raw = small();
    let cell = raw.sections()[5].2.clone();
    raw.labels[0] = 2;
    let mut sections = raw.sections();
    sections[5].2 = cell;
    assert!(parse(&container(&sections)).unwrap_err().contains("ROWS"));

    // The same number of rows in each cell, but row 1 in two of them and row 0 in none.
    let n = raw.labels.len();
    let with = |label: u32| -> Vec<usize> { (0..n).filter(|i| small().labels[*i] == label).collect() };
    let mut first = with(0);
    let cells = |first: &[usize]| [cell_bytes(n, first), cell_bytes(n, &with(1)), cell_bytes(n, &with(2))].concat();
    let mut sections = small().sections();
    assert_eq!(sections[8].2, cells(&first));
    first[0] = 1;
    sections[8].2 = cells(&first);
    assert!(parse(&container(&sections)).unwrap_err().contains("twice"));
}

/// Every bit of the rows of a cell matters, samples included.
#[test]
fn no_bit_of_a_cell_can_change() {
    let mut raw = small();
    let n = 3000;
    raw.labels = (0..n).map(|i| if i * i % 3 == 0 { 0 } else { 2 }).collect();
    raw.symbols = vec![vec![0; 3]; n as usize];
    (raw.factor_codes, raw.gain_codes) = (vec![0; n as usize], vec![0; n as usize]);
    let good = raw.sections();
    let file = parse(&container(&good)).unwrap();
    assert_eq!(file.cells, [0, 1000, 1000, 3000]);
    assert_eq!((file.row_at[333], file.row_at[1001]), (999, 2));
    // l = 1 with an upper string of 1000 + 1499 bits, l = 0 with one of 2000 + 2999.
    assert_eq!(good[8].2.len(), 3499_usize.div_ceil(8) + 4 + 4999_usize.div_ceil(8));
    for bit in 0..8 * good[8].2.len() {
        let mut bad = good.clone();
        bad[8].2[bit / 8] ^= 1 << (bit % 8);
        assert!(parse(&container(&bad)).unwrap_err().contains("ROWS"), "bit {bit}");
    }
}
