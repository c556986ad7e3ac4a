//! Files that cannot be used, and what is said about them.

use proptest::{collection::vec, prelude::*};

use super::{bin, file, floats, npy, npy_of, read, refusal, vecs};
use crate::read::{
    file::VectorFile,
    source::{RowSource, read_all},
};

#[test]
fn broken_npy_files_are_refused_with_a_remedy() {
    let four = floats(&[1.0; 4]);
    let plain = |shape: &str| npy(1, "'<f4'", shape, &four);
    let of_type = |descr: &str| npy(1, descr, "(2, 2)", &four);
    let dict = |dict: &str| npy_of(1, dict, &four);
    let huge = "(4294967296, 18446744073709551615)";
    for (bytes, expected) in [
        (vec![], "the file is empty; copy or write it again"),
        (b"hello, world".to_vec(), "write it with np.save; this looks like a text file"),
        (b"\x89HDF\r\n\x1a\n....".to_vec(), "this looks like an HDF5 file: read it with h5py"),
        (b"PK\x03\x04....".to_vec(), "looks like a zip archive (.npz or PyTorch): load it"),
        (b"\x1f\x8b\x08\x00....".to_vec(), "looks like a gzip file: decompress it first"),
        (b"\x80\x04\x95\x00....".to_vec(), "looks like a Python pickle"),
        (b"version https://git-lfs.github.com/spec/v1".to_vec(), "run git lfs pull"),
        (npy(4, "'<f4'", "(2, 2)", &four), "version 4.0 of .npy is not known"),
        (plain("(4,)"), "the array is 1-D, but a 2-D one of rows x dim is needed; save a.reshape(1, -1)"),
        (plain("()"), "0-D"),
        (plain("(1, 2, 2)"), "3-D, but a 2-D one of rows x dim is needed; save a.reshape(-1, a.shape[-1])"),
        (plain("(0, 4)"), "no rows: the shape is 0 x 4; give a file with at least one vector"),
        (plain("(4, 0)"), "no columns: the shape is 4 x 0"),
        (plain("(2, 3)"), "truncated: expected 24 bytes for 2 x 3 float32 after the header, found 16; copy"),
        (plain("(3, 1)"), "trailing bytes: expected 12 bytes for 3 x 1 float32 after the header, found 16"),
        (plain(huge), "truncated: expected more than 2^64 bytes"),
        (plain("(18446744073709551616, 1)"), "malformed (shape has an entry that is no size); write the file"),
        (plain("(-1, 4)"), "shape has an entry that is no size"),
        (plain("4"), "shape is no tuple"),
        (plain("(2 2)"), "shape without end"),
        (of_type("'>f4'"), "dtype '>f4' is big-endian; save a.astype('<f4')"),
        (of_type("'|O'"), "dtype object holds pickled Python objects; save np.stack(a).astype(np.float32)"),
        (
            of_type("'<c8'"),
            "\"<c8\" is not supported; save a.astype(np.float32) (float16, bfloat16, float32, float64, int8",
        ),
        (of_type("'>u2'"), "dtype '>u2' is big-endian; save a.astype('<u2')"),
        (of_type("'<U4'"), "\"<U4\" is strings; save numbers"),
        (of_type("'<V1'"), "\"<V1\" is raw bytes, as of a type that NumPy does not know; save float32"),
        (of_type("'\u{1b}[31m'"), "\"\\u{1b}[31m\" is not supported"),
        (of_type("[('x', '<f4')]"), "the array has named fields; save one of them"),
        (of_type("'<f4"), "malformed"),
        (dict("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2)}"), "save np.ascontiguousarray(a)"),
        (dict("{'descr': '<f4', 'fortran_order': 1, 'shape': (2, 2)}"), "neither True nor False"),
        (dict("{'descr': '<f4', 'fortran_order': False}"), "no shape"),
        (dict("{'fortran_order': False, 'shape': (2, 2)}"), "no descr"),
        (dict("{'descr': '<f4', 'shape': (2, 2)}"), "no fortran_order"),
        (dict("{'x': 1}"), "unknown key"),
        (dict("{descr: 1}"), "no string where one belongs"),
        (dict("{'descr' '<f4'}"), "no ':' after a key"),
        (dict("{'descr': '<f4' 'shape': (2, 2)}"), "no ',' or '}' after a value"),
        (dict(&"(".repeat(60_000)), "no dictionary"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}".to_vec(), "truncated within the .npy header; copy"),
    ] {
        let message = refusal("a.npy", &bytes);
        assert!(message.contains(expected), "{message}\nlacks: {expected}");
    }
}

