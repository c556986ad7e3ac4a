//! What training the residual network ([`Mlp`](crate::model::mlp::Mlp)) takes, shared by the devices.

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
