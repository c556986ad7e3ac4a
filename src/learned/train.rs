//! Training: from the coordinates of the rows and what their codes decode to, to a network that leads from these to those.

use rayon::prelude::*;

use super::synthesis::Synthesizer;
use crate::{
    config::Config,
    encode::{RowCodes, encode_rows, shares::Share},
    error::Error,
    math::{
        product::{dot, squared_distance},
        rng::Random,
    },
    matrix::{Mat, MatRef},
    model::{
        kinds::{DecoderShape, Metric},
        learned::{Learned, halved, stored_step},
        mlp::{Dense, Mlp},
    },
    ops::{mlp::FitStep, seam::Ops},
    read::prepare::chunk_rows,
    report::Stage,
    train::{
        calibrate::{Anchored, Sampled, choose_alpha, choose_reaches, gather, sample as calibration_sample},
        sample::{Prepared, read_sample, to_unit},
        transform::Trained,
    },
};

/// Rows it is trained on at most. What the network makes of rows that it was not trained on is nearly as good, as their codes are
/// chosen for it all the same.
pub(crate) const ROWS: usize = 1 << 18;
/// Rows of a step.
const BATCH: usize = 1024;
/// Passes over the rows in floats, and with weights rounded.
const FLOAT_EPOCHS: usize = 8;
const ROUNDED_EPOCHS: usize = 8;
/// What small stores get in their place, at least: so many steps.
const LEAST_STEPS: usize = 400;
/// The highest rate of the first part; that of the second is half of it.
const RATE: f32 = 4e-3;
const DECAY: f32 = 0.01;
/// Share of the steps in which the rate rises; it falls along a cosine afterwards (one cycle; Smith, 2018).
const RISE: f32 = 0.1;
/// One row in so many has no part in the training of the network, and so many at most: they say how well it does on rows to come.
const HELD_OUT: usize = 64;
const HELD_MOST: usize = 1024;
/// Rows that are scored again for ten hits until that is measured.
pub(super) const SHORTLIST: u32 = 64;
/// Where the deviation of a direction is nothing, or next to it, in units of the largest.
const LEAST_DEVIATION: f32 = 1e-3;
const PURPOSE_WEIGHTS: u64 = 51;
const PURPOSE_ORDER: u64 = 52;
const PURPOSE_HELD: u64 = 53;
const PURPOSE_ROWS: u64 = 54;

/// Steps that lose least of a normal distribution of deviation 1, for 1 to 8 bits (Max, 1960; the last as wide as four deviations).
const STEPS: [f32; 8] = [1.596, 0.9957, 0.5860, 0.3352, 0.1881, 0.1041, 0.0569, 0.0308];

/// What the plan asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) shape: DecoderShape,
    /// Whether rows have a nibble for their reach.
    pub(crate) reach: bool,
}

/// Trains the network of the plan on all rows or a sample, and calibrates the rest of the model to it: the exponent of the factor, the error.
/// O(epochs rows weights) time; memory for two matrices of rows x active values.
pub(crate) fn train<O: Ops>(
    ops: &O,
    base: &mut Trained,
    prepared: &Prepared<'_>,
    wanted: Option<Wanted>,
    config: &Config<'_>,
    report: &dyn Fn(Stage, usize, usize) -> Result<(), Error>,
) -> Result<Option<Learned>, Error> {
    let trainable = base.model.charts.len() == 1 && base.model.charts[0].active() > 0;
    let Some(Wanted { shape, reach }) = wanted.filter(|_| trainable) else {
        return Ok(None);
    };
    let Seen { numbers, mut y, labels, mut symbols } = look(ops, base, prepared, config.seed, report)?;
    let unit = left(&y, &Synthesizer::new(&base.model, &base.encoder, 1.0).codewords(&labels, &symbols));
    y.as_mut_slice().par_iter_mut().with_min_len(1 << 14).for_each(|v| *v /= unit);
    let synthesizer = Synthesizer::new(&base.model, &base.encoder, unit);
    let n = labels.len();
    let mut training: Vec<u32> = (0..n as u32).collect();
    let held = Random::new(config.seed, PURPOSE_HELD).sample(n, (n / HELD_OUT).min(HELD_MOST));
    let mut out = vec![false; n];
    held.iter().for_each(|&i| out[i] = true);
    training.retain(|&i| !out[i as usize]);

    let targets = ops.upload(y.view())?;
    let mut rows = ops.upload_owned(synthesizer.codewords(&labels, &symbols))?;
    let fresh = begin(&ops.download(&rows)?, shape, config.seed);
    let epochs = |epochs: usize| (epochs * training.len() / BATCH).max(LEAST_STEPS);
    let (float, rounded) = (epochs(FLOAT_EPOCHS), epochs(ROUNDED_EPOCHS));
    // Synthesis takes about as long as so many steps.
    let synthesis = n.div_ceil(BATCH) * 4;
    let total = float + synthesis + rounded;
    let mut order = Random::new(config.seed, PURPOSE_ORDER);
    let mut fit = |net: &mut O::Net, rows: &O::Rows, steps: usize, rate: f32, before: usize| -> Result<(), Error> {
        let mut at = training.len();
        for number in 1..=steps {
            let batch = BATCH.min(training.len());
            if at + batch > training.len() {
                order.shuffle(&mut training);
                at = 0;
            }
            let step = FitStep { rate: rate * cycle(number - 1, steps), decay: DECAY, number: number as u32 };
            ops.fit(net, rows, &targets, &training[at..at + batch], step)?;
            at += batch;
            if number % 16 == 0 {
                report(Stage::Decoder, before + number, total)?;
            }
        }
        Ok(())
    };
    let mut net = ops.upload_net(&fresh)?;
    fit(&mut net, &rows, float, RATE, 0)?;
    let told = |first: usize| report(Stage::Decoder, float + first * 4 / BATCH, total);
    synthesizer.improve(ops, &net, y.view(), &labels, &mut symbols, told)?;
    rows = ops.upload_owned(synthesizer.codewords(&labels, &symbols))?;
    net = ops.upload_net(&with_steps(ops.download_net(&net)?, shape.bits))?;
    fit(&mut net, &rows, rounded, RATE / 2.0, float + synthesis)?;
    let mut learned = Learned::of(ops.download_net(&net)?, unit, SHORTLIST);
    report(Stage::Decoder, total, total)?;
    drop((net, rows, targets, y));

    calibrate(ops, base, &learned, prepared, reach, config.seed)?;
    if !held.is_empty() {
        let held: Vec<usize> = held.into_iter().map(|i| numbers[i]).collect();
        let unit = unit_rows(prepared, config.metric, &held)?;
        let (_, decoded) = as_read(ops, base, &learned, unit.view())?;
        learned.unseen_energy = energy(unit.view(), decoded.view());
    }
    Ok(Some(learned))
}

