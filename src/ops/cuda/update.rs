//! The step of the anchors (cuda/update.cu).

use super::{device::Device, images::UPDATE, launch::Arg, reduce::Stats, rows::Rows};
use crate::{error::Error, ops::types::Step};

pub(super) fn update(device: &Device, anchors: &mut Rows, stats: &Stats, step: Step<'_>) -> Result<(), Error> {
    anchors.changed();
    if anchors.n * anchors.dim == 0 {
        return Ok(());
    }
    let noise = step.noise.map(|noise| device.upload(noise.as_slice())).transpose()?;
    let args = [
        Arg::from(&anchors.values),
        Arg::from(anchors.n as u32),
        Arg::from(anchors.dim as i32),
        Arg::from(&stats.means),
        Arg::from(&stats.counts),
        Arg::from(step.learning_rate),
        noise.as_ref().map_or(Arg::null(), Arg::from),
    ];
    let blocks = (anchors.n * anchors.dim).div_ceil(256).min(32 * device.processors() as usize);
    device.launch(UPDATE, "update", [blocks as u32, 1, 1], 256, 0, &args)
}
