//! The order of training: metric, anchors, transform, allocation, tables, then what only search needs.

use super::{
    allocate::{Shape, allocate, pack},
    anneal::anneal,
    calibrate,
    linalg::{eigen, mean, second_moment, solve_ridge},
    metric::{MetricRoot, to_f32},
    quantize::{group_means, ranged, symmetric},
    rng::Random,
    tables,
};
use crate::{
    AnnealingConfig, Config, Error, Mat, MatRef, Stage,
    encode::{Encoder, encode_rows},
    model::{Chart, Model, Side},
    ops::{Ops, product_nn},
    plan::{Sizes, fit_symbols},
};

/// Rows the tables are trained on.
const TABLE_ROWS: usize = 24_576;
/// Iterations of the k-means that only serves to find directions.
const FIRST_ITERATIONS: usize = 6;
const PURPOSE_PACK: u64 = 5;

/// What training starts from.
pub(crate) struct Training<'a> {
    /// The sample, unit rows, m x d.
    pub(crate) unit: MatRef<'a>,
    /// Their gains (ones for cosine).
    pub(crate) gains: &'a [f32],
    /// Sample queries as unit rows, those held out not among them.
    pub(crate) queries: Option<MatRef<'a>>,
    pub(crate) center: Vec<f32>,
    pub(crate) gain_range: (f32, f32),
    pub(crate) sizes: Sizes,
    pub(crate) anchors: usize,
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
    pub(crate) energy: f64,
    pub(crate) anchor_energy: f64,
}

/// Trains a model on a sample.
pub(crate) fn train<O: Ops>(ops: &O, t: &Training<'_>) -> Result<Trained, Error> {
    let (config, dim) = (t.config, t.unit.dim());
    let metric = MetricRoot::new(t.queries, t.unit)?;
    let offset = mean(t.unit);
    let whiten = to_f32(&metric.root);
    let z = ops.download(&ops.project(&ops.upload(t.unit)?, &offset, whiten.view())?)?;

    let (space, labels, anchors) = find_anchors(ops, t, z.view(), &metric)?;
    let cells = group_means(z.view(), labels.iter().copied(), t.anchors);
    let anchor_chart = group_anchors(ops, anchors.view(), t.charts, config.seed)?;
    let spectra = (0..t.charts)
        .map(|g| Spectrum::new(z.view(), &labels, &cells, &anchor_chart, g, t))
        .collect::<Result<Vec<_>, _>>()?;

    let shapes: Vec<_> = spectra
        .iter()
        .map(|s| (s.shape, s.variances.as_slice(), s.spreads.as_slice()))
        .collect();
    let symbols = fit_symbols(&t.sizes, &shapes, config)?.symbols;

    let mut model = Model {
        metric: config.metric,
        dim,
        center: t.center.clone(),
        mean: offset,
        charts: Vec::new(),
        anchor_chart,
        side: Side {
            factors: vec![1.0; 16],
            gain_nibbles: t.sizes.gain_nibbles,
            gain_range: t.gain_range,
        },
    };
    let mut forward = Vec::new();
    for (g, spectrum) in spectra.iter().enumerate() {
        let (chart, map) = train_chart(ops, t, &z, &labels, &model, spectrum, &metric, symbols, g)?;
        model.charts.push(chart);
        forward.push(compose(&map, &whiten));
    }
    let encoder = Encoder::new(&model, space, forward);
    (t.report)(Stage::Codes, tables::ROUNDS * t.charts, tables::ROUNDS * t.charts)?;

    // The last steps see the rows as a reader of the file will: encoded and decoded.
    let rows = calibrate::sample(t.unit.rows(), config.seed);
    let (unit, gains) = calibrate::gather(t.unit, t.gains, &rows);
    let encoded = encode_rows(ops, &encoder, &model, unit.view())?;
    let alpha = calibrate::choose_alpha(&model, &encoded, unit.view(), &gains, t.queries);
    model.side.factors = calibrate::factor_levels(encoded.norms(), alpha);
    let (energy, anchor_energy) = encoded.energies(&model, &encoder, unit.view());
    Ok(Trained {
        model,
        encoder,
        alpha,
        energy,
        anchor_energy,
    })
}

