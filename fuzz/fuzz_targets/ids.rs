//! Ids of any numbers and any text: through compressing and appending, and asked for by filter.
#![no_main]
#![allow(clippy::unwrap_used, reason = "a target reports by panicking")]

use std::{collections::HashSet, hash::Hash};

use libfuzzer_sys::fuzz_target;
use vlc::{Budget, Config, EncodeOptions, Error, Filter, Ids, Index, MatRef, Store, compress_to};
use vlc_fuzz::{folder::folder, input::Input, one_thread};

const DIM: usize = 2;
const MOST: usize = 40;

fn text(input: &mut Input<'_>) -> String {
    let len = match input.u8() {
        255 => 2000,
        len => usize::from(len % 40),
    };
    String::from_utf8_lossy(input.bytes(len)).into_owned()
}

fn different<T: Hash + Eq>(ids: &[T]) -> bool {
    ids.iter().collect::<HashSet<_>>().len() == ids.len()
}

/// Some ids, and how many of them go in first.
fn ids(input: &mut Input<'_>) -> (Ids, usize) {
    let (words, first) = (input.u8() & 1 == 1, usize::from(input.u8()));
    let (mut numbers, mut texts) = (Vec::new(), Vec::new());
    while !input.is_empty() && numbers.len().max(texts.len()) < MOST {
        if words { texts.push(text(input)) } else { numbers.push(input.nasty()) }
    }
    let ids = if words { Ids::Text(texts) } else { Ids::Numbers(numbers) };
    let first = 1 + first % ids.len().max(1);
    (ids, first)
}

fn part(ids: &Ids, range: std::ops::Range<usize>) -> Ids {
    match ids {
        Ids::Numbers(ids) => Ids::Numbers(ids[range].to_vec()),
        Ids::Text(ids) => Ids::Text(ids[range].to_vec()),
    }
}

fn round(mut input: Input<'_>) {
    let (all, first) = ids(&mut input);
    if all.is_empty() {
        return;
    }
    let n = all.len();
    let unlike = match &all {
        Ids::Numbers(ids) => different(ids),
        Ids::Text(ids) => different(ids),
    };
    let values: Vec<f32> = (0..n * DIM).map(|i| 1.0 + ((i * 37) % 11) as f32).collect();
    let rows = |range: std::ops::Range<usize>| {
        MatRef::new(&values[range.start * DIM..range.end * DIM], range.len(), DIM).unwrap()
    };
    let (head, tail) = (part(&all, 0..first), part(&all, first..n));
    let path = folder().join("ids.vlc");
    let mut config = Config { budget: Budget::BytesPerVector(1e6), ids: Some(&head), ..Config::default() };
    (config.annealing.anchors, config.annealing.iterations, config.charts) = (Some(1), 1, Some(1));
    let written = compress_to(&rows(0..first), &path, &config);
    let appended = written.map(drop).and_then(|()| {
        if tail.is_empty() {
            return Ok(());
        }
        let options = EncodeOptions { ids: Some(&tail), ..EncodeOptions::default() };
        Store::open(&path)?.append(&rows(first..n), &options).map(drop)
    });
    if !unlike {
        assert!(matches!(appended, Err(Error::Input(_))), "{appended:?}");
        return;
    }
    appended.unwrap();
    let index = Index::open(&path).unwrap();
    index.verify().unwrap();
    assert_eq!(index.ids(0..n).unwrap(), all);
    if let Ids::Text(ids) = &all {
        assert!((0..n).all(|row| index.text_id(row as u64) == Some(&ids[row])));
    }
    for row in [0, n / 2, n - 1] {
        let one = part(&all, row..row + 1);
        assert_eq!(index.filter(Filter::Allow(&one)).unwrap().len(), 1);
        assert_eq!(index.filter(Filter::Deny(&one)).unwrap().len(), n as u64 - 1);
    }
}

fuzz_target!(init: one_thread(), |data: &[u8]| round(Input(data)));
