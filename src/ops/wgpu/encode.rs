//! Codes of rows (shaders/encode_*.wgsl, each behind shared/encode.wgsl): the exact search in whole numbers of 24 bits, where the
//! CPU has 16.

use rayon::prelude::*;

use super::{
    assign::Assigned,
    buffer::Buffer,
    device::Device,
    kernel::{ITERATIONS, Kernel, Source, source},
    project::product,
    rows::{GROUPS, Part, Rows},
};
use crate::{
    error::Error,
    model::{Code, kinds::CodeKind},
    ops::{
        chain,
        layout::{EncodeParams, LengthsParams},
        types::{EncodeJob, Encoded, Lengths, Tries},
    },
};

static PAIRS: Source = source!("shared/encode", "encode_pairs");
static SURVIVORS: Source = source!("shared/encode", "encode_survivors");
static INDEPENDENT: Source = source!("shared/encode", "encode_independent");

const ENCODE_PAIRS: Kernel = Kernel { source: &PAIRS, entry: "encode_pairs", constants: &[] };
const ENCODE_SURVIVORS: Kernel = Kernel { source: &SURVIVORS, entry: "encode_survivors", constants: &[] };
const ENCODE_INDEPENDENT: Kernel = Kernel { source: &INDEPENDENT, entry: "encode_independent", constants: &[] };
const CODEWORDS: Kernel = Kernel { source: &INDEPENDENT, entry: "codewords", constants: &[] };
const LENGTHS: Kernel = Kernel { source: &INDEPENDENT, entry: "lengths", constants: &[] };
#[cfg(test)]
pub(super) static KERNELS: &[&Kernel] =
    &[&ENCODE_PAIRS, &ENCODE_SURVIVORS, &ENCODE_INDEPENDENT, &CODEWORDS, &LENGTHS];

/// Rows of a group, and words of scratch that a symbol takes (shaders/shared/encode.wgsl).
const ROWS: usize = 2;
const LANES: usize = 32;
/// Bytes of scratch: groups beyond those that it is enough for would wait for others anyway.
const SCRATCH: usize = 64 << 20;
/// Costs alone are cut off at 2^24, with 4 bits below them for where they came from (shaders/encode_pairs.wgsl).
const CUT: f32 = 16_777_216.0;
const TAG: u32 = 4;
/// Words of what is found of a row before its symbols.
const HEAD: usize = 2;

/// A code on the device.
struct Tables {
    tables: Buffer<[f32; 4]>,
    shared: Buffer<[u32; 4]>,
    far: usize,
    near: usize,
    alone: usize,
    offsets: usize,
    symbol_of: usize,
    scale: f32,
}

impl Tables {
    fn new(device: &Device, code: &Code) -> Result<Tables, Error> {
        let (symbols, mut shared, mut scale) = (code.symbols(), Vec::new(), 0.0);
        let square = chain::STATES * chain::STATES;
        let (near, alone) = (symbols * square, 2 * symbols * square);
        let mut offsets = 0;
        if exact(code) {
            offsets = alone + symbols * chain::STATES;
            shared.resize(offsets, 0);
            scale = costs(code, &mut shared);
        }
        shared.extend(code.offsets().into_iter().map(|at| at as u32));
        let symbol_of = shared.len();
        shared.extend(code.widths.iter().enumerate().flat_map(|(t, &width)| (0..width).map(move |_| t as u32)));
        shared.resize(shared.len().next_multiple_of(4), 0);
        Ok(Tables {
            tables: device.upload(code.tables.as_chunks().0)?,
            shared: device.upload(shared.as_chunks().0)?,
            far: 0,
            near: near / 4,
            alone: alone / 4,
            offsets,
            symbol_of,
            scale,
        })
    }
}

/// Whether there is an exact search.
fn exact(code: &Code) -> bool {
    code.kind == CodeKind::Chain && code.lags <= chain::LAGS
}

/// Writes what the exact search takes, in the order of shaders/shared/encode.wgsl; returns the steps of whole numbers in 1.
fn costs(code: &Code, out: &mut [u32]) -> f32 {
    const STATES: usize = chain::STATES;
    const SQUARE: usize = STATES * STATES;
    let costs = chain::Costs::new(code);
    let own = code.tables.iter().fold(0f32, |m, x| m.max(x * x));
    let reach = costs.reach.iter().fold(own / 64.0, |m, &r| m.max(r)).clamp(1e-30, 1e30);
    let scale = CUT / (1.001 * reach);
    let whole = |cost: f32| ((cost * scale + 0.5) as u32) << TAG;
    let (far, rest) = out.split_at_mut(code.symbols() * SQUARE);
    let (near, alone) = rest.split_at_mut(code.symbols() * SQUARE);
    for (out, table) in far.chunks_exact_mut(SQUARE).zip(&costs.far) {
        for (q, row) in table.iter().enumerate() {
            for (s, &cost) in row.iter().enumerate() {
                out[q / 4 * 64 + s * 4 + q % 4] = whole(cost) | q as u32;
            }
        }
    }
    for (out, table) in near.chunks_exact_mut(SQUARE).zip(&costs.near) {
        for (p, row) in table.iter().enumerate() {
            for (s, &cost) in row.iter().enumerate() {
                out[p / 4 % 2 * 128 + p / 8 * 64 + s * 4 + p % 4] = whole(cost);
            }
        }
    }
    for (out, &cost) in alone.iter_mut().zip(costs.alone.as_flattened()) {
        *out = cost.to_bits();
    }
    scale
}

