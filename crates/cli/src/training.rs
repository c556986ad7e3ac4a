//! Arguments of the verbs that train a model.

use std::path::{Path, PathBuf};

use vlc::{AnnealingConfig, Budget, Config, Decoder, MatRef, ProgressFn};

use crate::{
    args::{self, CodeArg, Compute, MetricArg},
    outputs::input,
};

/// What a model is trained for.
#[derive(clap::Args)]
pub(crate) struct Training {
    /// Size of the whole file, model included, as a share of float32: 0.03 or 3%
    #[arg(long, value_name = "R", default_value_t = 0.03, value_parser = args::ratio, conflicts_with = "bytes")]
    ratio: f64,
    /// The same as bytes per vector
    #[arg(long, value_name = "N", value_parser = args::bytes_per_vector)]
    bytes: Option<f64>,
    /// Sample queries to train with
    #[arg(long, value_name = "Q", value_parser = input())]
    queries: Option<PathBuf>,
    /// Bytes of symbols per vector, whatever the file then takes: to compare codes with those of others
    #[arg(long, value_name = "N", value_parser = args::bytes_per_vector, conflicts_with_all = ["bytes", "ratio"])]
    bytes_codes: Option<f64>,
    /// Learned decoder behind the codes, out of the same size: auto, off, or its width, layers and bits as in 512, 512x2 or 512x2@8
    #[arg(long, value_name = "D", default_value_t = Decoder::Auto)]
    decoder: Decoder,
    /// Bytes per vector, on top of that size, for a layer of further codes by which the best hits are scored again
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..))]
    refine: Option<u32>,
    /// What "near" means
    #[arg(long, value_name = "M", value_enum, default_value_t = MetricArg::Cosine)]
    metric: MetricArg,
    /// Kind of code
    #[arg(long, value_name = "KIND", value_enum, default_value_t = CodeArg::Chain)]
    code: CodeArg,
    /// Coarse centroids [default: what suits the size]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    anchors: Option<u32>,
    /// Groups of anchors with a transform of their own [default: what suits the size]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    charts: Option<u32>,
    /// Seed of everything random: the same input and settings give the same bytes
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

impl Training {
    /// The names of these arguments, for verbs in which they have no place beside another.
    pub(crate) const NAMES: [&'static str; 11] = [
        "ratio",
        "bytes",
        "bytes_codes",
        "decoder",
        "queries",
        "refine",
        "metric",
        "code",
        "anchors",
        "charts",
        "seed",
    ];

    pub(crate) fn queries(&self) -> Option<&Path> {
        self.queries.as_deref()
    }

    /// The settings as the library takes them.
    pub(crate) fn config<'a>(
        &self,
        queries: Option<MatRef<'a>>,
        compute: &Compute,
        progress: &'a ProgressFn<'a>,
    ) -> Config<'a> {
        let annealing = AnnealingConfig { anchors: self.anchors.map(|n| n as usize), ..AnnealingConfig::default() };
        Config {
            budget: match (self.bytes, self.bytes_codes) {
                (Some(bytes), _) => Budget::BytesPerVector(bytes),
                (_, Some(bytes)) => Budget::CodeBytes(bytes),
                _ => Budget::Ratio(self.ratio),
            },
            decoder: self.decoder,
            metric: self.metric.into(),
            compute: compute.choice(),
            code: self.code.into(),
            annealing,
            charts: self.charts.map(|n| n as usize),
            queries,
            refine: self.refine.map(|bytes| bytes as usize),
            seed: self.seed,
            progress: Some(progress),
            ..Default::default()
        }
    }
}
