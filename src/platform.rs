//! What WebAssembly without a system, as a browser runs it, does not have.

use std::time::Instant;

/// Whether there are neither clock nor files here: asking the time or for a temporary directory would end the program.
pub(crate) const BARE: bool = cfg!(all(target_family = "wasm", target_os = "unknown"));

/// A stopwatch; without a clock it stays at 0.
pub(crate) struct Stopwatch(Option<Instant>);

impl Stopwatch {
    pub(crate) fn start() -> Stopwatch {
        Stopwatch((!BARE).then(Instant::now))
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.0.map_or(0.0, |start| start.elapsed().as_secs_f64())
    }
}
