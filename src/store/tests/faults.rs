//! Every operation of the disk fails once, or from then on: an error, the store as it was or as it was to be, and the next change works.

use super::{
    disk::{Memory, Random},
    history::{Change, Kind, Machine, after, contents, fresh},
};
use crate::Error;

#[test]
fn every_operation_fails() {
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
                        assert!(matches!(error, Error::Io { .. }), "{case}: {error}");
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
}
