//! The order of training: metric, anchors, transform, allocation, tables, then what only search needs.

use rayon::prelude::*;

use super::{
    allocate::{Shape, allocate, symbol_bits},
    anneal::{anneal, anneal_from},
    calibrate::{self, Anchored, Kept, Sampled},
    chart::{ChartCode, ChartRows, Spectrum, train_chart},
    pilot::Pilot,
    quantize::group_means,
    sizes::{Sizes, fit_symbols},
    tables,
};
use crate::{
    config::{AnnealingConfig, Config},
    encode::{Encoder, encode_rows, energies, shares::Share},
    error::Error,
    math::{linalg::to_f32, product::product_nt, rng::Random},
    matrix::{Mat, MatRef, copy_rows},
    model::{Model, Side},
    ops::seam::Ops,
    report::Stage,
};

/// Rows per anchor of all but the last iterations, which take the whole sample.
const ROWS_PER_ANCHOR: usize = 64;
/// Rows that those iterations take at least.
const LEAST_ROWS: usize = 12_288;
/// Iterations on some of the rows, and on all of them.
const ON_SOME: usize = 10;
const ON_ALL: usize = 4;
/// Rows that decide which anchors share a chart.
const CHART_ROWS: usize = 8192;
/// What a nibble for the reach of rows must add to recall before a learned decoder to be worth it.
const REACH_PAYS: f64 = 0.007;
const PURPOSE_CHARTS: u64 = 41;
const PURPOSE_ANCHORS: u64 = 42;

/// What training starts from.
pub(crate) struct Training<'a> {
    /// The sample, unit rows, m x d.
    pub(crate) unit: MatRef<'a>,
    /// Their gains (ones for cosine).
    pub(crate) gains: &'a [f32],
    /// Sample queries as scores take them, those held out not among them.
    pub(crate) queries: Option<MatRef<'a>>,
    pub(crate) center: Vec<f32>,
    pub(crate) gain_range: (f32, f32),
    pub(crate) sizes: Sizes,
    /// Where the anchors start.
    pub(crate) pilot: Pilot,
    pub(crate) charts: usize,
    /// Symbols the plan counts on; the final number is fitted once the variances are known.
    pub(crate) symbols: usize,
    pub(crate) config: &'a Config<'a>,
    /// Reports progress; an error stops the training.
    pub(crate) report: &'a dyn Fn(Stage, usize, usize) -> Result<(), Error>,
}

/// What training gives.
pub(crate) struct Trained {
    pub(crate) model: Model,
    pub(crate) encoder: Encoder,
    pub(crate) alpha: f32,
    /// Whether a nibble for the reach of rows would pay beside the learned decoder to come.
    pub(crate) reach_pays: bool,
    pub(crate) energy: f64,
    pub(crate) anchor_energy: f64,
}

/// Trains a model on a sample.
pub(crate) fn train<O: Ops>(ops: &O, t: &Training<'_>) -> Result<Trained, Error> {
    let (config, dim) = (t.config, t.unit.dim());
    let space = &t.pilot.space;
    let z = ops.project(&ops.upload(t.unit)?, &space.mean, space.whiten.view())?;
    let labels = find_anchors(ops, t, &z)?;
    let z = ops.download_owned(z)?;
    let cells = group_means(z.view(), labels.iter().copied(), t.pilot.anchors.rows());
    let (anchor_chart, charts) = group_anchors(ops, z.view(), cells.view(), t.charts, config.seed)?;
    let sample_rows = z.rows();
    let parts: Vec<(Mat, Vec<u32>)> = match charts {
        1 => vec![(z, labels)],
        _ => (0..charts).map(|g| rows_of_chart(z.view(), &labels, &anchor_chart, g)).collect(),
    };
    let spectra = parts
        .iter()
        .map(|(rows, labels)| Spectrum::new(rows.view(), labels, cells.view()))
        .collect::<Result<Vec<_>, _>>()?;
    let shape = |g: usize| Shape {
        rows: (t.sizes.n as f64 * parts[g].0.rows() as f64 / sample_rows as f64).max(1.0),
        dim,
        anchors: anchor_chart.iter().filter(|&&c| usize::from(c) == g).count(),
        kind: config.code,
        lags: t.sizes.lags,
    };
    let shapes: Vec<Shape> = (0..charts).map(shape).collect();
    let sized: Vec<_> = shapes
        .iter()
        .zip(&spectra)
        .map(|(shape, s)| (*shape, s.variances.as_slice(), s.anchors.as_slice()))
        .collect();
    let symbols = fit_symbols(&t.sizes, &sized, config)?.symbols;

    let mut model = Model {
        metric: config.metric,
        dim,
        center: t.center.clone(),
        mean: space.mean.clone(),
        charts: Vec::new(),
        anchor_chart,
        side: Side { gain_nibbles: t.sizes.gain_nibbles, gain_range: t.gain_range, ..Side::default() },
    };
    for (number, spectrum) in spectra.iter().enumerate() {
        let (rows, labels) = &parts[number];
        let of =
            ChartRows { number, rows: rows.view(), labels, cells: cells.view(), spectrum, shape: shapes[number] };
        let report = |done| (t.report)(Stage::Codes, number * tables::ROUNDS + done, t.charts * tables::ROUNDS);
        let to_be = ChartCode { kind: config.code, lags: t.sizes.lags, symbols, seed: config.seed, report: &report };
        let chart = train_chart(ops, &to_be, space, &of, &model)?;
        model.charts.push(chart);
    }
    let last = tables::ROUNDS * charts;
    let encoder = Encoder::of(&model, &|| (t.report)(Stage::Codes, last, last))?;
    (t.report)(Stage::Codes, last, last)?;

    calibrated(ops, t, model, encoder)
}

