//! Files cut off, with bits flipped, and with half a slot written.

use vlc::{Error, Index};
use vlc_reference::{container, header};

use crate::{
    GOLDEN, SMALL, answers,
    common::{Random, sections::SLOTS_END},
    exercise,
    memory::alone,
    open, version,
};

#[test]
fn every_truncation_is_refused() {
    let _alone = alone();
    for good in SMALL.iter().chain(GOLDEN.iter()) {
        let index = open(good).unwrap();
        index.verify().unwrap();
        let expected = answers(&index);
        for len in 0..good.len() {
            let error = open(&good[..len]).expect_err("a part of a file is no file");
            assert!(matches!(error, Error::Format { .. }), "{len} bytes: {error}");
        }
        for more in [1, 64, 4096] {
            for fill in [0, 0xA5] {
                let mut longer = good.clone();
                longer.resize(good.len() + more, fill);
                if version(good) == 1 {
                    assert!(matches!(open(&longer), Err(Error::Format { .. })));
                    continue;
                }
                // What stands behind a commit is none of it.
                let index = open(&longer).unwrap();
                index.verify().unwrap();
                assert_eq!(index.bytes().len(), good.len());
                assert_eq!(answers(&index), expected);
            }
        }
    }
}

/// The parts of a file that opening checks.
fn checked_at_open(file: &[u8]) -> Vec<std::ops::Range<usize>> {
    let container = container::open(file).unwrap();
    let commit = &container.commit;
    let header = if version(file) == 1 { 64 } else { SLOTS_END };
    let mut parts = vec![0..header, commit.table..commit.table + 32 * commit.entries];
    let open = container.sections.iter().filter(|s| container::AT_OPEN.contains(&&s.kind));
    parts.extend(open.map(|s| s.offset..s.offset + s.bytes.len()));
    parts
}

#[test]
fn every_flipped_bit_is_found() {
    let _alone = alone();
    let mut used = 0;
    for (f, good) in SMALL.iter().chain(GOLDEN.iter()).enumerate() {
        // Damage to what opening reads is found by opening.
        let at_open = checked_at_open(good);
        let mut bad = good.clone();
        for at in 0..good.len() {
            for bit in 0..8 {
                bad[at] ^= 1 << bit;
                let opened = open(&bad);
                if at_open.iter().any(|part| part.contains(&at)) {
                    assert!(matches!(opened, Err(Error::Format { .. })), "file {f}, byte {at}, bit {bit}: opened");
                } else if let Ok(index) = opened {
                    assert!(index.verify().is_err(), "file {f}, byte {at}, bit {bit}: verified");
                    if (8 * at + bit) % 61 == 0 {
                        // A damaged payload gives other answers, but answers.
                        exercise(&index);
                        used += 1;
                    }
                }
                bad[at] ^= 1 << bit;
            }
        }
    }
    assert!(used > 1000, "{used} damaged files were used");
}

/// Any number of bytes of a slot written over the one before: the file is as before or as after.
#[test]
fn torn_slots_leave_a_commit() {
    let _alone = alone();
    let [before, after] = &SMALL[SMALL.len() - 3..SMALL.len() - 1] else { panic!() };
    let generation = |file: &[u8]| header::commit(file).unwrap().generation;
    assert_eq!([generation(before), generation(after)], [2, 3]);
    let slot = 64 + 64 * (generation(after) as usize % 2);
    let rows = [open(before).unwrap().len(), open(after).unwrap().len()];
    assert_eq!(rows, [370, 320]);
    let (mut old, mut new, mut random) = (0, 0, Random(5));
    for tear in 0..500 {
        let mut torn = after.clone();
        for i in 0..64 {
            // From the front, from the back, then any bytes.
            let is_new = match tear {
                0..=64 => i < tear,
                65..=129 => i >= tear - 65,
                _ => random.below(2) == 0,
            };
            torn[slot + i] = if is_new { after[slot + i] } else { before[slot + i] };
        }
        let index = open(&torn).unwrap();
        index.verify().unwrap();
        let commit = header::commit(&torn).unwrap();
        assert_eq!(index.len(), rows[commit.generation as usize - 2], "tear {tear}");
        if commit.generation == 2 {
            old += 1
        } else {
            new += 1
        }
        // Damage is damage, also where a slot is torn.
        let bit = random.below(8 * SLOTS_END);
        torn[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&torn).is_err(), "tear {tear}, bit {bit}");
    }
    assert!(old > 100 && new > 1, "{old} torn, {new} whole");
}

#[test]
fn mapped_files_are_checked_alike() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("small.vlc");
    for good in SMALL.iter() {
        std::fs::write(&path, good).unwrap();
        let index = Index::open(&path).unwrap();
        index.verify().unwrap();
        exercise(&index);
        drop(index);
        for len in [0, 1, 8, 63, 64, 500, good.len() - 1] {
            std::fs::write(&path, &good[..len]).unwrap();
            let error = Index::open(&path).unwrap_err();
            assert!(error.to_string().contains("small.vlc"), "{error}");
        }
        for at in (0..good.len()).step_by(61) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::write(&path, &bad).unwrap();
            assert!(Index::open(&path).and_then(|index| index.verify()).is_err(), "byte {at}");
        }
    }
    assert!(matches!(Index::open(directory.path().join("none.vlc")), Err(Error::Io { .. })));
    assert!(matches!(Index::open(directory.path()), Err(Error::Io { .. })));
}
