//! Copies to the device, on it, and back.

use std::ops::Range;

use bytemuck::Pod;
use futures_intrusive::channel::shared::oneshot_channel;
use wgpu::{BufferDescriptor, BufferUsages, MapMode};

use super::{
    buffer::Buffer,
    device::Device,
    error::{failure, lock},
};
use crate::error::Error;

/// Bytes that are sent or fetched at a time: there is as much host memory beside the values for a while.
const PIECE: usize = if cfg!(test) { 1 << 16 } else { 64 << 20 };

impl Device {
    pub(super) fn upload<T: Pod>(&self, values: &[T]) -> Result<Buffer<T>, Error> {
        self.fill(self.alloc(values.len())?, values)
    }

    /// The same for values that cannot be divided.
    pub(super) fn upload_whole<T: Pod>(&self, values: &[T]) -> Result<Buffer<T>, Error> {
        self.fill(self.alloc_whole(values.len())?, values)
    }

    /// Sends the values of a new buffer.
    fn fill<T: Pod>(&self, buffer: Buffer<T>, values: &[T]) -> Result<Buffer<T>, Error> {
        for (i, piece) in bytemuck::cast_slice::<T, u8>(values).chunks(PIECE).enumerate() {
            if i > 0 {
                self.wait()?;
            }
            self.queue.write_buffer(buffer.raw(), (i * PIECE) as u64, piece);
        }
        self.check()?;
        Ok(buffer)
    }

    pub(super) fn copy<T: Pod>(&self, buffer: &Buffer<T>) -> Result<Buffer<T>, Error> {
        let out = self.alloc(buffer.len())?;
        let mut pending = lock(&self.pending);
        self.record(&mut pending, |to| to.copy_buffer_to_buffer(buffer.raw(), 0, out.raw(), 0, buffer.raw().size()));
        drop(pending);
        self.check()?;
        Ok(out)
    }

    /// Zeros, after all that was started before.
    pub(super) fn clear<T: Pod>(&self, buffer: &Buffer<T>) -> Result<(), Error> {
        self.record(&mut lock(&self.pending), |to| to.clear_buffer(buffer.raw(), 0, None));
        self.check()
    }

    pub(super) fn download<T: Pod>(&self, buffer: &Buffer<T>) -> Result<Vec<T>, Error> {
        self.download_parts(&[(buffer, 0..buffer.len())])
    }

    /// Several parts one after the other, with a single wait unless they are large.
    pub(super) fn download_parts<T: Pod>(&self, parts: &[(&Buffer<T>, Range<usize>)]) -> Result<Vec<T>, Error> {
        let mut out = Vec::with_capacity(parts.iter().map(|(_, range)| range.len()).sum());
        let most = PIECE / size_of::<T>();
        let mut group: Vec<(&Buffer<T>, Range<usize>)> = Vec::new();
        let mut waiting = 0;
        for (buffer, range) in parts {
            let mut range = range.clone();
            if range.end > buffer.len() {
                return Err(failure(format!("{range:?} is not within a buffer of {}", buffer.len())));
            }
            while !range.is_empty() {
                let taken = range.len().min(most - waiting);
                group.push((*buffer, range.start..range.start + taken));
                range.start += taken;
                waiting += taken;
                if waiting == most {
                    self.fetch(&group, &mut out)?;
                    group.clear();
                    waiting = 0;
                }
            }
        }
        if waiting > 0 {
            self.fetch(&group, &mut out)?;
        }
        Ok(out)
    }

    /// Appends all parts to `out`.
    fn fetch<T: Pod>(&self, parts: &[(&Buffer<T>, Range<usize>)], out: &mut Vec<T>) -> Result<(), Error> {
        let bytes = |range: &Range<usize>| (range.len() * size_of::<T>()) as u64;
        let total = parts.iter().map(|(_, range)| bytes(range)).sum();
        let staging = self.raw.create_buffer(&BufferDescriptor {
            label: Some("staging"),
            size: total,
            usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut pending = lock(&self.pending);
        self.record(&mut pending, |to| {
            let mut at = 0;
            for (buffer, range) in parts {
                let from = (range.start * size_of::<T>()) as u64;
                to.copy_buffer_to_buffer(buffer.raw(), from, &staging, at, bytes(range));
                at += bytes(range);
            }
        });
        let sent = self.send(&mut pending);
        drop(pending);
        self.check()?;
        let (sender, receiver) = oneshot_channel();
        // The receiver is there until the end of this function.
        staging.slice(..).map_async(MapMode::Read, move |result| drop(sender.send(result)));
        self.wait_for(sent)?;
        match pollster::block_on(receiver.receive()) {
            Some(Ok(())) => {}
            Some(Err(e)) => return Err(failure(format!("reading from the device: {e}"))),
            None => return Err(failure("reading from the device: it gave no answer")),
        }
        let view = staging.slice(..).get_mapped_range().map_err(|e| failure(e.to_string()))?;
        // Mapped memory starts at a multiple of eight bytes.
        let values = bytemuck::try_cast_slice(&view).map_err(|e| failure(format!("reading from the device: {e}")))?;
        out.extend_from_slice(values);
        Ok(())
    }
}
