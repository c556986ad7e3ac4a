//! What the products of a row are multiplied with in its score, chosen on sample queries.
//!
//! A badly coded row is short, and dividing by a power alpha of its length puts it back where it belongs among the others. Where its
//! codeword is first brought to the length of what it stands for, it also has the right share in the product: that takes a weight of
//! the codeword, which stands in the file with the factor.

use rayon::prelude::*;

use super::{pairs::pairs, quantize};
use crate::{
    encode::shares::Share,
    math::{product::product_nt, rng::Random, topk::TopK},
    matrix::{Mat, MatRef},
    model::{Scales, Side, factor, kinds::Metric, score::score},
    neighbors::Neighbors,
    search::exact::Exact,
};

/// The k that recall is measured at.
pub(crate) const TARGET_K: usize = 10;
/// Rows and queries they are chosen on.
const ROWS: usize = 12_288;
const QUERIES: usize = 512;
const ALPHAS: [f32; 9] = [0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2];
/// What is taken when there is nothing to choose on.
pub(crate) const DEFAULT_ALPHA: f32 = 0.7;
const PURPOSE_ROWS: u64 = 7;

/// The rows of the sample that calibration looks at.
pub(crate) fn sample(rows: usize, seed: u64) -> Vec<usize> {
    Random::new(seed, PURPOSE_ROWS).sample(rows, ROWS)
}

/// Copies of some rows and their gains.
pub(crate) fn gather(rows: MatRef<'_>, gains: &[f32], picked: &[usize]) -> (Mat, Vec<f32>) {
    let mut out = Mat::zeros(picked.len(), rows.dim());
    for (r, &i) in picked.iter().enumerate() {
        out.row_mut(r).copy_from_slice(rows.row(i));
    }
    (out, picked.iter().map(|&i| gains[i]).collect())
}

/// The neighbours by true scores of `queries` among `unit` rows; `skip` leaves row q out of query q's.
pub(crate) fn truth_scores(queries: &Mat, unit: MatRef<'_>, gains: &[f32], metric: Metric, skip: bool) -> Neighbors {
    let k = (TARGET_K + usize::from(skip)).min(unit.rows());
    let mut exact = Exact::new(queries.clone(), k, metric);
    exact.offer(0, unit, gains);
    exact.finish()
}

/// Rows, and queries whose true neighbours among them are known.
pub(crate) struct Sampled<'a> {
    metric: Metric,
    gains: &'a [f32],
    queries: Mat,
    truth: Neighbors,
    /// Queries x rows: products with what the rows are decoded to.
    products: Mat,
}

/// Rows with their anchors.
pub(crate) struct Anchored<'a> {
    /// Anchors x d.
    pub(crate) vectors: MatRef<'a>,
    /// The anchor of each row.
    pub(crate) labels: &'a [u32],
    pub(crate) shares: &'a [Share],
}

/// How often true neighbours are found with each of [`ALPHAS`].
type Hits = [usize; ALPHAS.len()];

/// What was chosen: an exponent, and the share of true neighbours that are found with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    pub(crate) alpha: f32,
    pub(crate) recall: f64,
    /// That share with an alpha of 1.
    with_one: f64,
}

/// What an alpha of 1 may seem to lose and be taken all the same, where codewords have the length of what they stand for: then a row that is decoded
/// without error has length 1, and the difference is less than the error of one measurement.
const ONE_LOSES: f64 = 0.004;

impl Choice {
    fn or_one(self, loss: f64) -> Choice {
        if self.with_one >= self.recall - loss { Choice { alpha: 1.0, recall: self.with_one, ..self } } else { self }
    }
}

