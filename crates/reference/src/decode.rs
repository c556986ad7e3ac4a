//! From codes to vectors, scores and neighbours: `docs/format.md`, sections 4, 5 and 7.

use crate::{
    chain,
    distance::{Metric, dot, largest, normalised, similarity},
    file::File,
};

impl File {
    /// What a row is decoded from, in the coordinates of its chart: y, or y' with a learned decoder. Returns a numbers.
    pub fn coordinates(&self, row: usize) -> Vec<f64> {
        let y = self.codeword(row);
        self.learned.as_ref().map_or_else(|| y.clone(), |learned| learned.apply(&y))
    }

    /// y of a row: anchor plus tables. Returns a numbers.
    pub fn codeword(&self, row: usize) -> Vec<f64> {
        let anchor = self.labels[row];
        let chart = &self.charts[self.chart_of[anchor]];
        let symbols = &self.symbols[self.position_of[row]];
        chain::decode(&chart.code, &self.anchors[anchor], symbols)
    }

    /// What scores are made of, u_tilde: with a the anchor of the row as a vector, `a + W (u_hat - a)`, where W is the weight of its
    /// code; with a learned decoder and reaches, the reach of its code over |u_hat - a|, 1 where that length is nothing; otherwise 1.
    /// Returns d numbers.
    pub fn scored(&self, row: usize) -> Vec<f64> {
        let (unit, anchor) = (self.unit(row), self.anchor_unit(row));
        let mut codeword = Vec::new();
        for i in 0..unit.len() {
            codeword.push(unit[i] - anchor[i]);
        }
        let code = || self.factor_codes[self.position_of[row]];
        let weight = if self.learned.is_some() {
            let length = dot(&codeword, &codeword).sqrt();
            if self.side.reaches.is_empty() || length <= 1e-6 { 1.0 } else { self.side.reaches[code()] / length }
        } else if self.side.weights.is_empty() {
            1.0
        } else {
            self.side.weights[code()]
        };
        let mut scored = Vec::new();
        for i in 0..anchor.len() {
            scored.push(anchor[i] + weight * codeword[i]);
        }
        scored
    }

    /// u_hat = mean + sum over j of y_j b_j, or of y'_j b_j. Returns d numbers.
    pub fn unit(&self, row: usize) -> Vec<f64> {
        self.vector_of(row, &self.coordinates(row))
    }

    /// What is left of a row when only its anchor is kept: mean + sum over j of anchor_kj b_j.
    pub fn anchor_unit(&self, row: usize) -> Vec<f64> {
        self.vector_of(row, &self.anchors[self.labels[row]])
    }

    /// mean + sum over j of y_j b_j with the columns of the row's chart. `y`: a.
    fn vector_of(&self, row: usize, y: &[f64]) -> Vec<f64> {
        let chart = &self.charts[self.chart_of[self.labels[row]]];
        let mut u = self.mean.clone();
        for j in 0..y.len() {
            for i in 0..u.len() {
                u[i] += y[j] * chart.columns[j][i];
            }
        }
        u
    }

    /// gain_hat of a row: code 0 is 0; code c from 1 to 16^N - 1 is
    /// lo (hi / lo)^((c - 1) / (16^N - 2)), or what section `GAIN` says; that of all rows without
    /// gain nibbles, 1 for cosine.
    pub fn gain(&self, row: usize) -> f64 {
        let Some((lo, hi)) = self.side.gain_range else {
            return self.side.one_gain;
        };
        let code = self.gain_codes[self.position_of[row]];
        if code == 0 {
            return 0.0;
        }
        if !self.gain_pieces.is_empty() {
            return self.gain_of_pieces(code - 1);
        }
        let steps = (1_u32 << (4 * self.meta.gain_nibbles)) - 2;
        lo * (hi / lo).powf((code - 1) as f64 / f64::from(steps))
    }

    /// Section 7: code `code` of those from 1 on, which go through the pieces one by one. Behind
    /// the last piece all have its last gain.
    fn gain_of_pieces(&self, mut code: usize) -> f64 {
        let mut end = 0.0;
        for &(codes, first, last) in &self.gain_pieces {
            if code < codes {
                let steps = (codes - 1).max(1);
                return first * (last / first).powf(code as f64 / steps as f64);
            }
            code -= codes;
            end = last;
        }
        end
    }

    /// F of a row: the level its code names, 1 without a factor nibble; with a learned decoder
    /// |u_tilde|^-alpha, 1 where that length is nothing. `scored`: [`Self::scored`].
    pub fn factor(&self, row: usize, scored: &[f64]) -> f64 {
        if self.learned.is_some() {
            let length = dot(scored, scored).sqrt();
            return if length <= 1e-6 { 1.0 } else { length.powf(-self.meta.alpha) };
        }
        if self.side.factor_levels.is_empty() {
            return 1.0;
        }
        self.side.factor_levels[self.factor_codes[self.position_of[row]]]
    }

    /// x_hat = center + gain_hat u_hat. Returns d numbers.
    pub fn decode(&self, row: usize) -> Vec<f64> {
        let (gain, unit) = (self.gain(row), self.unit(row));
        let mut x = Vec::new();
        for i in 0..unit.len() {
            x.push(self.center[i] + gain * unit[i]);
        }
        x
    }

    /// The score of a row, larger is nearer:
    ///
    /// ```text
    /// cosine, dot:  G F <q, u_tilde>                                   (for cosine q is normalised)
    /// l2:           2 G F <q - center, u_tilde> - G^2 - |q - center|^2
    /// ```
    pub fn score(&self, query: &[f64], row: usize) -> f64 {
        self.score_of(query, row, &self.scored(row))
    }

    /// [`Self::score`] with [`Self::scored`] of the row given, so that many queries need not decode it again.
    pub fn score_of(&self, query: &[f64], row: usize, scored: &[f64]) -> f64 {
        let (gain, factor) = (self.gain(row), self.factor(row, scored));
        match self.meta.metric {
            Metric::Cosine => gain * factor * dot(&normalised(query), scored),
            Metric::Dot => gain * factor * dot(query, scored),
            Metric::L2 => {
                let mut centred = query.to_vec();
                for i in 0..centred.len() {
                    centred[i] -= self.center[i];
                }
                let product = 2.0 * gain * factor * dot(&centred, scored);
                product - gain * gain - dot(&centred, &centred)
            }
        }
    }

    /// The `k` rows of highest [`Self::score`] as (row, score), ties to the lower row number, by
    /// scoring all n rows.
    pub fn search(&self, query: &[f64], k: usize) -> Vec<(usize, f64)> {
        let mut scores = Vec::new();
        for row in 0..self.meta.n {
            scores.push(self.score(query, row));
        }
        largest(&scores, k)
    }

    /// The `k` nearest *decoded* rows under the plain metric as (row, similarity): cosine of q and
    /// x_hat, <q, x_hat>, or -|q - x_hat|^2. Factors play no part.
    pub fn search_exact_metric(&self, query: &[f64], k: usize) -> Vec<(usize, f64)> {
        let mut scores = Vec::new();
        for row in 0..self.meta.n {
            scores.push(similarity(self.meta.metric, query, &self.decode(row)));
        }
        largest(&scores, k)
    }

    /// All u_hat, n x d flat: for the energy.
    pub fn units(&self) -> Vec<f64> {
        (0..self.meta.n).flat_map(|row| self.unit(row)).collect()
    }

    /// All x_hat, n x d flat.
    pub fn decode_all(&self) -> Vec<f64> {
        (0..self.meta.n).flat_map(|row| self.decode(row)).collect()
    }
}
