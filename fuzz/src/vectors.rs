//! Files of vectors of any bytes.

use std::fs;

use vlc::read::{RowSource, VectorFile, read_all};

use crate::folder::folder;

/// Opens bytes under a name with this extension, and reads all rows in two ways.
pub fn read(bytes: &[u8], extension: &str) {
    let path = folder().join("vectors").with_extension(extension);
    fs::write(&path, bytes).unwrap();
    let file = match VectorFile::open(&path) {
        Ok(file) => file,
        Err(error) => {
            assert!(error.to_string().contains("vectors"), "{error}");
            return;
        }
    };
    let (rows, dim) = (file.rows(), file.dim());
    assert!(rows > 0 && dim > 0 && rows * dim * file.dtype().size() <= bytes.len());
    let mut row = vec![0.0; dim];
    let each: Result<Vec<Vec<u32>>, _> =
        (0..rows).map(|i| file.read(i, &mut row).map(|()| row.iter().map(|v| v.to_bits()).collect())).collect();
    let whole = read_all(&file).map(|all| all.as_slice().iter().map(|v| v.to_bits()).collect::<Vec<_>>());
    match (whole, each) {
        (Ok(whole), Ok(each)) => assert_eq!(whole, each.concat()),
        (Err(_), Err(_)) => {}
        (whole, each) => panic!("{:?} at once, {:?} row by row", whole.is_ok(), each.is_ok()),
    }
    assert!(file.read(rows, &mut row).is_err());
}
