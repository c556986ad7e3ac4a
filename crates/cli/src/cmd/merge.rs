//! `vlc merge`.

use std::path::{Path, PathBuf};

use vlc::Event;

use crate::{
    error::CliError,
    interrupt,
    output::Output,
    outputs::{ForceArg, input},
    progress::Progress,
    report::Built,
};

/// Put .vlc files that share a model into one
#[derive(clap::Args)]
#[command(after_help = "\
The files were made with one model file (compress --model), or are copies that went different ways. Rows come in the order
of the files; ids of their own stay, and row numbers go on from one file to the next. Encoding parts and merging them gives
the bytes of encoding all at once.

Examples:
  vlc merge part-1.vlc part-2.vlc part-3.vlc -o all.vlc")]
pub(crate) struct Args {
    /// The .vlc files
    #[arg(value_name = "FILE", required = true, value_parser = input())]
    files: Vec<PathBuf>,
    /// Where to write the file of all rows
    #[arg(short, long, value_name = "OUT.vlc")]
    output: PathBuf,
    #[command(flatten)]
    force: ForceArg,
}

pub(crate) fn run(args: Args, out: &Output) -> Result<(), CliError> {
    let inputs: Vec<&Path> = args.files.iter().map(PathBuf::as_path).collect();
    args.force.check(&args.output, &inputs)?;
    let progress = Progress::new(out);
    let on_event = |event: &Event<'_>| {
        if let Event::Progress { done, total, .. } = event {
            progress.update("merging", *done, *total);
        }
        interrupt::hear(event)
    };
    let _careful = interrupt::careful();
    let report = vlc::merge(&args.files, &args.output, Some(&on_event))?;
    drop(progress);
    let built = Built::new(&report);
    out.result(&built, || built.text(&args.output))
}
