//! A device, its memory, and what has been recorded for it but not sent yet.

use std::{
    collections::HashMap,
    ops::Deref,
    sync::{Arc, Mutex},
    thread::{self, ThreadId},
};

use bytemuck::Pod;
use wgpu::{
    AdapterInfo, BufferDescriptor, BufferUsages, CommandEncoder, CommandEncoderDescriptor, DeviceDescriptor,
    PollType, SubmissionIndex,
};

use super::{
    adapter,
    buffer::Buffer,
    error::{DRIVER, failure, lock, unavailable},
    kernel::{Pipeline, PipelineKey},
    pace::Pace,
};
use crate::{backend::DeviceChoice, error::Error};

/// Bytes that the parameters of a launch may take: where uniforms may start on any device.
pub(super) const SLOT: usize = 256;
/// Launches that are sent together. Sending costs tens of microseconds; the device should not wait for work either.
const TOGETHER: usize = 32;

/// What the device reports by itself, beside what calls return.
#[derive(Default)]
struct Reports {
    /// The first error in a call of each thread since that thread last asked.
    errors: Mutex<HashMap<ThreadId, String>>,
    /// Why there is no device any more.
    lost: Mutex<Option<String>>,
}

/// Commands that wait to be sent, and the parameters of their launches.
#[derive(Default)]
pub(super) struct Pending {
    encoder: Option<CommandEncoder>,
    pub(super) params: Vec<u8>,
}

/// Devices that are open. They stay so until the process ends: all who use an adapter share one, threads may do so at the same
/// time, and drivers are known to crash where devices come and go in several threads, or at the end of a process
/// (gfx-rs/wgpu#10234, #8365, #5930). An idle device holds none of this library's memory.
static OPEN: Mutex<Vec<Arc<Core>>> = Mutex::new(Vec::new());

/// A device that the operations run on.
pub(super) struct Device {
    core: Arc<Core>,
    binding_limit: usize,
}

/// What all who use a device share.
pub(super) struct Core {
    pub(super) raw: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) limits: wgpu::Limits,
    info: AdapterInfo,
    pub(super) pending: Mutex<Pending>,
    /// [`TOGETHER`] slots for parameters.
    pub(super) uniforms: wgpu::Buffer,
    pub(super) modules: Mutex<HashMap<&'static str, wgpu::ShaderModule>>,
    pub(super) pipelines: Mutex<HashMap<PipelineKey, Arc<Pipeline>>>,
    pub(super) pace: Mutex<Pace>,
    reports: Arc<Reports>,
}

impl Deref for Device {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

impl Device {
    /// Opens the device of an adapter, or joins those who use it already.
    pub(super) fn open(choice: DeviceChoice) -> Result<(Device, usize), Error> {
        let mut open = lock(&OPEN);
        let _alone = lock(&DRIVER);
        let found = adapter::choose(choice)?;
        let number = found.number;
        open.retain(|core| lock(&core.reports.lost).is_none());
        let core = match open.iter().find(|core| core.info == found.info) {
            Some(core) => Arc::clone(core),
            None => {
                let core = Arc::new(Core::new(found)?);
                open.push(Arc::clone(&core));
                core
            }
        };
        Ok((Device { binding_limit: binding_limit(&core.limits), core }, number))
    }

    /// A device of its own, which the caller must not drop.
    #[cfg(test)]
    pub(super) fn alone(choice: DeviceChoice) -> Result<Device, Error> {
        let _alone = lock(&DRIVER);
        let core = Arc::new(Core::new(adapter::choose(choice)?)?);
        Ok(Device { binding_limit: binding_limit(&core.limits), core })
    }

    /// The same with less room in a buffer.
    #[cfg(test)]
    pub(super) fn limited(self, bytes: usize) -> Device {
        Device { binding_limit: bytes.min(self.binding_limit) / SLOT * SLOT, ..self }
    }

    /// Bytes that a buffer may have.
    pub(super) fn binding_limit(&self) -> usize {
        self.binding_limit
    }

    /// So many zeros.
    pub(super) fn alloc<T: Pod>(&self, len: usize) -> Result<Buffer<T>, Error> {
        self.alloc_within(len, self.binding_limit)
    }

    /// The same for what cannot be divided, where a test has lowered the limit.
    pub(super) fn alloc_whole<T: Pod>(&self, len: usize) -> Result<Buffer<T>, Error> {
        self.alloc_within(len, given_limit(&self.limits))
    }

