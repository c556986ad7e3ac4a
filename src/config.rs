//! What a caller asks of [`compress`](crate::compress).

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::{
    backend::{Backend, Compute},
    embedding::Embedding,
    error::Error,
    format,
    ids::Ids,
    matrix::MatRef,
    model::{
        kinds::{CodeKind, DecoderShape, Metric},
        learned::{MOST_HIDDEN, MOST_WEIGHTS},
    },
    report::ProgressFn,
};

/// How many bytes the whole file may have: model, ids, checksums and header counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// A share of the float32 size, `4 x dim` bytes per vector; above 0.
    Ratio(f64),
    /// Bytes per vector; above 0.
    BytesPerVector(f64),
    /// Bytes of symbols per vector, whatever the file then takes: to compare codes with those of others, who count no more; above 0.
    CodeBytes(f64),
}

/// Whether a learned decoder stands behind the codes: a small network, trained on the rows, that brings a decoded row nearer to what was
/// encoded. A search scores the best rows of its scan again with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Decoder {
    /// One of the planner's choice where it pays, which it does from some ten thousand rows on at 3 % of their float32 bytes. Never
    /// with a refine layer, several charts, or [`train_to`](crate::compress::with_model::train_to).
    #[default]
    Auto,
    /// None.
    Off,
    /// One of these sizes.
    Of(DecoderShape),
}

impl fmt::Display for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Decoder::Auto => f.pad("auto"),
            Decoder::Off => f.pad("off"),
            Decoder::Of(shape) => shape.fmt(f),
        }
    }
}

/// `auto`, `off`, or the sizes as [`DecoderShape`] has them.
impl FromStr for Decoder {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "auto" => Ok(Decoder::Auto),
            "off" => Ok(Decoder::Off),
            _ => text.parse().map(Decoder::Of),
        }
    }
}

/// Settings of the annealed, robust k-means that finds the anchors.
///
/// Each iteration assigns every row to its nearest anchor, takes the mean of each cell without its farthest rows, and
/// moves the anchor towards it, plus zero-mean noise of the cell's own variance that cools to nothing (stochastic
/// relaxation, as in LSQ++, Martinez et al., ECCV 2018).
#[derive(Debug, Clone, PartialEq)]
pub struct AnnealingConfig {
    /// How many anchors; `None` leaves it to the planner. At least 1, at most 65,536 and the number of rows.
    pub anchors: Option<usize>,
    /// Iterations at most; at least 1.
    pub iterations: usize,
    /// Standard deviation of the first iteration's noise, in units of the cell's; 0 is plain k-means.
    pub temperature: f32,
    /// The temperature is multiplied by `1 - cooling` after each iteration; 0 to 1. It is 0 in the last third anyway.
    pub cooling: f32,
    /// How far an anchor moves towards its cell's mean, above 0 and at most 1.
    pub learning_rate: f32,
    /// Share of each cell's farthest rows left out of its mean while there is noise, 0 to 0.5.
    pub trim: f32,
    /// Stop once an iteration without noise lowers the energy by less than this share.
    pub tolerance: f32,
}

impl Default for AnnealingConfig {
    fn default() -> Self {
        AnnealingConfig {
            anchors: None,
            iterations: 25,
            temperature: 0.1,
            cooling: 0.2,
            learning_rate: 1.0,
            trim: 0.02,
            tolerance: 1e-4,
        }
    }
}

