//! Power is lost at any moment: the store is what it was or what it was to be, and goes on from there.

use super::{
    disk::{Memory, Random, Tear},
    history::{Change, Contents, Kind, Machine, after, contents, fresh},
};
use crate::error::Error;

/// Crashes in a row, each on what the one before left, so that what they leave behind would add up.
fn chain(kind: Kind, seed: u64, crashes: usize) {
    let mut random = Random(seed);
    let mut machine = Machine::new(kind);
    let mut disk = Memory::with_store(fresh(kind));
    let mut now = contents(&disk.store());
    let (mut old, mut new) = (0, 0);
    for crash in 0..crashes {
        // Some changes end well.
        for _ in 0..random.below(3) {
            let change = machine.any(&mut random, &now);
            machine.apply(&disk, &change).unwrap();
            now = after(&now, &change);
        }
        let change = machine.any(&mut random, &now);
        let next = after(&now, &change);
        let from = disk.operations();
        disk.fail(from + random.below(16)..usize::MAX);
        let outcome = machine.apply(&disk, &change);
        disk.fail(0..0);
        let tear = [Tear::Pieces(512), Tear::Pieces(4096), Tear::Pieces(1), Tear::Prefix][random.below(4)];
        disk = disk.after_power_loss(&mut random, tear);
        let found = look(&disk, &format!("{kind:?}, seed {seed}, crash {crash}, {tear:?}, {change:?}"), &now, &next);
        assert!(outcome.is_err() || found == next, "what was acknowledged is lost: crash {crash}, {change:?}");
        if matches!(outcome, Err(Error::Io { .. })) {
            assert!(found == now, "what was said not to have happened is there: crash {crash}, {change:?}");
        }
        if found == next {
            new += 1
        } else {
            old += 1
        }
        now = found;
        machine.settle(&disk.store());
    }
    assert!(old > crashes / 20 && new > crashes / 20, "crashes before and after the commit: {old}, {new}");
}

/// What the store holds, which must be one of two.
#[track_caller]
fn look(disk: &Memory, case: &str, old: &Contents, new: &Contents) -> Contents {
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| contents(&disk.store())));
    let found = found.unwrap_or_else(|_| panic!("not sound: {case}"));
    assert!(found == *old || found == *new, "a third thing: {case}");
    found
}

#[test]
fn chained_crashes() {
    for (kind, seed) in [(Kind::Rows, 1), (Kind::Numbers, 2), (Kind::Text, 3)] {
        chain(kind, seed, 600);
    }
}

/// The full figure of the promise; minutes.
#[test]
#[ignore = "minutes: cargo test --release --lib store -- --ignored ten_thousand"]
fn ten_thousand_chained_crashes_of_three_seeds() {
    std::thread::scope(|scope| {
        for (kind, seed) in [(Kind::Rows, 11), (Kind::Numbers, 12), (Kind::Text, 13)] {
            scope.spawn(move || chain(kind, seed, 10_000));
        }
    });
}

/// Every change, cut off in every operation and in there at every byte.
#[test]
fn every_byte() {
    let mut cases = 0;
    for kind in [Kind::Rows, Kind::Text] {
        let mut machine = Machine::new(kind);
        let start = fresh(kind);
        let before = contents(&start);
        let mut random = Random(5);
        let append = loop {
            let change = machine.any(&mut random, &before);
            if matches!(&change, Change::Append(rows) if rows.len() < 3) {
                break change;
            }
        };
        let delete = Change::Delete(before.keys().take(3).cloned().collect());
        for change in [append, delete, Change::Compact] {
            let next = after(&before, &change);
            let whole = Memory::with_store(start.clone());
            machine.apply(&whole, &change).unwrap();
            for operation in 0..whole.operations() {
                let disk = Memory::with_store(start.clone());
                disk.fail(operation + 1..usize::MAX);
                let outcome = machine.apply(&disk, &change);
                for bytes in 0..=disk.last_write() {
                    let left = disk.after_power_loss_at(bytes);
                    let case = format!("{kind:?}, {change:?}, operation {operation}, byte {bytes}");
                    let found = look(&left, &case, &before, &next);
                    assert!(outcome.is_err() || found == next, "{case}");
                    cases += 1;
                    // And it can be written to.
                    if bytes % 97 == 0 {
                        let more = Change::Delete(vec![found.keys().next().unwrap().clone()]);
                        machine.apply(&left, &more).unwrap();
                        assert_eq!(contents(&left.store()), after(&found, &more), "{case}");
                    }
                }
            }
        }
    }
    assert!(cases > 2000, "{cases}");
}
