//! A sound store with parts changed, and every hash made right again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vlc_fuzz::{exercise::exercise, input::Input, one_thread, sealed::build};

fuzz_target!(init: one_thread(), |data: &[u8]| exercise(&build(&mut Input(data))));
