//! Laws of encode.

use vlc_reference::chain;

use super::{Case, normals, random, up, wide};
use crate::{
    math::rng::Random,
    matrix::Mat,
    model::{Code, kinds::CodeKind},
    ops::{
        seam::Ops,
        types::{Effort, EncodeJob, Encoded, Lengths, Tries},
    },
};

/// A code with random tables, the own symbol's larger than those of lags.
pub(super) fn random_code(random: &mut Random, kind: CodeKind, lags: usize, widths: &[u16]) -> Code {
    let alphabet = if kind == CodeKind::Chain { 16 } else { 256 };
    let active: usize = widths.iter().map(|&w| usize::from(w)).sum();
    let mut tables = Vec::new();
    for _ in 0..active {
        for lag in 0..=lags {
            let size = 1.0 / (1 << lag) as f32;
            tables.extend((0..alphabet).map(|_| size * random.normal()));
        }
    }
    Code::quantize(kind, lags, widths.to_vec(), &tables)
}

pub(super) fn reference_code(code: &Code) -> chain::Code {
    chain::Code {
        kind: if code.kind == CodeKind::Chain { chain::CodeKind::Chain } else { chain::CodeKind::Pq8 },
        lags: code.lags,
        widths: code.widths.iter().map(|&w| usize::from(w)).collect(),
        tables: code.tables.chunks(code.entries()).map(wide).collect(),
    }
}

/// Rows and anchors to encode, and the anchors each row may take.
struct Work {
    rows: Mat,
    anchors: Mat,
    tries: Vec<u32>,
    candidates: usize,
}

impl Work {
    fn new(random: &mut Random, code: &Code, n: usize, anchors: usize, candidates: usize) -> Work {
        let mut rows = normals(random, n, code.active());
        rows.as_mut_slice().iter_mut().for_each(|v| *v *= 1.5);
        let mut anchors = normals(random, anchors, code.active());
        anchors.as_mut_slice().iter_mut().for_each(|v| *v *= 0.5);
        let tries = (0..n * candidates).map(|_| random.below(anchors.rows()) as u32).collect();
        Work { rows, anchors, tries, candidates }
    }

    fn job<'a, A>(&'a self, code: &'a Code, effort: Effort) -> EncodeJob<'a, A> {
        let (anchors, tries, candidates) = (self.anchors.view(), Tries::Given(&self.tries), self.candidates);
        EncodeJob { code, anchors, tries, candidates, effort, lengths: None }
    }

    fn run<O: Ops>(&self, ops: &O, code: &Code, effort: Effort) -> Encoded {
        let found = ops.encode(&up(ops, &self.rows), self.job(code, effort)).unwrap();
        let n = self.rows.rows();
        assert_eq!((found.labels.len(), found.errors.len(), found.norms.len()), (n, n, 0));
        assert_eq!(found.symbols.len(), n * code.symbols());
        found
    }

    /// Every label is one of the row's tries, every symbol is in range, and the error is that of the symbols.
    fn assert_consistent(&self, code: &Code, found: &Encoded) {
        let reference = reference_code(code);
        let t = code.symbols();
        for i in 0..self.rows.rows() {
            let tries = &self.tries[i * self.candidates..(i + 1) * self.candidates];
            assert!(tries.contains(&found.labels[i]), "row {i}: anchor {} was not to be tried", found.labels[i]);
            let symbols = &found.symbols[i * t..(i + 1) * t];
            assert!(symbols.iter().all(|&s| usize::from(s) < code.alphabet()));
            let anchor = wide(self.anchors.row(found.labels[i] as usize));
            let target = wide(self.rows.row(i));
            let exact = chain::error(&reference, &anchor, &target, symbols);
            let gap = (f64::from(found.errors[i]) - exact).abs();
            assert!(gap <= 1e-5 * exact + 1e-6, "row {i}: error {} instead of {exact}", found.errors[i]);
        }
    }

    /// The least error of a row over all its tries and all sequences.
    fn least(&self, reference: &chain::Code, i: usize) -> f64 {
        let mut tries = self.tries[i * self.candidates..(i + 1) * self.candidates].to_vec();
        tries.sort_unstable();
        tries.dedup();
        let target = wide(self.rows.row(i));
        let errors = tries.iter().map(|&k| {
            let anchor = wide(self.anchors.row(k as usize));
            chain::encode_exhaustive(reference, &anchor, &target).1
        });
        errors.fold(f64::INFINITY, f64::min)
    }
}

