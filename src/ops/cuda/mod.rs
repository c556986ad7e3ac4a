//! NVIDIA GPUs through the CUDA driver, which is looked for when asked for; nothing of CUDA is needed to build this.
//!
//! From the bottom: `driver` finds and opens a device, `pool` keeps its memory, `transfer` copies, `launch` loads and starts
//! kernels, and `device` ties them together for the operations. `unsafe` is where the driver is called.

pub(crate) mod assign;
pub(crate) mod buffer;
pub(crate) mod codes;
pub(crate) mod decoded;
pub(crate) mod device;
pub(crate) mod driver;
pub(crate) mod encode;
pub(crate) mod error;
pub(crate) mod fit;
pub(crate) mod groups;
pub(crate) mod images;
pub(crate) mod launch;
pub(crate) mod lists;
pub(crate) mod mlp;
pub(crate) mod pool;
pub(crate) mod project;
pub(crate) mod reduce;
pub(crate) mod rows;
pub(crate) mod score;
pub(crate) mod signature;
pub(crate) mod tile;
pub(crate) mod transfer;
pub(crate) mod update;

use crate::{
    backend::{Backend, DeviceInfo, Health},
    error::Error,
    matrix::{Mat, MatRef},
    model::mlp::Mlp,
    neighbors::Neighbors,
    ops::{
        mlp::FitStep,
        seam::{self, Learn, Ops},
        types::{Assignments, Cells, CodesRef, EncodeJob, Encoded, ScoreTables, Step},
    },
};
use device::{Device, held};

/// The device that the operations run on.
pub(super) struct Cuda {
    device: Device,
}

pub(super) fn open(number: Option<usize>) -> Result<Cuda, Error> {
    Ok(Cuda { device: Device::open(number)? })
}

impl seam::Device for Cuda {
    type Rows = rows::Rows;

    fn backend(&self) -> Backend {
        Backend::Cuda
    }

    fn ensure_room(&self, bytes: u64) -> Result<(), Error> {
        self.device.ensure_room(bytes)
    }

    fn chunks(&self) -> usize {
        16
    }

    fn upload(&self, rows: MatRef<'_>) -> Result<rows::Rows, Error> {
        rows::Rows::upload(&self.device, rows)
    }

    fn download(&self, rows: &rows::Rows) -> Result<Mat, Error> {
        rows.download(&self.device)
    }

    fn copy(&self, rows: &rows::Rows) -> Result<rows::Rows, Error> {
        rows.copy(&self.device)
    }

    fn select(&self, rows: &rows::Rows, picked: &[u32]) -> Result<rows::Rows, Error> {
        rows.select(&self.device, picked)
    }
}

impl Learn for Cuda {
    type Net = mlp::Net;

    fn upload_net(&self, mlp: &Mlp) -> Result<mlp::Net, Error> {
        mlp::Net::upload(&self.device, mlp)
    }

    fn download_net(&self, net: &mlp::Net) -> Result<Mlp, Error> {
        net.download(&self.device)
    }

    fn fit(
        &self,
        net: &mut mlp::Net,
        rows: &rows::Rows,
        targets: &rows::Rows,
        picked: &[u32],
        step: FitStep,
    ) -> Result<(), Error> {
        net.fit(&self.device, rows, targets, picked, step)
    }

    fn errors(&self, net: &mlp::Net, rows: &rows::Rows, targets: &rows::Rows) -> Result<Vec<f32>, Error> {
        net.errors(&self.device, rows, targets)
    }

    fn code_targets(
        &self,
        net: &mlp::Net,
        rows: &rows::Rows,
        targets: &rows::Rows,
        damp: &[f32],
    ) -> Result<rows::Rows, Error> {
        net.code_targets(&self.device, rows, targets, damp)
    }
}

impl Ops for Cuda {
    type Assigned = assign::Assigned;
    type Stats = reduce::Stats;
    type Codes = codes::Loaded;

    fn assign(&self, rows: &rows::Rows, anchors: &rows::Rows, candidates: usize) -> Result<assign::Assigned, Error> {
        assign::assign(&self.device, rows, anchors, candidates)
    }