/// Fits exponent and error of the base to what the network makes of rows.
fn calibrate<O: Ops>(
    ops: &O,
    base: &mut Trained,
    learned: &Learned,
    prepared: &Prepared<'_>,
    reach: bool,
    seed: u64,
) -> Result<(), Error> {
    // As a reader of the file will see them.
    let picked = calibration_sample(prepared.unit.rows(), seed);
    let (unit, gains) = gather(prepared.unit.view(), &prepared.gains, &picked);
    let (codes, decoded) = as_read(ops, base, learned, unit.view())?;
    let queries = prepared.scored_queries();
    if reach {
        let anchors = base.encoder.anchor_vectors(&base.model);
        let share = |i: usize| Share::of(unit.row(i), anchors.row(codes.labels[i] as usize), decoded.row(i));
        let shares: Vec<Share> = (0..unit.rows()).into_par_iter().map(share).collect();
        let rows = Anchored { vectors: anchors.view(), labels: &codes.labels, shares: &shares };
        let sampled = Sampled::new(base.model.metric, decoded.view(), unit.view(), &gains, queries);
        base.alpha = choose_reaches(&mut base.model.side, sampled.as_ref(), &rows);
    } else {
        let norms: Vec<f32> = (0..decoded.rows()).map(|i| dot(decoded.row(i), decoded.row(i)).sqrt()).collect();
        base.alpha = choose_alpha(base.model.metric, &norms, decoded.view(), unit.view(), &gains, queries);
    }
    base.energy = energy(unit.view(), decoded.view());
    Ok(())
}

/// The codes of unit rows, and what a reader of the file will see of them.
fn as_read<O: Ops>(ops: &O, base: &Trained, learned: &Learned, unit: MatRef<'_>) -> Result<(RowCodes, Mat), Error> {
    let resident = ops.upload(unit)?;
    let mut codes = encode_rows(ops, &base.encoder, &base.model, &resident)?;
    let synthesizer = Synthesizer::new(&base.model, &base.encoder, learned.unit);
    synthesizer.encode(ops, learned, &resident, &mut codes)?;
    let decoded = synthesizer.decode(learned, &base.encoder, &codes);
    Ok((codes, decoded))
}

fn energy(unit: MatRef<'_>, decoded: MatRef<'_>) -> f64 {
    let errors = (0..unit.rows()).map(|i| f64::from(squared_distance(unit.row(i), decoded.row(i))));
    errors.sum::<f64>() / unit.rows().max(1) as f64
}

/// The deviation of what codewords leave of coordinates; 1 where that is nothing. Sums in the order of the rows.
fn left(y: &Mat, codewords: &Mat) -> f32 {
    let sums: Vec<f64> = (0..y.rows())
        .into_par_iter()
        .with_min_len(1 << 10)
        .map(|i| squared_distance(y.row(i), codewords.row(i)).into())
        .collect();
    let deviation = (sums.iter().sum::<f64>() / y.as_slice().len().max(1) as f64).sqrt() as f32;
    if deviation.is_normal() { deviation } else { 1.0 }
}

/// Rows as the base sees them.
struct Seen {
    /// Which they are.
    numbers: Vec<usize>,
    /// Their coordinates in the chart, n x active, as they are.
    y: Mat,
    labels: Vec<u32>,
    symbols: Vec<u8>,
}

