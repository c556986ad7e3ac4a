//! Products of a few rows with a matrix that stays: every sum is added up in the order of the dimensions, so a row has the same products, to
//! the last bit, whichever rows come with it. (Dense kernels take a single row another way than several.)

use pulp::{Arch, Simd, WithSimd};

use crate::matrix::MatRef;

/// Columns of a panel.
const LANES: usize = 16;
/// Rows and vectors of columns of a tile, and vectors of a tile of one row: enough sums to wait for none, and few enough for registers.
const ROWS: usize = 4;
const STRIPS: usize = 2;
const OF_ONE: usize = 4;

/// A k x d matrix, 16 of its rows side by side, the last ones made up with zeros.
#[derive(Debug)]
pub(crate) struct Panels {
    k: usize,
    d: usize,
    values: Vec<[f32; LANES]>,
}

impl Panels {
    pub(crate) fn new(matrix: MatRef<'_>) -> Panels {
        let (k, d) = (matrix.rows(), matrix.dim());
        let mut values = vec![[0f32; LANES]; k.div_ceil(LANES) * d];
        for row in 0..k {
            for (i, &v) in matrix.row(row).iter().enumerate() {
                values[row / LANES * d + i][row % LANES] = v;
            }
        }
        Panels { k, d, values }
    }

    /// `a m^T` for this matrix m: a is n x d, out is n x k. O(n k d).
    pub(crate) fn products(&self, out: &mut [f32], a: MatRef<'_>) {
        Arch::new().dispatch(Products { matrix: self, out, a });
    }

    #[inline(always)]
    fn fill<S: Simd>(&self, simd: S, out: &mut [f32], a: MatRef<'_>) {
        let (strips, groups) = (self.k.div_ceil(S::F32_LANES), a.rows() / ROWS * ROWS);
        let even = strips / STRIPS * STRIPS;
        for strip in (0..even).step_by(STRIPS) {
            for row in (0..groups).step_by(ROWS) {
                self.tile::<S, ROWS, STRIPS>(simd, out, a, row, strip);
            }
        }
        for strip in even..strips {
            for row in (0..groups).step_by(ROWS) {
                self.tile::<S, ROWS, 1>(simd, out, a, row, strip);
            }
        }
        let even = strips / OF_ONE * OF_ONE;
        for row in groups..a.rows() {
            for strip in (0..even).step_by(OF_ONE) {
                self.tile::<S, 1, OF_ONE>(simd, out, a, row, strip);
            }
            for strip in even..strips {
                self.tile::<S, 1, 1>(simd, out, a, row, strip);
            }
        }
    }

    /// Some rows times some strips of as many columns as a vector has.
    #[inline(always)]
    fn tile<S: Simd, const M: usize, const P: usize>(
        &self,
        simd: S,
        out: &mut [f32],
        a: MatRef<'_>,
        row: usize,
        strip: usize,
    ) {
        let (d, lanes) = (self.d, S::F32_LANES);
        let mut rows = [&[] as &[f32]; M];
        for r in 0..M {
            rows[r] = &a.row(row + r)[..d];
        }
        let (mut panels, mut offsets) = ([&[] as &[[f32; LANES]]; P], [0; P]);
        for p in 0..P {
            let first = (strip + p) * lanes;
            panels[p] = &self.values[first / LANES * d..(first / LANES + 1) * d];
            offsets[p] = first % LANES / lanes;
        }
        let mut sums = [[simd.splat_f32s(0.0); P]; M];
        for i in 0..d {
            let mut from = [simd.splat_f32s(0.0); P];
            for p in 0..P {
                from[p] = S::as_simd_f32s(&panels[p][i]).0[offsets[p]];
            }
            for r in 0..M {
                let x = simd.splat_f32s(rows[r][i]);
                for p in 0..P {
                    // Fused where there is an instruction for it: the same for all rows.
                    sums[r][p] = simd.mul_add_e_f32s(x, from[p], sums[r][p]);
                }
            }
        }
        for r in 0..M {
            for p in 0..P {
                let first = (strip + p) * lanes;
                let count = lanes.min(self.k - first);
                let mut values = [0f32; LANES];
                S::as_mut_simd_f32s(&mut values).0[0] = sums[r][p];
                out[(row + r) * self.k + first..][..count].copy_from_slice(&values[..count]);
            }
        }
    }
}

/// [`Panels::products`], compiled for what this machine has.
struct Products<'p, 'a> {
    matrix: &'p Panels,
    out: &'p mut [f32],
    a: MatRef<'a>,
}

impl WithSimd for Products<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.matrix.fill(simd, self.out, self.a);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{math::rng::Random, matrix::Mat};

    #[test]
    fn products_do_not_depend_on_the_rows_beside() {
        let mut random = Random::new(4, 9);
        let mut normals = |rows: usize, dim: usize| {
            Mat::new((0..rows * dim).map(|_| random.normal()).collect(), rows, dim).unwrap()
        };
        for (k, d) in [(1, 1), (3, 2), (16, 5), (17, 384), (100, 31), (270, 64), (5, 0), (0, 5)] {
            let (matrix, rows) = (normals(k, d), normals(37, d));
            let panels = Panels::new(matrix.view());
            let of = |from: usize, to: usize| {
                let mut out = vec![7f32; (to - from) * k];
                panels.products(&mut out, rows.view().slice(from..to));
                out
            };
            let all = of(0, 37);
            for i in 0..37 {
                for j in 0..k {
                    // In this order, fused or not.
                    let pairs = || rows.row(i).iter().zip(matrix.row(j));
                    let plain = pairs().fold(0f32, |sum, (x, m)| sum + x * m);
                    let fused = pairs().fold(0f32, |sum, (x, m)| x.mul_add(*m, sum));
                    let bits = all[i * k + j].to_bits();
                    assert!(bits == plain.to_bits() || bits == fused.to_bits(), "{k} x {d}, row {i}, column {j}");
                }
            }
            for (from, to) in [(0, 1), (36, 37), (1, 3), (2, 6), (3, 12), (0, 32), (0, 33)] {
                assert_eq!(of(from, to), all[from * k..to * k], "{k} x {d}, rows {from} to {to}");
            }
        }
    }
}
