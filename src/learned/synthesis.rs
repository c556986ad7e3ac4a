//! Codes chosen for what the network makes of them.
//!
//! The error behind the network is E(v) = |y - net(v)|^2 for a codeword v. Where it is now, half a step down its slope leads to
//! `v + e + J^T e`, with e the error vector and J the derivative of what the network adds; were the network's part constant, that would be the
//! least error there is. So the exact search for symbols is given that point in the place of y, and what it finds is kept where it lowers the
//! error; where it does not, the next step is half as long. Trying candidates for two or three symbols together through the network, as
//! neural codecs do, ended at a higher error (docs/experiments/decoder.md): it changes few symbols at a time, the search all of them.

use rayon::prelude::*;

use super::codewords::{Codewords, in_units};
use crate::{
    encode::{Encoder, RowCodes},
    error::Error,
    matrix::{Mat, MatRef},
    model::{Code, Model, learned::Learned},
    ops::{
        cpu::mlp::net as host_net,
        seam::Ops,
        types::{Effort, EncodeJob, Tries},
    },
};

/// Steps down the slope. The first takes 2.4 % off the error, the second 0.4, the third 0.1, a fourth 0.02.
const PASSES: usize = 3;
/// Rows that go to the device at a time.
const ROWS: usize = 1 << 14;
/// Rows of a unit of parallel work.
const CHUNK: usize = 256;

/// What synthesis takes beside the network: codes and anchors of a model of one chart, and the map to its directions, all in the
/// unit of the network.
#[derive(Debug)]
pub(crate) struct Synthesizer {
    code: Code,
    codewords: Codewords,
    mean: Vec<f32>,
    /// Active x d.
    forward: Mat,
}

impl Synthesizer {
    /// For a model of one chart, whose encoder is given.
    pub(crate) fn new(model: &Model, encoder: &Encoder, unit: f32) -> Synthesizer {
        let mut code = model.charts[0].code.clone();
        let codewords = Codewords::new(&code, encoder.coordinates(0), unit);
        code.scale.iter_mut().chain(&mut code.tables).for_each(|v| *v /= unit);
        Synthesizer { code, codewords, mean: encoder.mean().to_vec(), forward: in_units(encoder.forward(0), unit) }
    }

    /// The coordinates of unit rows, n x active.
    pub(crate) fn coordinates<O: Ops>(&self, ops: &O, unit: &O::Rows) -> Result<Mat, Error> {
        ops.download_owned(ops.project(unit, &self.mean, self.forward.view())?)
    }

    /// Anchor plus codeword of each row, n x active.
    pub(crate) fn codewords(&self, labels: &[u32], symbols: &[u8]) -> Mat {
        let (active, count) = (self.code.active(), self.code.symbols());
        let mut out = Mat::zeros(labels.len(), active);
        let rows = out.as_mut_slice().par_chunks_mut(active.max(1) * CHUNK).enumerate();
        rows.for_each(|(chunk, out)| {
            for (r, y) in out.chunks_exact_mut(active.max(1)).enumerate() {
                let i = chunk * CHUNK + r;
                self.codewords.fill(labels[i] as usize, &symbols[i * count..(i + 1) * count], y);
            }
        });
        out
    }

    /// Changes the symbols of rows whose coordinates are `y` (n x active) for what `net` makes of them. Anchors stay.
    /// O(n weights) beside the searches.
    pub(crate) fn improve<O: Ops>(
        &self,
        ops: &O,
        net: &O::Net,
        y: MatRef<'_>,
        labels: &[u32],
        symbols: &mut [u8],
        mut each: impl FnMut(usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let count = self.code.symbols();
        if count == 0 || self.code.active() == 0 {
            return Ok(());
        }
        for first in (0..y.rows()).step_by(ROWS) {
            each(first)?;
            let last = (first + ROWS).min(y.rows());
            let symbols = &mut symbols[first * count..last * count];
            self.improve_some(ops, net, y.slice(first..last), &labels[first..last], symbols)?;
        }
        Ok(())
    }

    fn improve_some<O: Ops>(
        &self,
        ops: &O,
        net: &O::Net,
        y: MatRef<'_>,
        labels: &[u32],
        symbols: &mut [u8],
    ) -> Result<(), Error> {
        let (count, active) = (self.code.symbols(), self.code.active());
        let targets = ops.upload(y)?;
        let mut codewords = self.codewords(labels, symbols);
        let mut damp = vec![1f32; labels.len()];
        let mut current = ops.upload(codewords.view())?;
        let mut errors = ops.errors(net, &current, &targets)?;
        for pass in 0..PASSES {
            let aimed = ops.code_targets(net, &current, &targets, &damp)?;
            let job = EncodeJob {
                code: &self.code,
                anchors: self.codewords.anchors(),
                tries: Tries::Given(labels),
                candidates: 1,
                effort: Effort::Full,
                lengths: None,
            };
            let found = ops.encode(&aimed, job)?.symbols;
            let others = self.codewords(labels, &found);
            let there = ops.errors(net, &ops.upload(others.view())?, &targets)?;
            let now = symbols.par_chunks_mut(count).zip(codewords.as_mut_slice().par_chunks_mut(active));
            let now = now.zip(&mut errors).zip(&mut damp);
            let new = found.par_chunks(count).zip(others.as_slice().par_chunks(active)).zip(&there);
            now.zip(new).with_min_len(CHUNK).for_each(
                |((((symbols, codeword), error), damp), ((found, other), &there))| {
                    if there < *error {
                        symbols.copy_from_slice(found);
                        codeword.copy_from_slice(other);
                        *error = there;
                    } else {
                        *damp *= 0.5;
                    }
                },
            );
            if pass + 1 < PASSES {
                current = ops.upload(codewords.view())?;
            }
        }
        Ok(())
    }

    /// The codes of rows that the base has encoded, for what the network of a file makes of them.
    pub(crate) fn encode<O: Ops>(
        &self,
        ops: &O,
        learned: &Learned,
        unit: &O::Rows,
        codes: &mut RowCodes,
    ) -> Result<(), Error> {
        let y = self.coordinates(ops, unit)?;
        let net = ops.upload_net(learned.mlp())?;
        self.improve(ops, &net, y.view(), &codes.labels, &mut codes.symbols, |_| Ok(()))
    }

    /// What a reader of the file will decode for these codes, as unit rows.
    pub(crate) fn decode(&self, learned: &Learned, encoder: &Encoder, codes: &RowCodes) -> Mat {
        let mut y = host_net(learned.mlp()).applied(self.codewords(&codes.labels, &codes.symbols).view());
        y.as_mut_slice().iter_mut().for_each(|y| *y *= learned.unit);
        encoder.decode_coordinates(y.view())
    }
}
