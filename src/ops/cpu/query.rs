//! One query while codes are scanned.

use super::{
    scan::{Kernel, bytes::ByteTables},
    simd::Level,
};
use crate::{
    math::topk::TopK,
    ops::{
        allowed::Allowed,
        types::{CodesRef, ScoreTables},
    },
};

/// A query with what it has found.
pub(super) struct Query<'a> {
    pub(super) tables: &'a [f32],
    pub(super) bases: &'a [f32],
    /// Of each chart.
    pub(super) bytes: Vec<ByteTables>,
    pub(super) top: TopK,
}

impl<'a> Query<'a> {
    pub(crate) fn new(scan: &Scan<'_>, queries: &'a ScoreTables, q: usize, k: usize) -> Query<'a> {
        let codes = scan.codes;
        let byte = scan.kernel.largest(codes.shape.kind);
        let (tables, bases) = (queries.tables.row(q), queries.bases.row(q));
        let largest = bases.iter().fold(0f32, |m, b| m.max(b.abs()));
        // What is added to sums is divided by their weight where a row's need is taken.
        let lightest = codes.weights.iter().filter(|w| **w > 0.0).fold(1f32, |m, w| m.min(*w));
        let largest = largest / lightest;
        let charts = usize::from(codes.anchor_chart.iter().copied().max().unwrap_or(0)) + 1;
        let per_chart = codes.shape.symbols * codes.alphabet;
        let of_chart = |g: usize| {
            ByteTables::new(scan.level, &tables[g * per_chart..(g + 1) * per_chart], codes.alphabet, byte, largest)
        };
        Query { tables, bases, bytes: (0..charts).map(of_chart).collect(), top: TopK::new(k) }
    }
}

/// The codes and how they are looked at.
pub(super) struct Scan<'a> {
    pub(super) level: Level,
    pub(super) kernel: Kernel,
    pub(super) codes: &'a CodesRef<'a>,
    pub(super) pieces: Vec<(u64, u64, usize)>,
    /// The rows that may be found; all without.
    pub(super) allowed: Option<&'a Allowed>,
    pub(super) backwards: bool,
}
