//! What calls report goes to JSON and comes back (feature `serde`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};
use vlc::{Backend, EncodeOptions, Index, Metric, Store, compress_to, plan, train_to};

use common::{clustered, config};

#[track_caller]
fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) -> String {
    let text = serde_json::to_string(value).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), value, "{text}");
    text
}

#[test]
fn reports_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let (path, model) = (folder.path().join("a.vlc"), folder.path().join("m.vlc"));
    let rows = clustered(5, 900, 16);
    for metric in [Metric::Cosine, Metric::L2] {
        let config = vlc::Config { compute: Backend::Cpu.into(), ..config(metric, 0.8) };
        comes_back(&plan(&rows.view(), &config).unwrap());
        comes_back(&train_to(&rows.view(), &model, &config).unwrap());
        assert!(comes_back(&compress_to(&rows.view().slice(0..800), &path, &config).unwrap()).contains("\"cpu\""));
        let mut store = Store::open(&path).unwrap();
        comes_back(&store.append(&rows.view().slice(800..900), &EncodeOptions::default()).unwrap());
        comes_back(&store.delete(&[3, 5000].into_iter().collect()).unwrap());
        drop(store);
        let index = Index::open(&path).unwrap();
        assert!(comes_back(&index.info()).contains(&format!("\"{metric}\"")));
        comes_back(&index.query(rows.row(0), 3).unwrap());
    }
}
