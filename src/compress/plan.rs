//! The planner: from a small pilot sample to the sizes of the parts that fit the budget, and what recall they will buy.

use super::trial::{Outcome, Tried};
use crate::{
    config::{AnnealingConfig, Config},
    error::Error,
    learned,
    math::rng::Random,
    matrix::{Mat, MatRef, copy_rows},
    model::kinds::DecoderShape,
    ops::{
        run,
        seam::{Ops, WithOps},
    },
    read::source::RowSource,
    report::{Plan, QuerySource, Stage},
    train::{
        allocate::{Shape, allocate, symbol_bits},
        anneal::anneal as anneal_on,
        chart::Spectrum,
        metric::MetricRoot,
        pilot::Pilot,
        sample::{Prepared, prepare},
        sizes::{Fit, Sizes, too_small},
        space::Space,
    },
};

/// Plans a compression without doing it: reads a pilot sample and takes a few seconds.
///
/// # Errors
/// As [`compress`](crate::compress).
pub fn plan(rows: &dyn RowSource, config: &Config<'_>) -> Result<Plan, Error> {
    struct Job<'a>(&'a dyn RowSource, &'a Config<'a>);
    impl WithOps for Job<'_> {
        type Output = Plan;
        fn run<O: Ops>(self, ops: O) -> Result<Plan, Error> {
            let prepared = prepare(self.0, self.1, &|_, _, _| Ok(()))?;
            plan_on(&ops, &prepared, self.1, &|_, _, _| Ok(())).map(|(plan, _)| plan)
        }
    }
    run(&config.compute, Job(rows, config))
}

/// Rows of the pilot sample: at least this many, at most [`PILOT_MOST`], an eighth of the store in between.
const PILOT_LEAST: usize = 12_288;
const PILOT_MOST: usize = 49_152;
/// Pilot rows per anchor below which a number of anchors is not considered.
const PILOT_PER_ANCHOR: usize = 12;
/// Rows of the store per anchor below which a number of anchors is not considered: more still lower the distortion a little,
/// but recall no longer shows it and training takes its time.
const ROWS_PER_ANCHOR: u64 = 240;
const PILOT_ITERATIONS: usize = 4;
/// Pilot rows that a plan is tried on.
const TRIED: usize = 8192;
const PURPOSE_PILOT: u64 = 11;

/// Chooses the anchors by the distortion they leave on rows held out from a pilot sample.
pub(crate) fn plan_on<O: Ops>(
    ops: &O,
    prepared: &Prepared<'_>,
    config: &Config<'_>,
    report: &dyn Fn(Stage, usize, usize) -> Result<(), Error>,
) -> Result<(Plan, Pilot), Error> {
    let sample = prepared.unit.view();
    let sizes = &prepared.sizes;
    let ladder = ladder(sizes, sample.rows(), config)?;
    let charts = config.charts.unwrap_or(1);
    if charts == 0 || charts > 256 {
        return Err(Error::Config(format!("{charts} charts: 1 to 256 are allowed")));
    }
    let wanted = (sizes.n as usize / 8).clamp(PILOT_LEAST, PILOT_MOST);
    let mut random = Random::new(config.seed, PURPOSE_PILOT);
    let mut picked = random.sample(sample.rows(), wanted);
    random.shuffle(&mut picked);
    let pilot = copy_rows(sample, &picked);
    // What takes one thread runs beside what a device does: the space beside the first k-means, the directions of its residuals
    // beside the second, which is always asked for.
    let mut ladder = ladder.iter().rev().copied();
    let steps = ladder.len();
    let piloted = |anchors: usize| Piloted::new(ops, pilot.view(), anchors, config.seed);
    let (mut ahead, space) =
        beside(|| ladder.next().map(piloted).transpose(), || Space::new(prepared.training_queries(), sample))?;
    // From many anchors to few: once fewer are worse, fewer still will not be better.
    let mut best: Option<Best<'_>> = None;
    let mut refused = None;
    while let Some(current) = ahead.take() {
        let step = steps - ladder.len() - 1;
        report(Stage::Plan, step, steps)?;
        let rows = current.weighted(ops, &space)?;
        let spectrum;
        (ahead, spectrum) = beside(
            || if step == 0 { ladder.next().map(piloted).transpose() } else { Ok(None) },
            || current.spectrum(&space, rows.view(), sample.rows()),
        )?;
        let anchors = current.anchors.rows();
        let shape = shape_of(sizes, anchors, config);
        match learned::choose(sizes, shape, &spectrum, charts, config) {
            Ok((fit, decoder)) if best.as_ref().is_none_or(|b| fit.distortion < b.fit.distortion) => {
                best = Some(Best { fit, decoder, piloted: current, spectrum });
            }
            Ok(_) => break,
            Err(e) => refused = Some(e),
        }
        if ahead.is_none() {
            ahead = ladder.next().map(piloted).transpose()?;
        }
    }
    report(Stage::Plan, steps, steps)?;
    let Some(best) = best else {
        return Err(refused.unwrap_or_else(|| too_small(sizes, 0)));
    };
    let trial = Trial { prepared, config, pilot: pilot.view(), picked: &picked, charts };
    let (best, space, outcome) = trial.settle(ops, best, space)?;
    let plan = plan_of(prepared, &best, outcome, charts, config);
    Ok((plan, Pilot { space, anchors: best.piloted.anchors, spectrum: best.spectrum }))
}

