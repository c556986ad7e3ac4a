//! The learned decoder as a file holds it.

use half::f16;

use super::{kinds::DecoderShape, mlp::Mlp};

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

impl Learned {
    /// Of a network with steps, whose values are brought to what can be stored.
    pub(crate) fn of(mut mlp: Mlp, unit: f32, shortlist: u32) -> Learned {
        let top = crate::model::mlp::top(mlp.bits);
        mlp.input_scale.iter_mut().for_each(|s| *s = halved(*s));
        for dense in &mut mlp.layers {
            dense.bias.iter_mut().for_each(|b| *b = halved(*b));
            for (o, step) in dense.steps.iter_mut().enumerate() {
                *step = stored_step(*step);
                let row = dense.weights.row_mut(o);
                row.iter_mut().for_each(|w| *w = crate::model::mlp::rounded(*w, *step, top));
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

/// The value that two bytes hold.
pub(crate) fn halved(v: f32) -> f32 {
    f16::from_f32(v.clamp(-65_504.0, 65_504.0)).to_f32()
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

/// Rows of a shortlist there can be for ten hits.
pub(crate) const MOST_SHORTLIST: u32 = 65_536;

/// Layers between the first and the last of what the file can hold.
pub(crate) const MOST_HIDDEN: usize = 4;

/// Weights there can be: they take four bytes each in memory, and an eighth of one in the file.
pub(crate) const MOST_WEIGHTS: usize = 1 << 26;
