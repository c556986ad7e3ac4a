//! The training of the residual network (cuda/fit.cu).

use super::{
    device::Device,
    images::FIT,
    launch::Arg,
    mlp::{Batch, Net, THREADS},
    rows::Rows,
};
use crate::{error::Error, ops::mlp::FitStep};

/// Rows of a slab of the batch.
const DEPTH: usize = 32;

/// As the kernel has it.
#[derive(Debug, Clone, Copy, bytemuck::NoUninit)]
#[repr(C)]
struct Adam {
    rate: f32,
    keep: f32,
    mean_scale: f32,
    square_scale: f32,
}

impl Net {
    fn tiles(&self) -> usize {
        self.layers.iter().map(|place| place.tiles()).sum()
    }

    fn batch(&self, device: &Device, count: usize) -> Result<Batch, Error> {
        let pass = self.pass(device, count, true)?;
        let all = pass.padded / DEPTH;
        // As many parts as keep the device busy: it has two blocks on each multiprocessor.
        let parts = (2 * device.processors() as usize / self.tiles()).clamp(1, all);
        let slabs = all.div_ceil(parts);
        Ok(Batch {
            count,
            picked: device.alloc(count)?,
            slabs,
            parts: device.alloc(all.div_ceil(slabs) * self.parameters.len())?,
            pass,
        })
    }

    pub(super) fn fit(
        &mut self,
        device: &Device,
        rows: &Rows,
        targets: &Rows,
        picked: &[u32],
        step: FitStep,
    ) -> Result<(), Error> {
        // Lost if something fails, which is no harm.
        let mut batch = match self.batch.take() {
            Some(batch) if batch.count == picked.len() => batch,
            _ => self.batch(device, picked.len())?,
        };
        device.upload_into(picked, &mut batch.picked)?;
        let scale = -2.0 / (picked.len() * rows.dim).max(1) as f32;
        self.forward(device, &batch.pass, rows, targets, Some(&batch.picked), 0, picked.len(), scale)?;
        self.backward(device, &batch.pass, None)?;
        let parameters = self.parameters.len();
        let layers = [Arg::from(&self.places), Arg::from(self.layers.len() as u32)];
        let args = [
            layers[0],
            layers[1],
            Arg::from(&batch.pass.inputs),
            Arg::from(&batch.pass.slopes),
            Arg::from(batch.pass.padded as u32),
            Arg::from(batch.slabs as u32),
            Arg::from(parameters as u32),
            Arg::from(&batch.parts),
        ];
        let parts = (batch.parts.len() / parameters) as u32;
        device.launch(FIT, "gradient", [self.tiles() as u32, parts, 1], THREADS, 0, &args)?;
        let adam = step.adam();
        let adam =
            Adam { rate: adam.rate, keep: adam.keep, mean_scale: adam.mean_scale, square_scale: adam.square_scale };
        let args = [
            layers[0],
            layers[1],
            Arg::from(parameters as u32),
            Arg::from(&batch.parts),
            Arg::from(parts),
            Arg::of(&adam),
            Arg::from(&self.steps),
            Arg::from(self.top),
            Arg::from(&self.parameters),
            Arg::from(&self.moments[0]),
            Arg::from(&self.moments[1]),
            Arg::from(&self.seen),
        ];
        let blocks = parameters.div_ceil(4 * THREADS as usize);
        device.launch(FIT, "move_all", [blocks as u32, 1, 1], THREADS, 0, &args)?;
        self.batch = Some(batch);
        Ok(())
    }
}
