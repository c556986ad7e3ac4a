//! The lengths of a segment's rows where the model's scale does not hold them (docs/format.md, section 7).

use super::bits::u32_at;
use crate::error::ParseError;

/// Section `GAIN`.
pub(crate) const KIND: [u8; 4] = *b"GAIN";
/// Bytes of a piece.
const PIECE: usize = 10;
/// Pieces of a scale at most.
pub(crate) const MOST_PIECES: usize = 16;
/// Bytes of the section at most.
pub(crate) const MOST_BYTES: u64 = (MOST_PIECES * PIECE) as u64;

/// A range of lengths with codes of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Piece {
    /// At least 1; 1 where both ends are the same.
    pub(crate) codes: u16,
    /// The length of its first code, above 0.
    pub(crate) first: f32,
    /// That of its last code.
    pub(crate) last: f32,
}

/// A scale of lengths: code 0 is length 0, those from 1 on go through the pieces one after the other, and rise.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LengthScale {
    pieces: Vec<Piece>,
}

/// Codes that a length of so many nibbles has, but for that of length 0.
pub(crate) fn codes_of(nibbles: u8) -> usize {
    (1 << (4 * usize::from(nibbles))) - 1
}

impl LengthScale {
    /// Of pieces that hold to the rules of the section.
    pub(crate) fn new(pieces: Vec<Piece>, nibbles: u8) -> Result<LengthScale, ParseError> {
        let bad = |message: &str| Err(ParseError::invalid("GAIN", message));
        if nibbles == 0 {
            return bad("lengths are not kept");
        }
        if pieces.is_empty() || pieces.len() > MOST_PIECES {
            return bad("the number of pieces is out of range");
        }
        if pieces.iter().map(|p| usize::from(p.codes)).sum::<usize>() > codes_of(nibbles) {
            return bad("there are more codes than the rows' nibbles tell apart");
        }
        let sound = |p: &Piece| {
            let finite = p.first > 0.0 && p.first <= p.last && p.last < f32::INFINITY;
            finite && p.codes > 0 && (p.codes > 1 || p.first == p.last)
        };
        if !pieces.iter().all(sound) || pieces.windows(2).any(|w| w[0].last >= w[1].first) {
            return bad("the pieces are not ranges of lengths that ascend");
        }
        Ok(LengthScale { pieces })
    }

    pub(crate) fn parse(bytes: &[u8], nibbles: u8) -> Result<LengthScale, ParseError> {
        if !bytes.len().is_multiple_of(PIECE) || bytes.len() > MOST_PIECES * PIECE {
            return Err(ParseError::invalid("GAIN", "its length is wrong"));
        }
        let piece = |b: &[u8]| Piece {
            codes: u16::from_le_bytes([b[0], b[1]]),
            first: f32::from_bits(u32_at(b, 2)),
            last: f32::from_bits(u32_at(b, 6)),
        };
        LengthScale::new(bytes.chunks_exact(PIECE).map(piece).collect(), nibbles)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.pieces.len() * PIECE);
        for piece in &self.pieces {
            out.extend_from_slice(&piece.codes.to_le_bytes());
            out.extend_from_slice(&piece.first.to_le_bytes());
            out.extend_from_slice(&piece.last.to_le_bytes());
        }
        out
    }

    /// The length of every code. Codes behind the last piece, which no writer uses, have its last length.
    pub(crate) fn table(&self, nibbles: u8) -> Vec<f32> {
        let mut out = Vec::with_capacity(codes_of(nibbles) + 1);
        out.push(0.0);
        for piece in &self.pieces {
            out.extend((0..piece.codes).map(|i| piece.length(i)));
        }
        out.resize(codes_of(nibbles) + 1, self.pieces.last().map_or(0.0, |piece| piece.last));
        out
    }

    /// The code of the nearest length, by logarithm; of a length that is not above 0 code 0.
    pub(crate) fn code(&self, length: f32) -> u16 {
        let (mut best, mut before) = ((f64::INFINITY, 0), 1);
        if length.is_nan() || length <= 0.0 {
            return 0;
        }
        for piece in &self.pieces {
            let code = piece.nearest(length);
            let off = (f64::from(piece.length(code)) / f64::from(length)).ln().abs();
            if off < best.0 {
                best = (off, before + code);
            }
            before += piece.codes;
        }
        best.1
    }

    /// Whether a length lies in a piece, give or take half a step.
    pub(crate) fn holds(&self, length: f32) -> bool {
        length == 0.0 || self.pieces.iter().any(|piece| within(length, (piece.first, piece.last), piece.step()))
    }
}

