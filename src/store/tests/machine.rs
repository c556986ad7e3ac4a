//! Random histories of changes: the store holds what it should, and compacted it is as small as a fresh one.

use proptest::prelude::*;

use super::{
    disk::{Memory, Random},
    history::{Change, Kind, Machine, after, contents, fresh},
};
use crate::index::Index;

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_store_holds_what_was_put_in(seed in 1u64.., kind in 0usize..3, changes in 1usize..60) {
        let kind = [Kind::Rows, Kind::Numbers, Kind::Text][kind];
        let mut random = Random(seed);
        let mut machine = Machine::new(kind);
        let disk = Memory::with_store(fresh(kind));
        let mut now = contents(&disk.store());
        for _ in 0..changes {
            let change = machine.any(&mut random, &now);
            machine.apply(&disk, &change).unwrap();
            now = after(&now, &change);
            prop_assert_eq!(&contents(&disk.store()), &now);
        }
        let bytes = disk.store();
        let index = Index::from_bytes(&bytes).unwrap();
        prop_assert!(index.parsed().segments.len() <= 12, "{} segments", index.parsed().segments.len());
        machine.apply(&disk, &Change::Compact).unwrap();
        prop_assert_eq!(&contents(&disk.store()), &now);
        let compacted = disk.store();
        // What is compact stays as it is.
        machine.apply(&disk, &Change::Compact).unwrap();
        prop_assert!(disk.store() == compacted);
    }
}
