//! Bits where they pay: reverse water-filling over directions (Cover and Thomas, section 10.3), with the price of
//! storing a direction's part of the model, and the packing of directions into subspaces of equal rate.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::{math::rng::Random, model::kinds::CodeKind};

/// How much worse the symbols of a code are than the ideal code of the same rate, as a factor on the distortion of
/// the directions it codes. Measured on text embeddings at 0.7 to 2.7 bits per dimension.
pub(crate) const LOSS: f64 = 1.25;

/// A direction whose rate exceeds a symbol's bits by this much is given a further, empty symbol before its own.
const OVERFULL_BITS: f64 = 1.5;

/// Bits of a symbol.
pub(crate) fn symbol_bits(kind: CodeKind) -> usize {
    match kind {
        CodeKind::Chain => 4,
        CodeKind::Pq8 => 8,
    }
}

/// Sizes of one chart that decide what a direction costs in the model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Rows that share the chart.
    pub(crate) rows: f64,
    pub(crate) dim: usize,
    /// Anchors of the chart.
    pub(crate) anchors: usize,
    pub(crate) kind: CodeKind,
    pub(crate) lags: usize,
}

impl Shape {
    /// The prices of precision, for this shape.
    pub(crate) fn steps(&self) -> Steps {
        let rows_per_anchor = self.rows / self.anchors.max(1) as f64;
        Steps {
            column: (STEP_COST * self.rows / self.dim as f64).log2(),
            anchor: (STEP_COST * rows_per_anchor).log2(),
        }
    }

    /// Bytes of the model that a direction takes.
    fn direction_bytes(&self, direction: &Direction, steps: &Steps) -> f64 {
        let tables = match self.kind {
            CodeKind::Chain => 16 * (self.lags + 1),
            CodeKind::Pq8 => 256,
        };
        let column = (self.dim * usize::from(steps.column_bits(direction))).div_ceil(8);
        let anchors = (self.anchors * usize::from(steps.anchor_bits(direction))).div_ceil(8);
        // Two scales and an offset of 4 bytes, a scale of the tables, two bit counts.
        (column + anchors + tables + 18) as f64
    }
}

/// What a finer step gains, as logarithms to base 2: the step of a further bit would lower the distortion by less than the
/// same bytes spent on symbols.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps {
    column: f64,
    anchor: f64,
}

impl Steps {
    /// Bits of a column of the decoder, by the mean square of what its direction carries.
    pub(crate) fn column_bits(&self, direction: &Direction) -> u8 {
        (0.5 * (direction.log_power + self.column)).round().clamp(2.0, 12.0) as u8
    }

    /// Bits of an anchor's coordinate, by the variance of the anchors against that of the residual, or against the water
    /// level where that is higher.
    pub(crate) fn anchor_bits(&self, direction: &Direction) -> u8 {
        (0.5 * (direction.log_spread + self.anchor)).round().clamp(1.0, 12.0) as u8
    }
}

/// Error of a quantizer of b bits over a normal variable of variance 1, in units of 4^-b, as far as it is not taken back: the
/// encoder works against the rounded model. From 1 to 3 recall is flat.
const STEP_COST: f64 = 1.5;

/// What losing a part of the anchors costs, against losing as much of the residual. An error that all rows of a cell share
/// does not change their order, so it costs recall less than its share of the distortion.
const ANCHOR_WEIGHT: f64 = 0.3;

/// A direction in units of the water level.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Direction {
    /// Variance of the residual.
    residual: f64,
    /// Variance of the anchors.
    anchors: f64,
    /// Logarithms to base 2: of the variance of the residual, of the sum of both, of the anchors' against the residual's or the
    /// level where that is higher.
    log_residual: f64,
    log_power: f64,
    log_spread: f64,
}

impl Direction {
    pub(crate) fn new(residual: f64, anchors: f64, level: f64) -> Direction {
        Variances::new(residual, anchors).at(level, level.log2())
    }

    fn rate(&self) -> f64 {
        (0.5 * self.log_residual).max(0.0)
    }

