//! The best rows of queries (cuda/score.cu): what a score must reach is found on a sample of the rows; all rows are held
//! against that; those that reach it are put in order here.

use bytemuck::Zeroable;
use rayon::prelude::*;

use super::{
    buffer::Buffer,
    codes::Codes,
    decoded,
    device::Device,
    images::SCORE,
    launch::Arg,
    lists::{CAPACITY, Lists, OutputArg, Queries},
};
use crate::{
    error::Error, format::rows::BLOCK, math::topk::TopK, matrix::Mat, neighbors::Neighbors, ops::types::ScoreTables,
};

/// Maxima of a query's sample, at most: the k-th largest is what a row must reach.
const MAXIMA: usize = 2048;
/// Of the groups with rows that may be found, one in so many is in the sample at least.
const SPARSEST: usize = 256;
/// Queries that share a pass by tables.
const SHARED: usize = 4;
/// Blocks of a pass that run on a processor at once (cuda/score.cu).
const BLOCKS_OF_1: usize = 6;
const BLOCKS_OF_4: usize = 4;
/// Bytes of shared memory that tables may take, with so many blocks at once.
const TABLE_BYTES: usize = 47 << 10;

pub(super) fn score(device: &Device, codes: &Codes<'_>, host: &ScoreTables, k: usize) -> Result<Neighbors, Error> {
    let (count, k) = (host.bases.rows(), k.min(host.rows(codes.n as u64) as usize));
    let mut found = Neighbors { ids: Mat::zeros(count, k), scores: Mat::zeros(count, k) };
    if count == 0 || k == 0 {
        return Ok(found);
    }
    let queries = Queries::upload(device, codes, host, k)?;
    let (entries, overflowed) =
        if k <= MAXIMA { listed(device, codes, &queries, k)? } else { (Vec::new(), vec![true; count]) };
    let rows = found.ids.as_mut_slice().par_chunks_mut(k).zip(found.scores.as_mut_slice().par_chunks_mut(k));
    rows.zip(&entries).for_each(|((ids, scores), entries)| {
        let mut top = TopK::new(k);
        for &[position, bits] in entries {
            top.offer(f32::from_bits(bits), position.into(), |position| codes.labels.row(position));
        }
        put(top, ids, scores);
    });
    for q in (0..count).filter(|&q| overflowed[q]) {
        let top = of_all(device, codes, &queries, q, k)?;
        put(top, found.ids.row_mut(q), found.scores.row_mut(q));
    }
    Ok(found)
}

fn put(top: TopK, ids: &mut [u64], scores: &mut [f32]) {
    for (i, (score, row)) in top.into_sorted().into_iter().enumerate() {
        (ids[i], scores[i]) = (row, score);
    }
}

/// A position, and the bits of its score.
type Entry = [u32; 2];

/// Positions and scores of the rows that may be among a query's best, and which queries have more of them than
/// there is room for: ties, or more hits than a sample foretells.
fn listed(
    device: &Device,
    codes: &Codes<'_>,
    queries: &Queries<'_>,
    k: usize,
) -> Result<(Vec<Vec<Entry>>, Vec<bool>), Error> {
    let count = queries.count;
    let lists = Lists {
        thresholds: thresholds(device, codes, queries, k)?,
        counts: device.zeros(count)?,
        entries: device.alloc(count * CAPACITY)?,
    };
    let crowded = match decoded::Plan::new(device, codes, queries) {
        Some(plan) => decoded::list(device, codes, queries, &lists, &plan)?,
        None => {
            scan(device, codes, queries, 0..count, lists.arg())?;
            vec![false; count]
        }
    };
    let counts = device.download(&lists.counts)?;
    let overflowed: Vec<bool> =
        counts.iter().zip(crowded).map(|(&c, crowded)| crowded || c as usize > CAPACITY).collect();
    let mut starts = vec![0u32];
    for &c in &counts {
        starts.push(starts[starts.len() - 1] + c.min(CAPACITY as u32));
    }
    let dense: Buffer<Entry> = device.alloc(starts[count] as usize)?;
    let on_device = device.upload(&starts)?;
    let args = [
        Arg::from(&lists.entries),
        Arg::from(&lists.counts),
        Arg::from(&on_device),
        Arg::from(CAPACITY as u32),
        Arg::from(&dense),
    ];
    device.launch(SCORE, "gather", [count as u32, 1, 1], 256, 0, &args)?;
    let dense = device.download(&dense)?;
    let of = |q: usize| dense[starts[q] as usize..starts[q + 1] as usize].to_vec();
    Ok(((0..count).map(of).collect(), overflowed))
}