/// Settings of [`compress`](crate::compress).
#[derive(Clone)]
pub struct Config<'a> {
    /// Bytes the file may have.
    pub budget: Budget,
    /// What "near" means.
    pub metric: Metric,
    /// Where the arithmetic runs.
    pub compute: Compute,
    /// The kind of code.
    pub code: CodeKind,
    /// Settings of the anchors.
    pub annealing: AnnealingConfig,
    /// How many charts (groups of anchors with a transform and code of their own); `None` leaves it to the planner.
    pub charts: Option<usize>,
    /// Queries like those to come, for training only: errors are then weighted by what they cost such queries. A few
    /// hundred to a few thousand; one in eight is held out to measure recall.
    pub queries: Option<MatRef<'a, f32>>,
    /// Ids of the rows, kept in the file and counted in its size; without them a row's number is its id.
    pub ids: Option<&'a Ids>,
    /// Rows the file, or all files with the model, will have once others are appended; the sizes of the model are those that suit
    /// so many. `None`: those given.
    pub expected_rows: Option<u64>,
    /// The embedding model that the rows are from; kept in the file.
    pub embedding: Option<Embedding>,
    /// Bytes per row for a layer of further codes, by which the best rows of a scan are scored again: on top of the budget, which stays
    /// that of the file without it. At least 1; what the directions of the rows cannot use is not taken. `None`: no layer.
    pub refine: Option<usize>,
    /// Whether there is a learned decoder; its bytes are of the budget.
    pub decoder: Decoder,
    /// Seed of everything random. The same rows, settings and seed give the same bytes, whatever the number of threads.
    pub seed: u64,
    /// Key-value pairs kept in the file, such as the name of the embedding model. Keys must not start with `vlc.`.
    pub metadata: BTreeMap<String, String>,
    /// Receives progress and may cancel.
    pub progress: Option<&'a ProgressFn<'a>>,
}

impl Default for Config<'_> {
    fn default() -> Self {
        Config {
            budget: Budget::Ratio(0.03),
            metric: Metric::default(),
            compute: Compute::default(),
            code: CodeKind::default(),
            annealing: AnnealingConfig::default(),
            charts: None,
            queries: None,
            ids: None,
            expected_rows: None,
            embedding: None,
            refine: None,
            decoder: Decoder::Auto,
            seed: 1,
            metadata: BTreeMap::new(),
            progress: None,
        }
    }
}

/// The metadata a file of this configuration gets.
pub(crate) fn all_metadata(config: &Config<'_>) -> BTreeMap<String, String> {
    let mut all = config.metadata.clone();
    if let Some(embedding) = &config.embedding {
        embedding.put(&mut all);
    }
    all
}

/// Refuses metadata that the file keeps for itself, or that no reader would take.
pub(crate) fn check_keys(metadata: &BTreeMap<String, String>) -> Result<(), Error> {
    // Room is left for the pairs that the file keeps for itself.
    let most = format::MOST_PAIRS as usize / 2;
    if metadata.len() > most {
        return Err(Error::Config(format!("{} pairs of metadata are too many; {most} are allowed", metadata.len())));
    }
    match metadata.keys().find(|key| key.starts_with("vlc.") || key.is_empty()) {
        Some(key) => {
            Err(Error::Config(format!("the metadata key {key:?} is not allowed: it is empty or starts with vlc.")))
        }
        None => Ok(()),
    }
}

/// Refuses what cannot be.
pub(crate) fn check_decoder(config: &Config<'_>, dim: usize) -> Result<(), Error> {
    let Decoder::Of(DecoderShape { width, layers, bits }) = config.decoder else { return Ok(()) };
    let weights = (2 * dim).saturating_add(layers.saturating_sub(1).saturating_mul(width)).saturating_mul(width);
    let possible = (1..=65_536).contains(&width) && (1..=MOST_HIDDEN).contains(&layers) && (1..=8).contains(&bits);
    let message = if !possible || weights > MOST_WEIGHTS {
        format!(
            "a decoder of {layers} layers of {width} with {bits} bits: 1 to {MOST_HIDDEN} layers of 1 to 65536 with 1 to 8 bits are \
             allowed, and {MOST_WEIGHTS} weights"
        )
    } else if config.refine.is_some() {
        "a learned decoder and a refine layer do not go together; leave one out".into()
    } else if config.charts.is_some_and(|charts| charts != 1) {
        "a learned decoder takes one chart; leave the number of charts out".into()
    } else {
        return Ok(());
    };
    Err(Error::Config(message))
}

impl FromStr for Backend {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        let all = [Backend::Auto, Backend::Cpu, Backend::Wgpu, Backend::Cuda];
        let found = all.into_iter().find(|b| b.to_string() == s);
        found.ok_or_else(|| Error::Config(format!("backend {s:?} is unknown; use auto, cpu, wgpu or cuda")))
    }
}
