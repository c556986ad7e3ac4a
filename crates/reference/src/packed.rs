//! Bits and bytes: the packed integers of `docs/format.md`, section 5, and a cursor over a section.

/// The number of bytes of `count` integers of `bits` bits: ceil(count * bits / 8).
pub fn packed_len(bits: usize, count: usize) -> Result<usize, String> {
    match count.checked_mul(bits) {
        Some(total) => Ok(total.div_ceil(8)),
        None => Err(format!("{count} integers of {bits} bits overflow")),
    }
}

/// Reads `count` unsigned integers of `bits` bits: bit b of integer i is bit `i * bits + b` of the
/// stream, and bit s of the stream is bit `s % 8` of byte `s / 8`.
///
/// `bytes` has exactly [`packed_len`] bytes; spare bits must be zero. `bits` is 0 to 16.
pub fn unpack(bytes: &[u8], bits: usize, count: usize) -> Result<Vec<u32>, String> {
    if bits > 16 {
        return Err(format!("{bits} bits an integer, at most 16 expected"));
    }
    let length = packed_len(bits, count)?;
    if bytes.len() != length {
        return Err(format!("{} packed bytes, {length} expected", bytes.len()));
    }
    let bit = |s: usize| u32::from(bytes[s / 8] >> (s % 8) & 1);
    for s in count * bits..8 * length {
        if bit(s) != 0 {
            return Err("a spare bit of packed integers is not zero".into());
        }
    }
    let mut values = Vec::new();
    for i in 0..count {
        let mut value = 0;
        for b in 0..bits {
            value |= bit(i * bits + b) << b;
        }
        values.push(value);
    }
    Ok(values)
}

/// The inverse of [`unpack`]: the bytes of `values`, each below 2^bits.
pub fn pack(values: &[u32], bits: usize) -> Vec<u8> {
    let mut bytes = vec![0; (values.len() * bits).div_ceil(8)];
    for i in 0..values.len() {
        assert!(values[i] >> bits == 0, "{} needs more than {bits} bits", values[i]);
        for b in 0..bits {
            let s = i * bits + b;
            bytes[s / 8] |= ((values[i] >> b & 1) as u8) << (s % 8);
        }
    }
    bytes
}

/// Reads a section from front to back. Every read that would pass the end is an `Err` that names
/// the section.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    name: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at the start of `bytes`; `name` is for messages.
    pub fn new(name: &'a str, bytes: &'a [u8]) -> Self {
        Cursor { name, bytes, at: 0 }
    }

    /// A message that names the section.
    pub fn error(&self, message: &str) -> String {
        format!("{}: {message}", self.name)
    }

    /// How many bytes have been read.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let rest = &self.bytes[self.at..];
        if count > rest.len() {
            return Err(format!("{}: {count} bytes at {} pass the end", self.name, self.at));
        }
        self.at += count;
        Ok(&rest[..count])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// One byte, as a number.
    pub fn u8(&mut self) -> Result<usize, String> {
        Ok(usize::from(self.array::<1>()?[0]))
    }

    /// A u16, as a number.
    pub fn u16(&mut self) -> Result<usize, String> {
        Ok(usize::from(u16::from_le_bytes(self.array()?)))
    }

    /// A u32.
    pub fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A u64.
    pub fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A u32 as a count or length.
    pub fn count32(&mut self) -> Result<usize, String> {
        let value = self.u32()?;
        usize::try_from(value).map_err(|_| format!("{}: {value} is too large", self.name))
    }

    /// A u64 as a count or length.
    pub fn count64(&mut self) -> Result<usize, String> {
        let value = self.u64()?;
        usize::try_from(value).map_err(|_| format!("{}: {value} is too large", self.name))
    }

    /// A u128.
    pub fn u128(&mut self) -> Result<u128, String> {
        Ok(u128::from_le_bytes(self.array()?))
    }

    /// An f32, widened.
    pub fn f32(&mut self) -> Result<f64, String> {
        Ok(f64::from(f32::from_le_bytes(self.array()?)))
    }

    /// An f64.
    pub fn f64(&mut self) -> Result<f64, String> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    /// `count` f32, widened.
    pub fn f32s(&mut self, count: usize) -> Result<Vec<f64>, String> {
        // Refuse before allocating: `count` comes from the file.
        if self.bytes.len() / 4 < count {
            return Err(format!("{}: {count} floats pass the end", self.name));
        }
        (0..count).map(|_| self.f32()).collect()
    }

    /// `count` packed integers of `bits` bits, starting at this byte.
    pub fn packed(&mut self, bits: usize, count: usize) -> Result<Vec<u32>, String> {
        let bytes = self.take(packed_len(bits, count)?)?;
        unpack(bytes, bits, count).map_err(|e| format!("{}: {e}", self.name))
    }

    /// `count` bytes that must be zero.
    pub fn zeros(&mut self, count: usize) -> Result<(), String> {
        let at = self.at;
        if self.take(count)?.iter().any(|&b| b != 0) {
            return Err(format!("{}: {count} bytes at {at} are not all zero", self.name));
        }
        Ok(())
    }

    /// Zeros up to a multiple of `unit` bytes from the start of the section.
    pub fn pad(&mut self, unit: usize) -> Result<(), String> {
        self.zeros(self.at.next_multiple_of(unit) - self.at)
    }

    /// The end must be here.
    pub fn end(&self) -> Result<(), String> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            left => Err(format!("{}: {left} bytes behind its contents", self.name)),
        }
    }
}
