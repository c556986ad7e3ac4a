//! A row's symbols, two to a byte: the first of two in the low nibble, zeros after the last.

/// Bytes of `symbols` symbols.
pub(crate) fn packed_len(symbols: usize) -> usize {
    symbols.div_ceil(2)
}

/// Fills `out`, of [`packed_len`] bytes.
pub(crate) fn pack(symbols: &[u8], out: &mut [u8]) {
    for (byte, pair) in out.iter_mut().zip(symbols.chunks(2)) {
        *byte = (pair[0] & 15) | pair.get(1).map_or(0, |high| high << 4);
    }
}

/// Fills `symbols`.
pub(crate) fn unpack(packed: &[u8], symbols: &mut [u8]) {
    for (pair, byte) in symbols.chunks_mut(2).zip(packed) {
        pair[0] = byte & 15;
        if let Some(high) = pair.get_mut(1) {
            *high = byte >> 4;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_come_back() {
        for symbols in [vec![], vec![7], vec![15, 0, 3, 9], vec![1, 14, 15, 2, 8]] {
            let mut packed = vec![0xFF; packed_len(symbols.len())];
            pack(&symbols, &mut packed);
            let mut again = vec![0; symbols.len()];
            unpack(&packed, &mut again);
            assert_eq!(again, symbols);
            if symbols.len() % 2 == 1 {
                assert_eq!(packed.last().unwrap() >> 4, 0, "the spare nibble is zero");
            }
        }
    }
}
