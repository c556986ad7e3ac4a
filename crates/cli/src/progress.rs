//! Progress bars on stderr. Nothing is drawn when stderr is not a terminal.

use std::{
    io::IsTerminal,
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use vlc::Stage;

use crate::output::Output;

/// All bars of the program: whoever prints on stderr suspends them.
pub(crate) static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// One bar at a time, for the stage at work.
pub(crate) struct Progress {
    shown: bool,
    current: Mutex<Option<(&'static str, ProgressBar)>>,
}

impl Progress {
    pub(crate) fn new(out: &Output) -> Self {
        let shown = !out.quiet && std::io::stderr().is_terminal();
        Progress { shown, current: Mutex::new(None) }
    }

    /// `done` of `total` units of `label`; another label, or the end, takes the bar down.
    pub(crate) fn update(&self, label: &'static str, done: u64, total: u64) {
        if !self.shown {
            return;
        }
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|(shown, _)| *shown != label)
            && let Some((_, bar)) = current.take()
        {
            bar.finish_and_clear();
        }
        if done >= total {
            if let Some((_, bar)) = current.take() {
                bar.finish_and_clear();
            }
            return;
        }
        let (_, bar) = current.get_or_insert_with(|| (label, new_bar(label, total)));
        bar.set_length(total);
        bar.set_position(done);
    }

    /// The same for a stage of the library.
    pub(crate) fn stage(&self, stage: Stage, done: u64, total: u64) {
        let label = match stage {
            Stage::Sample => "reading a sample",
            Stage::Plan => "planning",
            Stage::Anchors => "anchors",
            Stage::Codes => "training codes",
            Stage::Refine => "training the refine layer",
            Stage::Decoder => "training the decoder",
            Stage::Verify => "verifying",
            Stage::Encode => "encoding",
            Stage::Write => "writing",
            _ => "working",
        };
        self.update(label, done, total);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.update("", 0, 0);
    }
}

fn new_bar(label: &'static str, total: u64) -> ProgressBar {
    let bar = BARS.add(ProgressBar::new(total));
    // A total of one is a wait without known parts.
    let template = if total > 1 {
        "{prefix:<16} [{bar:30}] {percent:>3} %  {elapsed} (ETA {eta})"
    } else {
        "{prefix:<16} {spinner} {elapsed}"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(label);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
