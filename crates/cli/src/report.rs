//! What the verbs that write stores say about them.

use std::{ops::ControlFlow, path::Path, sync::OnceLock};

use serde::Serialize;
use vlc::Event;

use crate::{
    interrupt,
    output::{Output, Recall, count, pairs, shown, size},
    progress::Progress,
    stores::hex,
};

/// What training and compressing gave.
#[derive(Serialize)]
pub(crate) struct Report {
    n: u64,
    dim: u32,
    file_bytes: u64,
    bytes_per_vector: f64,
    ratio: f64,
    anchors: u32,
    charts: u32,
    code_bytes: f64,
    refine_bytes: Option<u32>,
    decoder: Option<String>,
    unseen_energy: Option<f64>,
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

impl Report {
    pub(crate) fn new(r: vlc::Report) -> Self {
        Report {
            n: r.n,
            dim: r.dim,
            file_bytes: r.file_bytes,
            bytes_per_vector: r.bytes_per_vector,
            ratio: r.ratio,
            anchors: r.anchors,
            charts: r.charts,
            code_bytes: r.code_bytes,
            refine_bytes: r.refine_bytes,
            decoder: r.decoder.map(crate::output::decoder),
            unseen_energy: r.unseen_energy,
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

    pub(crate) fn text(&self, path: &Path) -> String {
        let recall = self.recall.as_ref().map(|r| format!(", {r}")).unwrap_or_default();
        let memory = self.peak_rss_bytes.map(|b| format!(", peak memory {}", size(b))).unwrap_or_default();
        let decoder = self.decoder.as_ref().map(|d| format!(", decoder {d}")).unwrap_or_default();
        format!(
            "{}: {} vectors x {} in {}, {:.2} bytes per vector, ratio {:.4}{decoder}\n\
             energy {:.5} (anchors alone {:.5}){recall}\n\
             {:.1} s (plan {:.1}, train {:.1}, encode {:.1}) on {}{memory}\n",
            shown(path),
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

/// What encoding with a model that was there gave, or putting files together.
#[derive(Serialize)]
pub(crate) struct Built {
    n: u64,
    dim: u32,
    file_bytes: u64,
    bytes_per_vector: Option<f64>,
    ratio: Option<f64>,
    energy: f64,
    trained_energy: f64,
    drifted: bool,
    lengths: Option<(f32, f32)>,
    trained_lengths: Option<(f32, f32)>,
    model: String,
    seconds: f64,
    backend: String,
    peak_rss_bytes: Option<u64>,
}

impl Built {
    pub(crate) fn new(r: &vlc::BuildReport) -> Self {
        let bytes_per_vector = per_vector(r.file_bytes, r.n);
        Built {
            n: r.n,
            dim: r.dim,
            file_bytes: r.file_bytes,
            bytes_per_vector,
            ratio: bytes_per_vector.map(|bytes| bytes / (4.0 * f64::from(r.dim))),
            energy: r.energy,
            trained_energy: r.trained_energy,
            drifted: r.drifted,
            lengths: r.lengths,
            trained_lengths: r.trained_lengths,
            model: hex(r.model_hash),
            seconds: r.seconds,
            backend: r.backend.to_string(),
            peak_rss_bytes: peak_rss_bytes(),
        }
    }

    pub(crate) fn text(&self, path: &Path) -> String {
        let share = self.bytes_per_vector.zip(self.ratio);
        let share = share.map(|(bytes, ratio)| format!(", {bytes:.2} bytes per vector, ratio {ratio:.4}"));
        format!(
            "{}: {} vectors x {} in {}{}\nenergy {:.5} (trained {:.5}), model {}\n{:.1} s on {}\n",
            shown(path),
            count(self.n),
            self.dim,
            size(self.file_bytes),
            share.unwrap_or_default(),
            self.energy,
            self.trained_energy,
            self.model,
            self.seconds,
            self.backend,
        )
    }
}

/// Tells when a model does not fit the rows it encoded.
pub(crate) fn warn_of_drift(out: &Output, energy: f64, trained: f64, drifted: bool) {
    if drifted {
        out.note(&format!(
            "vlc: warning: the model fits these rows badly: energy {energy:.5}, and {trained:.5} where it was trained; they will be found \
             less often. Train a new model on old and new rows (vlc train) and compress all again"
        ));
    }
}

/// Tells when rows are longer or shorter than any that the model was made of.
pub(crate) fn warn_of_lengths(out: &Output, lengths: Option<(f32, f32)>, trained: Option<(f32, f32)>) {
    if let (Some(lengths), Some(trained)) = (lengths, trained) {
        out.note(&format!(
            "vlc: warning: lengths {}; the model was trained on {}. They are kept, but are these rows of the same kind as the others?",
            range(lengths),
            range(trained)
        ));
    }
}

/// `0.9 to 1.1`.
fn range((lo, hi): (f32, f32)) -> String {
    let number = |v: f32| if (1e-3..1e6).contains(&v) { significant(v) } else { format!("{v:.2e}") };
    let (lo, hi) = (number(lo), number(hi));
    if lo == hi { lo } else { format!("{lo} to {hi}") }
}

/// Four digits of a number that needs no exponent, without zeros at the end.
fn significant(v: f32) -> String {
    let digits = (3 - v.log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{v:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Bytes per vector, where there are vectors.
pub(crate) fn per_vector(bytes: u64, vectors: u64) -> Option<f64> {
    (vectors > 0).then(|| bytes as f64 / vectors as f64)
}

/// Hears of a plan and of progress.
pub(crate) struct Listener<'a> {
    out: &'a Output,
    progress: Progress,
    float32_bytes: u64,
    /// Whether the plan is all that is wanted.
    dry_run: bool,
    planned: OnceLock<(serde_json::Value, String)>,
}

impl<'a> Listener<'a> {
    pub(crate) fn new(out: &'a Output, (rows, dim): (usize, usize), dry_run: bool) -> Self {
        let float32_bytes = 4 * (rows * dim) as u64;
        Listener { out, progress: Progress::new(out), float32_bytes, dry_run, planned: OnceLock::new() }
    }

    pub(crate) fn hear(&self, event: &Event<'_>) -> ControlFlow<()> {
        match event {
            Event::Plan(plan) => {
                let (_, text) = self.planned.get_or_init(|| (plan_object(plan), plan_text(plan, self.float32_bytes)));
                if self.dry_run {
                    return ControlFlow::Break(());
                }
                self.out.note(text.trim_end());
            }
            Event::Progress { stage, done, total } => self.progress.stage(*stage, *done, *total),
            _ => {}
        }
        interrupt::hear(event)
    }

    /// The plan, as an object and as text, once there is one.
    pub(crate) fn planned(self) -> Option<(serde_json::Value, String)> {
        self.planned.into_inner()
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
        "expected_recall_source": format!("{:?}", plan.expected_recall_source).to_lowercase(),
        "peak_memory_bytes": plan.peak_memory_bytes,
    })
}

fn plan_text(plan: &vlc::Plan, float32_bytes: u64) -> String {
    let stand_in = match plan.expected_recall_source {
        vlc::QuerySource::Rows => " (rows stood in for queries; of true queries it is often lower)",
        _ => "",
    };
    let recall = plan.expected_recall.map_or_else(|| "unknown".into(), |r| format!("about {r:.2}{stand_in}"));
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

/// The most memory this process has held, where the system tells (Linux).
pub(crate) fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_lengths_read_well() {
        assert_eq!(range((80.0, 120.5)), "80 to 120.5");
        assert_eq!(range((0.9, 1.1)), "0.9 to 1.1");
        assert_eq!(range((1.0, 1.000_000_1)), "1");
        assert_eq!(range((1e-9, 3.4e38)), "1.00e-9 to 3.40e38");
        assert_eq!(range((0.012_346, 123_456.0)), "0.01235 to 123456");
    }
}
