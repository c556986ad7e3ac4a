//! How much of a store a query looks at: all of it, or the cells whose anchors score highest.
//!
//! How many cells that must be is measured when the file is written, on the hits that an exhaustive search of it gives
//! the held-out queries. Leaving cells out by the score they would have to reach (anchors' scores in units of the query's
//! spread over random symbols) looked at more rows for the same loss.

use std::{fmt, str::FromStr};

use crate::{
    error::Error,
    format::meta::Meta,
    matrix::{Mat, MatRef},
    ops::reach::Reach,
};

/// How much of the store a query looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Probe {
    /// Every row.
    #[default]
    All,
    /// As many cells as lose less than 0.005 of recall against every row, on queries like those that the file was measured
    /// with when it was written. Every row where it was not measured: in stores of few rows.
    Auto,
    /// The rows of this many cells, those of the anchors that score highest; more where these hold fewer than k rows.
    Cells(usize),
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probe::All => f.pad("all"),
            Probe::Auto => f.pad("auto"),
            Probe::Cells(cells) => write!(f, "{cells}"),
        }
    }
}

impl FromStr for Probe {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        match s {
            "all" => Ok(Probe::All),
            "auto" => Ok(Probe::Auto),
            _ => match s.parse() {
                Ok(cells) if cells > 0 => Ok(Probe::Cells(cells)),
                _ => Err(Error::Config(format!("probe {s:?}: use all, auto or a number of cells above 0"))),
            },
        }
    }
}

/// The two numbers of hits that cells are measured for; other numbers lie on the power law through them.
pub(crate) const MEASURED: [usize; 2] = [10, 100];

/// The cells that `k` hits take.
pub(crate) fn reach(probe: Probe, k: usize, meta: &Meta) -> Reach {
    let [few, many] = meta.probe_cells.map(f64::from);
    match probe {
        Probe::Cells(cells) => Some(cells),
        Probe::Auto if few > 0.0 => {
            let power =
                if many > few { (many / few).ln() / (MEASURED[1] as f64 / MEASURED[0] as f64).ln() } else { 0.0 };
            let cells = few * (k as f64 / MEASURED[0] as f64).powf(power);
            Some(cells.ceil() as usize).filter(|&cells| cells < meta.anchors as usize)
        }
        Probe::Auto | Probe::All => None,
    }
}

/// Share of an exhaustive search's hits that may be lost on the queries it is measured with. Of such hits, the last ones of
/// their cells, every third is no true neighbour, so recall loses less.
const LOSS: f64 = 0.004;
/// Hits below which nothing can be said about so small a share.
const HITS: usize = 1000;

/// The numbers of cells, those of highest base first, that hold all but [`LOSS`] of the best [`MEASURED`] hits. `bases` is
/// queries x anchors, `cells` has the cells of each query's hits, best first, and `sizes` the rows of each cell. 0 when
/// there are too few hits to say.
pub(crate) fn measure(bases: &Mat, cells: MatRef<'_, u64>, sizes: &[u64]) -> [u32; 2] {
    let mut ranks = Mat::<u64>::zeros(cells.rows(), cells.dim());
    for q in 0..cells.rows() {
        let mut order: Vec<usize> = (0..sizes.len()).filter(|&cell| sizes[cell] > 0).collect();
        order.sort_by(|&a, &b| bases.row(q)[b].total_cmp(&bases.row(q)[a]).then(a.cmp(&b)));
        let mut rank = vec![0; sizes.len()];
        order.iter().enumerate().for_each(|(r, &cell)| rank[cell] = r as u64 + 1);
        ranks.row_mut(q).iter_mut().zip(cells.row(q)).for_each(|(r, &cell)| *r = rank[cell as usize]);
    }
    MEASURED.map(|k| {
        let mut all: Vec<u64> =
            (0..ranks.rows()).flat_map(|q| ranks.row(q).iter().take(k).copied().collect::<Vec<_>>()).collect();
        all.sort_unstable();
        if all.len() < HITS || cells.dim() < k { 0 } else { all[((1.0 - LOSS) * all.len() as f64) as usize] as u32 }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for probe in [Probe::All, Probe::Auto, Probe::Cells(17)] {
            assert_eq!(probe.to_string().parse::<Probe>().unwrap(), probe);
        }
        assert!("0".parse::<Probe>().is_err() && "some".parse::<Probe>().is_err());
    }

    #[test]
    fn more_hits_take_more_cells() {
        let bytes = crate::compress(
            MatRef::new(&(0..4000).map(|i| (i * 37 % 1013) as f32 - 500.0).collect::<Vec<_>>(), 500, 8).unwrap(),
            &crate::config::Config {
                budget: crate::config::Budget::BytesPerVector(30.0),
                ..crate::config::Config::default()
            },
        );
        let mut meta = bytes.unwrap().parsed().meta.clone();
        (meta.anchors, meta.probe_cells) = (1024, [64, 256]);
        assert_eq!(reach(Probe::Auto, 10, &meta), Some(64));
        assert_eq!(reach(Probe::Auto, 100, &meta), Some(256));
        assert_eq!(reach(Probe::Auto, 32, &meta), Some(129), "on the power law between");
        assert_eq!(reach(Probe::Auto, 10_000, &meta), None);
        assert_eq!(reach(Probe::Cells(1000), 10, &meta), Some(1000));
        meta.probe_cells = [0; 2];
        assert_eq!(reach(Probe::Auto, 10, &meta), None, "not measured");
    }

    #[test]
    fn the_rank_of_the_last_cell_that_counts() {
        // 200 queries whose hits are in the cells of highest base, one of them in the one after.
        let bases = Mat::new([0.5, 0.1, 0.9, 0.7].repeat(200), 200, 4).unwrap();
        let mut cells = Mat::new([2, 2, 2, 2, 2, 3, 3, 3, 3, 3].repeat(200), 200, 10).unwrap();
        cells.row_mut(0)[9] = 0;
        assert_eq!(measure(&bases, cells.view(), &[5; 4]), [2, 0]);
        assert_eq!(measure(&bases, cells.view(), &[5, 5, 0, 5])[0], 1, "a cell without rows is not looked at");
        (0..30).for_each(|q| cells.row_mut(q)[9] = 1);
        assert_eq!(measure(&bases, cells.view(), &[5; 4]), [4, 0]);
        assert_eq!(measure(&bases, cells.view().slice(0..50), &[5; 4]), [0, 0], "too few hits");
    }
}
