//! Reverse water-filling: how a rate is best shared among independent Gaussian directions.
//!
//! A Gaussian of variance v coded with r bits has distortion v 2^(-2r). The sum of distortions for
//! a given sum of bits is smallest when every direction that gets bits at all ends at the same
//! distortion theta, the water level, and those of variance below theta get none.

/// The bits of each direction: rate_i = max(0, 1/2 log2(variance_i / theta)).
pub fn rates(variances: &[f64], theta: f64) -> Vec<f64> {
    let mut rates = Vec::new();
    for &variance in variances {
        rates.push(if variance > theta { 0.5 * (variance / theta).log2() } else { 0.0 });
    }
    rates
}

/// The level theta at which the rates sum to `total_bits`, by bisection on log2 theta.
///
/// The sum falls with theta. At theta = the largest variance v it is 0; at theta = v 2^(-2R)
/// that one direction alone takes R bits: the answer lies between. Without any positive variance
/// the level is 0.
pub fn level(variances: &[f64], total_bits: f64) -> f64 {
    assert!(total_bits >= 0.0, "a rate is not negative");
    let largest = variances.iter().copied().fold(0.0, f64::max);
    if largest == 0.0 {
        return 0.0;
    }
    let mut high = largest.log2();
    let mut low = high - 2.0 * total_bits;
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        let sum: f64 = rates(variances, middle.exp2()).iter().sum();
        if sum > total_bits {
            low = middle;
        } else {
            high = middle;
        }
    }
    (0.5 * (low + high)).exp2()
}

/// The distortion left at level theta: sum over i of min(variance_i, theta).
pub fn distortion(variances: &[f64], theta: f64) -> f64 {
    let mut sum = 0.0;
    for &variance in variances {
        sum += variance.min(theta);
    }
    sum
}
