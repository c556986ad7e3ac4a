//! From codes back to rows.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    Index,
    live::{Live, Place},
};
use crate::{
    error::Error,
    format::{parse::Parsed, rows::BLOCK},
    math::product::product_nn,
    matrix::{Mat, MatRef},
    ops::cpu::mlp::{Net as HostNet, net as host_net},
    read::prepare::chunk_rows,
    refine::decode::RefineDecoder,
};

impl<D: AsRef<[u8]>> Index<D> {
    /// Decodes the rows `rows`: what the file knows of the vectors that were compressed (normalised for cosine). Rows are counted
    /// without those that are deleted, so that these are no ids: for the rows of hits see [`Index::vectors`].
    /// O(rows x active x d + anchors).
    ///
    /// # Errors
    /// [`Error::Config`] when the range is not within the rows.
    pub fn decode(&self, rows: Range<usize>) -> Result<Mat, Error> {
        let count = rows.len();
        let mut all = Vec::new();
        let values = count.checked_mul(self.dim());
        // Rows that are not there are refused below.
        if rows.end <= self.len() && values.is_none_or(|values| all.try_reserve_exact(values).is_err()) {
            let message = format!("{count} vectors x {} do not fit into memory; decode some at a time", self.dim());
            return Err(Error::Config(message));
        }
        self.decode_each(rows, |part| {
            all.extend_from_slice(part.as_slice());
            Ok(())
        })?;
        Mat::new(all, count, self.dim())
    }

    /// Decodes the rows `rows` in order, some thousands at a time, so that memory does not grow with their number.
    /// An error of `each` ends it.
    ///
    /// # Errors
    /// As [`Index::decode`], and those of `each`.
    pub fn decode_each(
        &self,
        rows: Range<usize>,
        each: impl FnMut(MatRef<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if rows.start > rows.end || rows.end > self.len() {
            let message = format!("rows {}..{} of an index of {}", rows.start, rows.end, self.len());
            return Err(Error::Config(message));
        }
        let mut live = Live::new(self.parsed(), self.bytes(), rows.start as u64);
        let next = |count| {
            let mut places = live.take(count);
            // A row that a damaged file does not have gets any place within bounds.
            places.resize(count, Place { row: 0, segment: 0, cell: 0, position: 0 });
            places
        };
        self.decode_places(rows.len(), next, each)
    }

    /// Decodes `rows` rows in parts: `next` gives the places of so many.
    pub(crate) fn decode_places(
        &self,
        rows: usize,
        mut next: impl FnMut(usize) -> Vec<Place>,
        mut each: impl FnMut(MatRef<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        // Rows are unpacked to coordinates, of which there may be more than a few rows have room for.
        const VALUES: usize = 1 << 18;
        let chunk = (VALUES / self.dim()).clamp(1, 256);
        let decoder = Decoder::new(self.parsed(), self.bytes());
        let step = chunk_rows(self.dim());
        for first in (0..rows).step_by(step) {
            self.check_whole()?;
            let count = step.min(rows - first);
            let places = next(count);
            let mut out = Mat::zeros(count, self.dim());
            let parts = out.as_mut_slice().par_chunks_mut(chunk * self.dim());
            parts.zip(places.par_chunks(chunk)).for_each(|(out, places)| decoder.decode(places, out));
            self.check_whole()?;
            each(out.view())?;
        }
        Ok(())
    }
}

/// Decodes rows by position.
pub(crate) struct Decoder<'a> {
    parsed: &'a Parsed,
    /// The blocks of each segment.
    codes: Vec<&'a [u8]>,
    /// Decoder of each chart, one row per direction.
    directions: Vec<Mat>,
    anchors: Vec<Vec<f32>>,
    /// Where there is a refine layer.
    refine: Option<RefineDecoder<'a>>,
    /// Where there is a learned decoder: its network and unit.
    net: Option<(HostNet, f32)>,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(parsed: &'a Parsed, bytes: &'a [u8]) -> Self {
        let codes = parsed.segments.iter().map(|segment| segment.codes(bytes)).collect();
        let directions = parsed.model.charts.iter().map(|c| c.decoder.to_mat()).collect();
        let anchors = parsed.model.anchor_coordinates();
        let net = parsed.learned.as_ref().map(|learned| (host_net(learned.mlp()), learned.unit));
        Decoder { parsed, codes, directions, anchors, refine: RefineDecoder::new(parsed, bytes), net }
    }

    /// Decodes rows into `out`, d values each.
    pub(crate) fn decode(&self, rows: &[Place], out: &mut [f32]) {
        let (model, shape) = (&self.parsed.model, self.parsed.block);
        let mut symbols = vec![0u8; shape.symbols];
        let mut coordinates: Vec<Mat> = rows.iter().map(|place| self.coordinates(place, &mut symbols)).collect();
        if let Some((net, unit)) = &self.net {
            self.learn(net, *unit, &mut coordinates);
        }
        let places = rows.iter().zip(coordinates);
        for ((place, y), out) in places.zip(out.chunks_exact_mut(model.dim)) {
            let &Place { segment, cell: anchor, position, .. } = place;
            let chart = usize::from(model.anchor_chart[anchor]);
            product_nn(out, y.view(), self.directions[chart].view());
            if let Some(refine) = &self.refine {
                refine.add(segment, position, out);
            }
            let (block, i) = self.block(segment, position);
            let gain = self.parsed.gains(segment)[shape.gain_code(block, model.side.factor_nibbles(), i)];
            for ((x, mean), center) in out.iter_mut().zip(&model.mean).zip(&model.center) {
                *x = center + gain * (*x + mean);
            }
        }
    }

    /// The block of a position, and the place in it.
    fn block(&self, segment: usize, position: u64) -> (&'a [u8], usize) {
        let (b, i) = ((position / BLOCK as u64) as usize, (position % BLOCK as u64) as usize);
        let stride = self.parsed.block.bytes();
        (&self.codes[segment][b * stride..(b + 1) * stride], i)
    }

    /// Anchor plus codeword of a row, 1 x active.
    fn coordinates(&self, place: &Place, symbols: &mut [u8]) -> Mat {
        let (model, shape) = (&self.parsed.model, self.parsed.block);
        let (block, i) = self.block(place.segment, place.position);
        for (t, symbol) in symbols.iter_mut().enumerate() {
            *symbol = shape.symbol(block, t, i);
        }
        let mut y = Mat::zeros(1, self.anchors[place.cell].len());
        y.as_mut_slice().copy_from_slice(&self.anchors[place.cell]);
        let chart = usize::from(model.anchor_chart[place.cell]);
        model.charts[chart].code.add_codeword(symbols, y.as_mut_slice());
        y
    }

    /// What the network makes of coordinates.
    fn learn(&self, net: &HostNet, unit: f32, coordinates: &mut [Mat]) {
        let active = coordinates.first().map_or(0, Mat::dim);
        let mut all = Mat::zeros(coordinates.len(), active);
        for (i, y) in coordinates.iter().enumerate() {
            all.row_mut(i).iter_mut().zip(y.row(0)).for_each(|(to, y)| *to = y / unit);
        }
        let moved = net.applied(all.view());
        for (i, y) in coordinates.iter_mut().enumerate() {
            y.row_mut(0).iter_mut().zip(moved.row(i)).for_each(|(y, moved)| *y = unit * moved);
        }
    }
}
