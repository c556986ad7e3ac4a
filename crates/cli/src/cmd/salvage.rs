//! `vlc salvage`.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::Serialize;
use vlc::{Event, read::write_ids, text::printable};

use crate::{
    error::{CliError, io_error},
    interrupt,
    output::{Output, count, shown, size},
    outputs::{ForceArg, Target, input},
    progress::Progress,
};

/// Save what is sound of a damaged .vlc file
#[derive(clap::Args)]
#[command(after_help = "\
Rows whose code, number and id lie in bytes that are as they were written go into a new file, with the model and the notes;
what is lost is said. Damage is told apart in parts of 64 KiB. INDEX is left as it is.

With --copy, an older copy of the file or the file of its model, sections that are damaged here and whole there are taken from it.

Exit codes: 0 all was saved, 4 something is lost (OUT.vlc is written) or nothing could be saved (it is not).

Examples:
  vlc salvage damaged.vlc -o saved.vlc --lost lost-ids.txt
  vlc salvage damaged.vlc -o saved.vlc --copy backup-of-last-week.vlc")]
pub(crate) struct Args {
    /// The damaged file
    #[arg(value_name = "INDEX", value_parser = input())]
    index: PathBuf,
    /// Where to write what is sound
    #[arg(short, long, value_name = "OUT.vlc")]
    output: PathBuf,
    #[command(flatten)]
    force: ForceArg,
    /// An older copy of INDEX, or the file that holds its model
    #[arg(long, value_name = "OLD.vlc", value_parser = input())]
    copy: Option<PathBuf>,
    /// Write the ids of lost rows, as far as they are known: .npy of int64, or .txt with an id a line
    #[arg(long, value_name = "FILE")]
    lost: Option<PathBuf>,
}

#[derive(Serialize)]
struct Salvaged {
    rows: u64,
    lost: u64,
    lost_ids_known: usize,
    problems: Vec<String>,
    generation: u64,
    latest: bool,
    file_bytes: u64,
}

pub(crate) fn run(args: Args, out: &Output) -> Result<(), CliError> {
    let inputs: Vec<&Path> = std::iter::once(&args.index).chain(&args.copy).map(PathBuf::as_path).collect();
    args.force.check(&args.output, &inputs)?;
    let lost_to = args.lost.as_deref().map(|path| Target::new("--lost", path, &inputs)).transpose()?;
    if let Some(target) = &lost_to {
        target.ending(&["npy", "txt"])?;
    }
    let progress = Progress::new(out);
    let on_event = |event: &Event<'_>| {
        if let Event::Progress { done, total, .. } = event {
            progress.update("salvaging", *done, *total);
        }
        interrupt::hear(event)
    };
    let _careful = interrupt::careful();
    let report = vlc::salvage(&args.index, &args.output, args.copy.as_deref(), Some(&on_event))?;
    drop(progress);
    let listed = args.lost.as_deref().map_or(Ok(()), |path| write_ids(path, &report.lost_ids));
    let salvaged = Salvaged {
        rows: report.rows,
        lost: report.lost,
        lost_ids_known: report.lost_ids.len(),
        problems: report.problems,
        generation: report.generation,
        latest: report.latest,
        file_bytes: report.file_bytes,
    };
    out.result(&salvaged, || {
        let Salvaged { rows, lost, lost_ids_known, problems, file_bytes, .. } = &salvaged;
        let mut text = format!("{}: {} vectors saved, {}\n", shown(&args.output), count(rows), size(*file_bytes));
        if *lost > 0 {
            text += &format!(
                "{} vectors are lost; the ids of {} of them are known\n",
                count(lost),
                count(lost_ids_known)
            );
        }
        for problem in problems {
            text += &format!("{}\n", printable(problem));
        }
        text
    })?;
    listed.map_err(|error| match error {
        vlc::Error::Io { path, source } => {
            let message = format!("{source}; {} is written all the same", shown(&args.output));
            io_error(&path, io::Error::new(source.kind(), message))
        }
        other => other.into(),
    })?;
    if salvaged.lost == 0 && salvaged.problems.is_empty() {
        return Ok(());
    }
    Err(CliError::Lost(format!(
        "{}: not all of it was sound; what was is in {}",
        shown(&args.index),
        shown(&args.output)
    )))
}