/// The last steps, which see the rows as a reader of the file will: encoded and decoded.
fn calibrated<O: Ops>(ops: &O, t: &Training<'_>, mut model: Model, encoder: Encoder) -> Result<Trained, Error> {
    let rows = calibrate::sample(t.unit.rows(), t.config.seed);
    let (unit, gains) = calibrate::gather(t.unit, t.gains, &rows);
    let encoded = encode_rows(ops, &encoder, &model, &ops.upload(unit.view())?)?;
    let decoded = encoder.decode(&model, &encoded);
    let anchors = encoder.anchor_vectors(&model);
    let share = |i: usize| Share::of(unit.row(i), anchors.row(encoded.labels[i] as usize), decoded.row(i));
    let shares: Vec<Share> = (0..unit.rows()).into_par_iter().map(share).collect();
    let rows = Anchored { vectors: anchors.view(), labels: &encoded.labels, shares: &shares };
    let sampled = Sampled::new(model.metric, decoded.view(), unit.view(), &gains, t.queries);
    let (mut alpha, mut reach_pays) = (0.0, false);
    if t.sizes.decoder.is_some() {
        // Factors depend on what the decoder makes of the rows; whether a nibble for their reach pays does hardly.
        if let Some(sampled) = sampled.filter(|_| !t.sizes.reach) {
            let reaches = calibrate::reach_levels(&shares);
            reach_pays = sampled.reaching(&rows, &reaches).recall > sampled.plain(&encoded.norms).recall + REACH_PAYS;
        }
    } else if t.config.refine.is_some() {
        alpha = sampled.map_or(calibrate::DEFAULT_ALPHA, |sampled| sampled.plain(&encoded.norms).alpha);
        model.side.factors = calibrate::factor_levels(&encoded.norms, alpha, 1);
    } else {
        let kept = Kept { nibbles: t.sizes.factor_nibbles.into(), weights: t.sizes.weights };
        alpha = calibrate::choose_factors(&mut model.side, sampled.as_ref(), &encoded.norms, &rows, kept);
    }
    let (energy, anchor_energy) = energies(&model, &encoder, unit.view(), &encoded, decoded.view());
    Ok(Trained { model, encoder, alpha, reach_pays, energy, anchor_energy })
}