fn look<O: Ops>(
    ops: &O,
    base: &Trained,
    prepared: &Prepared<'_>,
    seed: u64,
    report: &dyn Fn(Stage, usize, usize) -> Result<(), Error>,
) -> Result<Seen, Error> {
    let (rows, dim, active) = (prepared.rows, prepared.unit.dim(), base.model.charts[0].active());
    let numbers = Random::new(seed, PURPOSE_ROWS).sample(rows.rows(), ROWS);
    let n = numbers.len();
    let (mut labels, mut symbols, mut y) = (Vec::with_capacity(n), Vec::new(), Vec::with_capacity(n * active));
    let mut take = |unit: MatRef<'_>| -> Result<(), Error> {
        let resident = ops.upload(unit)?;
        let codes: RowCodes = encode_rows(ops, &base.encoder, &base.model, &resident)?;
        labels.extend(codes.labels);
        symbols.extend(codes.symbols);
        let placed = ops.download_owned(ops.project(&resident, base.encoder.mean(), base.encoder.forward(0))?)?;
        y.extend_from_slice(placed.as_slice());
        Ok(())
    };
    let step = (ops.chunks() * chunk_rows(dim)).min(n).max(1);
    for first in (0..n).step_by(step) {
        report(Stage::Decoder, 0, n)?;
        let count = step.min(n - first);
        // The sample is at hand where it is all rows.
        if prepared.unit.rows() == rows.rows() {
            take(prepared.unit.view().slice(first..first + count))?;
            continue;
        }
        take(unit_rows(prepared, base.model.metric, &numbers[first..first + count])?.view())?;
    }
    Ok(Seen { numbers, y: Mat::new(y, n, active)?, labels, symbols })
}

/// Rows of these ascending numbers as unit rows.
fn unit_rows(prepared: &Prepared<'_>, metric: Metric, numbers: &[usize]) -> Result<Mat, Error> {
    let mut unit = read_sample(prepared.rows, numbers)?;
    to_unit(&mut unit, metric, &prepared.center, |i, fault| fault.at(prepared.rows.path(), numbers[i]))?;
    Ok(unit)
}

/// The share of the highest rate in step `number` (from 0) of `steps`.
fn cycle(number: usize, steps: usize) -> f32 {
    let at = number as f32 / steps as f32;
    if at < RISE { at / RISE } else { 0.5 * (1.0 + (std::f32::consts::PI * (at - RISE) / (1.0 - RISE)).cos()) }
}

/// A network that adds next to nothing to `rows`.
fn begin(rows: &Mat, shape: DecoderShape, seed: u64) -> Mlp {
    let active = rows.dim();
    let deviations = deviations(rows);
    let largest = deviations.iter().fold(0f32, |m, &d| m.max(d));
    let scale = |d: &f32| halved(1.0 / d.max(LEAST_DEVIATION * largest).max(1e-4));
    let mut random = Random::new(seed, PURPOSE_WEIGHTS);
    let mut layers = Vec::new();
    for l in 0..=shape.layers {
        let inputs = if l == 0 { active } else { shape.width };
        let (outputs, deviation) = if l == shape.layers {
            (active, 1e-3)
        } else {
            // What comes out of an activation has less of a deviation than what went in.
            (shape.width, if l == 0 { 1.0 } else { 1.4 } / (inputs as f32).sqrt())
        };
        let mut weights = Mat::zeros(outputs, inputs);
        weights.as_mut_slice().iter_mut().for_each(|w| *w = deviation * random.normal());
        layers.push(Dense { weights, bias: vec![0.0; outputs], steps: Vec::new() });
    }
    Mlp { input_scale: deviations.iter().map(scale).collect(), layers, bits: 0 }
}

/// Of each column. Sums in the order of the rows.
fn deviations(rows: &Mat) -> Vec<f32> {
    const COLUMNS: usize = 64;
    let mut sums = vec![(0f64, 0f64); rows.dim()];
    sums.par_chunks_mut(COLUMNS).enumerate().for_each(|(part, sums)| {
        for i in 0..rows.rows() {
            for ((sum, squares), &x) in sums.iter_mut().zip(&rows.row(i)[part * COLUMNS..]) {
                *sum += f64::from(x);
                *squares += f64::from(x) * f64::from(x);
            }
        }
    });
    let n = rows.rows().max(1) as f64;
    sums.iter().map(|(sum, squares)| (squares / n - (sum / n) * (sum / n)).max(0.0).sqrt() as f32).collect()
}

/// The same weights on steps, which stay as they are from here on: steps that follow the weights made the error 1 to 2 % larger.
fn with_steps(mut mlp: Mlp, bits: u8) -> Mlp {
    mlp.bits = bits;
    for dense in &mut mlp.layers {
        let step = |o: usize| {
            let row = dense.weights.row(o);
            let square = row.iter().map(|w| w * w).sum::<f32>() / row.len().max(1) as f32;
            stored_step(STEPS[usize::from(bits) - 1] * square.sqrt())
        };
        dense.steps = (0..dense.weights.rows()).map(step).collect();
    }
    mlp
}
