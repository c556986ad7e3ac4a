//! The residual network in whole numbers, for rows that are only scored: what goes into a layer is rounded to bytes, with a scale and an
//! offset for each row, and multiplied with weights as they are stored, small odd numbers of half a step. Four times as fast as
//! floats where there is an instruction for it. What that moves, about a hundredth of what the network adds to a row, is far below
//! what its codes lose. Sums are exact, so all machines give the same.

use pulp::{Arch, Simd, WithSimd};

use crate::model::mlp::{Mlp, act};

/// Rows that go together.
const ROWS: usize = 8;
/// Outputs of a block, and inputs of a step.
const OUTPUTS: usize = 16;
const INPUTS: usize = 4;
/// Bits of a weight at most: odd numbers of more do not fit a byte.
const MOST_BITS: u8 = 7;

/// A network whose weights are on their steps.
#[derive(Debug)]
pub(crate) struct QuickNet {
    input_scale: Vec<f32>,
    layers: Vec<Layer>,
    vectors: bool,
}

#[derive(Debug)]
struct Layer {
    inputs: usize,
    /// Steps of four inputs.
    steps: usize,
    /// Block after block, step after step: four inputs for each of 16 outputs.
    weights: Vec<[i8; OUTPUTS * INPUTS]>,
    /// Of each block's outputs: half a step, the sum of the weights, the bias.
    scales: Vec<[[f32; OUTPUTS]; 3]>,
}

/// What a pass works with.
#[derive(Debug, Default)]
pub(crate) struct QuickScratch {
    /// Steps x rows: four inputs each.
    bytes: Vec<[u32; ROWS]>,
    /// One row's.
    row: Vec<u8>,
    sums: Vec<[[i32; OUTPUTS]; ROWS]>,
    /// Rows x values of a layer, made up to whole blocks.
    values: Vec<f32>,
}

impl QuickNet {
    /// `None` where weights have more bits than a byte holds as odd numbers.
    pub(crate) fn new(mlp: &Mlp) -> Option<QuickNet> {
        if mlp.bits == 0 || mlp.bits > MOST_BITS {
            return None;
        }
        let layers = mlp.layers.iter().map(|dense| {
            let (inputs, outputs) = (dense.inputs(), dense.outputs());
            let steps = inputs.div_ceil(INPUTS);
            let mut weights = vec![[0; OUTPUTS * INPUTS]; outputs.div_ceil(OUTPUTS) * steps];
            let mut scales = vec![[[0.0; OUTPUTS]; 3]; outputs.div_ceil(OUTPUTS)];
            for (o, (&step, &bias)) in dense.steps.iter().zip(&dense.bias).enumerate() {
                let mut sum = 0;
                for (i, w) in dense.weights.row(o).iter().enumerate() {
                    let odd = (2.0 * w / step).round() as i8;
                    weights[o / OUTPUTS * steps + i / INPUTS][o % OUTPUTS * INPUTS + i % INPUTS] = odd;
                    sum += i32::from(odd);
                }
                for (to, value) in scales[o / OUTPUTS].iter_mut().zip([0.5 * step, sum as f32, bias]) {
                    to[o % OUTPUTS] = value;
                }
            }
            Layer { inputs, steps, weights, scales }
        });
        Some(QuickNet { input_scale: mlp.input_scale.clone(), layers: layers.collect(), vectors: vectors() })
    }

    /// Adds to rows what the network makes of them. A row's values do not depend on which rows come with it.
    pub(crate) fn apply(&self, rows: &mut [f32], scratch: &mut QuickScratch) {
        let width = self.input_scale.len();
        for rows in rows.chunks_mut((ROWS * width).max(1)) {
            let count = rows.len() / width;
            scratch.values.clear();
            for row in rows.chunks_exact(width) {
                scratch.values.extend(row.iter().zip(&self.input_scale).map(|(y, s)| y * s));
            }
            let mut stride = width;
            for (l, layer) in self.layers.iter().enumerate() {
                layer.apply(count, stride, scratch, l + 1 < self.layers.len(), self.vectors);
                stride = layer.scales.len() * OUTPUTS;
            }
            for (row, added) in rows.chunks_exact_mut(width).zip(scratch.values.chunks_exact(stride)) {
                row.iter_mut().zip(added).for_each(|(y, o)| *y += o);
            }
        }
    }
}