/// What a length that was read, divided, and multiplied again may be off.
const ROUNDING: f64 = 1e-6;

/// Whether a length lies in a range, give or take half a step (a difference of logarithms).
pub(crate) fn within(length: f32, (first, last): (f32, f32), step: f64) -> bool {
    let slack = (step / 2.0).max(ROUNDING).exp();
    let length = f64::from(length);
    length * slack >= f64::from(first) && length <= f64::from(last) * slack
}

impl Piece {
    /// From one length to the next, as a difference of logarithms.
    fn step(&self) -> f64 {
        (f64::from(self.last) / f64::from(self.first)).ln() / f64::from(self.codes.max(2) - 1)
    }

    /// The length of its code `i`.
    fn length(&self, i: u16) -> f32 {
        if i == 0 || self.codes < 2 {
            return self.first;
        }
        let (first, last) = (f64::from(self.first), f64::from(self.last));
        (first * (last / first).powf(f64::from(i) / f64::from(self.codes - 1))) as f32
    }

    fn nearest(&self, length: f32) -> u16 {
        if self.first == self.last {
            return 0;
        }
        let at = (f64::from(length) / f64::from(self.first)).ln() / self.step();
        at.round().clamp(0.0, f64::from(self.codes - 1)) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(codes: u16, first: f32, last: f32) -> Piece {
        Piece { codes, first, last }
    }

    #[test]
    fn scales_come_back_and_codes_are_the_nearest() {
        let scale =
            LengthScale::new(vec![piece(1, 0.5, 0.5), piece(3, 1.0, 4.0), piece(2, 100.0, 200.0)], 2).unwrap();
        assert_eq!(LengthScale::parse(&scale.to_bytes(), 2).unwrap(), scale);
        let table = scale.table(2);
        assert_eq!((table.len(), &table[..7]), (256, &[0.0, 0.5, 1.0, 2.0, 4.0, 100.0, 200.0][..]));
        assert!(table[7..].iter().all(|&length| length == 200.0));
        for (length, code) in
            [(0.0, 0), (-1.0, 0), (f32::NAN, 0), (1e-30, 1), (0.6, 1), (0.9, 2), (1.9, 3), (19.0, 4)]
        {
            assert_eq!(scale.code(length), code, "{length}");
        }
        assert_eq!([scale.code(21.0), scale.code(110.0), scale.code(1e30)], [5, 5, 6]);
        (0..7).for_each(|code| assert_eq!(scale.code(table[code]), code as u16));
        assert!([0.0, 0.5, 1.0, 3.0, 4.1, 150.0].into_iter().all(|length| scale.holds(length)));
        assert!(![0.6, 8.0, 60.0, 300.0].into_iter().any(|length| scale.holds(length)));
    }

    #[test]
    fn the_widest_range_has_finite_lengths() {
        let scale = LengthScale::new(vec![piece(4095, 1e-45, f32::MAX)], 3).unwrap();
        let table = scale.table(3);
        assert!(table.windows(2).all(|w| w[0] <= w[1]) && table[4095] == f32::MAX);
    }

    #[test]
    fn pieces_that_break_the_rules_are_refused() {
        let fine = piece(3, 1.0, 4.0);
        for pieces in [
            vec![],
            vec![piece(0, 1.0, 1.0)],
            vec![piece(1, 1.0, 2.0)],
            vec![piece(3, 0.0, 2.0)],
            vec![piece(3, 2.0, 1.0)],
            vec![piece(3, 1.0, f32::INFINITY)],
            vec![piece(3, f32::NAN, 2.0)],
            vec![fine, fine],
            vec![fine, piece(2, 4.0, 5.0)],
            vec![piece(200, 1.0, 2.0), piece(56, 3.0, 4.0)],
            vec![piece(65_535, 1.0, 2.0), piece(65_535, 3.0, 4.0)],
            (0..17).map(|i| piece(1, 1.0 + i as f32, 1.0 + i as f32)).collect(),
        ] {
            let refused = LengthScale::new(pieces.clone(), 2);
            assert!(matches!(refused, Err(ParseError::Invalid { part: "GAIN", .. })), "{pieces:?}");
        }
        assert!(LengthScale::new(vec![fine], 0).is_err() && LengthScale::new(vec![fine], 1).is_ok());
        let bytes = LengthScale::new(vec![fine], 1).unwrap().to_bytes();
        (0..10).for_each(|len| assert!(LengthScale::parse(&bytes[..len], 1).is_err()));
    }
}
