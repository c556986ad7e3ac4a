//! The header of NumPy's `.npy`: magic, version, length and a Python dictionary.
//!
//! Parsed here and not by `npyz` 0.9.1, which multiplies the shape unchecked and allocates what the header asks for.

use super::{dtype::DType, layout::Layout};
use crate::error::InputError;

pub(super) const MAGIC: &[u8] = b"\x93NUMPY";
const SUPPORTED: &str = "float16, bfloat16, float32, float64, int8 to int64 and uint8 to uint64 are supported";
const IDS: &str = "ids are int8 to int64, uint8 to uint64, or strings";

/// Where the values of a whole `.npy` file are.
pub(super) fn layout(bytes: &[u8]) -> Result<Layout, InputError> {
    let (header, data) = split_header(bytes)?;
    let header = parse_header(header)
        .map_err(|what| error(format!("the .npy header is malformed ({what}); write the file again with np.save")))?;
    let dtype = dtype(&header.descr)?;
    if header.axes != 2 {
        let remedy = match header.axes {
            0 | 1 => "a.reshape(1, -1) if it is one vector",
            _ => "a.reshape(-1, a.shape[-1])",
        };
        return Err(error(format!(
            "the array is {}-D, but a 2-D one of rows x dim is needed; save {remedy}",
            header.axes
        )));
    }
    if header.fortran_order {
        return Err(error("the array is in Fortran order (column-major); save np.ascontiguousarray(a)"));
    }
    Layout::of_whole(dtype, header.shape, bytes.len() - data.len(), data.len())
}

/// What the elements of a column are, with the bytes of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    /// Signed, of 1, 2, 4 or 8 bytes.
    Int(u64),
    /// Unsigned.
    Uint(u64),
    /// UTF-32, with zeros at the end.
    Unicode(u64),
    /// Bytes, with zeros at the end.
    Bytes(u64),
}

/// The type and the bytes of the ids in a whole `.npy` file, n or n x 1.
pub(super) fn column(bytes: &[u8]) -> Result<(Element, &[u8]), InputError> {
    let (header, data) = split_header(bytes)?;
    let header = parse_header(header)
        .map_err(|what| error(format!("the .npy header is malformed ({what}); write the file again with np.save")))?;
    let element = element(&header.descr)?;
    if header.axes != 1 && (header.axes != 2 || header.shape[1] != 1) {
        return Err(error("ids are an array of one column, n or n x 1; save a.reshape(-1)"));
    }
    let (Element::Int(size) | Element::Uint(size) | Element::Unicode(size) | Element::Bytes(size)) = element;
    // Strings without a character take no bytes, however many there are.
    match header.shape[0].checked_mul(size) {
        Some(expected) if expected == data.len() as u64 && (size > 0 || header.shape[0] == 0) => Ok((element, data)),
        _ => Err(error(format!(
            "the header has {} ids of {size} bytes and {} bytes follow; copy or write the file again",
            header.shape[0],
            data.len()
        ))),
    }
}

/// The type of ids. What is advised for another works for every array of that type.
fn element(descr: &Descr<'_>) -> Result<Element, InputError> {
    let Descr::Plain(descr) = descr else {
        return Err(error("the array has named fields; save one of them: a['name']"));
    };
    let shown = shown(descr);
    let digits = descr.get(2..).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default();
    let size = if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse::<u64>().ok() } else { None };
    let whole = matches!(size, Some(1 | 2 | 4 | 8));
    let advice = match (descr.first(), descr.get(1), size) {
        (Some(b'>'), Some(b'i' | b'u'), Some(2 | 4 | 8)) | (Some(b'>'), Some(b'U'), Some(_)) => {
            format!("dtype '{shown}' is big-endian; save a.astype('<{}')", &shown[1..])
        }
        (_, Some(b'i'), Some(size)) if whole => return Ok(Element::Int(size)),
        (_, Some(b'u'), Some(size)) if whole => return Ok(Element::Uint(size)),
        (_, Some(b'U'), Some(size)) => return Ok(Element::Unicode(size.saturating_mul(4))),
        (_, Some(b'S'), Some(size)) => return Ok(Element::Bytes(size)),
        (_, Some(b'O'), _) => "dtype object holds pickled Python objects; save a.astype(str)".to_owned(),
        (_, Some(b'f' | b'b' | b'c'), _) => format!("dtype {shown:?} is no type of ids; save a.astype(np.int64)"),
        (_, Some(b'M' | b'm'), _) => format!("dtype {shown:?} is no type of ids; save a.astype(str)"),
        _ => format!("dtype {shown:?} is no type of ids; save whole numbers or strings"),
    };
    Err(error(format!("{advice} ({IDS})")))
}

