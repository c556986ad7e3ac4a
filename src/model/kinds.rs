//! The kinds of things: metrics, codes, shapes of decoders.

/// What "near" means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Metric {
    /// Inner product of the rows and queries divided by their lengths. Zero rows are refused.
    #[default]
    Cosine,
    /// Inner product.
    Dot,
    /// Squared Euclidean distance; scores are its negative, so that larger is nearer.
    L2,
}

/// The kind of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CodeKind {
    /// 4-bit symbols in a chain: a codeword depends on a symbol and the few before it. Scans with 16-entry tables.
    #[default]
    Chain,
    /// 8-bit symbols, independent product quantization: the simple reference.
    Pq8,
}

/// The sizes of a learned decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecoderShape {
    /// Values of a hidden layer; 1 to 65,536.
    pub width: usize,
    /// Hidden layers, 1 to 4.
    pub layers: usize,
    /// Bits of a weight in the file, 1 to 8.
    pub bits: u8,
}

impl DecoderShape {
    /// One hidden layer with weights of two bits: what pays where the bytes of the decoder count.
    #[must_use]
    pub fn of_width(width: usize) -> DecoderShape {
        DecoderShape { width, layers: 1, bits: 2 }
    }
}
