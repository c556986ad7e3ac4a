//! Ctrl-C: where something has to be cleaned up, the first asks the work to stop and the second ends the program; elsewhere the first ends
//! it. Once a change is being committed no signal ends the program: what its exit code says is what happened.

use std::{
    io,
    ops::ControlFlow,
    sync::{Mutex, MutexGuard, PoisonError},
};

use vlc::Event;

use crate::{error::CliError, output::say};

struct State {
    /// Whether a signal came.
    requested: bool,
    /// Pieces of work that clean up after themselves.
    careful: usize,
    /// Whether a change may be visible by now.
    committing: bool,
}

static STATE: Mutex<State> = Mutex::new(State { requested: false, careful: 0, committing: false });

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Listens to SIGINT, SIGTERM and SIGHUP, but for those that whoever started the program had ignored: `nohup`, or a shell that runs it in
/// the background.
pub(crate) fn install() {
    if let Err(error) = listen() {
        log::debug!("signals are left as they are: {error}");
    }
}

/// A signal came. On a thread of its own, so it may lock and print.
fn heard() {
    let mut state = state();
    if state.committing {
        if !std::mem::replace(&mut state.requested, true) {
            say("vlc: the change is being committed and is finished first");
        }
    } else if state.requested || state.careful == 0 {
        // With the lock, so that nothing is committed meanwhile.
        std::process::exit(130);
    } else {
        state.requested = true;
        say("vlc: stopping; once more to stop at once");
    }
}

#[cfg(unix)]
fn listen() -> io::Result<()> {
    use signal_hook::{
        consts::{SIGHUP, SIGINT, SIGTERM},
        iterator::Signals,
    };
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP].into_iter().filter(|&signal| !is_ignored(signal)))?;
    std::thread::Builder::new().name("signals".into()).spawn(move || signals.forever().for_each(|_| heard()))?;
    Ok(())
}

/// Whether a signal is ignored, as it was when the program started.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    // SAFETY: sigaction is a plain structure for which zeros are valid. Without a new action the call changes nothing, and it writes the
    // present one to where it is told to, which is there for as long as it runs.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(not(unix))]
fn listen() -> io::Result<()> {
    ctrlc::set_handler(heard).map_err(io::Error::other)
}

/// While it lives the work has files to clean up and promises to [`check`] often.
pub(crate) struct Careful(());

pub(crate) fn careful() -> Careful {
    state().careful += 1;
    Careful(())
}

impl Drop for Careful {
    fn drop(&mut self) {
        state().careful -= 1;
    }
}

/// An error once Ctrl-C was pressed.
pub(crate) fn check() -> Result<(), CliError> {
    if state().requested { Err(vlc::Error::Cancelled.into()) } else { Ok(()) }
}

/// The same as a progress callback's answer.
pub(crate) fn flow() -> ControlFlow<()> {
    if state().requested { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// What to answer the library, which says when it commits.
pub(crate) fn hear(event: &Event<'_>) -> ControlFlow<()> {
    if let Event::Committing = event {
        return begin_commit();
    }
    flow()
}

/// From here on something may be visible of what is done, unless a signal came before: then nothing may be.
pub(crate) fn commit() -> Result<(), CliError> {
    if begin_commit().is_break() { Err(vlc::Error::Cancelled.into()) } else { Ok(()) }
}

fn begin_commit() -> ControlFlow<()> {
    let mut state = state();
    if state.requested {
        // Also of what follows a commit, such as compacting: the library leaves that out then, and the commit stands.
        return ControlFlow::Break(());
    }
    state.committing = true;
    ControlFlow::Continue(())
}

/// Whether a change was committed, or may have been.
pub(crate) fn committing() -> bool {
    state().committing
}
