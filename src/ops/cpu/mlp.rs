//! The residual network: rows a chunk at a time, the gradients of its weights a block at a time, so that no sum depends on the
//! number of threads.

use faer::{Accum, Par, linalg::matmul::matmul};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::{
    math::product::{CHUNK, product_nn, product_nt},
    matrix::{Mat, MatRef},
    model::mlp::{Mlp, act, act_slope, rounded, top},
    ops::mlp::{Adam, FitStep},
};

/// Outputs of a layer whose weights are moved together.
const BLOCK: usize = 64;
/// Rows that are applied together.
const APPLIED: usize = 32;

/// A network with the state of its training.
#[derive(Debug)]
pub(crate) struct Net {
    mlp: Mlp,
    layers: Vec<Layer>,
    batch: Vec<Chunk>,
}

#[derive(Debug)]
struct Layer {
    /// The weights that rows see: rounded, where there are steps.
    seen: Mat,
    /// Means of the gradients and of their squares, weights then biases; empty before the first step.
    moments: [Mat; 2],
    bias_moments: [Vec<f32>; 2],
}

/// What a pass over some rows leaves.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    /// What goes into each layer.
    inputs: Vec<Mat>,
    /// What comes out of it, before the activation.
    outputs: Vec<Mat>,
    /// The slope of the loss there.
    slopes: Vec<Mat>,
}

/// As [`Learn::upload_net`](crate::ops::seam::Learn::upload_net) has it.
pub(crate) fn net(mlp: &Mlp) -> Net {
    let layers = mlp.layers.iter().map(|dense| {
        let mut seen = dense.weights.clone();
        if !dense.steps.is_empty() {
            let top = top(mlp.bits);
            for (o, &step) in dense.steps.iter().enumerate() {
                seen.row_mut(o).iter_mut().for_each(|w| *w = rounded(*w, step, top));
            }
        }
        Layer { seen, moments: [Mat::zeros(0, 0), Mat::zeros(0, 0)], bias_moments: [Vec::new(), Vec::new()] }
    });
    Net { layers: layers.collect(), mlp: mlp.clone(), batch: Vec::new() }
}

impl Net {
    /// The network as training has left it.
    pub(super) fn mlp(&self) -> Mlp {
        self.mlp.clone()
    }

