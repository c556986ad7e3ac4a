//! Single operations: nearest anchors and k-means at given shapes on each backend.

use rayon::prelude::*;
use serde::Serialize;
use vlc::{
    Mat,
    measure::{Timed, time_assign, time_kmeans},
};

use super::{Bench, ENERGY_TOLERANCE, Tested, data::Shape, percent};
use crate::{
    error::CliError,
    interrupt,
    output::{count, table},
    progress::Progress,
};

/// Of k-means.
const ITERATIONS: usize = 10;

#[derive(Serialize)]
pub(super) struct Operation {
    /// `assign` or `kmeans`.
    operation: &'static str,
    #[serde(flatten)]
    shape: Shape,
    /// Assignments of a run.
    iterations: usize,
    backends: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    backend: String,
    device: String,
    number: Option<usize>,
    /// Why it did not run, or failed.
    reason: Option<String>,
    #[serde(flatten)]
    result: Option<Timing>,
}

#[derive(Serialize)]
struct Timing {
    /// The median run, scaled to all rows.
    seconds: f64,
    /// Each run as measured.
    run_seconds: Vec<f64>,
    /// Rows of a run; fewer than all where `scaled`.
    rows_timed: usize,
    scaled: bool,
    tflops: f64,
    /// Seconds of the CPU by seconds of this one.
    speedup: Option<f64>,
    /// Of the rows timed.
    energy: f64,
    energy_difference_percent: Option<f64>,
    labels_differ_percent: Option<f64>,
    /// The first rows, whose energies and labels were compared with the CPU's.
    rows_compared: Option<usize>,
    /// Whether the energy is that of the CPU, within tolerance; where the CPU did not run whether it fell.
    agrees: bool,
}

/// Vectors of one shape.
struct Set {
    shape: Shape,
    rows: Mat,
    start: Mat,
}

pub(super) fn run(bench: &mut Bench, large: bool, progress: &Progress) -> Result<Vec<Operation>, CliError> {
    let mut operations = Vec::new();
    for shape in Shape::all(large) {
        interrupt::check()?;
        progress.update("making vectors", 0, 1);
        let rows = shape.rows()?;
        let start = shape.start(&rows)?;
        let set = Set { shape, rows, start };
        progress.update("operations", 0, 1);
        let assign = set.assign(bench)?;
        let kmeans = set.kmeans(bench, &assign)?;
        operations.extend([assign, kmeans]);
    }
    Ok(operations)
}

impl Set {
    /// Whether the CPU takes some of the rows only.
    fn in_part(&self) -> bool {
        self.shape.cpu_rows < self.shape.rows
    }

    fn assign(&self, bench: &mut Bench) -> Result<Operation, CliError> {
        let mut cpu: Option<(f64, Timed)> = None;
        let backends = self.each(bench, |on| {
            let (n, repeats) = if on.is_cpu() && self.in_part() {
                (self.shape.cpu_rows, 1)
            } else {
                (self.shape.rows, self.shape.repeats)
            };
            let rows = self.rows.view().slice(0..n);
            let timed = time_assign(rows, self.start.view(), on.compute(), repeats)?;
            let mut timing = self.timing(&timed, n, 1);
            let (seconds, cpu) = cpu.get_or_insert_with(|| (timing.seconds, timed.clone()));
            if self.in_part() {
                // The energies are of different rows; those of the labels are not.
                let energies = [&timed, cpu].map(|t| self.energy(&t.labels[..self.shape.cpu_rows]));
                timing.compare(*seconds, energies, &timed.labels, &cpu.labels);
            } else {
                timing.compare(*seconds, [timed.energy, cpu.energy], &timed.labels, &cpu.labels);
            }
            Ok(Ok(timing))
        })?;
        Ok(Operation { operation: "assign", shape: self.shape, iterations: 1, backends })
    }

    fn kmeans(&self, bench: &mut Bench, assign: &Operation) -> Result<Operation, CliError> {
        let mut cpu: Option<(f64, Timed)> = None;
        let backends = self.each(bench, |on| {
            if on.is_cpu() && self.in_part() {
                return Ok(Err("not run: the CPU would take minutes"));
            }
            let Shape { rows: n, repeats, .. } = self.shape;
            let timed = time_kmeans(self.rows.view(), self.start.view(), ITERATIONS, on.compute(), repeats)?;
            let mut timing = self.timing(&timed, n, ITERATIONS);
            if self.in_part() {
                timing.agrees = assign.energy_on(on).is_none_or(|before| timed.energy < before);
            } else {
                let (seconds, cpu) = cpu.get_or_insert_with(|| (timing.seconds, timed.clone()));
                timing.compare(*seconds, [timed.energy, cpu.energy], &timed.labels, &cpu.labels);
            }
            Ok(Ok(timing))
        })?;
        Ok(Operation { operation: "kmeans", shape: self.shape, iterations: ITERATIONS, backends })
    }