impl Layer {
    /// Puts what comes out of the layer in the place of what goes into it, `stride` values a row, through the activation if `bent`.
    fn apply(&self, count: usize, stride: usize, scratch: &mut QuickScratch, bent: bool, vectors: bool) {
        let QuickScratch { bytes, row: row_bytes, sums, values } = scratch;
        bytes.clear();
        bytes.resize(self.steps, [0; ROWS]);
        let mut ranges = [(0f32, 0f32); ROWS];
        for (r, row) in values.chunks_exact(stride).enumerate() {
            row_bytes.clear();
            row_bytes.resize(self.steps * INPUTS, 0);
            ranges[r] = Arch::new().dispatch(Round { row: &row[..self.inputs], bytes: row_bytes });
            let words = row_bytes.as_chunks::<INPUTS>().0;
            bytes.iter_mut().zip(words).for_each(|(to, word)| to[r] = u32::from_le_bytes(*word));
        }
        sums.clear();
        sums.extend(self.weights.chunks_exact(self.steps).map(|weights| products(bytes, weights, vectors)));
        values.clear();
        values.resize(count * self.scales.len() * OUTPUTS, 0.0);
        Arch::new().dispatch(Finish { sums, scales: &self.scales, ranges: &ranges[..count], bent, values });
    }
}

/// From sums to values: `half a step * (scale * sum + low * sum of the weights) + bias`.
struct Finish<'a> {
    sums: &'a [[[i32; OUTPUTS]; ROWS]],
    scales: &'a [[[f32; OUTPUTS]; 3]],
    ranges: &'a [(f32, f32)],
    bent: bool,
    values: &'a mut [f32],
}

impl WithSimd for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Finish { sums, scales, ranges, bent, values } = self;
        for (r, (out, &(scale, low))) in values.chunks_exact_mut(sums.len() * OUTPUTS).zip(ranges).enumerate() {
            let blocks = out.as_chunks_mut::<OUTPUTS>().0.iter_mut().zip(sums).zip(scales);
            for ((out, sums), [half, weights, bias]) in blocks {
                for o in 0..OUTPUTS {
                    let z = half[o] * (scale * sums[r][o] as f32 + low * weights[o]) + bias[o];
                    out[o] = if bent { act(z) } else { z };
                }
            }
        }
    }
}

/// Rounds a row to bytes: `value = scale * byte + low`, which it gives.
struct Round<'a> {
    row: &'a [f32],
    bytes: &'a mut [u8],
}

impl WithSimd for Round<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> (f32, f32) {
        let Round { row, bytes } = self;
        let (mut low, mut high) = ([f32::INFINITY; OUTPUTS], [f32::NEG_INFINITY; OUTPUTS]);
        let (whole, rest) = row.as_chunks::<OUTPUTS>();
        for chunk in whole {
            for i in 0..OUTPUTS {
                low[i] = if chunk[i] < low[i] { chunk[i] } else { low[i] };
                high[i] = if chunk[i] > high[i] { chunk[i] } else { high[i] };
            }
        }
        for &v in rest {
            low[0] = if v < low[0] { v } else { low[0] };
            high[0] = if v > high[0] { v } else { high[0] };
        }
        let (mut least, mut most) = (low[0], high[0]);
        for i in 1..OUTPUTS {
            least = if low[i] < least { low[i] } else { least };
            most = if high[i] > most { high[i] } else { most };
        }
        let scale = (most - least) / 255.0;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        // Added to a small number, it leaves that number rounded in the last bits.
        const ROUNDER: f32 = 12_582_912.0;
        for (byte, &v) in bytes.iter_mut().zip(row) {
            *byte = ((v - least) * inverse + ROUNDER).to_bits() as u8;
        }
        (scale, least)
    }
}

/// The sums of bytes times weights, for each row and output of a block.
fn products(bytes: &[[u32; ROWS]], weights: &[[i8; OUTPUTS * INPUTS]], vectors: bool) -> [[i32; OUTPUTS]; ROWS] {
    #[cfg(target_arch = "x86_64")]
    if vectors {
        // SAFETY: `vectors` says that this machine has the instructions.
        return unsafe { vnni::products(bytes, weights) };
    }
    let _ = vectors;
    Arch::new().dispatch(Portable { bytes, weights })
}

struct Portable<'a> {
    bytes: &'a [[u32; ROWS]],
    weights: &'a [[i8; OUTPUTS * INPUTS]],
}

impl WithSimd for Portable<'_> {
    type Output = [[i32; OUTPUTS]; ROWS];

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> [[i32; OUTPUTS]; ROWS] {
        let mut sums = [[0; OUTPUTS]; ROWS];
        for (rows, weights) in self.bytes.iter().zip(self.weights) {
            for (sums, row) in sums.iter_mut().zip(rows) {
                let row = row.to_le_bytes();
                for o in 0..OUTPUTS {
                    for i in 0..INPUTS {
                        sums[o] += i32::from(row[i]) * i32::from(weights[o * INPUTS + i]);
                    }
                }
            }
        }
        sums
    }
}

