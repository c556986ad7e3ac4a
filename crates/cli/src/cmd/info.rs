//! `vlc info`.

use std::{collections::BTreeMap, path::PathBuf};

use clap::ValueEnum;
use serde::Serialize;
use vlc::{CodeKind, IdKind, Metric, text::printable};

use crate::{
    args::{CodeArg, MetricArg},
    error::CliError,
    output::{Output, Recall, count, decoder, pairs, size, table},
    outputs::input,
    stores::{ModelArg, hex},
};

/// Show what a .vlc file holds and what each part costs
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  vlc info base.vlc\n  vlc info base.vlc --json | jq .recall")]
pub(crate) struct Args {
    /// The .vlc file
    #[arg(value_name = "INDEX", value_parser = input())]
    index: PathBuf,
    #[command(flatten)]
    model: ModelArg,
}

#[derive(Serialize)]
struct Info {
    version: u32,
    generation: u64,
    n: u64,
    deleted: u64,
    next_row: u64,
    segments_of_rows: u32,
    ids: &'static str,
    dim: u32,
    metric: String,
    code: String,
    lags: u32,
    anchors: u32,
    charts: u32,
    symbols: u32,
    code_bytes: f64,
    refine_bytes: Option<u32>,
    decoder: Option<Decoder>,
    file_bytes: u64,
    dead_bytes: u64,
    bytes_per_vector: Option<f64>,
    ratio: Option<f64>,
    model_hash: String,
    model_file: Option<String>,
    embedding: Option<Embedding>,
    energy: f64,
    anchor_energy: f64,
    recall: Option<Recall>,
    seed: u64,
    training_rows: u64,
    probe_cells: Option<[u32; 2]>,
    appended: Vec<Appended>,
    sections: Vec<Section>,
    metadata: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Decoder {
    shape: String,
    bytes: u64,
    shortlist: u32,
    unseen_energy: Option<f64>,
}

#[derive(Serialize)]
struct Embedding {
    name: String,
    hash: Option<String>,
}

#[derive(Serialize)]
struct Appended {
    first_row: u64,
    rows: u64,
    energy: f64,
}

#[derive(Serialize)]
struct Section {
    name: String,
    bytes: u64,
}

pub(crate) fn run(args: Args, out: &Output) -> Result<(), CliError> {
    let info = args.model.open(&args.index)?.info();
    let info = Info {
        version: info.version,
        generation: info.generation,
        n: info.n,
        deleted: info.deleted,
        next_row: info.next_row,
        segments_of_rows: info.segments_of_rows,
        ids: match info.ids {
            IdKind::Numbers => "numbers",
            IdKind::Text => "text",
            _ => "rows",
        },
        dim: info.dim,
        metric: metric_name(info.metric),
        code: code_name(info.code),
        lags: info.lags,
        anchors: info.anchors,
        charts: info.charts,
        symbols: info.symbols,
        code_bytes: info.code_bytes,
        refine_bytes: info.refine_bytes,
        decoder: info.decoder.map(|d| Decoder {
            shape: decoder(d.shape),
            bytes: d.bytes,
            shortlist: d.shortlist,
            unseen_energy: d.unseen_energy,
        }),
        file_bytes: info.file_bytes,
        dead_bytes: info.dead_bytes,
        bytes_per_vector: Some(info.bytes_per_vector).filter(|bytes| bytes.is_finite()),
        ratio: Some(info.ratio).filter(|ratio| ratio.is_finite()),
        model_hash: hex(info.model_hash),
        model_file: info.model_file,
        embedding: info.embedding.map(|e| Embedding { name: e.name, hash: e.hash }),
        energy: info.energy,
        anchor_energy: info.anchor_energy,
        recall: info.recall.map(|r| Recall::new(r.k, r.recall, r.queries, r.source)),
        seed: info.seed,
        training_rows: info.training_rows,
        probe_cells: info.probe_cells,
        appended: info
            .appended
            .iter()
            .map(|a| Appended { first_row: a.first_row, rows: a.rows, energy: a.energy })
            .collect(),
        sections: info.sections.into_iter().map(|(name, bytes)| Section { name, bytes }).collect(),
        metadata: info.metadata,
    };
    out.result(&info, || human(&info))
}

fn human(info: &Info) -> String {
    let recall = info.recall.as_ref().map_or_else(|| "not measured".into(), Recall::to_string);
    let learned = info.decoder.as_ref().map_or_else(
        || "none".into(),
        |d| {
            let unseen = d.unseen_energy.map(|e| format!(", energy {e:.5} of rows it was not trained on"));
            let unseen = unseen.unwrap_or_default();
            format!("{} in {}, scores {} rows again for 10 hits{unseen}", d.shape, size(d.bytes), d.shortlist)
        },
    );
    let probing = match info.probe_cells {
        Some([few, many]) => {
            format!("auto looks at {few} of {} cells for 10 hits, {many} for 100", count(info.anchors))
        }
        None => "not measured: auto looks at all rows".into(),
    };
    let per_vector = match (info.bytes_per_vector, info.ratio) {
        (Some(bytes), Some(ratio)) => format!("{bytes:.2} bytes, ratio {ratio:.4} of float32"),
        _ => "no vectors".into(),
    };
    let segments = format!(
        "{}, with {} deleted vectors and {} of dead sections; the next row is {}",
        info.segments_of_rows,
        count(info.deleted),
        size(info.dead_bytes),
        count(info.next_row)
    );
    let ids = match info.ids {
        "rows" => "row numbers".to_owned(),
        own => format!("{own} of their own"),
    };
    let model_hash = match &info.model_file {
        Some(file) => format!("{}, in the file {}", info.model_hash, printable(file)),
        None => info.model_hash.clone(),
    };
    let embedding = match &info.embedding {
        Some(Embedding { name, hash: Some(hash) }) => format!("{} ({})", printable(name), printable(hash)),
        Some(Embedding { name, hash: None }) => printable(name).to_string(),
        None => "not named".into(),
    };
    let mut text = pairs(&[
        ("vectors", format!("{} x {} ({})", count(info.n), info.dim, info.metric)),
        (
            "file",
            format!(
                "{} ({} bytes), format version {}, generation {}",
                size(info.file_bytes),
                count(info.file_bytes),
                info.version,
                count(info.generation)
            ),
        ),
        ("per vector", per_vector),
        ("segments", segments),
        ("ids", ids),
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
        ("model hash", model_hash),
        ("embedding", embedding),
        (
            "refine",
            info.refine_bytes.map_or_else(|| "no layer".into(), |bytes| format!("{bytes} bytes of further codes")),
        ),
        ("decoder", learned),
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
    if !info.appended.is_empty() {
        // The last ones tell how the model fits what comes now.
        const SHOWN: usize = 12;
        let appended: Vec<Vec<String>> = info.appended[info.appended.len().saturating_sub(SHOWN)..]
            .iter()
            .map(|a| {
                let times = if info.energy > 0.0 { format!("{:.2}", a.energy / info.energy) } else { "-".into() };
                vec![count(a.first_row), count(a.rows), format!("{:.5}", a.energy), times]
            })
            .collect();
        text.push('\n');
        text.push_str(&table(&["encoded from row", "rows", "energy", "x trained"], &appended));
        if info.appended.len() > SHOWN {
            text.push_str(&format!("and {} earlier\n", info.appended.len() - SHOWN));
        }
    }
    if !info.metadata.is_empty() {
        text.push_str("\nmetadata\n");
        for (key, value) in &info.metadata {
            text.push_str(&format!("{} = {}\n", printable(key), printable(value)));
        }
    }
    text
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
