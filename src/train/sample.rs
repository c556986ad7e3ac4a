//! Checks what was given, and brings the sample and the queries to the form the codec sees.

use rayon::prelude::*;

use super::{calibrate::TARGET_K, sizes::Sizes};
use crate::{
    config::{Config, check_decoder},
    error::{Error, InputError},
    file::lengths::Lengths,
    format::gain::MOST_BYTES as MOST_GAIN,
    math::rng::Random,
    matrix::{Mat, MatRef, copy_rows},
    model::kinds::Metric,
    read::{
        prepare::{RowFault, SHORTEST, for_each_chunk, unit_row},
        source::RowSource,
    },
    report::Stage,
    train,
};

/// The sample and the queries as the codec sees them, and the sizes that follow from the settings.
pub(crate) struct Prepared<'a> {
    pub(crate) rows: &'a dyn RowSource,
    pub(crate) sizes: Sizes,
    /// Subtracted from rows and queries.
    pub(crate) center: Vec<f32>,
    /// Smallest and largest length of a row, but for a few that are far from all others.
    pub(crate) gain_range: (f32, f32),
    /// The sample as unit rows.
    pub(crate) unit: Mat,
    /// Their lengths.
    pub(crate) gains: Vec<f32>,
    queries: Option<Mat>,
    /// The same at their own length, where the order of scores depends on it.
    scored_queries: Option<Mat>,
    /// Held-out queries, scaled for exact scores.
    pub(crate) held: Mat,
    /// The row that each of them is, when they are rows.
    pub(crate) held_rows: Option<Vec<usize>>,
}

impl Prepared<'_> {
    /// Sample queries as unit rows, those held out not among them.
    pub(crate) fn training_queries(&self) -> Option<MatRef<'_>> {
        self.queries.as_ref().map(Mat::view)
    }

    /// The same as scores take them: at their own length, but for the cosine.
    pub(crate) fn scored_queries(&self) -> Option<MatRef<'_>> {
        self.scored_queries.as_ref().or(self.queries.as_ref()).map(Mat::view)
    }

    /// Divides sample queries into those that training sees and those that are held out.
    fn divide(&mut self, given: MatRef<'_>, metric: Metric) -> Result<(), Error> {
        let dim = self.unit.dim();
        if given.dim() != dim {
            let message = format!("the sample queries have {} dimensions, the rows have {dim}", given.dim());
            return Err(InputError::new(None, message).into());
        }
        let mut all = Mat::new(given.as_slice().to_vec(), given.rows(), dim)?;
        let lengths = to_unit(&mut all, metric, &self.center, |i, fault| match fault.at(None, i) {
            Error::Input(e) => InputError { message: format!("in the sample queries: {}", e.message), ..e }.into(),
            other => other,
        })?;
        let every = HELD_OUT.max(given.rows().div_ceil(HELD_MOST));
        let (kept, out): (Vec<usize>, Vec<usize>) = (0..all.rows()).partition(|i| i % every != every - 1);
        self.held = with_lengths(all.view(), &out, &lengths, metric);
        self.scored_queries = (metric == Metric::L2).then(|| with_lengths(all.view(), &kept, &lengths, metric));
        self.queries = Some(copy_rows(all.view(), &kept));
        Ok(())
    }
}

/// Values of the training sample at most. A few copies of them are what training takes of memory.
const SAMPLE_VALUES: usize = 40 << 20;
/// Rows of the training sample at most. All of 100,000 rows in place of a third are worth a quarter to half a point of recall at
/// the same bytes.
const SAMPLE_ROWS: usize = 1 << 17;
/// Rows from which on their one length takes less than a code for each.
const ONE_LENGTH_ROWS: usize = 256;
/// One of so many sample queries is held out.
const HELD_OUT: usize = 8;
/// Held-out queries at most: the exact truth costs a pass over all rows for each.
const HELD_MOST: usize = 256;
/// Rows used as queries where there are no sample queries.
const HELD_ROWS: usize = 256;
const PURPOSE_SAMPLE: u64 = 21;

