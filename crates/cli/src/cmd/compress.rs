//! `vlc compress`.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use serde::Serialize;
use vlc::{AnnealingConfig, Budget, Config, Event, RowSource, VectorFile};

use crate::{
    args::{self, CodeArg, Compute, MetricArg, check_output, read_queries},
    error::CliError,
    interrupt,
    output::{Output, Recall, count, pairs, size},
    progress::Progress,
};

/// Compress vectors into one .vlc file of a given size
#[derive(clap::Args)]
#[command(after_help = "\
Sample queries (--queries, a few hundred to a few thousand, like those to come) are worth about 2 points of recall.
Nothing is written unless all went well; Ctrl-C leaves no file behind.

Examples:
  vlc compress base.npy -o base.vlc
  vlc compress base.npy -o base.vlc --bytes 46 --queries sample.npy --meta model=all-MiniLM-L6-v2
  vlc compress base.npy -o base.vlc --ratio 0.05 --dry-run")]
pub(crate) struct Args {
    /// The vectors: .npy (f32, f16, f64, i8, u8), .fvecs, .bvecs or .fbin
    #[arg(value_name = "BASE")]
    base: PathBuf,
    /// Where to write the compressed file
    #[arg(short, long, value_name = "OUT.vlc")]
    output: PathBuf,
    /// Size of the whole file, model included, as a share of float32
    #[arg(long, value_name = "R", default_value_t = 0.03, value_parser = args::ratio, conflicts_with = "bytes")]
    ratio: f64,
    /// The same as bytes per vector
    #[arg(long, value_name = "N", value_parser = args::bytes_per_vector)]
    bytes: Option<f64>,
    /// Sample queries to train with
    #[arg(long, value_name = "Q")]
    queries: Option<PathBuf>,
    /// What "near" means
    #[arg(long, value_name = "M", value_enum, default_value_t = MetricArg::Cosine)]
    metric: MetricArg,
    #[command(flatten)]
    compute: Compute,
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
    /// Keep a note in the file; may be given again
    #[arg(long, value_name = "KEY=VALUE", value_parser = args::key_value)]
    meta: Vec<(String, String)>,
    /// Refuse to replace an existing output (by default it is replaced once the new one is whole)
    #[arg(long)]
    no_clobber: bool,
    /// Print the plan on stdout and stop
    #[arg(long)]
    dry_run: bool,
}

/// What was done.
#[derive(Serialize)]
struct Report {
    n: u64,
    dim: u32,
    file_bytes: u64,
    bytes_per_vector: f64,
    ratio: f64,
    anchors: u32,
    charts: u32,
    code_bytes: f64,
    energy: f64,
    anchor_energy: f64,
    recall: Option<Recall>,
    plan_seconds: f64,
    train_seconds: f64,
    encode_seconds: f64,
    seconds: f64,
    backend: String,
    peak_rss_bytes: Option<u64>,
}

pub(crate) fn run(args: Args, out: &Output) -> Result<(), CliError> {
    let inputs: Vec<&Path> = std::iter::once(&args.base).chain(&args.queries).map(PathBuf::as_path).collect();
    check_output(&args.output, &inputs, args.no_clobber && !args.dry_run)?;
    let base = VectorFile::open(&args.base)?;
    let queries = args.queries.as_deref().map(|path| read_queries(path, base.dim())).transpose()?;

    let _careful = interrupt::careful();
    let progress = Progress::new(out);
    let float32_bytes = 4 * (base.rows() * base.dim()) as u64;
    let planned = OnceLock::new();
    let on_event = |event: &Event<'_>| -> ControlFlow<()> {
        match event {
            Event::Plan(plan) => {
                let (_, text) = planned.get_or_init(|| (plan_object(plan), plan_text(plan, float32_bytes)));
                if args.dry_run {
                    return ControlFlow::Break(());
                }
                out.note(text.trim_end());
            }
            Event::Progress { stage, done, total } => progress.stage(*stage, *done, *total),
            _ => {}
        }
        interrupt::flow()
    };
    let config = Config {
        budget: args.bytes.map_or(Budget::Ratio(args.ratio), Budget::BytesPerVector),
        metric: args.metric.into(),
        backend: args.compute.backend.into(),
        device: args.compute.device(),
        code: args.code.into(),
        annealing: AnnealingConfig {
            anchors: args.anchors.map(|n| n as usize),
            seed: args.seed,
            ..Default::default()
        },
        charts: args.charts.map(|n| n as usize),
        queries: queries.as_ref().map(|q| q.view()),
        ids: None,
        expected_rows: None,
        embedding: None,
        seed: args.seed,
        threads: args.compute.threads.count(),
        metadata: args.meta.iter().cloned().collect::<BTreeMap<_, _>>(),
        progress: Some(&on_event),
    };
    let report = vlc::compress_to(&base, &args.output, &config);
    drop(progress);
    match (report, planned.get()) {
        (Err(vlc::Error::Cancelled), Some((plan, text))) if args.dry_run => out.result(plan, || text.clone()),
        (report, _) => {
            let report = Report::new(report?);
            out.result(&report, || report.text(&args.output))
        }
    }
}

