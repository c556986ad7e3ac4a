//! Numbers packed in blocks, each with the bits its own range takes (frame of reference; Goldstein, Ramakrishnan and Shaft, 1998):
//! ids, and where strings end (docs/format.md, section 11).

use super::bits::u64_at;
use crate::error::ParseError;

/// Numbers of a block.
const BLOCK: usize = 256;
/// Bytes of a block's entry in the directory.
const ENTRY: usize = 16;

/// Packed numbers, any of which can be looked up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers<'a> {
    n: usize,
    directory: &'a [u8],
    bits: &'a [u8],
}

/// Appends `values`. At most 8 bytes and a bit each, and 16 a block.
pub(crate) fn encode(values: &[u64], out: &mut Vec<u8>) {
    let mut at = 0u64;
    for block in values.chunks(BLOCK) {
        let (base, width) = frame(block);
        out.extend_from_slice(&base.to_le_bytes());
        out.extend_from_slice(&(at << 7 | u64::from(width)).to_le_bytes());
        at += block.len() as u64 * u64::from(width);
    }
    let (mut pending, mut held) = (0u128, 0u32);
    for block in values.chunks(BLOCK) {
        let (base, width) = frame(block);
        for value in block {
            pending |= u128::from(value - base) << held;
            held += width;
            while held >= 8 {
                out.push(pending as u8);
                pending >>= 8;
                held -= 8;
            }
        }
    }
    if held > 0 {
        out.push(pending as u8);
    }
}

/// The least of some numbers and the bits that the differences from it take.
fn frame(block: &[u64]) -> (u64, u32) {
    let (lo, hi) = block.iter().fold((u64::MAX, 0), |(lo, hi), &v| (lo.min(v), hi.max(v)));
    (lo, 64 - (hi - lo).leading_zeros())
}

impl<'a> Numbers<'a> {
    /// `n` numbers in `bytes`; only that there is room for the directory is checked here.
    pub(crate) fn new(n: usize, bytes: &'a [u8], part: &'static str) -> Result<Self, ParseError> {
        let directory = n.div_ceil(BLOCK).saturating_mul(ENTRY);
        if bytes.len() < directory {
            return Err(ParseError::invalid(part, "ends before its contents do"));
        }
        let (directory, bits) = bytes.split_at(directory);
        Ok(Numbers { n, directory, bits })
    }

    fn entry(&self, block: usize) -> (u64, u64, u32) {
        let at = u64_at(self.directory, block * ENTRY + 8);
        (u64_at(self.directory, block * ENTRY), at >> 7, (at & 127) as u32)
    }

    /// Number `i`, below n. On damaged bytes the answer is any number.
    #[inline]
    pub(crate) fn get(&self, i: usize) -> u64 {
        let (base, at, width) = self.entry(i / BLOCK);
        base.wrapping_add(self.bits_at(at.saturating_add((i % BLOCK) as u64 * u64::from(width)), width.min(64)))
    }

    /// `width` bits from bit `at` on; zeros behind the end.
    #[inline]
    fn bits_at(&self, at: u64, width: u32) -> u64 {
        let from = usize::try_from(at / 8).unwrap_or(usize::MAX).min(self.bits.len());
        let mut word = [0; 16];
        let there = &self.bits[from..(from + 9).min(self.bits.len())];
        word[..there.len()].copy_from_slice(there);
        (u128::from_le_bytes(word) >> (at % 8) & ((1 << width) - 1)) as u64
    }

    /// Bytes that they take.
    pub(crate) fn len_bytes(&self) -> u64 {
        (self.directory.len() + self.bits.len()) as u64
    }

    /// Where number `i` stands: the entry of its block, and its bits.
    pub(crate) fn places(&self, i: usize) -> [std::ops::Range<u64>; 2] {
        let entry = (i / BLOCK * ENTRY) as u64;
        let (_, at, width) = self.entry(i / BLOCK);
        let at = at.saturating_add((i % BLOCK) as u64 * u64::from(width));
        let bits = self.directory.len() as u64;
        [entry..entry + ENTRY as u64, bits + at / 8..bits + at.saturating_add(u64::from(width)).div_ceil(8)]
    }

    /// All of them in order. O(n).
    pub(crate) fn iter(self) -> impl Iterator<Item = u64> + 'a {
        (0..self.n).map(move |i| self.get(i))
    }

    /// Checks every bit, so that a sequence of numbers has one form: what is wrong, if anything.
    pub(crate) fn check(&self, part: &'static str) -> Result<(), ParseError> {
        let mut end = 0u64;
        for block in 0..self.n.div_ceil(BLOCK) {
            let (base, at, width) = self.entry(block);
            let count = BLOCK.min(self.n - block * BLOCK);
            let values: Vec<u64> = (0..count).map(|i| self.get(block * BLOCK + i)).collect();
            let overflows = values.iter().any(|&v| v < base);
            if at != end || width > 64 || overflows || frame(&values) != (base, width) {
                return Err(ParseError::invalid(part, format!("block {block} is not as a writer packs it")));
            }
            end += count as u64 * u64::from(width);
        }
        let spare = if end.is_multiple_of(8) { 0 } else { self.bits.last().map_or(0, |last| last >> (end % 8)) };
        if self.bits.len() as u64 != end.div_ceil(8) || spare != 0 {
            return Err(ParseError::invalid(part, "goes on after its contents"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(values in prop::collection::vec(any::<u64>(), 0..700), shift in 0u32..64, sorted: bool) {
            let mut values: Vec<u64> = values.iter().map(|v| v >> shift).collect();
            if sorted {
                values.sort_unstable();
            }
            let mut bytes = Vec::new();
            encode(&values, &mut bytes);
            let numbers = Numbers::new(values.len(), &bytes, "IDSU").unwrap();
            numbers.check("IDSU").unwrap();
            prop_assert_eq!(numbers.iter().collect::<Vec<_>>(), values);
        }
    }

    #[test]
    fn damage_is_found_and_does_no_harm() {
        let values: Vec<u64> = (0..600).map(|i| i * i).collect();
        let mut bytes = Vec::new();
        encode(&values, &mut bytes);
        // 16, 18 and 17 bits each.
        assert_eq!(bytes.len(), 3 * 16 + (256 * 16 + 256 * 18 + 88 * 17) / 8);
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let numbers = Numbers::new(600, &bytes, "IDSU").unwrap();
            let read: Vec<u64> = numbers.iter().collect();
            // A flip within the values gives other values, which only the checksum of the section can know.
            assert!(numbers.check("IDSU").is_err() || read != values, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(Numbers::new(600, &bytes[..40], "IDSU").is_err());
        bytes.push(0);
        assert!(Numbers::new(600, &bytes, "IDSU").unwrap().check("IDSU").is_err());
    }
}
