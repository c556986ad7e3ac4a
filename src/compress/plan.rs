//! The planner: from a small pilot sample to the sizes of the parts that fit the budget, and what recall they will buy.

use super::expected::expected_recall;
use crate::{
    config::{AnnealingConfig, Budget, CodeKind, Config, DecoderShape, Metric, Stage},
    embedding::all_metadata,
    error::Error,
    format::{
        elias_fano::bytes_at_most as row_ids_len,
        rows::BlockShape,
        sums::sums_len,
        write::{SECTIONS, file_len, metadata_bytes},
    },
    index::info::QuerySource,
    learned,
    math::rng::Random,
    matrix::{Mat, MatRef},
    ops::{Ops, WithOps, dispatch},
    read::RowSource,
    train::{
        self,
        allocate::{Shape, allocate, symbol_bits},
        chart::Spectrum,
        sample::{Prepared, copy_rows, prepare},
        space::Space,
    },
};

/// What a file will be.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Plan {
    /// Rows.
    pub n: u64,
    /// Dimensions.
    pub dim: u32,
    /// Bytes the file will have, give or take the last symbol.
    pub file_bytes: u64,
    /// The same per row.
    pub bytes_per_vector: f64,
    /// The same as a share of float32.
    pub ratio: f64,
    /// Anchors.
    pub anchors: usize,
    /// Charts.
    pub charts: usize,
    /// Symbols per row.
    pub symbols: usize,
    /// Bytes of symbols per row.
    pub code_bytes: f64,
    /// Bytes of the model, without the learned decoder.
    pub model_bytes: u64,
    /// The learned decoder, where there is to be one.
    pub decoder: Option<DecoderShape>,
    /// Its bytes.
    pub decoder_bytes: u64,
    /// Recall@10 to be expected without re-ranking, estimated from the spectrum of a pilot sample; `None` for fewer
    /// than 200 rows.
    pub expected_recall: Option<f64>,
    /// What it was estimated on: rows stand in for queries where none are given.
    pub expected_recall_source: QuerySource,
    /// Resident memory at most, the mapped input not counted.
    pub peak_memory_bytes: u64,
}

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
    crate::compress::with_threads(config, || dispatch(config.backend, config.device, Job(rows, config)))
}

/// Sizes that are known before anything is trained.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) n: u64,
    pub(crate) dim: usize,
    pub(crate) lags: usize,
    pub(crate) gain_nibbles: u8,
    pub(crate) metadata: u64,
    /// Bytes of the ids.
    pub(crate) ids: u64,
    /// Those of a scale of lengths beside the model's, at most.
    pub(crate) gains: u64,
    /// Bytes of the file, or of all symbols where these alone count.
    pub(crate) budget: f64,
    pub(crate) only_codes: bool,
    /// The learned decoder, once that is settled.
    pub(crate) decoder: Option<DecoderShape>,
}

/// Symbols a codeword depends on beside its own. Two, with four survivors per state, lower the distortion of chain codes
/// by 3 % against one at the same scan; more do not pay.
pub(crate) const LAGS: usize = 2;

impl Sizes {
    pub(crate) fn new(rows: usize, dim: usize, config: &Config<'_>) -> Result<Sizes, Error> {
        let n = config.expected_rows.map_or(rows, |expected| rows.max(expected as usize));
        let per_row = match config.budget {
            Budget::Ratio(ratio) => ratio * 4.0 * dim as f64,
            Budget::BytesPerVector(bytes) | Budget::CodeBytes(bytes) => bytes,
        };
        if !(per_row.is_finite() && per_row > 0.0) {
            return Err(Error::Config(format!("the budget {:?} is not above 0", config.budget)));
        }
        Ok(Sizes {
            n: n as u64,
            dim,
            lags: if config.code == CodeKind::Chain { LAGS } else { 0 },
            gain_nibbles: match config.metric {
                Metric::Cosine => 0,
                Metric::Dot => 2,
                Metric::L2 => 3,
            },
            metadata: metadata_bytes(&all_metadata(config)).len() as u64,
            // Those to come are taken to be like those given.
            ids: config.ids.map_or(0, |ids| (ids.bytes().len() as f64 * n as f64 / rows.max(1) as f64) as u64),
            gains: 0,
            budget: per_row * n as f64,
            only_codes: matches!(config.budget, Budget::CodeBytes(_)),
            decoder: None,
        })
    }