    /// The rows of `chunk`, which `row` gives, through all layers: what the last adds to them stands in its last output.
    fn forward<'a>(&self, chunk: &mut Chunk, count: usize, row: impl Fn(usize) -> &'a [f32]) {
        chunk.fit(&self.mlp, count);
        for r in 0..count {
            let scaled = chunk.inputs[0].row_mut(r).iter_mut().zip(row(r)).zip(&self.mlp.input_scale);
            scaled.for_each(|((x, y), s)| *x = y * s);
        }
        for (l, layer) in self.layers.iter().enumerate() {
            let out = &mut chunk.outputs[l];
            product_nt(out.as_mut_slice(), chunk.inputs[l].view(), layer.seen.view(), 1.0);
            let bias = &self.mlp.layers[l].bias;
            let next = chunk.inputs.get_mut(l + 1);
            Arch::new().dispatch(Finish { out, bias, next });
        }
    }

    /// From the slope at the last layer, which stands there, to those at the layers before it.
    fn backward(&self, chunk: &mut Chunk) {
        for l in (1..self.layers.len()).rev() {
            let (before, after) = chunk.slopes.split_at_mut(l);
            let slope = &mut before[l - 1];
            product_nn(slope.as_mut_slice(), after[0].view(), self.layers[l].seen.view());
            let z = &chunk.outputs[l - 1];
            Arch::new().dispatch(Bend { slope: slope.as_mut_slice(), z: z.as_slice() });
        }
    }

    /// As [`Learn::fit`](crate::ops::seam::Learn::fit) has it.
    pub(super) fn fit(&mut self, rows: MatRef<'_>, targets: MatRef<'_>, picked: &[u32], step: FitStep) {
        let mut batch = std::mem::take(&mut self.batch);
        batch.resize_with(picked.len().div_ceil(CHUNK), Chunk::default);
        let scale = -2.0 / (picked.len() * rows.dim()).max(1) as f32;
        batch.par_iter_mut().zip(picked.par_chunks(CHUNK)).for_each(|(chunk, picked)| {
            self.forward(chunk, picked.len(), |r| rows.row(picked[r] as usize));
            let last = self.layers.len() - 1;
            for (r, &i) in picked.iter().enumerate() {
                let missing =
                    targets.row(i as usize).iter().zip(rows.row(i as usize)).zip(chunk.outputs[last].row(r));
                let slopes = chunk.slopes[last].row_mut(r).iter_mut().zip(missing);
                slopes.for_each(|(slope, ((t, y), o))| *slope = scale * (t - y - o));
            }
            self.backward(chunk);
        });
        let adam = step.adam();
        let top = top(self.mlp.bits);
        let mut blocks = Vec::new();
        for (l, (dense, layer)) in self.mlp.layers.iter_mut().zip(&mut self.layers).enumerate() {
            let width = dense.inputs();
            if layer.moments[0].rows() == 0 {
                layer.moments = [Mat::zeros(dense.outputs(), width), Mat::zeros(dense.outputs(), width)];
                layer.bias_moments = [vec![0.0; dense.outputs()], vec![0.0; dense.outputs()]];
            }
            let [means, squares] = &mut layer.moments;
            let [bias_means, bias_squares] = &mut layer.bias_moments;
            let weights = dense.weights.as_mut_slice().chunks_mut(BLOCK * width);
            let moments =
                means.as_mut_slice().chunks_mut(BLOCK * width).zip(squares.as_mut_slice().chunks_mut(BLOCK * width));
            let bias_moments = bias_means.chunks_mut(BLOCK).zip(bias_squares.chunks_mut(BLOCK));
            let biases = dense.bias.chunks_mut(BLOCK).zip(bias_moments);
            let seen = layer.seen.as_mut_slice().chunks_mut(BLOCK * width);
            for (b, (((weights, moments), biases), seen)) in weights.zip(moments).zip(biases).zip(seen).enumerate() {
                let steps = dense.steps.get(b * BLOCK..b * BLOCK + biases.0.len());
                blocks.push((l, b * BLOCK, weights, moments, biases, seen, steps));
            }
        }
        blocks.into_par_iter().for_each(
            |(l, first, weights, (means, squares), (bias, bias_moments), seen, steps)| {
                let (count, width) = (bias.len(), weights.len() / bias.len());
                let mut gradient = vec![0f32; weights.len()];
                let mut bias_gradient = vec![0f32; count];
                for chunk in &batch {
                    let (slopes, inputs) = (&chunk.slopes[l], &chunk.inputs[l]);
                    let dst = faer::MatMut::from_row_major_slice_mut(&mut gradient, count, width);
                    let left = faer::MatRef::from_row_major_slice(slopes.as_slice(), slopes.rows(), slopes.dim());
                    let right = faer::MatRef::from_row_major_slice(inputs.as_slice(), inputs.rows(), width);
                    matmul(dst, Accum::Add, left.subcols(first, count).transpose(), right, 1.0, Par::Seq);
                    for r in 0..slopes.rows() {
                        bias_gradient.iter_mut().zip(&slopes.row(r)[first..]).for_each(|(b, s)| *b += s);
                    }
                }
                let keep = adam.keep;
                Arch::new().dispatch(Move { adam, values: weights, gradient: &gradient, means, squares, keep });
                let (means, squares) = bias_moments;
                Arch::new().dispatch(Move {
                    adam,
                    values: bias,
                    gradient: &bias_gradient,
                    means,
                    squares,
                    keep: 1.0,
                });
                match steps {
                    None => seen.copy_from_slice(weights),
                    Some(steps) => {
                        let of_outputs = seen.chunks_exact_mut(width).zip(weights.chunks_exact(width)).zip(steps);
                        of_outputs.for_each(|((seen, weights), &step)| {
                            Arch::new().dispatch(Rounded { seen, weights, step, top });
                        });
                    }
                }
            },
        );
        self.batch = batch;
    }

    /// Calls `each` with the number of the first row of every chunk, its share of `out`, and what the network makes of it.
    fn over<T: Send>(
        &self,
        rows: MatRef<'_>,
        out: &mut [T],
        per_row: usize,
        each: impl Fn(usize, &mut [T], &mut Chunk) + Sync,
    ) {
        let of_chunk = |chunk: &mut Chunk, (c, out): (usize, &mut [T])| {
            let first = c * CHUNK;
            // Fewer rows are made up to a chunk: how sums are split depends on the shapes.
            let last = rows.rows() - 1;
            self.forward(chunk, CHUNK, |r| rows.row((first + r).min(last)));
            each(first, out, chunk);
        };
        out.par_chunks_mut(CHUNK * per_row).enumerate().for_each_init(Chunk::default, of_chunk);
    }

    /// What the network makes of rows. A row's values do not depend on which rows come with it.
    pub(crate) fn applied(&self, rows: MatRef<'_>) -> Mat {
        let mut out = Mat::zeros(rows.rows(), rows.dim());
        let width = rows.dim();
        if width == 0 {
            return out;
        }
        let parts =
            out.as_mut_slice().par_chunks_mut(APPLIED * width).zip(rows.as_slice().par_chunks(APPLIED * width));
        parts.for_each_init(Chunk::default, |chunk, (out, rows)| {
            out.copy_from_slice(rows);
            self.apply(out, chunk);
        });
        out
    }

    /// Puts what the network makes of at most 32 rows in their place.
    pub(crate) fn apply(&self, rows: &mut [f32], chunk: &mut Chunk) {
        let width = self.mlp.width();
        let count = rows.len() / width.max(1);
        if count == 0 {
            return;
        }
        // Fewer rows are made up: how sums are split depends on the shapes.
        self.forward(chunk, APPLIED, |r| &rows[r.min(count - 1) * width..][..width]);
        let added = chunk.outputs[self.layers.len() - 1].as_slice();
        rows.iter_mut().zip(added).for_each(|(y, o)| *y += o);
    }

    /// As [`Learn::errors`](crate::ops::seam::Learn::errors) has it.
    pub(super) fn errors(&self, rows: MatRef<'_>, targets: MatRef<'_>) -> Vec<f32> {
        let mut errors = vec![0f32; rows.rows()];
        let last = self.layers.len() - 1;
        self.over(rows, &mut errors, 1, |first, errors, chunk| {
            for (r, error) in errors.iter_mut().enumerate() {
                let at = targets.row(first + r).iter().zip(rows.row(first + r)).zip(chunk.outputs[last].row(r));
                *error = at.map(|((t, y), o)| (t - y - o) * (t - y - o)).sum();
            }
        });
        errors
    }

    /// As [`Learn::code_targets`](crate::ops::seam::Learn::code_targets) has it.
    pub(super) fn code_targets(&self, rows: MatRef<'_>, targets: MatRef<'_>, damp: &[f32]) -> Mat {
        let mut aimed = Mat::zeros(rows.rows(), rows.dim());
        let width = rows.dim();
        let last = self.layers.len() - 1;
        self.over(rows, aimed.as_mut_slice(), width, |first, aimed, chunk| {
            for r in 0..CHUNK {
                let i = (first + r).min(rows.rows() - 1);
                let missing = targets.row(i).iter().zip(rows.row(i)).zip(chunk.outputs[last].row(r));
                let slopes = chunk.slopes[last].row_mut(r).iter_mut().zip(missing);
                slopes.for_each(|(slope, ((t, y), o))| *slope = t - y - o);
            }
            self.backward(chunk);
            let mut back = Mat::zeros(CHUNK, width);
            product_nn(back.as_mut_slice(), chunk.slopes[0].view(), self.layers[0].seen.view());
            for (r, out) in aimed.chunks_exact_mut(width).enumerate() {
                let damp = damp[first + r];
                let missing = chunk.slopes[last].row(r).iter().zip(back.row(r)).zip(&self.mlp.input_scale);
                let values = out.iter_mut().zip(rows.row(first + r)).zip(missing);
                values.for_each(|((o, y), ((e, b), s))| *o = y + damp * (e + s * b));
            }
        });
        aimed
    }
}

