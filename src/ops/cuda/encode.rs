//! Codes of rows (cuda/encode.cu): the exact search in whole numbers of 26 bits, where the CPU has 16.

use bytemuck::NoUninit;

use super::{
    assign::Assigned, buffer::Buffer, device::Device, images::ENCODE, launch::Arg, project::product, rows::Rows,
};
use crate::{
    error::Error,
    model::{Code, kinds::CodeKind},
    ops::{
        chain,
        types::{EncodeJob, Encoded, Lengths, Tries},
    },
};

/// Warps of a block, and words of scratch that a symbol takes (cuda/encode.cu).
const WARPS: usize = 8;
const TRAIL: usize = 32;
/// Blocks for each processor: what its registers hold.
const BLOCKS: usize = 4;
/// Costs are cut off at 2^26, with 4 bits below them for where they came from.
const CUT: f32 = 67_108_864.0;
const TAG: u32 = 4;

/// What the kernels work with.
#[repr(C)]
#[derive(Clone, Copy, NoUninit)]
struct Job {
    rows: u64,
    anchors: u64,
    tries: u64,
    n: u32,
    candidates: i32,
    active: i32,
    symbols: i32,
    lags: i32,
    alphabet: i32,
    tables: u64,
    offsets: u64,
    symbol_of: u64,
    alone: u64,
    near: u64,
    far: u64,
    scale: f32,
    _pad0: u32,
    scratch: u64,
    scratch_words: u32,
    _pad1: u32,
    labels: u64,
    found: u64,
    errors: u64,
}

/// A code on the device.
struct Tables {
    tables: Buffer<f32>,
    offsets: Buffer<u32>,
    symbol_of: Buffer<u32>,
    exact: Option<Exact>,
}

/// What the exact search takes.
struct Exact {
    alone: Buffer<f32>,
    near: Buffer<u32>,
    far: Buffer<u32>,
    scale: f32,
}

impl Tables {
    fn new(device: &Device, code: &Code) -> Result<Tables, Error> {
        let offsets: Vec<u32> = code.offsets().into_iter().map(|at| at as u32).collect();
        let symbol_of = code.widths.iter().enumerate().flat_map(|(t, &width)| (0..width).map(move |_| t as u32));
        let exact = code.kind == CodeKind::Chain && code.lags <= chain::LAGS;
        Ok(Tables {
            tables: device.upload(&code.tables)?,
            offsets: device.upload(&offsets)?,
            symbol_of: device.upload(&symbol_of.collect::<Vec<_>>())?,
            exact: exact.then(|| Exact::new(device, code)).transpose()?,
        })
    }
}

impl Exact {
    fn new(device: &Device, code: &Code) -> Result<Exact, Error> {
        let costs = chain::Costs::new(code);
        let own = code.tables.iter().fold(0f32, |m, x| m.max(x * x));
        let reach = costs.reach.iter().fold(own / 64.0, |m, &r| m.max(r)).clamp(1e-30, 1e30);
        let scale = CUT / (1.001 * reach);
        // By the later symbol first: a lane has one of those, and looks at all of the earlier ones.
        let turned = |tables: &[chain::Square], tag: u32| -> Vec<u32> {
            let mut out = vec![0; tables.len() * chain::STATES * chain::STATES];
            for (out, table) in out.as_chunks_mut::<{ chain::STATES * chain::STATES }>().0.iter_mut().zip(tables) {
                for p in 0..chain::STATES {
                    for s in 0..chain::STATES {
                        out[s * chain::STATES + p] = ((table[p][s] * scale + 0.5) as u32) << TAG | (tag * p as u32);
                    }
                }
            }
            out
        };
        Ok(Exact {
            alone: device.upload(costs.alone.as_flattened())?,
            near: device.upload(&turned(&costs.near, 0))?,
            far: device.upload(&turned(&costs.far, 1))?,
            scale,
        })
    }
}

