//! How long the operations of training take on a device: nearest anchors, and iterations of k-means.
//!
//! Each call copies rows and anchors to the device once and then times runs that leave them there. A run is over when the
//! energy has been read back, which waits for the device. Not timed: opening the device, the copies to it, a first run that
//! warms it up (and makes what a backend keeps of the rows, once), and reading back the labels.

use crate::{
    backend::Compute,
    error::{Error, InputError},
    matrix::MatRef,
    ops::{
        run,
        seam::{Ops, WithOps},
        types::Step,
    },
    platform::{BARE, Stopwatch},
};

/// Anchors there can be.
const MOST_ANCHORS: usize = 65_536;

/// Runs that were timed, and what they found.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Timed {
    /// Of each run, in order.
    pub seconds: Vec<f64>,
    /// Mean squared L2 distance of the rows to their nearest anchors, of the last assignment.
    pub energy: f64,
    /// The nearest anchor of each row, of the last assignment.
    pub labels: Vec<u32>,
}

impl Timed {
    /// The run in the middle, or halfway between the two in the middle; not a number without runs.
    #[must_use]
    pub fn median(&self) -> f64 {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match (sorted.get(middle), sorted.len() % 2) {
            (None, _) => f64::NAN,
            (Some(&upper), 0) => (sorted[middle - 1] + upper) / 2.0,
            (Some(&at), _) => at,
        }
    }
}

/// Times finding the nearest of `anchors` (K x d) for each of `rows` (n x d) where `compute` says.
///
/// A run is O(n K d); there are `repeats` of them after the one that warms up. Memory on the device: a copy of rows and
/// anchors, and a few numbers per row. On the CPU they share its memory.
///
/// # Errors
/// [`Error::Config`] when there are no rows, no anchors or more than 65,536, no repeats, or rows and anchors differ in
/// width, or where there is no clock (WebAssembly in a browser); [`Error::Input`] when a value is not finite;
/// [`Error::Unavailable`] and [`Error::Device`] as the backend has it.
pub fn time_assign(
    rows: MatRef<'_>,
    anchors: MatRef<'_>,
    compute: impl Into<Compute>,
    repeats: usize,
) -> Result<Timed, Error> {
    check(rows, anchors, repeats)?;
    run(&compute.into(), Job { rows, anchors, iterations: None, repeats })
}

/// Times `iterations` of plain k-means from `start` (K x d): assign the rows, take the mean of each cell, move its anchor
/// there. Empty cells keep their anchors. Every run begins with a copy of `start` made on the device, which is timed.
///
/// The energy is that of the last assignment, before its anchors moved: with one iteration that of `start`, and with more it
/// only falls. A run is O(iterations n K d); memory as for [`time_assign`], and the sums of the cells.
///
/// # Errors
/// As [`time_assign`], and [`Error::Config`] for no iterations.
pub fn time_kmeans(
    rows: MatRef<'_>,
    start: MatRef<'_>,
    iterations: usize,
    compute: impl Into<Compute>,
    repeats: usize,
) -> Result<Timed, Error> {
    check(rows, start, repeats)?;
    if iterations == 0 {
        return Err(Error::Config("k-means needs at least one iteration".into()));
    }
    run(&compute.into(), Job { rows, anchors: start, iterations: Some(iterations), repeats })
}

fn check(rows: MatRef<'_>, anchors: MatRef<'_>, repeats: usize) -> Result<(), Error> {
    let bad = |message: String| Err(Error::Config(message));
    if rows.rows() == 0 || rows.dim() == 0 {
        return bad("there are no rows to assign".into());
    }
    if rows.dim() != anchors.dim() {
        return bad(format!("rows have {} dimensions and anchors {}", rows.dim(), anchors.dim()));
    }
    if anchors.rows() == 0 || anchors.rows() > MOST_ANCHORS {
        return bad(format!("{} anchors: 1 to {MOST_ANCHORS} are allowed", anchors.rows()));
    }
    if BARE {
        return bad("there is no clock here to time anything with".into());
    }
    if repeats == 0 {
        return bad("at least one run must be timed".into());
    }
    for (what, values) in [("row", rows), ("anchor", anchors)] {
        if let Some(at) = values.as_slice().iter().position(|v| !v.is_finite()) {
            let error = InputError::new(None, format!("the value of this {what} is not finite"));
            return Err(error.at_row(at / rows.dim()).at_column(at % rows.dim()).into());
        }
    }
    Ok(())
}

struct Job<'a> {
    rows: MatRef<'a>,
    anchors: MatRef<'a>,
    /// Of k-means; `None` only assigns.
    iterations: Option<usize>,
    repeats: usize,
}

impl WithOps for Job<'_> {
    type Output = Timed;

    fn run<O: Ops>(self, ops: O) -> Result<Timed, Error> {
        let (rows, anchors) = (ops.upload(self.rows)?, ops.upload(self.anchors)?);
        let once = || match self.iterations {
            None => {
                let assigned = ops.assign(&rows, &anchors, 1)?;
                Ok((ops.energy(&assigned)?, assigned))
            }
            Some(iterations) => kmeans(&ops, &rows, &anchors, self.anchors.rows(), iterations),
        };
        let (mut energy, mut assigned) = once()?;
        let mut seconds = Vec::with_capacity(self.repeats);
        for _ in 0..self.repeats {
            // The one before first, so that its memory can be used again and freeing it is not timed.
            drop(assigned);
            let watch = Stopwatch::start();
            (energy, assigned) = once()?;
            seconds.push(watch.seconds());
        }
        Ok(Timed { seconds, energy, labels: ops.assignments(&assigned)?.labels })
    }
}

