//! How much work a launch is given. Systems that draw with the same device stop what runs for seconds, so long work goes in
//! pieces of about [`AIM`]; how much that is shows in the first pieces, each a few times as large as the one before.

use std::{
    collections::HashMap,
    ops::Range,
    time::{Duration, Instant},
};

use super::{device::Device, error::lock, kernel::Kernel};
use crate::error::Error;

/// Time of a launch.
const AIM: Duration = Duration::from_millis(50);
/// From this time on a launch says how fast the device is; shorter ones say more of what starting costs.
const TELLING: Duration = Duration::from_millis(5);
/// Work of the first launch of a kernel: multiply-adds, 50 ms of what is slow.
const FIRST: f64 = (1u64 << 28) as f64;
/// How many times the work of one launch the next may have.
const GROWTH: f64 = 8.0;

/// Of each kernel the work that a launch is given, and whether that has been measured.
#[derive(Default)]
pub(super) struct Pace(HashMap<&'static str, Budget>);

#[derive(Clone, Copy)]
struct Budget {
    work: f64,
    measured: bool,
}

impl Budget {
    /// After a launch of that much work took `time`.
    fn after(work: f64, time: Duration) -> Budget {
        let measured = time >= TELLING;
        let times = if measured { AIM.as_secs_f64() / time.as_secs_f64() } else { GROWTH };
        Budget { work: work * times.min(GROWTH), measured }
    }

    /// Items of a launch: a multiple of `granule` unless all that are left.
    fn items(&self, left: usize, granule: usize, work: f64) -> usize {
        let most = (self.work / work.max(1.0)) as usize;
        if most >= left { left } else { ((most / granule).max(1) * granule).min(left) }
    }
}

impl Device {
    /// Splits `items` into launches, each of a multiple of `granule` items but the last; `work` is about what one item takes,
    /// in multiply-adds. `start` starts one launch.
    pub(super) fn paced(
        &self,
        kernel: &Kernel,
        items: usize,
        granule: usize,
        work: f64,
        mut start: impl FnMut(Range<usize>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut at = 0;
        while at < items {
            let budget = *lock(&self.pace).0.entry(kernel.entry).or_insert(Budget { work: FIRST, measured: false });
            let count = budget.items(items - at, granule, work);
            let range = at..at + count;
            at += count;
            if budget.measured || count == items {
                start(range)?;
                if count < items {
                    self.send(&mut lock(&self.pending));
                }
                continue;
            }
            // Compiling does not count.
            self.prepare(kernel)?;
            self.wait()?;
            let since = Instant::now();
            start(range)?;
            self.wait()?;
            let after = Budget::after(work.max(1.0) * count as f64, since.elapsed());
            lock(&self.pace).0.insert(kernel.entry, after);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launches_grow_until_they_tell() {
        let quick = Budget::after(FIRST, Duration::from_micros(50));
        assert!(!quick.measured && quick.work == GROWTH * FIRST);
        let telling = Budget::after(8.0 * FIRST, Duration::from_millis(25));
        assert!(telling.measured && (telling.work / (16.0 * FIRST) - 1.0).abs() < 1e-9);
        let slow = Budget::after(FIRST, Duration::from_secs(1));
        assert!(slow.measured && slow.work < 0.06 * FIRST);
    }

    #[test]
    fn pieces_are_whole_granules() {
        let budget = Budget { work: 1000.0, measured: true };
        assert_eq!(budget.items(7, 64, 100.0), 7);
        assert_eq!(budget.items(1000, 64, 100.0), 64, "at least one granule");
        assert_eq!(budget.items(1000, 4, 100.0), 8);
        assert_eq!(budget.items(10, 4, 0.0), 10);
    }
}
