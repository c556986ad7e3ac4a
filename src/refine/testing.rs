//! Small stores with a layer, made as a file is made.

use std::{io::Cursor, path::Path};

use super::{RefineCodes, RefineTraining, Refined, TrainedRefine, pack, packed_len, train};
use crate::{
    Backend, Config, DeviceChoice, Error, Index, Mat, MatRef, Metric,
    encode::encode_rows,
    ops::{CodesRef, Ops, WithOps, dispatch},
    plan::plan_on,
    prepare::prepare,
    rows::{encode_all, write_file},
    train::{Random, Trained, Training},
};

/// Rows encoded at a time.
const CHUNK: usize = 8192;

/// A base file and its rows as the codec sees them.
pub(super) struct Store {
    pub(super) unit: Mat,
    pub(super) index: Index<Vec<u8>>,
    pub(super) trained: Trained,
    pub(super) layers: Vec<Layer>,
}

/// A layer of it and the codes of all rows, in row order.
pub(super) struct Layer {
    pub(super) trained: TrainedRefine,
    pub(super) codes: RefineCodes,
}

/// The layer's codes in the order of positions.
pub(super) struct InCellOrder {
    packed: Vec<u8>,
    factors: Vec<u8>,
}

impl Refined for InCellOrder {
    fn packed(&self, position: u64) -> &[u8] {
        let width = self.packed.len() / self.factors.len();
        &self.packed[position as usize * width..(position as usize + 1) * width]
    }
    fn factor(&self, position: u64) -> u8 {
        self.factors[position as usize]
    }
}

impl Store {
    /// Compresses `rows` with a layer of each number of bytes.
    pub(super) fn new(rows: MatRef<'_>, config: &Config<'_>, layers: &[usize]) -> Store {
        dispatch(Backend::Cpu, DeviceChoice::Best, Job { rows, config, layers }).unwrap()
    }

    pub(super) fn codes(&self) -> CodesRef<'_> {
        let (parsed, bytes) = (self.index.parsed(), self.index.bytes());
        CodesRef {
            model: &parsed.model,
            shape: parsed.block,
            blocks: parsed.codes(bytes),
            labels: parsed.row_ids(bytes),
            anchor_chart: &parsed.model.anchor_chart,
            alphabet: parsed.model.charts[0].code.alphabet(),
            factors: &parsed.model.side.factors,
            gains: &parsed.gains,
            squared: parsed.model.metric == Metric::L2,
        }
    }

    /// The row at each position.
    pub(super) fn rows(&self) -> Vec<u64> {
        let labels = self.codes().labels;
        (0..self.index.len() as u64).map(|position| labels.row(position)).collect()
    }

    pub(super) fn in_cell_order(&self, layer: &Layer) -> InCellOrder {
        let count = layer.trained.refine.symbols();
        let (mut packed, mut factors) = (Vec::new(), Vec::new());
        for row in self.rows() {
            let row = row as usize;
            let mut record = vec![0; packed_len(count)];
            pack(&layer.codes.symbols[row * count..(row + 1) * count], &mut record);
            packed.extend(record);
            factors.push(layer.codes.factors[row]);
        }
        InCellOrder { packed, factors }
    }
}

struct Job<'a> {
    rows: MatRef<'a>,
    config: &'a Config<'a>,
    layers: &'a [usize],
}

impl WithOps for Job<'_> {
    type Output = Store;

    fn run<O: Ops>(self, ops: O) -> Result<Store, Error> {
        let config = self.config;
        let report = |_, _: usize, _: usize| Ok(());
        let prepared = prepare(&self.rows, config, &report)?;
        let (plan, pilot) = plan_on(&ops, &prepared, config, &report)?;
        let training = Training {
            unit: prepared.unit.view(),
            gains: &prepared.gains,
            queries: prepared.training_queries(),
            center: prepared.center.clone(),
            gain_range: prepared.gain_range,
            sizes: prepared.sizes,
            pilot,
            charts: plan.charts,
            symbols: plan.symbols,
            config,
            report: &report,
        };
        let trained = crate::train::train(&ops, &training)?;
        let path = Path::new("memory");
        let encoded = encode_all(&ops, &prepared, &trained, config, path, &report)?;
        let target = Cursor::new(Vec::new());
        let (target, ..) = write_file(target, &prepared, &trained, encoded, config, path, &report)?;
        let mut unit = Mat::new(self.rows.as_slice().to_vec(), self.rows.rows(), self.rows.dim())?;
        crate::prepare::to_unit(&mut unit, config.metric, &prepared.center, |i, fault| fault.at(None, i))?;
        let mut layers = Vec::new();
        for &bytes in self.layers {
            let layer = RefineTraining {
                base: &trained,
                unit: prepared.unit.view(),
                gains: &prepared.gains,
                queries: prepared.training_queries(),
                n: self.rows.rows() as u64,
                bytes,
                seed: config.seed,
                report: &|_| Ok(()),
            };
            let layer = train(&ops, &layer)?;
            let mut codes = RefineCodes { symbols: Vec::new(), factors: Vec::new() };
            for start in (0..unit.rows()).step_by(CHUNK) {
                let part = unit.view().slice(start..(start + CHUNK).min(unit.rows()));
                let base = (&trained.model, &trained.encoder);
                let of_base = encode_rows(&ops, base.1, base.0, &ops.upload(part)?)?;
                let found = layer.encoder.encode(&ops, &layer.refine, base, part, &of_base)?;
                codes.symbols.extend(found.symbols);
                codes.factors.extend(found.factors);
            }
            layers.push(Layer { trained: layer, codes });
        }
        Ok(Store { unit, index: Index::from_bytes(target.into_inner())?, trained, layers })
    }
}

/// Rows of random lengths in a few clusters, with later directions of less variance: like embeddings, only small.
pub(super) fn clustered(seed: u64, rows: usize, dim: usize) -> Mat {
    let mut random = Random::new(seed, 1);
    let centres: Vec<f32> = (0..6 * dim).map(|_| random.normal()).collect();
    let mut out = Mat::zeros(rows, dim);
    for i in 0..rows {
        let (centre, length) = (random.below(6), 0.5 + random.uniform() as f32);
        for (c, v) in out.row_mut(i).iter_mut().enumerate() {
            *v = length * (centres[centre * dim + c] + 0.8 * random.normal() / (1.0 + 0.1 * c as f32));
        }
    }
    out
}