pub(super) fn encode(device: &Device, rows: &Rows, job: &EncodeJob<'_, Assigned>) -> Result<Encoded, Error> {
    let (n, symbols, code) = (rows.n, job.code.symbols(), job.code);
    let tables = Tables::new(device, code)?;
    let anchors = Rows::upload(device, job.anchors)?;
    let given = match &job.tries {
        Tries::Given(tries) => Some(device.upload(tries)?),
        _ => None,
    };
    let tries = match &job.tries {
        Tries::Given(_) => given.as_ref(),
        Tries::Assigned(assigned) => Some(&assigned.labels),
        Tries::First => None,
    };
    let kernel = match (code.kind, &tables.exact) {
        (CodeKind::Pq8, _) => "encode_independent",
        (CodeKind::Chain, Some(_)) => "encode_pairs",
        (CodeKind::Chain, None) => "encode_survivors",
    };
    let blocks = n.div_ceil(WARPS).min(BLOCKS * device.processors() as usize);
    let scratch_words = symbols * TRAIL + symbols.div_ceil(4);
    let scratch: Buffer<u32> = device.alloc(blocks * WARPS * scratch_words)?;
    let (labels, found, errors) =
        (device.alloc::<u32>(n)?, device.alloc::<u8>(n * symbols)?, device.alloc::<f32>(n)?);
    let args = Job {
        rows: rows.values.pointer(),
        anchors: anchors.values.pointer(),
        tries: tries.map_or(0, Buffer::pointer),
        n: n as u32,
        candidates: job.candidates as i32,
        active: code.active() as i32,
        symbols: symbols as i32,
        lags: code.lags as i32,
        alphabet: code.alphabet() as i32,
        tables: tables.tables.pointer(),
        offsets: tables.offsets.pointer(),
        symbol_of: tables.symbol_of.pointer(),
        alone: tables.exact.as_ref().map_or(0, |e| e.alone.pointer()),
        near: tables.exact.as_ref().map_or(0, |e| e.near.pointer()),
        far: tables.exact.as_ref().map_or(0, |e| e.far.pointer()),
        scale: tables.exact.as_ref().map_or(0.0, |e| e.scale),
        _pad0: 0,
        scratch: scratch.pointer(),
        scratch_words: scratch_words as u32,
        _pad1: 0,
        labels: labels.pointer(),
        found: found.pointer(),
        errors: errors.pointer(),
    };
    device.launch(ENCODE, kernel, [blocks as u32, 1, 1], (32 * WARPS) as u32, 0, &[Arg::of(&args)])?;
    let norms = match job.lengths {
        Some(lengths) => device.download(&norms(device, code, &tables, &anchors, &labels, &found, n, lengths)?)?,
        None => Vec::new(),
    };
    Ok(Encoded {
        labels: device.download(&labels)?,
        symbols: device.download(&found)?,
        errors: device.download(&errors)?,
        norms,
    })
}

/// The lengths of the decoded rows.
#[allow(clippy::too_many_arguments, reason = "what a search found stays in the buffers it was written to")]
fn norms(
    device: &Device,
    code: &Code,
    tables: &Tables,
    anchors: &Rows,
    labels: &Buffer<u32>,
    found: &Buffer<u8>,
    n: usize,
    lengths: Lengths<'_>,
) -> Result<Buffer<f32>, Error> {
    let active = code.active();
    let decoded: Buffer<f32> = device.alloc(n * active)?;
    let args = [
        Arg::from(&anchors.values),
        Arg::from(labels),
        Arg::from(found),
        Arg::from(n as u32),
        Arg::from(active as i32),
        Arg::from(code.symbols() as i32),
        Arg::from(code.lags as i32),
        Arg::from(code.alphabet() as i32),
        Arg::from(&tables.tables),
        Arg::from(&tables.symbol_of),
        Arg::from(&decoded),
    ];
    device.launch(ENCODE, "codewords", [n.div_ceil(8) as u32, 1, 1], 256, 0, &args)?;
    let gram = Rows::upload(device, lengths.gram)?;
    let products = product(device, &decoded, n, None, &gram)?;
    let slope = device.upload(lengths.slope)?;
    let out = device.alloc(n)?;
    let args = [
        Arg::from(&decoded),
        Arg::from(&products),
        Arg::from(&slope),
        Arg::from(n as u32),
        Arg::from(active as i32),
        Arg::from(lengths.constant),
        Arg::from(&out),
    ];
    device.launch(ENCODE, "lengths", [n.div_ceil(8) as u32, 1, 1], 256, 0, &args)?;
    Ok(out)
}
