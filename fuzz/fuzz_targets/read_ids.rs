//! Any bytes as files of ids: what can be read can be written, and reads as the same again.
#![no_main]
#![allow(clippy::unwrap_used, reason = "a target reports by panicking")]

use std::fs;

use libfuzzer_sys::fuzz_target;
use vlc::{
    Error, Ids,
    read::{read_ids, read_text_ids, write_ids},
};
use vlc_fuzz::{folder::folder, one_thread};

fn round(data: &[u8]) {
    for name in ["ids.txt", "ids.npy"] {
        let path = folder().join(name);
        fs::write(&path, data).unwrap();
        let (ids, text) = match (read_ids(&path), read_text_ids(&path)) {
            (Ok(ids), Ok(text)) => (ids, text),
            (Err(error), Err(_)) => {
                assert!(error.to_string().contains(name), "{error}");
                continue;
            }
            (ids, text) => panic!("{ids:?}, but as text {text:?}"),
        };
        let printed = match &ids {
            Ids::Numbers(ids) => ids.iter().map(u64::to_string).collect(),
            Ids::Text(ids) => ids.iter().cloned().collect::<Ids>(),
        };
        assert_eq!(printed, text);
        match write_ids(&path, &ids) {
            Ok(()) => assert_eq!(read_ids(&path).unwrap(), ids),
            // Numbers that are not int64, and text with a carriage return at its end.
            Err(error) => assert!(matches!(error, Error::Config(_)), "{error}"),
        }
    }
}

fuzz_target!(init: one_thread(), |data: &[u8]| round(data));
