//! The model of a file: what all rows share. Quantized as it is stored, so that training, encoding and search see
//! exactly what a reader of the file will see.

pub(crate) mod kinds;
pub(crate) mod learned;
pub(crate) mod mlp;
pub(crate) mod packed;
pub(crate) mod refine;
pub(crate) mod score;

use crate::matrix::Mat;
use kinds::{CodeKind, Metric};

/// Columns of unsigned integers, each column with its own width and scale.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Quantized {
    /// Values per column.
    pub(crate) len: usize,
    /// Bits of each column, 0 to 16.
    pub(crate) bits: Vec<u8>,
    /// Step of each column.
    pub(crate) scale: Vec<f32>,
    /// Value of code 0 of each column.
    pub(crate) offset: Vec<f32>,
    /// Codes, column after column.
    pub(crate) codes: Vec<u16>,
}

impl Quantized {
    pub(crate) fn columns(&self) -> usize {
        self.bits.len()
    }

    /// Value `i` of column `j`: `offset_j + scale_j * code`.
    #[inline]
    pub(crate) fn value(&self, j: usize, i: usize) -> f32 {
        self.offset[j] + self.scale[j] * f32::from(self.codes[j * self.len + i])
    }

    /// All values, one row per column.
    pub(crate) fn to_mat(&self) -> Mat {
        let mut out = Mat::zeros(self.columns(), self.len);
        for j in 0..self.columns() {
            for (i, v) in out.row_mut(j).iter_mut().enumerate() {
                *v = self.value(j, i);
            }
        }
        out
    }
}

impl Quantized {
    /// All values, one row per place in the columns.
    pub(crate) fn to_rows(&self) -> Mat {
        let mut out = Mat::zeros(self.len, self.columns());
        for i in 0..self.len {
            for (j, v) in out.row_mut(i).iter_mut().enumerate() {
                *v = self.value(j, i);
            }
        }
        out
    }
}

/// The offset that makes codes of `bits` bits symmetric about 0.
pub(crate) fn symmetric_offset(scale: f32, bits: u8) -> f32 {
    -0.5 * scale * ((1u32 << bits) - 1) as f32
}

/// Subspaces and codeword tables of one chart, in f32 as the scan and the encoder use them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Code {
    pub(crate) kind: CodeKind,
    /// How many earlier symbols a codeword depends on.
    pub(crate) lags: usize,
    /// Directions of each symbol's subspace.
    pub(crate) widths: Vec<u16>,
    /// One scale per direction; `tables = scale * table_codes`.
    pub(crate) scale: Vec<f32>,
    /// `entries()` values per direction.
    pub(crate) table_codes: Vec<i8>,
    /// The same in f32.
    pub(crate) tables: Vec<f32>,
}

impl Code {
    /// Values a symbol takes.
    pub(crate) fn alphabet(&self) -> usize {
        match self.kind {
            CodeKind::Chain => 16,
            CodeKind::Pq8 => 256,
        }
    }

    /// Table entries per direction.
    pub(crate) fn entries(&self) -> usize {
        self.alphabet() * (self.lags + 1)
    }

    pub(crate) fn symbols(&self) -> usize {
        self.widths.len()
    }

    pub(crate) fn active(&self) -> usize {
        self.widths.iter().map(|&w| usize::from(w)).sum()
    }

    /// First direction of each subspace, then the number of directions.
    pub(crate) fn offsets(&self) -> Vec<usize> {
        let mut at = 0;
        let mut out = Vec::with_capacity(self.widths.len() + 1);
        for &w in &self.widths {
            out.push(at);
            at += usize::from(w);
        }
        out.push(at);
        out
    }

    /// Rounds `tables` (f32) to what is stored: 8 bits and a scale per direction.
    pub(crate) fn quantize(kind: CodeKind, lags: usize, widths: Vec<u16>, tables: &[f32]) -> Code {
        let mut code = Code { kind, lags, widths, scale: Vec::new(), table_codes: Vec::new(), tables: Vec::new() };
        for direction in tables.chunks_exact(code.entries()) {
            let largest = direction.iter().fold(0f32, |m, v| m.max(v.abs()));
            let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
            code.scale.push(scale);
            for v in direction {
                let q = (v / scale).round().clamp(-127.0, 127.0);
                code.table_codes.push(q as i8);
                code.tables.push(scale * q);
            }
        }
        code
    }

