//! The residual network: rows go through it so many at a time as the scratch has room for. fit.rs trains it.

use bytemuck::Zeroable;

use super::{
    buffer::{Bind, Buffer},
    device::Device,
    error::{failure, lock},
    kernel::{Kernel, Source, source},
    rows::{GROUPS, Part, Rows},
};
use crate::{
    error::Error,
    matrix::Mat,
    model::mlp::{Dense, Mlp, rounded, top},
    ops::layout::{MlpParams, MlpRowsParams},
};

static MLP: Source = source!("shared/four_narrow", "shared/tile", "shared/mlp_product", "mlp");

static FORWARD: Kernel = kernel("forward", &[]);
static FORWARD_LAST: Kernel = kernel("forward_last", &[]);
static BACKWARD: Kernel = kernel("backward", &[("RIGHT_DOWN", 1.0)]);
static AIM: Kernel = kernel("aim", &[("RIGHT_DOWN", 1.0)]);
static GATHER: Kernel = kernel("gather", &[]);
static MISSES: Kernel = kernel("misses", &[]);
#[cfg(test)]
pub(super) static KERNELS: &[&Kernel] = &[&FORWARD, &FORWARD_LAST, &BACKWARD, &AIM, &GATHER, &MISSES];

const fn kernel(entry: &'static str, constants: &'static [(&'static str, f64)]) -> Kernel {
    Kernel { source: &MLP, entry, constants }
}

/// Rows and columns of a tile (shaders/shared/mlp_product.wgsl).
pub(super) const SIDE: usize = 64;
/// Rows that are measured by a group (shaders/mlp.wgsl).
const GROUP_ROWS: usize = 8;
/// Rows that go through the network together, at most.
const ROWS: usize = 16_384;
/// Multiply-adds of a launch, at most: some 0.4 s of what is slow. To measure how fast the device is would mean to wait for it.
const WORK: usize = 1 << 31;
/// Values of a layer: few enough for the loops of an invocation.
const MOST_VALUES: usize = 1 << 15;

/// A network on the device, with the state of its training.
pub(crate) struct Net {
    input_scale: Vec<f32>,
    bits: u8,
    pub(super) scale: Buffer<f32>,
    pub(super) layers: Vec<Layer>,
    /// Of batches, kept from one to the next.
    pub(super) scratch: Option<Scratch>,
}

/// A layer: weights, outputs x inputs, and behind them biases in each buffer.
pub(super) struct Layer {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    /// Empty where weights are not rounded.
    steps: Vec<f32>,
    pub(super) steps_there: Buffer<f32>,
    pub(super) parameters: Buffer<f32>,
    /// What rows see: rounded, where there are steps.
    pub(super) seen: Buffer<f32>,
    /// Means of the gradients and of their squares.
    pub(super) moments: [Buffer<f32>; 2],
    /// Of each split of a batch.
    pub(super) gradients: Buffer<f32>,
}

/// What rows leave in the network.
pub(super) struct Scratch {
    /// Rows that there is room for.
    pub(super) rows: usize,
    /// What is missing before the network.
    differences: Buffer<f32>,
    /// What goes into each layer.
    pub(super) inputs: Vec<Buffer<f32>>,
    /// What comes out of each but the last, before the activation.
    outputs: Vec<Buffer<f32>>,
    /// The slope of the loss behind each layer, or for a loss of half the squared distance what is missing.
    pub(super) slopes: Vec<Buffer<f32>>,
}

/// Which rows of a part go into the network.
pub(super) enum Which<'a> {
    /// Neighbours, from this one on.
    From(usize),
    /// Those of a list of moves, from this one on.
    Listed(&'a Buffer<[u32; 2]>, usize),
}

impl Net {
    pub(super) fn upload(device: &Device, mlp: &Mlp) -> Result<Net, Error> {
        let widest = mlp.layers.iter().map(|dense| dense.inputs().max(dense.outputs())).max().unwrap_or(0);
        if widest > MOST_VALUES {
            return Err(failure(format!(
                "a layer of {widest} values has more than {MOST_VALUES}; use --backend cpu"
            )));
        }
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
            let mut weights = device.download(&layer.parameters)?;
            let bias = weights.split_off(layer.weights());
            Ok(Dense { weights: Mat::new(weights, layer.outputs, layer.inputs)?, bias, steps: layer.steps.clone() })
        };
        let layers = self.layers.iter().map(of).collect::<Result<_, _>>()?;
        Ok(Mlp { input_scale: self.input_scale.clone(), layers, bits: self.bits })
    }

    /// Values of a row.
    pub(super) fn width(&self) -> usize {
        self.input_scale.len()
    }

    /// The largest multiple of a step.
    pub(super) fn top(&self) -> f32 {
        top(self.bits)
    }

    /// Kernels index by these shapes.
    pub(super) fn check(&self, rows: &Rows, targets: &Rows) -> Result<(), Error> {
        if (rows.dim, targets.dim, targets.n) == (self.width(), self.width(), rows.n) {
            return Ok(());
        }
        let (n, d, m, a) = (rows.n, rows.dim, targets.n, targets.dim);
        Err(failure(format!("{n} rows of {d} values and {m} targets of {a} for a network of {}", self.width())))
    }

    /// Rows that go through the network together.
    pub(super) fn piece(&self, device: &Device) -> usize {
        let widest = self.layers.iter().map(|layer| layer.inputs.max(layer.outputs)).max().unwrap_or(1);
        let weights = self.layers.iter().map(Layer::weights).max().unwrap_or(1);
        let most = ROWS.min(WORK / weights).min(device.binding_limit() / size_of::<f32>() / widest);
        (most / SIDE * SIDE).max(most.clamp(1, SIDE))
    }

    pub(super) fn scratch(&self, device: &Device, rows: usize) -> Result<Scratch, Error> {
        let room = |widths: &mut dyn Iterator<Item = usize>| -> Result<Vec<Buffer<f32>>, Error> {
            widths.map(|width| device.alloc(rows * width)).collect()
        };
        let outputs = || self.layers.iter().map(|layer| layer.outputs);
        Ok(Scratch {
            rows,
            differences: device.alloc(rows * self.width())?,
            inputs: room(&mut self.layers.iter().map(|layer| layer.inputs))?,
            outputs: room(&mut outputs().take(self.layers.len() - 1))?,
            slopes: room(&mut outputs())?,
        })
    }

    /// Brings `count` rows and what their targets differ by.
    pub(super) fn gather(
        &self,
        device: &Device,
        scratch: &Scratch,
        [rows, targets]: [Part<'_>; 2],
        which: &Which<'_>,
        count: usize,
    ) -> Result<(), Error> {
        let (first, moves): (usize, &dyn Bind) = match which {
            Which::From(first) => (*first, &self.scale),
            Which::Listed(moves, first) => (*first, *moves),
        };
        let params = MlpRowsParams {
            count: count as u32,
            width: self.width() as u32,
            first: first as u32,
            listed: u32::from(matches!(which, Which::Listed(..))),
        };
        let bindings: [(u32, &dyn Bind); 6] = [
            (1, targets.values),
            (2, moves),
            (4, &self.scale),
            (5, rows.values),
            (6, &scratch.inputs[0]),
            (7, &scratch.differences),
        ];
        device.launch(&GATHER, [count.min(GROUPS) as u32, 1, 1], &params, &bindings)
    }

    /// The rows in the scratch through all layers; `scale` times what is missing then is the slope behind the last.
    pub(super) fn forward(&self, device: &Device, scratch: &Scratch, count: usize, scale: f32) -> Result<(), Error> {
        let last = self.layers.len() - 1;
        for (l, layer) in self.layers.iter().enumerate() {
            let params = MlpParams { scale, ..params(count, layer.outputs, layer.inputs) };
            let (kernel, third, fourth) = if l == last {
                (&FORWARD_LAST, &scratch.differences, &scratch.slopes[l])
            } else {
                (&FORWARD, &scratch.outputs[l], &scratch.inputs[l + 1])
            };
            let bindings: [(u32, &dyn Bind); 4] =
                [(1, &scratch.inputs[l]), (2, &layer.seen), (3, third), (4, fourth)];
            device.launch(kernel, tiles(&params), &params, &bindings)?;
        }
        Ok(())
    }

    /// From the slopes behind the last layer to those behind the others.
    pub(super) fn backward(&self, device: &Device, scratch: &Scratch, count: usize) -> Result<(), Error> {
        for (l, layer) in self.layers.iter().enumerate().skip(1).rev() {
            let params = params(count, layer.inputs, layer.outputs);
            let bindings: [(u32, &dyn Bind); 4] = [
                (1, &scratch.slopes[l]),
                (2, &layer.seen),
                (3, &scratch.outputs[l - 1]),
                (4, &scratch.slopes[l - 1]),
            ];
            device.launch(&BACKWARD, tiles(&params), &params, &bindings)?;
        }
        Ok(())
    }

    /// Takes all rows through the network; `then` is called with a part of the rows, its number, and which rows of it are in the
    /// scratch: the first and how many.
    fn over(
        &self,
        device: &Device,
        rows: &Rows,
        targets: &Rows,
        mut then: impl FnMut(&Scratch, Part<'_>, usize, [usize; 2]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.check(rows, targets)?;
        let each = self.piece(device).min(rows.n.max(1));
        let scratch = self.scratch(device, each)?;
        // Matrices of one shape are split alike.
        for (p, (part, goal)) in rows.parts().zip(targets.parts()).enumerate() {
            for first in (0..part.count).step_by(each) {
                let count = each.min(part.count - first);
                self.gather(device, &scratch, [part, goal], &Which::From(first), count)?;
                self.forward(device, &scratch, count, 1.0)?;
                then(&scratch, part, p, [first, count])?;
                device.send(&mut lock(&device.pending));
            }
        }
        device.check()
    }

    pub(super) fn errors(&self, device: &Device, rows: &Rows, targets: &Rows) -> Result<Vec<f32>, Error> {
        let errors = rows.parts().map(|part| device.alloc(part.count)).collect::<Result<Vec<_>, _>>()?;
        self.over(device, rows, targets, |scratch, _, p, [first, count]| {
            let params =
                MlpRowsParams { count: count as u32, width: self.width() as u32, first: first as u32, listed: 0 };
            let bindings: [(u32, &dyn Bind); 2] = [(3, &scratch.slopes[self.layers.len() - 1]), (4, &errors[p])];
            device.launch(&MISSES, [count.div_ceil(GROUP_ROWS) as u32, 1, 1], &params, &bindings)
        })?;
        let parts: Vec<_> = errors.iter().map(|part| (part, 0..part.len())).collect();
        device.download_parts(&parts)
    }

    pub(super) fn code_targets(
        &self,
        device: &Device,
        rows: &Rows,
        targets: &Rows,
        damp: &[f32],
    ) -> Result<Rows, Error> {
        if damp.len() != rows.n {
            return Err(failure(format!("{} values to damp {} rows", damp.len(), rows.n)));
        }
        let aimed = Rows::zeros(device, rows.n, rows.dim)?;
        let damp = rows.parts().map(|part| device.upload(&damp[part.first..part.first + part.count]));
        let damp = damp.collect::<Result<Vec<_>, _>>()?;
        let to: Vec<_> = aimed.parts().collect();
        let layer = &self.layers[0];
        self.over(device, rows, targets, |scratch, part, p, [first, count]| {
            self.backward(device, scratch, count)?;
            let params = MlpParams { first: first as u32, ..params(count, layer.inputs, layer.outputs) };
            let bindings: [(u32, &dyn Bind); 7] = [
                (1, &scratch.slopes[0]),
                (2, &layer.seen),
                (3, &scratch.slopes[self.layers.len() - 1]),
                (4, &self.scale),
                (5, part.values),
                (6, &damp[p]),
                (7, to[p].values),
            ];
            device.launch(&AIM, tiles(&params), &params, &bindings)
        })?;
        Ok(aimed)
    }
}

impl Layer {
    fn new(device: &Device, dense: &Dense, bits: u8) -> Result<Layer, Error> {
        let mut parameters = [dense.weights.as_slice(), &dense.bias].concat();
        let (there, count) = (device.upload_whole(&parameters)?, parameters.len());
        let top = top(bits);
        for (weights, &step) in parameters.chunks_exact_mut(dense.inputs()).zip(&dense.steps) {
            weights.iter_mut().for_each(|w| *w = rounded(*w, step, top));
        }
        let splits = splits(dense.outputs(), dense.inputs());
        Ok(Layer {
            inputs: dense.inputs(),
            outputs: dense.outputs(),
            steps: dense.steps.clone(),
            steps_there: device.upload(&dense.steps)?,
            parameters: there,
            seen: device.upload_whole(&parameters)?,
            moments: [device.alloc_whole(count)?, device.alloc_whole(count)?],
            gradients: device.alloc_whole(splits * count)?,
        })
    }

    pub(super) fn weights(&self) -> usize {
        self.outputs * self.inputs
    }

    pub(super) fn rounds(&self) -> bool {
        !self.steps.is_empty()
    }

    pub(super) fn splits(&self) -> usize {
        splits(self.outputs, self.inputs)
    }
}

/// Tiles that fill a device: where a gradient has fewer, the rows of the batch are shared out.
const FILL: usize = 256;
const MOST_SPLITS: usize = 16;

fn splits(outputs: usize, inputs: usize) -> usize {
    let tiles = outputs.div_ceil(SIDE) * (inputs + 1).div_ceil(SIDE);
    (FILL / tiles).clamp(1, MOST_SPLITS)
}

/// Of a product rows x columns.
pub(super) fn params(rows: usize, columns: usize, depth: usize) -> MlpParams {
    MlpParams { rows: rows as u32, columns: columns as u32, depth: depth as u32, ..MlpParams::zeroed() }
}

/// Groups for all tiles.
fn tiles(params: &MlpParams) -> [u32; 3] {
    [params.rows.div_ceil(SIDE as u32), params.columns.div_ceil(SIDE as u32), 1]
}
