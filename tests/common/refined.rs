//! Files with a refine layer taken apart by docs/format.md: for the naive reference, which knows no layer.

use vlc::{Index, Mat};
use vlc_reference::{
    File, chain,
    distance::{dot, normalised},
    model,
    packed::Cursor,
};

use super::sections;

/// What a file of one segment says, without its layer and with it.
pub struct Refined {
    pub base: File,
    /// n x d: the decoded residual of each row.
    pub residuals: Vec<Vec<f64>>,
    /// n: the factor of each row with the layer.
    pub factors: Vec<f64>,
}

impl Refined {
    pub fn read<D: AsRef<[u8]>>(index: &Index<D>) -> Refined {
        let mut parts = sections::sections(index.bytes());
        let mut find = |kind: &[u8; 4]| sections::part(&mut parts, kind).clone();
        let (model, codes) = (find(b"RFNM"), find(b"RFNC"));
        let mut at = Cursor::new("RFNM", &model);
        let symbols = at.count32().unwrap();
        let lags = at.u8().unwrap();
        at.zeros(3).unwrap();
        at.f32().unwrap();
        let levels = at.f32s(16).unwrap();
        // A reader that does not know the layer reads the rest.
        let base = vlc_reference::parse(index.bytes()).unwrap();
        let kind = vlc_reference::CodeKind::Chain;
        let meta = model::Meta { kind, symbols, lags, charts: 1, ..base.meta.clone() };
        let chart = model::charts(&model[at.at()..], &meta).unwrap().remove(0);
        let (n, width) = (base.meta.n, symbols.div_ceil(2));
        assert_eq!(codes.len(), n * width + n.div_ceil(2));
        let (mut residuals, mut factors) = (Vec::new(), Vec::new());
        for row in 0..n {
            let position = base.position_of[row];
            let pair = &codes[position / 2 * (2 * width + 1)..];
            factors.push(levels[usize::from(pair[0] >> (4 * (position % 2)) & 15)]);
            let own = &pair[1 + position % 2 * width..][..width];
            let symbols: Vec<u8> = (0..symbols).map(|t| own[t / 2] >> (4 * (t % 2)) & 15).collect();
            let y = chain::decode(&chart.code, &vec![0.0; chart.columns.len()], &symbols);
            let of = |i: usize| (0..y.len()).map(|j| y[j] * chart.columns[j][i]).sum();
            residuals.push((0..base.meta.d).map(of).collect());
        }
        Refined { base, residuals, factors }
    }

    /// u_hat + e_hat.
    pub fn unit(&self, row: usize) -> Vec<f64> {
        self.base.unit(row).iter().zip(&self.residuals[row]).map(|(u, e)| u + e).collect()
    }

    pub fn decode(&self, row: usize) -> Vec<f64> {
        let gain = self.base.gain(row);
        self.unit(row).iter().zip(&self.base.center).map(|(u, c)| c + gain * u).collect()
    }

    pub fn score(&self, query: &[f32], row: usize) -> f64 {
        let (gain, factor) = (self.base.gain(row), self.factors[row]);
        let query: Vec<f64> = query.iter().zip(&self.base.center).map(|(&q, c)| f64::from(q) - c).collect();
        match self.base.meta.metric {
            vlc_reference::Metric::Cosine => factor * dot(&normalised(&query), &self.unit(row)),
            vlc_reference::Metric::Dot => gain * factor * dot(&query, &self.unit(row)),
            vlc_reference::Metric::L2 => {
                2.0 * gain * factor * dot(&query, &self.unit(row)) - gain * gain - dot(&query, &query)
            }
        }
    }

    /// Checks hits and scores of queries of which every row was a candidate, near-ties aside.
    #[track_caller]
    pub fn assert_answers(&self, queries: &Mat, found: &vlc::Neighbors, k: usize) {
        let n = self.base.meta.n;
        assert_eq!(found.ids.dim(), k.min(n));
        for q in 0..queries.rows() {
            let scores: Vec<f64> = (0..n).map(|row| self.score(queries.row(q), row)).collect();
            let own: f64 = queries.row(q).iter().map(|&v| f64::from(v) * f64::from(v)).sum();
            let tolerance = 1e-5 * scores.iter().fold(own.max(1.0), |m, s| m.max(s.abs()));
            let best = vlc_reference::distance::largest(&scores, k);
            let hits = found.ids.row(q).iter().zip(found.scores.row(q));
            for (rank, (&id, &score)) in hits.enumerate() {
                let expected = scores[id as usize];
                assert!(!found.ids.row(q)[..rank].contains(&id), "query {q}: row {id} twice");
                assert!((f64::from(score) - expected).abs() < tolerance, "query {q}, row {id}: {score} {expected}");
                assert!((expected - best[rank].1).abs() < 2.0 * tolerance, "query {q}, rank {rank}: {id} {best:?}");
            }
        }
    }
}
