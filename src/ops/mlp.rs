//! A small residual network over rows and what training it takes, shared by the devices.
//!
//! For a row y (a values) it gives `y + f_L(... act(f_1(s * y)))`, with `f_l(x) = W_l x + b_l`, `*` value by value, and
//! `act(z) = z clamp(z + 3, 0, 6) / 6` (Howard et al., "Searching for MobileNetV3", 2019) behind all layers but the last. That
//! has the shape of GELU without an exponential, so that devices agree on it to the last few bits.

use crate::matrix::Mat;

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

impl Dense {
    pub(crate) fn inputs(&self) -> usize {
        self.weights.dim()
    }

    pub(crate) fn outputs(&self) -> usize {
        self.weights.rows()
    }
}

impl Mlp {
    /// Values of a row.
    pub(crate) fn width(&self) -> usize {
        self.input_scale.len()
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

/// One step of AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019) on the mean of the squared errors of a batch's values.
/// Where weights have steps, the loss is that of the rounded ones, and its slope is taken as theirs (the straight-through estimate of
/// Bengio et al., 2013).
#[derive(Debug, Clone, Copy)]
pub(crate) struct FitStep {
    /// How far parameters move.
    pub(crate) rate: f32,
    /// Share of `rate` by which weights shrink; biases do not.
    pub(crate) decay: f32,
    /// Which step since the network was loaded, from 1.
    pub(crate) number: u32,
}

/// What a step multiplies and adds.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Adam {
    pub(crate) rate: f32,
    /// `1 - rate * decay`.
    pub(crate) keep: f32,
    /// What the means of gradients and of their squares are divided by, as they began at 0.
    pub(crate) mean_scale: f32,
    pub(crate) square_scale: f32,
}

/// How slowly the mean of the gradients, and of their squares, forget.
pub(crate) const BETA_1: f32 = 0.9;
pub(crate) const BETA_2: f32 = 0.98;
/// Added to the root of the mean square.
pub(crate) const EPSILON: f32 = 1e-8;

impl FitStep {
    pub(crate) fn adam(&self) -> Adam {
        let corrected = |beta: f32| (1.0 / (1.0 - f64::from(beta).powi(self.number.min(1 << 20) as i32))) as f32;
        Adam {
            rate: self.rate,
            keep: 1.0 - self.rate * self.decay,
            mean_scale: corrected(BETA_1),
            square_scale: corrected(BETA_2),
        }
    }
}

impl Adam {
    /// Moves a parameter by its gradient; `keep` is 1 for a bias.
    #[inline(always)]
    pub(crate) fn moved(&self, w: f32, gradient: f32, mean: &mut f32, square: &mut f32, keep: f32) -> f32 {
        *mean = BETA_1 * *mean + (1.0 - BETA_1) * gradient;
        *square = BETA_2 * *square + (1.0 - BETA_2) * gradient * gradient;
        keep * w - self.rate * (*mean * self.mean_scale) / ((*square * self.square_scale).sqrt() + EPSILON)
    }
}
