//! Annealed, robust k-means: the loop that every backend runs.

use std::rc::Rc;

use rayon::prelude::*;

use super::relocate::relocate;
use crate::{
    config::AnnealingConfig,
    error::Error,
    math::{
        linalg::{self, subtract},
        rng::Random,
    },
    matrix::{Mat, MatRef},
    ops::{
        seam::Ops,
        types::{Assignments, Cells, Step},
    },
};

/// Rows per anchor that the start chooses from; more change it little and cost n K d.
const START_ROWS: usize = 16;
/// A batch of the start has one anchor for so many that there are.
const START_BATCH: usize = 4;
/// Share of the iterations that have noise.
const NOISY: f64 = 2.0 / 3.0;

/// Iterations in which anchors may be relocated; there is nothing left to move after four or so.
const RELOCATIONS: usize = 6;

const PURPOSE_START: u64 = 1;
const PURPOSE_NOISE: u64 = 2;

/// Finds anchors for `rows`. `each` is called after every iteration with the number done, and may stop the call.
///
/// O(iterations n K d). The result has as many anchors as asked for: empty cells take over half of the cell of highest
/// energy.
pub(crate) fn anneal<O: Ops>(
    ops: &O,
    rows: MatRef<'_>,
    config: &AnnealingConfig,
    seed: u64,
    each: impl FnMut(usize) -> Result<(), Error>,
) -> Result<(AnchorSet, Assignments), Error> {
    let count = check(rows, config)?;
    // The rows, and as operands of products.
    ops.ensure_room(8 * rows.as_slice().len() as u64)?;
    // Distances are measured about the mean, where their expanded form loses least.
    let offset = linalg::mean(rows);
    let moved = offset.iter().any(|&m| m != 0.0).then(|| subtract(rows, &offset));
    let centred = moved.as_ref().map_or(rows, Mat::view);
    let resident = ops.upload(centred)?;
    let begin = start(ops, &resident, rows.rows(), count, seed)?;
    let (mut anchors, assigned) = anneal_from(ops, &resident, centred, begin, config, seed, each)?;
    for k in 0..count {
        anchors.row_mut(k).iter_mut().zip(&offset).for_each(|(a, o)| *a += o);
    }
    Ok((AnchorSet { anchors, energy: assigned.energy() }, assigned))
}

/// As [`anneal`], for centred `rows`, which `resident` holds on the device, from given anchors.
pub(crate) fn anneal_from<O: Ops>(
    ops: &O,
    resident: &O::Rows,
    rows: MatRef<'_>,
    begin: Mat,
    config: &AnnealingConfig,
    seed: u64,
    mut each: impl FnMut(usize) -> Result<(), Error>,
) -> Result<(Mat, Assignments), Error> {
    let count = begin.rows();
    let mut anchors = ops.upload_owned(begin)?;
    let mut assigned = Rc::new(ops.assign(resident, &anchors, 1)?);
    let noisy = if config.temperature > 0.0 { (config.iterations as f64 * NOISY) as usize } else { 0 };
    let mut temperature = config.temperature;
    let mut energy = ops.energy(&assigned)?;
    let mut best = (ops.copy(&anchors)?, Rc::clone(&assigned), energy);
    let mut relocating = count > 1;
    let mut two = false;
    for iteration in 0..config.iterations {
        let hot = iteration < noisy;
        let stats = ops.reduce(resident, &assigned, count, if hot { config.trim } else { 0.0 })?;
        let cells = ops.cells(&stats)?;
        let noise = hot.then(|| noise(&cells, rows.dim(), temperature, seed, iteration));
        let step = Step { learning_rate: config.learning_rate, noise: noise.as_ref().map(Mat::view) };
        let before = if two { Some(ops.download(&anchors)?) } else { None };
        ops.update(&mut anchors, &stats, step)?;
        // Only what moves anchors one by one takes them to the host.
        if before.is_some() || cells.counts.contains(&0) {
            let near = ops.assignments(&assigned)?;
            let mut moved = ops.download_owned(anchors)?;
            refill(&mut moved, &cells, rows, &near, seed, iteration);
            if let Some(before) = before {
                relocating = relocate(rows, before.view(), &near, &mut moved, seed, iteration) > 0;
            }
            anchors = ops.upload_owned(moved)?;
        }
        // Two anchors where the next iteration relocates: not in the first, whose cells are those of the start, nor in
        // the last, which could not settle.
        two = relocating && iteration + 1 < RELOCATIONS.min(config.iterations - 1);
        assigned = Rc::new(ops.assign(resident, &anchors, if two { 2 } else { 1 })?);
        temperature *= 1.0 - config.cooling;
        let previous = std::mem::replace(&mut energy, ops.energy(&assigned)?);
        if energy < best.2 {
            best = (ops.copy(&anchors)?, Rc::clone(&assigned), energy);
        }
        each(iteration + 1)?;
        if !hot && previous - energy <= f64::from(config.tolerance) * previous {
            break;
        }
    }
    let (anchors, assigned, _) = best;
    let mut assigned = ops.assignments(&assigned)?;
    assigned.labels = assigned.nearest().collect();
    assigned.candidates = 1;
    Ok((ops.download_owned(anchors)?, assigned))
}

fn check(rows: MatRef<'_>, config: &AnnealingConfig) -> Result<usize, Error> {
    let count = config.anchors.unwrap_or(0);
    if count == 0 || count > rows.rows().min(65_536) {
        let most = rows.rows().min(65_536);
        return Err(Error::Config(format!("{count} anchors for {} rows: 1 to {most} are allowed", rows.rows())));
    }
    check_settings(config)?;
    Ok(count)
}