    /// Bytes of the file at most. `decoder` are those of the learned decoder.
    fn file_bytes(
        &self,
        model_bytes: f64,
        decoder: u64,
        charts: &[usize],
        symbols: usize,
        config: &Config<'_>,
    ) -> u64 {
        let anchors: usize = charts.iter().sum();
        // Whoever decodes a row with the network has its length, and needs no factor.
        let side_nibbles = usize::from(self.decoder.is_none()) + usize::from(self.gain_nibbles);
        let block = BlockShape { kind: config.code, symbols, side_nibbles };
        let means = if config.metric == Metric::L2 { 2 } else { 1 };
        let heads = charts.len() * (8 + 2 * symbols) + anchors + 4 * (2 * charts.len() + 1);
        let lengths: [u64; SECTIONS] = [
            128,
            (means * 4 * self.dim) as u64,
            model_bytes.ceil() as u64 + heads as u64,
            // Which bytes of the model stand in which section moves the padding by less than this.
            64,
            72,
            self.metadata,
            32,
            8 * (anchors as u64 + 1),
            row_ids_len(self.n, anchors as u64),
            block.code_bytes(self.n),
        ];
        // Ids are a section more, as a decoder is and the hashes of parts are: its entry, and what it is padded with. A scale of lengths is
        // two: the file names what a reader must know for it.
        let further = |bytes: u64| if bytes > 0 { bytes + 96 } else { 0 };
        let gains = if self.gains > 0 { further(self.gains) + further(64) } else { 0 };
        let sums = [lengths[8], lengths[9], self.ids].map(sums_len).iter().sum();
        file_len(&lengths) + further(self.ids) + further(decoder) + further(sums) + gains
    }
}

/// The number of symbols that fits the budget, and what comes with it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fit {
    pub(crate) symbols: usize,
    pub(crate) file_bytes: u64,
    pub(crate) model_bytes: f64,
    pub(crate) decoder_bytes: u64,
    /// Weighted mean of the charts' expected distortion.
    pub(crate) distortion: f64,
}

/// Most symbols per row such that the file fits the budget, for charts given by shape and the variances of residual and anchors.
///
/// # Errors
/// [`Error::Budget`] when not even one symbol fits.
pub(crate) fn fit_symbols(
    sizes: &Sizes,
    charts: &[(Shape, &[f64], &[f64])],
    config: &Config<'_>,
) -> Result<Fit, Error> {
    let anchors: Vec<usize> = charts.iter().map(|(shape, ..)| shape.anchors).collect();
    let at = |symbols: usize| -> (Fit, usize) {
        let bits = (symbols * symbol_bits(config.code)) as f64;
        let rows: f64 = charts.iter().map(|(shape, ..)| shape.rows).sum();
        let (mut model_bytes, mut distortion, mut useful, mut decoder) = (0.0, 0.0, 0, 0);
        for (shape, variances, anchors) in charts {
            let found = allocate(variances, anchors, bits, shape);
            model_bytes += found.model_bytes;
            distortion += found.distortion * shape.rows / rows;
            let active = found.rates.iter().filter(|r| **r > 0.0).count();
            useful = useful.max(active * (sizes.lags + 1));
            decoder += sizes.decoder.map_or(0, |shape| learned::bytes(shape, active));
        }
        let file_bytes = sizes.file_bytes(model_bytes, decoder, &anchors, symbols, config);
        (Fit { symbols, file_bytes, model_bytes, decoder_bytes: decoder, distortion }, useful)
    };
    let fits = |symbols: usize| match sizes.only_codes {
        true => (symbols * symbol_bits(config.code)) as f64 * sizes.n as f64 <= 8.0 * sizes.budget,
        false => at(symbols).0.file_bytes as f64 <= sizes.budget,
    };
    let varied = charts.iter().any(|(_, variances, anchors)| variances.iter().chain(*anchors).any(|&v| v > 0.0));
    let least = usize::from(varied);
    if !fits(least) {
        return Err(too_small(sizes, at(least).0.file_bytes));
    }
    if !varied {
        return Ok(at(0).0);
    }
    // The codes alone must fit, and no more symbols are of use than each direction can reach.
    let codes = (sizes.budget * 8.0 / (sizes.n as f64 * symbol_bits(config.code) as f64)).min(65_536.0) as usize;
    let (mut lo, mut hi) = (least, (sizes.dim * (sizes.lags + 1)).min(codes).max(least) + 1);
    while lo + 1 < hi {
        let middle = (lo + hi) / 2;
        if fits(middle) {
            lo = middle;
        } else {
            hi = middle;
        }
    }
    // Symbols beyond those that some direction can use would be paid for nothing.
    let (mut found, mut useful) = at(lo);
    while found.symbols > useful.max(1) {
        (found, useful) = at(useful.max(1));
    }
    Ok(found)
}

