//! The network behind the learned decoder: what it makes of a row, where codes should aim, and one step of its training.
//!
//! `y' = y + f_L(act(... act(f_1(s * y))))` with `f_l(x) = W_l x + b_l` and `act(z) = z min(max(z + 3, 0), 6) / 6`.

/// One layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// `weights[o][i]`, from input i to output o.
    pub weights: Vec<Vec<f64>>,
    /// A value for each output.
    pub bias: Vec<f64>,
}

/// The network.
#[derive(Debug, Clone, PartialEq)]
pub struct Mlp {
    /// What each of a row's values is multiplied with.
    pub input_scale: Vec<f64>,
    /// The layers in order.
    pub layers: Vec<Layer>,
}

/// The activation.
pub fn act(z: f64) -> f64 {
    z * (z + 3.0).clamp(0.0, 6.0) / 6.0
}

/// Its slope; at the two corners that of the side away from 0.
pub fn act_slope(z: f64) -> f64 {
    if z <= -3.0 {
        0.0
    } else if z >= 3.0 {
        1.0
    } else {
        (2.0 * z + 3.0) / 6.0
    }
}

/// The weight stored for `w`: the nearest of `step * (q - (2^bits - 1) / 2)`, q of 0 to 2^bits - 1.
pub fn rounded(w: f64, step: f64, bits: u32) -> f64 {
    let half = (2f64.powi(bits as i32) - 1.0) / 2.0;
    step * ((w / step + half).round().clamp(0.0, 2.0 * half) - half)
}

/// What goes into each layer, and what comes out of it before the activation.
struct Pass {
    inputs: Vec<Vec<f64>>,
    outputs: Vec<Vec<f64>>,
}

impl Mlp {
    fn pass(&self, row: &[f64]) -> Pass {
        assert_eq!(row.len(), self.input_scale.len());
        let mut x: Vec<f64> = row.iter().zip(&self.input_scale).map(|(y, s)| y * s).collect();
        let mut pass = Pass { inputs: Vec::new(), outputs: Vec::new() };
        for layer in &self.layers {
            let of = |(w, b): (&Vec<f64>, &f64)| b + w.iter().zip(&x).map(|(w, x)| w * x).sum::<f64>();
            let out: Vec<f64> = layer.weights.iter().zip(&layer.bias).map(of).collect();
            pass.inputs.push(x);
            x = out.iter().map(|&z| act(z)).collect();
            pass.outputs.push(out);
        }
        pass
    }

    /// What the network makes of a row.
    pub fn apply(&self, row: &[f64]) -> Vec<f64> {
        let pass = self.pass(row);
        row.iter().zip(&pass.outputs[self.layers.len() - 1]).map(|(y, o)| y + o).collect()
    }

    /// What is missing from a row's target.
    fn missing(&self, row: &[f64], target: &[f64]) -> Vec<f64> {
        target.iter().zip(self.apply(row)).map(|(t, x)| t - x).collect()
    }

    /// The squared distance to the target.
    pub fn miss(&self, row: &[f64], target: &[f64]) -> f64 {
        self.missing(row, target).iter().map(|e| e * e).sum()
    }

    /// `slope` at the last layer's outputs, followed back: at the outputs of each layer, and at the values before the first.
    fn back(&self, pass: &Pass, slope: Vec<f64>) -> (Vec<Vec<f64>>, Vec<f64>) {
        let mut slopes = vec![slope];
        let mut before = Vec::new();
        for (l, layer) in self.layers.iter().enumerate().rev() {
            before = vec![0.0; pass.inputs[l].len()];
            for (w, s) in layer.weights.iter().zip(&slopes[0]) {
                before.iter_mut().zip(w).for_each(|(b, w)| *b += w * s);
            }
            if l > 0 {
                slopes.insert(0, before.iter().zip(&pass.outputs[l - 1]).map(|(b, &z)| b * act_slope(z)).collect());
            }
        }
        (slopes, before.iter().zip(&self.input_scale).map(|(b, s)| b * s).collect())
    }

    /// `y + damp (e + J^T e)`: e is what is missing from the target, J the derivative of the layers.
    pub fn aim(&self, row: &[f64], target: &[f64], damp: f64) -> Vec<f64> {
        let missing = self.missing(row, target);
        let (_, back) = self.back(&self.pass(row), missing.clone());
        row.iter().zip(missing).zip(back).map(|((y, e), b)| y + damp * (e + b)).collect()
    }

    /// The gradient of the mean squared error of the rows' values, layer by layer as the network itself.
    pub fn gradient(&self, rows: &[Vec<f64>], targets: &[Vec<f64>]) -> Vec<Layer> {
        let zeros = |layer: &Layer| Layer {
            weights: layer.weights.iter().map(|w| vec![0.0; w.len()]).collect(),
            bias: vec![0.0; layer.bias.len()],
        };
        let mut gradient: Vec<Layer> = self.layers.iter().map(zeros).collect();
        for (row, target) in rows.iter().zip(targets) {
            let pass = self.pass(row);
            let scale = -2.0 / (rows.len() * row.len()) as f64;
            let slope = self.missing(row, target).iter().map(|e| scale * e).collect();
            let (slopes, _) = self.back(&pass, slope);
            for ((layer, slopes), inputs) in gradient.iter_mut().zip(&slopes).zip(&pass.inputs) {
                for (o, &s) in slopes.iter().enumerate() {
                    layer.bias[o] += s;
                    layer.weights[o].iter_mut().zip(inputs).for_each(|(g, x)| *g += s * x);
                }
            }
        }
        gradient
    }
}

/// AdamW with betas 0.9 and 0.98 over the parameters of a network.
#[derive(Debug, Clone)]
pub struct AdamW {
    mean: Vec<Layer>,
    square: Vec<Layer>,
    steps: i32,
}

impl AdamW {
    /// At the start of training.
    pub fn new(mlp: &Mlp) -> AdamW {
        let mut zeros = mlp.layers.clone();
        for layer in &mut zeros {
            layer.weights.iter_mut().for_each(|w| w.fill(0.0));
            layer.bias.fill(0.0);
        }
        AdamW { mean: zeros.clone(), square: zeros, steps: 0 }
    }

    /// Moves the parameters by a gradient; weights shrink by `rate * decay` of themselves, biases do not.
    pub fn step(&mut self, mlp: &mut Mlp, gradient: &[Layer], rate: f64, decay: f64) {
        self.steps += 1;
        let (one, two) = (1.0 - 0.9f64.powi(self.steps), 1.0 - 0.98f64.powi(self.steps));
        let moved = |w: &mut f64, g: f64, mean: &mut f64, square: &mut f64, decay: f64| {
            *mean = 0.9 * *mean + 0.1 * g;
            *square = 0.98 * *square + 0.02 * g * g;
            *w = *w * (1.0 - rate * decay) - rate * (*mean / one) / ((*square / two).sqrt() + 1e-8);
        };
        for (l, layer) in mlp.layers.iter_mut().enumerate() {
            let (mean, square) = (&mut self.mean[l], &mut self.square[l]);
            for o in 0..layer.bias.len() {
                moved(&mut layer.bias[o], gradient[l].bias[o], &mut mean.bias[o], &mut square.bias[o], 0.0);
                for i in 0..layer.weights[o].len() {
                    let g = gradient[l].weights[o][i];
                    let (mean, square) = (&mut mean.weights[o][i], &mut square.weights[o][i]);
                    moved(&mut layer.weights[o][i], g, mean, square, decay);
                }
            }
        }
    }
}
