//! What goes in and out of the operations.

use std::sync::Arc;

use super::{
    allowed::Allowed,
    reach::{Reach, looked_at},
};
use crate::{
    format::{
        row_ids::RowIds,
        rows::{BLOCK, BlockShape},
    },
    matrix::{Mat, MatRef},
    model::{Code, Model, nibbles_of},
};

/// Which anchors are nearest to each row.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignments {
    /// For each row its nearest anchors, nearest first, `candidates` of them; of equally near ones the lower number first.
    pub labels: Vec<u32>,
    /// Squared L2 distance of each row to the nearest of them.
    pub distances: Vec<f32>,
    /// Anchors per row.
    pub candidates: usize,
}

impl Assignments {
    /// The nearest anchor of each row.
    pub fn nearest(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        self.labels.iter().copied().step_by(self.candidates.max(1))
    }

    /// Mean squared L2 distance of the rows to their nearest anchors; 0 without rows.
    #[must_use]
    pub fn energy(&self) -> f64 {
        let sum: f64 = self.distances.iter().map(|&d| f64::from(d)).sum();
        sum / self.distances.len().max(1) as f64
    }
}

/// What the loops ask of the rows of each cell; the means stay where they are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cells {
    /// Rows of each cell.
    pub(crate) counts: Vec<u32>,
    /// Mean squared distance of all the cell's rows to its anchor, per dimension.
    pub(crate) variances: Vec<f32>,
}

/// How [`Ops::update`](super::Ops::update) moves anchors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step<'a> {
    /// Share of the way to the cell's mean, above 0 and at most 1.
    pub(crate) learning_rate: f32,
    /// Added after that, one row per anchor.
    pub(crate) noise: Option<MatRef<'a>>,
}

/// What [`Ops::encode`](super::Ops::encode) works with: the code of one chart and where its anchors stand. `A` is what
/// [`Ops::assign`](super::Ops::assign) found.
#[derive(Debug)]
pub(crate) struct EncodeJob<'a, A> {
    pub(crate) code: &'a Code,
    /// Coordinates of the anchors, in the directions the rows are given in.
    pub(crate) anchors: MatRef<'a>,
    /// Anchors to try for each row, `candidates` of them, all tried and the best kept.
    pub(crate) tries: Tries<'a, A>,
    pub(crate) candidates: usize,
    /// How hard a chain code with more than two lags is searched.
    pub(crate) effort: Effort,
    /// What the lengths of the decoded rows take, where they are asked for.
    pub(crate) lengths: Option<Lengths<'a>>,
}

/// The anchors that rows try.
#[derive(Debug)]
pub(crate) enum Tries<'a, A> {
    /// Rows x candidates numbers.
    Given(&'a [u32]),
    /// The labels of an assignment of the same rows with as many candidates.
    Assigned(&'a A),
    /// Anchor 0 for every row; `candidates` is 1.
    First,
}

/// What gives the length of a decoded row x from y, its anchor plus codeword: `|x|^2 = constant + <slope, y> + y^T gram y`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lengths<'a> {
    /// Active x active: inner products of the decoder's rows.
    pub(crate) gram: MatRef<'a>,
    /// Twice their inner products with the mean.
    pub(crate) slope: &'a [f32],
    /// The squared length of the mean.
    pub(crate) constant: f32,
}

/// How many paths per state the search of a chain code keeps where it cannot be exact: with more than two lags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Two: half the time, 1 to 2 % more distortion. For the early rounds of training.
    Quick,
    /// Four.
    Full,
}

/// What [`Ops::encode`](super::Ops::encode) found.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Encoded {
    /// The anchor chosen for each row.
    pub(crate) labels: Vec<u32>,
    /// `symbols` values per row.
    pub(crate) symbols: Vec<u8>,
    /// Squared error of each row.
    pub(crate) errors: Vec<f32>,
    /// Lengths of the decoded rows; empty where they were not asked for.
    pub(crate) norms: Vec<f32>,
}

