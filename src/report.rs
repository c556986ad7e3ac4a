//! What this library says of its work: progress while it runs, and what came of it.

use std::ops::ControlFlow;

use crate::{backend::Backend, error::Error, model::kinds::DecoderShape};

/// What a compression gave. Seconds are 0 where there is no clock (WebAssembly in a browser).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Report {
    /// Rows.
    pub n: u64,
    /// Dimensions.
    pub dim: u32,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// The same per row.
    pub bytes_per_vector: f64,
    /// The same as a share of float32.
    pub ratio: f64,
    /// Anchors.
    pub anchors: u32,
    /// Charts.
    pub charts: u32,
    /// Bytes of symbols per row.
    pub code_bytes: f64,
    /// Bytes of the refine layer's symbols per row, where there is one.
    pub refine_bytes: Option<u32>,
    /// Mean squared L2 error of the decoded training rows, as unit vectors, without the refine layer.
    pub energy: f64,
    /// The same with it, on some of them.
    pub refine_energy: Option<f64>,
    /// The learned decoder, where there is one.
    pub decoder: Option<DecoderShape>,
    /// The error of rows that the learned decoder was not trained on, where there is one and enough rows to hold some out.
    pub unseen_energy: Option<f64>,
    /// The same when only the anchor is kept.
    pub anchor_energy: f64,
    /// Recall on held-out queries; `None` when there were too few rows or queries to measure it.
    pub recall: Option<HeldOutRecall>,
    /// Reading the sample and planning.
    pub plan_seconds: f64,
    /// Training.
    pub train_seconds: f64,
    /// Encoding, writing and measuring recall.
    pub encode_seconds: f64,
    /// All of it.
    pub seconds: f64,
    /// Where the arithmetic ran.
    pub backend: Backend,
}

/// The stage a long call is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Reading the training sample.
    Sample,
    /// Choosing the sizes of the parts.
    Plan,
    /// Finding the anchors.
    Anchors,
    /// Training the codes.
    Codes,
    /// Training the codes of the refine layer.
    Refine,
    /// Training the learned decoder.
    Decoder,
    /// Checking every byte of a file that is copied.
    Verify,
    /// Encoding all rows.
    Encode,
    /// Writing the file.
    Write,
}

/// What a long call reports.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// What the file will be, before the work on it starts.
    Plan(&'a Plan),
    /// A change is about to become visible: the last moment to cancel it. After that a call goes on to its end, and what it says is what
    /// happened.
    Committing,
    /// `done` of `total` units of `stage`; `done == total` ends it.
    Progress {
        /// The stage.
        stage: Stage,
        /// Units done.
        done: u64,
        /// Units in all.
        total: u64,
    },
}

/// Receives events; [`ControlFlow::Break`] cancels the call, which then returns [`Error::Cancelled`](crate::error::Error::Cancelled).
pub type ProgressFn<'a> = dyn Fn(&Event<'_>) -> ControlFlow<()> + Sync + 'a;

/// Recall measured when the file was written, on queries that had no part in training.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct HeldOutRecall {
    /// The mean share of the true `k` nearest rows among the `k` found.
    pub recall: f32,
    /// The k of it.
    pub k: u32,
    /// On how many queries.
    pub queries: u32,
    /// Which queries.
    pub source: QuerySource,
}

/// Where the queries of a held-out recall came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum QuerySource {
    /// Sample queries that were held out from training.
    Sample,
    /// Rows of the store asked for their own neighbours (themselves left out).
    Rows,
}

/// What a file will be.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Plan {
    /// Rows.
    pub n: u64,
    /// Dimensions.
    pub dim: u32,
    /// Bytes the file will have, give or take the last symbol.
    pub file_bytes: u64,
    /// The same per row.
    pub bytes_per_vector: f64,
    /// The same as a share of float32.
    pub ratio: f64,
    /// Anchors.
    pub anchors: usize,
    /// Charts.
    pub charts: usize,
    /// Symbols per row.
    pub symbols: usize,
    /// Bytes of symbols per row.
    pub code_bytes: f64,
    /// Bytes of the model, without the learned decoder.
    pub model_bytes: u64,
    /// The learned decoder, where there is to be one.
    pub decoder: Option<DecoderShape>,
    /// Its bytes.
    pub decoder_bytes: u64,
    /// Recall@10 to be expected without re-ranking: what queries find among rows of a pilot sample that are coded as theory has it, for every
    /// metric. `None` for fewer than 80 rows or 32 of them or of the queries.
    pub expected_recall: Option<f64>,
    /// What it was estimated on: rows stand in for queries where none are given.
    pub expected_recall_source: QuerySource,
    /// Resident memory at most, the mapped input not counted.
    pub peak_memory_bytes: u64,
}

/// Tells a callback, and whether it asks to stop.
pub(crate) fn teller<'a>(progress: Option<&'a ProgressFn<'a>>) -> impl Fn(&Event<'_>) -> Result<(), Error> + use<'a> {
    move |event| match progress {
        Some(progress) if progress(event).is_break() => Err(Error::Cancelled),
        _ => Ok(()),
    }
}

/// Tells a callback how far a stage has come.
pub(crate) fn stage_report<'a>(
    progress: Option<&'a ProgressFn<'a>>,
) -> impl Fn(Stage, usize, usize) -> Result<(), Error> + use<'a> {
    let tell = teller(progress);
    move |stage, done: usize, total: usize| tell(&Event::Progress { stage, done: done as u64, total: total as u64 })
}
