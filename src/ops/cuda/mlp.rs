//! The residual network (cuda/mlp.cu). Matrices that no caller sees have rows padded with zeros to a multiple of [`WIDE`].

use bytemuck::{Pod, Zeroable};

use super::{buffer::Buffer, device::Device, images::MLP, launch::Arg, rows::Rows};
use crate::{
    error::Error,
    model::mlp::{Mlp, rounded, top},
};

/// What widths are padded to, columns of a tile, and threads of a block (cuda/mlp.cuh).
pub(super) const WIDE: usize = 64;
pub(super) const THREADS: u32 = 256;

/// Rows that go through the network together at most, and values that stand between its layers then.
const PIECE: usize = 32_768;
const ROOM: usize = 1 << 26;

/// Where a layer stands (cuda/fit.cu).
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Place {
    pub(super) outputs: u32,
    pub(super) inputs: u32,
    /// Its first parameter: weights, outputs x inputs, padded both ways, then biases.
    pub(super) first: u32,
    /// Padded widths of the inputs, and outputs, of the layers before it.
    pub(super) inputs_at: u32,
    pub(super) outputs_at: u32,
    /// Tiles of the weights of the layers before it.
    pub(super) tiles_at: u32,
}

impl Place {
    fn wide(&self) -> usize {
        padded(self.inputs as usize)
    }

    pub(super) fn high(&self) -> usize {
        padded(self.outputs as usize)
    }

    /// Its first bias.
    fn biases(&self) -> usize {
        self.first as usize + self.high() * self.wide()
    }

    pub(super) fn tiles(&self) -> usize {
        self.high() / WIDE * (self.wide() / WIDE)
    }
}

/// A network with the state of its training.
pub(crate) struct Net {
    /// As it was loaded.
    loaded: Mlp,
    pub(super) layers: Vec<Place>,
    pub(super) places: Buffer<Place>,
    /// Of all layers, and what rows see of them: rounded weights, where there are steps.
    pub(super) parameters: Buffer<f32>,
    pub(super) seen: Buffer<f32>,
    /// Means of the gradients and of their squares.
    pub(super) moments: [Buffer<f32>; 2],
    /// Of each output, 0 where weights are not rounded.
    pub(super) steps: Buffer<f32>,
    pub(super) top: f32,
    input_scale: Buffer<f32>,
    /// What the last step worked with, kept for the next.
    pub(super) batch: Option<Batch>,
}

/// Rows on their way through the network.
pub(super) struct Pass {
    /// Rows, a multiple of those of a tile.
    pub(super) padded: usize,
    tall: bool,
    /// What goes into each layer, and the slopes at what comes out of it, one layer behind the other.
    pub(super) inputs: Buffer<f32>,
    pub(super) slopes: Buffer<f32>,
    /// Whether there are slopes of all layers, and not of the last alone.
    back: bool,
}

/// What the slopes before the first layer are for: addresses, and of which rows (cuda/mlp.cu).
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Aim {
    missing: u64,
    rows: u64,
    scale: u64,
    damp: u64,
    out: u64,
    first: u32,
    count: u32,
}

fn padded(width: usize) -> usize {
    width.next_multiple_of(WIDE)
}

impl Net {
    pub(super) fn upload(device: &Device, mlp: &Mlp) -> Result<Net, Error> {
        let mut layers: Vec<Place> = Vec::with_capacity(mlp.layers.len());
        for dense in &mlp.layers {
            let mut place =
                Place { outputs: dense.outputs() as u32, inputs: dense.inputs() as u32, ..Place::zeroed() };
            if let Some(before) = layers.last() {
                place.first = (before.biases() + before.high()) as u32;
                place.inputs_at = before.inputs_at + before.wide() as u32;
                place.outputs_at = before.outputs_at + before.high() as u32;
                place.tiles_at = before.tiles_at + before.tiles() as u32;
            }
            layers.push(place);
        }
        let last = layers[layers.len() - 1];
        let mut parameters = vec![0f32; last.biases() + last.high()];
        let mut steps = vec![0f32; last.outputs_at as usize + last.high()];
        for (place, dense) in layers.iter().zip(&mlp.layers) {
            for (o, row) in
                parameters[place.first as usize..].chunks_exact_mut(place.wide()).take(dense.outputs()).enumerate()
            {
                row[..dense.inputs()].copy_from_slice(dense.weights.row(o));
            }
            parameters[place.biases()..][..dense.outputs()].copy_from_slice(&dense.bias);
            steps[place.outputs_at as usize..][..dense.steps.len()].copy_from_slice(&dense.steps);
        }
        let mut seen = parameters.clone();
        let top = top(mlp.bits);
        for (place, dense) in layers.iter().zip(&mlp.layers) {
            for (row, &step) in seen[place.first as usize..].chunks_exact_mut(place.wide()).zip(&dense.steps) {
                row[..dense.inputs()].iter_mut().for_each(|w| *w = rounded(*w, step, top));
            }
        }
        Ok(Net {
            loaded: mlp.clone(),
            places: device.upload(&layers)?,
            parameters: device.upload(&parameters)?,
            seen: device.upload(&seen)?,
            moments: [device.zeros(parameters.len())?, device.zeros(parameters.len())?],
            steps: device.upload(&steps)?,
            top,
            input_scale: device.upload(&mlp.input_scale)?,
            layers,
            batch: None,
        })
    }