/// Codes as [`Ops::score`](super::Ops::score) needs them.
#[derive(Debug, Clone)]
pub(crate) struct CodesRef<'a> {
    /// What all rows share: tables and anchors, for a device that multiplies decoded coordinates.
    #[allow(dead_code, reason = "the CPU looks up what symbols add to a score")]
    pub(crate) model: &'a Model,
    pub(crate) shape: BlockShape,
    pub(crate) blocks: &'a [u8],
    pub(crate) labels: RowIds<'a>,
    pub(crate) anchor_chart: &'a [u8],
    /// Values per symbol: 16 or 256.
    pub(crate) alphabet: usize,
    /// The factor of each factor code: 16, or 256 with two nibbles; empty without factors.
    pub(crate) factors: &'a [f32],
    /// What codewords are multiplied with, by factor code; empty where that is 1.
    pub(crate) weights: &'a [f32],
    /// The gain of each gain code; one value, that of all rows, without codes.
    pub(crate) gains: &'a [f32],
    /// Whether the score is 2 G F s - G^2 (l2) instead of G F s, for s = base + W codeword.
    pub(crate) squared: bool,
}

impl<'a> CodesRef<'a> {
    /// The block of a position, and the place in it.
    #[inline]
    pub(crate) fn block(&self, position: u64) -> (&'a [u8], usize) {
        let (at, stride) = (position as usize, self.shape.bytes());
        (&self.blocks[at / BLOCK * stride..(at / BLOCK + 1) * stride], at % BLOCK)
    }

    /// Side nibbles that are of the factor's code.
    #[inline(always)]
    pub(crate) fn factor_nibbles(&self) -> usize {
        nibbles_of(self.factors.len())
    }

    /// The code of the factor at place `i` of a block: its nibbles, least significant first.
    #[inline(always)]
    pub(crate) fn factor_code(&self, block: &[u8], i: usize) -> usize {
        (0..self.factor_nibbles()).rev().fold(0, |code, s| code << 4 | usize::from(self.shape.side(block, s, i)))
    }

    /// The weight of a factor code.
    #[inline(always)]
    pub(crate) fn weight(&self, code: usize) -> f32 {
        self.weights.get(code).copied().unwrap_or(1.0)
    }

    /// The gain of the row at a position.
    pub(crate) fn gain(&self, position: u64) -> f32 {
        let (block, i) = self.block(position);
        let code = self.shape.gain_code(block, self.factor_nibbles(), i);
        self.gains.get(code).copied().unwrap_or(1.0)
    }

    /// The inner product with the decoded row at a position, its codeword weighted, of a query with these tables and bases.
    #[inline]
    pub(crate) fn product(&self, tables: &[f32], bases: &[f32], position: u64) -> f32 {
        let cell = self.labels.cell_of(position);
        let (chart, per_chart) = (usize::from(self.anchor_chart[cell]), self.shape.symbols * self.alphabet);
        let (block, i) = self.block(position);
        let codeword = self.shape.sum(block, i, &tables[chart * per_chart..(chart + 1) * per_chart]);
        bases[cell] + self.weight(self.factor_code(block, i)) * codeword
    }
}

/// Queries as [`Ops::score`](super::Ops::score) needs them.
#[derive(Debug, Clone)]
pub(crate) struct ScoreTables {
    /// Queries x (charts x symbols x alphabet): what each symbol adds to the inner product.
    pub(crate) tables: Mat,
    /// Queries x anchors: what the anchor (and the mean) adds.
    pub(crate) bases: Mat,
    /// Of each chart: queries x active, the queries in its directions; another way to the same scores.
    #[allow(dead_code, reason = "the CPU looks up what symbols add to a score")]
    pub(crate) rotated: Vec<Mat>,
    /// How many cells are looked at.
    pub(crate) reach: Reach,
    /// The rows that may be found; all without.
    pub(crate) allowed: Option<Arc<Allowed>>,
}

impl ScoreTables {
    /// How many of `n` rows may be found.
    pub(crate) fn rows(&self, n: u64) -> u64 {
        self.allowed.as_ref().map_or(n, |allowed| allowed.count())
    }

    /// The cells of which a query looks at so many.
    pub(crate) fn looked_at(&self, q: usize, cells: &[u64], most: usize, k: usize) -> Vec<usize> {
        looked_at(self.bases.row(q), cells, self.allowed.as_deref(), most, k)
    }
}
