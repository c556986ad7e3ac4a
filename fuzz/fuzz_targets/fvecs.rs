//! Any bytes as a `.fvecs` file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vlc_fuzz::{one_thread, vectors::read};

fuzz_target!(init: one_thread(), |data: &[u8]| read(data, "fvecs"));
