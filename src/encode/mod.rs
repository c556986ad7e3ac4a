//! From unit rows to codes, generic over the backend; memory is bounded by the chunk given.

pub(crate) mod maps;
pub(crate) mod shares;
#[cfg(test)]
mod tests;
pub(crate) mod wide;

use std::ops::Range;

use rayon::prelude::*;

use crate::{
    error::Error,
    math::product::{chunk_nn, dot, product_nt, squared_distance},
    matrix::{Mat, MatRef, copy_rows},
    model::{Chart, Model},
    ops::{
        seam::Ops,
        types::{Assignments, Effort, EncodeJob, Encoded, Lengths, Tries},
    },
};
use maps::SEARCHED;

/// Rows of a unit of parallel work.
const CHUNK: usize = 256;

/// Anchors tried for each row: the nearest few, of which the one of least error is kept. Two
/// take 0.5 % off the distortion, four 0.7 %.
const TRIES: usize = 2;

/// What encoding needs beside the model: maps from unit rows, which the file does not hold but which follow from what it holds.
#[derive(Debug, Clone)]
pub(crate) struct Encoder {
    mean: Vec<f32>,
    /// Its squared length.
    mean_square: f32,
    /// To the coordinates in which the nearest anchors are looked for.
    space: Mat,
    /// The anchors there, one a row.
    anchors: Mat,
    charts: Vec<ChartMaps>,
    /// The number of each anchor among those of its chart.
    places: Vec<u32>,
}

/// A chart's part of an encoder.
#[derive(Debug, Clone)]
struct ChartMaps {
    /// active x d: to its directions.
    forward: Mat,
    /// Its anchors in its directions.
    coordinates: Mat,
    /// Which they are.
    members: Vec<u32>,
    /// active x d: back from them.
    decoder: Mat,
    /// Inner products of the decoder's rows with one another, and twice those with the mean: what lengths take.
    gram: Mat,
    slope: Vec<f32>,
}

impl Encoder {
    /// The encoder of a model, whether it has just been trained or read from a file: the same for the same model.
    ///
    /// # Errors
    /// As the decompositions have it, which finite values do not make fail, and those of `report`, which is asked every second or so.
    pub(crate) fn of(model: &Model, report: &dyn Fn() -> Result<(), Error>) -> Result<Encoder, Error> {
        let maps = model.charts.iter().map(|chart| maps::forward(&chart.decoder.to_mat(), report));
        let maps = maps.collect::<Result<Vec<_>, _>>()?;
        let space = maps::space(model, &maps)?;
        Encoder::new(model, space, maps, report)
    }

    fn new(
        model: &Model,
        space: Mat,
        forward: Vec<Mat>,
        report: &dyn Fn() -> Result<(), Error>,
    ) -> Result<Encoder, Error> {
        let mut anchors = Mat::zeros(model.anchors(), space.rows());
        let mut maps = |(g, (chart, forward)): (usize, (&Chart, Mat))| -> Result<ChartMaps, Error> {
            let decoder = chart.decoder.to_mat();
            let of_chart = |k: &u32| usize::from(model.anchor_chart[*k as usize]) == g;
            let members: Vec<u32> = (0..model.anchors() as u32).filter(of_chart).collect();
            let coordinates = chart.anchors.to_rows();
            let mut gram = Mat::zeros(chart.active(), chart.active());
            let mut slope = vec![0f32; chart.active()];
            if chart.active() > 0 {
                slope.iter_mut().enumerate().for_each(|(j, s)| *s = 2.0 * dot(decoder.row(j), &model.mean));
                products(&mut gram, decoder.view(), decoder.view(), report)?;
                let mut seen = Mat::zeros(space.rows(), chart.active());
                products(&mut seen, space.view(), decoder.view(), report)?;
                for (part, first) in members.chunks(MEMBERS).zip((0..).step_by(MEMBERS)) {
                    report()?;
                    let found: Vec<Vec<f32>> = (first..first + part.len())
                        .into_par_iter()
                        .map(|m| (0..seen.rows()).map(|i| dot(seen.row(i), coordinates.row(m))).collect())
                        .collect();
                    part.iter().zip(found).for_each(|(&k, at)| anchors.row_mut(k as usize).copy_from_slice(&at));
                }
            }
            Ok(ChartMaps { forward, coordinates, members, decoder, gram, slope })
        };
        let charts = model.charts.iter().zip(forward).enumerate().map(&mut maps).collect::<Result<_, _>>()?;
        let (space, anchors) = most_varied(&space, &anchors);
        let mean_square = dot(&model.mean, &model.mean);
        let places = model.anchor_places().into_iter().map(|(_, place)| place as u32).collect();
        Ok(Encoder { mean: model.mean.clone(), mean_square, space, anchors, charts, places })
    }

