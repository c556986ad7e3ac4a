//! The kinds of things: metrics, codes, shapes of decoders, and their names.

use std::{fmt, str::FromStr};

use crate::error::Error;

/// What "near" means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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

impl Metric {
    const ALL: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::L2];
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Metric::Cosine => "cosine",
            Metric::Dot => "dot",
            Metric::L2 => "l2",
        })
    }
}

/// `cosine`, `dot` or `l2`.
impl FromStr for Metric {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        named(&Metric::ALL, text)
            .ok_or_else(|| Error::Config(format!("metric {text:?} is unknown; use cosine, dot or l2")))
    }
}

impl fmt::Display for CodeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            CodeKind::Chain => "chain",
            CodeKind::Pq8 => "pq8",
        })
    }
}

/// `chain` or `pq8`.
impl FromStr for CodeKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        named(&[CodeKind::Chain, CodeKind::Pq8], text)
            .ok_or_else(|| Error::Config(format!("code {text:?} is unknown; use chain or pq8")))
    }
}

fn named<T: fmt::Display + Copy>(all: &[T], name: &str) -> Option<T> {
    all.iter().copied().find(|kind| kind.to_string() == name)
}

/// Width, layers and bits, such as `512x1@2`.
impl fmt::Display for DecoderShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}@{}", self.width, self.layers, self.bits)
    }
}

/// `WIDTH[xLAYERS][@BITS]`; what is left out is as [`DecoderShape::of_width`] has it.
impl FromStr for DecoderShape {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let number = |text: &str| text.parse::<usize>().ok().filter(|&n| n > 0);
        let parse = || {
            let (sizes, bits) = match text.split_once('@') {
                Some((sizes, bits)) => (sizes, Some(u8::try_from(number(bits)?).ok()?)),
                None => (text, None),
            };
            let (width, layers) = match sizes.split_once('x') {
                Some((width, layers)) => (number(width)?, Some(number(layers)?)),
                None => (number(sizes)?, None),
            };
            let usual = DecoderShape::of_width(width);
            let layers = layers.unwrap_or(usual.layers);
            Some(DecoderShape { width, layers, bits: bits.unwrap_or(usual.bits) })
        };
        let message =
            || format!("decoder {text:?}: a width, layers and bits such as 512, 512x2 or 512x2@8 are expected");
        parse().ok_or_else(|| Error::Config(message()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for metric in Metric::ALL {
            assert_eq!(metric.to_string().parse::<Metric>().unwrap(), metric);
        }
        for code in [CodeKind::Chain, CodeKind::Pq8] {
            assert_eq!(code.to_string().parse::<CodeKind>().unwrap(), code);
        }
        let shape = DecoderShape { width: 512, layers: 2, bits: 8 };
        assert_eq!(shape.to_string().parse::<DecoderShape>().unwrap(), shape);
        assert_eq!("128".parse::<DecoderShape>().unwrap(), DecoderShape::of_width(128));
        for wrong in ["", "x", "0", "12x", "12@", "12@0", "12x0", "12x2@300", "-1", "12 "] {
            assert_eq!(wrong.parse::<DecoderShape>().unwrap_err().code(), 2, "{wrong}");
        }
        assert!("Cosine".parse::<Metric>().is_err() && "pq4".parse::<CodeKind>().is_err());
    }
}