/// Refuses settings out of range, the number of anchors aside.
pub(crate) fn check_settings(config: &AnnealingConfig) -> Result<(), Error> {
    let bad = |message: String| Err(Error::Config(message));
    if config.iterations == 0 {
        return bad("annealing needs at least one iteration".into());
    }
    let ranges = [
        ("temperature", config.temperature, config.temperature >= 0.0 && config.temperature.is_finite()),
        ("cooling", config.cooling, (0.0..=1.0).contains(&config.cooling)),
        ("learning_rate", config.learning_rate, config.learning_rate > 0.0 && config.learning_rate <= 1.0),
        ("trim", config.trim, (0.0..=0.5).contains(&config.trim)),
        ("tolerance", config.tolerance, config.tolerance >= 0.0),
    ];
    match ranges.iter().find(|(_, _, ok)| !ok) {
        Some((name, value, _)) => bad(format!("annealing {name} {value} is out of range")),
        None => Ok(()),
    }
}

/// k-means++ (Arthur and Vassilvitskii, 2007) on a sample, an ever larger batch of anchors at a time: a row is drawn by its
/// squared distance to the nearest of the batches before. Relocation mends what that loses against one by one.
fn start<O: Ops>(ops: &O, rows: &O::Rows, n: usize, count: usize, seed: u64) -> Result<Mat, Error> {
    let mut random = Random::new(seed, PURPOSE_START);
    let sample: Vec<u32> = random.sample(n, count.saturating_mul(START_ROWS)).into_iter().map(|i| i as u32).collect();
    let chosen = ops.select(rows, &sample)?;
    let mut nearest = vec![f32::INFINITY; sample.len()];
    let mut anchors = vec![random.below(sample.len()) as u32];
    let mut from = 0;
    while anchors.len() < count {
        let added = ops.select(&chosen, &anchors[from..])?;
        let distances = ops.assignments(&ops.assign(&chosen, &added, 1)?)?.distances;
        let mut total = 0f64;
        let mut sums = Vec::with_capacity(sample.len());
        for (near, d) in nearest.iter_mut().zip(distances) {
            *near = near.min(d);
            total += f64::from(*near);
            sums.push(total);
        }
        from = anchors.len();
        for _ in from..(from + from / START_BATCH + 1).min(count) {
            // Where all rows are anchors already any row will do.
            let mut pick = random.below(sample.len());
            if total > 0.0 {
                let wanted = random.uniform() * total;
                pick = sums.partition_point(|&s| s < wanted).min(sample.len() - 1);
                // Once each, while there are others; the sums still count those taken in this batch.
                let mut free = (pick..sample.len()).chain(0..pick).filter(|&i| nearest[i] > 0.0);
                pick = free.next().unwrap_or(pick);
                nearest[pick] = 0.0;
            }
            anchors.push(pick as u32);
        }
    }
    ops.download_owned(ops.select(&chosen, &anchors)?)
}

/// Zero-mean noise of each cell's own standard deviation times the temperature.
fn noise(cells: &Cells, dim: usize, temperature: f32, seed: u64, iteration: usize) -> Mat {
    let mut out = Mat::zeros(cells.counts.len(), dim);
    let rows = out.as_mut_slice().par_chunks_mut(dim).zip(&cells.variances);
    rows.enumerate().for_each(|(k, (row, variance))| {
        let mut random = Random::new(seed, PURPOSE_NOISE + ((iteration as u64) << 8) + ((k as u64) << 32));
        let deviation = temperature * variance.sqrt();
        row.iter_mut().for_each(|v| *v = deviation * random.normal());
    });
    out
}

/// Gives every empty cell half of the cell of highest energy: its anchor moves to a random row of that cell.
fn refill(anchors: &mut Mat, cells: &Cells, rows: MatRef<'_>, assigned: &Assignments, seed: u64, iteration: usize) {
    let empty: Vec<usize> = (0..cells.counts.len()).filter(|&k| cells.counts[k] == 0).collect();
    if empty.is_empty() {
        return;
    }
    let mut random = Random::new(seed, PURPOSE_NOISE + 1 + ((iteration as u64) << 8));
    let energy = |k: usize| f64::from(cells.variances[k]) * f64::from(cells.counts[k]);
    let mut donors: Vec<usize> = (0..cells.counts.len()).filter(|&k| cells.counts[k] > 1).collect();
    donors.sort_by(|&a, &b| energy(b).total_cmp(&energy(a)).then(a.cmp(&b)));
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); cells.counts.len()];
    for (row, label) in assigned.nearest().enumerate() {
        members[label as usize].push(row);
    }
    for (&k, &donor) in empty.iter().zip(donors.iter().cycle()) {
        let row = members[donor][random.below(members[donor].len())];
        anchors.row_mut(k).copy_from_slice(rows.row(row));
    }
}

/// Anchors (coarse centroids): K points of the space of the rows.
#[derive(Debug, Clone, PartialEq)]
pub struct AnchorSet {
    anchors: Mat,
    energy: f64,
}

impl AnchorSet {
    /// The anchors, K x d.
    #[must_use]
    pub fn anchors(&self) -> MatRef<'_> {
        self.anchors.view()
    }

    pub(crate) fn into_anchors(self) -> Mat {
        self.anchors
    }

    /// Mean squared L2 distance of the training rows to their nearest anchors.
    #[must_use]
    pub fn energy(&self) -> f64 {
        self.energy
    }
}
