//! Ctrl-C: where something has to be cleaned up, the first asks the work to stop and the second ends the program; elsewhere
//! the first ends it.

use std::{
    ops::ControlFlow,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use crate::{error::CliError, output::say};

static REQUESTED: AtomicBool = AtomicBool::new(false);
static CAREFUL: AtomicUsize = AtomicUsize::new(0);

/// Listens to SIGINT, SIGTERM and SIGHUP. Signals that whoever started the program had ignored (`nohup`) stay ignored.
pub(crate) fn install() {
    let handler = || {
        let again = REQUESTED.swap(true, Ordering::SeqCst);
        if again || CAREFUL.load(Ordering::SeqCst) == 0 {
            std::process::exit(130);
        }
        say("vlc: stopping; once more to stop at once");
    };
    if let Err(error) = ctrlc::try_set_handler(handler) {
        log::debug!("signals are left as they are: {error}");
    }
}

/// While it lives the work has files to clean up and promises to [`check`] often.
pub(crate) struct Careful(());

pub(crate) fn careful() -> Careful {
    CAREFUL.fetch_add(1, Ordering::SeqCst);
    Careful(())
}

impl Drop for Careful {
    fn drop(&mut self) {
        CAREFUL.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An error once Ctrl-C was pressed.
pub(crate) fn check() -> Result<(), CliError> {
    if REQUESTED.load(Ordering::SeqCst) { Err(vlc::Error::Cancelled.into()) } else { Ok(()) }
}

/// The same as a progress callback's answer.
pub(crate) fn flow() -> ControlFlow<()> {
    if REQUESTED.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