    fn alloc_within<T: Pod>(&self, len: usize, limit: usize) -> Result<Buffer<T>, Error> {
        // What is empty must still be bound.
        let bytes = len.max(1).saturating_mul(size_of::<T>());
        if bytes > limit {
            return Err(failure(format!(
                "{:.1} MiB are needed in one piece, of which {} takes at most {:.1}; use a smaller input or --backend cpu",
                bytes as f64 / f64::from(1 << 20),
                self.name(),
                limit as f64 / f64::from(1 << 20)
            )));
        }
        let raw = self.raw.create_buffer(&BufferDescriptor {
            label: None,
            size: bytes.next_multiple_of(4) as u64,
            usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.check()?;
        Ok(Buffer::new(raw, len))
    }
}

impl Core {
    fn new(found: adapter::Found) -> Result<Core, Error> {
        // All that the adapter can do: without asking, limits are those of the smallest of all devices.
        let limits = found.adapter.limits();
        let descriptor =
            DeviceDescriptor { label: Some("vlc"), required_limits: limits.clone(), ..DeviceDescriptor::default() };
        let (raw, queue) = pollster::block_on(found.adapter.request_device(&descriptor))
            .map_err(|e| unavailable(format!("{} cannot be opened: {e}", found.info.name)))?;
        let reports = Arc::new(Reports::default());
        let to = Arc::clone(&reports);
        raw.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let text = match error {
                wgpu::Error::OutOfMemory { .. } => {
                    "out of memory; use a smaller input, another --device or --backend cpu".to_string()
                }
                other => other.to_string(),
            };
            // Errors come up in the call that makes them, so in the thread that will ask.
            lock(&to.errors).entry(thread::current().id()).or_insert(text);
        }));
        let to = Arc::clone(&reports);
        raw.set_device_lost_callback(move |_, message| {
            lock(&to.lost).get_or_insert(format!("the device was lost: {message}"));
        });
        let uniforms = raw.create_buffer(&BufferDescriptor {
            label: Some("parameters"),
            size: (TOGETHER * SLOT) as u64,
            usage: BufferUsages::UNIFORM | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let core = Core {
            limits,
            info: found.info,
            raw,
            queue,
            pending: Mutex::default(),
            uniforms,
            modules: Mutex::default(),
            pipelines: Mutex::default(),
            pace: Mutex::default(),
            reports,
        };
        core.check()?;
        Ok(core)
    }

    pub(super) fn name(&self) -> &str {
        &self.info.name
    }

    /// Fails if the device was lost, or if a call of this thread made an error since it last asked.
    pub(super) fn check(&self) -> Result<(), Error> {
        if let Some(lost) = lock(&self.reports.lost).as_ref() {
            return Err(failure(lost.clone()));
        }
        match lock(&self.reports.errors).remove(&thread::current().id()) {
            Some(error) => Err(failure(error)),
            None => Ok(()),
        }
    }

    /// Records commands, to be sent with others.
    pub(super) fn record(&self, pending: &mut Pending, commands: impl FnOnce(&mut CommandEncoder)) {
        commands(
            pending
                .encoder
                .get_or_insert_with(|| self.raw.create_command_encoder(&CommandEncoderDescriptor::default())),
        );
    }

    /// Sends what is recorded once there is no room for the parameters of another launch.
    pub(super) fn make_room(&self, pending: &mut Pending) {
        if pending.params.len() >= TOGETHER * SLOT {
            self.send(pending);
        }
    }

    /// Sends what is recorded.
    pub(super) fn send(&self, pending: &mut Pending) -> SubmissionIndex {
        if !pending.params.is_empty() {
            // Takes effect after all that was sent before, and before what is sent now.
            self.queue.write_buffer(&self.uniforms, 0, &pending.params);
            pending.params.clear();
        }
        self.queue.submit(pending.encoder.take().map(CommandEncoder::finish))
    }

    /// Sends what is recorded and waits for the end of all that was sent.
    pub(super) fn wait(&self) -> Result<(), Error> {
        let sent = self.send(&mut lock(&self.pending));
        self.wait_for(sent)
    }

    pub(super) fn wait_for(&self, sent: SubmissionIndex) -> Result<(), Error> {
        let polled = self.raw.poll(PollType::Wait { submission_index: Some(sent), timeout: None });
        self.check()?;
        polled.map(|_| ()).map_err(|e| failure(format!("waiting for the device: {e}")))
    }
}

/// Bytes of a binding, and so of a buffer; a test may lower it.
fn binding_limit(limits: &wgpu::Limits) -> usize {
    let given = given_limit(limits);
    let asked = std::env::var("VLC_WGPU_BINDING").ok().and_then(|bytes| bytes.parse().ok()).unwrap_or(given);
    given.min(asked) / SLOT * SLOT
}

/// The same as the device has it.
fn given_limit(limits: &wgpu::Limits) -> usize {
    (limits.max_storage_buffer_binding_size.min(limits.max_buffer_size) / SLOT as u64 * SLOT as u64) as usize
}
