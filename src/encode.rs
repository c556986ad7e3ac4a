//! From unit rows to codes, generic over the backend; memory is bounded by the chunk given.

use rayon::prelude::*;

use crate::{
    Error, Mat, MatRef,
    model::Model,
    ops::{Effort, EncodeJob, Encoded, Ops, product_nn},
};

/// Anchors tried for each row: the nearest few, of which the one of least error is kept. Two
/// take 0.5 % off the distortion, four 0.7 %.
const TRIES: usize = 4;

/// What encoding needs beside the model: maps from unit rows, which the file does not hold.
#[derive(Debug, Clone)]
pub(crate) struct Encoder {
    mean: Vec<f32>,
    /// d x d: to the coordinates in which the nearest anchors are looked for.
    space: Mat,
    /// The anchors there, K x d.
    anchors: Mat,
    /// For each chart, active x d: to its directions.
    forward: Vec<Mat>,
    /// For each chart, the anchors in its directions, K x active (zeros for the anchors of other charts).
    coordinates: Vec<Mat>,
}

impl Encoder {
    pub(crate) fn new(model: &Model, space: Mat, forward: Vec<Mat>) -> Encoder {
        let k = model.anchors();
        let coordinates: Vec<Mat> = forward.iter().map(|f| Mat::zeros(k, f.rows())).collect();
        let mut encoder =
            Encoder { mean: model.mean.clone(), anchors: Mat::zeros(k, space.rows()), space, forward, coordinates };
        let rows = model.anchor_coordinates();
        let decoders: Vec<Mat> = model.charts.iter().map(|c| c.decoder.to_mat()).collect();
        for (k, row) in rows.iter().enumerate() {
            let chart = usize::from(model.anchor_chart[k]);
            encoder.coordinates[chart].row_mut(k).copy_from_slice(row);
            let decoder = &decoders[chart];
            let mut at = vec![0f32; model.dim];
            for (j, &y) in row.iter().enumerate() {
                at.iter_mut().zip(decoder.row(j)).for_each(|(a, b)| *a += y * b);
            }
            let (space, out) = (&encoder.space, &mut encoder.anchors);
            for (i, o) in out.row_mut(k).iter_mut().enumerate() {
                *o = space.row(i).iter().zip(&at).map(|(s, a)| s * a).sum();
            }
        }
        encoder
    }
}

/// Codes of some rows.
pub(crate) struct RowCodes {
    pub(crate) labels: Vec<u32>,
    /// `symbols` values per row.
    pub(crate) symbols: Vec<u8>,
    decoded: Mat,
    norms: Vec<f32>,
}

impl RowCodes {
    /// The decoded unit rows.
    pub(crate) fn decoded(&self) -> MatRef<'_> {
        self.decoded.view()
    }

    /// Their lengths.
    pub(crate) fn norms(&self) -> &[f32] {
        &self.norms
    }

    /// Mean squared L2 error of the decoded rows, and the same when only the anchor is kept.
    pub(crate) fn energies(&self, model: &Model, encoder: &Encoder, unit: MatRef<'_>) -> (f64, f64) {
        let decoders: Vec<Mat> = model.charts.iter().map(|c| c.decoder.to_mat()).collect();
        let anchors: Vec<Vec<f32>> = (0..model.anchors())
            .map(|k| {
                let chart = usize::from(model.anchor_chart[k]);
                let mut at = model.mean.clone();
                for (j, &y) in encoder.coordinates[chart].row(k).iter().enumerate() {
                    at.iter_mut().zip(decoders[chart].row(j)).for_each(|(a, b)| *a += y * b);
                }
                at
            })
            .collect();
        let squared = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(x, y)| f64::from(x - y).powi(2)).sum() };
        let (mut full, mut coarse) = (0.0, 0.0);
        for i in 0..unit.rows() {
            full += squared(unit.row(i), self.decoded.row(i));
            coarse += squared(unit.row(i), &anchors[self.labels[i] as usize]);
        }
        let n = unit.rows().max(1) as f64;
        (full / n, coarse / n)
    }
}

