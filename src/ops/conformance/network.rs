//! Laws of the residual network: what it makes of rows, what it has codes aim at, and how training moves it.

use vlc_reference::mlp::{AdamW, Layer, Mlp as Reference, rounded};

use super::{Case, assert_near, normals, random, up, wide};
use crate::{
    math::rng::Random,
    matrix::Mat,
    model::mlp::{Dense, Mlp},
    ops::{mlp::FitStep, seam::Ops},
};

/// A network of random weights; with `bits`, of rounded ones.
fn network(random: &mut Random, widths: &[usize], bits: u8) -> Mlp {
    let layers = widths.windows(2).map(|w| {
        let mut weights = normals(random, w[1], w[0]);
        weights.as_mut_slice().iter_mut().for_each(|v| *v /= (w[0] as f32).sqrt());
        let step = |random: &mut Random| 0.5 * (1.0 + random.uniform() as f32) / (w[0] as f32).sqrt();
        Dense {
            weights,
            bias: (0..w[1]).map(|_| 0.3 * random.normal()).collect(),
            steps: if bits > 0 { (0..w[1]).map(|_| step(random)).collect() } else { Vec::new() },
        }
    });
    let layers = layers.collect();
    Mlp { input_scale: (0..widths[0]).map(|_| 0.5 + random.uniform() as f32).collect(), layers, bits }
}

/// As rows see it: rounded where it has steps.
fn seen(mlp: &Mlp) -> Reference {
    let of = |dense: &Dense| Layer {
        weights: (0..dense.outputs())
            .map(|o| match dense.steps.get(o) {
                None => wide(dense.weights.row(o)),
                Some(&step) => {
                    let row = wide(dense.weights.row(o)).into_iter();
                    row.map(|w| rounded(w, f64::from(step), mlp.bits.into())).collect()
                }
            })
            .collect(),
        bias: wide(&dense.bias),
    };
    Reference { input_scale: wide(&mlp.input_scale), layers: mlp.layers.iter().map(of).collect() }
}

const SHAPES: [(usize, &[usize], u8); 6] = [
    (1, &[3, 5, 3], 0),
    (255, &[37, 70, 37], 0),
    (300, &[37, 70, 37], 2),
    (513, &[130, 257, 130], 2),
    (257, &[33, 64, 96, 33], 8),
    (2, &[1, 1, 1], 1),
];

pub(super) fn networks_come_back<O: Ops>(ops: &O) {
    for (seed, (_, widths, bits)) in SHAPES.into_iter().enumerate() {
        let mlp = network(&mut random(seed as u64), widths, bits);
        assert_eq!(ops.download_net(&ops.upload_net(&mlp).unwrap()).unwrap(), mlp, "{widths:?}");
    }
}

pub(super) fn networks_have_errors_and_code_targets<O: Ops>(ops: &O) {
    for (seed, (n, widths, bits)) in SHAPES.into_iter().enumerate() {
        let _case = Case::new(format!("seed {seed}, {n} rows through {widths:?}, {bits} bits"));
        let mut random = random(seed as u64);
        let mlp = network(&mut random, widths, bits);
        let reference = seen(&mlp);
        let (rows, targets) = (normals(&mut random, n, widths[0]), normals(&mut random, n, widths[0]));
        let damp: Vec<f32> = (0..n).map(|i| 1.0 / (1 << (i % 3)) as f32).collect();
        let net = ops.upload_net(&mlp).unwrap();
        let (on_device, to_be) = (up(ops, &rows), up(ops, &targets));
        let errors = ops.errors(&net, &on_device, &to_be).unwrap();
        let code_targets = ops.download_owned(ops.code_targets(&net, &on_device, &to_be, &damp).unwrap()).unwrap();
        assert_eq!((errors.len(), code_targets.rows(), code_targets.dim()), (n, n, widths[0]));
        for i in 0..n {
            let (row, target) = (wide(rows.row(i)), wide(targets.row(i)));
            let error = reference.miss(&row, &target);
            assert_near(errors[i], error, 1e-4, error + 1.0, "error");
            for (found, expected) in code_targets.row(i).iter().zip(reference.aim(&row, &target, damp[i].into())) {
                assert_near(*found, expected, 1e-4, expected.abs() + 1.0, "code target");
            }
        }
        assert_eq!(ops.download_owned(on_device).unwrap(), rows, "looking changed the rows");
    }
}

