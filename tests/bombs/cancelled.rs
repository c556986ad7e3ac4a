//! Long calls ended by whoever is asked.

use std::{
    collections::BTreeMap,
    fs,
    ops::ControlFlow,
    sync::atomic::{AtomicUsize, Ordering},
};

use vlc::{EncodeOptions, Error, Index, Metric, Store, compress_with_model};

use crate::{
    DIM, bounded,
    common::{Random, clustered, sections::assemble},
    memory::alone,
    models::wide,
    small,
};

/// One as it may be: encoding takes some 24 bytes for each of its values, and can be cancelled.
#[test]
fn wide_models_can_be_cancelled() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let [path, out] = ["wide.vlc", "out.vlc"].map(|name| folder.path().join(name));
    let (dim, active) = (1400, 1300);
    let bytes = wide(dim, active, 4);
    fs::write(&path, &bytes).unwrap();
    let rows = Random(4).mat(3, dim);
    let notes = BTreeMap::new();
    let encode = |most: usize| {
        let asked = AtomicUsize::new(0);
        let progress = |_: &vlc::Event<'_>| match asked.fetch_add(1, Ordering::Relaxed) < most {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        };
        let options = EncodeOptions { progress: Some(&progress), ..EncodeOptions::default() };
        let encoded = compress_with_model(&rows.view(), &path, &out, false, &notes, &options);
        (encoded.map(|report| report.n), asked.load(Ordering::Relaxed))
    };
    let (report, asked) = bounded("encode", bytes.len(), 24 * dim * active, || encode(usize::MAX));
    assert_eq!(report.unwrap(), 3);
    assert!(asked > 100, "asked {asked} times");
    let index = Index::open(&out).unwrap();
    index.verify().unwrap();
    fs::remove_file(&out).unwrap();
    for most in (0..asked).step_by(asked / 10) {
        let (cancelled, asked) = encode(most);
        assert!(matches!(cancelled, Err(Error::Cancelled)), "{cancelled:?}");
        assert!(asked == most + 1 && !out.exists());
    }
}

/// Whoever is asked may end a long call, once and for good; nothing has changed then.
#[test]
fn long_calls_can_be_cancelled() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.vlc");
    let bytes = assemble(&small());
    fs::write(&path, &bytes).unwrap();
    let index = Index::from_bytes(bytes.as_slice()).unwrap();
    let asked = AtomicUsize::new(0);
    index
        .verify_with(|done, total| {
            asked.fetch_add(1, Ordering::Relaxed);
            assert!(done <= total && total as usize == bytes.len());
            ControlFlow::Continue(())
        })
        .unwrap();
    let all = asked.load(Ordering::Relaxed);
    assert!(all > 8, "asked {all} times");
    // Damage that is behind what was looked at is not said to be sound.
    for nth in 0..all {
        let count = AtomicUsize::new(0);
        let cancelled = index.verify_with(|_, _| match count.fetch_add(1, Ordering::Relaxed) == nth {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        });
        assert!(matches!(cancelled, Err(Error::Cancelled)), "{nth}: {cancelled:?}");
    }

    let rows = Random(6).mat(2_000_000, DIM);
    let looked = AtomicUsize::new(0);
    let exact =
        vlc::measure::exact_neighbors_with(&rows.view(), rows.view().slice(0..1), 3, Metric::Dot, |done, total| {
            assert!(done < total);
            match looked.fetch_add(1, Ordering::Relaxed) {
                0 => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        });
    assert!(matches!(exact, Err(Error::Cancelled)));
    assert_eq!(looked.load(Ordering::Relaxed), 2);

    // Up to the moment before the commit.
    let rows = clustered(7, 30, DIM);
    let append = |most: usize| {
        let asked = AtomicUsize::new(0);
        let progress = |_: &vlc::Event<'_>| match asked.fetch_add(1, Ordering::Relaxed) < most {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        };
        let options = EncodeOptions { progress: Some(&progress), ..EncodeOptions::default() };
        let appended = Store::open(&path).unwrap().append(&rows.view(), &options);
        (appended, asked.load(Ordering::Relaxed))
    };
    let mut cancelled = 0;
    while let (Err(error), _) = append(cancelled) {
        assert!(matches!(error, Error::Cancelled), "{error}");
        if fs::read(&path).unwrap() != bytes {
            break;
        }
        cancelled += 1;
    }
    assert!(cancelled > 5, "{cancelled} moments");
}
