//! From queries to the tables that search looks codes up in.

use pulp::Arch;
use rayon::prelude::*;

use crate::{
    matrix::{Mat, MatRef},
    model::{Code, Model, kinds::Metric},
    ops::{cpu::panels::Panels, reach::Reach, types::ScoreTables},
};

/// The matrices of a model that queries are multiplied with, unpacked.
#[derive(Debug)]
pub(crate) struct QueryModel {
    charts: Vec<QueryChart>,
}

#[derive(Debug)]
struct QueryChart {
    /// Active x d.
    directions: Panels,
    /// The chart's anchors x active.
    anchors: Panels,
    /// Which they are.
    members: Vec<usize>,
}

/// Queries of a unit of parallel work.
const CHUNK: usize = 32;

impl QueryModel {
    /// O((d + anchors) x active) memory and time.
    pub(crate) fn new(model: &Model) -> QueryModel {
        let of = |(g, chart): (usize, &crate::model::Chart)| QueryChart {
            directions: Panels::new(chart.decoder.to_mat().view()),
            anchors: Panels::new(chart.anchors.to_rows().view()),
            members: (0..model.anchors()).filter(|&k| usize::from(model.anchor_chart[k]) == g).collect(),
        };
        QueryModel { charts: model.charts.iter().enumerate().map(of).collect() }
    }

    /// What every symbol and anchor adds to the inner product with each query, which does not depend on the others.
    /// O(queries x active x (d + anchors + alphabet)).
    pub(crate) fn tables(&self, model: &Model, queries: MatRef<'_>, reach: Reach) -> ScoreTables {
        let count = queries.rows();
        let alphabet = model.charts.first().map_or(16, |c| c.code.alphabet());
        let per_chart = model.symbols() * alphabet;
        let mut tables = Mat::zeros(count, per_chart * model.charts.len());
        let mut bases = Mat::zeros(count, model.anchors());
        let (width, anchors) = (tables.dim(), model.anchors());
        // A code without symbols has tables of no width, which cannot be split by it.
        let mut none = vec![[0f32; 0]; count];
        let mut of_queries: Vec<&mut [f32]> = match width {
            0 => none.iter_mut().map(<[f32; 0]>::as_mut_slice).collect(),
            _ => tables.as_mut_slice().chunks_exact_mut(width).collect(),
        };
        let chunks = of_queries.par_chunks_mut(CHUNK).zip(bases.as_mut_slice().par_chunks_mut(CHUNK * anchors));
        let of_chunk = |(c, (tables, bases)): (usize, (&mut [&mut [f32]], &mut [f32]))| -> Vec<Mat> {
            let queries = queries.slice(c * CHUNK..c * CHUNK + tables.len());
            let mut rotated_by_chart = Vec::with_capacity(self.charts.len());
            for (g, (chart, own)) in model.charts.iter().zip(&self.charts).enumerate() {
                let mut rotated = Mat::zeros(queries.rows(), chart.active());
                own.directions.products(rotated.as_mut_slice(), queries);
                let mut at_anchors = Mat::zeros(queries.rows(), own.members.len());
                own.anchors.products(at_anchors.as_mut_slice(), rotated.view());
                for q in 0..queries.rows() {
                    let tables = &mut tables[q][g * per_chart..(g + 1) * per_chart];
                    Arch::new().dispatch(|| fill_tables(&chart.code, rotated.row(q), tables));
                    for (&k, &at) in own.members.iter().zip(at_anchors.row(q)) {
                        bases[q * anchors + k] = at;
                    }
                }
                rotated_by_chart.push(rotated);
            }
            for (q, bases) in bases.chunks_exact_mut(anchors).enumerate() {
                let mean: f32 = queries.row(q).iter().zip(&model.mean).map(|(q, m)| q * m).sum();
                bases.iter_mut().for_each(|b| *b += mean);
            }
            rotated_by_chart
        };
        let parts: Vec<Vec<Mat>> = chunks.enumerate().map(of_chunk).collect();
        let rotated = model.charts.iter().enumerate().map(|(g, chart)| {
            let mut all = Mat::zeros(count, chart.active());
            let mut rest = all.as_mut_slice();
            for part in &parts {
                let (own, others) = rest.split_at_mut(part[g].as_slice().len());
                own.copy_from_slice(part[g].as_slice());
                rest = others;
            }
            all
        });
        let rotated = rotated.collect();
        ScoreTables { tables, bases, rotated, reach, allowed: None }
    }
}

/// Folds every lag into the table of the symbol it reaches back to: what is looked up depends on one symbol alone.
#[inline(always)]
fn fill_tables(code: &Code, query: &[f32], tables: &mut [f32]) {
    let (alphabet, entries) = (code.alphabet(), code.entries());
    let mut direction = 0;
    for (t, &width) in code.widths.iter().enumerate() {
        for _ in 0..width {
            for lag in 0..=code.lags.min(t) {
                let from = &code.tables[direction * entries + lag * alphabet..][..alphabet];
                let to = &mut tables[(t - lag) * alphabet..][..alphabet];
                for (to, from) in to.iter_mut().zip(from) {
                    *to += query[direction] * from;
                }
            }
            direction += 1;
        }
    }
}

/// An estimate of a score, brought to what scores can be.
pub(crate) fn possible(metric: Metric, score: f32) -> f32 {
    match metric {
        Metric::Cosine => score.clamp(-1.0, 1.0),
        Metric::Dot => score,
        Metric::L2 => score.min(0.0),
    }
}
