//! What is measured: the vectors to compress and search, and the shapes of the operations.

use std::path::Path;

use serde::Serialize;
use vlc::{
    Mat,
    read::{VectorFile, read_all},
};

use crate::{data, error::CliError};

/// Vectors to compress, to train with and to search for.
pub(super) struct Data {
    pub(super) name: &'static str,
    pub(super) base: Mat,
    pub(super) sample: Mat,
    pub(super) queries: Mat,
    pub(super) ratio: f64,
}

impl Data {
    /// The vectors that come with the program; `dir` is for their files.
    pub(super) fn embedded(dir: &Path) -> Result<Data, CliError> {
        let files = data::write_embedded(dir)?;
        let read = |path: &Path| Ok::<_, CliError>(read_all(&VectorFile::open(path)?)?);
        Ok(Data {
            name: "docs-minilm-384-5k",
            base: read(&files.base)?,
            sample: read(&files.sample)?,
            queries: read(&files.queries)?,
            // With so few rows the model needs more than 3 %.
            ratio: 0.0833,
        })
    }

    pub(super) fn synthetic() -> Result<Data, CliError> {
        Ok(Data {
            name: "synthetic clusters",
            base: data::synthetic(200_000, 384, 0)?,
            sample: data::synthetic(1_000, 384, 1)?,
            queries: data::synthetic(500, 384, 2)?,
            ratio: 0.03,
        })
    }
}

/// Rows and anchors of an operation.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Shape {
    /// What it is called; it does not change.
    #[serde(rename = "shape")]
    pub(super) name: &'static str,
    pub(super) rows: usize,
    pub(super) dim: usize,
    pub(super) anchors: usize,
    /// Rows that the CPU takes; where they are fewer its seconds are scaled and iterations left out.
    #[serde(skip)]
    pub(super) cpu_rows: usize,
    /// Runs that are timed on each backend.
    #[serde(skip)]
    pub(super) repeats: usize,
}

/// Each a bit heavier than the one before; the last with `--large` only.
const SHAPES: [Shape; 3] = [
    Shape { name: "old_benchmark", rows: 10_000, dim: 128, anchors: 256, cpu_rows: 10_000, repeats: 5 },
    Shape { name: "small", rows: 20_000, dim: 384, anchors: 256, cpu_rows: 20_000, repeats: 5 },
    Shape { name: "million", rows: 1_000_000, dim: 384, anchors: 4096, cpu_rows: 20_000, repeats: 3 },
];

impl Shape {
    pub(super) fn all(large: bool) -> impl Iterator<Item = Shape> {
        SHAPES.into_iter().take(if large { 3 } else { 2 })
    }

    /// Synthetic clusters.
    pub(super) fn rows(&self) -> Result<Mat, CliError> {
        data::synthetic(self.rows, self.dim, 0)
    }

    /// Anchors to start from: rows at even distances.
    pub(super) fn start(&self, rows: &Mat) -> Result<Mat, CliError> {
        let picked = (0..self.anchors).map(|k| k * self.rows / self.anchors);
        let values = picked.flat_map(|i| rows.row(i).iter().copied()).collect();
        Ok(Mat::new(values, self.anchors, self.dim)?)
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use crate::output::count;
        write!(f, "{} x {} x {}", count(self.rows), self.dim, count(self.anchors))
    }
}
