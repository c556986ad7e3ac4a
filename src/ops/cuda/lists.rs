//! Queries on the device, and the lists of rows that may be among their best.

use bytemuck::{NoUninit, Zeroable};
use rayon::prelude::*;

use super::{buffer::Buffer, codes::Codes, device::Device, groups::Groups, images::SCORE, launch::Arg};
use crate::{error::Error, ops::types::ScoreTables};

/// The lists of a batch: for each query the rows that reach its threshold, so far as there is room.
pub(super) struct Lists {
    /// Of the queries, up to a multiple of what the tensor cores take; infinite beyond them.
    pub(super) thresholds: Buffer<f32>,
    pub(super) counts: Buffer<u32>,
    pub(super) entries: Buffer<u64>,
}

impl Lists {
    pub(super) fn arg(&self) -> OutputArg {
        OutputArg {
            stride: 1,
            thresholds: self.thresholds.pointer(),
            counts: self.counts.pointer(),
            lists: self.entries.pointer(),
            capacity: CAPACITY as u32,
            ..OutputArg::zeroed()
        }
    }
}

/// A batch of queries on the device.
pub(super) struct Queries<'a> {
    pub(super) host: &'a ScoreTables,
    pub(super) count: usize,
    tables: Buffer<f32>,
    bases: Buffer<f32>,
    /// Bits of the cells that each looks at, and words of those for each query.
    looked: Option<Buffer<u32>>,
    looked_words: usize,
    pub(super) groups: Groups,
}

impl<'a> Queries<'a> {
    pub(crate) fn upload(
        device: &Device,
        codes: &Codes<'_>,
        host: &'a ScoreTables,
        k: usize,
    ) -> Result<Queries<'a>, Error> {
        let count = host.bases.rows();
        let looked_words = codes.cell_count().div_ceil(32);
        let looked = host.reach.map(|most| {
            let mut bits = vec![0u32; count * looked_words];
            bits.par_chunks_mut(looked_words).enumerate().for_each(|(q, bits)| {
                for cell in host.looked_at(q, codes.labels.cells, most, k) {
                    bits[cell / 32] |= 1 << (cell % 32);
                }
            });
            bits
        });
        Ok(Queries {
            host,
            count,
            tables: device.upload(host.tables.as_slice())?,
            bases: device.upload(host.bases.as_slice())?,
            looked: looked.map(|bits| device.upload(&bits)).transpose()?,
            looked_words,
            groups: Groups::new(device, codes, host)?,
        })
    }

    /// Those from `first` on.
    pub(super) fn arg(&self, codes: &Codes<'_>, first: usize, count: usize) -> QueriesArg {
        let of = |pointer: u64, each: usize| pointer + (4 * first * each) as u64;
        QueriesArg {
            tables: of(self.tables.pointer(), codes.charts() * codes.symbols * codes.alphabet),
            bases: of(self.bases.pointer(), codes.cell_count()),
            looked: self.looked.as_ref().map_or(0, |bits| of(bits.pointer(), self.looked_words)),
            chosen: self.groups.pointer(),
            looked_words: self.looked_words as i32,
            count: count as i32,
            charts: codes.charts() as i32,
            groups: self.groups.count as u32,
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, NoUninit)]
pub(super) struct QueriesArg {
    tables: u64,
    bases: u64,
    looked: u64,
    chosen: u64,
    looked_words: i32,
    count: i32,
    charts: i32,
    groups: u32,
}

#[repr(C)]
#[derive(Clone, Copy, NoUninit, Zeroable)]
pub(super) struct OutputArg {
    pub(super) maxima: u64,
    pub(super) maxima_count: u32,
    pub(super) stride: u32,
    pub(super) thresholds: u64,
    pub(super) counts: u64,
    pub(super) lists: u64,
    pub(super) capacity: u32,
    pub(super) _pad: u32,
    pub(super) scores: u64,
}

/// Scores the listed rows, numbered among those of the groups looked at, by tables.
pub(super) fn score_listed(
    device: &Device,
    codes: &Codes<'_>,
    queries: &Queries<'_>,
    lists: &Lists,
    listed: (&Buffer<u32>, &Buffer<u32>, usize),
) -> Result<(), Error> {
    let (counts, positions, capacity) = listed;
    let args = [
        Arg::of(&codes.arg()),
        Arg::of(&queries.arg(codes, 0, queries.count)),
        Arg::of(&lists.arg()),
        Arg::from(counts),
        Arg::from(positions),
        Arg::from(capacity as u32),
    ];
    device.launch(SCORE, "score_listed", [32, queries.count as u32, 1], 128, 0, &args)
}

/// Rows that a query's list has room for, a few times as many as are expected.
pub(crate) const CAPACITY: usize = 16_384;
