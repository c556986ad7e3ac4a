//! From rows as they come to rows as the codec sees them: checked, centred and of length one.

use std::path::Path;

use super::source::RowSource;
use crate::{
    error::{Error, InputError},
    matrix::{Mat, MatRef},
    model::kinds::Metric,
};

/// Values of a chunk of rows read at a time.
const CHUNK_VALUES: usize = 1 << 20;

/// Why a row cannot be used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum RowFault {
    NotFinite {
        column: usize,
        value: f32,
    },
    Zero,
    /// Longer than [`LONGEST`].
    Long {
        length: f64,
    },
    /// The longest row or query, and shorter than [`SHORTEST`].
    Short {
        length: f32,
    },
}

/// Lengths of rows and queries at most, where the metric is not the cosine: so that their squares and products are floats of 32 bits.
pub(crate) const LONGEST: f64 = 1e18;
/// The least length of the longest row, where it is not 0: below it squares and products of all of them would vanish.
pub(crate) const SHORTEST: f32 = 1e-18;

impl RowFault {
    /// The error for the row `row` of `file`.
    pub(crate) fn at(self, file: Option<&Path>, row: usize) -> Error {
        let error = match self {
            RowFault::NotFinite { column, value } => {
                let message = format!("the value is {value}; every value must be finite: drop or mend the row");
                InputError::new(file, message).at_row(row).at_column(column)
            }
            RowFault::Zero => {
                let message = "all values are 0, which has no direction for the cosine: drop the row, or use the metric dot or l2";
                InputError::new(file, message).at_row(row)
            }
            RowFault::Long { length } => {
                let message = format!(
                    "its length (for the metric l2, its distance from the middle of all rows) is {length:.3e}, and scores take lengths \
                     up to {LONGEST:e}: drop or mend the row, divide all values by the same number, or use the metric cosine"
                );
                InputError::new(file, message).at_row(row)
            }
            RowFault::Short { length } => {
                let message = format!(
                    "its length (for the metric l2, its distance from the middle of all rows) is {length:.3e}, and scores of \
                     lengths below {SHORTEST:e} vanish: multiply all values by the same number, or use the metric cosine"
                );
                InputError::new(file, message).at_row(row)
            }
        };
        error.into()
    }
}

/// Writes `(row - center) / |row - center|` to `unit` and gives the length; a row of length 0 becomes zeros.
///
/// Lengths are taken in f64, so for the cosine rows of values up to the largest f32 are fine; for other metrics those up to [`LONGEST`].
pub(crate) fn unit_row(row: &[f32], metric: Metric, center: &[f32], unit: &mut [f32]) -> Result<f32, RowFault> {
    let mut sum = 0f64;
    for (x, c) in row.iter().zip(center) {
        let v = f64::from(*x) - f64::from(*c);
        sum += v * v;
    }
    if !sum.is_finite() {
        let found = row.iter().position(|v| !v.is_finite());
        if let Some(column) = found {
            return Err(RowFault::NotFinite { column, value: row[column] });
        }
    }
    if sum == 0.0 {
        if metric == Metric::Cosine {
            return Err(RowFault::Zero);
        }
        unit.fill(0.0);
        return Ok(0.0);
    }
    let length = sum.sqrt();
    if metric != Metric::Cosine && length > LONGEST {
        return Err(RowFault::Long { length });
    }
    let scale = 1.0 / length;
    for ((u, x), c) in unit.iter_mut().zip(row).zip(center) {
        *u = ((f64::from(*x) - f64::from(*c)) * scale) as f32;
    }
    Ok((length.min(f64::from(f32::MAX))) as f32)
}

/// Rows of a chunk of `dim` columns, a multiple of 256.
pub(crate) fn chunk_rows(dim: usize) -> usize {
    (CHUNK_VALUES / dim.max(1)).next_multiple_of(256)
}

/// Reads all rows in order, a bounded chunk at a time; `each` is given the number of the chunk's first row.
pub(crate) fn for_each_chunk(
    source: &dyn RowSource,
    mut each: impl FnMut(usize, MatRef<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let step = chunk_rows(source.dim());
    let mut buffer = Mat::zeros(step.min(source.rows()), source.dim());
    for start in (0..source.rows()).step_by(step) {
        let count = step.min(source.rows() - start);
        let values = &mut buffer.as_mut_slice()[..count * source.dim()];
        source.read(start, values)?;
        each(start, MatRef::new(values, count, source.dim())?)?;
    }
    Ok(())
}

/// Queries as the codec sees them.
pub(crate) struct PreparedQueries {
    pub(crate) rows: Mat,
    /// Subtracted from every score of a query: `|q - center|^2` for l2, else 0.
    pub(crate) constants: Vec<f32>,
}

/// Checks queries and brings them to the codec's form; `first` is the number of the first in messages.
pub(crate) fn prepare_queries(
    queries: MatRef<'_>,
    metric: Metric,
    center: &[f32],
    dim: usize,
    first: usize,
) -> Result<PreparedQueries, Error> {
    if queries.dim() != dim {
        let message = format!("the queries have {} dimensions, the index has {dim}", queries.dim());
        return Err(InputError::new(None, message).into());
    }
    let mut rows = Mat::zeros(queries.rows(), dim);
    let mut constants = vec![0f32; queries.rows()];
    for i in 0..queries.rows() {
        let gain = crate::read::prepare::unit_row(queries.row(i), metric, center, rows.row_mut(i))
            .map_err(|e| e.at(None, first + i))?;
        if metric == Metric::Dot && gain > 0.0 && gain < SHORTEST {
            return Err(RowFault::Short { length: gain }.at(None, first + i));
        }
        if metric != Metric::Cosine {
            rows.row_mut(i).iter_mut().for_each(|v| *v *= gain);
        }
        if metric == Metric::L2 {
            constants[i] = gain * gain;
        }
    }
    Ok(PreparedQueries { rows, constants })
}
