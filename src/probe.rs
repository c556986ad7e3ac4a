//! How much of a store a query looks at: all of it, or the cells whose anchors promise most.
//!
//! The scores of a cell's rows spread about what the anchor alone gives them, by as much as the query's tables do over
//! random symbols. A cell is left out when the score to beat is more than a margin of such deviations away. The margin is
//! measured when the file is written: what the hits of the held-out queries needed, but for a few. So a query with a
//! clear answer looks at few cells and one without at many.

use std::{fmt, str::FromStr};

use crate::{Error, MatRef, ops::ScoreTables};

/// How much of the store a query looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Probe {
    /// Every row.
    #[default]
    All,
    /// As many cells as lose less than 0.005 of the hits of an exhaustive search, on queries like those that the file was
    /// measured with when it was written. Every row where it was not measured: on stores of few rows.
    Auto,
    /// The rows of this many cells, those of the anchors that score highest; more where these hold fewer than k rows.
    Cells(usize),
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probe::All => f.pad("all"),
            Probe::Auto => f.pad("auto"),
            Probe::Cells(cells) => write!(f, "{cells}"),
        }
    }
}

impl FromStr for Probe {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        match s {
            "all" => Ok(Probe::All),
            "auto" => Ok(Probe::Auto),
            _ => match s.parse() {
                Ok(cells) if cells > 0 => Ok(Probe::Cells(cells)),
                _ => Err(Error::Config(format!("probe {s:?}: use all, auto or a number of cells above 0"))),
            },
        }
    }
}

/// [`Probe`] as a scan needs it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Reach {
    All,
    Cells(usize),
    /// Cells that a row this many deviations above its anchor may bring into the answer.
    Margin(f32),
}

impl Reach {
    /// `margin` is what the file says, 0 where it was not measured.
    pub(crate) fn new(probe: Probe, margin: f32) -> Reach {
        match probe {
            Probe::Cells(cells) => Reach::Cells(cells),
            Probe::Auto if margin.is_finite() && margin != 0.0 => Reach::Margin(margin),
            Probe::Auto | Probe::All => Reach::All,
        }
    }
}

/// From scores to the sums of tables that they come from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    factor: f32,
    gain: f32,
    squared: bool,
}

impl Scale {
    pub(crate) fn new(factors: &[f32], gains: &[f32], squared: bool) -> Scale {
        let mean = factors.iter().sum::<f32>() / factors.len().max(1) as f32;
        Scale {
            factor: if factors.is_empty() { 1.0 } else { mean },
            gain: gains.iter().copied().fold(0.0, f32::max),
            squared,
        }
    }

    /// The sum that a row needs for `score`, if its length suits it best.
    pub(crate) fn needed(&self, score: f32) -> f32 {
        if self.squared { score.max(0.0).sqrt() / self.factor } else { score / (self.factor * self.gain) }
    }
}

/// Mean and standard deviation of what a query's tables add up to over random symbols.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) mean: f32,
    deviation: f32,
}

impl Spread {
    /// From the tables of one chart, `alphabet` values a symbol.
    pub(crate) fn new(tables: &[f32], alphabet: usize) -> Spread {
        let (mut mean, mut variance) = (0f32, 0f32);
        for table in tables.chunks_exact(alphabet) {
            let middle = table.iter().sum::<f32>() / alphabet as f32;
            mean += middle;
            variance += table.iter().map(|v| (v - middle) * (v - middle)).sum::<f32>() / alphabet as f32;
        }
        Spread { mean, deviation: variance.sqrt() }
    }

    /// How many deviations a row must be above its anchor, which adds `base`, for a sum of `needed`.
    pub(crate) fn distance(&self, needed: f32, base: f32) -> f32 {
        (needed - base - self.mean) / self.deviation
    }
}

/// Share of the hits that [`Probe::Auto`] may lose on the queries it is measured with; less than what is promised, as these
/// are few.
const LOSS: f64 = 0.002;
/// Hits below which nothing can be said about so small a share.
const HITS: usize = 1000;

/// The margin of which all but [`LOSS`] of the hits of an exhaustive search are within: `scores` (queries x k) are theirs, best
/// first, and `cells` the cells they are in. 0 when there are too few.
pub(crate) fn measure_margin(
    queries: &ScoreTables,
    alphabet: usize,
    anchor_chart: &[u8],
    scale: Scale,
    scores: MatRef<'_>,
    cells: MatRef<'_, u64>,
) -> f32 {
    let charts = usize::from(anchor_chart.iter().copied().max().unwrap_or(0)) + 1;
    let per_chart = queries.tables.dim() / charts;
    let mut distances = Vec::with_capacity(cells.as_slice().len());
    for q in 0..scores.rows() {
        let Some(&worst) = scores.row(q).last() else { continue };
        let needed = scale.needed(worst);
        let tables = queries.tables.row(q);
        let spreads: Vec<Spread> =
            (0..charts).map(|g| Spread::new(&tables[g * per_chart..(g + 1) * per_chart], alphabet)).collect();
        distances.extend(cells.row(q).iter().map(|&cell| {
            let cell = cell as usize;
            spreads[usize::from(anchor_chart[cell])].distance(needed, queries.bases.row(q)[cell])
        }));
    }
    distances.retain(|d| d.is_finite());
    if distances.len() < HITS {
        return 0.0;
    }
    distances.sort_by(f32::total_cmp);
    distances[((1.0 - LOSS) * distances.len() as f64) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for probe in [Probe::All, Probe::Auto, Probe::Cells(17)] {
            assert_eq!(probe.to_string().parse::<Probe>().unwrap(), probe);
        }
        assert!("0".parse::<Probe>().is_err() && "some".parse::<Probe>().is_err());
    }

    #[test]
    fn the_spread_is_that_of_random_symbols() {
        let tables: Vec<f32> = (0..48).map(|i| (i * 7 % 11) as f32).collect();
        let spread = Spread::new(&tables, 16);
        let mut random = crate::train::Random::new(3, 3);
        let draws: Vec<f32> = (0..200_000).map(|_| (0..3).map(|t| tables[16 * t + random.below(16)]).sum()).collect();
        let mean = draws.iter().sum::<f32>() / draws.len() as f32;
        let variance = draws.iter().map(|d| (d - mean) * (d - mean)).sum::<f32>() / draws.len() as f32;
        assert!((mean - spread.mean).abs() < 0.05);
        assert!((spread.distance(mean + variance.sqrt(), 0.0) - 1.0).abs() < 0.02);
    }
}