    /// Whether keeping it lowers the distortion by more than its bits, model included, would save elsewhere. A direction
    /// that is dropped loses its part of the anchors too.
    fn pays(&self, shape: &Shape, steps: &Steps) -> bool {
        let gain = self.residual + ANCHOR_WEIGHT * self.anchors - self.residual.min(1.0);
        let bits = self.rate() + 8.0 * shape.direction_bytes(self, steps) / shape.rows;
        gain > 2.0 * std::f64::consts::LN_2 * bits
    }
}

/// The variances along a direction with their logarithms, which are asked for at many levels.
#[derive(Debug, Clone, Copy)]
struct Variances {
    residual: f64,
    anchors: f64,
    logs: [f64; 3],
}

impl Variances {
    fn new(residual: f64, anchors: f64) -> Variances {
        Variances { residual, anchors, logs: [residual.log2(), (residual + anchors).log2(), anchors.log2()] }
    }

    fn at(&self, level: f64, log_level: f64) -> Direction {
        let [residual, power, anchors] = self.logs;
        Direction {
            residual: self.residual / level,
            anchors: self.anchors / level,
            log_residual: residual - log_level,
            log_power: power - log_level,
            log_spread: anchors - residual.max(log_level),
        }
    }
}

/// Rates of the directions of one chart.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Allocation {
    /// Rate in bits of each direction; 0 when it is dropped, [`BARE`] when only its anchors are kept.
    pub(crate) rates: Vec<f64>,
    /// The water level.
    pub(crate) level: f64,
    /// Expected weighted distortion, dropped directions included.
    pub(crate) distortion: f64,
    /// Bytes of the model that the directions kept take.
    pub(crate) model_bytes: f64,
}

/// Rate of a direction that is kept for its anchors alone: some symbol has it, and no bits to spare for it.
const BARE: f64 = 1e-6;

/// Water-filling of `bits` bits over directions given by the variances of the residual and of the anchors along them.
pub(crate) fn allocate(variances: &[f64], anchors: &[f64], bits: f64, shape: &Shape) -> Allocation {
    let largest = variances.iter().copied().fold(0.0, f64::max);
    let steps = shape.steps();
    let along: Vec<Variances> = variances.iter().zip(anchors).map(|(&v, &a)| Variances::new(v, a)).collect();
    let directions = |level: f64| {
        let log_level = level.log2();
        along.iter().map(move |v| v.at(level, log_level))
    };
    let total = |level: f64| -> f64 { directions(level).filter(|d| d.pays(shape, &steps)).map(|d| d.rate()).sum() };
    // Where the anchors say all there is, any level far below them will do.
    let mut level = if largest > 0.0 { largest } else { 1e-6 * anchors.iter().copied().fold(0.0, f64::max) };
    if largest > 0.0 && bits > 0.0 {
        let (mut lo, mut hi) = ((largest * 1e-30).ln(), largest.ln());
        // To 1e-12 of the level.
        for _ in 0..46 {
            let middle = 0.5 * (lo + hi);
            if total(middle.exp()) > bits {
                lo = middle;
            } else {
                hi = middle;
            }
        }
        level = hi.exp();
    }
    let mut found = Allocation { rates: vec![0.0; variances.len()], level, distortion: 0.0, model_bytes: 0.0 };
    for (rate, direction) in found.rates.iter_mut().zip(directions(level.max(f64::MIN_POSITIVE))) {
        if level > 0.0 && bits > 0.0 && direction.pays(shape, &steps) {
            *rate = direction.rate().max(BARE);
            found.model_bytes += shape.direction_bytes(&direction, &steps);
            found.distortion += level * (LOSS * direction.residual.min(1.0)).min(direction.residual);
        } else {
            found.distortion += level * (direction.residual + direction.anchors);
        }
    }
    found
}

