//! The vectors `vlc demo` and `vlc test` work on.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use vlc::Mat;

use crate::error::{CliError, io_error};

macro_rules! embedded {
    ($name:literal) => {
        (
            $name,
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/data/docs-minilm-384-5k/", $name))
                .as_slice(),
        )
    };
}

const BASE: (&str, &[u8]) = embedded!("base.i8.npy");
const QUERIES: (&str, &[u8]) = embedded!("queries.i8.npy");
const SAMPLE: (&str, &[u8]) = embedded!("queries-train.i8.npy");

/// The embedded set (examples/data/docs-minilm-384-5k) as files.
pub(crate) struct Files {
    pub(crate) base: PathBuf,
    /// For measuring.
    pub(crate) queries: PathBuf,
    /// For training.
    pub(crate) sample: PathBuf,
}

/// Writes the embedded set into `dir`.
pub(crate) fn write_embedded(dir: &Path) -> Result<Files, CliError> {
    let write = |(name, bytes): (&str, &[u8])| {
        let path = dir.join(name);
        std::fs::write(&path, bytes).map_err(|e| io_error(&path, e))?;
        Ok::<_, CliError>(path)
    };
    Ok(Files { base: write(BASE)?, queries: write(QUERIES)?, sample: write(SAMPLE)? })
}

/// `rows` synthetic vectors: a mixture of clusters in a few latent directions of falling variance, turned into `dim`
/// directions, plus a little noise. Rows of different `stream`s come from the same mixture.
pub(crate) fn synthetic(rows: usize, dim: usize, stream: u64) -> Result<Mat, CliError> {
    const LATENT: usize = 48;
    const CLUSTERS: u64 = 500;
    let mut turn = Random::new(1, 0);
    let turn: Vec<f32> = (0..LATENT * dim).map(|i| turn.normal() / (1.0 + (i / dim) as f32).sqrt()).collect();
    let mut values = vec![0.0_f32; rows * dim];
    values.par_chunks_exact_mut(dim).enumerate().for_each(|(i, row)| {
        let mut random = Random::new(2 + stream, i as u64);
        let mut centre = Random::new(0, random.next() % CLUSTERS);
        for direction in turn.chunks_exact(dim) {
            let latent = centre.normal() + 0.6 * random.normal();
            for (value, part) in row.iter_mut().zip(direction) {
                *value += latent * part;
            }
        }
        for value in row {
            *value += 0.3 * random.normal();
        }
    });
    Ok(Mat::new(values, rows, dim)?)
}

/// SplitMix64 (Steele, Lea and Flood, 2014), and sums of uniforms for normals.
struct Random(u64);

impl Random {
    fn new(stream: u64, number: u64) -> Self {
        let mut random = Random(stream);
        let start = random.next();
        Random(start ^ Random(number).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn normal(&mut self) -> f32 {
        let bits = self.next();
        // Four uniforms of 16 bits; their sum has a variance of 1/3.
        let sum: f32 = (0..4).map(|i| (bits >> (16 * i) & 0xFFFF) as f32 / 65536.0).sum();
        (sum - 2.0) * 3.0_f32.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synthetic_rows_repeat_and_differ() -> Result<(), CliError> {
        let rows = synthetic(50, 16, 0)?;
        // However many are made, and on however many threads.
        assert_eq!(rows.as_slice()[..16 * 20], *synthetic(20, 16, 0)?.as_slice());
        assert!(rows.as_slice().iter().all(|v| v.is_finite()));
        let other = synthetic(50, 16, 1)?;
        assert!((0..50).all(|i| i == 0 || rows.row(i) != rows.row(i - 1)));
        assert!((0..50).all(|i| rows.row(i) != other.row(i)));
        Ok(())
    }
}
