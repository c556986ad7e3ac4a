//! Products of a few rows with a matrix that stays: every sum is added up in the order of the dimensions, so a row has the same products, to
//! the last bit, whichever rows come with it and whatever instructions there are. (Dense kernels take a single row another way.)

use pulp::Arch;

use crate::MatRef;

/// Columns of a panel.
const LANES: usize = 16;
/// Rows of a tile, and panels that a single row takes at once: enough sums to wait for none.
const ROWS: usize = 4;
const PANELS: usize = 4;

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
        Arch::new().dispatch(
            #[inline(always)]
            || self.fill(out, a),
        );
    }

    #[inline(always)]
    fn fill(&self, out: &mut [f32], a: MatRef<'_>) {
        let panels = self.k.div_ceil(LANES);
        let mut row = 0;
        while row < a.rows() {
            let (rows, mut panel) = (if a.rows() - row >= ROWS { ROWS } else { 1 }, 0);
            while panel < panels {
                if rows == ROWS {
                    self.tile::<ROWS, 1>(out, a, row, panel);
                    panel += 1;
                } else if panels - panel >= PANELS {
                    self.tile::<1, PANELS>(out, a, row, panel);
                    panel += PANELS;
                } else {
                    self.tile::<1, 1>(out, a, row, panel);
                    panel += 1;
                }
            }
            row += rows;
        }
    }

    #[inline(always)]
    fn tile<const M: usize, const P: usize>(&self, out: &mut [f32], a: MatRef<'_>, row: usize, panel: usize) {
        let d = self.d;
        let mut rows = [&[] as &[f32]; M];
        for r in 0..M {
            rows[r] = &a.row(row + r)[..d];
        }
        let mut panels = [&[] as &[[f32; LANES]]; P];
        for p in 0..P {
            panels[p] = &self.values[(panel + p) * d..(panel + p + 1) * d];
        }
        let mut sums = [[[0f32; LANES]; P]; M];
        for i in 0..d {
            for r in 0..M {
                let x = rows[r][i];
                for p in 0..P {
                    let from = &panels[p][i];
                    for l in 0..LANES {
                        sums[r][p][l] += x * from[l];
                    }
                }
            }
        }
        for r in 0..M {
            for p in 0..P {
                let first = (panel + p) * LANES;
                let count = LANES.min(self.k - first);
                out[(row + r) * self.k + first..][..count].copy_from_slice(&sums[r][p][..count]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mat, train::Random};

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
                    // In this order, and not fused.
                    let expected = rows.row(i).iter().zip(matrix.row(j)).fold(0f32, |sum, (x, m)| sum + x * m);
                    assert_eq!(all[i * k + j].to_bits(), expected.to_bits(), "{k} x {d}, row {i}, column {j}");
                }
            }
            for (from, to) in [(0, 1), (36, 37), (1, 3), (2, 6), (3, 12), (0, 32), (0, 33)] {
                assert_eq!(of(from, to), all[from * k..to * k], "{k} x {d}, rows {from} to {to}");
            }
        }
    }
}