/// Devices take many rows in pieces, and may have other kernels for them.
pub(super) fn networks_over_many_rows<O: Ops>(ops: &O) {
    const N: usize = 33_000;
    let mut random = random(77);
    let mlp = network(&mut random, &[130, 200, 130], 2);
    let reference = seen(&mlp);
    let (rows, targets) = (normals(&mut random, N, 130), normals(&mut random, N, 130));
    let damp: Vec<f32> = (0..N).map(|i| 1.0 / (1 << (i % 3)) as f32).collect();
    let net = ops.upload_net(&mlp).unwrap();
    let (on_device, to_be) = (up(ops, &rows), up(ops, &targets));
    let errors = ops.errors(&net, &on_device, &to_be).unwrap();
    let code_targets = ops.download_owned(ops.code_targets(&net, &on_device, &to_be, &damp).unwrap()).unwrap();
    assert_eq!((errors.len(), code_targets.rows()), (N, N));
    for i in (0..N).step_by(61).chain(N - 200..N) {
        let (row, target) = (wide(rows.row(i)), wide(targets.row(i)));
        let error = reference.miss(&row, &target);
        assert_near(errors[i], error, 1e-4, error + 1.0, "error");
        for (found, expected) in code_targets.row(i).iter().zip(reference.aim(&row, &target, damp[i].into())) {
            assert_near(*found, expected, 1e-4, expected.abs() + 1.0, "code target");
        }
    }
}

pub(super) fn fitting_moves_as_adamw<O: Ops>(ops: &O) {
    for (seed, (n, widths, bits)) in SHAPES.into_iter().enumerate() {
        let _case = Case::new(format!("seed {seed}, {n} rows through {widths:?}, {bits} bits"));
        let mut random = random(seed as u64);
        let mlp = network(&mut random, widths, bits);
        let (rows, targets) = (normals(&mut random, n, widths[0]), normals(&mut random, n, widths[0]));
        let (on_device, to_be) = (up(ops, &rows), up(ops, &targets));
        let mut net = ops.upload_net(&mlp).unwrap();
        // What training moves is not rounded, what the rows see is.
        let mut moved = seen(&Mlp { bits: 0, layers: mlp.layers.iter().map(unrounded).collect(), ..mlp.clone() });
        let mut adam = AdamW::new(&moved);
        const RATE: f64 = 1e-3;
        for number in 1..=3 {
            let count = n.min(300);
            let picked: Vec<u32> = (0..count).map(|_| random.below(n) as u32).collect();
            let of = |all: &Mat| -> Vec<Vec<f64>> { picked.iter().map(|&i| wide(all.row(i as usize))).collect() };
            let mut shown = mlp.clone();
            for (dense, layer) in shown.layers.iter_mut().zip(&moved.layers) {
                layer.weights.iter().enumerate().for_each(|(o, w)| {
                    dense.weights.row_mut(o).iter_mut().zip(w).for_each(|(d, w)| *d = *w as f32);
                });
                dense.bias.iter_mut().zip(&layer.bias).for_each(|(d, b)| *d = *b as f32);
            }
            let gradient = seen(&shown).gradient(&of(&rows), &of(&targets));
            adam.step(&mut moved, &gradient, RATE, 0.1);
            let step = FitStep { rate: RATE as f32, decay: 0.1, number };
            ops.fit(&mut net, &on_device, &to_be, &picked, step).unwrap();
        }
        let found = ops.download_net(&net).unwrap();
        let (mut off, mut all) = (0, 0);
        for (dense, layer) in found.layers.iter().zip(&moved.layers) {
            let weights = dense.weights.as_slice().iter().zip(layer.weights.iter().flatten());
            for (found, expected) in weights.chain(dense.bias.iter().zip(&layer.bias)) {
                let gap = (f64::from(*found) - expected).abs();
                // A gradient of about nothing moves a weight by a full step either way, and a weight at the border of two
                // roundings may go to either.
                assert!(gap < 7.0 * RATE, "{found} instead of {expected}");
                off += usize::from(gap > 0.02 * RATE + 1e-6 * expected.abs());
                all += 1;
            }
        }
        assert!(off * 50 <= all, "{off} of {all} parameters are elsewhere");
    }
}

