//! Files made by hand, byte for byte, and files written here.
#![allow(clippy::unwrap_used, clippy::panic)]

pub(crate) mod refusals;
pub(crate) mod sinks;

use std::{fs, path::PathBuf};

use half::f16;
use proptest::{collection::vec, prelude::*};
use tempfile::TempDir;

use super::{
    dtype::DType,
    file::VectorFile,
    format::FileFormat,
    source::{RowSource, read_all},
    write::{NpyWriter, write_npy_f32, write_npy_i64},
};
use crate::{error::Error, matrix::MatRef};

/// A directory of its own with one file in it.
fn file(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    fs::write(&path, bytes).unwrap();
    (directory, path)
}

fn npy(version: u8, descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let dict = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n");
    npy_of(version, &dict, data)
}

fn npy_of(version: u8, dict: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend([version, 0]);
    match version {
        1 => bytes.extend((dict.len() as u16).to_le_bytes()),
        _ => bytes.extend((dict.len() as u32).to_le_bytes()),
    }
    bytes.extend(dict.as_bytes());
    bytes.extend(data);
    bytes
}

fn le<T, const N: usize>(values: &[T], to_bytes: impl Fn(&T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(to_bytes).collect()
}

fn floats(values: &[f32]) -> Vec<u8> {
    le(values, |value| value.to_le_bytes())
}

/// Rows after their width, as in `.fvecs`.
fn vecs(rows: &[&[f32]]) -> Vec<u8> {
    let row = |row: &&[f32]| [(row.len() as u32).to_le_bytes().to_vec(), floats(row)].concat();
    rows.iter().flat_map(row).collect()
}

/// Rows after their number and width, as in `.fbin`.
fn bin(rows: u32, dim: u32, data: &[u8]) -> Vec<u8> {
    [&rows.to_le_bytes(), &dim.to_le_bytes(), data].concat()
}

/// Opens and reads everything; the file may be refused in either.
fn read(name: &str, bytes: &[u8]) -> Result<(DType, usize, usize, Vec<f32>), Error> {
    let (_directory, path) = file(name, bytes);
    let source = VectorFile::open(&path)?;
    assert_eq!(source.path(), Some(path.as_path()));
    let all = read_all(&source)?;
    Ok((source.dtype(), all.rows(), all.dim(), all.into_vec()))
}

/// The message of an input error, which has to name the file.
fn refusal(name: &str, bytes: &[u8]) -> String {
    match read(name, bytes) {
        Err(error @ Error::Input(_)) => {
            let message = error.to_string();
            assert!(message.contains(&format!("/{name}: ")), "{message}");
            message
        }
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn every_npy_type_is_read() {
    let values = [0.0, 1.0, -2.5, 65504.0, 0.125, -0.0];
    let halves = le(&values, |&value| f16::from_f32(value).to_le_bytes());
    let doubles = le(&values, |&value| f64::from(value).to_le_bytes());
    let (bytes, signed) = ([0, 1, 127, 128, 254, 255], [0., 1., 127., -128., -2., -1.]);
    let unsigned = bytes.map(f32::from);
    for (descr, dtype, data, expected) in [
        ("'<f2'", DType::F16, &halves[..], values),
        ("'<f4'", DType::F32, &floats(&values), values),
        ("\"<f8\"", DType::F64, &doubles, values),
        ("'|i1'", DType::I8, &bytes, signed),
        ("'|u1'", DType::U8, &bytes, unsigned),
    ] {
        for version in 1..=3 {
            let read = read("a.npy", &npy(version, descr, "(2, 3)", data)).unwrap();
            assert_eq!(read, (dtype, 2, 3, expected.to_vec()), "{descr}");
        }
    }
}

#[test]
fn whole_numbers_and_bfloat16_are_read() {
    let values = [0.0, 1.0, 2.0, 100.0, 128.0, 3.0];
    let signed = [0.0, -1.0, 2.0, -100.0, 128.0, -3.5];
    // What ml_dtypes 0.6.0 and NumPy 2.4.6 save of 1, 2 and -3.5 is 80 3f, 00 40 and 60 c0.
    let brain = le(&signed, |&value: &f32| ((value.to_bits() >> 16) as u16).to_le_bytes());
    assert_eq!((brain[2..4].to_vec(), brain[10..].to_vec()), (vec![0x80, 0xbf], vec![0x60, 0xc0]));
    let trunc = signed.map(f32::trunc);
    for (descr, dtype, data, expected) in [
        ("'<V2'", DType::Bf16, brain.clone(), signed),
        ("'|V2'", DType::Bf16, brain, signed),
        ("'<i2'", DType::I16, le(&trunc, |&v| (v as i16).to_le_bytes()), trunc),
        ("'<i4'", DType::I32, le(&trunc, |&v| (v as i32).to_le_bytes()), trunc),
        ("'<i8'", DType::I64, le(&trunc, |&v| (v as i64).to_le_bytes()), trunc),
        ("'<u2'", DType::U16, le(&values, |&v| (v as u16).to_le_bytes()), values),
        ("'<u4'", DType::U32, le(&values, |&v| (v as u32).to_le_bytes()), values),
        ("'<u8'", DType::U64, le(&values, |&v| (v as u64).to_le_bytes()), values),
    ] {
        let read = read("a.npy", &npy(1, descr, "(2, 3)", &data)).unwrap();
        assert_eq!(read, (dtype, 2, 3, expected.to_vec()), "{descr}");
        assert_eq!(data.len(), 6 * dtype.size());
    }
    let most = read("a.npy", &npy(1, "'<u2'", "(1, 1)", &[255; 2])).unwrap().3;
    assert_eq!(most, [65535.0]);
}

#[test]
fn many_halves_are_read() {
    let values: Vec<f32> = (0..2 * 331).map(|i| i as f32 / 8.0).collect();
    let data = le(&values, |&value| f16::from_f32(value).to_le_bytes());
    // An odd start of the data: nothing may depend on its alignment.
    let dict = "{'descr': '<f2', 'fortran_order': False, 'shape': (2, 331)}";
    let bytes = npy_of(1, dict, &data);
    assert_eq!((bytes.len() - data.len()) % 2, 1);
    assert_eq!(read("a.npy", &bytes).unwrap().3, values);
}

#[test]
fn values_out_of_range_are_left_to_the_codec() {
    let data = le(&[f64::NAN, 1e300, -1e300], |value| value.to_le_bytes());
    let values = read("a.npy", &npy(1, "'<f8'", "(1, 3)", &data)).unwrap().3;
    assert!(values[0].is_nan());
    assert_eq!(values[1..], [f32::INFINITY, f32::NEG_INFINITY]);
}

#[test]
fn header_variants_are_read() {
    let data = floats(&[1.0, 2.0]);
    for dict in [
        "{'shape':(2,1),'fortran_order':False,'descr':'<f4'}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 1L), }       \n",
        " { \"descr\" : \"<f4\" ,\n \"shape\" : ( 2 , 1 , ) , 'fortran_order' :  False } ",
    ] {
        assert_eq!(read("a.npy", &npy_of(1, dict, &data)).unwrap(), (DType::F32, 2, 1, vec![1.0, 2.0]));
    }
}

#[test]
fn vecs_and_bins_are_read() {
    let rows = [1.5, -2.0, 3.0, 4.0, 5.0, 6.0];
    let fvecs = vecs(&[&rows[..3], &rows[3..]]);
    let bvecs = [2, 0, 0, 0, 7, 255, 2, 0, 0, 0, 128, 9];
    let raw = [7, 255, 128, 9];
    let unsigned = vec![7.0, 255.0, 128.0, 9.0];
    let signed = vec![7.0, -1.0, -128.0, 9.0];
    for (name, bytes, expected) in [
        ("a.fvecs", &fvecs[..], (DType::F32, 2, 3, rows.to_vec())),
        ("a.bvecs", &bvecs, (DType::U8, 2, 2, unsigned.clone())),
        ("a.FBIN", &bin(2, 3, &floats(&rows)), (DType::F32, 2, 3, rows.to_vec())),
        ("a.u8bin", &bin(2, 2, &raw), (DType::U8, 2, 2, unsigned)),
        ("a.i8bin", &bin(2, 2, &raw), (DType::I8, 2, 2, signed)),
    ] {
        assert_eq!(read(name, bytes).unwrap(), expected, "{name}");
    }
}

#[test]
fn ranges_are_read_and_checked() {
    let rows = [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]];
    let (_directory, path) = file("a.FVecs", &vecs(&rows.each_ref().map(|row| &row[..])));
    let mapped = VectorFile::open(path).unwrap();
    assert_eq!(mapped.format(), FileFormat::Fvecs);
    let view = MatRef::new(rows.as_flattened(), 3, 2).unwrap();
    let empty = MatRef::new(&[], 3, 0).unwrap();
    for source in [&mapped as &dyn RowSource, &view] {
        let mut out = [0.0; 4];
        source.read(1, &mut out).unwrap();
        assert_eq!(out, [2.0, 3.0, 4.0, 5.0]);
        source.read(3, &mut []).unwrap();
        for (start, len) in [(0, 3), (2, 4), (4, 0), (usize::MAX, 2)] {
            let error = source.read(start, &mut vec![0.0; len]).unwrap_err();
            assert!(matches!(error, Error::Config(_)), "{error}");
        }
    }
    empty.read(0, &mut []).unwrap();
    assert!(matches!(RowSource::read(&empty, 0, &mut [0.0]), Err(Error::Config(_))));
}

#[test]
fn missing_files_and_directories_are_io_errors() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("a.npy");
    for path in [missing.as_path(), directory.path()] {
        let error = VectorFile::open(path).unwrap_err();
        assert!(matches!(error, Error::Io { .. }) && error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    let view = MatRef::new(&[1.0_f32], 1, 1).unwrap();
    for path in [directory.path(), &missing.join("a.npy")] {
        assert!(matches!(write_npy_f32(path, view), Err(Error::Io { .. })));
    }
    #[cfg(unix)]
    assert!(VectorFile::open("/dev/null").unwrap_err().to_string().contains("write the vectors to a file first"));
}

#[test]
fn ids_are_written_as_numpy_would() {
    let (_directory, path) = file("ids.npy", b"older");
    write_npy_i64(&path, MatRef::new(&[5, 1 << 40], 1, 2).unwrap()).unwrap();
    let bytes = fs::read(&path).unwrap();
    let (header, data) = bytes.split_at(128);
    assert!(
        header.starts_with(b"\x93NUMPY\x01\x00\x76\x00{'descr': '<i8', 'fortran_order': False, 'shape': (1, 2), }")
    );
    assert!(header.ends_with(b" \n"));
    assert_eq!(data, le(&[5_u64, 1 << 40], |id| id.to_le_bytes()));
    let error = write_npy_i64(&path, MatRef::new(&[u64::MAX], 1, 1).unwrap()).unwrap_err();
    assert!(matches!(error, Error::Config(_)));
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn an_unfinished_writer_leaves_nothing_behind() {
    let (directory, path) = file("a.npy", b"older");
    let row = MatRef::new(&[1.0, 2.0], 1, 2).unwrap();
    let mut writer = NpyWriter::create(&path, 2, 2).unwrap();
    writer.write_rows(row).unwrap();
    assert!(matches!(writer.finish(), Err(Error::Config(_))));
    let mut writer = NpyWriter::create(&path, 1, 2).unwrap();
    assert!(writer.write_rows(MatRef::new(&[1.0], 1, 1).unwrap()).is_err());
    writer.write_rows(row).unwrap();
    assert!(writer.write_rows(row).is_err());
    drop(writer);
    assert_eq!(fs::read(&path).unwrap(), b"older");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn written_files_have_the_permissions_of_new_files() {
    use std::os::unix::fs::PermissionsExt;
    let (directory, other) = file("other", b"");
    let path = directory.path().join("a.npy");
    write_npy_f32(&path, MatRef::new(&[1.0], 1, 1).unwrap()).unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(path), mode(other));
}

proptest! {
    #[test]
    fn what_is_written_is_read(bits in vec(any::<u32>(), 1..200), dim in 1..9_usize, part in 1..7_usize) {
        let values: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        let rows = values.len().div_ceil(dim);
        let values: Vec<f32> = values.iter().copied().cycle().take(rows * dim).collect();
        let view = MatRef::new(&values, rows, dim).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let paths = ["whole.npy", "parts.npy"].map(|name| directory.path().join(name));
        write_npy_f32(&paths[0], view).unwrap();
        let mut writer = NpyWriter::create(&paths[1], rows, dim).unwrap();
        for start in (0..rows).step_by(part) {
            writer.write_rows(view.slice(start..rows.min(start + part))).unwrap();
        }
        writer.finish().unwrap();
        prop_assert_eq!(fs::read(&paths[0]).unwrap(), fs::read(&paths[1]).unwrap());
        let read = read_all(&VectorFile::open(&paths[0]).unwrap()).unwrap();
        prop_assert_eq!((read.rows(), read.dim()), (rows, dim));
        prop_assert_eq!(floats(read.as_slice()), floats(&values));
    }
}