/// What is tried on pilot rows once the anchors are chosen.
struct Trial<'a, 'p> {
    prepared: &'a Prepared<'p>,
    config: &'a Config<'a>,
    pilot: MatRef<'a>,
    /// Their numbers in the sample.
    picked: &'a [usize],
    charts: usize,
}

impl<'a> Trial<'a, '_> {
    /// Whether errors are weighted by the sample queries or by the rows, whichever finds more; and how much that is.
    fn settle<O: Ops>(
        &self,
        ops: &O,
        best: Best<'a>,
        space: Space,
    ) -> Result<(Best<'a>, Space, Option<Outcome>), Error> {
        let Trial { prepared, config, charts, .. } = *self;
        let rows = self.pilot.rows().min(TRIED);
        let unit = self.pilot.slice(0..rows);
        let gains: Vec<f32> = self.picked[..rows].iter().map(|&i| prepared.gains[i]).collect();
        let anchors = best.piloted.anchors.view();
        let labels = ops.assignments(&ops.assign(&ops.upload(unit)?, &ops.upload(anchors)?, 1)?)?.labels;
        let queries = prepared.scored_queries();
        let (metric, seed) = (config.metric, config.seed);
        let outcome_of = |best: &Best<'_>, space: &Space| {
            let shape = shape_of(&prepared.sizes, best.piloted.anchors.rows(), config);
            let bits = (best.fit.symbols * symbol_bits(config.code)) as f64;
            let allocation = allocate(&best.spectrum.variances, &best.spectrum.anchors, bits, &shape);
            let left = best.decoder.map_or(1.0, learned::expected_share);
            let anchors = best.piloted.anchors.view();
            Tried { metric, unit, gains: &gains, labels: &labels, anchors, queries, left, seed }.outcome(
                space,
                &best.spectrum,
                &allocation,
            )
        };
        let with = outcome_of(&best, &space);
        let (Some(found), true) = (with, prepared.training_queries().is_some()) else {
            return Ok((best, space, with));
        };
        // Queries unlike those to come, or that say little of where rows lie near them, would cost recall.
        let metric_of_rows = MetricRoot::new(None, unit)?;
        let other_space = Space::about(space.mean.clone(), &metric_of_rows, prepared.unit.view())?;
        let rows = best.piloted.weighted(ops, &other_space)?;
        let spectrum = best.piloted.spectrum(&other_space, rows.view(), prepared.unit.rows())?;
        let shape = shape_of(&prepared.sizes, best.piloted.anchors.rows(), config);
        let (fit, decoder) = learned::choose(&prepared.sizes, shape, &spectrum, charts, config)?;
        let other = Best { fit, decoder, spectrum, piloted: best.piloted.clone() };
        match outcome_of(&other, &other_space) {
            Some(outcome) if outcome.recall > found.recall => Ok((other, other_space, Some(outcome))),
            _ => Ok((best, space, with)),
        }
    }
}

fn shape_of(sizes: &Sizes, anchors: usize, config: &Config<'_>) -> Shape {
    Shape { rows: sizes.n as f64, dim: sizes.dim, anchors, kind: config.code, lags: sizes.lags }
}

/// The plan, in the words of whoever asked for it.
fn plan_of(
    prepared: &Prepared<'_>,
    best: &Best<'_>,
    outcome: Option<Outcome>,
    charts: usize,
    config: &Config<'_>,
) -> Plan {
    let Best { fit, decoder, piloted, .. } = best;
    let (sizes, anchors) = (&prepared.sizes, piloted.anchors.rows());
    let bytes_per_vector = fit.file_bytes as f64 / sizes.n as f64;
    Plan {
        n: sizes.n,
        dim: sizes.dim as u32,
        file_bytes: fit.file_bytes,
        bytes_per_vector,
        ratio: bytes_per_vector / (4.0 * sizes.dim as f64),
        anchors,
        // Charts need anchors to divide among them.
        charts: charts.min(anchors),
        symbols: fit.symbols,
        code_bytes: (fit.symbols * symbol_bits(config.code)) as f64 / 8.0,
        model_bytes: fit.model_bytes.ceil() as u64,
        decoder: *decoder,
        decoder_bytes: fit.decoder_bytes,
        expected_recall: outcome.map(|outcome| outcome.recall),
        expected_recall_source: if prepared.training_queries().is_some() {
            QuerySource::Sample
        } else {
            QuerySource::Rows
        },
        peak_memory_bytes: peak_memory(sizes, prepared.unit.rows(), fit.symbols, *decoder),
    }
}

