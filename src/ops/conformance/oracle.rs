//! What score is given and what it must answer, in f64, straight from the formulas of docs/format.md.

use vlc_reference::{
    distance::{Metric, dot, normalised},
    model::Chart,
};

use super::store::Store;
use crate::{matrix::Mat, ops::types::ScoreTables};

impl Store {
    /// The tables of `queries` in f64, rounded once, straight from the formulas of docs/format.md.
    pub(super) fn tables(&self, queries: &[Vec<f64>]) -> ScoreTables {
        let (file, alphabet) = (&self.file, self.alphabet);
        let per_chart = file.meta.symbols * alphabet;
        let mut tables = Mat::zeros(queries.len(), per_chart * file.charts.len());
        let mut bases = Mat::zeros(queries.len(), file.anchors.len());
        let mut rotated: Vec<Mat> = file.charts.iter().map(|c| Mat::zeros(queries.len(), c.columns.len())).collect();
        for (q, query) in queries.iter().enumerate() {
            let query = self.prepared(query);
            let along = self.along(&query);
            for (g, chart) in file.charts.iter().enumerate() {
                rotated[g].row_mut(q).iter_mut().zip(&along[g]).for_each(|(r, a)| *r = *a as f32);
                let mut sums = vec![0.0; per_chart];
                for (j, t) in subspaces(chart) {
                    for lag in 0..=chart.code.lags.min(t) {
                        for c in 0..alphabet {
                            sums[(t - lag) * alphabet + c] += along[g][j] * chart.code.tables[j][16 * lag + c];
                        }
                    }
                }
                let out = &mut tables.row_mut(q)[g * per_chart..(g + 1) * per_chart];
                out.iter_mut().zip(sums).for_each(|(o, s)| *o = s as f32);
            }
            for (k, anchor) in file.anchors.iter().enumerate() {
                let sum: f64 = anchor.iter().zip(&along[file.chart_of[k]]).map(|(a, q)| a * q).sum();
                bases.row_mut(q)[k] = (dot(&query, &file.mean) + sum) as f32;
            }
        }
        ScoreTables { tables, bases, rotated, reach: None, allowed: None }
    }

    /// Of each chart: a prepared query in its directions.
    fn along(&self, query: &[f64]) -> Vec<Vec<f64>> {
        self.file.charts.iter().map(|c| c.columns.iter().map(|b| dot(query, b)).collect()).collect()
    }

    /// A query as the score multiplies it.
    fn prepared(&self, query: &[f64]) -> Vec<f64> {
        match self.file.meta.metric {
            Metric::Cosine => normalised(query),
            Metric::Dot => query.to_vec(),
            Metric::L2 => query.iter().zip(&self.file.center).map(|(q, c)| q - c).collect(),
        }
    }

    /// The reference score of every row without the query's own constant, which operations leave out.
    pub(super) fn scores(&self, query: &[f64]) -> Vec<f64> {
        let prepared = self.prepared(query);
        let constant = match self.file.meta.metric {
            Metric::L2 => dot(&prepared, &prepared),
            _ => 0.0,
        };
        (0..self.file.meta.n).map(|row| self.file.score(query, row) + constant).collect()
    }

    /// What the terms of a row's score add up to without their signs, the largest of all rows: what rounding is relative to.
    pub(super) fn magnitude(&self, query: &[f64]) -> f64 {
        let (file, query) = (&self.file, self.prepared(query));
        let along = self.along(&query);
        let mean: f64 = query.iter().zip(&file.mean).map(|(q, m)| (q * m).abs()).sum();
        let of_row = |row: usize| {
            let (anchor, symbols) = (file.labels[row], &file.symbols[file.position_of[row]]);
            let (g, gain) = (file.chart_of[anchor], file.gain(row));
            let code = &file.charts[g].code;
            let mut sum = mean;
            for (j, t) in subspaces(&file.charts[g]) {
                let term = |lag: usize| code.tables[j][16 * lag + usize::from(symbols[t - lag])].abs();
                let y = file.anchors[anchor][j].abs() + (0..=code.lags.min(t)).map(term).sum::<f64>();
                sum += along[g][j].abs() * y;
            }
            let sum = gain * file.factor(row, &[]) * sum;
            if file.meta.metric == Metric::L2 { 2.0 * sum + gain * gain } else { sum }
        };
        (0..file.meta.n).map(of_row).fold(0.0, f64::max)
    }

    /// Whether two rows have the same codes throughout.
    pub(super) fn same(&self, a: usize, b: usize) -> bool {
        let file = &self.file;
        let code = |row: usize| {
            let p = file.position_of[row];
            (file.labels[row], &file.symbols[p], file.factor_codes.get(p), file.gain_codes.get(p))
        };
        code(a) == code(b)
    }
}

/// Every direction of a chart and the subspace it is of.
fn subspaces(chart: &Chart) -> impl Iterator<Item = (usize, usize)> {
    chart.code.widths.iter().enumerate().flat_map(|(t, &width)| std::iter::repeat_n(t, width)).enumerate()
}