/// What the launches of a job share.
struct Search<'a> {
    device: &'a Device,
    code: &'a Code,
    kernel: Kernel,
    tables: Tables,
    anchors: Buffer<f32>,
    candidates: usize,
    /// Symbols of a word, and words of a row's symbols.
    packed: usize,
    words: usize,
    scratch: Buffer<u32>,
    scratch_words: usize,
    /// Groups of a launch at most.
    groups: usize,
    /// Times that a group may take rows, and tries that it makes of each.
    rounds: usize,
    together: usize,
    /// Multiply-adds for a try.
    work: f64,
}

impl<'a> Search<'a> {
    fn new(device: &'a Device, n: usize, job: &EncodeJob<'a, Assigned>) -> Result<Search<'a>, Error> {
        let code = job.code;
        let (symbols, active, lags) = (code.symbols() as f64, code.active() as f64, code.lags as f64);
        let (kernel, packed, work) = match code.kind {
            CodeKind::Pq8 => (ENCODE_INDEPENDENT, 4, active * 256.0),
            CodeKind::Chain if exact(code) => (ENCODE_PAIRS, 8, symbols * 5000.0 + active * 40.0 * (lags + 1.0)),
            CodeKind::Chain => (ENCODE_SURVIVORS, 8, symbols * 5000.0 + active * 64.0 * (lags + 16.0)),
        };
        let words = code.symbols().div_ceil(packed);
        let scratch_words = if code.kind == CodeKind::Pq8 { words } else { code.symbols() * LANES + words };
        let bytes = SCRATCH.min(device.binding_limit());
        let most = bytes / size_of::<u32>() / (ROWS * scratch_words).max(1);
        let groups = n.div_ceil(ROWS).min(most.clamp(1, GROUPS));
        // Of the loops of a try, at most.
        let iterations = code.symbols() * 8 + code.active() * (code.lags + 4) + 300;
        let most = (ITERATIONS / iterations).max(1);
        let together = most.min(job.candidates).max(1);
        Ok(Search {
            device,
            code,
            kernel,
            tables: Tables::new(device, code)?,
            anchors: device.upload(job.anchors.as_slice())?,
            candidates: job.candidates,
            packed,
            words,
            scratch: device.alloc(groups * ROWS * scratch_words)?,
            scratch_words,
            groups,
            rounds: (most / together).max(1),
            together,
            work,
        })
    }

    /// Words of what is found of a row.
    fn record(&self) -> usize {
        HEAD + self.words
    }

    /// Rows of a part that are searched into one buffer.
    fn most(&self) -> usize {
        let fit = self.device.binding_limit() / size_of::<u32>() / self.record().max(self.candidates);
        fit.min(self.groups * self.rounds * ROWS).max(1)
    }

    fn params(&self) -> EncodeParams {
        EncodeParams {
            rows: 0,
            row0: 0,
            try0: 0,
            try_step: self.candidates as u32,
            found0: 0,
            first_try: 0,
            end_try: 0,
            directions: self.code.active() as u32,
            symbols: self.code.symbols() as u32,
            lags: self.code.lags as u32,
            words: self.words as u32,
            scratch_words: self.scratch_words as u32,
            far: self.tables.far as u32,
            near: self.tables.near as u32,
            alone: self.tables.alone as u32,
            offsets: self.tables.offsets as u32,
            symbol_of: self.tables.symbol_of as u32,
            scale: self.tables.scale,
            alphabet: self.code.alphabet() as u32,
            rounds: self.rounds as u32,
        }
    }

    /// Searches `count` rows of a part from `start` on. Row after row the anchor chosen, the bits of its error, its symbols.
    fn run(
        &self,
        part: Part<'_>,
        (start, count): (usize, usize),
        tries: &Tries<'_, Assigned>,
    ) -> Result<Buffer<u32>, Error> {
        let device = self.device;
        let found = device.alloc(count * self.record())?;
        let first = part.first + start;
        let given;
        let (tries, try0, try_step) = match *tries {
            Tries::Given(tries) => {
                given = device.upload(&tries[first * self.candidates..(first + count) * self.candidates])?;
                (&given, 0, self.candidates)
            }
            Tries::Assigned(assigned) => (&assigned.labels, first * self.candidates, self.candidates),
            Tries::First => {
                given = device.upload(&[0])?;
                (&given, 0, 0)
            }
        };
        for first_try in (0..self.candidates).step_by(self.together) {
            let end_try = self.candidates.min(first_try + self.together);
            device.paced(&self.kernel, count, ROWS, self.work * (end_try - first_try) as f64, |range| {
                let params = EncodeParams {
                    rows: range.len() as u32,
                    row0: (start + range.start) as u32,
                    try0: (try0 + range.start * try_step) as u32,
                    try_step: try_step as u32,
                    found0: (range.start * self.record()) as u32,
                    first_try: first_try as u32,
                    end_try: end_try as u32,
                    ..self.params()
                };
                let taken: Buffer<u32> = device.alloc(1)?;
                device.launch(
                    &self.kernel,
                    [range.len().div_ceil(ROWS).min(self.groups) as u32, 1, 1],
                    &params,
                    &[
                        (1, part.values),
                        (2, &self.anchors),
                        (3, tries),
                        (4, &self.tables.tables),
                        (5, &self.tables.shared),
                        (6, &self.scratch),
                        (7, &found),
                        (8, &taken),
                    ],
                )
            })?;
        }
        Ok(found)
    }

    /// Writes anchor plus codeword of the rows of `found` from row `start` of the part on.
    fn decode(&self, found: &Buffer<u32>, part: Part<'_>, start: usize) -> Result<(), Error> {
        let active = self.code.active();
        let work = (active * (self.code.lags + 4)) as f64;
        self.device.paced(&CODEWORDS, found.len() / self.record(), 1, work, |range| {
            let params = EncodeParams {
                rows: range.len() as u32,
                row0: (start + range.start) as u32,
                found0: (range.start * self.record()) as u32,
                ..self.params()
            };
            let groups = (range.len() * active).div_ceil(ROWS * LANES).min(GROUPS) as u32;
            self.device.launch(
                &CODEWORDS,
                [groups, 1, 1],
                &params,
                &[
                    (2, &self.anchors),
                    (4, &self.tables.tables),
                    (5, &self.tables.shared),
                    (6, part.values),
                    (7, found),
                ],
            )
        })
    }
}

