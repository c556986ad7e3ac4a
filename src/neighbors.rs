//! What a search found.

use crate::{error::Error, matrix::Mat};

/// One row found.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Hit {
    /// The row's id, where ids are numbers; else its number, for [`Index::text_id`](crate::index::Index::text_id). Without ids of its own a store's row numbers are
    /// its ids: from 0, in the order in which rows were compressed and appended.
    pub id: u64,
    /// Larger is nearer: the estimated cosine (-1 to 1), inner product, or negative squared distance (at most 0). Rows that were estimated to
    /// be nearer than can be have the same score, and stand in the order of the estimates.
    pub score: f32,
}

/// Rows found for a batch of queries, best first; of equal scores the lower row first.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbors {
    /// Queries x min(k, n) ids, as [`Hit::id`].
    pub ids: Mat<u64>,
    /// Their scores.
    pub scores: Mat<f32>,
}

impl Neighbors {
    /// The `k` best of what the same queries found in several parts of a store, or in several stores: what one search of all of them
    /// would give, where ids differ from part to part. Of equal scores the lower id comes first. O(hits log hits).
    ///
    /// # Errors
    /// [`Error::Config`] when there is no part, or the parts are not of the same number of queries.
    ///
    /// ```
    /// use vlc::{Mat, Neighbors};
    ///
    /// let part = |ids: [u64; 2], scores: [f32; 2]| Neighbors {
    ///     ids: Mat::new(ids.to_vec(), 1, 2).unwrap(),
    ///     scores: Mat::new(scores.to_vec(), 1, 2).unwrap(),
    /// };
    /// let merged = Neighbors::merge(vec![part([1, 2], [0.9, 0.1]), part([8, 7], [0.9, 0.5])], 3)?;
    /// assert_eq!(merged.ids.row(0), [1, 8, 7]);
    /// # Ok::<(), vlc::Error>(())
    /// ```
    pub fn merge(parts: Vec<Neighbors>, k: usize) -> Result<Neighbors, Error> {
        let queries = parts.first().map(|part| part.ids.rows());
        match queries {
            Some(queries) if parts.iter().all(|part| part.ids.rows() == queries) => Ok(best_of(parts, queries, k)),
            Some(_) => Err(Error::Config("parts to merge have different numbers of queries".into())),
            None => Err(Error::Config("there is nothing to merge".into())),
        }
    }
}

/// The `k` best of what was found in each of some parts; of equal scores the lower row first.
pub(crate) fn best_of(mut found: Vec<Neighbors>, queries: usize, k: usize) -> Neighbors {
    if found.len() == 1 && found[0].ids.dim() <= k {
        return found.remove(0);
    }
    let width = found.iter().map(|part| part.ids.dim()).sum::<usize>().min(k);
    let (mut ids, mut scores) = (Mat::zeros(queries, width), Mat::zeros(queries, width));
    let mut hits = Vec::new();
    for q in 0..queries {
        hits.clear();
        found
            .iter()
            .for_each(|part| hits.extend(part.scores.row(q).iter().copied().zip(part.ids.row(q).iter().copied())));
        hits.sort_unstable_by(|a: &(f32, u64), b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (i, &(score, row)) in hits[..width].iter().enumerate() {
            (scores.row_mut(q)[i], ids.row_mut(q)[i]) = (score, row);
        }
    }
    Neighbors { ids, scores }
}
