//! The slopes of the network against differences.

use crate::mlp::{AdamW, Layer, Mlp, act, act_slope, rounded};

fn net() -> Mlp {
    let value = |i: usize| ((i * 7919 % 101) as f64 - 50.0) / 40.0;
    let layer = |outputs: usize, inputs: usize, from: usize| Layer {
        weights: (0..outputs).map(|o| (0..inputs).map(|i| value(from + o * inputs + i)).collect()).collect(),
        bias: (0..outputs).map(|o| value(from + 31 * o) / 3.0).collect(),
    };
    Mlp { input_scale: vec![0.5, 1.5, 1.0], layers: vec![layer(5, 3, 1), layer(4, 5, 40), layer(3, 4, 90)] }
}

#[test]
fn the_activation_has_its_slope() {
    for z in [-4.0, -2.9, -1.0, 0.3, 2.5, 3.5] {
        let by_difference = (act(z + 1e-6) - act(z - 1e-6)) / 2e-6;
        assert!((by_difference - act_slope(z)).abs() < 1e-6, "at {z}");
    }
    assert_eq!((act(-5.0), act(5.0)), (0.0, 5.0));
}

#[test]
fn weights_are_rounded_to_odd_multiples_of_half_a_step() {
    let of = |w| rounded(w, 2.0, 2);
    assert_eq!([of(-9.0), of(-1.9), of(-0.1), of(0.1), of(2.5), of(9.0)], [-3.0, -1.0, -1.0, 1.0, 3.0, 3.0]);
}

#[test]
fn gradients_are_those_of_differences() {
    let net = net();
    let rows = vec![vec![0.4, -1.0, 0.7], vec![-0.2, 0.5, 1.1]];
    let targets = vec![vec![1.0, 0.0, -0.5], vec![0.3, 0.2, 0.1]];
    let loss = |net: &Mlp| rows.iter().zip(&targets).map(|(r, t)| net.miss(r, t)).sum::<f64>() / 6.0;
    let gradient = net.gradient(&rows, &targets);
    for l in 0..3 {
        for o in 0..net.layers[l].bias.len() {
            let moved = |by: f64| {
                let mut other = net.clone();
                other.layers[l].bias[o] += by;
                loss(&other)
            };
            let by_difference = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            assert!((by_difference - gradient[l].bias[o]).abs() < 1e-6, "bias {o} of layer {l}");
            for i in 0..net.layers[l].weights[o].len() {
                let moved = |by: f64| {
                    let mut other = net.clone();
                    other.layers[l].weights[o][i] += by;
                    loss(&other)
                };
                let by_difference = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                assert!((by_difference - gradient[l].weights[o][i]).abs() < 1e-6, "weight {o}, {i} of layer {l}");
            }
        }
    }
    let mut trained = net.clone();
    let mut adam = AdamW::new(&trained);
    for _ in 0..200 {
        let gradient = trained.gradient(&rows, &targets);
        adam.step(&mut trained, &gradient, 0.01, 0.0);
    }
    assert!(loss(&trained) < 0.01 * loss(&net), "{} of {}", loss(&trained), loss(&net));
}

#[test]
fn aiming_is_half_a_step_down_the_error() {
    let (net, row, target) = (net(), vec![0.4, -1.0, 0.7], vec![1.0, 0.0, -0.5]);
    let aimed = net.aim(&row, &target, 1.0);
    for j in 0..3 {
        let moved = |by: f64| {
            let mut other = row.clone();
            other[j] += by;
            net.miss(&other, &target)
        };
        let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
        assert!((aimed[j] - (row[j] - 0.5 * slope)).abs() < 1e-6, "direction {j}");
    }
}
