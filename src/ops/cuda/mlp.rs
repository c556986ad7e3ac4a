//! The residual network (cuda/mlp.cu): rows go through it so many at a time as the scratch has room for.

use bytemuck::{Pod, Zeroable};

use super::{buffer::Buffer, device::Device, error::misuse, images::MLP, launch::Arg, rows::Rows};
use crate::{
    Error, Mat,
    ops::mlp::{Dense, FitStep, Mlp, rounded, top},
};

/// Rows and columns of a tile (cuda/mlp.cu).
const TILE: usize = 64;
/// Rows that go through the network together, at most, and values of a layer they then have.
const ROWS: usize = 1 << 16;
const VALUES: usize = 1 << 26;
/// Parts of a batch whose gradients are added up in order, at most, and rows of one at least.
const PARTS: usize = 16;
const PART_ROWS: usize = 64;

/// A network on the device, with the state of its training.
pub(crate) struct Net {
    input_scale: Vec<f32>,
    bits: u8,
    scale: Buffer<f32>,
    layers: Vec<Layer>,
    /// Of batches, kept from one to the next.
    scratch: Option<Scratch>,
}

struct Layer {
    inputs: usize,
    outputs: usize,
    /// Empty where weights are not rounded.
    steps: Vec<f32>,
    steps_there: Buffer<f32>,
    weights: Buffer<f32>,
    bias: Buffer<f32>,
    /// What rows see: rounded, where there are steps.
    seen: Buffer<f32>,
    /// Means of the gradients and of their squares, biases behind the weights of each output; empty before the first step.
    moments: Option<[Buffer<f32>; 2]>,
}

/// What rows leave in the network.
struct Scratch {
    /// Rows that there is room for.
    rows: usize,
    /// What is missing before the network.
    missing: Buffer<f32>,
    /// What goes into each layer.
    inputs: Vec<Buffer<f32>>,
    /// What comes out of each but the last, before the activation.
    outputs: Vec<Buffer<f32>>,
    /// The slope of the loss behind each layer, or what is missing.
    slopes: Vec<Buffer<f32>>,
    /// Of the gradient of any layer.
    parts: Buffer<f32>,
}

/// [`Adam`](crate::ops::mlp::Adam), as the kernel has it.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct AdamArg {
    rate: f32,
    keep: f32,
    mean_scale: f32,
    square_scale: f32,
}

impl Layer {
    fn new(device: &Device, dense: &Dense, bits: u8) -> Result<Layer, Error> {
        let mut seen = dense.weights.as_slice().to_vec();
        let top = top(bits);
        for (row, &step) in seen.chunks_exact_mut(dense.inputs().max(1)).zip(&dense.steps) {
            row.iter_mut().for_each(|w| *w = rounded(*w, step, top));
        }
        Ok(Layer {
            inputs: dense.inputs(),
            outputs: dense.outputs(),
            steps: dense.steps.clone(),
            steps_there: device.upload(&dense.steps)?,
            weights: device.upload(dense.weights.as_slice())?,
            bias: device.upload(&dense.bias)?,
            seen: device.upload(&seen)?,
            moments: None,
        })
    }

    /// Weights and biases.
    fn parameters(&self) -> usize {
        self.outputs * (self.inputs + 1)
    }
}

fn grid(rows: usize, columns: usize) -> [u32; 3] {
    [rows.div_ceil(TILE) as u32, columns.div_ceil(TILE) as u32, 1]
}

impl Net {
    pub(super) fn new(device: &Device, mlp: &Mlp) -> Result<Net, Error> {
        Ok(Net {
            input_scale: mlp.input_scale.clone(),
            bits: mlp.bits,
            scale: device.upload(&mlp.input_scale)?,
            layers: mlp.layers.iter().map(|dense| Layer::new(device, dense, mlp.bits)).collect::<Result<_, _>>()?,
            scratch: None,
        })
    }

    pub(super) fn download(&self, device: &Device) -> Result<Mlp, Error> {
        let of = |layer: &Layer| -> Result<Dense, Error> {
            let weights = Mat::new(device.download(&layer.weights)?, layer.outputs, layer.inputs)?;
            Ok(Dense { weights, bias: device.download(&layer.bias)?, steps: layer.steps.clone() })
        };
        let layers = self.layers.iter().map(of).collect::<Result<_, _>>()?;
        Ok(Mlp { input_scale: self.input_scale.clone(), layers, bits: self.bits })
    }

    fn width(&self) -> usize {
        self.input_scale.len()
    }

    /// Kernels index by these shapes.
    fn check(&self, rows: &Rows, targets: &Rows) -> Result<(), Error> {
        if (rows.dim, targets.dim, targets.n) == (self.width(), self.width(), rows.n) {
            return Ok(());
        }
        let (n, d, m, a) = (rows.n, rows.dim, targets.n, targets.dim);
        Err(misuse(format!("{n} rows of {d} values and {m} targets of {a} for a network of {}", self.width())))
    }

