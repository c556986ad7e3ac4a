//! Every operation of the disk fails once, or from then on: an error, the store as it was or as it was to be, and the next change works.

use super::{
    disk::{Memory, Random},
    history::{Change, Kind, Machine, after, contents, fresh},
};
use crate::{error::Error, report::Event};

#[test]
fn every_operation_fails() {
    let mut uncertain = 0;
    for kind in [Kind::Rows, Kind::Numbers, Kind::Text] {
        let mut random = Random(9);
        let mut machine = Machine::new(kind);
        // A store with several segments and deleted rows.
        let disk = Memory::with_store(fresh(kind));
        let mut now = contents(&disk.store());
        for _ in 0..12 {
            let change = machine.any(&mut random, &now);
            machine.apply(&disk, &change).unwrap();
            now = after(&now, &change);
        }
        let start = disk.store();
        let mut changes = vec![Change::Compact, Change::Delete(now.keys().take(4).cloned().collect())];
        while changes.len() < 5 {
            // Each goes on from the same row.
            machine.settle(&start);
            let change = machine.any(&mut random, &now);
            if matches!(change, Change::Append(_)) {
                changes.push(change);
            }
        }
        for change in changes {
            let next = after(&now, &change);
            for for_ever in [false, true] {
                let mut operation = 0;
                loop {
                    let disk = Memory::with_store(start.clone());
                    disk.fail(operation..if for_ever { usize::MAX } else { operation + 1 });
                    let outcome = machine.apply(&disk, &change);
                    disk.fail(0..0);
                    let case = format!("{kind:?}, {change:?}, operation {operation}, for ever: {for_ever}");
                    let found = contents(&disk.store());
                    assert!(found == now || found == next, "a third thing: {case}");
                    assert!(outcome.is_err() || found == next, "{case}");
                    assert!(for_ever || !disk.has_temporary(), "left behind: {case}");
                    if let Err(error) = &outcome {
                        // What is said is what happened: unchanged, or that nobody knows.
                        match error {
                            Error::Io { .. } => {
                                assert!(found == now, "said to be unchanged, and is not: {case}: {error}")
                            }
                            Error::Uncertain { .. } => uncertain += 1,
                            other => panic!("{case}: {other}"),
                        }
                        assert!(error.to_string().contains("test.vlc"), "{error}");
                    }
                    let again = if found == now { change.clone() } else { Change::Compact };
                    machine.apply(&disk, &again).unwrap();
                    assert_eq!(contents(&disk.store()), next, "{case}");
                    operation += 1;
                    if disk.operations() < operation || (outcome.is_ok() && operation > 60) {
                        break;
                    }
                }
                assert!(operation > 5, "{change:?}: {operation}");
            }
        }
    }
    assert!(uncertain > 10, "{uncertain} failures of a last step");
}

/// A change that is cancelled at the last moment is not there; one that is told later is.
#[test]
fn a_change_is_cancelled_or_there() {
    for kind in [Kind::Rows, Kind::Text] {
        let mut machine = Machine::new(kind);
        let start = fresh(kind);
        let before = contents(&start);
        let mut random = Random(3);
        let append = loop {
            let change = machine.any(&mut random, &before);
            if matches!(change, Change::Append(_)) {
                break change;
            }
        };
        for change in [append, Change::Delete(before.keys().take(3).cloned().collect()), Change::Compact] {
            let next = after(&before, &change);
            // A file that compacting changes.
            let disk = Memory::with_store(start.clone());
            let first = Change::Delete(before.keys().rev().take(1).cloned().collect());
            machine.apply(&disk, &first).unwrap();
            let (now, next) = (after(&before, &first), after(&next, &first));
            for stop_at in 0.. {
                let disk = Memory::with_store(disk.store());
                let (events, committing) = (std::cell::Cell::new(0), std::cell::Cell::new(None));
                let tell = |event: &Event<'_>| {
                    let number = events.replace(events.get() + 1);
                    if matches!(event, Event::Committing) && committing.get().is_none() {
                        committing.set(Some(number));
                    }
                    if number == stop_at { Err(Error::Cancelled) } else { Ok(()) }
                };
                let outcome = machine.apply_telling(&disk, &change, &tell);
                let found = contents(&disk.store());
                let case = format!("{kind:?}, {change:?}, stopped at event {stop_at}");
                assert!(!disk.has_temporary(), "left behind: {case}");
                match outcome {
                    Err(Error::Cancelled) => {
                        assert!(found == now, "{case}");
                        assert!(
                            committing.get().is_none_or(|at| at == stop_at),
                            "cancelled after committing: {case}"
                        );
                    }
                    Ok(()) => assert!(found == next, "{case}"),
                    Err(other) => panic!("{case}: {other}"),
                }
                if events.get() <= stop_at {
                    assert!(committing.get().is_some(), "never told: {case}");
                    break;
                }
            }
        }
    }
}
