//! One step of the training of the residual network: commands alone, so that the host is ahead of the device.

use super::{
    buffer::{Bind, Buffer},
    device::Device,
    error::failure,
    kernel::{Kernel, Source, source},
    mlp::{Layer, Net, SIDE, Scratch, Which, params},
    reduce::strided,
    rows::Rows,
};
use crate::{
    error::Error,
    ops::{
        layout::{MlpParams, MoveParams},
        mlp::{Adam, BETA_1, BETA_2, EPSILON, FitStep},
    },
};

static FIT: Source = source!("shared/four_narrow", "shared/tile", "shared/mlp_product", "fit");

static GRADIENT: Kernel =
    Kernel { source: &FIT, entry: "gradient", constants: &[("LEFT_DOWN", 1.0), ("RIGHT_DOWN", 1.0), ("ONES", 1.0)] };
static MOVE: Kernel = Kernel {
    source: &FIT,
    entry: "move_parameters",
    constants: &[("BETA_1", BETA_1 as f64), ("BETA_2", BETA_2 as f64), ("EPSILON", EPSILON as f64)],
};
#[cfg(test)]
pub(super) static KERNELS: &[&Kernel] = &[&GRADIENT, &MOVE];

/// Columns of a slice of a product (shaders/shared/mlp_product.wgsl).
const DEPTH: usize = 16;

/// Where the rows of a batch come from.
struct Moves {
    /// The row within its part, and its place within its piece.
    list: Buffer<[u32; 2]>,
    runs: Vec<Run>,
}

/// Moves of one piece from one part.
struct Run {
    piece: usize,
    part: usize,
    first: usize,
    count: usize,
}

impl Moves {
    /// Of pieces of `each` rows. The list is a buffer of its own for each batch: the host is ahead, and a write to what an earlier
    /// batch reads could come before that batch is sent.
    fn new(device: &Device, rows: &Rows, picked: &[u32], each: usize) -> Result<Moves, Error> {
        let mut list = Vec::with_capacity(picked.len());
        let mut runs = Vec::new();
        for (piece, picked) in picked.chunks(each).enumerate() {
            for (part, from) in rows.parts().enumerate() {
                let first = list.len();
                list.extend(picked.iter().enumerate().filter_map(|(place, &row)| {
                    let within = (row as usize).checked_sub(from.first).filter(|&at| at < from.count)?;
                    Some([within as u32, place as u32])
                }));
                if list.len() > first {
                    runs.push(Run { piece, part, first, count: list.len() - first });
                }
            }
        }
        if list.len() < picked.len() {
            return Err(failure(format!("{} of {} rows are not there", picked.len() - list.len(), picked.len())));
        }
        Ok(Moves { list: device.upload(&list)?, runs })
    }
}

impl Net {
    pub(super) fn fit(
        &mut self,
        device: &Device,
        rows: &Rows,
        targets: &Rows,
        picked: &[u32],
        step: FitStep,
    ) -> Result<(), Error> {
        self.check(rows, targets)?;
        let each = self.piece(device).min(picked.len().max(1));
        let moves = Moves::new(device, rows, picked, each)?;
        let scratch = match self.scratch.take() {
            Some(scratch) if scratch.rows >= each => scratch,
            _ => self.scratch(device, each)?,
        };
        let parts: Vec<_> = rows.parts().zip(targets.parts()).map(|(from, to)| [from, to]).collect();
        let scale = -2.0 / (picked.len() * self.width()).max(1) as f32;
        for (piece, picked) in picked.chunks(each).enumerate() {
            for run in moves.runs.iter().filter(|run| run.piece == piece) {
                let which = Which::Listed(&moves.list, run.first);
                self.gather(device, &scratch, parts[run.part], &which, run.count)?;
            }
            self.forward(device, &scratch, picked.len(), scale)?;
            self.backward(device, &scratch, picked.len())?;
            for (l, layer) in self.layers.iter().enumerate() {
                layer.gradient(device, &scratch, l, picked.len(), piece > 0)?;
            }
        }
        for layer in &self.layers {
            if picked.is_empty() {
                device.clear(&layer.gradients)?;
            }
            layer.step(device, &step.adam(), self.top())?;
        }
        self.scratch = Some(scratch);
        Ok(())
    }
}

impl Layer {
    /// The gradient of layer `l`, this one, of the rows in the scratch; added to what there is, or in place of it.
    fn gradient(&self, device: &Device, scratch: &Scratch, l: usize, count: usize, add: bool) -> Result<(), Error> {
        let splits = self.splits();
        let params = MlpParams {
            each: count.div_ceil(splits).next_multiple_of(DEPTH) as u32,
            add: u32::from(add),
            ..params(self.outputs, self.inputs, count)
        };
        let groups = [self.outputs.div_ceil(SIDE) as u32, (self.inputs + 1).div_ceil(SIDE) as u32, splits as u32];
        let bindings: [(u32, &dyn Bind); 3] =
            [(1, &scratch.slopes[l]), (2, &scratch.inputs[l]), (3, &self.gradients)];
        device.launch(&GRADIENT, groups, &params, &bindings)
    }

    /// Moves weights and biases, and rounds what rows see.
    fn step(&self, device: &Device, adam: &Adam, top: f32) -> Result<(), Error> {
        let params = MoveParams {
            count: self.parameters.len() as u32,
            weights: self.weights() as u32,
            inputs: self.inputs as u32,
            splits: self.splits() as u32,
            rounds: u32::from(self.rounds()),
            top,
            rate: adam.rate,
            keep: adam.keep,
            mean_scale: adam.mean_scale,
            square_scale: adam.square_scale,
            _pad0: 0,
            _pad1: 0,
        };
        let bindings: [(u32, &dyn Bind); 6] = [
            (1, &self.gradients),
            (2, &self.steps_there),
            (3, &self.parameters),
            (4, &self.seen),
            (5, &self.moments[0]),
            (6, &self.moments[1]),
        ];
        device.launch(&MOVE, strided(self.parameters.len()), &params, &bindings)
    }
}