fn unrounded(dense: &Dense) -> Dense {
    Dense { steps: Vec::new(), ..dense.clone() }
}

pub(super) fn fitting_lowers_the_error<O: Ops>(ops: &O) {
    let mut random = random(5);
    let rows = normals(&mut random, 2000, 12);
    let mut targets = rows.clone();
    for i in 0..rows.rows() {
        for j in 0..12 {
            targets.row_mut(i)[j] += (rows.row(i)[(j + 1) % 12] * rows.row(i)[(j + 5) % 12]).tanh();
        }
    }
    let (on_device, to_be) = (up(ops, &rows), up(ops, &targets));
    for bits in [0, 3] {
        let mut mlp = network(&mut random, &[12, 96, 12], bits);
        let last = &mut mlp.layers[1];
        let few = if bits > 0 { 0.1 } else { 0.01 };
        last.weights.as_mut_slice().iter_mut().for_each(|w| *w *= few);
        last.steps.iter_mut().for_each(|s| *s *= few);
        let mut net = ops.upload_net(&mlp).unwrap();
        let sum = |net: &O::Net| ops.errors(net, &on_device, &to_be).unwrap().iter().sum::<f32>();
        let before = sum(&net);
        for number in 1..=300 {
            let picked: Vec<u32> = (0..256).map(|_| random.below(2000) as u32).collect();
            let step = FitStep { rate: 4e-3, decay: 0.01, number };
            ops.fit(&mut net, &on_device, &to_be, &picked, step).unwrap();
        }
        let after = sum(&net);
        assert!(after < 0.7 * before, "{bits} bits: {after} of {before}");
    }
}

/// Prints the time of a step of training, and of looking at all rows.
pub(super) fn network_times<O: Ops>(ops: &O, n: usize) {
    for widths in [&[270, 512, 270][..], &[290, 1024, 1024, 290]] {
        let mut random = random(8);
        let mlp = network(&mut random, widths, 2);
        let weights: usize = widths.windows(2).map(|w| w[0] * w[1]).sum();
        let (rows, targets) = (normals(&mut random, n, widths[0]), normals(&mut random, n, widths[0]));
        let (on_device, to_be) = (up(ops, &rows), up(ops, &targets));
        let mut net = ops.upload_net(&mlp).unwrap();
        let time = |what: &str, times: usize, products: f64, job: &mut dyn FnMut(usize)| {
            job(1);
            ops.download(&up(ops, &Mat::zeros(1, 1))).unwrap();
            let start = std::time::Instant::now();
            (0..times).for_each(|i| job(i + 2));
            ops.download(&up(ops, &Mat::zeros(1, 1))).unwrap();
            let seconds = start.elapsed().as_secs_f64() / times as f64;
            let rate = products * 2.0 * weights as f64 / seconds / 1e12;
            println!("{} {widths:?}: {what} {:.3} ms, {rate:.2} TFLOP/s", ops.backend(), 1e3 * seconds);
        };
        let picked: Vec<u32> = (0..1024).map(|_| random.below(n) as u32).collect();
        time("a step of 1,024 rows", 200, 3.0 * 1024.0, &mut |number| {
            let step = FitStep { rate: 1e-4, decay: 0.0, number: number as u32 };
            ops.fit(&mut net, &on_device, &to_be, &picked, step).unwrap();
        });
        time("errors of all rows", 5, n as f64, &mut |_| {
            ops.errors(&net, &on_device, &to_be).unwrap();
        });
        time("code targets of all rows", 5, 2.0 * n as f64, &mut |_| {
            ops.code_targets(&net, &on_device, &to_be, &vec![1.0; n]).unwrap();
        });
    }
}
