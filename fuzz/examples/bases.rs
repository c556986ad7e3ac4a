//! Writes `bases/`: stores of a few rows with two segments, deleted rows and ids, one of each kind.
#![allow(clippy::unwrap_used, reason = "run by hand")]

use std::path::Path;

use vlc::{Budget, CodeKind, Config, EncodeOptions, Ids, MatRef, Metric, Store, compress_to};

const DIM: usize = 4;

fn rows(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count * DIM).map(|_| next()).collect()
}

fn ids(kind: Option<bool>, range: std::ops::Range<u64>) -> Option<Ids> {
    kind.map(|text| {
        if text { range.map(|i| format!("row {i}")).collect() } else { range.map(|i| i * 1000).collect::<Ids>() }
    })
}

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("bases");
    let kinds = [
        ("rows", Metric::Cosine, CodeKind::Chain, None),
        ("numbers", Metric::Cosine, CodeKind::Chain, Some(false)),
        ("text", Metric::Dot, CodeKind::Chain, Some(true)),
        ("l2", Metric::L2, CodeKind::Chain, None),
        ("pq8", Metric::Cosine, CodeKind::Pq8, None),
    ];
    for (name, metric, code, kind) in kinds {
        let path = folder.join(name).with_extension("vlc");
        let (values, first) = (rows(7, 40), ids(kind, 0..40));
        let mut config = Config { metric, code, ids: first.as_ref(), ..Config::default() };
        config.budget = Budget::BytesPerVector(if code == CodeKind::Pq8 { 200.0 } else { 65.0 });
        config.annealing.anchors = Some(3);
        config.metadata = [("made for".to_string(), "fuzzing".to_string())].into();
        compress_to(&MatRef::new(&values, 40, DIM).unwrap(), &path, &config).unwrap();
        let mut store = Store::open(&path).unwrap();
        let (values, more) = (rows(9, 5), ids(kind, 40..45));
        let options = EncodeOptions { ids: more.as_ref(), ..EncodeOptions::default() };
        store.append(&MatRef::new(&values, 5, DIM).unwrap(), &options).unwrap();
        let gone = ids(kind, 3..9).unwrap_or((3..9).collect());
        store.delete(&gone).unwrap();
        println!("{name}: {} bytes", std::fs::metadata(&path).unwrap().len());
    }
}
