//! What score is given and what it must answer, in f64, straight from the formulas of docs/format.md.

use vlc_reference::distance::{Metric, dot, normalised};

use super::store::Store;
use crate::{Mat, ops::ScoreTables};

impl Store {
    /// The tables of `queries` in f64, rounded once, straight from the formulas of docs/format.md.
    pub(super) fn tables(&self, queries: &[Vec<f64>]) -> ScoreTables {
        let (file, alphabet) = (&self.file, self.alphabet);
        let per_chart = file.meta.symbols * alphabet;
        let mut tables = Mat::zeros(queries.len(), per_chart * file.charts.len());
        let mut bases = Mat::zeros(queries.len(), file.anchors.len());
        for (q, query) in queries.iter().enumerate() {
            let query = self.prepared(query);

            let along: Vec<Vec<f64>> =
                file.charts.iter().map(|c| c.columns.iter().map(|b| dot(&query, b)).collect()).collect();
            for (g, chart) in file.charts.iter().enumerate() {
                let mut sums = vec![0.0; per_chart];
                let subspaces = chart.code.widths.iter().enumerate().flat_map(|(t, &w)| std::iter::repeat_n(t, w));
                for (j, t) in subspaces.enumerate() {
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
        ScoreTables { tables, bases, reach: None }
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
