//! What the driver says when something fails, and the last of it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::driver::result::DriverError;

use crate::{backend::Backend, error::Error};

/// A call of the driver that failed.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {code}")]
struct Failure {
    call: String,
    code: String,
}

/// A call of this module that cannot be right.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Misuse(String);

/// The device has too little memory left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "out of memory: {} MiB needed, {} of {} MiB free; use a smaller input, another --device or --backend cpu",
    .needed.div_ceil(MIB), .free / MIB, .total / MIB
)]
pub(super) struct OutOfMemory {
    /// Bytes asked for.
    pub(super) needed: u64,
    /// Bytes that could have been had.
    pub(super) free: u64,
    /// Bytes of the device, or of what this process may take of it.
    pub(super) total: u64,
}

const MIB: u64 = 1 << 20;

/// Why an operation on the device failed; remembered as the last.
pub(super) fn device_error(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    *lock(&LAST) = Some(source.to_string());
    Error::Device { backend: Backend::Cuda, source: Box::new(source) }
}

/// An error that only a fault of this library can cause.
pub(super) fn misuse(message: impl Into<String>) -> Error {
    device_error(Misuse(message.into()))
}

/// A call that failed for a reason that the driver gave in words.
pub(super) fn failure(call: impl Into<String>, code: impl Into<String>) -> Error {
    device_error(Failure { call: call.into(), code: code.into() })
}

pub(super) fn unavailable(reason: impl Into<String>) -> Error {
    Error::Unavailable { backend: Backend::Cuda, reason: reason.into() }
}

/// Whether less memory would have done.
#[cfg(test)]
pub(super) fn is_out_of_memory(error: &Error) -> bool {
    matches!(error, Error::Device { source, .. } if source.is::<OutOfMemory>())
}

static LAST: Mutex<Option<String>> = Mutex::new(None);

/// The last failure of a device in this process.
pub(super) fn last_error() -> Option<String> {
    lock(&LAST).clone()
}

/// Names the call, and where it matters what it was for.
pub(super) trait During<T> {
    fn during(self, call: &str) -> Result<T, Error>;
    fn during_of(self, call: &str, what: &str) -> Result<T, Error>;
}

impl<T> During<T> for Result<T, DriverError> {
    fn during(self, call: &str) -> Result<T, Error> {
        self.map_err(|code| failure(call, describe(code)))
    }

    fn during_of(self, call: &str, what: &str) -> Result<T, Error> {
        self.map_err(|code| failure(format!("{call} of {what}"), describe(code)))
    }
}

/// The name of an error and what it means.
pub(super) fn describe(code: DriverError) -> String {
    match code.error_string() {
        Ok(text) => format!("{:?} ({})", code.0, text.to_string_lossy()),
        Err(_) => format!("{:?}", code.0),
    }
}

/// What a panic elsewhere left behind is still whole: every change of it is one step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_memory_says_what_to_do() {
        let error = device_error(OutOfMemory { needed: (5 << 20) + 1, free: (4 << 20) - 1, total: 8 << 20 });
        let text = error.to_string();
        assert!(text.contains("6 MiB needed, 3 of 8 MiB free"), "{text}");
        assert!(["smaller input", "--device", "--backend cpu"].iter().all(|way| text.contains(way)), "{text}");
        assert!(is_out_of_memory(&error));
        assert!(!is_out_of_memory(&misuse("other")));
    }
}
