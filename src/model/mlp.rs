//! A small residual network over rows.
//!
//! For a row y (a values) it gives `y + f_L(... act(f_1(s * y)))`, with `f_l(x) = W_l x + b_l`, `*` value by value, and
//! `act(z) = z clamp(z + 3, 0, 6) / 6` (Howard et al., "Searching for MobileNetV3", 2019) behind all layers but the last. That
//! has the shape of GELU without an exponential, so that devices agree on it to the last few bits.

use crate::matrix::Mat;

/// The network.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mlp {
    /// What each of a row's values is multiplied with.
    pub(crate) input_scale: Vec<f32>,
    /// At least two, from a values to a values.
    pub(crate) layers: Vec<Dense>,
    /// Bits of a rounded weight, 1 to 8, where layers have steps.
    pub(crate) bits: u8,
}

impl Mlp {
    /// Values of a row.
    pub(crate) fn width(&self) -> usize {
        self.input_scale.len()
    }
}

/// One layer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Dense {
    /// Outputs x inputs.
    pub(crate) weights: Mat,
    /// A value for each output.
    pub(crate) bias: Vec<f32>,
    /// Where weights are trained through their rounding: the step of each output's weights. Empty otherwise.
    pub(crate) steps: Vec<f32>,
}

impl Dense {
    pub(crate) fn inputs(&self) -> usize {
        self.weights.dim()
    }

    pub(crate) fn outputs(&self) -> usize {
        self.weights.rows()
    }
}

/// The activation.
#[inline(always)]
pub(crate) fn act(z: f32) -> f32 {
    z * (z + 3.0).clamp(0.0, 6.0) * (1.0 / 6.0)
}

/// Its slope.
#[inline(always)]
pub(crate) fn act_slope(z: f32) -> f32 {
    if z <= -3.0 {
        0.0
    } else if z >= 3.0 {
        1.0
    } else {
        (2.0 * z + 3.0) * (1.0 / 6.0)
    }
}

/// The weight that is stored for `w`: the nearest odd multiple of half a step that `bits` bits have.
#[inline(always)]
pub(crate) fn rounded(w: f32, step: f32, top: f32) -> f32 {
    ((w / step).floor() + 0.5).clamp(-top, top) * step
}

/// The largest multiple of a step.
pub(crate) fn top(bits: u8) -> f32 {
    0.5 * ((1u32 << bits) - 1) as f32
}