    /// Rows that go through the network together.
    fn piece(&self) -> usize {
        let widest = self.layers.iter().map(|layer| layer.inputs.max(layer.outputs)).max().unwrap_or(1);
        (VALUES / widest.max(1)).clamp(1, ROWS)
    }

    fn scratch(&self, device: &Device, rows: usize, training: bool) -> Result<Scratch, Error> {
        let room = |widths: &mut dyn Iterator<Item = usize>| -> Result<Vec<Buffer<f32>>, Error> {
            widths.map(|width| device.alloc(rows * width)).collect()
        };
        let outputs = || self.layers.iter().map(|layer| layer.outputs);
        let most = self.layers.iter().map(Layer::parameters).max().unwrap_or(0);
        Ok(Scratch {
            rows,
            missing: device.alloc(rows * self.width())?,
            inputs: room(&mut self.layers.iter().map(|layer| layer.inputs))?,
            outputs: room(&mut outputs().take(self.layers.len() - 1))?,
            slopes: room(&mut outputs())?,
            parts: device.alloc(if training { PARTS * most } else { 0 })?,
        })
    }

    /// Rows, those `picked` or from `first` on, through all layers; `scale` times what is missing then stands behind the last.
    fn forward(
        &self,
        device: &Device,
        scratch: &Scratch,
        (rows, targets): (&Rows, &Rows),
        (picked, first, count): (Option<&Buffer<u32>>, usize, usize),
        scale: f32,
    ) -> Result<(), Error> {
        let args = [
            Arg::from(&rows.values),
            Arg::from(&targets.values),
            picked.map_or(Arg::null(), Arg::from),
            Arg::from(first as u32),
            Arg::from(count as u32),
            Arg::from(self.width() as i32),
            Arg::from(&self.scale),
            Arg::from(&scratch.inputs[0]),
            Arg::from(&scratch.missing),
        ];
        device.launch(MLP, "gather_rows", [count as u32, 1, 1], 128, 0, &args)?;
        let last = self.layers.len() - 1;
        for (l, layer) in self.layers.iter().enumerate() {
            let mut args = vec![
                Arg::from(&scratch.inputs[l]),
                Arg::from(count as u32),
                Arg::from(layer.inputs as i32),
                Arg::from(&layer.seen),
                Arg::from(&layer.bias),
                Arg::from(layer.outputs as u32),
            ];
            let kernel = if l == last {
                args.extend([Arg::from(&scratch.missing), Arg::from(scale), Arg::from(&scratch.slopes[l])]);
                "forward_last"
            } else {
                args.extend([Arg::from(&scratch.outputs[l]), Arg::from(&scratch.inputs[l + 1])]);
                "forward"
            };
            device.launch(MLP, kernel, grid(count, layer.outputs), 256, 0, &args)?;
        }
        Ok(())
    }

    /// From the slopes behind the last layer to those behind each before it.
    fn backward(&self, device: &Device, scratch: &Scratch, count: usize) -> Result<(), Error> {
        for (l, layer) in self.layers.iter().enumerate().skip(1).rev() {
            let args = [
                Arg::from(&scratch.slopes[l]),
                Arg::from(count as u32),
                Arg::from(layer.outputs as i32),
                Arg::from(&layer.seen),
                Arg::from(layer.inputs as u32),
                Arg::from(&scratch.outputs[l - 1]),
                Arg::from(&scratch.slopes[l - 1]),
            ];
            device.launch(MLP, "backward", grid(count, layer.inputs), 256, 0, &args)?;
        }
        Ok(())
    }

    pub(super) fn fit(
        &mut self,
        device: &Device,
        rows: &Rows,
        targets: &Rows,
        picked: &[u32],
        step: FitStep,
    ) -> Result<(), Error> {
        self.check(rows, targets)?;
        if let Some(missing) = picked.iter().find(|&&i| i as usize >= rows.n) {
            return Err(misuse(format!("row {missing} of {}", rows.n)));
        }
        if picked.is_empty() || self.width() == 0 {
            return Ok(());
        }
        let count = picked.len();
        let scratch = match self.scratch.take().filter(|scratch| scratch.rows >= count) {
            Some(scratch) => scratch,
            None => self.scratch(device, count, true)?,
        };
        let numbers = device.upload(picked)?;
        let scale = -2.0 / (count * self.width()) as f32;
        self.forward(device, &scratch, (rows, targets), (Some(&numbers), 0, count), scale)?;
        self.backward(device, &scratch, count)?;
        let top = top(self.bits);
        for (l, layer) in self.layers.iter_mut().enumerate() {
            layer.step(device, &scratch, l, count, step, top)?;
        }
        self.scratch = Some(scratch);
        Ok(())
    }

