//! Bad bytes are an `Err`, never a panic.

use super::read::small;
use super::writer::{container, seal};
use crate::parse;

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
    for at in 64..64 + 32 * 11 {
        for flip in [1, 0x40, 0xff] {
            let mut bad = good.clone();
            bad[at] ^= flip;
            seal(&mut bad, 11);
            let _ = parse(&bad);
        }
    }
}

#[test]
fn versions_and_unknown_sections() {
    let mut file = small().write();
    file[8] = 2;
    assert!(parse(&file).unwrap_err().contains("version 2"));

    let mut sections = small().sections();
    sections.push((b"TOMB", 1, vec![]));
    assert!(parse(&container(&sections)).unwrap_err().contains("TOMB"));
    sections[11].1 = 0;
    assert!(parse(&container(&sections)).is_ok());
    sections[11].1 = 2;
    assert!(parse(&container(&sections)).unwrap_err().contains("flags"));
    sections[11] = (b"META", 1, vec![]);
    assert!(parse(&container(&sections)).unwrap_err().contains("two sections"));
    sections.truncate(10);
    assert!(parse(&container(&sections)).unwrap_err().contains("no section CODE"));
}

/// Padding between sections is zero; reserved bytes of the header too, whatever the hash says.
#[test]
fn padding_and_reserved_bytes() {
    let mut file = small().write();
    let end_of_table = 64 + 32 * 11;
    file[end_of_table] = 1;
    assert!(parse(&file).unwrap_err().contains("padding"));
    file[end_of_table] = 0;
    file[40] = 1;
    seal(&mut file, 11);
    assert!(parse(&file).unwrap_err().contains("header"));
}

/// Labels, cells and samples must tell the same story.
#[test]
fn disagreeing_cells_are_refused() {
    let mut raw = small();
    let cell = raw.sections()[5].2.clone();
    raw.labels[0] = 2;
    let mut sections = raw.sections();
    let slct = sections[9].2.clone();
    sections[5].2 = cell;
    assert!(parse(&container(&sections)).unwrap_err().contains("LABL"));

    let mut sections = small().sections();
    assert_ne!(sections[9].2, slct);
    sections[9].2 = slct;
    assert!(parse(&container(&sections)).unwrap_err().contains("SLCT"));
    sections[9].2.clear();
    assert!(parse(&container(&sections)).is_err());
}