/// Finds the anchors: the anchor of each row.
///
/// What counts after water-filling is the sum of the logarithms of the variances of the residual, not their sum. So the
/// planner's short k-means on the rows as they are gives the directions and variances of a residual, and the anchors are
/// found in those directions divided by the deviations (not below the water level): the gradient of what counts. Plain
/// k-means, weighted or not, leaves 1 to 4 % more distortion.
fn find_anchors<O: Ops>(ops: &O, t: &Training<'_>, z: &O::Rows) -> Result<Vec<u32>, Error> {
    let (config, Pilot { space, anchors, spectrum }) = (t.config, &t.pilot);
    let shape = Shape {
        rows: t.sizes.n as f64,
        dim: t.unit.dim(),
        anchors: anchors.rows(),
        kind: config.code,
        lags: t.sizes.lags,
    };
    let bits = (t.symbols * symbol_bits(config.code)) as f64;
    let level = allocate(&spectrum.variances, &spectrum.anchors, bits, &shape).level;
    // Without any variance at all (constant rows) every map will do.
    let weight = |j: usize| if level > 0.0 { 1.0 / spectrum.variances[j].max(level) } else { 1.0 };
    let mut weighted = to_f32(&spectrum.vectors);
    for j in 0..weighted.rows() {
        let scale = weight(j).sqrt() as f32;
        weighted.row_mut(j).iter_mut().for_each(|w| *w *= scale);
    }
    if weighted.rows() == 0 {
        // Every row is at its anchor: there is nothing to weigh, and nothing to settle.
        let near = ops.assign(z, &ops.upload(space.of(anchors.view()).view())?, 1)?;
        return Ok(ops.assignments(&near)?.labels);
    }
    let mut begin = Mat::zeros(anchors.rows(), weighted.rows());
    product_nt(begin.as_mut_slice(), space.of(anchors.view()).view(), weighted.view(), 1.0);
    let zero = vec![0.0; space.whiten.rows()];
    let resident = ops.project(z, &zero, weighted.view())?;
    let placed = ops.download(&resident)?;

    let settings = |iterations: usize, temperature: f32| AnnealingConfig {
        iterations: iterations.min(config.annealing.iterations),
        temperature,
        ..config.annealing.clone()
    };
    let report = |done: usize| (t.report)(Stage::Anchors, done, ON_SOME + ON_ALL);
    let wanted = anchors.rows().saturating_mul(ROWS_PER_ANCHOR).max(LEAST_ROWS);
    if wanted < placed.rows() {
        let picked = Random::new(config.seed, PURPOSE_ANCHORS).sample(placed.rows(), wanted);
        let some = copy_rows(placed.view(), &picked);
        let picked: Vec<u32> = picked.into_iter().map(|i| i as u32).collect();
        let settings = settings(ON_SOME, config.annealing.temperature);
        let on_some = ops.select(&resident, &picked)?;
        (begin, _) = anneal_from(ops, &on_some, some.view(), begin, &settings, config.seed, report)?;
    }
    // What has settled on some rows stays cool on all.
    let (rest, temperature) =
        if wanted < placed.rows() { (ON_ALL, 0.0) } else { (ON_SOME + ON_ALL, config.annealing.temperature) };
    let report = |done: usize| report(ON_SOME + ON_ALL - rest + done);
    let settings = settings(rest, temperature);
    let (_, assigned) = anneal_from(ops, &resident, placed.view(), begin, &settings, config.seed, report)?;
    report(rest)?;
    Ok(assigned.labels)
}

/// The rows whose anchor is of chart `g`, with their labels.
fn rows_of_chart(z: MatRef<'_>, labels: &[u32], anchor_chart: &[u8], g: usize) -> (Mat, Vec<u32>) {
    let rows: Vec<usize> = (0..z.rows()).filter(|&i| usize::from(anchor_chart[labels[i] as usize]) == g).collect();
    let mut out = Mat::zeros(rows.len(), z.dim());
    rows.iter().enumerate().for_each(|(r, &i)| out.row_mut(r).copy_from_slice(z.row(i)));
    (out, rows.into_iter().map(|i| labels[i]).collect())
}

/// Which chart each anchor belongs to, and how many charts there are: rows that lie together share one. At most `wanted`,
/// fewer where no anchor is nearest to a chart's centre.
fn group_anchors<O: Ops>(
    ops: &O,
    z: MatRef<'_>,
    cells: MatRef<'_>,
    wanted: usize,
    seed: u64,
) -> Result<(Vec<u8>, usize), Error> {
    if wanted == 1 {
        return Ok((vec![0; cells.rows()], 1));
    }
    let picked = Random::new(seed, PURPOSE_CHARTS).sample(z.rows(), CHART_ROWS);
    let mut rows = Mat::zeros(picked.len(), z.dim());
    picked.iter().enumerate().for_each(|(r, &i)| rows.row_mut(r).copy_from_slice(z.row(i)));
    let settings = AnnealingConfig { anchors: Some(wanted.min(rows.rows())), ..AnnealingConfig::default() };
    let (centres, _) = anneal(ops, rows.view(), &settings, seed, |_| Ok(()))?;
    let assigned = ops.assign(&ops.upload(cells)?, &ops.upload(centres.anchors())?, 1)?;
    let assigned = ops.assignments(&assigned)?;
    let mut numbers = vec![None; centres.anchors().rows()];
    let mut charts = 0;
    let of_anchor = assigned.nearest().map(|centre| {
        *numbers[centre as usize].get_or_insert_with(|| {
            charts += 1;
            (charts - 1) as u8
        })
    });
    let of_anchor = of_anchor.collect();
    Ok((of_anchor, charts))
}