    /// Runs `work` on every backend that is there, the CPU first; it may say why it does not.
    fn each(
        &self,
        bench: &mut Bench,
        mut work: impl FnMut(&Tested) -> Result<Result<Timing, &'static str>, CliError>,
    ) -> Result<Vec<Row>, CliError> {
        let mut rows = Vec::new();
        for at in (0..bench.tested.len()).filter(|&at| bench.tested[at].available).collect::<Vec<_>>() {
            let mut done = None;
            if bench.tested[at].usable() {
                done = bench.attempt(at, &mut work)?;
            }
            let on = &bench.tested[at];
            let (result, reason) = match done {
                Some(Ok(timing)) => (Some(timing), None),
                Some(Err(reason)) => (None, Some(reason.to_owned())),
                None => (None, on.reason.clone()),
            };
            let backend = on.backend.to_string();
            rows.push(Row { backend, device: on.device.clone(), number: on.number, reason, result });
        }
        Ok(rows)
    }

    /// What a backend did by itself. What compares it with the CPU is filled in later.
    fn timing(&self, timed: &Timed, n: usize, iterations: usize) -> Timing {
        let seconds = timed.median() * self.shape.rows as f64 / n as f64;
        let Shape { rows, dim, anchors, .. } = self.shape;
        let operations = 2.0 * rows as f64 * dim as f64 * anchors as f64 * iterations as f64;
        Timing {
            seconds,
            run_seconds: timed.seconds.clone(),
            rows_timed: n,
            scaled: n < rows,
            tflops: operations / seconds.max(1e-9) / 1e12,
            speedup: None,
            energy: timed.energy,
            energy_difference_percent: None,
            labels_differ_percent: None,
            rows_compared: None,
            agrees: true,
        }
    }

    /// Mean squared distance of the first rows to the start anchors of these labels.
    fn energy(&self, labels: &[u32]) -> f64 {
        let distance = |(i, &k): (usize, &u32)| -> f64 {
            let pairs = self.rows.row(i).iter().zip(self.start.row(k as usize));
            pairs.map(|(x, a)| f64::from(x - a).powi(2)).sum()
        };
        labels.par_iter().enumerate().map(distance).sum::<f64>() / labels.len().max(1) as f64
    }
}

impl Timing {
    /// Of `energies` the second is the CPU's, of the labels those of the rows that both have count.
    fn compare(&mut self, cpu_seconds: f64, energies: [f64; 2], labels: &[u32], cpu_labels: &[u32]) {
        let compared = labels.len().min(cpu_labels.len());
        let differ = labels.iter().zip(cpu_labels).filter(|(a, b)| a != b).count();
        let difference = percent(energies[0], energies[1]);
        self.speedup = Some(cpu_seconds / self.seconds.max(1e-9));
        self.energy_difference_percent = Some(difference);
        self.labels_differ_percent = Some(100.0 * differ as f64 / compared.max(1) as f64);
        self.rows_compared = Some(compared);
        self.agrees = difference.abs() <= 100.0 * ENERGY_TOLERANCE;
    }

    fn note(&self, rows: usize) -> String {
        let compared = self.rows_compared.unwrap_or(rows);
        match (self.agrees, self.scaled, compared < rows) {
            (false, ..) if self.rows_compared.is_none() => "WRONG: the energy did not fall".into(),
            (false, ..) => "DISAGREES with the CPU".into(),
            (_, true, _) => format!("scaled from one run of {} rows", count(self.rows_timed)),
            (_, _, true) => format!("compared on {} rows", count(compared)),
            _ => String::new(),
        }
    }
}

impl Operation {
    fn energy_on(&self, on: &Tested) -> Option<f64> {
        let row = self.backends.iter().find(|row| row.backend == on.backend.to_string())?;
        row.result.as_ref().map(|r| r.energy)
    }

    /// What is wrong, if anything is.
    pub(super) fn disagreement(&self) -> Option<String> {
        let row = self.backends.iter().find(|row| row.result.as_ref().is_some_and(|r| !r.agrees))?;
        Some(format!(
            "backend {} disagrees with the CPU: {} of {}, energy within {} % expected",
            row.backend,
            self.operation,
            self.shape,
            100.0 * ENERGY_TOLERANCE
        ))
    }

