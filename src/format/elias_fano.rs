//! Ascending numbers in about two bits more than log2 of their mean distance (Elias, 1974; Fano, 1971; Vigna, 2013, for
//! searching them in place): docs/format.md, section 8.

use super::bits::{u32_at, u64_at};

/// Bits of the upper string between two samples: what one search looks through at most.
const SAMPLED: u64 = 4096;
/// The row of a cursor behind the last member.
const NONE: u64 = u64::MAX;

/// How the row numbers of a cell are laid out. It follows from the rows of the file and of the cell alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    n: u64,
    members: u64,
    low_bits: u32,
    /// Bits of the upper string.
    upper: u64,
}

impl Layout {
    /// For `members` numbers below n.
    pub(crate) fn new(n: u64, members: u64) -> Layout {
        if members == 0 || members == n {
            return Layout { n, members, low_bits: 0, upper: 0 };
        }
        let last = n - 1;
        // Going from l to l + 1 low bits costs a bit a member and saves half of `last >> l`, rounded up: it pays until
        // that is at most 2 members, and the gain only falls, so the first such l has the fewest bits.
        let mut low_bits = last.ilog2().saturating_sub((2 * members).ilog2());
        low_bits += u32::from(last >> low_bits > 2 * members);
        Layout { n, members, low_bits, upper: members + (last >> low_bits) }
    }

    /// Bytes of the cell.
    pub(crate) fn bytes(&self) -> u64 {
        let bits = self.upper + self.members * u64::from(self.low_bits);
        self.samples() * self.sample_bytes() + bits.div_ceil(8)
    }

    fn samples(&self) -> u64 {
        self.upper.saturating_sub(1) / SAMPLED
    }

    fn sample_bytes(&self) -> u64 {
        if self.n <= 1 << 32 { 4 } else { 8 }
    }

    fn is_identity(&self) -> bool {
        self.members == self.n
    }
}

/// Bytes of the row numbers of `cells` cells of together n rows, whatever their sizes: at most.
pub(crate) fn bytes_at_most(n: u64, cells: u64) -> u64 {
    if cells <= 1 {
        return 0;
    }
    // Each cell has the low bits that suit it, so together they take no more than with any one number for all.
    let bits = |low: u32| n * u64::from(low + 1) + cells * ((n - 1) >> low);
    let least = (0..=40).map(bits).min().unwrap_or(0);
    // An upper string has at most 3 bits a member.
    least.div_ceil(8) + cells + 3 * n / SAMPLED * Layout::new(n, 0).sample_bytes()
}

/// Appends a cell's ascending row numbers, each below n.
pub(crate) fn encode(n: u64, rows: &[u64], out: &mut Vec<u8>) {
    encode_each(n, rows.len() as u64, rows.iter().copied(), out);
}

/// The same for `members` numbers that are not kept.
pub(crate) fn encode_each(n: u64, members: u64, rows: impl Iterator<Item = u64> + Clone, out: &mut Vec<u8>) {
    let layout = Layout::new(n, members);
    let start = out.len();
    out.resize(start + layout.bytes() as usize, 0);
    if layout.is_identity() {
        return;
    }
    let width = layout.sample_bytes() as usize;
    let (samples, bits) = out[start..].split_at_mut(layout.samples() as usize * width);
    let places = rows.clone().zip(0..).map(|(row, member)| (row >> layout.low_bits) + member);
    for (member, (row, place)) in rows.zip(places.clone()).enumerate() {
        bits[(place / 8) as usize] |= 1 << (place % 8);
        let at = layout.upper + member as u64 * u64::from(layout.low_bits);
        let low = (row & ((1 << layout.low_bits) - 1)) << (at % 8);
        for (byte, low) in bits[(at / 8) as usize..].iter_mut().zip(low.to_le_bytes()) {
            *byte |= low;
        }
    }
    let mut before = places.zip(1u64..).peekable();
    let mut ones = 0;
    for (sample, at) in samples.chunks_exact_mut(width).zip((SAMPLED..).step_by(SAMPLED as usize)) {
        while let Some((_, number)) = before.next_if(|(place, _)| *place < at) {
            ones = number;
        }
        sample.copy_from_slice(&ones.to_le_bytes()[..width]);
    }
}

/// The ascending row numbers of a cell. On damaged bytes every answer is some row below n, after bounded work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sequence<'a> {
    layout: Layout,
    samples: &'a [u8],
    /// The upper string, then the low bits.
    bits: &'a [u8],
}

/// A place in a sequence: a member, and where its bit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The member's row; larger than any behind the last.
    pub(crate) row: u64,
    pub(crate) member: u64,
    at: u64,
}

