//! Arguments and value parsers that several verbs share.

use std::{ops::Range, path::Path};

use clap::ValueEnum;
use vlc::{
    Backend, CodeKind, DeviceChoice, InputError, Mat, Metric, Probe, SearchOptions,
    read::{RowSource, VectorFile},
};

use crate::error::CliError;

/// Options of every verb.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct Common {
    /// Print one JSON object on stdout
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// No progress and no notes on stderr, errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more on stderr (-v: what was chosen and why, -vv: everything)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// How much of a store queries look at.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Probing {
    /// Rows a query looks at: all; those of as many cells as lose under 0.005 of what all would find (auto); of N cells
    #[arg(long, value_name = "all|auto|N", default_value_t = Probe::All)]
    pub(crate) probe: Probe,
    /// Leave the refine layer out: faster, at the recall of the codes that are scanned
    #[arg(long)]
    no_refine: bool,
}

impl Probing {
    /// As the library takes it.
    pub(crate) fn options(self, k: usize) -> SearchOptions<'static> {
        SearchOptions::new(k).probing(self.probe).refining(!self.no_refine)
    }
}

/// Where and how wide a verb computes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Compute {
    /// Where the arithmetic runs; one named here is used or it is an error (exit 6)
    #[arg(long, value_name = "B", value_enum, default_value_t = BackendArg::Auto)]
    pub(crate) backend: BackendArg,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

impl Compute {
    /// As the library takes it.
    pub(crate) fn choice(&self) -> vlc::Compute {
        vlc::Compute { threads: self.threads.count(), ..self.on_these_threads() }
    }

    /// The same on the threads at hand, where [`Threads::install`] has seen to their number.
    pub(crate) fn on_these_threads(&self) -> vlc::Compute {
        vlc::Compute { backend: self.backend.into(), device: self.device.choice(), threads: None }
    }
}

/// Which of several GPUs, or of wgpu's adapters.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct DeviceArg {
    /// Which GPU of the backend, by its number in `vlc devices` [default: the best: most memory; of wgpu a discrete one]
    #[arg(long = "device", value_name = "N")]
    number: Option<usize>,
    /// Which adapter of wgpu
    #[arg(long, value_name = "A", value_enum, default_value_t = AdapterArg::Hardware, conflicts_with = "number")]
    adapter: AdapterArg,
}

impl DeviceArg {
    /// As the library takes it.
    pub(crate) fn choice(self) -> DeviceChoice {
        match self.adapter {
            AdapterArg::Hardware => self.number.into(),
            AdapterArg::Software => DeviceChoice::Software,
        }
    }
}

/// What runs a wgpu adapter, as an argument.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum AdapterArg {
    /// a GPU
    Hardware,
    /// wgpu's adapter that runs on the processor, for tests
    Software,
}

/// How many CPU threads.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Threads {
    /// CPU threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    threads: Option<u32>,
}

impl Threads {
    pub(crate) fn count(self) -> Option<usize> {
        self.threads.map(|n| n as usize)
    }

    /// Runs `work` on that many threads.
    pub(crate) fn install<R: Send>(self, work: impl FnOnce() -> Result<R, CliError> + Send) -> Result<R, CliError> {
        let Some(threads) = self.count() else {
            return work();
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .map_err(|e| CliError::Usage(format!("cannot start {threads} threads: {e}")))?;
        pool.install(work)
    }
}

/// [`Backend`] as an argument.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum BackendArg {
    /// cuda, else a hardware wgpu adapter, else cpu
    Auto,
    /// Threads and SIMD
    Cpu,
    /// Any GPU, through Vulkan, Metal or Direct3D 12
    Wgpu,
    /// NVIDIA GPUs
    Cuda,
}

impl From<BackendArg> for Backend {
    fn from(arg: BackendArg) -> Backend {
        match arg {
            BackendArg::Auto => Backend::Auto,
            BackendArg::Cpu => Backend::Cpu,
            BackendArg::Wgpu => Backend::Wgpu,
            BackendArg::Cuda => Backend::Cuda,
        }
    }
}

/// [`Metric`] as an argument.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum MetricArg {
    /// Inner product of normalised rows; the scale of int8 inputs does not matter
    Cosine,
    /// Inner product
    Dot,
    /// Squared Euclidean distance
    L2,
}

impl From<MetricArg> for Metric {
    fn from(arg: MetricArg) -> Metric {
        match arg {
            MetricArg::Cosine => Metric::Cosine,
            MetricArg::Dot => Metric::Dot,
            MetricArg::L2 => Metric::L2,
        }
    }
}

/// [`CodeKind`] as an argument.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum CodeArg {
    /// 4-bit symbols in a chain: better recall for the same bytes, scanned with 16-entry tables
    Chain,
    /// 8-bit symbols, independent product quantization: the simple reference
    Pq8,
}

