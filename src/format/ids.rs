//! Ids of rows that are not their numbers (docs/format.md, section 11).

use super::{
    bits::u64_at,
    numbers::{self, Numbers},
};
use crate::{error::ParseError, ids::IdsKind};

/// The ids of the rows of a segment, in the order of their numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ids<'a> {
    Numbers(Numbers<'a>),
    /// Where each string ends, and all of them one behind the other.
    Text(Numbers<'a>, &'a [u8]),
}

/// Section `IDSU`.
pub(crate) fn numbers_bytes(ids: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    numbers::encode(ids, &mut out);
    out
}

/// Section `IDSS`.
pub(crate) fn text_bytes<'a>(ids: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let (mut ends, mut text) = (Vec::new(), Vec::new());
    for id in ids {
        text.extend_from_slice(id.as_bytes());
        ends.push(text.len() as u64);
    }
    let mut out = vec![0; 8];
    numbers::encode(&ends, &mut out);
    let len = out.len() as u64 - 8;
    out[..8].copy_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&text);
    out
}

impl crate::ids::Ids {
    /// The section that holds them.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            crate::ids::Ids::Numbers(ids) => numbers_bytes(ids),
            crate::ids::Ids::Text(ids) => text_bytes(ids.iter().map(String::as_str)),
        }
    }
}

impl<'a> Ids<'a> {
    pub(crate) fn new(kind: IdsKind, n: usize, bytes: &'a [u8]) -> Result<Ids<'a>, ParseError> {
        if kind == IdsKind::Numbers {
            return Ok(Ids::Numbers(Numbers::new(n, bytes, "IDSU")?));
        }
        let short = || ParseError::invalid("IDSS", "ends before its contents do");
        let rest = bytes.get(8..).ok_or_else(short)?;
        let len = usize::try_from(u64_at(bytes, 0)).ok().filter(|&len| len <= rest.len()).ok_or_else(short)?;
        let (ends, text) = rest.split_at(len);
        Ok(Ids::Text(Numbers::new(n, ends, "IDSS")?, text))
    }

    /// The id of row `i` as a number; `None` where ids are strings.
    pub(crate) fn number(&self, i: usize) -> Option<u64> {
        match self {
            Ids::Numbers(numbers) => Some(numbers.get(i)),
            Ids::Text(..) => None,
        }
    }

    /// The id of row `i` as a string; `None` where ids are numbers. On a damaged file any string.
    pub(crate) fn text(&self, i: usize) -> Option<&'a str> {
        let Ids::Text(ends, text) = self else { return None };
        let from = if i == 0 { 0 } else { ends.get(i - 1) };
        let bytes = usize::try_from(from).ok().zip(usize::try_from(ends.get(i)).ok());
        let bytes = bytes.and_then(|(from, to)| text.get(from..to)).unwrap_or_default();
        Some(std::str::from_utf8(bytes).unwrap_or_default())
    }

    /// Whether the id of row `i` lies in some of these parts of its section.
    pub(crate) fn touches(&self, i: usize, parts: &[std::ops::Range<u64>]) -> bool {
        let hit = |range: std::ops::Range<u64>| {
            range.start < range.end && parts.iter().any(|part| part.start < range.end && range.start < part.end)
        };
        let of_number = |numbers: &Numbers<'_>, from: u64, i: usize| {
            numbers.places(i).into_iter().any(|place| hit(place.start + from..place.end + from))
        };
        match self {
            Ids::Numbers(numbers) => of_number(numbers, 0, i),
            Ids::Text(ends, _) => {
                let text = 8 + ends.len_bytes();
                let from = if i == 0 { 0 } else { ends.get(i - 1) };
                hit(0..8)
                    || of_number(ends, 8, i)
                    || (i > 0 && of_number(ends, 8, i - 1))
                    || hit(text.saturating_add(from)..text.saturating_add(ends.get(i)))
            }
        }
    }

    /// Checks every byte.
    pub(crate) fn check(&self) -> Result<(), ParseError> {
        match self {
            Ids::Numbers(numbers) => numbers.check("IDSU"),
            Ids::Text(ends, text) => {
                ends.check("IDSS")?;
                let mut from = 0;
                for end in ends.iter() {
                    let id = usize::try_from(end).ok().and_then(|end| text.get(from..end));
                    if id.is_none_or(|id| std::str::from_utf8(id).is_err()) {
                        return Err(ParseError::invalid("IDSS", "an id is not UTF-8 text, or out of place"));
                    }
                    from = end as usize;
                }
                if from == text.len() {
                    Ok(())
                } else {
                    Err(ParseError::invalid("IDSS", "goes on after its contents"))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_come_back() {
        let ids = ["", "a", "läuft", "", "doc/42#7"];
        let bytes = text_bytes(ids.into_iter());
        let read = Ids::new(IdsKind::Text, ids.len(), &bytes).unwrap();
        read.check().unwrap();
        assert_eq!((0..ids.len()).map(|i| read.text(i).unwrap()).collect::<Vec<_>>(), ids);
        assert_eq!(read.number(0), None);
    }

    #[test]
    fn damage_does_no_harm() {
        let ids: Vec<String> = (0..300).map(|i| format!("row-{i}")).collect();
        let mut bytes = text_bytes(ids.iter().map(String::as_str));
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(read) = Ids::new(IdsKind::Text, 300, &bytes) {
                let same = (0..300).all(|i| read.text(i) == Some(&ids[i]));
                assert!(!same || read.check().is_err(), "bit {bit}");
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for len in 0..bytes.len() {
            if let Ok(read) = Ids::new(IdsKind::Text, 300, &bytes[..len]) {
                assert!(read.check().is_err(), "{len} bytes");
            }
        }
    }
}
