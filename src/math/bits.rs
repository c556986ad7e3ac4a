//! Sets of numbers as bits.

/// Counts the bits that are set below a position.
#[derive(Debug)]
pub(crate) struct Ranks {
    bits: Bits,
    /// How many are set before each [`Ranks::WORDS`] words.
    before: Vec<u64>,
}

impl Ranks {
    const WORDS: usize = 8;

    pub(crate) fn new(bits: Bits) -> Ranks {
        let mut sum = 0;
        let ones = |words: &[u64]| words.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
        let before = bits.0.chunks(Ranks::WORDS).map(|words| {
            sum += ones(words);
            sum - ones(words)
        });
        Ranks { before: before.collect(), bits }
    }

    /// O(1).
    pub(crate) fn below(&self, position: u64) -> u64 {
        let (word, bit) = ((position / 64) as usize, position % 64);
        let Some(&last) = self.bits.0.get(word) else { return self.bits.count() };
        let first = word / Ranks::WORDS;
        let whole = &self.bits.0[first * Ranks::WORDS..word];
        let ones: u32 = whole.iter().map(|word| word.count_ones()).sum();
        self.before[first] + u64::from(ones + (last & ((1 << bit) - 1)).count_ones())
    }
}

/// A bit for each of `n` positions, set for those in `positions`.
#[derive(Debug)]
pub(crate) struct Bits(pub(crate) Vec<u64>);

impl Bits {
    /// Takes no room where there are no positions.
    pub(crate) fn new(n: u64, positions: impl IntoIterator<Item = u64>) -> Bits {
        let mut bits = Bits(Vec::new());
        positions.into_iter().for_each(|position| bits.set(n, position));
        bits
    }

    /// Sets that of a position below n.
    pub(crate) fn set(&mut self, n: u64, position: u64) {
        if self.0.is_empty() {
            self.0 = vec![0; n.div_ceil(64) as usize];
        }
        if let Some(word) = self.0.get_mut((position / 64) as usize) {
            *word |= 1 << (position % 64);
        }
    }

    pub(crate) fn has(&self, position: u64) -> bool {
        self.0.get((position / 64) as usize).is_some_and(|word| word >> (position % 64) & 1 == 1)
    }

    /// How many are set.
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Those that are set, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> + Clone {
        self.0.iter().zip(0u64..).flat_map(|(&word, w)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| u64::from(left.trailing_zeros()))?;
                left &= left - 1;
                Some(64 * w + bit)
            })
        })
    }
}
