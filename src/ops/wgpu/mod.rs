//! Any GPU, through Vulkan, Metal or Direct3D 12; nothing of a vendor is needed to build this.
//!
//! From the bottom: `adapter` finds a device, `device` opens it and keeps what waits to be sent, `buffer` and `transfer` are
//! its memory, `kernel` starts shaders, `pace` divides long work. What a binding can hold is limited (128 MiB on the smallest
//! devices), so matrices and codes are kept in parts. Every kernel of shaders/ does with 16 KiB of workgroup memory, eight
//! storage buffers and no subgroups, which all devices of WebGPU have. `unsafe` is where shaders are compiled.

pub(crate) mod adapter;
pub(crate) mod assign;
pub(crate) mod buffer;
pub(crate) mod codes;
pub(crate) mod device;
#[cfg(test)]
mod device_tests;
pub(crate) mod encode;
pub(crate) mod error;
pub(crate) mod fit;
pub(crate) mod groups;
pub(crate) mod kernel;
pub(crate) mod mlp;
pub(crate) mod pace;
pub(crate) mod project;
pub(crate) mod reduce;
#[cfg(test)]
mod reduce_tests;
pub(crate) mod rows;
pub(crate) mod score;
#[cfg(test)]
mod shader_tests;
pub(crate) mod transfer;
pub(crate) mod update;

use crate::{
    backend::{Backend, DeviceChoice, DeviceInfo, Health},
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
use device::Device;

/// The device that the operations run on.
pub(super) struct Wgpu {
    device: Device,
}

pub(super) fn open(choice: DeviceChoice) -> Result<Wgpu, Error> {
    Ok(Wgpu { device: Device::open(choice)?.0 })
}

impl seam::Device for Wgpu {
    type Rows = rows::Rows;

    fn backend(&self) -> Backend {
        Backend::Wgpu
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

impl Learn for Wgpu {
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

impl Ops for Wgpu {
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

/// Every adapter.
pub(super) fn devices() -> Result<Vec<DeviceInfo>, Error> {
    adapter::devices()
}

/// Opens a device, sends bytes there and back, and says what this process holds on devices.
pub(super) fn health(choice: DeviceChoice) -> Result<Health, Error> {
    let (device, number) = Device::open(choice)?;
    let values: Vec<u32> = (0..10_000).collect();
    let sent = device.upload(&values)?;
    let copied = device.copy(&sent)?;
    device.clear(&sent)?;
    if device.download(&copied)? != values || device.download(&sent)?.iter().any(|&value| value != 0) {
        return Err(error::failure("a copy to the device and back: the values differ"));
    }
    drop((sent, copied));
    let held = buffer::held();
    Ok(Health {
        backend: Backend::Wgpu,
        number: Some(number),
        device: device.name().to_string(),
        memory_total: None,
        memory_free: None,
        memory_resident: held.bytes,
        memory_peak: held.peak,
        buffers: held.buffers,
        leaked_buffers: 0,
        last_error: error::last_error(),
    })
}