/// Encodes unit rows (n x d).
pub(crate) fn encode_rows<O: Ops>(
    ops: &O,
    encoder: &Encoder,
    model: &Model,
    unit: MatRef<'_>,
) -> Result<RowCodes, Error> {
    let resident = ops.upload(unit)?;
    let candidates = TRIES.min(model.anchors());
    let placed = ops.project(&resident, &encoder.mean, encoder.space.view())?;
    let assigned = ops.assign(&placed, encoder.anchors.view(), candidates)?;
    drop(placed);
    let found = if model.charts.len() == 1 {
        let y = ops.project(&resident, &encoder.mean, encoder.forward[0].view())?;
        let job = EncodeJob {
            code: &model.charts[0].code,
            anchors: encoder.coordinates[0].view(),
            tries: &assigned.labels,
            candidates,
            effort: Effort::Full,
        };
        ops.encode(&y, job)?
    } else {
        encode_by_chart(ops, encoder, model, unit, &assigned.labels, candidates)?
    };
    let decoded = decode(encoder, model, &found, unit.dim());
    let norms = (0..unit.rows()).map(|i| {
        let square: f64 = decoded.row(i).iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        square.sqrt() as f32
    });
    let norms = norms.collect();
    Ok(RowCodes { labels: found.labels, symbols: found.symbols, decoded, norms })
}

/// Encodes the rows of each chart with its code; of a row's tries only those in the chart of its nearest anchor count.
fn encode_by_chart<O: Ops>(
    ops: &O,
    encoder: &Encoder,
    model: &Model,
    unit: MatRef<'_>,
    tries: &[u32],
    candidates: usize,
) -> Result<Encoded, Error> {
    let symbols = model.symbols();
    let n = unit.rows();
    let mut all = Encoded { labels: vec![0; n], symbols: vec![0; n * symbols], errors: vec![0.0; n] };
    for (g, chart) in model.charts.iter().enumerate() {
        let in_chart = |anchor: u32| usize::from(model.anchor_chart[anchor as usize]) == g;
        let rows: Vec<usize> = (0..n).filter(|&i| in_chart(tries[i * candidates])).collect();
        if rows.is_empty() {
            continue;
        }
        let mut part = Mat::zeros(rows.len(), unit.dim());
        let mut part_tries = Vec::with_capacity(rows.len() * candidates);
        for (r, &i) in rows.iter().enumerate() {
            part.row_mut(r).copy_from_slice(unit.row(i));
            let own = &tries[i * candidates..(i + 1) * candidates];
            part_tries.extend(own.iter().map(|&a| if in_chart(a) { a } else { own[0] }));
        }
        let y = ops.project(&ops.upload(part.view())?, &encoder.mean, encoder.forward[g].view())?;
        let job = EncodeJob {
            code: &chart.code,
            anchors: encoder.coordinates[g].view(),
            tries: &part_tries,
            candidates,
            effort: Effort::Full,
        };
        let found = ops.encode(&y, job)?;
        for (r, &i) in rows.iter().enumerate() {
            all.labels[i] = found.labels[r];
            all.errors[i] = found.errors[r];
            all.symbols[i * symbols..(i + 1) * symbols]
                .copy_from_slice(&found.symbols[r * symbols..(r + 1) * symbols]);
        }
    }
    Ok(all)
}

/// What a reader of the file will decode for these codes, as unit rows.
fn decode(encoder: &Encoder, model: &Model, found: &Encoded, dim: usize) -> Mat {
    const CHUNK: usize = 256;
    let symbols = model.symbols();
    let decoders: Vec<Mat> = model.charts.iter().map(|c| c.decoder.to_mat()).collect();
    let mut out = Mat::zeros(found.labels.len(), dim);
    out.as_mut_slice().par_chunks_mut(CHUNK * dim).enumerate().for_each(|(chunk, out)| {
        let first = chunk * CHUNK;
        let rows = first..first + out.len() / dim;
        for (g, chart) in model.charts.iter().enumerate() {
            let of_chart = |i: &usize| usize::from(model.anchor_chart[found.labels[*i] as usize]) == g;
            let members: Vec<usize> = rows.clone().filter(of_chart).collect();
            let mut y = Mat::zeros(members.len(), chart.active());
            for (r, &i) in members.iter().enumerate() {
                y.row_mut(r).copy_from_slice(encoder.coordinates[g].row(found.labels[i] as usize));
                chart.code.add_codeword(&found.symbols[i * symbols..(i + 1) * symbols], y.row_mut(r));
            }
            let mut decoded = Mat::zeros(members.len(), dim);
            if chart.active() > 0 {
                product_nn(decoded.as_mut_slice(), y.view(), decoders[g].view());
            }
            for (r, &i) in members.iter().enumerate() {
                let at = (i - first) * dim;
                for ((o, x), m) in out[at..at + dim].iter_mut().zip(decoded.row(r)).zip(&model.mean) {
                    *o = x + m;
                }
            }
        }
    });
    out
}