    /// Adds the codeword of one row's `symbols` to `y` (one value per direction).
    pub(crate) fn add_codeword(&self, symbols: &[u8], y: &mut [f32]) {
        let (alphabet, entries) = (self.alphabet(), self.entries());
        let mut direction = 0;
        for (t, &width) in self.widths.iter().enumerate() {
            let to = direction + usize::from(width);
            let (y, tables) = (&mut y[direction..to], &self.tables[direction * entries..to * entries]);
            for lag in 0..=self.lags.min(t) {
                let entry = lag * alphabet + usize::from(symbols[t - lag]);
                for (y, table) in y.iter_mut().zip(tables.chunks_exact(entries)) {
                    *y += table[entry];
                }
            }
            direction = to;
        }
    }
}

/// A transform with its code.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Chart {
    /// Columns b_j of the decoder, `active` columns of d values.
    pub(crate) decoder: Quantized,
    pub(crate) code: Code,
    /// Anchors of this chart: `active` columns, one value per anchor of the chart, in ascending order.
    pub(crate) anchors: Quantized,
}

impl Chart {
    pub(crate) fn active(&self) -> usize {
        self.decoder.columns()
    }
}

/// What rows have beside their symbols: how long they are, and what their parts are multiplied with.
///
/// With a the anchor and c the codeword of a row, F its factor, W its weight and G its gain, its score is
/// `G F (<q, a> + W <q, c>)`, or what l2 makes of that (`score.rs`).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Side {
    /// Factors by code: 16 levels, 256, or none.
    pub(crate) factors: Vec<f32>,
    /// As many weights of the codeword; none where all are 1.
    pub(crate) weights: Vec<f32>,
    /// Beside a learned decoder as many lengths of what it adds to the anchor, or none.
    pub(crate) reaches: Vec<f32>,
    /// What an error of F and of F W costs, by which the code of a row is chosen: the second moments of `<q, a>` and `<q, c>` over near
    /// pairs, as (aa, ac, cc). For whoever adds rows.
    pub(crate) costs: [f32; 3],
    /// Nibbles of the gain, 0 to 3.
    pub(crate) gain_nibbles: u8,
    /// Smallest and largest gain; that of all rows, twice, where there are no nibbles.
    pub(crate) gain_range: (f32, f32),
}

/// Nibbles that tell so many levels apart: 0, 1 or 2.
#[inline(always)]
pub(crate) fn nibbles_of(levels: usize) -> usize {
    match levels {
        0 => 0,
        1..=16 => 1,
        _ => 2,
    }
}

/// What a row's factor and weight should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scales {
    pub(crate) factor: f32,
    pub(crate) weight: f32,
}

impl Default for Side {
    fn default() -> Self {
        Side::bare(1.0)
    }
}

impl Side {
    /// One that keeps nothing of rows, all of which have this gain.
    pub(crate) fn bare(gain: f32) -> Side {
        let (factors, weights, reaches) = (Vec::new(), Vec::new(), Vec::new());
        Side { factors, weights, reaches, costs: [0.0; 3], gain_nibbles: 0, gain_range: (gain, gain) }
    }

    pub(crate) fn factor_nibbles(&self) -> usize {
        nibbles_of(self.factors.len())
    }

    pub(crate) fn nibbles(&self) -> usize {
        self.factor_nibbles() + usize::from(self.gain_nibbles)
    }

