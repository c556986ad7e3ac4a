//! `vlc delete`.

use std::{collections::HashSet, hash::Hash, path::PathBuf};

use serde::Serialize;
use vlc::{IdKind, Ids, InputError};

use crate::{
    error::CliError,
    interrupt,
    output::{Output, count, shown},
    outputs::input,
    stores::{ModelArg, ids_for},
};

/// Names of ids shown of those that were not found.
const SHOWN: usize = 5;

/// Delete vectors of a .vlc file by id
#[derive(clap::Args)]
#[command(after_help = "\
Those that are there are deleted, all at once. Ids that are not there are counted, named on stderr, and no error unless
with --strict, which deletes the others too and then exits with 3. Deleted vectors are not found from then on; their
bytes go with `vlc compact`, or by themselves once a third of the file is dead.

Examples:
  vlc delete base.vlc 17 204
  vlc delete base.vlc --ids gone.txt --strict")]
pub(crate) struct Args {
    /// The .vlc file
    #[arg(value_name = "INDEX", value_parser = input())]
    index: PathBuf,
    /// Ids: row numbers, unless INDEX has ids of its own
    #[arg(value_name = "ID", required_unless_present = "file")]
    ids: Vec<String>,
    /// More ids, .npy or text as for compress
    #[arg(id = "file", long = "ids", value_name = "FILE", value_parser = input())]
    file: Option<PathBuf>,
    /// Exit with 3 if any of the ids is not there
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    model: ModelArg,
}

#[derive(Serialize)]
struct Deleted {
    deleted: u64,
    missing: usize,
    n: u64,
}

pub(crate) fn run(args: Args, out: &Output) -> Result<(), CliError> {
    let mut store = args.model.store(&args.index)?;
    let info = store.index()?.info();
    let file = args.file.as_deref().map(|path| ids_for(path, &info)).transpose()?;
    let ids = if info.ids == IdKind::Text {
        let file = match file {
            Some(Ids::Text(ids)) => ids,
            _ => Vec::new(),
        };
        Ids::Text(unique(args.ids.iter().cloned().chain(file)))
    } else {
        let file = match file {
            Some(Ids::Numbers(ids)) => ids,
            _ => Vec::new(),
        };
        let number = |id: &String| {
            let refused =
                |_| CliError::Usage(format!("the ids of {} are numbers, and {id:?} is none", shown(&args.index)));
            id.parse::<u64>().map_err(refused)
        };
        let given = args.ids.iter().map(number).collect::<Result<Vec<_>, _>>()?;
        Ids::Numbers(unique(given.into_iter().chain(file)))
    };
    let _careful = interrupt::careful();
    let report = store.delete_with(&ids, Some(&interrupt::hear))?;
    let deleted = Deleted { deleted: report.deleted, missing: report.missing.len(), n: report.n };
    let missing = (deleted.missing > 0).then(|| not_found(&ids, &report.missing));
    if let Some(missing) = missing.as_ref().filter(|_| !args.strict) {
        out.note(&format!("vlc: {}: {missing}", shown(&args.index)));
    }
    out.result(&deleted, || {
        let Deleted { deleted, missing, n } = &deleted;
        format!(
            "{}: {} deleted, {} not found, {} left\n",
            shown(&args.index),
            count(deleted),
            count(missing),
            count(n)
        )
    })?;
    match missing.filter(|_| args.strict) {
        Some(missing) => Err(vlc::Error::Input(InputError::new(Some(&args.index), missing)).into()),
        None => Ok(()),
    }
}

/// Each once, in order.
fn unique<T: Hash + Eq + Clone>(ids: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = HashSet::new();
    ids.filter(|id| seen.insert(id.clone())).collect()
}

/// Names the first ids that were not found.
fn not_found(ids: &Ids, missing: &[usize]) -> String {
    let name = |&i: &usize| match ids {
        Ids::Numbers(ids) => ids[i].to_string(),
        Ids::Text(ids) => format!("{:?}", ids[i]),
    };
    let names: Vec<String> = missing.iter().take(SHOWN).map(name).collect();
    let more = if missing.len() > SHOWN { ", ..." } else { "" };
    format!("{} of {} ids are not there: {}{more}", count(missing.len()), count(ids.len()), names.join(", "))
}