/// Packs the directions of positive rate into `symbols` subspaces of about equal rate and puts those in random order.
///
/// Neighbours in the chain share symbols; a random order served them better than one by variance. A direction with more
/// rate than a symbol has bits is preceded by an empty subspace, whose symbol it reaches through its lag.
pub(crate) fn pack(
    rates: &[f64],
    symbols: usize,
    kind: CodeKind,
    lags: usize,
    random: &mut Random,
) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..rates.len()).filter(|&i| rates[i] > 0.0).collect();
    order.sort_by(|&a, &b| rates[b].total_cmp(&rates[a]).then(a.cmp(&b)));
    let capacity = symbol_bits(kind) as f64;
    let mut empties = vec![0usize; order.len()];
    let mut groups = symbols;
    for (extra, &i) in empties.iter_mut().zip(&order) {
        let wanted = ((rates[i] - capacity - OVERFULL_BITS) / capacity).ceil().max(0.0) as usize;
        *extra = wanted.min(lags).min(groups.saturating_sub(1));
        groups -= *extra;
    }
    // More symbols than directions: the rest go before the directions of largest rate.
    for extra in &mut empties {
        while groups > order.len() && *extra < lags {
            *extra += 1;
            groups -= 1;
        }
    }
    let mut loads: BinaryHeap<Reverse<(u64, usize)>> = (0..groups).map(|g| Reverse((0, g))).collect();
    let mut packed: Vec<(usize, Vec<usize>)> = vec![(0, Vec::new()); groups];
    for (&i, &extra) in order.iter().zip(&empties) {
        if let Some(Reverse((load, g))) = loads.pop() {
            packed[g].0 += extra;
            packed[g].1.push(i);
            // In units of 2^-32 bit, so that equal loads compare equal everywhere.
            loads.push(Reverse((load + (rates[i] * 4_294_967_296.0) as u64, g)));
        }
    }
    random.shuffle(&mut packed);
    packed.into_iter().flat_map(|(extra, group)| std::iter::repeat_n(Vec::new(), extra).chain([group])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(n: f64, kind: CodeKind) -> Shape {
        Shape { rows: n, dim: 64, anchors: 16, kind, lags: 2 }
    }

    #[test]
    fn without_a_price_this_is_plain_water_filling() {
        let variances: Vec<f64> = (1..=40).map(|i| 1.0 / f64::from(i)).collect();
        let found = allocate(&variances, &[0.0; 40], 60.0, &shape(1e12, CodeKind::Chain));
        assert!((found.rates.iter().sum::<f64>() - 60.0).abs() < 1e-6);
        let theta = vlc_reference::waterfill::level(&variances, 60.0);
        let expected = vlc_reference::waterfill::rates(&variances, theta);
        for (a, b) in found.rates.iter().zip(expected) {
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
    }

    #[test]
    fn a_small_store_keeps_fewer_directions() {
        let variances: Vec<f64> = (1..=64).map(|i| 1.0 / f64::from(i)).collect();
        let kept = |n: f64| {
            allocate(&variances, &[0.01; 64], 60.0, &shape(n, CodeKind::Chain))
                .rates
                .iter()
                .filter(|r| **r > 0.0)
                .count()
        };
        assert!(kept(500.0) < kept(1e6));
    }

    #[test]
    fn every_direction_is_packed_once_and_loads_are_even() {
        let rates: Vec<f64> = (0..50).map(|i| 0.2 + f64::from(i) * 0.05).collect();
        let groups = pack(&rates, 16, CodeKind::Chain, 2, &mut Random::new(1, 1));
        assert_eq!(groups.len(), 16);
        let mut all: Vec<usize> = groups.concat();
        all.sort_unstable();
        assert_eq!(all, (0..50).collect::<Vec<_>>());
        let loads: Vec<f64> = groups.iter().map(|g| g.iter().map(|&i| rates[i]).sum()).collect();
        assert!(loads.iter().all(|l| (l - loads[0]).abs() < 1.5), "{loads:?}");
    }

    #[test]
    fn few_directions_get_the_symbols_left_over() {
        let groups = pack(&[9.0, 1.0], 5, CodeKind::Chain, 2, &mut Random::new(1, 1));
        assert_eq!(groups.len(), 5);
        let at = groups.iter().position(|g| g == &[0]).unwrap();
        assert!(at >= 2 && groups[at - 1].is_empty() && groups[at - 2].is_empty());
    }
}