/// `a b`, the map that applies b first.
fn compose(a: &Mat, b: &Mat) -> Mat {
    let mut out = Mat::zeros(a.rows(), b.dim());
    if a.rows() > 0 {
        product_nn(out.as_mut_slice(), a.view(), b.view());
    }
    out
}

/// Finds the anchors: the map from rows to the coordinates they are nearest in, the anchor of each row, the anchors.
///
/// What counts after water-filling is the sum of the logarithms of the variances of the residual, not their sum. So a
/// first, short k-means on the rows as they are gives the directions and variances of a residual, and the anchors are found
/// in those directions divided by the deviations (not below the water level): the gradient of what counts. Plain k-means,
/// weighted or not, leaves 1 to 4 % more distortion.
fn find_anchors<O: Ops>(
    ops: &O,
    t: &Training<'_>,
    z: MatRef<'_>,
    metric: &MetricRoot,
) -> Result<(Mat, Vec<u32>, Mat), Error> {
    let config = t.config;
    let total = FIRST_ITERATIONS + config.annealing.iterations;
    let first = AnnealingConfig {
        anchors: Some(t.anchors),
        iterations: FIRST_ITERATIONS,
        temperature: 0.0,
        seed: config.seed,
        ..config.annealing.clone()
    };
    let (_, assigned) = anneal(ops, t.unit, &first, |done| {
        (t.report)(Stage::Anchors, done, total)
    })?;
    let labels: Vec<u32> = assigned.nearest().collect();
    let cells = group_means(z, labels.iter().copied(), t.anchors);
    let spectrum = Spectrum::new(z, &labels, &cells, &vec![0; t.anchors], 0, t)?;
    let bits = (t.symbols * super::symbol_bits(config.code)) as f64;
    let rates = allocate(&spectrum.variances, &spectrum.spreads, bits, &spectrum.shape).rates;
    let kept = spectrum.variances.iter().zip(&rates).filter(|(_, r)| **r > 0.0);
    let level = kept.map(|(v, r)| v * 0.25f64.powf(*r)).fold(0.0, f64::max);
    let scale = |v: f64| 1.0 / v.max(level).max(f64::MIN_POSITIVE).sqrt();
    let mut weighted = spectrum.vectors;
    for (j, &v) in spectrum.variances.iter().enumerate() {
        // Without any variance at all (constant rows) every map will do.
        let scale = if level > 0.0 { scale(v) } else { 1.0 };
        weighted.row_mut(j).iter_mut().for_each(|x| *x *= scale);
    }
    let weighted = to_f32(&weighted);
    let placed = ops.download(&ops.project(&ops.upload(z)?, &vec![0.0; z.dim()], weighted.view())?)?;
    let settings = AnnealingConfig {
        anchors: Some(t.anchors),
        seed: config.seed,
        ..config.annealing.clone()
    };
    let (found, assigned) = anneal(ops, placed.view(), &settings, |done| {
        (t.report)(Stage::Anchors, FIRST_ITERATIONS + done, total)
    })?;
    (t.report)(Stage::Anchors, total, total)?;
    let space = compose(&weighted, &to_f32(&metric.root));
    Ok((space, assigned.nearest().collect(), found.anchors))
}

/// Which chart each anchor belongs to: anchors that lie together share one.
fn group_anchors<O: Ops>(ops: &O, anchors: MatRef<'_>, charts: usize, seed: u64) -> Result<Vec<u8>, Error> {
    if charts == 1 {
        return Ok(vec![0; anchors.rows()]);
    }
    let settings = AnnealingConfig {
        anchors: Some(charts),
        seed,
        ..AnnealingConfig::default()
    };
    let (_, assigned) = anneal(ops, anchors, &settings, |_| Ok(()))?;
    Ok(assigned.nearest().map(|g| g as u8).collect())
}