    fn assignments(&self, assigned: &assign::Assigned) -> Result<Assignments, Error> {
        assigned.download(&self.device)
    }

    fn energy(&self, assigned: &assign::Assigned) -> Result<f64, Error> {
        assigned.energy(&self.device)
    }

    fn reduce(
        &self,
        rows: &rows::Rows,
        assigned: &assign::Assigned,
        anchors: usize,
        trim: f32,
    ) -> Result<reduce::Stats, Error> {
        reduce::reduce(&self.device, rows, assigned, anchors, trim)
    }

    fn cells(&self, stats: &reduce::Stats) -> Result<Cells, Error> {
        stats.cells(&self.device)
    }

    fn means(&self, stats: &reduce::Stats) -> Result<Mat, Error> {
        stats.means(&self.device)
    }

    fn update(&self, anchors: &mut rows::Rows, stats: &reduce::Stats, step: Step<'_>) -> Result<(), Error> {
        update::update(&self.device, anchors, stats, step)
    }

    fn project(&self, rows: &rows::Rows, offset: &[f32], transform: MatRef<'_>) -> Result<rows::Rows, Error> {
        project::project(&self.device, rows, offset, transform)
    }

    fn encode(&self, rows: &rows::Rows, job: EncodeJob<'_, assign::Assigned>) -> Result<Encoded, Error> {
        encode::encode(&self.device, rows, &job)
    }

    fn load(&self, codes: &CodesRef<'_>) -> Result<codes::Loaded, Error> {
        codes::Loaded::new(&self.device, codes)
    }

    fn score(
        &self,
        codes: &CodesRef<'_>,
        loaded: &codes::Loaded,
        queries: &ScoreTables,
        k: usize,
    ) -> Result<Neighbors, Error> {
        score::score(&self.device, &loaded.of(codes), queries, k)
    }
}

/// Every device that the driver shows.
pub(super) fn devices() -> Result<Vec<DeviceInfo>, Error> {
    let driver = driver::probe()?;
    let (major, minor) = driver.version;
    let describe = |found: &driver::Found| {
        let reason = found.targets(None).err();
        let (high, low) = found.capability;
        let what = format!(
            "compute capability {high}.{low}, {:.0} GiB, driver {major}.{minor}",
            found.total as f64 / f64::from(1 << 30)
        );
        DeviceInfo {
            backend: Backend::Cuda,
            number: Some(found.number),
            name: found.name.clone(),
            available: reason.is_none(),
            software: false,
            memory_bytes: Some(found.total),
            detail: match reason {
                Some(Error::Unavailable { reason, .. }) => reason,
                Some(other) => other.to_string(),
                None => what,
            },
        }
    };
    Ok(driver.devices.iter().map(describe).collect())
}

/// Opens a device, sends bytes there and back, and says what this process holds on it.
pub(super) fn health(number: Option<usize>) -> Result<Health, Error> {
    let device = Device::open(number)?;
    round_trip(&device)?;
    // What the trip used must not count.
    device.trim();
    let (free, total) = device.memory()?;
    let (number, name) = (device.number(), device.name().to_string());
    drop(device);
    let held = held(number);
    Ok(Health {
        backend: Backend::Cuda,
        number: Some(number),
        device: name,
        memory_total: Some(total),
        memory_free: Some(free),
        memory_resident: held.resident,
        memory_peak: pool::peak(),
        buffers: held.buffers,
        leaked_buffers: held.leaked,
        last_error: error::last_error(),
    })
}

fn round_trip(device: &Device) -> Result<(), Error> {
    let values: Vec<u32> = (0..10_000).collect();
    let sent = device.upload(&values)?;
    let copied = device.copy(&sent)?;
    device.fill(&sent, 0xA5)?;
    let (came, filled) = (device.download(&copied)?, device.download(&sent)?);
    if came != values || filled.iter().any(|&value| value != 0xA5A5_A5A5) {
        return Err(error::failure("a copy to the device and back", "the values differ"));
    }
    Ok(())
}
