//! The types of value that files hold, and their conversion to float32.

use half::{bf16, f16, slice::HalfFloatSliceExt};

/// The type of the values in a file. All are little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DType {
    /// IEEE binary16.
    F16,
    /// The upper half of an IEEE binary32.
    Bf16,
    /// IEEE binary32.
    F32,
    /// IEEE binary64; read as float32.
    F64,
    /// Signed byte.
    I8,
    /// Unsigned byte.
    U8,
    /// Whole numbers of 16, 32 and 64 bits; those above 2^24 are rounded to float32.
    I16,
    /// See [`I16`](DType::I16).
    I32,
    /// See [`I16`](DType::I16).
    I64,
    /// See [`I16`](DType::I16).
    U16,
    /// See [`I16`](DType::I16).
    U32,
    /// See [`I16`](DType::I16).
    U64,
}

impl DType {
    /// Bytes per value.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            DType::I8 | DType::U8 => 1,
            DType::F16 | DType::Bf16 | DType::I16 | DType::U16 => 2,
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::F64 | DType::I64 | DType::U64 => 8,
        }
    }
}

/// The name NumPy gives the type, such as `float32`.
impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            DType::F16 => "float16",
            DType::Bf16 => "bfloat16",
            DType::F32 => "float32",
            DType::F64 => "float64",
            DType::I8 => "int8",
            DType::U8 => "uint8",
            DType::I16 => "int16",
            DType::I32 => "int32",
            DType::I64 => "int64",
            DType::U16 => "uint16",
            DType::U32 => "uint32",
            DType::U64 => "uint64",
        })
    }
}

/// Converts the values in `bytes`, which need no alignment, to float32. `bytes` is `out.len() * dtype.size()` long.
pub(super) fn convert(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    debug_assert_eq!(bytes.len(), out.len() * dtype.size());
    match dtype {
        DType::F16 => convert_f16(bytes, out),
        DType::F32 => convert_each(bytes, out, f32::from_le_bytes),
        DType::F64 => convert_each(bytes, out, |value| f64::from_le_bytes(value) as f32),
        DType::I8 => convert_each(bytes, out, |value| f32::from(i8::from_le_bytes(value))),
        DType::U8 => convert_each(bytes, out, |[value]| f32::from(value)),
        DType::Bf16 => convert_each(bytes, out, |value| bf16::from_le_bytes(value).to_f32()),
        DType::I16 => convert_each(bytes, out, |value| i16::from_le_bytes(value).into()),
        DType::I32 => convert_each(bytes, out, |value| i32::from_le_bytes(value) as f32),
        DType::I64 => convert_each(bytes, out, |value| i64::from_le_bytes(value) as f32),
        DType::U16 => convert_each(bytes, out, |value| u16::from_le_bytes(value).into()),
        DType::U32 => convert_each(bytes, out, |value| u32::from_le_bytes(value) as f32),
        DType::U64 => convert_each(bytes, out, |value| u64::from_le_bytes(value) as f32),
    }
}

fn convert_each<const N: usize>(bytes: &[u8], out: &mut [f32], to_f32: impl Fn([u8; N]) -> f32) {
    for (out, &value) in out.iter_mut().zip(bytes.as_chunks().0) {
        *out = to_f32(value);
    }
}

/// In blocks, because the processor's own conversion is looked up once per call.
fn convert_f16(bytes: &[u8], out: &mut [f32]) {
    let mut block = [f16::ZERO; 256];
    for (out, values) in out.chunks_mut(block.len()).zip(bytes.as_chunks().0.chunks(block.len())) {
        for (half, &value) in block.iter_mut().zip(values) {
            *half = f16::from_le_bytes(value);
        }
        block[..out.len()].convert_to_f32_slice(out);
    }
}