/// Principal directions of a chart's residuals in the metric, and how its anchors spread along them.
struct Spectrum {
    /// One direction a row, by falling variance.
    vectors: Mat<f64>,
    variances: Vec<f64>,
    /// Variance of the anchors along each direction over that of the residual.
    spreads: Vec<f64>,
    shape: Shape,
}

impl Spectrum {
    fn new(
        z: MatRef<'_>,
        labels: &[u32],
        cells: &Mat,
        anchor_chart: &[u8],
        g: usize,
        t: &Training<'_>,
    ) -> Result<Spectrum, Error> {
        let d = z.dim();
        let of_chart = |label: u32| usize::from(anchor_chart[label as usize]) == g;
        let rows: Vec<usize> = (0..z.rows()).filter(|&i| of_chart(labels[i])).collect();
        let mut residual = Mat::zeros(rows.len(), d);
        for (r, &i) in rows.iter().enumerate() {
            let cell = cells.row(labels[i] as usize);
            residual
                .row_mut(r)
                .iter_mut()
                .zip(z.row(i))
                .zip(cell)
                .for_each(|((r, x), c)| *r = x - c);
        }
        let (mut variances, vectors) = eigen(&second_moment(residual.view()), d)?;
        let members = anchor_chart.iter().filter(|&&c| usize::from(c) == g).count();
        // Each cell's mean took a degree of freedom from its rows.
        let correction =
            rows.len() as f64 / (rows.len() as f64 - members as f64).max(0.5 * rows.len() as f64 + 0.5);
        // Rounding leaves some 1e-14 of the largest variance where there is none.
        let noise = 1e-9 * variances[0].max(0.0);
        variances
            .iter_mut()
            .for_each(|v| *v = if *v > noise { *v * correction } else { 0.0 });
        let mut at_rows = Mat::zeros(rows.len(), d);
        for (r, &i) in rows.iter().enumerate() {
            at_rows.row_mut(r).copy_from_slice(cells.row(labels[i] as usize));
        }
        let moment = second_moment(at_rows.view());
        let center = mean(at_rows.view());
        let spreads = (0..d).map(|j| {
            let v = vectors.row(j);
            let along: f64 = v.iter().zip(&center).map(|(a, &c)| a * f64::from(c)).sum();
            let square: f64 = (0..d)
                .map(|p| v[p] * v.iter().zip(&moment[p * d..]).map(|(a, m)| a * m).sum::<f64>())
                .sum();
            (square - along * along).max(0.0) / variances[j].max(f64::MIN_POSITIVE)
        });
        let spreads = spreads.collect();
        let share = rows.len() as f64 / z.rows().max(1) as f64;
        let shape = Shape {
            rows: (t.sizes.n as f64 * share).max(1.0),
            dim: d,
            anchors: members,
            kind: t.config.code,
            lags: t.sizes.lags,
        };
        Ok(Spectrum {
            vectors,
            variances,
            spreads,
            shape,
        })
    }
}