type ReportFn<'a> = dyn Fn(Stage, usize, usize) -> Result<(), Error> + 'a;

/// Checks settings, reads the sample, and brings rows and queries to the codec's form.
pub(crate) fn prepare<'a>(
    rows: &'a dyn RowSource,
    config: &Config<'_>,
    report: &ReportFn<'_>,
) -> Result<Prepared<'a>, Error> {
    train::check_annealing(&config.annealing)?;
    let (n, dim) = (rows.rows(), rows.dim());
    if n == 0 || dim == 0 || dim > 65_536 {
        let message = format!("{n} rows of {dim} dimensions: at least one row of 1 to 65536 dimensions is needed");
        return Err(InputError::new(rows.path(), message).into());
    }
    check_decoder(config, dim)?;
    if config.refine == Some(0) {
        return Err(Error::Config("a refine layer takes at least 1 byte per row; leave it out for none".into()));
    }
    if let Some(ids) = config.ids {
        ids.check(n)?;
    }
    let mut sizes = Sizes::new(n, dim, config)?;
    let mut random = Random::new(config.seed, PURPOSE_SAMPLE);
    let sample = random.sample(n, sample_rows(n, dim));
    report(Stage::Sample, 0, sample.len())?;
    let mut unit = read_sample(rows, &sample)?;
    if config.metric == Metric::L2 {
        check_finite(rows, &sample, &unit)?;
    }
    // Rows of one length lie on a sphere about the origin: l2 then ranks as the cosine does, and no length is kept. (For dot it is: rows
    // of any length may come later, and scores are in proportion to it.)
    let one = if config.metric == Metric::L2 && n >= ONE_LENGTH_ROWS { one_length(rows, &unit)? } else { None };
    let center = match (config.metric, one) {
        (Metric::L2, None) => crate::math::center::center(unit.view()),
        _ => vec![0.0; dim],
    };
    if one.is_some() {
        sizes.gain_nibbles = 0;
    }
    let mut gains = to_unit(&mut unit, config.metric, &center, |i, fault| fault.at(rows.path(), sample[i]))?;
    if config.metric == Metric::Cosine {
        gains.fill(1.0);
    }
    let mut gain_range = one.map_or((1.0, 1.0), |length| (length, length));
    if sizes.gain_nibbles > 0 {
        let lengths = all_lengths(rows, config.metric, &center)?;
        let outside;
        (gain_range, outside) = lengths.model_range(sizes.gain_nibbles);
        sizes.gains = if outside { MOST_GAIN } else { 0 };
    }
    report(Stage::Sample, sample.len(), sample.len())?;

    let mut prepared = Prepared {
        rows,
        sizes,
        center,
        gain_range,
        unit,
        gains,
        queries: None,
        scored_queries: None,
        held: Mat::zeros(0, dim),
        held_rows: None,
    };
    if let Some(given) = config.queries {
        prepared.divide(given, config.metric)?;
    } else if n > 2 * TARGET_K {
        let picked = random.sample(sample.len(), HELD_ROWS);
        prepared.held = with_lengths(prepared.unit.view(), &picked, &prepared.gains, config.metric);
        prepared.held_rows = Some(picked.iter().map(|&i| sample[i]).collect());
    }
    Ok(prepared)
}

/// Rows of the sample, at most.
pub(crate) fn sample_rows(n: usize, dim: usize) -> usize {
    // At least twice the dimensions, or the directions of least variance would be noise.
    (SAMPLE_VALUES / dim).max(2 * dim).min(SAMPLE_ROWS).min(n)
}

/// Some unit rows at their own length, as exact scores need them; cosine asks for unit length.
fn with_lengths(unit: MatRef<'_>, picked: &[usize], lengths: &[f32], metric: Metric) -> Mat {
    let mut out = copy_rows(unit, picked);
    if metric != Metric::Cosine {
        for (r, &i) in picked.iter().enumerate() {
            out.row_mut(r).iter_mut().for_each(|v| *v *= lengths[i]);
        }
    }
    out
}