impl Cursor {
    /// Whether it is behind the last member.
    pub(crate) fn is_behind(&self) -> bool {
        self.row == NONE
    }
}

impl<'a> Sequence<'a> {
    /// The sequence in `bytes`, as many as its layout says.
    pub(crate) fn new(layout: Layout, bytes: &'a [u8]) -> Self {
        let (samples, bits) = bytes.split_at((layout.samples() * layout.sample_bytes()) as usize);
        Sequence { layout, samples, bits }
    }

    /// The row of a member. At most log2 of the samples and [`SAMPLED`] bits are looked at.
    #[inline]
    pub(crate) fn get(&self, member: u64) -> u64 {
        if self.layout.is_identity() {
            return member.min(self.layout.n - 1);
        }
        self.value(member, self.select::<true>(member))
    }

    /// The first member whose row is not below `row`.
    pub(crate) fn seek(&self, row: u64) -> Cursor {
        let Layout { n, members, low_bits, upper } = self.layout;
        if row >= n || members == 0 {
            return Cursor { row: NONE, member: members, at: upper };
        }
        if self.layout.is_identity() {
            return Cursor { row, member: row, at: 0 };
        }
        // The members of equal high bits stand between two zeros.
        let high = row >> low_bits;
        let from = if high == 0 { 0 } else { (self.select::<false>(high - 1) + 1).min(upper) };
        let mut cursor = self.settle(from.saturating_sub(high), from);
        while cursor.row < row {
            self.advance(&mut cursor);
        }
        cursor
    }

    /// Moves to the next member.
    #[inline]
    pub(crate) fn advance(&self, cursor: &mut Cursor) {
        *cursor = self.settle(cursor.member + 1, cursor.at + 1);
    }

    /// The member whose bit is the first at `from` or behind it.
    #[inline]
    fn settle(&self, member: u64, from: u64) -> Cursor {
        let Layout { n, members, upper, .. } = self.layout;
        let none = Cursor { row: NONE, member: members, at: upper };
        if member >= members {
            return none;
        }
        if members == n {
            return Cursor { row: member, member, at: 0 };
        }
        let mut at = from;
        while at < upper {
            let word = word_at(self.bits, at / 64 * 8) >> (at % 64);
            if word != 0 {
                at += u64::from(word.trailing_zeros());
                // What stands behind the upper string are low bits.
                return if at < upper { Cursor { row: self.value(member, at), member, at } } else { none };
            }
            at = (at / 64 + 1) * 64;
        }
        none
    }

    /// The row of the member whose bit stands at `at`.
    #[inline]
    fn value(&self, member: u64, at: u64) -> u64 {
        self.read(member, at).min(self.layout.n - 1)
    }

    /// The same as it is written, which on damaged bytes may be n or more.
    #[inline]
    fn read(&self, member: u64, at: u64) -> u64 {
        let Layout { low_bits, upper, .. } = self.layout;
        let from = upper + member * u64::from(low_bits);
        // At most 40 + 7 bits: a word holds them.
        let low = word_at(self.bits, from / 8) >> (from % 8) & ((1 << low_bits) - 1);
        at.saturating_sub(member) << low_bits | low
    }

    /// Ones of the upper string before block `block` of [`SAMPLED`] bits.
    #[inline]
    fn ones_before(&self, block: u64) -> u64 {
        let Some(sample) = block.checked_sub(1) else { return 0 };
        match self.layout.sample_bytes() {
            4 => u32_at(self.samples, 4 * sample as usize).into(),
            _ => u64_at(self.samples, 8 * sample as usize),
        }
    }

    /// Where in the upper string the one (or zero) number `rank` stands, counted from 0.
    #[inline]
    fn select<const ONE: bool>(&self, rank: u64) -> u64 {
        let before = |block: u64| {
            let ones = self.ones_before(block);
            if ONE { ones } else { (block * SAMPLED).saturating_sub(ones) }
        };
        let (mut block, mut behind) = (0, self.layout.samples() + 1);
        while behind - block > 1 {
            let middle = block + (behind - block) / 2;
            if before(middle) <= rank {
                block = middle;
            } else {
                behind = middle;
            }
        }
        let mut left = rank.saturating_sub(before(block));
        let mut at = block * SAMPLED;
        let end = (at + SAMPLED).min(self.layout.upper);
        while at < end {
            let word = word_at(self.bits, at / 8);
            let word = if ONE { word } else { !word };
            let ones = u64::from(word.count_ones());
            if left < ones {
                // Beyond the end on damaged bytes only.
                return (at + select_in_word(word, left as u32)).min(end);
            }
            left -= ones;
            at += 64;
        }
        end
    }