/// What the planner has settled on so far.
struct Best<'a> {
    fit: Fit,
    decoder: Option<DecoderShape>,
    piloted: Piloted<'a>,
    spectrum: Spectrum,
}

/// The numbers of anchors that are weighed, ascending.
fn ladder(sizes: &Sizes, sample: usize, config: &Config<'_>) -> Result<Vec<usize>, Error> {
    let most = sample.min(65_536);
    if let Some(k) = config.annealing.anchors {
        if k == 0 || k > most {
            return Err(Error::Config(format!("{k} anchors for {} rows: 1 to {most} are allowed", sizes.n)));
        }
        return Ok(vec![k]);
    }
    let pilot = (sizes.n as usize / 8).clamp(PILOT_LEAST, PILOT_MOST).min(sample);
    let fits = |k: &usize| *k == 1 || (*k * PILOT_PER_ANCHOR <= pilot && *k as u64 * ROWS_PER_ANCHOR <= sizes.n);
    Ok((0..=5).map(|e| 4usize.pow(e)).filter(fits).collect())
}

/// Runs `here` on this thread, which has the device, and `there` on another if one is free.
pub(crate) fn beside<A, B: Send>(
    here: impl FnOnce() -> Result<A, Error>,
    there: impl FnOnce() -> Result<B, Error> + Send,
) -> Result<(A, B), Error> {
    let mut found = None;
    let first = rayon::in_place_scope(|scope| {
        let found = &mut found;
        scope.spawn(move |_| *found = Some(there()));
        here()
    });
    // A scope ends when all that it spawned has; what panics there goes on here.
    let second = found.unwrap_or(Err(Error::Cancelled));
    Ok((first?, second?))
}

/// A short k-means of the pilot rows, of which some are held out.
#[derive(Clone)]
struct Piloted<'a> {
    anchors: Mat,
    /// Rows that it was run on.
    trained: usize,
    /// The others, or the same where there are too few to go round, and the nearest anchor of each.
    held: MatRef<'a>,
    labels: Vec<u32>,
}

impl<'a> Piloted<'a> {
    fn new<O: Ops>(ops: &O, pilot: MatRef<'a>, anchors: usize, seed: u64) -> Result<Piloted<'a>, Error> {
        // A third of the rows is held out, where there are enough to go round.
        let third = pilot.rows() / 3;
        let trained = if third >= anchors.max(pilot.dim() / 4) { pilot.rows() - third } else { pilot.rows() };
        let held = if trained < pilot.rows() { trained..pilot.rows() } else { 0..pilot.rows() };
        let settings = AnnealingConfig {
            anchors: Some(anchors),
            iterations: PILOT_ITERATIONS,
            temperature: 0.0,
            ..AnnealingConfig::default()
        };
        let (found, _) = anneal_on(ops, pilot.slice(0..trained), &settings, seed, |_| Ok(()))?;
        let anchors = found.into_anchors();
        let held = pilot.slice(held);
        let assigned = ops.assign(&ops.upload(held)?, &ops.upload(anchors.view())?, 1)?;
        let labels = ops.assignments(&assigned)?.labels;
        Ok(Piloted { anchors, trained, held, labels })
    }

    /// The held rows in the space of training.
    fn weighted<O: Ops>(&self, ops: &O, space: &Space) -> Result<Mat, Error> {
        ops.download_owned(ops.project(&ops.upload(self.held)?, &space.mean, space.whiten.view())?)
    }

    /// Of the residuals of the held rows, in that space; corrected for what `sample` rows will make of the anchors.
    fn spectrum(&self, space: &Space, rows: MatRef<'_>, sample: usize) -> Result<Spectrum, Error> {
        let cells = space.of(self.anchors.view());
        let mut spectrum = Spectrum::new(rows, &self.labels, cells.view())?;
        // A mean of few rows is off by its share of their variance; training will take it over more.
        let share = |rows: usize| 1.0 + self.anchors.rows() as f64 / rows.max(1) as f64;
        let correction = share(sample) / share(self.trained);
        spectrum.variances.iter_mut().for_each(|v| *v *= correction);
        Ok(spectrum)
    }
}

/// Copies of the sample that are alive at the worst moment, the buffers of a chunk, and what is kept per row.
fn peak_memory(sizes: &Sizes, sample: usize, symbols: usize, decoder: Option<DecoderShape>) -> u64 {
    let rows = (sample * sizes.dim * 4) as u64;
    let matrices = (sizes.dim * sizes.dim * 8) as u64;
    let spool = (sizes.n * symbols as u64).min(crate::file::spool::SPOOL_MEMORY);
    // Coordinates and codewords of the rows it is trained on, and copies of some.
    let learned = decoder.map_or(0, |_| 4 * (sizes.dim as u64) * (2 * sizes.n.min(learned::ROWS as u64) + (1 << 17)));
    let per_row = 13 + if sizes.gain_nibbles > 0 { 4 } else { 0 };
    6 * rows + 8 * matrices + per_row * sizes.n + spool + learned + (64 << 20)
}
