//! Nearest anchors: distances of a chunk of rows by one dense product, then the smallest of each row.

use rayon::prelude::*;

use crate::{
    math::product::{CHUNK, chunk_nt, squared_distance},
    matrix::MatRef,
    ops::types::Assignments,
};

/// Anchors whose products are held at a time.
const ANCHORS: usize = 1024;
/// Products that are passed at once by those that look for several anchors.
const BLOCK: usize = 16;

pub(super) fn assign(rows: MatRef<'_>, anchors: MatRef<'_>, candidates: usize) -> Assignments {
    let n = rows.rows();
    let half_norms: Vec<f32> = (0..anchors.rows())
        .map(|k| (0.5 * anchors.row(k).iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>()) as f32)
        .collect();
    let mut labels = vec![0u32; n * candidates];
    let mut distances = vec![0f32; n];
    labels.par_chunks_mut(CHUNK * candidates).zip(distances.par_chunks_mut(CHUNK)).enumerate().for_each(
        |(chunk, (labels, distances))| {
            let rows = rows.slice(chunk * CHUNK..chunk * CHUNK + distances.len());
            nearest(rows, anchors, &half_norms, candidates, labels);
            for (i, distance) in distances.iter_mut().enumerate() {
                // Measured directly: the expanded form below cancels where a row is close to its anchor.
                let anchor = anchors.row(labels[i * candidates] as usize);
                *distance = squared_distance(rows.row(i), anchor);
            }
        },
    );
    Assignments { labels, distances, candidates }
}

/// Fills `labels` with the nearest anchors of each row by `|a|^2 / 2 - <x, a>`, which orders anchors as the distance does.
fn nearest(rows: MatRef<'_>, anchors: MatRef<'_>, half_norms: &[f32], candidates: usize, labels: &mut [u32]) {
    let mut products = vec![0f32; rows.rows() * ANCHORS.min(anchors.rows())];
    let mut best = vec![(f32::INFINITY, u32::MAX); rows.rows() * candidates];
    for start in (0..anchors.rows()).step_by(ANCHORS) {
        let block = anchors.slice(start..(start + ANCHORS).min(anchors.rows()));
        let width = block.rows();
        let products = &mut products[..rows.rows() * width];
        chunk_nt(products, rows, block, -1.0);
        for (i, row) in products.chunks_exact_mut(width).enumerate() {
            for (p, h) in row.iter_mut().zip(&half_norms[start..]) {
                *p += h;
            }
            let best = &mut best[i * candidates..(i + 1) * candidates];
            if candidates == 1 {
                let at = lowest(row);
                if row[at] < best[0].0 || best[0].1 == u32::MAX {
                    best[0] = (row[at], (start + at) as u32);
                }
            } else {
                // Once the first anchors are in, few of the others get in: most blocks are passed by their minimum.
                for (b, block) in row.chunks(BLOCK).enumerate() {
                    let least = block.iter().fold(f32::INFINITY, |m, &v| if v < m { v } else { m });
                    let (worst, filled) = best[candidates - 1];
                    if filled == u32::MAX || least < worst {
                        for (k, &p) in block.iter().enumerate() {
                            insert(best, p, (start + b * BLOCK + k) as u32);
                        }
                    }
                }
            }
        }
    }
    for (label, (_, k)) in labels.iter_mut().zip(best) {
        *label = k;
    }
}

/// Index of the lowest value; of equal ones the first.
fn lowest(values: &[f32]) -> usize {
    const LANES: usize = 16;
    // The minimum first, in lanes that vectorise; then where it stands.
    let mut lanes = [f32::INFINITY; LANES];
    let mut chunks = values.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane = if v < *lane { v } else { *lane };
        }
    }
    let least = lanes.iter().chain(chunks.remainder()).fold(f32::INFINITY, |m, &v| if v < m { v } else { m });
    values.iter().position(|&v| v == least).unwrap_or(0)
}

/// Keeps `best` the lowest values seen, ascending; later equal ones go behind earlier ones.
fn insert(best: &mut [(f32, u32)], value: f32, index: u32) {
    let last = best.len() - 1;
    if best[last].1 != u32::MAX && value >= best[last].0 {
        return;
    }
    let mut at = last;
    while at > 0 && (best[at - 1].1 == u32::MAX || value < best[at - 1].0) {
        best[at] = best[at - 1];
        at -= 1;
    }
    best[at] = (value, index);
}