fn error(message: impl Into<String>) -> InputError {
    InputError::new(None, message)
}

/// The text of the header and what follows it.
fn split_header(bytes: &[u8]) -> Result<(&[u8], &[u8]), InputError> {
    if !bytes.starts_with(&MAGIC[..MAGIC.len().min(bytes.len())]) {
        return Err(error("not a .npy file: it does not begin with \\x93NUMPY; write it with np.save"));
    }
    let truncated = || error("truncated within the .npy header; copy or write the file again");
    let (version, rest) = bytes[MAGIC.len().min(bytes.len())..].split_first_chunk().ok_or_else(truncated)?;
    let (len, rest) = match version {
        [1, 0] => rest.split_first_chunk().map(|(&len, rest)| (u32::from(u16::from_le_bytes(len)), rest)),
        [2 | 3, 0] => rest.split_first_chunk().map(|(&len, rest)| (u32::from_le_bytes(len), rest)),
        [major, minor] => {
            return Err(error(format!(
                "version {major}.{minor} of .npy is not known, only 1.0, 2.0 and 3.0; \
                 write it with np.save"
            )));
        }
    }
    .ok_or_else(truncated)?;
    rest.split_at_checked(len as usize).ok_or_else(truncated)
}

/// The start of a type's name, for messages.
fn shown(descr: &[u8]) -> String {
    String::from_utf8_lossy(&descr[..descr.len().min(16)]).into_owned()
}

/// The type of values. What is advised for another works for every array of that type.
fn dtype(descr: &Descr<'_>) -> Result<DType, InputError> {
    let Descr::Plain(descr) = descr else {
        return Err(error("the array has named fields; save one of them: a['name']"));
    };
    let shown = shown(descr);
    Err(error(match *descr {
        b"<f2" => return Ok(DType::F16),
        b"<f4" => return Ok(DType::F32),
        b"<f8" => return Ok(DType::F64),
        b"|i1" | b"<i1" | b">i1" => return Ok(DType::I8),
        b"|u1" | b"<u1" | b">u1" => return Ok(DType::U8),
        b"<i2" => return Ok(DType::I16),
        b"<i4" => return Ok(DType::I32),
        b"<i8" => return Ok(DType::I64),
        b"<u2" => return Ok(DType::U16),
        b"<u4" => return Ok(DType::U32),
        b"<u8" => return Ok(DType::U64),
        // NumPy has no bfloat16: that of ml_dtypes (JAX, TensorFlow) is saved as raw bytes, and nothing else that is saved so is vectors.
        b"<V2" | b"|V2" | b"bfloat16" => return Ok(DType::Bf16),
        [b'>', b'f' | b'i' | b'u', b'2' | b'4' | b'8'] => {
            format!("dtype '{shown}' is big-endian; save a.astype('<{}')", &shown[1..])
        }
        [b'|', b'O', ..] => {
            format!(
                "dtype object holds pickled Python objects; \
                 save np.stack(a).astype(np.float32), which takes rows of numbers of one length ({SUPPORTED})"
            )
        }
        [_, b'U' | b'S', ..] => format!("dtype {shown:?} is strings; save numbers ({SUPPORTED})"),
        [_, b'V', ..] => format!(
            "dtype {shown:?} is raw bytes, as of a type that NumPy does not know; \
             save float32 where the array is made ({SUPPORTED})"
        ),
        _ => format!("dtype {shown:?} is not supported; save a.astype(np.float32) ({SUPPORTED})"),
    }))
}