fn vectors() -> bool {
    #[cfg(target_arch = "x86_64")]
    return crate::ops::cpu::simd::Level::from_env().is_ok_and(|level| level == crate::ops::cpu::simd::Level::Avx512)
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vnni");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(target_arch = "x86_64")]
mod vnni {
    use std::arch::x86_64::{__m512i, _mm512_dpbusd_epi32, _mm512_set1_epi32, _mm512_setzero_si512};

    use bytemuck::cast;

    use super::{INPUTS, OUTPUTS, ROWS};

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn products(bytes: &[[u32; ROWS]], weights: &[[i8; OUTPUTS * INPUTS]]) -> [[i32; OUTPUTS]; ROWS] {
        let mut sums = [_mm512_setzero_si512(); ROWS];
        for (rows, weights) in bytes.iter().zip(weights) {
            let weights = cast::<[i8; OUTPUTS * INPUTS], __m512i>(*weights);
            for r in 0..ROWS {
                sums[r] = _mm512_dpbusd_epi32(sums[r], _mm512_set1_epi32(rows[r] as i32), weights);
            }
        }
        sums.map(cast)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::{
        math::rng::Random,
        matrix::Mat,
        model::mlp::{Dense, rounded, top},
        ops::cpu::mlp::net,
    };

    fn stored(random: &mut Random, widths: &[usize], bits: u8) -> Mlp {
        let dense = |w: &[usize]| {
            let deviation = 1.0 / (w[0] as f32).sqrt();
            let steps: Vec<f32> = (0..w[1]).map(|_| deviation * (0.5 + random.uniform() as f32)).collect();
            let mut weights = Mat::zeros(w[1], w[0]);
            for (o, &step) in steps.iter().enumerate() {
                let row = weights.row_mut(o);
                row.iter_mut().for_each(|v| *v = rounded(deviation * random.normal(), step, top(bits)));
            }
            Dense { weights, bias: (0..w[1]).map(|_| 0.1 * random.normal()).collect(), steps }
        };
        let layers = widths.windows(2).map(dense).collect();
        Mlp { input_scale: vec![0.7; widths[0]], layers, bits }
    }

    #[test]
    fn it_is_near_the_network_in_floats() {
        let mut random = Random::new(1, 0);
        for (widths, bits) in [(&[270, 512, 270][..], 2), (&[5, 17, 5], 1), (&[33, 64, 50, 33], 7), (&[1, 1, 1], 3)] {
            let mlp = stored(&mut random, widths, bits);
            let (exact, quick) = (net(&mlp), QuickNet::new(&mlp).unwrap());
            let rows = Mat::new((0..41 * widths[0]).map(|_| random.normal()).collect(), 41, widths[0]).unwrap();
            let expected = exact.applied(rows.view());
            let mut found = rows.clone();
            quick.apply(found.as_mut_slice(), &mut QuickScratch::default());
            let square = |of: &dyn Fn(usize) -> f32| (0..rows.as_slice().len()).map(|i| of(i).powi(2)).sum::<f32>();
            let off = square(&|i| found.as_slice()[i] - expected.as_slice()[i]);
            let added = square(&|i| expected.as_slice()[i] - rows.as_slice()[i]);
            assert!(off < 4e-4 * added, "{widths:?}: {off} of {added}");
            // One at a time.
            for i in 0..41 {
                let mut row = rows.row(i).to_vec();
                quick.apply(&mut row, &mut QuickScratch::default());
                assert_eq!(row, found.row(i));
            }
        }
        assert!(QuickNet::new(&stored(&mut random, &[4, 4, 4], 8)).is_none());
    }

    #[test]
    fn rows_alike_in_all_values_are_taken() {
        let mlp = stored(&mut Random::new(2, 0), &[6, 8, 6], 2);
        let mut row = vec![0.0; 6];
        QuickNet::new(&mlp).unwrap().apply(&mut row, &mut QuickScratch::default());
        let expected = net(&mlp).applied(crate::matrix::MatRef::new(&[0.0; 6], 1, 6).unwrap());
        row.iter().zip(expected.row(0)).for_each(|(a, b)| assert!((a - b).abs() < 0.02, "{a} {b}"));
    }

    #[test]
    fn both_kernels_give_the_same_sums() {
        let mut random = Random::new(3, 0);
        for steps in [0, 1, 2, 77] {
            let bytes: Vec<[u32; ROWS]> =
                (0..steps).map(|_| std::array::from_fn(|_| random.below(1 << 32) as u32)).collect();
            let weights: Vec<[i8; OUTPUTS * INPUTS]> =
                (0..steps).map(|_| std::array::from_fn(|_| random.below(255) as i16 as i8)).collect();
            assert_eq!(products(&bytes, &weights, vectors()), products(&bytes, &weights, false), "{steps} steps");
        }
    }
}