fn plan_object(plan: &vlc::Plan) -> serde_json::Value {
    serde_json::json!({
        "n": plan.n,
        "dim": plan.dim,
        "file_bytes": plan.file_bytes,
        "bytes_per_vector": plan.bytes_per_vector,
        "ratio": plan.ratio,
        "anchors": plan.anchors,
        "charts": plan.charts,
        "symbols": plan.symbols,
        "code_bytes": plan.code_bytes,
        "model_bytes": plan.model_bytes,
        "expected_recall": plan.expected_recall,
        "peak_memory_bytes": plan.peak_memory_bytes,
    })
}

fn plan_text(plan: &vlc::Plan, float32_bytes: u64) -> String {
    let recall = plan.expected_recall.map_or_else(|| "unknown".into(), |r| format!("about {r:.2}"));
    pairs(&[
        ("vectors", format!("{} x {}, {} as float32", count(plan.n), plan.dim, size(float32_bytes))),
        (
            "file",
            format!(
                "at most {}: {:.2} bytes per vector, ratio {:.4}",
                size(plan.file_bytes),
                plan.bytes_per_vector,
                plan.ratio
            ),
        ),
        (
            "of which",
            format!(
                "model {} (anchors {}, charts {}), codes {:.1} bytes per vector",
                size(plan.model_bytes),
                count(plan.anchors),
                plan.charts,
                plan.code_bytes
            ),
        ),
        ("recall@10", recall),
        ("peak memory", format!("about {}", size(plan.peak_memory_bytes))),
    ])
}

impl Report {
    fn new(r: vlc::Report) -> Self {
        Report {
            n: r.n,
            dim: r.dim,
            file_bytes: r.file_bytes,
            bytes_per_vector: r.bytes_per_vector,
            ratio: r.ratio,
            anchors: r.anchors,
            charts: r.charts,
            code_bytes: r.code_bytes,
            energy: r.energy,
            anchor_energy: r.anchor_energy,
            recall: r.recall.map(|r| Recall::new(r.k, r.recall, r.queries, r.source)),
            plan_seconds: r.plan_seconds,
            train_seconds: r.train_seconds,
            encode_seconds: r.encode_seconds,
            seconds: r.seconds,
            backend: r.backend.to_string(),
            peak_rss_bytes: peak_rss_bytes(),
        }
    }

    fn text(&self, path: &Path) -> String {
        let recall = self.recall.as_ref().map(|r| format!(", {r}")).unwrap_or_default();
        let memory = self.peak_rss_bytes.map(|b| format!(", peak memory {}", size(b))).unwrap_or_default();
        format!(
            "{}: {} vectors x {} in {}, {:.2} bytes per vector, ratio {:.4}\n\
             energy {:.5} (anchors alone {:.5}){recall}\n\
             {:.1} s (plan {:.1}, train {:.1}, encode {:.1}) on {}{memory}\n",
            path.display(),
            count(self.n),
            self.dim,
            size(self.file_bytes),
            self.bytes_per_vector,
            self.ratio,
            self.energy,
            self.anchor_energy,
            self.seconds,
            self.plan_seconds,
            self.train_seconds,
            self.encode_seconds,
            self.backend,
        )
    }
}

/// The most memory this process has held, where the system tells (Linux).
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
