//! `vlc test`, `vlc test-gpu`, `vlc test-cuda`.

mod data;
mod operations;
mod pipeline;

use std::cmp::Reverse;

use serde::Serialize;
use vlc::{Backend, Compute, DeviceChoice, device::DeviceInfo};

use crate::{
    args::{DeviceArg, Threads},
    error::CliError,
    interrupt,
    output::Output,
    progress::Progress,
};
use operations::Operation;
use pipeline::Pipeline;

/// How far a backend's energy may be from the CPU's, as a share.
const ENERGY_TOLERANCE: f64 = 0.05;

/// Benchmark every backend on the same vectors and compare its results with the CPU's
#[derive(clap::Args)]
#[command(after_help = "\
First vectors are compressed and searched; then single operations are timed on synthetic vectors.
Exit 0 when all that ran agree with the CPU, 1 when one does not, 6 when a device failed or the one asked for is missing.

Examples:
  vlc test
  vlc test-cuda --device 1
  vlc test-gpu --adapter software
  vlc test-cuda --large --json")]
pub(crate) struct Args {
    /// 200,000 synthetic vectors instead of the 5,000 embedded ones, and operations on a million more (2 GB of memory)
    #[arg(long)]
    large: bool,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    threads: Threads,
}

/// All that is measured.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    pipeline: Pipeline,
    operations: Vec<Operation>,
}

/// A backend to test.
struct Tested {
    backend: Backend,
    /// Which device of it; `None` for the CPU and where there is none.
    number: Option<usize>,
    device: String,
    available: bool,
    /// Why it cannot be used, or how it failed; it is left alone from then on.
    reason: Option<String>,
}

impl Tested {
    fn usable(&self) -> bool {
        self.available && self.reason.is_none()
    }

    /// As the library takes it.
    fn compute(&self) -> Compute {
        Compute { device: self.number.into(), ..self.backend.into() }
    }

    fn is_cpu(&self) -> bool {
        self.backend == Backend::Cpu
    }
}

/// The backends under test, and the first that failed.
struct Bench {
    tested: Vec<Tested>,
    failed: Option<CliError>,
}

