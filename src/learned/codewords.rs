//! From symbols to codewords, quickly.

use crate::{
    matrix::{Mat, MatRef},
    model::Code,
};

/// `values / unit`.
pub(super) fn in_units(values: MatRef<'_>, unit: f32) -> Mat {
    let mut out = Mat::zeros(values.rows(), values.dim());
    out.as_mut_slice().iter_mut().zip(values.as_slice()).for_each(|(o, v)| *o = v / unit);
    out
}

/// Tables with the values of a symbol's directions side by side, in the unit of the network.
#[derive(Debug)]
pub(super) struct Codewords {
    /// K x active.
    anchors: Mat,
    lags: usize,
    alphabet: usize,
    /// For each symbol the first of its directions, their number, and where its values start.
    places: Vec<(usize, usize, usize)>,
    values: Vec<f32>,
}

impl Codewords {
    /// Of a code and its anchors (K x active), divided by `unit`.
    pub(super) fn new(code: &Code, anchors: MatRef<'_>, unit: f32) -> Codewords {
        let (entries, offsets) = (code.entries(), code.offsets());
        let (mut places, mut values) = (Vec::new(), Vec::new());
        for (t, &width) in code.widths.iter().enumerate() {
            let (first, width) = (offsets[t], usize::from(width));
            places.push((first, width, values.len()));
            for entry in 0..entries {
                values.extend((first..first + width).map(|j| code.tables[j * entries + entry] / unit));
            }
        }
        Codewords { anchors: in_units(anchors, unit), lags: code.lags, alphabet: code.alphabet(), places, values }
    }

    /// The anchors.
    pub(super) fn anchors(&self) -> MatRef<'_> {
        self.anchors.view()
    }

    /// Anchor plus codeword, in the order of [`Code::add_codeword`].
    pub(super) fn fill(&self, cell: usize, symbols: &[u8], y: &mut [f32]) {
        y.copy_from_slice(self.anchors.row(cell));
        for (t, &(first, width, at)) in self.places.iter().enumerate() {
            let y = &mut y[first..first + width];
            for lag in 0..=self.lags.min(t) {
                let entry = lag * self.alphabet + usize::from(symbols[t - lag]);
                let values = &self.values[at + entry * width..][..width];
                y.iter_mut().zip(values).for_each(|(y, v)| *y += v);
            }
        }
    }
}