    /// Checks every bit: what is wrong, if anything.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        self.check_bits()?;
        let mut ascent = self.ascend();
        ascent.until(self.layout.n, |_| {})?;
        ascent.end()
    }

    /// Checks all but that the rows ascend below n: samples, the number of ones, spare bits.
    pub(crate) fn check_bits(&self) -> Result<(), &'static str> {
        let Layout { members, low_bits, upper, .. } = self.layout;
        if members == 0 || self.layout.is_identity() {
            return Ok(());
        }
        let mut ones = 0;
        for at in (0..upper).step_by(64) {
            if at > 0 && at % SAMPLED == 0 && self.ones_before(at / SAMPLED) != ones {
                return Err("a sample is not the number of ones before it");
            }
            ones += u64::from(self.upper_word(at).count_ones());
        }
        if ones != members {
            return Err("the ones are not as many as the cell has rows");
        }
        let used = upper + members * u64::from(low_bits);
        if used % 8 != 0 && self.bits.last().is_some_and(|last| last >> (used % 8) != 0) {
            return Err("spare bits are not zero");
        }
        Ok(())
    }

    /// Starts before the first row, for whoever checks all of them.
    pub(crate) fn ascend(&self) -> Ascent<'a> {
        // The rows of a cell of all rows need no look.
        let member = if self.layout.is_identity() { self.layout.members } else { 0 };
        Ascent { sequence: *self, member, base: 0, ones: self.upper_word(0), least: 0 }
    }

    /// The 64 bits of the upper string from `at`, a multiple of 64; zeros behind its end.
    #[inline]
    fn upper_word(&self, at: u64) -> u64 {
        let spare = 64 - self.layout.upper.saturating_sub(at).min(64);
        word_at(self.bits, at / 8).checked_shl(spare as u32).map_or(0, |word| word >> spare)
    }
}

/// Goes through all rows of a sequence in order, checking them, a word of the upper string at a time.
#[derive(Debug, Clone)]
pub(crate) struct Ascent<'a> {
    sequence: Sequence<'a>,
    member: u64,
    /// Where in the upper string `ones` stands, a multiple of 64.
    base: u64,
    /// What is left of a word of the upper string.
    ones: u64,
    /// The next row is not below this.
    least: u64,
}

impl Ascent<'_> {
    /// Gives the rows below `end` that were not given yet.
    #[inline]
    pub(crate) fn until(&mut self, end: u64, mut each: impl FnMut(u64)) -> Result<(), &'static str> {
        let Layout { members, upper, .. } = self.sequence.layout;
        while self.member < members {
            while self.ones == 0 {
                self.base += 64;
                if self.base >= upper {
                    return Ok(());
                }
                self.ones = self.sequence.upper_word(self.base);
            }
            let row = self.sequence.read(self.member, self.base + u64::from(self.ones.trailing_zeros()));
            if row < self.least {
                return Err(DESCENDS);
            }
            if row >= end {
                return Ok(());
            }
            each(row);
            self.least = row + 1;
            self.member += 1;
            self.ones &= self.ones - 1;
        }
        Ok(())
    }

    /// Whether all rows were given once [`Ascent::until`] went to n.
    pub(crate) fn end(&self) -> Result<(), &'static str> {
        if self.member < self.sequence.layout.members { Err(DESCENDS) } else { Ok(()) }
    }
}

const DESCENDS: &str = "its rows do not ascend below n";

/// The eight bytes from `at`, zeros where there are none.
#[inline]
fn word_at(bytes: &[u8], at: u64) -> u64 {
    let rest = bytes.get(at as usize..).unwrap_or(&[]);
    if let Some(word) = rest.first_chunk() {
        return u64::from_le_bytes(*word);
    }
    let mut word = [0; 8];
    word[..rest.len()].copy_from_slice(rest);
    u64::from_le_bytes(word)
}

/// Where the one number `rank` of a word stands; it has more than `rank`.
#[inline]
fn select_in_word(mut word: u64, mut rank: u32) -> u64 {
    let mut at = 0;
    for half in [32, 16, 8] {
        let ones = (word & ((1 << half) - 1)).count_ones();
        if rank >= ones {
            rank -= ones;
            word >>= half;
            at += half;
        }
    }
    for _ in 0..rank {
        word &= word - 1;
    }
    at + u64::from(word.trailing_zeros())
}

#[cfg(test)]
mod tests;
