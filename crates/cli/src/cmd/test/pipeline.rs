//! The whole path: the same vectors compressed and searched on each backend.

use std::{path::Path, sync::Arc, time::Instant};

use serde::Serialize;
use vlc::{Budget, Compute, Config, Event, Index, Metric, Neighbors, SearchOptions};

use super::{Bench, ENERGY_TOLERANCE, Tested, data::Data, percent};
use crate::{
    error::{CliError, io_error},
    interrupt,
    output::{count, table},
    progress::Progress,
};

const K: usize = 10;
/// How far a backend's recall may be from the CPU's: the library promises 0.005; on few queries it varies by more.
const RECALL_TOLERANCE: f64 = 0.01;

#[derive(Serialize)]
pub(super) struct Pipeline {
    data: &'static str,
    n: usize,
    dim: usize,
    k: usize,
    ratio: f64,
    backends: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    backend: String,
    device: String,
    number: Option<usize>,
    available: bool,
    /// Why it did not run, or failed.
    reason: Option<String>,
    #[serde(flatten)]
    result: Option<Measured>,
}

#[derive(Serialize)]
struct Measured {
    seconds: f64,
    train_seconds: f64,
    encode_seconds: f64,
    energy: f64,
    energy_difference_percent: f64,
    recall: f64,
    recall_difference: f64,
    queries_per_second: f64,
    /// Seconds of the CPU by seconds of this one.
    speedup: f64,
    /// Whether energy and recall are those of the CPU, within tolerance.
    agrees: bool,
}

pub(super) fn run(
    bench: &mut Bench,
    large: bool,
    threads: Option<usize>,
    progress: &Progress,
) -> Result<Pipeline, CliError> {
    let dir = tempfile::tempdir().map_err(|e| io_error(&std::env::temp_dir(), e))?;
    let data = if large { Data::synthetic()? } else { Data::embedded(dir.path())? };
    progress.update("exact search", 0, 1);
    let truth = vlc::measure::exact_neighbors(&data.base.view(), data.queries.view(), K, Metric::Cosine)?;

    let path = dir.path().join("test.vlc");
    let mut cpu: Option<(f64, f64, f64)> = None;
    let mut backends = Vec::new();
    for at in 0..bench.tested.len() {
        let mut result = None;
        if bench.tested[at].usable() {
            result = bench.attempt(at, |on| measure(&data, &truth, on, threads, &path, progress))?;
        }
        if let Some(result) = &mut result {
            let &mut (seconds, energy, recall) = cpu.get_or_insert((result.seconds, result.energy, result.recall));
            result.speedup = seconds / result.seconds.max(1e-9);
            result.energy_difference_percent = percent(result.energy, energy);
            result.recall_difference = result.recall - recall;
            result.agrees = result.energy_difference_percent.abs() <= 100.0 * ENERGY_TOLERANCE
                && result.recall_difference.abs() <= RECALL_TOLERANCE;
        }
        let on = &bench.tested[at];
        backends.push(Row {
            backend: on.backend.to_string(),
            device: on.device.clone(),
            number: on.number,
            available: on.available,
            reason: on.reason.clone(),
            result,
        });
    }
    Ok(Pipeline { data: data.name, n: data.base.rows(), dim: data.base.dim(), k: K, ratio: data.ratio, backends })
}

/// Compresses and searches on one backend. What compares it with the CPU is the caller's to fill in.
fn measure(
    data: &Data,
    truth: &Neighbors,
    on: &Tested,
    threads: Option<usize>,
    path: &Path,
    progress: &Progress,
) -> Result<Measured, CliError> {
    let on_event = |event: &Event<'_>| {
        if let Event::Progress { stage, done, total } = event {
            progress.stage(*stage, *done, *total);
        }
        interrupt::flow()
    };
    let compute = Compute { threads, ..on.compute() };
    let config = Config {
        budget: Budget::Ratio(data.ratio),
        compute,
        queries: Some(data.sample.view()),
        progress: Some(&on_event),
        ..Default::default()
    };
    let report = vlc::compress_to(&data.base.view(), path, &config)?;
    let index = Arc::new(Index::open(path)?);
    let searcher = index.searcher(on.compute())?;
    let options = SearchOptions::new(K);
    searcher.search(data.queries.view(), &options)?;
    let start = Instant::now();
    let found = searcher.search(data.queries.view(), &options)?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(Measured {
        seconds: report.seconds,
        train_seconds: report.train_seconds,
        encode_seconds: report.encode_seconds,
        energy: report.energy,
        energy_difference_percent: 0.0,
        recall: vlc::measure::recall(&found, truth, K),
        recall_difference: 0.0,
        queries_per_second: data.queries.rows() as f64 / seconds.max(1e-9),
        speedup: 1.0,
        agrees: true,
    })
}

impl Pipeline {
    /// What is wrong, if anything is.
    pub(super) fn disagreement(&self) -> Option<String> {
        let row = self.backends.iter().find(|row| row.result.as_ref().is_some_and(|r| !r.agrees))?;
        Some(format!(
            "backend {} disagrees with the CPU: energy within {} %, recall within {RECALL_TOLERANCE} expected",
            row.backend,
            100.0 * ENERGY_TOLERANCE
        ))
    }

    pub(super) fn human(&self) -> String {
        let rows: Vec<Vec<String>> = self.backends.iter().map(Row::cells).collect();
        let header = [
            "backend",
            "seconds",
            "train",
            "encode",
            "speed-up",
            "energy",
            "diff. %",
            "recall@10",
            "diff.",
            "queries/s",
            "device",
        ];
        let (n, dim) = (count(self.n), self.dim);
        format!("{}: {n} vectors x {dim}, ratio {}\n\n{}", self.data, self.ratio, table(&header, &rows))
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.backend.clone()];
        match &self.result {
            Some(r) => cells.extend([
                format!("{:.2}", r.seconds),
                format!("{:.2}", r.train_seconds),
                format!("{:.2}", r.encode_seconds),
                format!("{:.2}", r.speedup),
                format!("{:.5}", r.energy),
                format!("{:+.2}", r.energy_difference_percent),
                format!("{:.3}", r.recall),
                format!("{:+.3}", r.recall_difference),
                count(r.queries_per_second as u64),
                if r.agrees { self.device.clone() } else { format!("{}: DISAGREES with the CPU", self.device) },
            ]),
            None => {
                cells.extend(std::iter::repeat_n("-".to_owned(), 9));
                cells.push(self.reason.clone().unwrap_or_default());
            }
        }
        cells
    }
}
