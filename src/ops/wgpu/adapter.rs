//! Which adapters there are, and which one is taken.

use std::sync::OnceLock;

use wgpu::{
    Adapter, AdapterInfo, Backends, DeviceType, DownlevelFlags, Instance, InstanceDescriptor, InstanceFlags, Limits,
};

use super::error::{DRIVER, lock, unavailable};
use crate::{
    backend::{Backend, DeviceChoice, DeviceInfo},
    error::Error,
};

/// What the kernels need and every adapter of WebGPU has: invocations of a workgroup, bytes of its memory, storage buffers.
const INVOCATIONS: u32 = 256;
const WORKGROUP_BYTES: u32 = 16_384;
const STORAGE_BUFFERS: u32 = 8;

/// An adapter, with its number among all.
pub(super) struct Found {
    pub(super) number: usize,
    pub(super) adapter: Adapter,
    pub(super) info: AdapterInfo,
}

impl Found {
    /// Whether it runs on the processor.
    fn software(&self) -> bool {
        self.info.device_type == DeviceType::Cpu
    }

    /// Why it cannot be used, if it cannot.
    fn refusal(&self) -> Option<String> {
        let Limits {
            max_compute_invocations_per_workgroup: invocations,
            max_compute_workgroup_storage_size: bytes,
            max_storage_buffers_per_shader_stage: buffers,
            ..
        } = self.adapter.limits();
        if !self.adapter.get_downlevel_capabilities().flags.contains(DownlevelFlags::COMPUTE_SHADERS) {
            return Some("it has no compute shaders".into());
        }
        let too_small = invocations < INVOCATIONS || bytes < WORKGROUP_BYTES || buffers < STORAGE_BUFFERS;
        too_small.then(|| {
            format!(
                "its limits are too low: {invocations} invocations of {INVOCATIONS}, {bytes} bytes of workgroup memory of \
                 {WORKGROUP_BYTES}, {buffers} storage buffers of {STORAGE_BUFFERS}"
            )
        })
    }

    fn describe(&self) -> DeviceInfo {
        let refusal = self.refusal();
        let info = &self.info;
        let kind = match info.device_type {
            DeviceType::DiscreteGpu => "discrete GPU",
            DeviceType::IntegratedGpu => "integrated GPU",
            DeviceType::VirtualGpu => "virtual GPU",
            DeviceType::Cpu => "runs on the processor",
            DeviceType::Other => "GPU",
        };
        let driver = [info.driver.as_str(), info.driver_info.as_str()].join(" ");
        DeviceInfo {
            backend: Backend::Wgpu,
            number: Some(self.number),
            name: info.name.clone(),
            available: refusal.is_none(),
            software: self.software(),
            memory_bytes: None,
            detail: refusal.unwrap_or_else(|| format!("{kind}, {}, {}", info.backend, driver.trim())),
        }
    }
}

/// The library of the graphics system, loaded once.
fn instance() -> &'static Instance {
    static INSTANCE: OnceLock<Instance> = OnceLock::new();
    INSTANCE.get_or_init(|| {
        Instance::new(InstanceDescriptor {
            backends: Backends::PRIMARY,
            // Validation of the graphics system itself is for those who ask for it by wgpu's variables.
            flags: InstanceFlags::empty().with_env(),
            ..InstanceDescriptor::new_without_display_handle()
        })
    })
}

/// All adapters, discrete GPUs first, software last; the caller holds [`DRIVER`]. A GPU that several graphics systems show is listed once.
pub(super) fn list() -> Result<Vec<Found>, Error> {
    let mut adapters: Vec<(Adapter, AdapterInfo)> =
        pollster::block_on(instance().enumerate_adapters(Backends::PRIMARY))
            .into_iter()
            .map(|adapter| {
                let info = adapter.get_info();
                (adapter, info)
            })
            .collect();
    adapters.sort_by_key(|(_, info)| match info.device_type {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    });
    let mut found: Vec<Found> = Vec::new();
    for (adapter, info) in adapters {
        let same = |f: &Found| {
            (f.info.vendor, f.info.device, &f.info.device_pci_bus_id, f.info.backend == info.backend)
                == (info.vendor, info.device, &info.device_pci_bus_id, false)
        };
        if !found.iter().any(same) {
            found.push(Found { number: found.len(), adapter, info });
        }
    }
    if found.is_empty() {
        return Err(unavailable(
            "no adapter: there is no driver for Vulkan, Metal or Direct3D 12; use --backend cpu",
        ));
    }
    Ok(found)
}

/// The adapter chosen, if it can be used. One that runs on the processor is taken when asked for alone.
pub(super) fn choose(choice: DeviceChoice) -> Result<Found, Error> {
    let all = list()?;
    let count = all.len();
    let mut all = all.into_iter();
    let chosen = match choice {
        DeviceChoice::Number(number) => all.find(|f| f.number == number).ok_or_else(|| {
            Error::Config(format!("wgpu has no adapter number {number}: there are {count}; see `vlc devices`"))
        })?,
        DeviceChoice::Software => all
            .find(Found::software)
            .ok_or_else(|| unavailable("no software adapter: lavapipe, WARP and SwiftShader are such"))?,
        DeviceChoice::Best => all.find(|f| !f.software() && f.refusal().is_none()).ok_or_else(|| {
            unavailable(
                "no GPU: the adapters are software, which --adapter software takes, or too small; see `vlc devices`",
            )
        })?,
    };
    match chosen.refusal() {
        Some(reason) => Err(unavailable(format!("{}: {reason}", chosen.info.name))),
        None => Ok(chosen),
    }
}

/// What [`devices`](crate::ops::devices) says of them.
pub(super) fn devices() -> Result<Vec<DeviceInfo>, Error> {
    let _alone = lock(&DRIVER);
    Ok(list()?.iter().map(Found::describe).collect())
}
