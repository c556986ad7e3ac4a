//! Where the values are in the bytes of a file.

use super::dtype::DType;
use crate::error::InputError;

/// Where the values are in the bytes of a file. Row `i` is the `dim` values at `start + i * stride + lead`, and the
/// last one ends within the file: whoever makes a layout has checked it.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) dtype: DType,
    pub(super) rows: usize,
    pub(super) dim: usize,
    /// Byte at which the first row begins.
    pub(super) start: usize,
    /// Bytes before the values of each row: its width, or none.
    pub(super) lead: usize,
    /// Bytes from row to row.
    pub(super) stride: usize,
}

impl Layout {
    /// Rows without gaps, which fill the `found` bytes from `start` on.
    pub(super) fn of_whole(dtype: DType, shape: [u64; 2], start: usize, found: usize) -> Result<Self, InputError> {
        let [rows, dim] = shape;
        let message = if rows == 0 {
            format!("no rows: the shape is {rows} x {dim}; give a file with at least one vector")
        } else if dim == 0 {
            format!("no columns: the shape is {rows} x {dim}; give vectors with at least one value")
        } else {
            let expected = rows.checked_mul(dim).and_then(|values| values.checked_mul(dtype.size() as u64));
            let of_shape = format!("for {rows} x {dim} {dtype}");
            match expected {
                Some(expected) if expected == found as u64 => {
                    // Both are factors of `found`, so they fit.
                    let (rows, dim) = (rows as usize, dim as usize);
                    return Ok(Layout { dtype, rows, dim, start, lead: 0, stride: dim * dtype.size() });
                }
                Some(expected) if expected < found as u64 => format!(
                    "trailing bytes: expected {expected} bytes {of_shape} after the header, \
                     found {found}; the header and the data disagree, write the file again"
                ),
                Some(expected) => format!(
                    "truncated: expected {expected} bytes {of_shape} after the header, \
                     found {found}; copy or write the file again"
                ),
                None => format!(
                    "truncated: expected more than 2^64 bytes {of_shape} after the header, \
                     found {found}; the header is damaged, write the file again"
                ),
            }
        };
        Err(InputError::new(None, message))
    }
}