impl<'a> Sampled<'a> {
    /// `queries` are as scores take them; without any, rows stand in their place. `None` when there is too little to choose on.
    pub(crate) fn new(
        metric: Metric,
        decoded: MatRef<'_>,
        unit: MatRef<'_>,
        gains: &'a [f32],
        queries: Option<MatRef<'_>>,
    ) -> Option<Sampled<'a>> {
        // A query that is a row of the store is its own nearest neighbour whatever alpha is, which costs nothing.
        let given = queries.filter(|q| q.rows() >= 32);
        let source = given.unwrap_or(unit);
        let count = source.rows().min(QUERIES);
        if unit.rows() < 8 * TARGET_K || count < 32 {
            return None;
        }
        let mut queries = Mat::zeros(count, unit.dim());
        for q in 0..count {
            let at = q * source.rows() / count;
            let length = if given.is_none() && metric == Metric::L2 { gains[at] } else { 1.0 };
            queries.row_mut(q).iter_mut().zip(source.row(at)).for_each(|(to, v)| *to = length * v);
        }
        let truth = truth_scores(&queries, unit, gains, metric, false);
        let products = all_products(&queries, decoded);
        Some(Sampled { metric, gains, queries, truth, products })
    }

    /// The alpha of highest recall for rows of these decoded lengths.
    pub(crate) fn plain(&self, norms: &[f32]) -> Choice {
        let of = |alpha: f32| norms.iter().map(|&n| Scales { factor: factor(n, alpha), weight: 1.0 }).collect();
        self.choose(self.hits(of, None))
    }

    /// The alpha of highest recall with factors of so many nibbles.
    fn levelled(&self, norms: &[f32], nibbles: usize) -> Choice {
        let of = |alpha: f32| {
            let side = Side { factors: factor_levels(norms, alpha, nibbles), ..Side::default() };
            let stored = |&n: &f32| {
                let code = side.factor_code(Scales { factor: factor(n, alpha), weight: 1.0 });
                Scales { factor: side.factors[usize::from(code)], weight: 1.0 }
            };
            norms.iter().map(stored).collect()
        };
        self.choose(self.hits(of, None))
    }

    /// The same for codewords that are brought to the length of what they stand for, with factor and weight by one code.
    fn paired(&self, rows: &Anchored<'_>, bases: &Mat, costs: [f32; 3], nibbles: usize) -> Choice {
        let of = |alpha: f32| {
            let wanted: Vec<Scales> = rows.shares.iter().map(|share| share.restored(alpha)).collect();
            let (factors, weights) = pairs(&wanted, costs, nibbles);
            let side = Side { factors, weights, costs, ..Side::default() };
            let stored = |wanted: &Scales| {
                let code = usize::from(side.factor_code(*wanted));
                Scales { factor: side.factors[code], weight: side.weights[code] }
            };
            wanted.iter().map(stored).collect()
        };
        self.choose(self.hits(of, Some((rows.labels, bases)))).or_one(ONE_LOSES)
    }

    /// The same for codewords that are brought to the exact length of what they stand for.
    pub(crate) fn restored(&self, rows: &Anchored<'_>) -> Choice {
        let of = |alpha: f32| rows.shares.iter().map(|share| share.restored(alpha)).collect();
        let bases = all_products(&self.queries, rows.vectors);
        self.choose(self.hits(of, Some((rows.labels, &bases)))).or_one(ONE_LOSES)
    }

    /// The same where the length itself has a code, and a reader has the rest.
    pub(crate) fn reaching(&self, rows: &Anchored<'_>, reaches: &[f32]) -> Choice {
        let side = Side { reaches: reaches.to_vec(), ..Side::default() };
        let stored = |share: &Share| share.with_reach(reaches[usize::from(side.reach_code(share.reach))]);
        let shares: Vec<Share> = rows.shares.iter().map(stored).collect();
        self.restored(&Anchored { shares: &shares, ..*rows })
    }

    /// What errors of F and F W cost: second moments of the products with anchor and codeword over near pairs.
    fn costs(&self, labels: &[u32], bases: &Mat) -> [f32; 3] {
        let (mut sums, mut count) = ([0f64; 3], 0.0);
        for q in 0..self.queries.rows() {
            for &row in self.truth.ids.row(q) {
                let base = f64::from(bases.row(q)[labels[row as usize] as usize]);
                let codeword = f64::from(self.products.row(q)[row as usize]) - base;
                let terms = [base * base, base * codeword, codeword * codeword];
                sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
                count += 1.0;
            }
        }
        sums.map(|sum| (sum / f64::max(count, 1.0)) as f32)
    }

    /// How often true neighbours are found, where `of` gives the scales of the rows for an alpha. Those with a weight need the anchors of the
    /// rows and the products with these.
    fn hits(&self, of: impl Fn(f32) -> Vec<Scales> + Sync, anchors: Option<(&[u32], &Mat)>) -> Hits {
        let scales: Vec<Vec<Scales>> = ALPHAS.par_iter().map(|&alpha| of(alpha)).collect();
        // All alphas for one query, whose products are then at hand.
        let hits_of = |q: usize| -> Hits {
            let mut scores = vec![0f32; self.gains.len()];
            let base = |i: usize| anchors.map_or(0.0, |(labels, bases)| bases.row(q)[labels[i] as usize]);
            let bases: Vec<f32> = (0..self.gains.len()).map(base).collect();
            std::array::from_fn(|a| {
                let of_rows = scores.iter_mut().zip(self.products.row(q)).zip(&bases).zip(self.gains);
                for ((((to, product), base), gain), scales) in of_rows.zip(&scales[a]) {
                    let weighted = base + scales.weight * (product - base);
                    *to = score(self.metric == Metric::L2, *gain, scales.factor, weighted);
                }
                let mut top = TopK::new(self.truth.ids.dim());
                top.offer_all(&scores, 0, |row| row);
                top.into_sorted().iter().filter(|(_, row)| self.truth.ids.row(q).contains(row)).count()
            })
        };
        let hits: Vec<Hits> = (0..self.queries.rows()).into_par_iter().map(hits_of).collect();
        std::array::from_fn(|a| hits.iter().map(|hits| hits[a]).sum())
    }

    fn choose(&self, hits: Hits) -> Choice {
        // Neighbouring values of alpha differ by less than the error of one measurement, so they vote together.
        let smooth = |i: usize| {
            let (lo, hi) = (i.saturating_sub(1), (i + 1).min(ALPHAS.len() - 1));
            hits[lo] + 2 * hits[i] + hits[hi]
        };
        let best = (0..ALPHAS.len()).fold(0, |best, i| if smooth(i) > smooth(best) { i } else { best });
        let share = |i: usize| smooth(i) as f64 / (4 * self.queries.rows() * self.truth.ids.dim()).max(1) as f64;
        let one = ALPHAS.iter().position(|&alpha| alpha == 1.0).unwrap_or(best);
        Choice { alpha: ALPHAS[best], recall: share(best), with_one: share(one) }
    }
}