impl From<CodeArg> for CodeKind {
    fn from(arg: CodeArg) -> CodeKind {
        match arg {
            CodeArg::Chain => CodeKind::Chain,
            CodeArg::Pq8 => CodeKind::Pq8,
        }
    }
}

/// A share of the float32 size: 0.03 or 3%.
pub(crate) fn ratio(text: &str) -> Result<f64, String> {
    let number = match text.strip_suffix('%') {
        Some(percent) => percent.trim_end().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse(),
    };
    match number {
        Ok(ratio) if ratio > 0.0 && ratio <= 1.0 => Ok(ratio),
        Ok(ratio) if ratio > 1.0 => {
            Err("a share of the float32 size is at most 1, such as 0.03 or 3%; ask for bytes per vector with --bytes"
                .into())
        }
        _ => Err("a share of the float32 size, above 0 and at most 1, such as 0.03 or 3%".into()),
    }
}

/// Bytes per vector.
pub(crate) fn bytes_per_vector(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(bytes) if bytes > 0.0 && bytes.is_finite() => Ok(bytes),
        _ => Err("a number of bytes per vector above 0, such as 46".into()),
    }
}

/// `KEY=VALUE`.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, _)) if key.starts_with("vlc.") => Err("keys starting with `vlc.` are reserved".into()),
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, such as model=all-MiniLM-L6-v2".into()),
    }
}

/// `A..B`, `A..` or `..B`: rows from A, up to but without B.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowRange {
    start: usize,
    end: Option<usize>,
}

impl std::str::FromStr for RowRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |s: &str| s.parse::<usize>().map_err(|_| format!("`{s}` is not a row number"));
        let Some((start, end)) = text.split_once("..") else {
            return Err("expected A..B, such as 0..1000 (without row 1000)".into());
        };
        let start = if start.is_empty() { 0 } else { parse(start)? };
        let end = if end.is_empty() { None } else { Some(parse(end)?) };
        if end.is_some_and(|end| end <= start) {
            return Err(format!("{text} is empty"));
        }
        Ok(RowRange { start, end })
    }
}

impl RowRange {
    /// The rows of a store of `n`.
    pub(crate) fn within(self, n: usize) -> Result<Range<usize>, CliError> {
        let end = self.end.unwrap_or(n);
        if end > n || self.start >= end {
            return Err(CliError::Usage(format!("--rows {}..{end}: the file has {n} rows, 0..{n}", self.start)));
        }
        Ok(self.start..end)
    }
}

/// Reads all queries of a file and checks that they fit a store.
pub(crate) fn read_queries(path: &Path, dim: usize) -> Result<Mat, CliError> {
    let file = VectorFile::open(path)?;
    if file.dim() != dim {
        let message = format!(
            "these queries have {} dimensions and the store has {dim}; embed both with the same model",
            file.dim()
        );
        return Err(vlc::Error::Input(InputError::new(Some(path), message)).into());
    }
    Ok(vlc::read::read_all(&file)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_parse() {
        for (text, value) in [("0.03", 0.03), ("3%", 0.03), ("8.33 %", 0.0833), ("100%", 1.0), ("1", 1.0)] {
            assert_eq!(ratio(text), Ok(value), "{text}");
        }
        for wrong in ["0", "-1", "nan", "", "%", "0%", "-3%", "3%%", "% 3"] {
            assert!(ratio(wrong).is_err_and(|e| !e.contains("--bytes")), "{wrong}");
        }
        // Bytes per vector, most likely.
        for wrong in ["1.1", "19", "101%", "inf"] {
            assert!(ratio(wrong).is_err_and(|e| e.contains("--bytes")), "{wrong}");
        }
        assert_eq!(bytes_per_vector("46"), Ok(46.0));
        assert!(bytes_per_vector("inf").is_err());
        assert_eq!(key_value("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(["a", "=b", "vlc.a=b"].iter().all(|wrong| key_value(wrong).is_err()));
    }

    #[test]
    fn row_ranges_parse_and_fit() {
        let rows = |text: &str, n| text.parse::<RowRange>().ok().and_then(|r| r.within(n).ok());
        assert_eq!(rows("2..5", 5), Some(2..5));
        assert_eq!(rows("2..", 5), Some(2..5));
        assert_eq!(rows("..3", 5), Some(0..3));
        assert_eq!(rows("..", 5), Some(0..5));
        for wrong in ["3..2", "2..2", "..0", "0..6", "5..", "2", "a..b", "-1..2", "1..=2"] {
            assert_eq!(rows(wrong, 5), None, "{wrong}");
        }
    }
}
