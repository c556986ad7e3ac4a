//! Ids of rows: `docs/format.md`, section 11.

use crate::packed::{Cursor, packed_len};

/// The id of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Id {
    /// Of a file whose ids are numbers, be they the rows' own or not.
    Number(u64),
    /// Of a file whose ids are strings.
    Text(String),
}

/// `IDSU`: n numbers.
pub fn numbers(bytes: &[u8], n: usize) -> Result<Vec<Id>, String> {
    let mut at = Cursor::new("IDSU", bytes);
    let ids = packed_numbers(&mut at, n)?;
    at.end()?;
    Ok(ids.into_iter().map(Id::Number).collect())
}

/// `IDSS`: n strings.
pub fn texts(bytes: &[u8], n: usize) -> Result<Vec<Id>, String> {
    let mut at = Cursor::new("IDSS", bytes);
    let length = at.count64()?;
    let mut ends_at = Cursor::new("IDSS", at.take(length)?);
    let ends = packed_numbers(&mut ends_at, n)?;
    ends_at.end()?;
    let mut ids = Vec::new();
    let mut start = 0;
    for end in ends {
        let Some(size) = end.checked_sub(start) else {
            return Err("IDSS: the ends of the strings do not ascend".into());
        };
        let size = usize::try_from(size).map_err(|_| format!("IDSS: a string of {size} bytes"))?;
        let text = String::from_utf8(at.take(size)?.to_vec()).map_err(|_| "IDSS: not UTF-8".to_string())?;
        ids.push(Id::Text(text));
        start = end;
    }
    at.end()?;
    Ok(ids)
}

/// Packed numbers: the base and the width of every 256, then all differences.
fn packed_numbers(at: &mut Cursor<'_>, n: usize) -> Result<Vec<u64>, String> {
    let mut groups = Vec::new();
    let mut bits = 0;
    for group in 0..n.div_ceil(256) {
        let members = (n - 256 * group).min(256);
        let (base, place) = (at.u64()?, at.count64()?);
        let (start, width) = (place / 128, place % 128);
        if width > 64 {
            return Err(format!("packed numbers of {width} bits"));
        }
        if start != bits {
            return Err(format!("packed numbers start at bit {start} instead of {bits}"));
        }
        bits += members * width;
        groups.push((base, width, members));
    }
    let stream = at.take(packed_len(1, bits)?)?;
    let bit = |s: usize| u64::from(stream[s / 8] >> (s % 8) & 1);
    let mut numbers = Vec::new();
    let mut s = 0;
    for (base, width, members) in groups {
        let (mut least, mut largest) = (u64::MAX, 0);
        for _ in 0..members {
            let mut difference = 0;
            for b in 0..width {
                difference |= bit(s) << b;
                s += 1;
            }
            (least, largest) = (least.min(difference), largest.max(difference));
            let Some(number) = base.checked_add(difference) else {
                return Err("a packed number is too large".into());
            };
            numbers.push(number);
        }
        if least != 0 || (u64::BITS - largest.leading_zeros()) as usize != width {
            return Err("packed numbers have another base or width than they need".into());
        }
    }
    for s in bits..8 * stream.len() {
        if bit(s) != 0 {
            return Err("a spare bit of packed numbers is not zero".into());
        }
    }
    Ok(numbers)
}
