//! What the queries held out from training say of a file that has just been written.

use crate::{
    error::Error,
    matrix::Mat,
    neighbors::Neighbors,
    search::{
        probe::{self, MEASURED},
        recall::{recall, recall_beside},
    },
    train::sample::Prepared,
};

/// What held-out queries say of a file.
pub(crate) struct Measured {
    pub(crate) recall: f64,
    /// The cells that probing takes.
    pub(crate) probe_cells: [u32; 2],
    /// Rows that are scored again for ten hits, where there is a learned decoder.
    pub(crate) shortlist: Option<u32>,
}

/// Shortlists that are weighed, and the one they are compared with.
const SHORTLISTS: [u32; 5] = [24, 32, 64, 96, 128];
const LONG: u32 = 256;
/// What a shortlist may lose of the recall of the long one.
const LOSS: f64 = 0.001;

/// Recall of the file in `bytes` on the held-out queries, the cells that probing takes, and the shortlist that loses next to nothing.
pub(crate) fn measure(
    bytes: &[u8],
    prepared: &Prepared<'_>,
    truth: &Neighbors,
    labels: &[u32],
    k: usize,
) -> Result<Measured, Error> {
    let mut index = crate::index::Index::from_bytes(bytes)?;
    let own = prepared.held_rows.as_deref();
    let with_self = usize::from(own.is_some());
    // A row that is its own query finds itself, which says nothing.
    let without_self = |found: &Neighbors| -> Result<Neighbors, Error> {
        let width = found.ids.dim() - usize::from(own.is_some());
        let (mut ids, mut scores) = (Vec::new(), Vec::new());
        for q in 0..found.ids.rows() {
            let itself = own.map(|rows| rows[q] as u64);
            let hits = found.ids.row(q).iter().zip(found.scores.row(q));
            let others: Vec<_> = hits.filter(|(id, _)| Some(**id) != itself).take(width).collect();
            ids.extend(others.iter().map(|(id, _)| **id));
            scores.extend(others.iter().map(|(_, score)| **score));
        }
        let rows = found.ids.rows();
        Ok(Neighbors { ids: Mat::new(ids, rows, width)?, scores: Mat::new(scores, rows, width)? })
    };
    let ask = |index: &crate::index::Index<&[u8]>, k: usize| {
        index.view().search_prepared(index.on_cpu()?, prepared.held.view(), k + with_self)
    };
    let truth = without_self(truth)?;
    // More than are asked for, to see where ties go on.
    let recall_of = |index: &crate::index::Index<&[u8]>| -> Result<f64, Error> {
        let (found, wider) = (ask(index, k)?.0, ask(index, 2 * k + 1)?.0);
        Ok(recall_beside(&without_self(&found)?, &without_self(&wider)?, &truth, k))
    };
    // How many candidates are scored again depends on how many rows are asked for.
    let (mut recall_again, mut shortlist) = (None, None);
    if index.parsed().learned.is_some() {
        let long = recall_of(index.with_shortlist(LONG))?;
        for length in SHORTLISTS {
            let recall = recall_of(index.with_shortlist(length))?;
            (recall_again, shortlist) = (Some(recall), Some(length));
            if recall >= long - LOSS {
                break;
            }
        }
    } else if index.parsed().refine.is_some() {
        recall_again = Some(recall_of(&index)?);
    }
    let (found, bases) = ask(&index, MEASURED[1])?;
    let recall = match recall_again {
        Some(recall) => recall,
        None => recall(&without_self(&found)?, &truth, k),
    };
    let mut cells = without_self(&found)?.ids;
    cells.as_mut_slice().iter_mut().for_each(|row| *row = labels[*row as usize].into());
    let sizes: Vec<u64> = index.parsed().segments[0].cells.windows(2).map(|w| w[1] - w[0]).collect();
    Ok(Measured { recall, probe_cells: probe::measure(&bases, cells.view(), &sizes), shortlist })
}
