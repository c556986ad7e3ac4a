//! `vlc info`.

use std::{collections::BTreeMap, path::PathBuf};

use clap::ValueEnum;
use serde::Serialize;
use vlc::{CodeKind, Metric};

use crate::{
    args::{CodeArg, MetricArg},
    error::CliError,
    output::{Output, Recall, count, pairs, size, table},
};

/// Show what a .vlc file holds and what each part costs
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  vlc info base.vlc\n  vlc info base.vlc --json | jq .recall")]
pub(crate) struct Args {
    /// The .vlc file
    #[arg(value_name = "INDEX")]
    index: PathBuf,
}

#[derive(Serialize)]
struct Info {
    version: u32,
    n: u64,
    dim: u32,
    metric: String,
    code: String,
    lags: u32,
    anchors: u32,
    charts: u32,
    symbols: u32,
    code_bytes: f64,
    file_bytes: u64,
    bytes_per_vector: f64,
    ratio: f64,
    energy: f64,
    anchor_energy: f64,
    recall: Option<Recall>,
    seed: u64,
    training_rows: u64,
    probe_cells: Option<[u32; 2]>,
    sections: Vec<Section>,
    metadata: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Section {
    name: String,
    bytes: u64,
}

pub(crate) fn run(args: Args, out: &Output) -> Result<(), CliError> {
    let info = vlc::Index::open(&args.index)?.info();
    let info = Info {
        version: info.version,
        n: info.n,
        dim: info.dim,
        metric: metric_name(info.metric),
        code: code_name(info.code),
        lags: info.lags,
        anchors: info.anchors,
        charts: info.charts,
        symbols: info.symbols,
        code_bytes: info.code_bytes,
        file_bytes: info.file_bytes,
        bytes_per_vector: info.bytes_per_vector,
        ratio: info.ratio,
        energy: info.energy,
        anchor_energy: info.anchor_energy,
        recall: info.recall.map(|r| Recall::new(r.k, r.recall, r.queries, r.source)),
        seed: info.seed,
        training_rows: info.training_rows,
        probe_cells: info.probe_cells,
        sections: info.sections.into_iter().map(|(name, bytes)| Section { name, bytes }).collect(),
        metadata: info.metadata,
    };
    out.result(&info, || human(&info))
}

fn human(info: &Info) -> String {
    let recall = info.recall.as_ref().map_or_else(|| "not measured".into(), Recall::to_string);
    let probing = match info.probe_cells {
        Some([few, many]) => {
            format!("auto looks at {few} of {} cells for 10 hits, {many} for 100", count(info.anchors))
        }
        None => "not measured: auto looks at all rows".into(),
    };
    let mut text = pairs(&[
        ("vectors", format!("{} x {} ({})", count(info.n), info.dim, info.metric)),
        (
            "file",
            format!("{} ({} bytes), format version {}", size(info.file_bytes), count(info.file_bytes), info.version),
        ),
        ("per vector", format!("{:.2} bytes, ratio {:.4} of float32", info.bytes_per_vector, info.ratio)),
        (
            "code",
            format!("{}, lags {}, symbols {}, {:.1} bytes", info.code, info.lags, info.symbols, info.code_bytes),
        ),
        (
            "model",
            format!(
                "anchors {}, charts {}, trained on {} rows, seed {}",
                count(info.anchors),
                info.charts,
                count(info.training_rows),
                info.seed
            ),
        ),
        ("energy", format!("{:.5} (anchors alone {:.5})", info.energy, info.anchor_energy)),
        ("quality", recall),
        ("probing", probing),
    ]);
    let share = |bytes: u64| 100.0 * bytes as f64 / info.file_bytes.max(1) as f64;
    let sections: Vec<Vec<String>> = info
        .sections
        .iter()
        .map(|s| vec![s.name.clone(), count(s.bytes), format!("{:.1} %", share(s.bytes))])
        .collect();
    text.push('\n');
    text.push_str(&table(&["section", "bytes", "of file"], &sections));
    if !info.metadata.is_empty() {
        text.push_str("\nmetadata\n");
        for (key, value) in &info.metadata {
            text.push_str(&format!("{} = {}\n", printable(key), printable(value)));
        }
    }
    text
}

/// Metadata comes from the file: its control characters must not reach a terminal.
fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

fn metric_name(metric: Metric) -> String {
    name_of::<MetricArg, _>(metric)
}

fn code_name(code: CodeKind) -> String {
    name_of::<CodeArg, _>(code)
}

/// The name an argument has for a value of the library.
fn name_of<A: ValueEnum + Into<T>, T: PartialEq>(value: T) -> String {
    let arg = A::value_variants().iter().find(|&a| a.clone().into() == value);
    arg.and_then(A::to_possible_value).map_or_else(|| "unknown".into(), |name| name.get_name().to_owned())
}