/// With up to two lags the search is exact, but for the steps in which it counts.
pub(super) fn chain_codes_are_nearly_optimal<O: Ops>(ops: &O) {
    let all_widths: [&[u16]; 8] =
        [&[1], &[3, 2], &[1, 1, 1], &[2, 0, 3], &[0, 2, 1], &[1, 2, 0], &[5, 1, 1], &[1, 2, 1, 1]];
    let mut seed = 600;
    for lags in 0..=2 {
        let (mut total, mut optimum) = (0.0, 0.0);
        for widths in all_widths {
            seed += 1;
            let n = if widths.len() == 4 { 6 } else { 65 };
            let _case = Case::new(format!("seed {seed}, lags {lags}, widths {widths:?}"));
            let mut random = random(seed);
            let code = random_code(&mut random, CodeKind::Chain, lags, widths);
            let work = Work::new(&mut random, &code, n, 5, 1 + seed as usize % 2);
            let found = work.run(ops, &code, Effort::Full);
            work.assert_consistent(&code, &found);
            let reference = reference_code(&code);
            for i in 0..n {
                let (error, least) = (f64::from(found.errors[i]), work.least(&reference, i));
                assert!(error <= (1.0 + 1e-4) * least + 5e-3, "row {i}: error {error}, the least is {least}");
                total += error;
                optimum += least;
            }
            work.assert_consistent(&code, &work.run(ops, &code, Effort::Quick));
        }
        assert!(total <= 1.001 * optimum, "lags {lags}: {total} in all, the least is {optimum}");
    }
}

pub(super) fn pq8_codes_are_optimal<O: Ops>(ops: &O) {
    let all_widths: [&[u16]; 5] = [&[1], &[4], &[2, 3], &[0, 2], &[1, 0]];
    for (s, widths) in all_widths.into_iter().enumerate() {
        let seed = 700 + s as u64;
        let n = if widths.len() == 1 { 65 } else { 4 };
        let _case = Case::new(format!("seed {seed}, widths {widths:?}"));
        let mut random = random(seed);
        let code = random_code(&mut random, CodeKind::Pq8, 0, widths);
        let work = Work::new(&mut random, &code, n, 3, 2);
        let found = work.run(ops, &code, Effort::Full);
        work.assert_consistent(&code, &found);
        let reference = reference_code(&code);
        for i in 0..n {
            let (error, least) = (f64::from(found.errors[i]), work.least(&reference, i));
            assert!(error <= least * (1.0 + 1e-5) + 1e-6, "row {i}: error {error}, the least is {least}");
        }
    }
}

/// Codes of the sizes that are used, where no exhaustive search helps; rows at the boundaries of chunks.
pub(super) fn long_codes_report_their_error<O: Ops>(ops: &O) {
    let mut seed = 800;
    for (kind, lags) in [0, 1, 2, 3, 7].map(|m| (CodeKind::Chain, m)).into_iter().chain([(CodeKind::Pq8, 0)]) {
        for n in [1, 63, 64, 65, 257] {
            seed += 1;
            let _case = Case::new(format!("seed {seed}, {kind:?}, lags {lags}, n {n}"));
            let mut random = random(seed);
            let widths: Vec<u16> = (0..40).map(|_| random.below(7) as u16).collect();
            let code = random_code(&mut random, kind, lags, &widths);
            let work = Work::new(&mut random, &code, n, 17, 4);
            let full = work.run(ops, &code, Effort::Full);
            work.assert_consistent(&code, &full);
            assert_eq!(work.run(ops, &code, Effort::Full), full, "a second run differs");
            work.assert_consistent(&code, &work.run(ops, &code, Effort::Quick));
            // Coding must help: with the best symbols the rows come closer than the best anchor alone.
            let alone: f64 = (0..n)
                .map(|i| {
                    let at = work.tries[i * 4..][..4].iter();
                    let errors = at.map(|&k| {
                        vlc_reference::distance::squared_l2(
                            &wide(work.rows.row(i)),
                            &wide(work.anchors.row(k as usize)),
                        )
                    });
                    errors.fold(f64::INFINITY, f64::min)
                })
                .sum();
            let coded: f64 = full.errors.iter().map(|&e| f64::from(e)).sum();
            assert!(coded < 0.8 * alone, "{coded} with codes, {alone} without");
        }
    }
}

/// What assign found may be tried as it lies on the device, and anchor 0 without saying so for every row.
pub(super) fn tries_are_those_of_an_assignment<O: Ops>(ops: &O) {
    for (s, (kind, lags)) in
        [(CodeKind::Chain, 0), (CodeKind::Chain, 2), (CodeKind::Chain, 3), (CodeKind::Pq8, 0)].into_iter().enumerate()
    {
        for (n, candidates) in [(1, 1), (64, 2), (65, 2), (300, 3)] {
            let seed = 860 + s as u64;
            let _case = Case::new(format!("seed {seed}, {kind:?}, lags {lags}, n {n}, candidates {candidates}"));
            let mut random = random(seed);
            let code = random_code(&mut random, kind, lags, &[2, 3, 1, 0, 4]);
            let mut work = Work::new(&mut random, &code, n, 9, candidates);
            let rows = up(ops, &work.rows);
            let assigned = ops.assign(&rows, &up(ops, &work.anchors), candidates).unwrap();
            work.tries = ops.assignments(&assigned).unwrap().labels;
            let job = EncodeJob { tries: Tries::Assigned(&assigned), ..work.job(&code, Effort::Full) };
            assert_eq!(ops.encode(&rows, job).unwrap(), work.run(ops, &code, Effort::Full));

            (work.tries, work.candidates) = (vec![0; n], 1);
            let job = EncodeJob { tries: Tries::First, ..work.job(&code, Effort::Quick) };
            assert_eq!(ops.encode(&rows, job).unwrap(), work.run(ops, &code, Effort::Quick));
        }
    }
}

