//! The learned decoder: a small network behind the codes that brings a decoded row nearer to what was encoded.
//!
//! With y the anchor and codeword of a row in the active directions of the chart, the row is decoded from `y' = u net(y / u)`
//! ([`Mlp`]) in the place of y; u is about the deviation of what the codes leave, so that the network deals with numbers of about 1. The network is trained on the rows of the store (`train.rs`), whose codes are then chosen for what the
//! network makes of them (`synthesis.rs`). Its weights are a few bits each, rounded while they are trained.
//!
//! A scan cannot look through the network: it gives a shortlist, of which each row is decoded and scored again (`rescore.rs`), on
//! the CPU whatever the backend. As that has the rows' lengths, none are kept.

pub(crate) mod choice;
pub(crate) mod codewords;
pub(crate) mod quick;
pub(crate) mod rescore;
pub(crate) mod synthesis;
pub(crate) mod train;

pub(crate) use choice::{check, choose};
pub(crate) use rescore::{Part, Rescorer};
pub(crate) use train::{ROWS, train};

use half::f16;

use crate::{config::DecoderShape, ops::mlp::Mlp};

/// Rows of a shortlist there can be for ten hits.
pub(crate) const MOST_SHORTLIST: u32 = 65_536;
/// Layers between the first and the last of what the file can hold.
pub(crate) const MOST_HIDDEN: usize = 4;
/// Weights there can be: they take four bytes each in memory, and an eighth of one in the file.
pub(crate) const MOST_WEIGHTS: usize = 1 << 26;

/// What a file holds of a learned decoder.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Learned {
    /// As it is stored: weights on their steps; scales, steps and biases with the mantissa of 16 bits.
    mlp: Mlp,
    /// What coordinates are divided by, above 0.
    pub(crate) unit: f32,
    /// Rows that are scored again for ten hits.
    pub(crate) shortlist: u32,
    /// Mean squared error of rows that neither network nor codes were trained on, as unit vectors; NaN where there were none.
    pub(crate) unseen_energy: f64,
}

/// The value that two bytes hold.
pub(crate) fn halved(v: f32) -> f32 {
    f16::from_f32(v.clamp(-65_504.0, 65_504.0)).to_f32()
}

impl Learned {
    /// Of a network with steps, whose values are brought to what can be stored.
    pub(crate) fn of(mut mlp: Mlp, unit: f32, shortlist: u32) -> Learned {
        let top = crate::ops::mlp::top(mlp.bits);
        mlp.input_scale.iter_mut().for_each(|s| *s = halved(*s));
        for dense in &mut mlp.layers {
            dense.bias.iter_mut().for_each(|b| *b = halved(*b));
            for (o, step) in dense.steps.iter_mut().enumerate() {
                *step = stored_step(*step);
                let row = dense.weights.row_mut(o);
                row.iter_mut().for_each(|w| *w = crate::ops::mlp::rounded(*w, *step, top));
            }
        }
        Learned { mlp, unit, shortlist, unseen_energy: f64::NAN }
    }

    /// As a file holds it: everything is what can be stored.
    pub(crate) fn stored(mlp: Mlp, unit: f32, shortlist: u32, unseen_energy: f64) -> Learned {
        Learned { mlp, unit, shortlist, unseen_energy }
    }

    /// The same with another shortlist.
    pub(crate) fn with_shortlist(&self, shortlist: u32) -> Learned {
        Learned { shortlist, ..self.clone() }
    }

    /// The network.
    pub(crate) fn mlp(&self) -> &Mlp {
        &self.mlp
    }

    /// Its sizes.
    pub(crate) fn shape(&self) -> DecoderShape {
        let hidden = self.mlp.layers.len() - 1;
        DecoderShape { width: self.mlp.layers[0].outputs(), layers: hidden, bits: self.mlp.bits }
    }

    /// Its bytes in a file.
    pub(crate) fn bytes(&self) -> u64 {
        bytes(self.shape(), self.mlp.width())
    }

    /// Rows to be scored again for `k` hits.
    pub(crate) fn candidates(&self, k: usize) -> usize {
        let more = k.saturating_sub(10);
        (self.shortlist as usize).saturating_add(more.saturating_mul(4)).max(k)
    }
}

/// The nearest step that can be stored, and is above 0.
pub(crate) fn stored_step(step: f32) -> f32 {
    halved(step).max(f16::MIN_POSITIVE.to_f32())
}

/// Bytes of a network over `active` directions in a file.
pub(crate) fn bytes(shape: DecoderShape, active: usize) -> u64 {
    let DecoderShape { width, layers, bits } = shape;
    let row = |inputs: usize| (inputs * usize::from(bits)).div_ceil(8) + 4;
    let weights = width * row(active) + layers.saturating_sub(1) * width * row(width) + active * row(width);
    (24 + 2 * active + weights) as u64
}
