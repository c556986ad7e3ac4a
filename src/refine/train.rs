//! From the residuals of a sample to the layer.

use super::{
    Refine,
    encode::{RefineEncoder, norms, residuals},
};
use crate::{
    CodeKind, Error, Mat, MatRef,
    encode::encode_rows,
    model::{Model, Side},
    ops::{Ops, squared_distance},
    plan::LAGS,
    train::{
        ChartCode, ChartRows, MetricRoot, Shape, Space, Spectrum, Trained, calibration_sample, choose_alpha, compose,
        factor_levels, gather, train_chart,
    },
};

/// Keeps the random numbers of the layer apart from the base's, which are of the seeds that follow it, one a chart.
const SEED: u64 = 1 << 32;

/// What training starts from.
pub(crate) struct RefineTraining<'a> {
    pub(crate) base: &'a Trained,
    /// The sample, unit rows, m x d.
    pub(crate) unit: MatRef<'a>,
    /// Their gains (ones for cosine).
    pub(crate) gains: &'a [f32],
    /// Sample queries as unit rows.
    pub(crate) queries: Option<MatRef<'a>>,
    /// Rows of the store.
    pub(crate) n: u64,
    /// Bytes of symbols per row.
    pub(crate) bytes: usize,
    pub(crate) seed: u64,
    /// Told the rounds of table training that are done; an error stops the training.
    pub(crate) report: &'a dyn Fn(usize) -> Result<(), Error>,
}

/// What training gives.
pub(crate) struct TrainedRefine {
    pub(crate) refine: Refine,
    pub(crate) encoder: RefineEncoder,
    pub(crate) alpha: f32,
    /// Mean squared error of sample rows decoded with the layer.
    pub(crate) energy: f64,
}

/// Trains a layer on a sample, as the base was: the residuals it sees are those of rows that the base was trained on. On others
/// they are larger by what the base has learned by heart, which is little.
pub(crate) fn train<O: Ops>(ops: &O, t: &RefineTraining<'_>) -> Result<TrainedRefine, Error> {
    let (base, dim) = (t.base, t.unit.dim());
    let codes = encode_rows(ops, &base.encoder, &base.model, &ops.upload(t.unit)?)?;
    let decoded = base.encoder.decode(&base.model, &codes);
    let residual = residuals(t.unit, decoded.view());

    // The metric is that of the queries, or of the rows in their place; residuals are no queries.
    let space = Space::about(vec![0.0; dim], &MetricRoot::new(t.queries, t.unit)?, residual.view())?;
    let z = ops.give(ops.project(&ops.take(residual)?, &space.mean, space.whiten.view())?)?;
    let (labels, origin) = (vec![0; z.rows()], Mat::zeros(1, z.dim()));
    let spectrum = Spectrum::new(z.view(), &labels, origin.view())?;
    let shape = Shape { rows: (t.n as f64).max(1.0), dim, anchors: 1, kind: CodeKind::Chain, lags: LAGS };
    // More symbols than the directions can reach would be paid for nothing.
    let symbols = (2 * t.bytes).min(dim * (LAGS + 1));
    let of =
        ChartRows { number: 0, rows: z.view(), labels: &labels, cells: origin.view(), spectrum: &spectrum, shape };
    let seed = t.seed.wrapping_add(SEED);
    let to_be = ChartCode { kind: CodeKind::Chain, lags: LAGS, symbols, seed, report: t.report };
    let about = Model {
        metric: base.model.metric,
        dim,
        center: vec![0.0; dim],
        mean: vec![0.0; dim],
        charts: Vec::new(),
        anchor_chart: vec![0],
        side: Side::default(),
    };
    let (chart, map) = train_chart(ops, &to_be, &space, &of, &about)?;
    let mut refine = Refine::new(base.model.metric, dim, chart, vec![1.0; 16]);
    let encoder = RefineEncoder::new(&refine, compose(&map, &space.whiten));

    // The last steps see the rows as a reader of the file will.
    let picked = calibration_sample(t.unit.rows(), t.seed);
    let (unit, gains) = gather(t.unit, t.gains, &picked);
    let (mut decoded, _) = gather(decoded.view(), t.gains, &picked);
    let symbols = encoder.symbols(ops, &refine, residuals(unit.view(), decoded.view()))?;
    encoder.add(&refine, &symbols, &mut decoded);
    let norms = norms(&decoded);
    let alpha = choose_alpha(&base.model, &norms, decoded.view(), unit.view(), &gains, t.queries);
    refine.model.side.factors = factor_levels(&norms, alpha);
    let errors = (0..unit.rows()).map(|i| f64::from(squared_distance(unit.row(i), decoded.row(i))));
    let energy = errors.sum::<f64>() / unit.rows().max(1) as f64;
    Ok(TrainedRefine { encoder: encoder.with_alpha(alpha), refine, alpha, energy })
}
