//! From the residuals of a sample to the layer.

use super::encode::{RefineEncoder, norms, residuals};
use crate::{
    config::Config,
    encode::encode_rows,
    error::Error,
    format::refine::MOST_SYMBOLS,
    math::product::squared_distance,
    matrix::Mat,
    model::{Model, Side, kinds::CodeKind, refine::Refine},
    ops::seam::Ops,
    report::Stage,
    train::{
        allocate::Shape,
        calibrate::{choose_alpha, factor_levels, gather, sample as calibration_sample},
        chart::{ChartCode, ChartRows, Spectrum, train_chart},
        metric::MetricRoot,
        sample::Prepared,
        sizes::LAGS,
        space::Space,
        tables::ROUNDS,
        transform::Trained,
    },
};

/// Keeps the random numbers of the layer apart from the base's, which are of the seeds that follow it, one a chart.
const SEED: u64 = 1 << 32;

/// What training gives.
pub(crate) struct TrainedRefine {
    pub(crate) refine: Refine,
    pub(crate) encoder: RefineEncoder,
    /// Mean squared error of sample rows decoded with the layer.
    pub(crate) energy: f64,
}

/// Trains the layer that was asked for on the sample, as the base was: the residuals it sees are those of rows that the base was
/// trained on. On others they are larger by what the base has learned by heart, which is little.
pub(crate) fn train<O: Ops>(
    ops: &O,
    base: &Trained,
    prepared: &Prepared<'_>,
    config: &Config<'_>,
    report: &dyn Fn(Stage, usize, usize) -> Result<(), Error>,
) -> Result<Option<TrainedRefine>, Error> {
    let Some(bytes) = config.refine else { return Ok(None) };
    let (unit, queries, dim) = (prepared.unit.view(), prepared.training_queries(), prepared.unit.dim());
    let codes = encode_rows(ops, &base.encoder, &base.model, &ops.upload(unit)?)?;
    let decoded = base.encoder.decode(&base.model, &codes);
    let residual = residuals(unit, decoded.view());

    // The metric is that of the queries, or of the rows in their place; residuals are no queries.
    let space = Space::about(vec![0.0; dim], &MetricRoot::new(queries, unit)?, residual.view())?;
    let z = ops.download_owned(ops.project(&ops.upload_owned(residual)?, &space.mean, space.whiten.view())?)?;
    let (labels, origin) = (vec![0; z.rows()], Mat::zeros(1, z.dim()));
    let spectrum = Spectrum::new(z.view(), &labels, origin.view())?;
    let shape =
        Shape { rows: (prepared.sizes.n as f64).max(1.0), dim, anchors: 1, kind: CodeKind::Chain, lags: LAGS };
    // More symbols than the directions can reach would be paid for nothing.
    let symbols = bytes.saturating_mul(2).min(dim * (LAGS + 1)).min(MOST_SYMBOLS);
    let of =
        ChartRows { number: 0, rows: z.view(), labels: &labels, cells: origin.view(), spectrum: &spectrum, shape };
    let seed = config.seed.wrapping_add(SEED);
    let told = |done| report(Stage::Refine, done, ROUNDS);
    let to_be = ChartCode { kind: CodeKind::Chain, lags: LAGS, symbols, seed, report: &told };
    let about = Model {
        metric: base.model.metric,
        dim,
        center: vec![0.0; dim],
        mean: vec![0.0; dim],
        charts: Vec::new(),
        anchor_chart: vec![0],
        side: Side::bare(1.0),
    };
    let chart = train_chart(ops, &to_be, &space, &of, &about)?;
    let mut refine = Refine::new(base.model.metric, dim, chart, vec![1.0; 16], 0.0);
    let encoder = RefineEncoder::of(&refine, &|| report(Stage::Refine, ROUNDS, ROUNDS))?;
    report(Stage::Refine, ROUNDS, ROUNDS)?;

    // The last steps see the rows as a reader of the file will.
    let picked = calibration_sample(unit.rows(), config.seed);
    let (unit, gains) = gather(unit, &prepared.gains, &picked);
    let (mut decoded, _) = gather(decoded.view(), &prepared.gains, &picked);
    let symbols = encoder.symbols(ops, &refine, residuals(unit.view(), decoded.view()))?;
    encoder.add(&refine, &symbols, &mut decoded);
    let norms = norms(&decoded);
    refine.alpha =
        choose_alpha(base.model.metric, &norms, decoded.view(), unit.view(), &gains, prepared.scored_queries());
    refine.model.side.factors = factor_levels(&norms, refine.alpha, 1);
    let errors = (0..unit.rows()).map(|i| f64::from(squared_distance(unit.row(i), decoded.row(i))));
    let energy = errors.sum::<f64>() / unit.rows().max(1) as f64;
    Ok(Some(TrainedRefine { refine, encoder, energy }))
}