    /// The nearest factor level, ties to the lower code; with weights the pair of least cost.
    pub(crate) fn factor_code(&self, wanted: Scales) -> u8 {
        let mut best = (f32::INFINITY, 0u8);
        let [aa, ac, cc] = self.costs;
        for (code, level) in self.factors.iter().enumerate() {
            let off = level - wanted.factor;
            let cost = match self.weights.get(code) {
                None => off.abs(),
                Some(weight) => {
                    let other = level * weight - wanted.factor * wanted.weight;
                    off * (aa * off + 2.0 * ac * other) + cc * other * other
                }
            };
            if cost < best.0 {
                best = (cost, code as u8);
            }
        }
        best.1
    }

    /// The code of the nearest reach, ties to the lower code.
    pub(crate) fn reach_code(&self, reach: f32) -> u8 {
        let off = |code: &usize| (self.reaches[*code] - reach).abs();
        (0..self.reaches.len()).min_by(|a, b| off(a).total_cmp(&off(b))).unwrap_or(0) as u8
    }

    fn gain_steps(&self) -> f64 {
        (16f64.powi(self.gain_nibbles.into()) - 2.0).max(1.0)
    }

    /// The gain of a code; that of all rows when gains are not kept.
    pub(crate) fn gain(&self, code: u16) -> f32 {
        if self.gain_nibbles == 0 {
            return self.gain_range.0;
        }
        if code == 0 {
            return 0.0;
        }
        let (lo, hi) = (f64::from(self.gain_range.0), f64::from(self.gain_range.1));
        (lo * (hi / lo).powf(f64::from(code - 1) / self.gain_steps())) as f32
    }

    /// The code of a gain; gains out of range go to the nearest end.
    pub(crate) fn gain_code(&self, gain: f32) -> u16 {
        if self.gain_nibbles == 0 || gain <= 0.0 {
            return 0;
        }
        let (lo, hi) = (f64::from(self.gain_range.0), f64::from(self.gain_range.1));
        if hi <= lo {
            return 1;
        }
        let at = (f64::from(gain) / lo).ln() / (hi / lo).ln();
        1 + (at.clamp(0.0, 1.0) * self.gain_steps()).round() as u16
    }

    /// All gains by code.
    pub(crate) fn gain_table(&self) -> Vec<f32> {
        (0..16u32.pow(self.gain_nibbles.into())).map(|c| self.gain(c as u16)).collect()
    }
}

/// Everything the rows of a file share.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Model {
    pub(crate) metric: Metric,
    pub(crate) dim: usize,
    /// Subtracted from rows before anything else (zeros unless the metric is l2).
    pub(crate) center: Vec<f32>,
    /// Mean of the unit rows.
    pub(crate) mean: Vec<f32>,
    pub(crate) charts: Vec<Chart>,
    /// Chart of each anchor.
    pub(crate) anchor_chart: Vec<u8>,
    pub(crate) side: Side,
}

impl Model {
    pub(crate) fn anchors(&self) -> usize {
        self.anchor_chart.len()
    }

    pub(crate) fn symbols(&self) -> usize {
        self.charts.first().map_or(0, |c| c.code.symbols())
    }

    pub(crate) fn kind(&self) -> CodeKind {
        self.charts.first().map_or(CodeKind::Chain, |c| c.code.kind)
    }

    /// For each anchor, its chart and its number within it.
    pub(crate) fn anchor_places(&self) -> Vec<(usize, usize)> {
        let mut next = vec![0; self.charts.len()];
        self.anchor_chart
            .iter()
            .map(|&g| {
                let g = usize::from(g);
                next[g] += 1;
                (g, next[g] - 1)
            })
            .collect()
    }

    /// Coordinates of every anchor in the active directions of its chart.
    pub(crate) fn anchor_coordinates(&self) -> Vec<Vec<f32>> {
        let places = self.anchor_places();
        places
            .iter()
            .map(|&(g, i)| {
                let anchors = &self.charts[g].anchors;
                (0..anchors.columns()).map(|j| anchors.value(j, i)).collect()
            })
            .collect()
    }
}

/// The score factor of a decoded unit row of length `norm`.
pub(crate) fn factor(norm: f32, alpha: f32) -> f32 {
    // A row decoded to (almost) nothing has no direction that a factor could mend.
    if norm > 1e-6 { norm.powf(-alpha) } else { 1.0 }
}
