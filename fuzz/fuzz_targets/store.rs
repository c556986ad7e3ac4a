//! Appending, deleting, compacting and merging, with interruptions, beside a model.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vlc_fuzz::{input::Input, machine::run, one_thread};

fuzz_target!(init: one_thread(), |data: &[u8]| run(&mut Input(data)));
