//! Laws of upload, download, copy, select and project.

use super::{Case, assert_near, grid, normals, random, up, wide};
use crate::{matrix::Mat, ops::seam::Ops};

pub(super) fn rows_come_back<O: Ops>(ops: &O) {
    let mut random = random(1);
    for (n, d) in [(0, 3), (1, 1), (5, 0), (257, 33)] {
        let _case = Case::new(format!("seed 1, {n} x {d}"));
        let rows = normals(&mut random, n, d);
        assert_eq!(ops.download(&up(ops, &rows)).unwrap(), rows);
        let taken = ops.upload_owned(rows.clone()).unwrap();
        assert_eq!(ops.download(&ops.copy(&taken).unwrap()).unwrap(), rows);
        assert_eq!(ops.download_owned(taken).unwrap(), rows);
    }
}

pub(super) fn selected_rows_are_copies<O: Ops>(ops: &O) {
    let mut random = random(2);
    for (n, d) in [(1, 1), (5, 0), (257, 33), (1000, 4)] {
        let rows = normals(&mut random, n, d);
        let resident = up(ops, &rows);
        for count in [0, 1, 255, 256, 257, 2 * n] {
            let _case = Case::new(format!("seed 2, {count} of {n} x {d}"));
            // In any order, some of them more than once.
            let picked: Vec<u32> = (0..count).map(|_| random.below(n) as u32).collect();
            let found = ops.download(&ops.select(&resident, &picked).unwrap()).unwrap();
            assert_eq!((found.rows(), found.dim()), (count, d));
            assert!(picked.iter().enumerate().all(|(r, &i)| found.row(r) == rows.row(i as usize)));
        }
        assert_eq!(ops.download(&resident).unwrap(), rows, "selecting changed the rows");
    }
}

pub(super) fn project_is_the_product<O: Ops>(ops: &O) {
    for (seed, n) in [1, 255, 256, 257].into_iter().enumerate() {
        for d in [1, 3, 16, 33, 384] {
            for active in [0, 1, 5, 16, 33] {
                let _case = Case::new(format!("seed {seed}, {n} x {d} to {active}"));
                let mut random = random(seed as u64);
                let rows = normals(&mut random, n, d);
                let offset: Vec<f32> = (0..d).map(|_| random.normal()).collect();
                let transform = normals(&mut random, active, d);
                let found = ops.project(&up(ops, &rows), &offset, transform.view()).unwrap();
                let found = ops.download(&found).unwrap();
                assert_eq!((found.rows(), found.dim()), (n, active));
                for i in 0..n {
                    for j in 0..active {
                        let terms = (0..d).map(|c| {
                            (f64::from(rows.row(i)[c]) - f64::from(offset[c])) * f64::from(transform.row(j)[c])
                        });
                        let (sum, scale) = terms.fold((0.0, 0.0), |(s, a), t: f64| (s + t, a + t.abs()));
                        assert_near(found.row(i)[j], sum, 1e-6, scale, "coordinate");
                    }
                }
            }
        }
    }
    // Small multiples of a power of two leave nothing to round.
    let mut random = random(9);
    let (rows, transform) = (grid(&mut random, 70, 12), grid(&mut random, 6, 12));
    let found = ops.project(&up(ops, &rows), &[0.25; 12], transform.view()).unwrap();
    let found: Mat = ops.download(&found).unwrap();
    for i in 0..70 {
        let centred: Vec<f64> = wide(rows.row(i)).iter().map(|x| x - 0.25).collect();
        for j in 0..6 {
            let exact = vlc_reference::distance::dot(&centred, &wide(transform.row(j)));
            assert_eq!(f64::from(found.row(i)[j]), exact, "seed 9, row {i}, direction {j}");
        }
    }
}
