//! An input read as a row of choices: any bytes are some choices, and where they end all further ones are 0.

pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// So many bytes, fewer at the end.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub fn u8(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    pub fn u64(&mut self) -> u64 {
        let mut word = [0; 8];
        let taken = self.bytes(8);
        word[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(word)
    }

    /// A number below `n`; 0 for no n.
    pub fn below(&mut self, n: usize) -> usize {
        let drawn = if n <= 256 { u16::from(self.u8()) } else { self.u16() };
        usize::from(drawn) % n.max(1)
    }

    /// Small numbers, powers of two and the ends of ranges: what counts and lengths go wrong with.
    pub fn nasty(&mut self) -> u64 {
        let (kind, drawn) = (self.u8(), self.u8());
        let bit = 1u64 << (drawn % 64);
        match kind % 6 {
            0 => u64::from(drawn),
            1 => bit,
            2 => bit - 1,
            3 => u64::MAX - u64::from(drawn % 4),
            4 => u64::from(drawn) << 8 | u64::from(self.u8()),
            _ => self.u64(),
        }
    }
}