impl Bench {
    /// Runs `work` on backend `at`. A device that fails is noted and left out, but not the CPU: without its results there is
    /// nothing to compare with.
    fn attempt<T>(
        &mut self,
        at: usize,
        work: impl FnOnce(&Tested) -> Result<T, CliError>,
    ) -> Result<Option<T>, CliError> {
        interrupt::check()?;
        match work(&self.tested[at]) {
            Ok(result) => Ok(Some(result)),
            Err(error @ CliError::Library(vlc::Error::Device { .. } | vlc::Error::Unavailable { .. }))
                if !self.tested[at].is_cpu() =>
            {
                self.tested[at].reason = Some(error.to_string());
                self.failed.get_or_insert(error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// `only`: the one backend to test beside the CPU; it must be there.
pub(crate) fn run(args: Args, only: Option<Backend>, out: &Output) -> Result<(), CliError> {
    args.threads.install(|| test(&args, only, out))
}

fn test(args: &Args, only: Option<Backend>, out: &Output) -> Result<(), CliError> {
    let mut bench = Bench { tested: tested(&vlc::device::devices(), only, args.device.choice())?, failed: None };
    let missing = bench.tested.iter().find(|t| only == Some(t.backend) && !t.available);
    if let Some(Tested { backend, reason, .. }) = missing {
        let reason = reason.clone().unwrap_or_default();
        return Err(vlc::Error::Unavailable { backend: *backend, reason }.into());
    }

    let _careful = interrupt::careful();
    let progress = Progress::new(out);
    let pipeline = pipeline::run(&mut bench, args.large, args.threads.count(), &progress)?;
    let operations = operations::run(&mut bench, args.large, &progress)?;
    drop(progress);
    let report = Report { pipeline, operations };
    out.result(&report, || format!("{}\n{}", report.pipeline.human(), operations::human(&report.operations)))?;

    let apart = report.pipeline.disagreement().or_else(|| report.operations.iter().find_map(Operation::disagreement));
    match (bench.failed, apart) {
        (Some(error), _) => Err(error),
        (None, Some(message)) => Err(CliError::Disagree(message)),
        (None, None) => Ok(()),
    }
}

/// The CPU, then the others asked for, each on the device chosen. A software adapter is chosen by name or number alone.
fn tested(devices: &[DeviceInfo], only: Option<Backend>, choice: DeviceChoice) -> Result<Vec<Tested>, CliError> {
    let software = choice == DeviceChoice::Software;
    if software && only == Some(Backend::Cuda) {
        return Err(CliError::Usage("--adapter software: only wgpu has software adapters".into()));
    }
    let number = match choice {
        DeviceChoice::Number(number) => Some(number),
        _ => None,
    };
    let mut list = Vec::new();
    for backend in [Backend::Cpu, Backend::Wgpu, Backend::Cuda] {
        let (cpu, wgpu) = (backend == Backend::Cpu, backend == Backend::Wgpu);
        if !cpu && only.is_some_and(|only| only != backend) {
            continue;
        }
        let all: Vec<&DeviceInfo> = devices.iter().filter(|d| d.backend == backend).collect();
        // A number that a backend with devices does not have is a mistake; one without any has its own reason.
        let asked = number.filter(|_| !cpu && all.iter().any(|d| d.number.is_some()));
        let device = match asked {
            Some(asked) => Some(*all.iter().find(|d| d.number == Some(asked)).ok_or_else(|| {
                CliError::Usage(format!("--device {asked}: {backend} has no such device; see `vlc devices`"))
            })?),
            // What has no number says why the backend is missing. CUDA's best is the one with most memory, wgpu numbers its
            // adapters best first.
            None => all
                .iter()
                .filter(|d| d.number.is_none() || d.software == (software && wgpu))
                .max_by_key(|d| (d.available, d.memory_bytes.filter(|_| !wgpu), Reverse(d.number)))
                .copied(),
        };
        let available = cpu || device.is_some_and(|d| d.available);
        list.push(Tested {
            backend,
            number: device.and_then(|d| d.number),
            device: device.map(|d| d.name.clone()).unwrap_or_default(),
            available,
            reason: match device {
                _ if available => None,
                Some(device) => Some(device.detail.clone()),
                None if software && wgpu => Some("there is no software adapter".into()),
                None if wgpu && !all.is_empty() => {
                    Some("there are software adapters alone; --adapter software takes one".into())
                }
                None => Some("no device found".into()),
            },
        });
    }
    if let Some(number) = number
        && only.is_none()
        && list.iter().all(|t| t.is_cpu() || t.number.is_none())
    {
        return Err(CliError::Usage(format!("--device {number}: there is no GPU to choose; see `vlc devices`")));
    }
    Ok(list)
}

/// By how many percent a value differs from another.
fn percent(value: f64, from: f64) -> f64 {
    100.0 * (value - from) / from.max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device as the library would list it.
    fn device(backend: Backend, number: Option<usize>, name: &str, memory: u64, software: bool) -> DeviceInfo {
        let mut device = vlc::device::devices().remove(0);
        (device.backend, device.number, device.name) = (backend, number, name.into());
        (device.available, device.memory_bytes, device.software) = (number.is_some(), Some(memory), software);
        device.detail = format!("what {name} is");
        device
    }

    fn names(devices: &[DeviceInfo], choice: DeviceChoice) -> Result<Vec<String>, CliError> {
        let tell = |t: Tested| t.reason.unwrap_or(t.device);
        Ok(tested(devices, None, choice)?.into_iter().skip(1).map(tell).collect())
    }

    #[test]
    fn software_adapters_are_tested_when_asked_for() -> Result<(), CliError> {
        let list = [
            device(Backend::Wgpu, Some(0), "discrete", 1, false),
            device(Backend::Wgpu, Some(1), "integrated", 2, false),
            device(Backend::Wgpu, Some(2), "lavapipe", 3, true),
            device(Backend::Cuda, Some(0), "small", 1, false),
            device(Backend::Cuda, Some(1), "large", 2, false),
            device(Backend::Cuda, Some(2), "large too", 2, false),
        ];
        let (best, software) = (DeviceChoice::Best, DeviceChoice::Software);
        assert_eq!(names(&list, best)?, ["discrete", "large"]);
        assert_eq!(names(&list, software)?, ["lavapipe", "large"]);
        assert_eq!(names(&list, DeviceChoice::Number(2))?, ["lavapipe", "large too"]);
        assert!(matches!(names(&list, DeviceChoice::Number(3)), Err(CliError::Usage(_))));
        assert!(names(&list[2..], best)?[0].contains("--adapter software"));
        assert!(names(&list[..2], software)?[0].contains("no software adapter"));
        let missing = [device(Backend::Wgpu, None, "wgpu", 0, false)];
        for choice in [best, software] {
            assert_eq!(names(&missing, choice)?, ["what wgpu is", "no device found"]);
        }
        assert!(tested(&list, Some(Backend::Cuda), software).is_err());
        assert!(tested(&list, Some(Backend::Wgpu), software)?[1].compute().device == DeviceChoice::Number(2));
        Ok(())
    }
}