    pub(super) fn misses(&self, device: &Device, rows: &Rows, targets: &Rows) -> Result<Vec<f32>, Error> {
        self.check(rows, targets)?;
        let errors = device.zeros(rows.n)?;
        self.pieces(device, rows, targets, |scratch, first, count| {
            let args = [
                Arg::from(&scratch.slopes[self.layers.len() - 1]),
                Arg::from(count as u32),
                Arg::from(self.width() as i32),
                Arg::from(first as u32),
                Arg::from(&errors),
            ];
            device.launch(MLP, "square_rows", [count.div_ceil(8) as u32, 1, 1], 256, 0, &args)
        })?;
        device.download(&errors)
    }

    pub(super) fn aim(&self, device: &Device, rows: &Rows, targets: &Rows, damp: &[f32]) -> Result<Rows, Error> {
        self.check(rows, targets)?;
        if damp.len() != rows.n {
            return Err(misuse(format!("{} values of damp for {} rows", damp.len(), rows.n)));
        }
        let (damp, out) = (device.upload(damp)?, device.alloc(rows.n * rows.dim)?);
        self.pieces(device, rows, targets, |scratch, first, count| {
            self.backward(device, scratch, count)?;
            let layer = &self.layers[0];
            let args = [
                Arg::from(&scratch.slopes[0]),
                Arg::from(count as u32),
                Arg::from(layer.outputs as i32),
                Arg::from(&layer.seen),
                Arg::from(layer.inputs as u32),
                Arg::from(&rows.values),
                Arg::from(first as u32),
                Arg::from(&damp),
                Arg::from(&scratch.slopes[self.layers.len() - 1]),
                Arg::from(&self.scale),
                Arg::from(&out),
            ];
            device.launch(MLP, "aim_rows", grid(count, layer.inputs), 256, 0, &args)
        })?;
        Ok(Rows::new(out, rows.n, rows.dim))
    }

    /// All rows through the network, so many at a time; `each` is given what they left, the first of them and their number.
    fn pieces(
        &self,
        device: &Device,
        rows: &Rows,
        targets: &Rows,
        each: impl Fn(&Scratch, usize, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if rows.n == 0 || self.width() == 0 {
            return Ok(());
        }
        let piece = self.piece().min(rows.n);
        let scratch = self.scratch(device, piece, false)?;
        for first in (0..rows.n).step_by(piece) {
            let count = piece.min(rows.n - first);
            self.forward(device, &scratch, (rows, targets), (None, first, count), 1.0)?;
            each(&scratch, first, count)?;
        }
        Ok(())
    }
}

impl Layer {
    /// Moves layer `l` by what a batch of `count` rows has left.
    fn step(
        &mut self,
        device: &Device,
        scratch: &Scratch,
        l: usize,
        count: usize,
        step: FitStep,
        top: f32,
    ) -> Result<(), Error> {
        let (outputs, inputs) = (self.outputs, self.inputs);
        // Enough tiles for all processors; the number follows from the shapes alone, as the order of sums does.
        let share = count.div_ceil(PARTS).max(PART_ROWS).next_multiple_of(16);
        let parts = count.div_ceil(share);
        let args = [
            Arg::from(&scratch.slopes[l]),
            Arg::from(outputs as u32),
            Arg::from(&scratch.inputs[l]),
            Arg::from(inputs as u32),
            Arg::from(count as u32),
            Arg::from(share as u32),
            Arg::from(&scratch.parts),
        ];
        let [x, y, _] = grid(outputs, inputs + 1);
        device.launch(MLP, "gradient", [x, y, parts as u32], 256, 0, &args)?;
        if self.moments.is_none() {
            self.moments = Some([device.zeros(self.parameters())?, device.zeros(self.parameters())?]);
        }
        let Some([means, squares]) = &self.moments else { return Err(misuse("a layer without moments")) };
        let adam = step.adam();
        let adam = AdamArg {
            rate: adam.rate,
            keep: adam.keep,
            mean_scale: adam.mean_scale,
            square_scale: adam.square_scale,
        };
        let args = [
            Arg::from(&scratch.parts),
            Arg::from(parts as u32),
            Arg::from(outputs as u32),
            Arg::from(inputs as u32),
            Arg::of(&adam),
            Arg::from(&self.weights),
            Arg::from(&self.bias),
            Arg::from(means),
            Arg::from(squares),
            if self.steps.is_empty() { Arg::null() } else { Arg::from(&self.steps_there) },
            Arg::from(top),
            Arg::from(&self.seen),
        ];
        let blocks = self.parameters().div_ceil(256).min(32 * device.processors() as usize);
        device.launch(MLP, "move_weights", [blocks as u32, 1, 1], 256, 0, &args)
    }
}