    fn cells(&self, row: &Row) -> Vec<String> {
        let mut cells = vec![self.operation.to_owned(), self.shape.to_string(), row.backend.clone()];
        let known = |value: Option<f64>, text: fn(f64) -> String| value.map_or_else(|| "-".into(), text);
        match &row.result {
            Some(r) => cells.extend([
                seconds(r.seconds),
                known(r.speedup, |v| format!("{v:.1}")),
                format!("{:.3}", r.tflops),
                known(r.energy_difference_percent, |v| format!("{v:+.3}")),
                known(r.labels_differ_percent, |v| format!("{v:.3}")),
                r.note(self.shape.rows),
            ]),
            None => {
                cells.extend(std::iter::repeat_n("-".to_owned(), 5));
                cells.push(row.reason.clone().unwrap_or_default());
            }
        }
        cells
    }
}

/// Three digits or so, from microseconds to minutes.
fn seconds(value: f64) -> String {
    let decimals = if value < 0.01 { 6 } else { 3 };
    format!("{value:.decimals$}")
}

pub(super) fn human(operations: &[Operation]) -> String {
    let cells = |o: &Operation| o.backends.iter().map(|row| o.cells(row)).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = operations.iter().flat_map(cells).collect();
    let header = [
        "operation",
        "rows x dim x anchors",
        "backend",
        "seconds",
        "speed-up",
        "TFLOP/s",
        "energy diff. %",
        "labels diff. %",
        "note",
    ];
    let iterations = ITERATIONS;
    format!(
        "Operations on synthetic clusters that are on the device already: the nearest anchor of each row (assign), and\n\
         {iterations} iterations of k-means. Seconds: the median run, without copies to the device and of labels. TFLOP/s: of the\n\
         products of rows and anchors alone. 10,000 x 128 x 256 is the shape of an old benchmark.\n\n{}",
        table(&header, &rows)
    )
}

#[cfg(test)]
mod tests {
    use vlc::Backend;

    use super::*;

    #[test]
    fn what_the_cpu_does_in_part_is_scaled() -> Result<(), CliError> {
        let shape = Shape { name: "tiny", rows: 300, dim: 8, anchors: 5, cpu_rows: 100, repeats: 2 };
        let rows = shape.rows()?;
        let set = Set { shape, start: shape.start(&rows)?, rows };
        let cpu =
            || Tested { backend: Backend::Cpu, number: None, device: "cpu".into(), available: true, reason: None };
        let mut bench = Bench { tested: vec![cpu()], failed: None };
        let assign = set.assign(&mut bench)?;
        let timing = assign.backends[0].result.as_ref().expect("it ran");
        assert!(timing.scaled && timing.agrees && timing.run_seconds.len() == 1);
        assert_eq!((timing.rows_timed, timing.rows_compared), (100, Some(100)));
        assert!((timing.seconds / timing.run_seconds[0] - 3.0).abs() < 1e-9);
        let kmeans = set.kmeans(&mut bench, &assign)?;
        assert!(kmeans.backends[0].result.is_none() && kmeans.disagreement().is_none());
        let text = human(&[assign, kmeans]);
        assert!(text.contains("scaled from one run of 100 rows") && text.contains("not run"), "{text}");

        // The energy of labels is the device's where these are all rows.
        let all = time_assign(set.rows.view(), set.start.view(), Backend::Cpu, 1)?;
        assert!((set.energy(&all.labels) / all.energy - 1.0).abs() < 1e-5);
        Ok(())
    }

    #[test]
    fn energies_apart_are_a_disagreement() -> Result<(), CliError> {
        let shape = Shape { name: "tiny", rows: 100, dim: 8, anchors: 5, cpu_rows: 100, repeats: 1 };
        let rows = shape.rows()?;
        let set = Set { shape, start: shape.start(&rows)?, rows };
        let timed = time_assign(set.rows.view(), set.start.view(), Backend::Cpu, 1)?;
        let mut timing = set.timing(&timed, 100, 1);
        timing.compare(2.0 * timing.seconds, [1.049, 1.0], &[1, 2, 3, 4], &[1, 2, 4, 4]);
        assert!(timing.agrees && timing.speedup.is_some_and(|s| (s - 2.0).abs() < 1e-6));
        assert_eq!((timing.labels_differ_percent, timing.rows_compared), (Some(25.0), Some(4)));
        for energy in [1.051, 0.949, f64::NAN] {
            timing.compare(1.0, [energy, 1.0], &[1], &[1]);
            assert!(!timing.agrees, "{energy}");
        }
        let row =
            Row { backend: "cuda".into(), device: "one".into(), number: Some(0), reason: None, result: Some(timing) };
        let operation = Operation { operation: "assign", shape, iterations: 1, backends: vec![row] };
        assert!(operation.disagreement().is_some_and(|text| text.contains("cuda disagrees")));
        assert!(human(&[operation]).contains("DISAGREES"));
        Ok(())
    }
}