/// The energy of the last assignment, and it.
fn kmeans<O: Ops>(
    ops: &O,
    rows: &O::Rows,
    start: &O::Rows,
    count: usize,
    iterations: usize,
) -> Result<(f64, O::Assigned), Error> {
    let mut anchors = ops.copy(start)?;
    let mut step = || {
        let assigned = ops.assign(rows, &anchors, 1)?;
        let stats = ops.reduce(rows, &assigned, count, 0.0)?;
        ops.update(&mut anchors, &stats, Step { learning_rate: 1.0, noise: None })?;
        Ok::<_, Error>(assigned)
    };
    for _ in 1..iterations {
        step()?;
    }
    let last = step()?;
    // The device works in the order of the calls, so this waits for the last move too.
    Ok((ops.energy(&last)?, last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Backend, DeviceChoice};
    use crate::{config::AnnealingConfig, matrix::Mat, train::anneal};

    const N: usize = 500;
    const D: usize = 9;
    const K: usize = 12;

    fn rows() -> Mat {
        let mut random = crate::math::rng::Random::new(5, 0);
        Mat::new((0..N * D).map(|_| random.normal()).collect(), N, D).unwrap()
    }

    fn nearest(rows: MatRef<'_>, anchors: MatRef<'_>) -> (Vec<u32>, f64) {
        let distance = |i: usize, k: usize| -> f64 {
            rows.row(i).iter().zip(anchors.row(k)).map(|(x, a)| f64::from(x - a).powi(2)).sum()
        };
        let best = |i: usize| (0..anchors.rows()).min_by(|&a, &b| distance(i, a).total_cmp(&distance(i, b))).unwrap();
        let labels: Vec<u32> = (0..rows.rows()).map(|i| best(i) as u32).collect();
        let energy: f64 = labels.iter().enumerate().map(|(i, &k)| distance(i, k as usize)).sum();
        (labels, energy / rows.rows() as f64)
    }

    #[test]
    fn assignments_are_those_of_brute_force_and_of_annealing() {
        let rows = rows();
        let config = AnnealingConfig { anchors: Some(K), ..AnnealingConfig::default() };
        let (found, assigned) = anneal(rows.view(), &config, 1, Backend::Cpu).unwrap();
        let timed = time_assign(rows.view(), found.anchors(), Backend::Cpu, 3).unwrap();
        let (labels, energy) = nearest(rows.view(), found.anchors());
        assert_eq!(timed.labels, labels);
        assert_eq!(timed.labels, assigned.labels);
        assert!((timed.energy - energy).abs() < 1e-5 * energy, "{} {energy}", timed.energy);
        assert!((timed.energy - found.energy()).abs() < 1e-5 * energy);
        assert!(timed.seconds.len() == 3 && timed.seconds.iter().all(|&s| s > 0.0));
    }

    #[test]
    fn kmeans_is_that_of_the_book() {
        let rows = rows();
        let start = rows.view().slice(0..K);
        let mut anchors = Mat::new(start.as_slice().to_vec(), K, D).unwrap();
        let mut before = f64::INFINITY;
        for iterations in 1..=6 {
            let timed = time_kmeans(rows.view(), start, iterations, Backend::Cpu, 2).unwrap();
            let (labels, energy) = nearest(rows.view(), anchors.view());
            assert_eq!(timed.labels, labels, "{iterations}");
            assert!((timed.energy - energy).abs() < 1e-5 * energy, "{} {energy}", timed.energy);
            assert!(timed.energy < before, "{iterations}: {} after {before}", timed.energy);
            before = timed.energy;
            for k in 0..K {
                let cell: Vec<usize> = (0..N).filter(|&i| labels[i] == k as u32).collect();
                for j in 0..D {
                    let sum: f64 = cell.iter().map(|&i| f64::from(rows.row(i)[j])).sum();
                    anchors.row_mut(k)[j] = (sum / cell.len() as f64) as f32;
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_timed_is_refused() {
        let rows = rows();
        let all = rows.view();
        let config = |result: Result<Timed, Error>| matches!(result, Err(Error::Config(_)));
        assert!(config(time_assign(all, all.slice(0..0), Backend::Cpu, 1)));
        assert!(config(time_assign(all.slice(0..0), all, Backend::Cpu, 1)));
        assert!(config(time_assign(all, Mat::zeros(3, D + 1).view(), Backend::Cpu, 1)));
        assert!(config(time_assign(all, all, Backend::Cpu, 0)));
        let second = Compute { device: DeviceChoice::Number(1), ..Backend::Cpu.into() };
        assert!(config(time_assign(all, all, second, 1)));
        assert!(config(time_kmeans(all, all, 0, Backend::Cpu, 1)));
        let mut holed = rows.clone();
        holed.row_mut(7)[2] = f32::NAN;
        let Err(Error::Input(error)) = time_assign(all, holed.view(), Backend::Cpu, 1) else {
            panic!("a value that is not finite was taken")
        };
        assert_eq!((error.row, error.column), (Some(7), Some(2)));
    }

    #[test]
    fn the_median_is_in_the_middle() {
        let of = |seconds: &[f64]| Timed { seconds: seconds.to_vec(), energy: 0.0, labels: vec![] }.median();
        assert_eq!([of(&[3.0]), of(&[3.0, 1.0, 2.0]), of(&[4.0, 1.0, 2.0, 8.0])], [3.0, 2.0, 3.0]);
        assert!(of(&[]).is_nan());
    }
}
