//! The headers of `.fvecs` and `.bvecs` (a width before every row) and of `.fbin`, `.u8bin` and `.i8bin` (rows and
//! width once, as in the big-ann-benchmarks). All integers are little-endian.

use super::{dtype::DType, layout::Layout};
use crate::error::InputError;

/// Bytes of the width before each row of `.fvecs` and `.bvecs`.
const WIDTH_BYTES: usize = 4;

/// Where the values of a whole `.fvecs` or `.bvecs` file are.
///
/// The widths of all rows are looked at only when the length of the file shows that one of them differs; otherwise
/// [`check_width`] sees each as it is read, so that opening a file does not read it.
pub(super) fn layout_of_vecs(dtype: DType, bytes: &[u8]) -> Result<Layout, InputError> {
    let Some(width) = width_at(bytes, 0) else {
        return Err(error("truncated within the width of the first row; copy or write the file again"));
    };
    let dim =
        usize::try_from(width).map_err(|_| error(format!("the first row's width is {width}: {WRONG_FORMAT}")))?;
    if dim == 0 {
        return Err(error("no columns: the first row's width is 0; write rows with at least one value"));
    }
    // Below 2^34, which is above the address space of a 32-bit machine.
    let stride = dim.checked_mul(dtype.size()).and_then(|len| len.checked_add(WIDTH_BYTES));
    let stride = stride.filter(|&stride| stride <= bytes.len()).ok_or_else(|| {
        error(format!(
            "truncated: the first row of {dim} {dtype} does not fit into the file's {} bytes; \
             copy or write it again, unless {WRONG_FORMAT}",
            bytes.len()
        ))
    })?;
    let rows = bytes.len() / stride;
    let layout = Layout { dtype, rows, dim, start: 0, lead: WIDTH_BYTES, stride };
    let spare = bytes.len() % stride;
    if spare == 0 {
        return Ok(layout);
    }
    for row in 0..rows {
        check_width(&layout, bytes, row)?;
    }
    // The last row is cut short, or has another width.
    match width_at(bytes, rows * stride) {
        Some(last) if last != width => Err(width_error(rows, dim, last)),
        _ => Err(error(format!(
            "truncated: expected {} bytes for {} rows of {dim} {dtype}, found {}; \
             copy or write the file again",
            (rows + 1).saturating_mul(stride),
            rows + 1,
            bytes.len()
        ))),
    }
}

const WRONG_FORMAT: &str = "this may not be such a file (every row begins with its width as int32)";

fn error(message: impl Into<String>) -> InputError {
    InputError::new(None, message)
}

fn width_at(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..)?.first_chunk().map(|&width| i32::from_le_bytes(width))
}

fn width_error(row: usize, dim: usize, width: i32) -> InputError {
    error(format!("the row's width is {width}, but that of row 0 is {dim}; write all rows with one width"))
        .at_row(row)
}

/// Checks the width before a row, of layouts that have one.
pub(super) fn check_width(layout: &Layout, bytes: &[u8], row: usize) -> Result<(), InputError> {
    match width_at(bytes, layout.start + row * layout.stride) {
        Some(width) if usize::try_from(width) != Ok(layout.dim) => Err(width_error(row, layout.dim, width)),
        _ => Ok(()),
    }
}

/// Where the values of a whole `.fbin`, `.u8bin` or `.i8bin` file are.
pub(super) fn layout_of_bin(dtype: DType, bytes: &[u8]) -> Result<Layout, InputError> {
    let header = bytes.split_first_chunk::<8>();
    let (&[a, b, c, d, e, f, g, h], data) = header
        .ok_or_else(|| error("truncated within the header (rows and width, 4 bytes each); copy or write it again"))?;
    let shape = [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])];
    Layout::of_whole(dtype, shape.map(u64::from), 8, data.len())
}