impl Chunk {
    /// Room for `count` rows.
    fn fit(&mut self, mlp: &Mlp, count: usize) {
        if self.inputs.first().is_some_and(|inputs| inputs.rows() == count) {
            return;
        }
        let of = |width: fn(&crate::model::mlp::Dense) -> usize| {
            mlp.layers.iter().map(|dense| Mat::zeros(count, width(dense))).collect::<Vec<_>>()
        };
        self.inputs = of(|dense| dense.inputs());
        self.outputs = of(|dense| dense.outputs());
        self.slopes = of(|dense| dense.outputs());
    }
}

/// Adds the biases, and puts what the activation makes of it into the next layer.
struct Finish<'a> {
    out: &'a mut Mat,
    bias: &'a [f32],
    next: Option<&'a mut Mat>,
}

impl WithSimd for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let width = self.bias.len();
        let Some(next) = self.next else {
            for row in self.out.as_mut_slice().chunks_exact_mut(width) {
                for (z, b) in row.iter_mut().zip(self.bias) {
                    *z += b;
                }
            }
            return;
        };
        let rows = self.out.as_mut_slice().chunks_exact_mut(width).zip(next.as_mut_slice().chunks_exact_mut(width));
        for (z, x) in rows {
            for ((z, b), x) in z.iter_mut().zip(self.bias).zip(x) {
                *z += b;
                *x = act(*z);
            }
        }
    }
}

/// Follows slopes back through the activation.
struct Bend<'a> {
    slope: &'a mut [f32],
    z: &'a [f32],
}

impl WithSimd for Bend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (s, &z) in self.slope.iter_mut().zip(self.z) {
            *s *= act_slope(z);
        }
    }
}

/// A step of training.
struct Move<'a> {
    adam: Adam,
    values: &'a mut [f32],
    gradient: &'a [f32],
    means: &'a mut [f32],
    squares: &'a mut [f32],
    keep: f32,
}

impl WithSimd for Move<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let moments = self.means.iter_mut().zip(self.squares);
        for ((w, &g), (mean, square)) in self.values.iter_mut().zip(self.gradient).zip(moments) {
            *w = self.adam.moved(*w, g, mean, square, self.keep);
        }
    }
}

struct Rounded<'a> {
    seen: &'a mut [f32],
    weights: &'a [f32],
    step: f32,
    top: f32,
}

impl WithSimd for Rounded<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (s, &w) in self.seen.iter_mut().zip(self.weights) {
            *s = rounded(w, self.step, self.top);
        }
    }
}
