//! The library's log lines on stderr, around the progress bars.

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::{args::Common, output::say};

struct Stderr {
    own: LevelFilter,
    others: LevelFilter,
}

/// Warnings by default, `-v` info, `-vv` all; other crates (the GPU drivers' are talkative) a good deal less.
pub(crate) fn init(common: Common) {
    let (own, others) = match (common.quiet, common.verbose) {
        (true, _) => (LevelFilter::Error, LevelFilter::Off),
        (_, 0) => (LevelFilter::Warn, LevelFilter::Off),
        (_, 1) => (LevelFilter::Info, LevelFilter::Error),
        _ => (LevelFilter::Trace, LevelFilter::Info),
    };
    if log::set_boxed_logger(Box::new(Stderr { own, others })).is_ok() {
        log::set_max_level(own.max(others));
    }
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let own = metadata.target() == "vlc" || metadata.target().starts_with("vlc::");
        metadata.level() <= if own { self.own } else { self.others }
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let kind = match record.level() {
            Level::Error => "error: ",
            Level::Warn => "warning: ",
            Level::Info => "",
            Level::Debug | Level::Trace => "debug: ",
        };
        say(&format!("vlc: {kind}{}", vlc::text::printable(record.args())));
    }

    fn flush(&self) {}
}