fn too_small(sizes: &Sizes, bytes: u64) -> Error {
    let (n, raw) = (sizes.n as f64, 4.0 * sizes.dim as f64);
    let smallest = bytes as f64 / n;
    Error::Budget {
        asked: sizes.budget / n,
        asked_ratio: sizes.budget / n / raw,
        smallest,
        // Rounded up at the fourth decimal, so that asking for what is printed works.
        smallest_ratio: (smallest / raw * 1e4).ceil() / 1e4,
    }
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
const PURPOSE_PILOT: u64 = 11;

/// Anchors of the chosen number as the planner found them, and the residuals they leave: where training starts.
#[derive(Debug)]
pub(crate) struct Pilot {
    pub(crate) space: Space,
    /// Among unit rows, K x d.
    pub(crate) anchors: Mat,
    /// Of rows that the anchors were not found on, in the space.
    pub(crate) spectrum: Spectrum,
}

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
    let mut best: Option<Best> = None;
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
        let shape = Shape { rows: sizes.n as f64, dim: sizes.dim, anchors, kind: config.code, lags: sizes.lags };
        match learned::choose(sizes, shape, &spectrum, charts, config) {
            Ok((fit, decoder)) if best.as_ref().is_none_or(|b| fit.distortion < b.fit.distortion) => {
                best = Some(Best { fit, decoder, anchors: current.anchors, spectrum });
            }
            Ok(_) => break,
            Err(e) => refused = Some(e),
        }
        if ahead.is_none() {
            ahead = ladder.next().map(piloted).transpose()?;
        }
    }
    report(Stage::Plan, steps, steps)?;
    let Some(Best { fit, decoder, anchors: found, spectrum }) = best else {
        return Err(refused.unwrap_or_else(|| too_small(sizes, 0)));
    };
    let n = sizes.n as f64;
    let bytes_per_vector = fit.file_bytes as f64 / n;
    let plan = Plan {
        n: sizes.n,
        dim: sizes.dim as u32,
        file_bytes: fit.file_bytes,
        bytes_per_vector,
        ratio: bytes_per_vector / (4.0 * sizes.dim as f64),
        anchors: found.rows(),
        // Charts need anchors to divide among them.
        charts: charts.min(found.rows()),
        symbols: fit.symbols,
        code_bytes: (fit.symbols * symbol_bits(config.code)) as f64 / 8.0,
        model_bytes: fit.model_bytes.ceil() as u64,
        decoder,
        decoder_bytes: fit.decoder_bytes,
        expected_recall: expected_recall(prepared, pilot.view(), fit.distortion, config),
        expected_recall_source: if prepared.training_queries().is_some() {
            QuerySource::Sample
        } else {
            QuerySource::Rows
        },
        peak_memory_bytes: peak_memory(sizes, sample.rows(), fit.symbols, decoder),
    };
    Ok((plan, Pilot { space, anchors: found, spectrum }))
}

/// What the planner has settled on so far.
struct Best {
    fit: Fit,
    decoder: Option<DecoderShape>,
    anchors: Mat,
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
fn beside<A, B: Send>(
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
            seed,
            ..AnnealingConfig::default()
        };
        let (found, _) = train::anneal_on(ops, pilot.slice(0..trained), &settings, |_| Ok(()))?;
        let anchors = found.into_anchors();
        let held = pilot.slice(held);
        let assigned = ops.assign(&ops.upload(held)?, &ops.upload(anchors.view())?, 1)?;
        let labels = ops.assignments(&assigned)?.labels;
        Ok(Piloted { anchors, trained, held, labels })
    }

    /// The held rows in the space of training.
    fn weighted<O: Ops>(&self, ops: &O, space: &Space) -> Result<Mat, Error> {
        ops.give(ops.project(&ops.upload(self.held)?, &space.mean, space.whiten.view())?)
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