enum Descr<'a> {
    Plain(&'a [u8]),
    Structured,
}

struct Header<'a> {
    descr: Descr<'a>,
    fortran_order: bool,
    /// How many axes; `shape` holds the first two.
    axes: usize,
    shape: [u64; 2],
}

/// Parses `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`, the keys in any order.
fn parse_header(text: &[u8]) -> Result<Header<'_>, &'static str> {
    let mut cursor = Cursor(text);
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    cursor.expect(b'{', "no dictionary")?;
    while !cursor.take(b'}') {
        let key = cursor.string()?;
        cursor.expect(b':', "no ':' after a key")?;
        match key {
            // The rest of such a header is of no use.
            b"descr" if cursor.take(b'[') => {
                return Ok(Header { descr: Descr::Structured, fortran_order: false, axes: 0, shape: [0; 2] });
            }
            b"descr" => descr = Some(Descr::Plain(cursor.string()?)),
            b"fortran_order" => fortran_order = Some(cursor.boolean()?),
            b"shape" => shape = Some(cursor.tuple()?),
            _ => return Err("unknown key"),
        }
        if !cursor.take(b',') {
            cursor.expect(b'}', "no ',' or '}' after a value")?;
            break;
        }
    }
    let (axes, shape) = shape.ok_or("no shape")?;
    Ok(Header {
        descr: descr.ok_or("no descr")?,
        fortran_order: fortran_order.ok_or("no fortran_order")?,
        axes,
        shape,
    })
}

/// What is left of the text.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    /// Skips spaces, then `byte` if it is next.
    fn take(&mut self, byte: u8) -> bool {
        self.0 = self.0.trim_ascii_start();
        let rest = self.0.strip_prefix(&[byte]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn expect(&mut self, byte: u8, otherwise: &'static str) -> Result<(), &'static str> {
        if self.take(byte) { Ok(()) } else { Err(otherwise) }
    }

    /// Splits off the bytes before the first one that `ends`.
    fn until(&mut self, ends: impl Fn(&u8) -> bool) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(self.0.iter().position(ends).unwrap_or(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A quoted string. Those of this dictionary have no escapes.
    fn string(&mut self) -> Result<&'a [u8], &'static str> {
        let quote = if self.take(b'\'') { b'\'' } else { b'"' };
        if quote == b'"' {
            self.expect(quote, "no string where one belongs")?;
        }
        let text = self.until(|&byte| byte == quote);
        self.expect(quote, "a string without end")?;
        Ok(text)
    }

    fn boolean(&mut self) -> Result<bool, &'static str> {
        self.take(b' ');
        match self.until(|byte| !byte.is_ascii_alphabetic()) {
            b"True" => Ok(true),
            b"False" => Ok(false),
            _ => Err("fortran_order is neither True nor False"),
        }
    }

    /// The length of a tuple of integers and the first two of them.
    fn tuple(&mut self) -> Result<(usize, [u64; 2]), &'static str> {
        let (mut len, mut first) = (0, [0; 2]);
        self.expect(b'(', "shape is no tuple")?;
        while !self.take(b')') {
            let digits = self.until(|byte| !byte.is_ascii_digit());
            let value = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
            let value = value.ok_or("shape has an entry that is no size")?;
            if let Some(slot) = first.get_mut(len) {
                *slot = value;
            }
            len += 1;
            // Python 2 wrote sizes as 3L.
            self.take(b'L');
            if !self.take(b',') {
                self.expect(b')', "shape without end")?;
                break;
            }
        }
        Ok((len, first))
    }
}
