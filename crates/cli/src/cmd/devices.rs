//! `vlc devices`.

use serde::Serialize;

use crate::{
    error::CliError,
    output::{Output, size, table},
};

/// List what --backend, --device and --adapter can run on, and why the rest cannot
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
    /// As --device takes it.
    number: Option<usize>,
    name: String,
    available: bool,
    /// Runs on the processor; used with --adapter software alone.
    software: bool,
    memory_bytes: Option<u64>,
    detail: String,
}

pub(crate) fn run(_: Args, out: &Output) -> Result<(), CliError> {
    let devices: Vec<Device> = vlc::device::devices()
        .into_iter()
        .map(|d| Device {
            backend: d.backend.to_string(),
            number: d.number,
            name: d.name,
            available: d.available,
            software: d.software,
            memory_bytes: d.memory_bytes,
            detail: d.detail,
        })
        .collect();
    let found = Devices { devices };
    out.result(&found, || {
        let rows: Vec<Vec<String>> = found
            .devices
            .iter()
            .map(|d| {
                let available = if d.available { "yes" } else { "no" };
                let number = d.number.map_or_else(|| "-".into(), |n| n.to_string());
                let memory = d.memory_bytes.map_or_else(|| "-".into(), size);
                let detail = if d.software { format!("software: {}", d.detail) } else { d.detail.clone() };
                vec![d.backend.clone(), number, available.into(), d.name.clone(), memory, detail]
            })
            .collect();
        table(&["backend", "number", "available", "device", "memory", "detail"], &rows)
    })
}
