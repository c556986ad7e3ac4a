//! `vlc health`.

use serde::Serialize;
use vlc::{Backend, DeviceChoice, device::Health};

use crate::{
    args::{BackendArg, DeviceArg},
    error::CliError,
    output::{Output, size, table},
};

/// See whether devices work, and what memory this program holds there
#[derive(clap::Args)]
#[command(mut_arg("number", |arg| arg.requires("backend")), after_help = "\
Opens each device and sends bytes there and back. Exit 6 when the one asked for is missing, or one of them fails.

Examples:
  vlc health
  vlc health --backend cuda --device 1 --json
  vlc health --adapter software")]
pub(crate) struct Args {
    /// The backend to look at [default: every device that is available, but for software adapters]
    #[arg(long, value_name = "B", value_enum)]
    backend: Option<BackendArg>,
    #[command(flatten)]
    device: DeviceArg,
}

#[derive(Serialize)]
struct Report {
    devices: Vec<Device>,
}

#[derive(Serialize)]
struct Device {
    backend: String,
    number: Option<usize>,
    device: String,
    ok: bool,
    /// Why it is not.
    error: Option<String>,
    #[serde(flatten)]
    found: Option<Found>,
}

#[derive(Serialize)]
struct Found {
    memory_total_bytes: Option<u64>,
    memory_free_bytes: Option<u64>,
    memory_resident_bytes: u64,
    memory_peak_bytes: u64,
    buffers: usize,
    leaked_buffers: usize,
    last_error: Option<String>,
}

pub(crate) fn run(args: Args, out: &Output) -> Result<(), CliError> {
    let mut failed = None;
    let choice = args.device.choice();
    // A software adapter needs no backend beside it: one alone has them.
    let asked = args.backend.map(Backend::from).or((choice == DeviceChoice::Software).then_some(Backend::Wgpu));
    let devices = match asked {
        Some(backend) => vec![Device::new(vlc::device::health(backend, choice)?)],
        None => vlc::device::devices()
            .into_iter()
            .filter(|d| d.available && !d.software)
            .map(|d| match vlc::device::health(d.backend, d.number.into()) {
                Ok(health) => Device::new(health),
                Err(error) => {
                    let message = error.to_string();
                    // Told all the same: the others are well or not by themselves.
                    failed.get_or_insert(error);
                    let backend = d.backend.to_string();
                    Device { backend, number: d.number, device: d.name, ok: false, error: Some(message), found: None }
                }
            })
            .collect(),
    };
    let report = Report { devices };
    out.result(&report, || human(&report))?;
    failed.map_or(Ok(()), |error| Err(error.into()))
}

impl Device {
    fn new(health: Health) -> Device {
        Device {
            backend: health.backend.to_string(),
            number: health.number,
            device: health.device,
            ok: true,
            error: None,
            found: Some(Found {
                memory_total_bytes: health.memory_total,
                memory_free_bytes: health.memory_free,
                memory_resident_bytes: health.memory_resident,
                memory_peak_bytes: health.memory_peak,
                buffers: health.buffers,
                leaked_buffers: health.leaked_buffers,
                last_error: health.last_error,
            }),
        }
    }

    fn cells(&self) -> Vec<String> {
        let known = |bytes: Option<u64>| bytes.map_or_else(|| "-".into(), size);
        let mut cells = vec![
            self.backend.clone(),
            self.number.map_or_else(|| "-".into(), |n| n.to_string()),
            self.device.clone(),
            if self.ok { "yes" } else { "NO" }.into(),
        ];
        match &self.found {
            Some(f) => cells.extend([
                known(f.memory_total_bytes),
                known(f.memory_free_bytes),
                size(f.memory_resident_bytes),
                size(f.memory_peak_bytes),
                f.buffers.to_string(),
                f.leaked_buffers.to_string(),
                f.last_error.clone().unwrap_or_else(|| "none".into()),
            ]),
            None => {
                cells.extend(std::iter::repeat_n("-".to_owned(), 6));
                cells.push(self.error.clone().unwrap_or_default());
            }
        }
        cells
    }
}

fn human(report: &Report) -> String {
    let rows: Vec<Vec<String>> = report.devices.iter().map(Device::cells).collect();
    let header = [
        "backend",
        "number",
        "device",
        "works",
        "memory",
        "free",
        "resident",
        "peak",
        "buffers",
        "leaked",
        "last error",
    ];
    table(&header, &rows)
}
