//! Any bytes as a `.fbin`, `.u8bin` and `.i8bin` file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vlc_fuzz::{one_thread, vectors::read};

fuzz_target!(init: one_thread(), |data: &[u8]| ["fbin", "u8bin", "i8bin"].iter().for_each(|e| read(data, e)));