    pub(super) fn download(&self, device: &Device) -> Result<Mlp, Error> {
        let parameters = device.download(&self.parameters)?;
        let mut mlp = self.loaded.clone();
        for (place, dense) in self.layers.iter().zip(&mut mlp.layers) {
            let (outputs, inputs) = (dense.outputs(), dense.inputs());
            for (o, row) in parameters[place.first as usize..].chunks_exact(place.wide()).take(outputs).enumerate() {
                dense.weights.row_mut(o).copy_from_slice(&row[..inputs]);
            }
            dense.bias.copy_from_slice(&parameters[place.biases()..][..outputs]);
        }
        Ok(mlp)
    }

    /// Room for up to `count` rows; with `back`, for slopes of all layers.
    pub(super) fn pass(&self, device: &Device, count: usize, back: bool) -> Result<Pass, Error> {
        let last = self.layers[self.layers.len() - 1];
        let (inputs, slopes) =
            (last.inputs_at as usize + last.wide(), if back { last.outputs_at as usize } else { 0 } + last.high());
        // Tall tiles read less of the weights, where there are enough of them to go round.
        let narrowest = self.layers.iter().map(|place| place.high() / WIDE).min().unwrap_or(1);
        let tall = count / 128 * narrowest >= 2 * device.processors() as usize;
        let padded = count.max(1).next_multiple_of(if tall { 128 } else { 64 });
        Ok(Pass {
            padded,
            tall,
            inputs: device.alloc(padded * inputs)?,
            slopes: device.alloc(padded * slopes)?,
            back,
        })
    }