/// Trains chart `g` and gives the map from weighted rows to its directions (active x d).
#[allow(
    clippy::too_many_arguments,
    reason = "the steps share what they were given; a struct of it would only rename it"
)]
fn train_chart<O: Ops>(
    ops: &O,
    t: &Training<'_>,
    z: &Mat,
    labels: &[u32],
    model: &Model,
    spectrum: &Spectrum,
    metric: &MetricRoot,
    symbols: usize,
    g: usize,
) -> Result<(Chart, Mat), Error> {
    let (config, d) = (t.config, z.dim());
    let bits = (symbols * super::symbol_bits(config.code)) as f64;
    let rates = allocate(&spectrum.variances, &spectrum.spreads, bits, &spectrum.shape).rates;
    let mut random = Random::new(config.seed, PURPOSE_PACK + ((g as u64) << 8));
    let groups = pack(&rates, symbols, config.code, t.sizes.lags, &mut random);
    let widths: Vec<u16> = groups.iter().map(|g| g.len() as u16).collect();
    let order = groups.concat();
    let active = order.len();

    // b_j = M^(-1/2) v_j
    let mut columns = Mat::zeros(active, d);
    for (r, &j) in order.iter().enumerate() {
        let v = spectrum.vectors.row(j);
        for (i, out) in columns.row_mut(r).iter_mut().enumerate() {
            *out = metric
                .inverse
                .row(i)
                .iter()
                .zip(v)
                .map(|(m, x)| m * x)
                .sum::<f64>() as f32;
        }
    }
    let decoder = symmetric(
        columns.view(),
        order
            .iter()
            .map(|&j| spectrum.shape.column_bits(rates[j]))
            .collect(),
    );
    let forward = forward_map(&decoder.to_mat(), metric);

    let y = ops.download(&ops.project(&ops.upload(z.view())?, &vec![0.0; d], forward.view())?)?;
    let members: Vec<usize> = (0..model.anchors())
        .filter(|&k| usize::from(model.anchor_chart[k]) == g)
        .collect();
    let at_cells = group_means(y.view(), labels.iter().copied(), model.anchors());
    let mut coordinates = Mat::zeros(active, members.len());
    for (i, &k) in members.iter().enumerate() {
        for j in 0..active {
            coordinates.row_mut(j)[i] = at_cells.row(k)[j];
        }
    }
    let bits = order
        .iter()
        .map(|&j| spectrum.shape.anchor_bits(spectrum.spreads[j]))
        .collect();
    let anchors = ranged(coordinates.view(), bits);

    let mut own = vec![usize::MAX; model.anchors()];
    members.iter().enumerate().for_each(|(i, &k)| own[k] = i);
    let stored = anchors.to_rows();
    let rows: Vec<usize> = (0..z.rows())
        .filter(|&i| own[labels[i] as usize] != usize::MAX)
        .collect();
    let picked = random.sample(rows.len(), TABLE_ROWS);
    let mut residual = Mat::zeros(picked.len(), active);
    for (r, &p) in picked.iter().enumerate() {
        let (i, anchor) = (rows[p], stored.row(own[labels[rows[p]] as usize]));
        residual
            .row_mut(r)
            .iter_mut()
            .zip(y.row(i))
            .zip(anchor)
            .for_each(|((r, x), a)| *r = x - a);
    }
    let seed = config.seed.wrapping_add(g as u64);
    let code = tables::train(
        ops,
        residual.view(),
        config.code,
        t.sizes.lags,
        widths,
        seed,
        |done| (t.report)(Stage::Codes, g * tables::ROUNDS + done, t.charts * tables::ROUNDS),
    )?;
    Ok((
        Chart {
            decoder,
            code,
            anchors,
        },
        forward,
    ))
}

/// The least-squares coordinates of a weighted row z in the stored decoder: `(C^T C)^-1 C^T` with C = M^(1/2) B.
/// As the decoder is rounded this mends what V^T alone would lose (1 % of the distortion at the bits we store).
fn forward_map(decoder: &Mat, metric: &MetricRoot) -> Mat {
    let (active, d) = (decoder.rows(), decoder.dim());
    let mut weighted = Mat::zeros(active, d);
    product_nn(
        weighted.as_mut_slice(),
        decoder.view(),
        to_f32(&metric.root).view(),
    );
    let mut gram = vec![0f64; active * active];
    for i in 0..active {
        for j in 0..=i {
            let product: f64 = weighted
                .row(i)
                .iter()
                .zip(weighted.row(j))
                .map(|(&a, &b)| f64::from(a) * f64::from(b))
                .sum();
            gram[i * active + j] = product;
            gram[j * active + i] = product;
        }
    }
    let mut right: Vec<f64> = weighted.as_slice().iter().map(|&v| f64::from(v)).collect();
    solve_ridge(&gram, active, &mut right, d, 1e-9);
    let mut out = Mat::zeros(active, d);
    out.as_mut_slice()
        .iter_mut()
        .zip(right)
        .for_each(|(o, v)| *o = v as f32);
    out
}
