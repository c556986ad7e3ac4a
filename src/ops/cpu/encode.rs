//! Codes of rows: for each row the anchors it may take, and for each of those the symbols of least squared error.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{
    encode_pairs::{Costs, Trellis, squares},
    encode_survivors::{Paths, SURVIVORS, viterbi},
    lengths,
    simd::Level,
};
use crate::{
    matrix::MatRef,
    model::{Code, kinds::CodeKind},
    ops::{
        chain::LAGS,
        types::{Assignments, Effort, EncodeJob, Encoded, Tries},
    },
};

/// Rows of a unit of parallel work.
const CHUNK: usize = 64;

/// A job whose tries are at hand: rows x candidates numbers.
#[derive(Clone, Copy)]
struct Search<'a> {
    code: &'a Code,
    anchors: MatRef<'a>,
    tries: &'a [u32],
    candidates: usize,
    effort: Effort,
}

pub(super) fn encode(level: Level, rows: MatRef<'_>, job: EncodeJob<'_, Assignments>) -> Encoded {
    let first;
    let tries = match job.tries {
        Tries::Given(tries) => tries,
        Tries::Assigned(assigned) => &assigned.labels,
        Tries::First => {
            first = vec![0; rows.rows() * job.candidates];
            &first
        }
    };
    let EncodeJob { code, anchors, candidates, effort, .. } = job;
    let mut out = search(level, rows, Search { code, anchors, tries, candidates, effort });
    if let Some(lengths) = job.lengths {
        out.norms = lengths::lengths(code, anchors, lengths, &out);
    }
    out
}

fn search(level: Level, rows: MatRef<'_>, job: Search<'_>) -> Encoded {
    let (n, symbols) = (rows.rows(), job.code.symbols());
    let (labels, errors) = (vec![0; n], vec![0.0; n]);
    let mut out = Encoded { labels, symbols: vec![0; n * symbols], errors, norms: Vec::new() };
    // A row without symbols still needs a place in every list that is split below.
    let stride = symbols.max(1);
    let mut codes = vec![0u8; n * stride];
    let exact = job.code.kind == CodeKind::Chain && job.code.lags <= LAGS;
    let trellis = exact.then(|| Trellis::new(job.code));
    let trellis = trellis.as_ref();
    codes
        .par_chunks_mut(CHUNK * stride)
        .zip(out.labels.par_chunks_mut(CHUNK).zip(out.errors.par_chunks_mut(CHUNK)))
        .enumerate()
        .for_each_init(
            || Scratch::new(job.code, exact),
            |scratch, (chunk, (codes, (labels, errors)))| {
                let first = chunk * CHUNK;
                level.run(EncodeChunk { rows, job, trellis, first, scratch, codes, labels, errors });
            },
        );
    if symbols > 0 {
        out.symbols = codes;
    }
    out
}

/// A chunk of rows, encoded with the instructions this machine has. All of them give the same result: nothing is
/// reassociated or contracted.
struct EncodeChunk<'a, 'b> {
    rows: MatRef<'a>,
    job: Search<'a>,
    trellis: Option<&'a Trellis>,
    first: usize,
    scratch: &'b mut Scratch,
    codes: &'b mut [u8],
    labels: &'b mut [u32],
    errors: &'b mut [f32],
}

impl WithSimd for EncodeChunk<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (symbols, candidates) = (self.job.code.symbols(), self.job.candidates);
        for (i, code) in self.codes.chunks_exact_mut(symbols.max(1)).enumerate() {
            let row = self.first + i;
            let tries = &self.job.tries[row * candidates..(row + 1) * candidates];
            let (row, code) = (self.rows.row(row), &mut code[..symbols]);
            let exact = match self.trellis {
                Some(trellis) => best_path(simd, row, self.job, trellis, tries, self.scratch, code),
                None => None,
            };
            (self.labels[i], self.errors[i]) = match exact {
                Some(found) => found,
                None => best_try(simd, row, self.job, tries, self.scratch, code),
            };
        }
    }
}