pub(super) fn encode(device: &Device, rows: &Rows, job: &EncodeJob<'_, Assigned>) -> Result<Encoded, Error> {
    let (n, symbols, active) = (rows.n, job.code.symbols(), job.code.active());
    if n == 0 {
        return Ok(Encoded::default());
    }
    let search = Search::new(device, n, job)?;
    let decoded = if job.lengths.is_some() && active > 0 { Some(Rows::zeros(device, n, active)?) } else { None };
    let mut found = Vec::new();
    for (i, part) in rows.parts().enumerate() {
        // Rows of as many values have parts of as many rows.
        let out = decoded.as_ref().and_then(|decoded| decoded.parts().nth(i));
        for start in (0..part.count).step_by(search.most()) {
            let count = search.most().min(part.count - start);
            let piece = search.run(part, (start, count), &job.tries)?;
            if let Some(out) = out {
                search.decode(&piece, out, start)?;
            }
            found.push(piece);
        }
    }
    let norms = match (job.lengths, &decoded) {
        (Some(of), Some(decoded)) => lengths(device, decoded, of)?,
        (Some(of), None) => vec![of.constant.max(0.0).sqrt(); n],
        (None, _) => Vec::new(),
    };
    let pieces: Vec<_> = found.iter().map(|piece| (piece, 0..piece.len())).collect();
    let records = device.download_parts(&pieces)?;
    let (record, packed) = (search.record(), search.packed);
    let mut out = Encoded {
        labels: records.iter().copied().step_by(record).collect(),
        symbols: vec![0; n * symbols],
        errors: records.iter().skip(1).step_by(record).map(|&bits| f32::from_bits(bits)).collect(),
        norms,
    };
    if symbols > 0 {
        let bits = 32 / packed;
        let unpack = |(out, record): (&mut [u8], &[u32])| {
            for (out, word) in out.chunks_mut(packed).zip(&record[HEAD..]) {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = (word >> (i * bits) & ((1 << bits) - 1)) as u8;
                }
            }
        };
        out.symbols.par_chunks_exact_mut(symbols).zip(records.par_chunks_exact(record)).for_each(unpack);
    }
    Ok(out)
}

/// The lengths of decoded rows.
fn lengths(device: &Device, decoded: &Rows, of: Lengths<'_>) -> Result<Vec<f32>, Error> {
    let gram = device.upload(of.gram.as_slice())?;
    let products = product(device, decoded, None, &gram, decoded.dim)?;
    let slope = device.upload(of.slope)?;
    let mut out = Vec::new();
    for (y, p) in decoded.parts().zip(products.parts()) {
        let lengths: Buffer<f32> = device.alloc(y.count)?;
        device.paced(&LENGTHS, y.count, ROWS, 2.0 * decoded.dim as f64, |range| {
            let params = LengthsParams {
                rows: range.len() as u32,
                directions: decoded.dim as u32,
                row0: range.start as u32,
                constant: of.constant,
            };
            let groups = range.len().div_ceil(ROWS).min(GROUPS) as u32;
            device.launch(
                &LENGTHS,
                [groups, 1, 1],
                &params,
                &[(1, y.values), (2, p.values), (3, &slope), (4, &lengths)],
            )
        })?;
        out.push(lengths);
    }
    device.download_parts(&out.iter().map(|lengths| (lengths, 0..lengths.len())).collect::<Vec<_>>())
}
