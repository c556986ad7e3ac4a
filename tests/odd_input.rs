//! Unusual stores that are nothing wrong: few rows, few or many dimensions, constants, copies, extreme lengths.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::{collections::BTreeMap, ops::ControlFlow};

use vlc::{CodeKind, Config, Event, Mat, Metric, SearchOptions};

use common::{clustered, roomy, works};

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::L2];

#[test]
fn few_rows_work() {
    for metric in METRICS {
        for n in [1, 2, 3, 20, 21, 255, 300] {
            let rows = clustered(7, n, 5);
            for code in [CodeKind::Chain, CodeKind::Pq8] {
                let index = works(rows.view(), &Config { code, ..roomy(metric) });
                assert_eq!(index.len(), n);
            }
        }
    }
}

#[test]
fn any_dimension_works() {
    for metric in METRICS {
        for d in [1, 2, 3] {
            for code in [CodeKind::Chain, CodeKind::Pq8] {
                works(clustered(8, 300, d).view(), &Config { code, ..roomy(metric) });
            }
        }
    }
}

#[test]
fn constant_data_and_duplicates_work() {
    for metric in METRICS {
        let constant = Mat::new(vec![0.5; 400 * 6], 400, 6).unwrap();
        let index = works(constant.view(), &roomy(metric));
        let ids: Vec<u64> = index.query(&[1.0; 6], 5).unwrap().iter().map(|hit| hit.id).collect();
        assert_eq!(ids, [0, 1, 2, 3, 4], "{metric:?}: ties go to the lower row");
        let off = index.decode(7..8).unwrap().as_slice().iter().map(|v| v.abs()).fold(0.0, f32::max);
        let expected = if metric == Metric::Cosine { 1.0 / 6f32.sqrt() } else { 0.5 };
        assert!((off - expected).abs() < 0.01, "{metric:?}: {off} instead of {expected}");

        let few = clustered(9, 3, 6);
        let copies: Vec<f32> = (0..500).flat_map(|i| few.row(i * i % 3).to_vec()).collect();
        works(Mat::new(copies, 500, 6).unwrap().view(), &roomy(metric));
        let mut half = clustered(10, 300, 6);
        (0..300).for_each(|i| half.row_mut(i)[2..].fill(0.0));
        works(half.view(), &roomy(metric));
    }
}

/// Lengths at the ends of what f32 holds are no reason to answer nonsense.
#[test]
fn very_long_and_very_short_rows_are_served() {
    for (metric, size) in [
        (Metric::Cosine, 1e30),
        (Metric::Cosine, 1e-30),
        (Metric::Dot, 1e15),
        (Metric::L2, 1e-15),
        (Metric::L2, 1e15),
    ] {
        let mut rows = clustered(11, 120, 4);
        rows.as_mut_slice().iter_mut().for_each(|v| *v *= size);
        let index = vlc::compress(rows.view(), &roomy(metric)).unwrap();
        let found = index.search(rows.view(), &SearchOptions::new(1)).unwrap();
        assert!(found.scores.as_slice().iter().all(|s| s.is_finite()), "{metric:?}, {size}");
        if metric != Metric::Dot {
            let own = (0..120).filter(|&i| found.ids.row(i)[0] == i as u64).count();
            assert!(own > 60, "{metric:?}, {size}: {own} of 120 rows find themselves");
        }
    }
}

#[test]
fn metadata_of_any_text_comes_back() {
    let rows = clustered(14, 60, 4);
    let metadata = BTreeMap::from([
        ("model".to_string(), "Größe ✓ \u{0}\n".to_string()),
        ("a".to_string(), String::new()),
        ("vlcx".to_string(), "x".repeat(5000)),
    ]);
    let index = works(rows.view(), &Config { metadata: metadata.clone(), ..roomy(Metric::Dot) });
    assert_eq!(index.info().metadata, metadata);
}

#[test]
fn progress_goes_forward_through_the_stages() {
    let rows = clustered(16, 400, 6);
    let seen = std::sync::Mutex::new(Vec::new());
    let progress = |event: &Event<'_>| {
        if let Event::Progress { stage, done, total } = event {
            seen.lock().unwrap().push((format!("{stage:?}"), *done, *total));
        }
        ControlFlow::Continue(())
    };
    vlc::compress(rows.view(), &Config { progress: Some(&progress), ..roomy(Metric::Cosine) }).unwrap();
    let seen = seen.into_inner().unwrap();
    let mut order: Vec<String> = seen.iter().map(|s| s.0.clone()).collect();
    order.dedup();
    assert_eq!(order, ["Sample", "Plan", "Anchors", "Codes", "Encode", "Write"]);
    for stage in order {
        let of_stage: Vec<_> = seen.iter().filter(|s| s.0 == stage).collect();
        assert!(of_stage.windows(2).all(|w| w[0].1 <= w[1].1), "{of_stage:?}");
        assert!(of_stage.last().is_some_and(|s| s.1 == s.2), "{of_stage:?} does not end");
    }
}

/// More dimensions than rows; the cost must not be that of the dimensions cubed.
#[test]
fn many_dimensions_and_few_rows_work() {
    for metric in METRICS {
        let rows = clustered(17, 40, 4096);
        let index = vlc::compress(rows.view(), &roomy(metric)).unwrap();
        index.verify().unwrap();
        let found = index.search(rows.view(), &SearchOptions::new(1)).unwrap();
        let own = (0..40).filter(|&i| found.ids.row(i)[0] == i as u64).count();
        // Codes are lossy, so a near twin may come first now and then.
        assert!(metric == Metric::Dot || own >= 32, "{metric:?}: {own} of 40 rows find themselves");
    }
}