/// The alpha of highest recall on the sample queries, or on rows in their place.
pub(crate) fn choose_alpha(
    metric: Metric,
    norms: &[f32],
    decoded: MatRef<'_>,
    unit: MatRef<'_>,
    gains: &[f32],
    queries: Option<MatRef<'_>>,
) -> f32 {
    Sampled::new(metric, decoded, unit, gains, queries).map_or(DEFAULT_ALPHA, |sampled| sampled.plain(norms).alpha)
}

/// What there is room for in the code of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    /// 1 or 2.
    pub(crate) nibbles: usize,
    pub(crate) weights: bool,
}

/// Puts into `side` the factors of highest recall, with weights where these find more. Gives the alpha.
pub(crate) fn choose_factors(
    side: &mut Side,
    sampled: Option<&Sampled<'_>>,
    norms: &[f32],
    rows: &Anchored<'_>,
    kept: Kept,
) -> f32 {
    let Kept { nibbles, weights } = kept;
    let Some(sampled) = sampled else {
        side.factors = factor_levels(norms, DEFAULT_ALPHA, nibbles);
        return DEFAULT_ALPHA;
    };
    let plain = sampled.levelled(norms, nibbles);
    side.factors = factor_levels(norms, plain.alpha, nibbles);
    if !weights {
        return plain.alpha;
    }
    let bases = all_products(&sampled.queries, rows.vectors);
    let costs = sampled.costs(rows.labels, &bases);
    let paired = sampled.paired(rows, &bases, costs, nibbles);
    if paired.recall <= plain.recall {
        return plain.alpha;
    }
    let wanted: Vec<Scales> = rows.shares.iter().map(|share| share.restored(paired.alpha)).collect();
    (side.factors, side.weights) = pairs(&wanted, costs, nibbles);
    side.costs = costs;
    paired.alpha
}

/// Puts into `side` the levels of the reach of rows, and by the same code the factors and weights that a scan takes, which does not see
/// what the decoder makes of a row. Gives the alpha.
pub(crate) fn choose_reaches(side: &mut Side, sampled: Option<&Sampled<'_>>, rows: &Anchored<'_>) -> f32 {
    side.reaches = reach_levels(rows.shares);
    let alpha = sampled.map_or(DEFAULT_ALPHA, |sampled| sampled.reaching(rows, &side.reaches).alpha);
    let mut sums = vec![(0f64, 0f64, 0f64); side.reaches.len()];
    for share in rows.shares {
        let (sum, scales) = (&mut sums[usize::from(side.reach_code(share.reach))], share.restored(alpha));
        let factor = f64::from(scales.factor);
        *sum = (sum.0 + factor, sum.1 + factor * f64::from(scales.weight), sum.2 + 1.0);
    }
    let of = |&(factors, weighted, count): &(f64, f64, f64)| {
        if count > 0.0 { ((factors / count) as f32, (weighted / factors) as f32) } else { (1.0, 1.0) }
    };
    (side.factors, side.weights) = sums.iter().map(of).unzip();
    alpha
}

/// The factor levels for rows of these decoded lengths, by code of so many nibbles.
pub(crate) fn factor_levels(norms: &[f32], alpha: f32, nibbles: usize) -> Vec<f32> {
    quantize::levels(&norms.iter().map(|&n| factor(n, alpha)).collect::<Vec<_>>(), nibbles)
}

/// Levels of reach for rows like these.
pub(crate) fn reach_levels(shares: &[Share]) -> Vec<f32> {
    quantize::levels(&shares.iter().map(|share| share.reach).collect::<Vec<_>>(), 1)
}

/// Products of queries with rows, queries x rows.
fn all_products(queries: &Mat, rows: MatRef<'_>) -> Mat {
    const CHUNK: usize = 32;
    let mut products = Mat::zeros(queries.rows(), rows.rows());
    products.as_mut_slice().par_chunks_mut(CHUNK * rows.rows().max(1)).enumerate().for_each(|(chunk, out)| {
        let first = chunk * CHUNK;
        product_nt(out, queries.view().slice(first..first + out.len() / rows.rows()), rows, 1.0);
    });
    products
}
