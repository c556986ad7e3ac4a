//! How much of the truth a search finds.

use crate::neighbors::Neighbors;

/// Scores that differ by no more than this, as a share of the larger, are equal: what rounding leaves of equal rows.
const EQUAL: f32 = 1e-6;

/// The share of the true `k` nearest rows that are among the first `k` found: the mean over queries, 1 without any.
///
/// `truth` has the best rows by exact scores, `found` what a search gave for the same queries, both best first. Columns behind the first
/// `k` say what ties go on there; 2 k + 1 columns are enough to tell any. Then
///
/// - a row found is true if it is one of the `k` nearest, or as near as the last of them;
/// - where rows of one score found are cut off at `k`, by row number, as many of them as possible are taken to be the wrong ones;
/// - a row whose score, found or true, is not finite is a miss; so are rows that were all given one score, where their true scores differ.
///
/// So a search that tells nothing apart has recall 0, whichever rows it names. O(queries x columns^2).
///
/// ```
/// use vlc::{Config, MatRef, Metric, SearchOptions, compress, measure};
///
/// let values: Vec<f32> = (0..64_000u64).map(|i| ((i * i * 37 % 10_007) as f32 / 5_000.0) - 1.0).collect();
/// let rows = MatRef::new(&values, 1000, 64)?;
/// let index = compress(rows, &Config::default())?;
/// let queries = rows.slice(0..20);
/// let found = index.search(queries, &SearchOptions::new(10))?;
/// // More than are asked for, to see where ties go on.
/// let truth = measure::exact_neighbors(&rows, queries, 20, Metric::Cosine)?;
/// let recall = measure::recall(&found, &truth, 10);
/// assert!((0.0..=1.0).contains(&recall));
/// # Ok::<(), vlc::Error>(())
/// ```
#[must_use]
pub fn recall(found: &Neighbors, truth: &Neighbors, k: usize) -> f64 {
    mean(found, None, truth, k, k)
}

/// As [`recall`], for a search that may give other rows where it is asked for more: `wider` is what it gave then, and says only what ties
/// with the last of the `k` found.
#[must_use]
pub fn recall_beside(found: &Neighbors, wider: &Neighbors, truth: &Neighbors, k: usize) -> f64 {
    mean(found, Some(wider), truth, k, k)
}

/// As [`recall`], the share of the true `k` nearest that are among the first `among` found: what scoring so many again could reach.
#[must_use]
pub fn recall_among(found: &Neighbors, truth: &Neighbors, k: usize, among: usize) -> f64 {
    mean(found, None, truth, k, among)
}

fn mean(found: &Neighbors, wider: Option<&Neighbors>, truth: &Neighbors, k: usize, among: usize) -> f64 {
    let (queries, k) = (truth.ids.rows(), k.min(truth.ids.dim()));
    if queries * k == 0 {
        return 1.0;
    }
    let known = queries.min(found.ids.rows());
    let hits: usize = (0..known).map(|q| hits(found, wider, truth, q, k, among)).sum();
    hits as f64 / (queries * k) as f64
}

/// How many of the true `k` a query finds among the first `among`.
fn hits(found: &Neighbors, wider: Option<&Neighbors>, truth: &Neighbors, q: usize, k: usize, among: usize) -> usize {
    let (rows, scores) = (found.ids.row(q), found.scores.row(q));
    let (true_rows, true_scores) = (truth.ids.row(q), truth.scores.row(q));
    let last = true_scores[k - 1];
    let as_near = |i: usize| true_scores[i].is_finite() && (i < k || equal(true_scores[i], last));
    let is_true = |row: &u64| true_rows.iter().position(|r| r == row).is_some_and(as_near);
    let width = among.min(rows.len());
    let Some(&cut) = scores[..width].last() else { return 0 };
    // The rows of the score at which it is cut off; those of others that are finite come before.
    let is_tied = |score: &&f32| score.total_cmp(&cut).is_eq();
    let first = scores[..width].iter().take_while(|score| !is_tied(score)).count();
    let end = width + scores[width..].iter().take_while(is_tied).count();
    let before = (0..first).filter(|&i| scores[i].is_finite() && is_true(&rows[i])).count();
    let mut tie = rows[first..end].to_vec();
    if let Some(wider) = wider.filter(|wider| q < wider.ids.rows()) {
        let hits = wider.ids.row(q).iter().zip(wider.scores.row(q));
        tie.extend(hits.filter(|(row, score)| is_tied(score) && !rows.contains(row)).map(|(row, _)| *row));
    }
    let right = if cut.is_finite() { tie.iter().filter(|row| is_true(row)).count() } else { 0 };
    // Where all that is known of the truth ties with the last of the k, so may what is not known: it is not held to be wrong.
    let open = true_scores.len() > k && true_scores.last().is_some_and(|end| end.is_finite() && equal(*end, last));
    let known = if open { tie.iter().filter(|row| true_rows.contains(row)).count() } else { tie.len() };
    let wrong = if cut.is_finite() { known - right } else { tie.len() };
    // Nothing is known of what comes behind, and nothing is told apart.
    let constant = wider.is_none() && first == 0 && end == rows.len() && width > 1 && !equal(true_scores[0], last);
    let of_tie = if constant { 0 } else { right.min((width - first).saturating_sub(wrong)) };
    // Where the tie is not cut off, all of it is found.
    let of_tie = if tie.len() == width - first && !constant { right } else { of_tie };
    (before + of_tie).min(k)
}