    /// What a reader of the file will decode for these codes, as unit rows.
    pub(crate) fn decode(&self, model: &Model, codes: &RowCodes) -> Mat {
        let dim = model.dim;
        let mut out = Mat::zeros(codes.labels.len(), dim);
        out.as_mut_slice().par_chunks_mut(CHUNK * dim).enumerate().for_each(|(chunk, out)| {
            let rows = chunk * CHUNK..chunk * CHUNK + out.len() / dim;
            for (g, maps) in self.charts.iter().enumerate() {
                let (members, y) = self.codewords(model, g, rows.clone(), &codes.labels, &codes.symbols);
                let mut decoded = Mat::zeros(members.len(), dim);
                if y.dim() > 0 {
                    // What the residual is does not depend on the rows that come with it.
                    chunk_nn(decoded.as_mut_slice(), y.view(), maps.decoder.view());
                }
                for (r, &i) in members.iter().enumerate() {
                    let at = (i - chunk * CHUNK) * dim;
                    for ((o, x), m) in out[at..at + dim].iter_mut().zip(decoded.row(r)).zip(&self.mean) {
                        *o = x + m;
                    }
                }
            }
        });
        out
    }

    /// What a row less the mean is multiplied with for its coordinates in chart `g`, active x d.
    pub(crate) fn forward(&self, g: usize) -> MatRef<'_> {
        self.charts[g].forward.view()
    }

    /// The anchors of chart `g` in its directions: where it is the only one, all of them.
    pub(crate) fn coordinates(&self, g: usize) -> MatRef<'_> {
        self.charts[g].coordinates.view()
    }

    /// The mean of the unit rows.
    pub(crate) fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// Unit rows from their coordinates (n x active) in the first chart.
    pub(crate) fn decode_coordinates(&self, y: MatRef<'_>) -> Mat {
        let dim = self.mean.len();
        let mut out = Mat::zeros(y.rows(), dim);
        out.as_mut_slice().par_chunks_mut(CHUNK * dim).enumerate().for_each(|(chunk, out)| {
            let y = y.slice(chunk * CHUNK..chunk * CHUNK + out.len() / dim);
            chunk_nn(out, y, self.charts[0].decoder.view());
            out.chunks_exact_mut(dim).for_each(|row| row.iter_mut().zip(&self.mean).for_each(|(x, m)| *x += m));
        });
        out
    }

    /// What the lengths of the rows of chart `g` take, those that [`Encoder::decode`] gives.
    fn lengths(&self, g: usize) -> Lengths<'_> {
        let maps = &self.charts[g];
        Lengths { gram: maps.gram.view(), slope: &maps.slope, constant: self.mean_square }
    }

    /// The members of chart `g` among `rows`, and anchor plus codeword of each in the directions of the chart.
    fn codewords(
        &self,
        model: &Model,
        g: usize,
        rows: Range<usize>,
        labels: &[u32],
        symbols: &[u8],
    ) -> (Vec<usize>, Mat) {
        let (chart, count) = (&model.charts[g], model.symbols());
        let of_chart = |i: &usize| usize::from(model.anchor_chart[labels[*i] as usize]) == g;
        let members: Vec<usize> = rows.filter(of_chart).collect();
        let mut y = Mat::zeros(members.len(), chart.active());
        for (r, &i) in members.iter().enumerate() {
            let place = self.places[labels[i] as usize] as usize;
            y.row_mut(r).copy_from_slice(self.charts[g].coordinates.row(place));
            chart.code.add_codeword(&symbols[i * count..(i + 1) * count], y.row_mut(r));
        }
        (members, y)
    }
}

/// Anchors placed at a time.
const MEMBERS: usize = 1024;
/// Rows of a product from which on it is made in parts.
const TALL: usize = 1024;

/// `out = a b^T`, in parts where that takes long.
fn products(
    out: &mut Mat,
    a: MatRef<'_>,
    b: MatRef<'_>,
    report: &dyn Fn() -> Result<(), Error>,
) -> Result<(), Error> {
    let part = if a.rows() > TALL { CHUNK } else { TALL };
    for first in (0..a.rows()).step_by(part) {
        report()?;
        let rows = first..(first + part).min(a.rows());
        let width = b.rows();
        product_nt(&mut out.as_mut_slice()[rows.start * width..rows.end * width], a.slice(rows), b, 1.0);
    }
    Ok(())
}

/// The coordinates of `space` in which `anchors` (K x r) differ most, and the anchors in them.
fn most_varied(space: &Mat, anchors: &Mat) -> (Mat, Mat) {
    let spread = |j: usize| -> f64 {
        let (mut sum, mut squares) = (0.0, 0.0);
        for k in 0..anchors.rows() {
            let v = f64::from(anchors.row(k)[j]);
            (sum, squares) = (sum + v, squares + v * v);
        }
        squares - sum * sum / anchors.rows().max(1) as f64
    };
    let spreads: Vec<f64> = (0..anchors.dim()).map(spread).collect();
    let mut order: Vec<usize> = (0..anchors.dim()).collect();
    order.sort_by(|&a, &b| spreads[b].total_cmp(&spreads[a]).then(a.cmp(&b)));
    order.truncate(SEARCHED);
    let mut there = Mat::zeros(anchors.rows(), order.len());
    for k in 0..anchors.rows() {
        there.row_mut(k).iter_mut().zip(&order).for_each(|(t, &j)| *t = anchors.row(k)[j]);
    }
    (copy_rows(space.view(), &order), there)
}