/// Encodes a row against each anchor of `tries`, exactly, and keeps the best; of equally good ones the first. None where
/// an error is so small that whole numbers are too coarse for it: where costs come out equal the lowest symbols win, and
/// tables trained on those would leave the others unused.
#[inline(always)]
fn best_path<S: Simd>(
    simd: S,
    row: &[f32],
    job: Search<'_>,
    trellis: &Trellis,
    tries: &[u32],
    scratch: &mut Scratch,
    code: &mut [u8],
) -> Option<(u32, f32)> {
    let mut best = (tries[0], f32::INFINITY);
    for (i, &anchor) in tries.iter().enumerate() {
        if tries[..i].contains(&anchor) {
            continue;
        }
        let residual = &mut scratch.residual;
        for ((r, y), a) in residual.iter_mut().zip(row).zip(job.anchors.row(anchor as usize)) {
            *r = y - a;
        }
        let error = trellis.search(simd, residual, &mut scratch.costs);
        if error < trellis.coarse {
            return None;
        }
        if error < best.1 || i == 0 {
            best = (anchor, error);
            std::mem::swap(&mut scratch.residual, &mut scratch.best_residual);
            std::mem::swap(&mut scratch.costs, &mut scratch.best_costs);
        }
    }
    trellis.trace(&scratch.best_costs, code);
    // What the search found is rounded; this is what a reader will see.
    scratch.decoded.fill(0.0);
    job.code.add_codeword(code, &mut scratch.decoded);
    scratch.decoded.iter_mut().zip(&scratch.best_residual).for_each(|(d, r)| *d = r - *d);
    Some((best.0, squares(&scratch.decoded)))
}

/// The same where there is no exact search, or where its whole numbers are too coarse.
#[inline(always)]
fn best_try<S: Simd>(
    simd: S,
    row: &[f32],
    job: Search<'_>,
    tries: &[u32],
    scratch: &mut Scratch,
    code: &mut [u8],
) -> (u32, f32) {
    let mut best = (tries[0], f32::INFINITY);
    let mut residual = std::mem::take(&mut scratch.residual);
    let mut found = std::mem::take(&mut scratch.found);
    for (i, &anchor) in tries.iter().enumerate() {
        if tries[..i].contains(&anchor) {
            continue;
        }
        for ((r, y), a) in residual.iter_mut().zip(row).zip(job.anchors.row(anchor as usize)) {
            *r = y - a;
        }
        let paths = &mut scratch.paths;
        match (job.code.kind, job.code.lags, job.effort) {
            (CodeKind::Pq8, ..) => independent(&residual, job.code, &mut found),
            (.., Effort::Quick) => viterbi::<S, 2>(simd, &residual, job.code, paths, &mut found),
            (.., Effort::Full) => viterbi::<S, SURVIVORS>(simd, &residual, job.code, paths, &mut found),
        }
        scratch.decoded.fill(0.0);
        job.code.add_codeword(&found, &mut scratch.decoded);
        let error = residual.iter().zip(&scratch.decoded).map(|(r, d)| (r - d) * (r - d)).sum();
        if error < best.1 || i == 0 {
            best = (anchor, error);
            code.copy_from_slice(&found);
        }
    }
    scratch.residual = residual;
    scratch.found = found;
    best
}

/// Nearest codeword of every subspace on its own.
fn independent(residual: &[f32], code: &Code, symbols: &mut [u8]) {
    let entries = code.entries();
    let mut direction = 0;
    for (symbol, &width) in symbols.iter_mut().zip(&code.widths) {
        let width = usize::from(width);
        let mut costs = [0f32; 256];
        for v in direction..direction + width {
            for (cost, c) in costs.iter_mut().zip(&code.tables[v * entries..(v + 1) * entries]) {
                *cost += (residual[v] - c) * (residual[v] - c);
            }
        }
        let mut best = 0;
        for (c, cost) in costs.iter().enumerate() {
            if *cost < costs[best] {
                best = c;
            }
        }
        *symbol = best as u8;
        direction += width;
    }
}

/// Buffers of one thread.
struct Scratch {
    residual: Vec<f32>,
    decoded: Vec<f32>,
    found: Vec<u8>,
    paths: Paths,
    costs: Costs,
    best_residual: Vec<f32>,
    best_costs: Costs,
}

impl Scratch {
    fn new(code: &Code, exact: bool) -> Self {
        let steps = if exact { code.symbols() } else { 0 };
        Scratch {
            residual: vec![0.0; code.active()],
            decoded: vec![0.0; code.active()],
            found: vec![0; code.symbols()],
            paths: Paths::new(code),
            costs: Costs::new(steps),
            best_residual: vec![0.0; code.active()],
            best_costs: Costs::new(steps),
        }
    }
}