/// For each query a score that at least `k` rows reach, as a sample of the rows shows.
fn thresholds(device: &Device, codes: &Codes<'_>, queries: &Queries<'_>, k: usize) -> Result<Buffer<f32>, Error> {
    // So many rows pass the sample's k-th best as the sample is sparse, times k.
    let share = (CAPACITY / 8 / k.max(1)).clamp(1, SPARSEST);
    let stride = (queries.groups.count / MAXIMA).clamp(1, share);
    let maxima_count = queries.groups.count.div_ceil(stride).min(MAXIMA);
    let maxima: Buffer<f32> = device.alloc(queries.count * maxima_count)?;
    fill(device, &maxima, f32::NEG_INFINITY)?;
    let output = OutputArg {
        maxima: maxima.pointer(),
        maxima_count: maxima_count as u32,
        stride: stride as u32,
        ..OutputArg::zeroed()
    };
    scan(device, codes, queries, 0..queries.count, output)?;
    let thresholds = device.alloc(decoded::padded(queries.count))?;
    fill(device, &thresholds, f32::INFINITY)?;
    let args = [Arg::from(&maxima), Arg::from(maxima_count as u32), Arg::from(k as u32), Arg::from(&thresholds)];
    device.launch(SCORE, "kth", [queries.count as u32, 1, 1], 256, 0, &args)?;
    Ok(thresholds)
}

fn fill(device: &Device, values: &Buffer<f32>, value: f32) -> Result<(), Error> {
    let blocks = values.len().div_ceil(256).min(1024) as u32;
    let args = [Arg::from(values), Arg::from(values.len() as u64), Arg::from(value)];
    device.launch(SCORE, "fill", [blocks, 1, 1], 256, 0, &args)
}

/// Scores rows for some queries by tables.
fn scan(
    device: &Device,
    codes: &Codes<'_>,
    queries: &Queries<'_>,
    some: std::ops::Range<usize>,
    output: OutputArg,
) -> Result<(), Error> {
    let arg = queries.arg(codes, some.start, some.len());
    let table = 4 * codes.symbols * codes.alphabet;
    let fits = |queries: usize| codes.alphabet == 16 && queries * table <= TABLE_BYTES;
    // Several queries share the way to memory, where their tables fit together.
    let (each, kernel, at_once) = match some.len() {
        2.. if fits(SHARED) => (SHARED, "scan_4", BLOCKS_OF_4),
        _ if fits(1) => (1, "scan_1", BLOCKS_OF_1),
        _ => (1, "scan_general", BLOCKS_OF_1),
    };
    let bytes = if kernel == "scan_general" { 0 } else { each * table };
    let rounds = some.len().div_ceil(each);
    // Every block brings its own tables, so there are no more than run at once; a few more would double the time.
    let at_once = at_once * device.processors() as usize;
    let blocks = (at_once / rounds).max(at_once / 16).clamp(1, queries.groups.count.div_ceil(8)) as u32;
    for chart in 0..codes.charts() {
        let args = [Arg::of(&codes.arg()), Arg::of(&arg), Arg::of(&output), Arg::from(chart as i32)];
        device.launch(SCORE, kernel, [blocks, rounds as u32, 1], 256, bytes as u32, &args)?;
    }
    Ok(())
}

/// The best of all rows of one query, put in order on the CPU.
fn of_all(device: &Device, codes: &Codes<'_>, queries: &Queries<'_>, q: usize, k: usize) -> Result<TopK, Error> {
    // What is not looked at stays no number.
    let scores: Buffer<f32> = device.alloc(queries.groups.count * BLOCK)?;
    device.fill(&scores, 0xFF)?;
    let output = OutputArg { stride: 1, scores: scores.pointer(), ..OutputArg::zeroed() };
    scan(device, codes, queries, q..q + 1, output)?;
    let scores = device.download(&scores)?;
    let part = scores.len().div_ceil(rayon::current_num_threads()).max(1);
    let tops = scores.par_chunks(part).enumerate().map(|(c, scores)| {
        let mut top = TopK::new(k);
        const EACH: usize = 64;
        for (b, block) in scores.chunks(EACH).enumerate() {
            // What is not looked at is no number, and never the greater.
            let most = block.iter().fold(f32::NEG_INFINITY, |m, &s| if s > m { s } else { m });
            if most >= top.threshold() {
                for (i, &score) in block.iter().enumerate().filter(|(_, score)| !score.is_nan()) {
                    let position = queries.groups.position(c * part + b * EACH + i);
                    top.offer(score, position as u64, |position| codes.labels.row(position));
                }
            }
        }
        top
    });
    Ok(tops.reduce(|| TopK::new(k), |a, b| a.merge(&b)))
}