/// Codes of some rows.
pub(crate) struct RowCodes {
    pub(crate) labels: Vec<u32>,
    /// `symbols` values per row.
    pub(crate) symbols: Vec<u8>,
    /// Lengths of the decoded unit rows.
    pub(crate) norms: Vec<f32>,
}

/// Mean squared L2 error of decoded rows, and the same when only the anchor is kept.
pub(crate) fn energies(
    model: &Model,
    encoder: &Encoder,
    unit: MatRef<'_>,
    codes: &RowCodes,
    decoded: MatRef<'_>,
) -> (f64, f64) {
    let anchors: Vec<Vec<f32>> = (0..model.anchors())
        .into_par_iter()
        .map(|k| {
            let maps = &encoder.charts[usize::from(model.anchor_chart[k])];
            let mut at = model.mean.clone();
            for (j, &y) in maps.coordinates.row(encoder.places[k] as usize).iter().enumerate() {
                at.iter_mut().zip(maps.decoder.row(j)).for_each(|(a, b)| *a += y * b);
            }
            at
        })
        .collect();
    let of_row = |i: usize| {
        let anchor = &anchors[codes.labels[i] as usize];
        (squared_distance(unit.row(i), decoded.row(i)), squared_distance(unit.row(i), anchor))
    };
    let errors: Vec<(f32, f32)> = (0..unit.rows()).into_par_iter().with_min_len(CHUNK).map(of_row).collect();
    let (mut full, mut coarse) = (0.0, 0.0);
    for (error, without_code) in errors {
        full += f64::from(error);
        coarse += f64::from(without_code);
    }
    let n = unit.rows().max(1) as f64;
    (full / n, coarse / n)
}

/// Encodes unit rows (n x d) on the device.
pub(crate) fn encode_rows<O: Ops>(
    ops: &O,
    encoder: &Encoder,
    model: &Model,
    unit: &O::Rows,
) -> Result<RowCodes, Error> {
    let candidates = TRIES.min(model.anchors());
    let placed = ops.project(unit, &encoder.mean, encoder.space.view())?;
    let nearest = ops.assign(&placed, &ops.upload(encoder.anchors.view())?, candidates)?;
    drop(placed);
    let found = if let ([chart], [maps]) = (model.charts.as_slice(), encoder.charts.as_slice()) {
        let y = ops.project(unit, &encoder.mean, maps.forward.view())?;
        let job = EncodeJob {
            code: &chart.code,
            anchors: maps.coordinates.view(),
            tries: Tries::Assigned(&nearest),
            candidates,
            effort: Effort::Full,
            lengths: Some(encoder.lengths(0)),
        };
        ops.encode(&y, job)?
    } else {
        encode_by_chart(ops, encoder, model, unit, &ops.assignments(&nearest)?)?
    };
    Ok(RowCodes { labels: found.labels, symbols: found.symbols, norms: found.norms })
}

/// Encodes the rows of each chart with its code; of a row's tries only those in the chart of its nearest anchor count.
fn encode_by_chart<O: Ops>(
    ops: &O,
    encoder: &Encoder,
    model: &Model,
    resident: &O::Rows,
    nearest: &Assignments,
) -> Result<Encoded, Error> {
    let symbols = model.symbols();
    let (tries, candidates, n) = (&nearest.labels, nearest.candidates, nearest.distances.len());
    let (labels, errors, norms) = (vec![0; n], vec![0.0; n], vec![0.0; n]);
    let mut all = Encoded { labels, symbols: vec![0; n * symbols], errors, norms };
    for (g, chart) in model.charts.iter().enumerate() {
        let in_chart = |anchor: u32| usize::from(model.anchor_chart[anchor as usize]) == g;
        let rows: Vec<u32> = (0..n as u32).filter(|&i| in_chart(tries[i as usize * candidates])).collect();
        if rows.is_empty() {
            continue;
        }
        let mut part_tries = Vec::with_capacity(rows.len() * candidates);
        for &i in &rows {
            let own = &tries[i as usize * candidates..][..candidates];
            let tried = own.iter().map(|&a| if in_chart(a) { a } else { own[0] });
            // By their numbers in the chart.
            part_tries.extend(tried.map(|a| encoder.places[a as usize]));
        }
        let part = ops.select(resident, &rows)?;
        let y = ops.project(&part, &encoder.mean, encoder.charts[g].forward.view())?;
        let job = EncodeJob {
            code: &chart.code,
            anchors: encoder.charts[g].coordinates.view(),
            tries: Tries::Given(&part_tries),
            candidates,
            effort: Effort::Full,
            lengths: Some(encoder.lengths(g)),
        };
        let found = ops.encode(&y, job)?;
        for (r, &i) in rows.iter().enumerate() {
            let i = i as usize;
            all.labels[i] = encoder.charts[g].members[found.labels[r] as usize];
            all.errors[i] = found.errors[r];
            all.norms[i] = found.norms[r];
            all.symbols[i * symbols..(i + 1) * symbols]
                .copy_from_slice(&found.symbols[r * symbols..(r + 1) * symbols]);
        }
    }
    Ok(all)
}