    /// Where the slopes of a layer stand.
    fn slopes<'a>(&self, pass: &'a Pass, layer: usize) -> Arg<'a> {
        let before = if pass.back { self.layers[layer].outputs_at as usize } else { 0 };
        Arg::at(&pass.slopes, pass.padded * before)
    }

    fn inputs<'a>(&self, pass: &'a Pass, layer: usize) -> Arg<'a> {
        Arg::at(&pass.inputs, pass.padded * self.layers[layer].inputs_at as usize)
    }

    /// The rows picked, or those from `first` on, through all layers: `scale` times what is left of their targets stands in the
    /// last slopes, zeros behind the last of them.
    #[allow(clippy::too_many_arguments, reason = "both callers have them at hand")]
    pub(super) fn forward(
        &self,
        device: &Device,
        pass: &Pass,
        rows: &Rows,
        targets: &Rows,
        picked: Option<&Buffer<u32>>,
        first: usize,
        count: usize,
        scale: f32,
    ) -> Result<(), Error> {
        let last = self.layers.len() - 1;
        let args = [
            Arg::from(&rows.values),
            Arg::from(&targets.values),
            Arg::from(rows.dim as u32),
            Arg::from(&self.input_scale),
            picked.map_or(Arg::null(), Arg::from),
            Arg::from(first as u32),
            Arg::from(count as u32),
            Arg::from(pass.padded as u32),
            self.inputs(pass, 0),
            self.slopes(pass, last),
        ];
        device.launch(MLP, "gather", [pass.padded as u32, 1, 1], 128, 0, &args)?;
        for (l, place) in self.layers.iter().enumerate() {
            let args = [
                self.inputs(pass, l),
                Arg::at(&self.seen, place.first as usize),
                Arg::at(&self.seen, place.biases()),
                Arg::from(place.inputs),
                Arg::from(place.outputs),
                if l < last { self.inputs(pass, l + 1) } else { Arg::null() },
                if l < last && !pass.back { Arg::null() } else { self.slopes(pass, l) },
                Arg::from(count as u32),
                Arg::from(scale),
            ];
            pass.multiply(device, ["forward_64", "forward_128"], place.high(), &args)?;
        }
        Ok(())
    }

    /// From the slopes of the last layer to those of all before it; with `aim`, to what that says.
    pub(super) fn backward(&self, device: &Device, pass: &Pass, aim: Option<Aim>) -> Result<(), Error> {
        for (l, place) in self.layers.iter().enumerate().skip(usize::from(aim.is_none())).rev() {
            let args = [
                self.slopes(pass, l),
                Arg::at(&self.seen, place.first as usize),
                Arg::from(place.inputs),
                Arg::from(place.outputs),
                if l > 0 { self.slopes(pass, l - 1) } else { Arg::null() },
                Arg::of(&aim.unwrap_or_default()),
            ];
            pass.multiply(device, ["backward_64", "backward_128"], place.wide(), &args)?;
        }
        Ok(())
    }

    /// Calls `each` with the number of the first row of every piece and how many it has, its rows gone through all layers.
    fn over(
        &self,
        device: &Device,
        rows: &Rows,
        targets: &Rows,
        back: bool,
        mut each: impl FnMut(&Pass, usize, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let last = self.layers[self.layers.len() - 1];
        let values = last.inputs_at as usize + last.wide() + last.outputs_at as usize + last.high();
        let most = (ROOM / values / 128 * 128).clamp(128, PIECE);
        // Of about the same size: all tiles of a pass are worked on, whatever is in them.
        let pieces = rows.n.div_ceil(most).max(1);
        let most = rows.n.div_ceil(pieces).next_multiple_of(128).min(rows.n);
        let pass = self.pass(device, most, back)?;
        for first in (0..rows.n).step_by(most.max(1)) {
            let count = most.min(rows.n - first);
            self.forward(device, &pass, rows, targets, None, first, count, 1.0)?;
            each(&pass, first, count)?;
        }
        Ok(())
    }

    pub(super) fn errors(&self, device: &Device, rows: &Rows, targets: &Rows) -> Result<Vec<f32>, Error> {
        let errors: Buffer<f32> = device.alloc(rows.n)?;
        let last = self.layers.len() - 1;
        self.over(device, rows, targets, false, |pass, first, count| {
            let args = [
                self.slopes(pass, last),
                Arg::from(rows.dim as u32),
                Arg::from(count as u32),
                Arg::at(&errors, first),
            ];
            device.launch(MLP, "misses", [count.div_ceil(8) as u32, 1, 1], THREADS, 0, &args)
        })?;
        device.download(&errors)
    }

    pub(super) fn code_targets(
        &self,
        device: &Device,
        rows: &Rows,
        targets: &Rows,
        damp: &[f32],
    ) -> Result<Rows, Error> {
        let out: Buffer<f32> = device.alloc(rows.n * rows.dim)?;
        let damp = device.upload(damp)?;
        let last = self.layers[self.layers.len() - 1];
        self.over(device, rows, targets, true, |pass, first, count| {
            let before = pass.padded * last.outputs_at as usize;
            let aim = Aim {
                missing: pass.slopes.part(before, pass.padded * last.high())?.0,
                rows: rows.values.pointer(),
                scale: self.input_scale.pointer(),
                damp: damp.pointer(),
                out: out.pointer(),
                first: first as u32,
                count: count as u32,
            };
            self.backward(device, pass, Some(aim))
        })?;
        Ok(Rows::new(out, rows.n, rows.dim))
    }
}

impl Pass {
    /// The kernel for tiles of 64 rows, or of 128, over so many columns.
    fn multiply(
        &self,
        device: &Device,
        kernels: [&'static str; 2],
        columns: usize,
        args: &[Arg<'_>],
    ) -> Result<(), Error> {
        let side = if self.tall { 128 } else { 64 };
        let grid = [(self.padded / side) as u32, (columns / WIDE) as u32, 1];
        device.launch(MLP, kernels[usize::from(self.tall)], grid, THREADS, 0, args)
    }
}

/// What a step works with.
pub(super) struct Batch {
    pub(super) count: usize,
    pub(super) picked: Buffer<u32>,
    pub(super) pass: Pass,
    /// Slabs of each part of the batch.
    pub(super) slabs: usize,
    /// Gradients of the parts.
    pub(super) parts: Buffer<f32>,
}
