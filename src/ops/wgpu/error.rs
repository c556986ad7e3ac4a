//! What goes wrong on a wgpu device, and the last of it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{backend::Backend, error::Error};

/// A failure in wgpu's words or ours.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failure(String);

static LAST: Mutex<Option<String>> = Mutex::new(None);

/// Why an operation on the device failed; remembered as the last.
pub(super) fn failure(message: impl Into<String>) -> Error {
    let message = message.into();
    *lock(&LAST) = Some(message.clone());
    Error::Device { backend: Backend::Wgpu, source: Box::new(Failure(message)) }
}

pub(super) fn unavailable(reason: impl Into<String>) -> Error {
    Error::Unavailable { backend: Backend::Wgpu, reason: reason.into() }
}

/// The last failure of a device in this process.
pub(super) fn last_error() -> Option<String> {
    lock(&LAST).clone()
}

/// What a panic elsewhere left behind is still whole: every change of it is one step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Held while an adapter is looked for, a device opened or a kernel compiled, for the same reason.
pub(super) static DRIVER: Mutex<()> = Mutex::new(());
