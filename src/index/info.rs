//! The facts of an index.

use std::collections::BTreeMap;

use super::Index;
use crate::{
    embedding::Embedding,
    format::header::DEAD,
    ids::IdsKind,
    model::kinds::{CodeKind, DecoderShape, Metric},
    report::{HeldOutRecall, QuerySource},
};

/// What names the rows of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum IdKind {
    /// Their numbers.
    Rows,
    /// Numbers that came with them.
    Numbers,
    /// Text that came with them.
    Text,
}

/// Rows that were encoded with a model that was there before, and how well it fitted them.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Appended {
    /// The number of the first of them, when they were written.
    pub first_row: u64,
    /// How many.
    pub rows: u64,
    /// Their mean squared L2 error, as unit vectors; to be compared with [`Info::energy`].
    pub energy: f64,
}

/// The learned decoder of a file.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct DecoderInfo {
    /// Its sizes.
    pub shape: DecoderShape,
    /// Its bytes in the file.
    pub bytes: u64,
    /// Rows of a scan that it scores again for ten hits.
    pub shortlist: u32,
    /// Mean squared L2 error of rows that it was not trained on, as unit vectors: what to expect of rows that are added. `None` where there
    /// were too few rows to hold some out.
    pub unseen_energy: Option<f64>,
}

/// The facts of an index.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Info {
    /// Version of the file.
    pub version: u32,
    /// How often the file was committed to, compacting counted; 1 for a fresh one, 0 for one of version 1.
    pub generation: u64,
    /// Rows, deleted ones not counted.
    pub n: u64,
    /// Rows that are deleted and still take room.
    pub deleted: u64,
    /// The number that the next row appended gets: `n`, unless rows were ever deleted.
    pub next_row: u64,
    /// Parts that rows are in: a search goes through each.
    pub segments_of_rows: u32,
    /// What names the rows.
    pub ids: IdKind,
    /// Dimensions.
    pub dim: u32,
    /// What "near" means.
    pub metric: Metric,
    /// The kind of code.
    pub code: CodeKind,
    /// How many earlier symbols a codeword depends on.
    pub lags: u32,
    /// Anchors.
    pub anchors: u32,
    /// Charts.
    pub charts: u32,
    /// Symbols per row.
    pub symbols: u32,
    /// Bytes of symbols per row.
    pub code_bytes: f64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of it that compacting gives back, besides the rows deleted.
    pub dead_bytes: u64,
    /// Bytes of the file per row; infinite where there are no rows.
    pub bytes_per_vector: f64,
    /// The same as a share of float32.
    pub ratio: f64,
    /// What the model is known by.
    pub model_hash: u128,
    /// The file that holds the model, where this one does not.
    pub model_file: Option<String>,
    /// The embedding model its rows are from, when it was named.
    pub embedding: Option<Embedding>,
    /// Bytes per row of the symbols of the refine layer, where there is one.
    pub refine_bytes: Option<u32>,
    /// The learned decoder, where there is one.
    pub decoder: Option<DecoderInfo>,
    /// Mean squared L2 error of the decoded training rows, as unit vectors, without the refine layer.
    pub energy: f64,
    /// The same when only the anchor is kept.
    pub anchor_energy: f64,
    /// Recall on held-out queries, when it was measured.
    pub recall: Option<HeldOutRecall>,
    /// The seed.
    pub seed: u64,
    /// Rows the model was trained on.
    pub training_rows: u64,
    /// Cells that [`Probe::Auto`](crate::search::probe::Probe::Auto) looks at for 10 and for 100 hits of a query; `None` when it was not
    /// measured, and all are looked at.
    pub probe_cells: Option<[u32; 2]>,
    /// Rows that came later than the model, in the order of commits; when there were many, the oldest together.
    pub appended: Vec<Appended>,
    /// Sections of the file with their bytes.
    pub sections: Vec<(String, u64)>,
    /// Key-value pairs.
    pub metadata: BTreeMap<String, String>,
}

impl<D: AsRef<[u8]>> Index<D> {
    /// The facts of the file.
    #[must_use]
    pub fn info(&self) -> Info {
        let parsed = self.parsed();
        let meta = &parsed.meta;
        let file_bytes = self.bytes().len() as u64;
        let n = parsed.live();
        let bytes_per_vector = file_bytes as f64 / n as f64;
        let symbol_bytes = if meta.kind == CodeKind::Chain { 0.5 } else { 1.0 };
        let source = match meta.query_source {
            1 => Some(QuerySource::Sample),
            2 => Some(QuerySource::Rows),
            _ => None,
        };
        Info {
            version: parsed.layout.version,
            generation: parsed.layout.commit.generation,
            n,
            deleted: parsed.segments.iter().map(|segment| segment.deleted).sum(),
            next_row: parsed.next_row(),
            segments_of_rows: parsed.segments.len() as u32,
            ids: match parsed.ids_kind() {
                None => IdKind::Rows,
                Some(IdsKind::Numbers) => IdKind::Numbers,
                Some(IdsKind::Text) => IdKind::Text,
            },
            dim: meta.dim,
            metric: meta.metric,
            code: meta.kind,
            lags: meta.lags.into(),
            anchors: meta.anchors,
            charts: meta.charts,
            symbols: meta.symbols,
            code_bytes: symbol_bytes * f64::from(meta.symbols),
            file_bytes,
            dead_bytes: parsed.entries().iter().filter(|e| e.kind == DEAD).map(|e| e.len).sum(),
            bytes_per_vector,
            ratio: bytes_per_vector / (4.0 * f64::from(meta.dim)),
            model_hash: parsed.model_hash,
            model_file: parsed.model_ref.as_ref().map(|model| model.name.clone()),
            embedding: self.embedding(),
            refine_bytes: parsed.refine.as_ref().map(|refine| refine.width() as u32),
            decoder: parsed.learned.as_ref().map(|learned| DecoderInfo {
                shape: learned.shape(),
                bytes: learned.bytes(),
                shortlist: learned.shortlist,
                unseen_energy: Some(learned.unseen_energy).filter(|e| e.is_finite()),
            }),
            energy: meta.energy,
            anchor_energy: meta.anchor_energy,
            recall: source.filter(|_| !meta.recall.is_nan()).map(|source| HeldOutRecall {
                recall: meta.recall,
                k: meta.recall_k,
                queries: meta.recall_queries,
                source,
            }),
            seed: meta.seed,
            training_rows: meta.training_rows,
            probe_cells: (meta.probe_cells[0] > 0).then_some(meta.probe_cells),
            appended: parsed
                .history
                .iter()
                .map(|entry| Appended { first_row: entry.first, rows: entry.rows, energy: entry.energy() })
                .collect(),
            sections: parsed.entries().iter().map(|e| (e.name(), e.len)).collect(),
            metadata: parsed.metadata.clone(),
        }
    }
}
