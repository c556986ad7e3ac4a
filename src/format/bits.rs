//! Packed integers: a bit stream, least significant bit first (docs/format.md, section 5).

/// Bytes of `count` integers of `bits` bits.
pub(crate) fn packed_len(count: usize, bits: u8) -> usize {
    (count * usize::from(bits)).div_ceil(8)
}

/// Appends `values`, each below 2^bits, starting at a new byte and padding the last with zeros.
pub(crate) fn pack(values: impl IntoIterator<Item = u32>, bits: u8, out: &mut Vec<u8>) {
    let (mut pending, mut held) = (0u64, 0u32);
    for value in values {
        pending |= u64::from(value) << held;
        held += u32::from(bits);
        while held >= 8 {
            out.push(pending as u8);
            pending >>= 8;
            held -= 8;
        }
    }
    if held > 0 {
        out.push(pending as u8);
    }
}

/// Integer number `i` of a packed stream of `bits` bits (at most 16) each.
///
/// The stream must be long enough: [`packed_len`]`(i + 1, bits)` bytes.
#[inline]
pub(crate) fn unpack_one(bytes: &[u8], bits: u8, i: usize) -> u32 {
    let at = i * usize::from(bits);
    let (byte, shift) = (at / 8, at % 8);
    // At most 16 + 7 bits: three bytes hold them.
    let mut word = 0u32;
    for (k, &b) in bytes[byte.min(bytes.len())..].iter().take(3).enumerate() {
        word |= u32::from(b) << (8 * k);
    }
    (word >> shift) & ((1u32 << bits) - 1)
}

/// Whether the bits behind the last of `count` integers are zero.
pub(crate) fn spare_bits_are_zero(bytes: &[u8], bits: u8, count: usize) -> bool {
    let used = count * usize::from(bits);
    used.is_multiple_of(8) || bytes.last().is_none_or(|last| last >> (used % 8) == 0)
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packed_integers_come_back(bits in 1u8..=16, values in prop::collection::vec(any::<u16>(), 0..70)) {
            let values: Vec<u32> = values.iter().map(|&v| u32::from(v) & ((1 << bits) - 1)).collect();
            let mut bytes = Vec::new();
            pack(values.iter().copied(), bits, &mut bytes);
            prop_assert_eq!(bytes.len(), packed_len(values.len(), bits));
            prop_assert!(spare_bits_are_zero(&bytes, bits, values.len()));
            let back: Vec<u32> = (0..values.len()).map(|i| unpack_one(&bytes, bits, i)).collect();
            prop_assert_eq!(back, values);
        }
    }

    #[test]
    fn spare_bits_are_seen() {
        assert!(!spare_bits_are_zero(&[0b1000_0001], 3, 2));
        assert!(spare_bits_are_zero(&[0b0011_1111], 3, 2));
    }
}