#[test]
fn broken_vecs_and_bins_are_refused_with_a_remedy() {
    let two = floats(&[1.0; 2]);
    let differing = vecs(&[&[1.0; 3], &[1.0; 2], &[1.0; 4]]);
    let last = vecs(&[&[1.0; 3], &[1.0; 2]]);
    let npy = npy(1, "'<f4'", "(1, 2)", &two);
    for (name, bytes, expected) in [
        ("a.fvecs", &[][..], "the file is empty"),
        ("a.fvecs", &[1, 0], "truncated within the width of the first row"),
        ("a.fvecs", &[0; 8], "no columns: the first row's width is 0"),
        ("a.fvecs", &[255; 8], "width is -1: this may not be such a file"),
        ("a.bvecs", &[255, 255, 255, 127], "truncated: the first row of 2147483647 uint8 does not fit"),
        ("a.fvecs", &npy, "this looks like a .npy file: rename it to .npy"),
        ("a.fvecs", &vecs(&[&[1.0; 2][..]; 2])[..20], "expected 24 bytes for 2 rows of 2 float32, found 20; copy"),
        ("a.fvecs", &differing, "row 1: the row's width is 2, but that of row 0 is 3; write all rows with one width"),
        ("a.fvecs", &last, "row 1: the row's width is 2, but that of row 0 is 3"),
        ("a.fbin", &[1, 0, 0, 0, 1], "truncated within the header"),
        ("a.fbin", &bin(0, 2, &[]), "no rows: the shape is 0 x 2"),
        ("a.fbin", &bin(2, 0, &[]), "no columns: the shape is 2 x 0"),
        ("a.fbin", &bin(2, 2, &two), "truncated: expected 16 bytes for 2 x 2 float32 after the header, found 8"),
        ("a.u8bin", &bin(2, 2, &two), "trailing bytes: expected 4 bytes for 2 x 2 uint8 after the header, found 8"),
        ("a.fbin", &bin(u32::MAX, u32::MAX, &two), "truncated: expected more than 2^64 bytes"),
        ("a.npz", b"PK\x03\x04", ".npz is not known; give a file in one of the formats .npy, .fvecs, .bvecs, .fbin"),
        ("a", b"1", "the file name has no extension; give a file in one of the formats .npy"),
    ] {
        let message = refusal(name, bytes);
        assert!(message.contains(expected), "{message}\nlacks: {expected}");
    }
}

/// The length of such a file gives nothing away, so that the width is seen only when the row is read.
#[test]
fn differing_widths_in_a_file_of_plausible_length_are_seen_when_read() {
    let (_directory, path) = file("a.fvecs", &vecs(&[&[1.0; 3], &[1.0; 1], &[1.0; 5]]));
    let source = VectorFile::open(&path).unwrap();
    source.read(0, &mut [0.0; 3]).unwrap();
    let message = read_all(&source).unwrap_err().to_string();
    assert_eq!(
        message,
        format!(
            "{}: row 1: the row's width is 1, but that of row 0 is 3; write all rows with one width",
            path.display()
        )
    );
}

#[test]
fn every_truncation_is_refused() {
    let values = floats(&[1.0; 6]);
    let array = npy(1, "'<f4'", "(3, 2)", &values);
    let rows = vecs(&[&[1.0; 2][..]; 3]);
    for len in 0..array.len() {
        refusal("a.npy", &array[..len]);
        refusal("a.fbin", &bin(3, 2, &values)[..len.min(31)]);
    }
    for len in 0..rows.len() {
        // The format does not say how many rows there are: a file cut between two of them is a whole one.
        match len % 12 {
            0 if len > 0 => assert_eq!(read("a.fvecs", &rows[..len]).unwrap().1, len / 12),
            _ => assert!(refusal("a.fvecs", &rows[..len]).contains("again")),
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(header in ".{0,80}", bytes in vec(any::<u8>(), 0..64)) {
        for name in ["a.npy", "a.fvecs", "a.bvecs", "a.fbin"] {
            for bytes in [&bytes[..], &npy_of(1, &header, &bytes)] {
                if read(name, bytes).is_err() {
                    refusal(name, bytes);
                }
            }
        }
    }
}
