//! The step of the anchors (shaders/update.wgsl).

use super::{
    buffer::Bind,
    device::Device,
    kernel::{Kernel, Source, source},
    reduce::{Stats, strided},
    rows::Rows,
};
use crate::{
    error::Error,
    ops::{layout::UpdateParams, types::Step},
};

static UPDATE: Source = source!("update");
static PLAIN: Kernel = Kernel { source: &UPDATE, entry: "update", constants: &[] };
static NOISY: Kernel = Kernel { source: &UPDATE, entry: "update_noisy", constants: &[] };
#[cfg(test)]
pub(super) static KERNELS: &[&Kernel] = &[&PLAIN, &NOISY];

pub(super) fn update(device: &Device, anchors: &mut Rows, stats: &Stats, step: Step<'_>) -> Result<(), Error> {
    anchors.changed();
    let noise = step.noise.map(|noise| Rows::upload(device, noise)).transpose()?;
    // Matrices of one shape are split alike.
    let mut noise_parts = noise.iter().flat_map(Rows::parts);
    for (part, means) in anchors.parts().zip(stats.means.parts()) {
        let values = part.count * anchors.dim;
        if values == 0 {
            continue;
        }
        let params = UpdateParams {
            first: part.first as u32,
            count: part.count as u32,
            dim: anchors.dim as u32,
            rate: step.learning_rate,
        };
        let mut bindings: Vec<(u32, &dyn Bind)> = vec![(1, part.values), (2, means.values), (3, &stats.counts)];
        let noise = noise_parts.next();
        let kernel = if let Some(noise) = &noise {
            bindings.push((4, noise.values));
            &NOISY
        } else {
            &PLAIN
        };
        device.launch(kernel, strided(values), &params, &bindings)?;
    }
    Ok(())
}