/// With a decoder and a mean of their own, the lengths are those of the rows that these decode to.
pub(super) fn lengths_are_those_of_decoded_rows<O: Ops>(ops: &O) {
    for (s, (kind, lags)) in [(CodeKind::Chain, 0), (CodeKind::Chain, 2), (CodeKind::Pq8, 0)].into_iter().enumerate()
    {
        for n in [1, 255, 256, 257, 600] {
            for widths in [&[2, 0, 3, 1, 1][..], &[0, 0], &[]] {
                let seed = 880 + s as u64;
                let _case = Case::new(format!("seed {seed}, {kind:?}, lags {lags}, n {n}, widths {widths:?}"));
                let mut random = random(seed);
                let code = random_code(&mut random, kind, lags, widths);
                let work = Work::new(&mut random, &code, n, 9, 2);
                let (active, d) = (code.active(), 20);
                let (decoder, mean) = (normals(&mut random, active, d), normals(&mut random, 1, d));
                let (b, m) = (wide(decoder.as_slice()), wide(mean.as_slice()));
                let inner = |x: &[f64], y: &[f64]| vlc_reference::distance::dot(x, y);
                let mut gram = Mat::zeros(active, active);
                for i in 0..active {
                    for j in 0..active {
                        gram.row_mut(i)[j] = inner(&b[i * d..][..d], &b[j * d..][..d]) as f32;
                    }
                }
                let slope: Vec<f32> = (0..active).map(|j| 2.0 * inner(&b[j * d..][..d], &m) as f32).collect();
                let lengths = Lengths { gram: gram.view(), slope: &slope, constant: inner(&m, &m) as f32 };
                let plain = work.run(ops, &code, Effort::Full);
                let job = EncodeJob { lengths: Some(lengths), ..work.job(&code, Effort::Full) };
                let found = ops.encode(&up(ops, &work.rows), job).unwrap();
                assert_eq!(found.norms.len(), n);
                let reference = reference_code(&code);
                let symbols = code.symbols();
                for i in 0..n {
                    let anchor = wide(work.anchors.row(found.labels[i] as usize));
                    let y = chain::decode(&reference, &anchor, &found.symbols[i * symbols..][..symbols]);
                    let mut row = m.clone();
                    y.iter().enumerate().for_each(|(j, y)| (0..d).for_each(|c| row[c] += y * b[j * d + c]));
                    // What is added up may be larger than the length.
                    let scale = inner(&m, &m).sqrt()
                        + y.iter()
                            .enumerate()
                            .map(|(j, y)| y.abs() * inner(&b[j * d..][..d], &b[j * d..][..d]).sqrt())
                            .sum::<f64>();
                    let (square, length) = (f64::from(found.norms[i]).powi(2), inner(&row, &row));
                    assert!((square - length).abs() <= 1e-6 * scale * scale, "row {i}: {square} instead of {length}");
                }
                assert_eq!(Encoded { norms: Vec::new(), ..found }, plain, "asking for lengths changed the codes");
            }
        }
    }
}

/// No symbols at all, and symbols without directions.
pub(super) fn codes_without_directions<O: Ops>(ops: &O) {
    for (kind, lags) in [(CodeKind::Chain, 0), (CodeKind::Chain, 2), (CodeKind::Pq8, 0)] {
        for widths in [&[][..], &[0], &[0, 0, 0]] {
            for n in [1, 65] {
                let _case = Case::new(format!("seed 900, {kind:?}, lags {lags}, widths {widths:?}, n {n}"));
                let mut random = random(900);
                let code = random_code(&mut random, kind, lags, widths);
                let work = Work::new(&mut random, &code, n, 4, 3);
                let found = work.run(ops, &code, Effort::Full);
                work.assert_consistent(&code, &found);
                assert!(found.errors.iter().all(|&e| e == 0.0));
                assert!((0..n).all(|i| found.labels[i] == work.tries[3 * i]), "not the first of equal anchors");
            }
        }
    }
}

/// Of anchors that give the same error the first to try is kept, also when one stands twice.
pub(super) fn of_equal_anchors_the_first_is_kept<O: Ops>(ops: &O) {
    let _case = Case::new("seed 950".into());
    let mut random = random(950);
    let code = random_code(&mut random, CodeKind::Chain, 2, &[2, 3, 1]);
    let mut work = Work::new(&mut random, &code, 70, 6, 3);
    let first = work.anchors.row(0).to_vec();
    (1..6).for_each(|k| work.anchors.row_mut(k).copy_from_slice(&first));
    let found = work.run(ops, &code, Effort::Full);
    assert!((0..70).all(|i| found.labels[i] == work.tries[3 * i]));
    work.tries = vec![4; 210];
    assert_eq!(work.run(ops, &code, Effort::Full).symbols, found.symbols);
}
