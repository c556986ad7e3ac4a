//! Any bytes, opened and used.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vlc_fuzz::{exercise::exercise, one_thread};

fuzz_target!(init: one_thread(), |data: &[u8]| exercise(data));
