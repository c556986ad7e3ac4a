//! `vlc devices`.

use serde::Serialize;

use crate::{
    error::CliError,
    output::{Output, table},
};

/// List what --backend can run on, and why the rest cannot
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  vlc devices\n  vlc devices --json")]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Devices {
    devices: Vec<Device>,
}

#[derive(Serialize)]
struct Device {
    backend: String,
    name: String,
    available: bool,
    detail: String,
}

pub(crate) fn run(_: Args, out: &Output) -> Result<(), CliError> {
    let devices: Vec<Device> = vlc::ops::devices()
        .into_iter()
        .map(|d| Device { backend: d.backend.to_string(), name: d.name, available: d.available, detail: d.detail })
        .collect();
    let found = Devices { devices };
    out.result(&found, || {
        let rows: Vec<Vec<String>> = found
            .devices
            .iter()
            .map(|d| {
                let available = if d.available { "yes" } else { "no" };
                vec![d.backend.clone(), available.into(), d.name.clone(), d.detail.clone()]
            })
            .collect();
        table(&["backend", "available", "device", "detail"], &rows)
    })
}