/// Reads the sample rows, neighbouring ones together.
pub(crate) fn read_sample(rows: &dyn RowSource, sample: &[usize]) -> Result<Mat, Error> {
    /// Rows of a unit of parallel work.
    const PART: usize = 1024;
    let dim = rows.dim();
    let mut out = Mat::zeros(sample.len(), dim);
    let parts = out.as_mut_slice().par_chunks_mut(PART * dim).zip(sample.par_chunks(PART));
    let read_part = |(out, sample): (&mut [f32], &[usize])| {
        let mut at = 0;
        while at < sample.len() {
            let run = (at..sample.len()).take_while(|&i| sample[i] - sample[at] == i - at).count();
            rows.read(sample[at], &mut out[at * dim..(at + run) * dim])?;
            at += run;
        }
        Ok(())
    };
    // Of several errors the first counts.
    let read: Vec<Result<(), Error>> = parts.map(read_part).collect();
    read.into_iter().collect::<Result<(), Error>>()?;
    Ok(out)
}

fn check_finite(rows: &dyn RowSource, sample: &[usize], values: &Mat) -> Result<(), Error> {
    match values.as_slice().iter().position(|v| !v.is_finite()) {
        Some(at) => {
            let (i, column) = (at / values.dim(), at % values.dim());
            let mut unit = vec![0.0; values.dim()];
            let zeros = vec![0.0; values.dim()];
            match unit_row(values.row(i), Metric::Dot, &zeros, &mut unit) {
                Err(fault) => Err(fault.at(rows.path(), sample[i])),
                Ok(_) => Err(InputError::new(rows.path(), "not finite").at_row(sample[i]).at_column(column).into()),
            }
        }
        None => Ok(()),
    }
}

/// Brings every row to length one and gives the lengths; of several rows that cannot be used the first is reported.
pub(crate) fn to_unit(
    rows: &mut Mat,
    metric: Metric,
    center: &[f32],
    at: impl Fn(usize, RowFault) -> Error,
) -> Result<Vec<f32>, Error> {
    let dim = rows.dim();
    let gains: Vec<_> = rows
        .as_mut_slice()
        .par_chunks_mut(dim)
        .map(|row| {
            let given = row.to_vec();
            unit_row(&given, metric, center, row)
        })
        .collect();
    gains.into_iter().enumerate().map(|(i, gain)| gain.map_err(|fault| at(i, fault))).collect()
}

/// The one length that all rows have or nearly have, where they do; `sample` are some of them.
fn one_length(rows: &dyn RowSource, sample: &Mat) -> Result<Option<f32>, Error> {
    let origin = vec![0.0; rows.dim()];
    let mut unit = vec![0.0; rows.dim()];
    let mut some = Lengths::default();
    for i in 0..sample.rows() {
        match unit_row(sample.row(i), Metric::Dot, &origin, &mut unit) {
            Ok(length) => some.add(length, 1),
            Err(_) => return Ok(None),
        }
    }
    match some.one(sample.rows()) {
        Some(_) => Ok(all_lengths(rows, Metric::Dot, &origin)?.one(rows.rows())),
        None => Ok(None),
    }
}

/// The lengths of all rows.
fn all_lengths(rows: &dyn RowSource, metric: Metric, center: &[f32]) -> Result<Lengths, Error> {
    let mut lengths = Lengths::default();
    let mut longest = (0f32, 0);
    for_each_chunk(rows, |first, chunk| {
        let mut unit = Mat::new(chunk.as_slice().to_vec(), chunk.rows(), chunk.dim())?;
        let gains = to_unit(&mut unit, metric, center, |i, fault| fault.at(rows.path(), first + i))?;
        for (i, gain) in gains.into_iter().enumerate() {
            lengths.add(gain, 1);
            longest = if gain > longest.0 { (gain, first + i) } else { longest };
        }
        Ok(())
    })?;
    if longest.0 > 0.0 && longest.0 < SHORTEST {
        return Err(RowFault::Short { length: longest.0 }.at(rows.path(), longest.1));
    }
    Ok(lengths)
}