fn equal(a: f32, b: f32) -> bool {
    a == b || (a - b).abs() <= EQUAL * a.abs().max(b.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Mat;

    fn of(rows: &[(u64, f32)]) -> Neighbors {
        let (ids, scores): (Vec<u64>, Vec<f32>) = rows.iter().copied().unzip();
        Neighbors { ids: Mat::new(ids, 1, rows.len()).unwrap(), scores: Mat::new(scores, 1, rows.len()).unwrap() }
    }

    fn falling(rows: impl Iterator<Item = u64>) -> Neighbors {
        of(&rows.enumerate().map(|(i, row)| (row, 1.0 - 0.01 * i as f32)).collect::<Vec<_>>())
    }

    #[test]
    fn it_is_the_share_that_is_found() {
        let truth = falling(0..21);
        assert_eq!(recall(&falling(0..10), &truth, 10), 1.0);
        assert_eq!(recall(&falling((0..5).chain(30..40)), &truth, 10), 0.5);
        assert_eq!(recall(&falling(10..20), &truth, 10), 0.0, "near, but not among the nearest");
        assert_eq!(recall_among(&falling(5..105), &truth, 10, 100), 0.5);
        assert_eq!(recall_beside(&falling((0..5).chain(30..35)), &falling(0..40), &truth, 10), 0.5);
        assert_eq!(recall(&falling(0..3), &falling(0..3), 10), 1.0, "there are no more rows");
        assert_eq!(recall(&of(&[]), &truth, 10), 0.0);
        assert_eq!(recall(&of(&[]), &of(&[]), 10), 1.0);
    }

    #[test]
    fn a_search_that_tells_nothing_apart_finds_nothing() {
        // Of equal scores the lower row numbers come first, and the truth happens to be low row numbers.
        let truth = falling(0..21);
        for score in [0.0, 0.5, f32::NEG_INFINITY, f32::INFINITY, f32::NAN] {
            let constant = |n: u64| of(&(0..n).map(|row| (row, score)).collect::<Vec<_>>());
            assert_eq!(recall(&constant(21), &truth, 10), 0.0, "{score}");
            assert_eq!(recall(&constant(10), &truth, 10), 0.0, "{score}: what comes behind is not known");
            assert_eq!(recall_among(&constant(100), &truth, 10, 100), 0.0, "{score}");
        }
        let (found, wider) = [10, 21].map(|n| of(&(0..n).map(|row| (row, 0.5)).collect::<Vec<_>>())).into();
        assert_eq!(recall_beside(&found, &wider, &truth, 10), 0.0);
        assert_eq!(recall_beside(&found, &found, &truth, 10), 1.0, "there is nothing behind that ties");
        // Truths that are no numbers are not found, whatever is.
        let broken = of(&(0..21).map(|row| (row, f32::NEG_INFINITY)).collect::<Vec<_>>());
        assert_eq!(recall(&broken, &broken, 10), 0.0);
        assert_eq!(recall(&falling(0..10), &broken, 10), 0.0);
        let half = of(&(0..21).map(|row| (row, if row < 5 { 1.0 } else { f32::NEG_INFINITY })).collect::<Vec<_>>());
        assert_eq!(recall(&falling(0..21), &half, 10), 0.5);
    }

    #[test]
    fn rows_cut_off_in_a_tie_are_taken_for_the_wrong_ones() {
        let truth = falling(0..21);
        // Eight rows that are told apart, and two of six of one score.
        let found = |tied: [u64; 6]| {
            let front = (0..8).map(|row| (row, 1.0 - 0.01 * row as f32));
            of(&front
                .chain(tied.into_iter().map(|row| (row, 0.5)))
                .chain((50..57).map(|row| (row, 0.1)))
                .collect::<Vec<_>>())
        };
        assert_eq!(recall(&found([8, 9, 40, 41, 42, 43]), &truth, 10), 0.8);
        let mut two = found([8, 9, 40, 41, 42, 43]);
        two.scores.as_mut_slice()[11..].fill(0.2);
        assert_eq!(recall(&two, &truth, 10), 0.9, "one of the three is wrong");
        // A tie that is not cut off loses nothing.
        two.scores.as_mut_slice()[10..].fill(0.2);
        assert_eq!(recall(&two, &truth, 10), 1.0);
    }

    #[test]
    fn rows_as_near_as_the_last_true_one_are_true() {
        // Rows 8 to 30 are copies of one.
        let score = |row: u64| if row < 8 { 1.0 - 0.01 * row as f32 } else { 0.5 };
        let truth = of(&(0..31).map(|row| (row, score(row))).collect::<Vec<_>>());
        assert_eq!(recall(&truth, &truth, 10), 1.0);
        let others = of(&(0..8).chain(20..31).map(|row| (row, score(row))).collect::<Vec<_>>());
        assert_eq!(recall(&others, &truth, 10), 1.0);
        let rounded =
            of(&(0..31).map(|row| (row, score(row) - if row > 20 { 1e-7 } else { 0.0 })).collect::<Vec<_>>());
        assert_eq!(recall(&others, &rounded, 10), 1.0);
        // All rows alike: any answer is right.
        let alike = of(&(0..21).map(|row| (row, 0.0)).collect::<Vec<_>>());
        assert_eq!(recall(&alike, &alike, 10), 1.0);
        let more = of(&(0..30).map(|row| (row, 0.0)).collect::<Vec<_>>());
        assert_eq!(recall(&more, &alike, 10), 1.0, "the truth has no end that is known");
    }
}
