//! The score of a row, from the inner product of its decoded direction with a query.

/// What the gain and the factor of a row make of the product: `scale * product - less`. That is G F s, and 2 G F s - G^2 for l2 (`squared`).
#[inline(always)]
pub(crate) fn scale_and_less(squared: bool, gain: f32, factor: f32) -> (f32, f32) {
    if squared { (2.0 * gain * factor, gain * gain) } else { (gain * factor, 0.0) }
}

/// The score of a row.
#[inline(always)]
pub(crate) fn score(squared: bool, gain: f32, factor: f32, product: f32) -> f32 {
    // To take 0 away changes no bit of a float, nor does a factor of 1.
    let (scale, less) = scale_and_less(squared, gain, factor);
    scale * product - less
}
