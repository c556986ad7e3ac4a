//! The best rows of queries (shaders/score.wgsl): what a score must reach is found on a sample of the rows; all rows are held
//! against that; those that reach it are put in order here.

use std::ops::Range;

use bytemuck::cast_slice;
use rayon::prelude::*;

use super::{
    buffer::Buffer,
    codes::{Codes, Part},
    device::Device,
    groups::{Groups, PartGroups},
    kernel::{Kernel, Source, source},
};
use crate::{
    error::Error,
    format::rows::BLOCK,
    math::topk::TopK,
    matrix::Mat,
    neighbors::Neighbors,
    ops::{
        layout::{KthParams, ScanParams},
        types::ScoreTables,
    },
};

static SCORE: Source = source!("score");
static SCAN_1: Kernel = Kernel { source: &SCORE, entry: "scan_1", constants: &[] };
static SCAN_2: Kernel = Kernel { source: &SCORE, entry: "scan_2", constants: &[] };
static SCAN_ANY: Kernel = Kernel { source: &SCORE, entry: "scan_any", constants: &[] };
static KTH: Kernel = Kernel { source: &SCORE, entry: "kth", constants: &[] };
#[cfg(test)]
pub(super) static KERNELS: &[&Kernel] = &[&SCAN_1, &SCAN_2, &SCAN_ANY, &KTH];

/// As the shader has them: what becomes of scores, invocations of a workgroup, groups it looks at in a step, and values of tables
/// that it has room for.
const MAXIMA: u32 = 0;
const LIST: u32 = 1;
const ALL: u32 = 2;
const THREADS: usize = 256;
const AT_ONCE: usize = THREADS / BLOCK;
const ROOM: usize = 3840;

/// Workgroups that look at a sample, at least where it is large enough and at most: each has maxima for every query.
const SAMPLERS: [usize; 2] = [32, 128];
/// Steps of such a workgroup, where that leaves no more of them.
const STEPS: usize = 8;
/// Of the rows, one in so many is in the sample at least; and it has at least so many groups, where there are as many.
const SPARSEST: usize = 128;
const SAMPLED: usize = 256;
/// Rows that may be expected to pass the sample's k-th best.
const EXPECTED: usize = 2048;
/// Rows that a query's list has room for. Rows of a group are much alike, so that far more may pass a sample of groups than are expected.
const CAPACITY: usize = 16_384;
/// Queries of a batch at most.
const BATCH: usize = 1024;
/// Workgroups of a pass over all rows, as a rule: more than run at once anywhere, few enough for each to have work beside bringing tables.
const WORKGROUPS: usize = 2048;

/// How the best of the codes are found for one k.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Plan {
    /// Of the groups, one in so many is in the sample.
    stride: usize,
    /// Workgroups that look at it.
    samplers: usize,
    /// Entries of a list, and how many of them are fetched at once.
    capacity: usize,
    head: usize,
}

impl Plan {
    /// For `n` rows in so many groups, `largest_part` of one part of the codes. None where lists would be too long.
    fn new(n: usize, groups: usize, largest_part: usize, k: usize) -> Option<Plan> {
        let stride = (groups / SAMPLED).clamp(1, (EXPECTED / k).clamp(1, SPARSEST));
        let steps = largest_part.div_ceil(stride).div_ceil(AT_ONCE);
        let samplers = steps.div_ceil(STEPS).clamp(SAMPLERS[0].min(steps), SAMPLERS[1]);
        if n <= CAPACITY {
            return Some(Plan { stride, samplers, capacity: n, head: n.min(1024 + 2 * k) });
        }
        // Rows that share an invocation hide each other: so many of the best are in as many different ones.
        let (k, maxima) = (k as f64, (samplers * THREADS).min(n.div_ceil(stride)) as f64);
        let hidden = if k < maxima { -maxima * (1.0 - k / maxima).ln() } else { f64::INFINITY };
        let expected = hidden * stride as f64;
        let head = 2.0 * expected + 64.0;
        (head <= CAPACITY as f64).then_some(Plan { stride, samplers, capacity: CAPACITY, head: head as usize })
    }

    fn maxima(&self) -> usize {
        self.samplers * THREADS
    }
}

/// A batch of queries on the device.
struct Queries {
    count: usize,
    /// Tables, bases, and bits of the cells that each looks at.
    values: Buffer<u32>,
    bases_at: usize,
    looked_at: usize,
    looked_words: usize,
}

/// Values of a query's tables.
fn table_len(codes: &Codes<'_>) -> usize {
    codes.charts * codes.symbols * codes.alphabet
}

impl Queries {
    fn upload(
        device: &Device,
        codes: &Codes<'_>,
        host: &ScoreTables,
        some: Range<usize>,
        k: usize,
    ) -> Result<Queries, Error> {
        let (count, cells, table) = (some.len(), codes.cell_count(), table_len(codes));
        let (bases_at, bits_at) = (count * table, count * (table + cells));
        let looked_words = if host.reach.is_some() { cells.div_ceil(32) } else { 0 };
        let mut values: Vec<u32> = Vec::with_capacity(bits_at + count * looked_words);
        values.extend_from_slice(cast_slice(&host.tables.as_slice()[some.start * table..some.end * table]));
        values.extend_from_slice(cast_slice(&host.bases.as_slice()[some.start * cells..some.end * cells]));
        if let Some(most) = host.reach {
            values.resize(bits_at + count * looked_words, 0);
            values[bits_at..].par_chunks_mut(looked_words).zip(some).for_each(|(bits, q)| {
                for cell in host.looked_at(q, codes.labels.cells, most, k) {
                    bits[cell / 32] |= 1 << (cell % 32);
                }
            });
        }
        let values = device.upload(&values)?;
        Ok(Queries { count, values, bases_at, looked_at: bits_at, looked_words })
    }
}

pub(super) fn score(device: &Device, codes: &Codes<'_>, host: &ScoreTables, k: usize) -> Result<Neighbors, Error> {
    let (count, k) = (host.bases.rows(), k.min(host.rows(codes.n as u64) as usize));
    let mut found = Neighbors { ids: Mat::zeros(count, k), scores: Mat::zeros(count, k) };
    if count == 0 || k == 0 {
        return Ok(found);
    }
    let groups = Groups::new(device, codes, host)?;
    let plan = Plan::new(groups.rows, groups.count, groups.most(), k);
    let mut overflowed = Vec::new();
    match plan {
        None => overflowed.extend(0..count),
        Some(plan) => {
            let of_query = table_len(codes) + codes.cell_count() + codes.cell_count().div_ceil(32);
            let most = of_query.max(plan.maxima()).max(2 * plan.capacity);
            let batch = (device.binding_limit() / 4 / most).clamp(1, BATCH);
            for first in (0..count).step_by(batch) {
                let some = first..(first + batch).min(count);
                let queries = Queries::upload(device, codes, host, some.clone(), k)?;
                let lists = listed(device, codes, &groups, &queries, &plan, k)?;
                let places = some.start * k..some.end * k;
                let ids = found.ids.as_mut_slice()[places.clone()].par_chunks_mut(k);
                let scores = found.scores.as_mut_slice()[places].par_chunks_mut(k);
                ids.zip(scores).zip(&lists).for_each(|((ids, scores), list)| {
                    let mut top = TopK::new(k);
                    for &[position, key] in list.iter().flatten() {
                        top.offer(score_of(key), position.into(), |position| codes.labels.row(position));
                    }
                    put(top, ids, scores);
                });
                overflowed.extend(some.filter(|&q| lists[q - first].is_none()));
            }
        }
    }
    for q in overflowed {
        let top = of_all(device, codes, &groups, host, q, k)?;
        put(top, found.ids.row_mut(q), found.scores.row_mut(q));
    }
    Ok(found)
}

fn put(top: TopK, ids: &mut [u64], scores: &mut [f32]) {
    for (i, (score, row)) in top.into_sorted().into_iter().enumerate() {
        (ids[i], scores[i]) = (row, score);
    }
}

/// The score of a key (shaders/score.wgsl).
fn score_of(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & 0x7FFF_FFFF } else { !key })
}

/// A position, and the key of its score.
type Entry = [u32; 2];

/// Positions and scores of the rows that may be among a query's best; none for a query that has more of them than there is room for:
/// ties, or more hits than a sample foretells.
fn listed(
    device: &Device,
    codes: &Codes<'_>,
    groups: &Groups,
    queries: &Queries,
    plan: &Plan,
    k: usize,
) -> Result<Vec<Option<Vec<Entry>>>, Error> {
    let (count, Plan { capacity, head, .. }) = (queries.count, *plan);
    // Thresholds, then lengths of lists.
    let marks: Buffer<u32> = device.alloc(2 * count)?;
    let maxima: Buffer<u32> = device.alloc(count * plan.maxima())?;
    let sample =
        ScanParams { mode: MAXIMA, stride: plan.stride as u32, maxima: plan.maxima() as u32, ..codes.params() };
    for part in codes.parts.iter().zip(&groups.parts) {
        scan(device, codes, queries, part, (&marks, &maxima), sample, Some(plan.samplers))?;
    }
    let params = KthParams { count: plan.maxima() as u32, k: k as u32, _pad0: 0, _pad1: 0 };
    device.launch(&KTH, [count as u32, 1, 1], &params, &[(1, &maxima), (2, &marks)])?;
    let entries: Buffer<u32> = device.alloc(2 * count * capacity)?;
    let list = ScanParams { mode: LIST, stride: 1, capacity: capacity as u32, head: head as u32, ..codes.params() };
    for part in codes.parts.iter().zip(&groups.parts) {
        scan(device, codes, queries, part, (&marks, &entries), list, None)?;
    }
    // Lengths and heads together: lists are seldom longer.
    let got = device.download_parts(&[(&marks, count..2 * count), (&entries, 0..2 * count * head)])?;
    let (lengths, heads) = got.split_at(count);
    let tail = |q: usize| {
        let first = 2 * (count * head + q * (capacity - head));
        first..first + 2 * (lengths[q] as usize).saturating_sub(head)
    };
    let long: Vec<usize> = (0..count).filter(|&q| (head + 1..=capacity).contains(&(lengths[q] as usize))).collect();
    let tails: Vec<(&Buffer<u32>, Range<usize>)> = long.iter().map(|&q| (&entries, tail(q))).collect();
    let tails = if tails.is_empty() { Vec::new() } else { device.download_parts(&tails)? };
    let mut tails = tails.as_slice();
    let of = |q: usize| {
        let length = lengths[q] as usize;
        let own = &heads[2 * q * head..][..2 * length.min(head)];
        let mut entries: Vec<Entry> = own.as_chunks::<2>().0.to_vec();
        if length > capacity {
            return None;
        }
        if length > head {
            let (own, rest) = tails.split_at(2 * (length - head));
            entries.extend_from_slice(own.as_chunks::<2>().0);
            tails = rest;
        }
        Some(entries)
    };
    Ok((0..count).map(of).collect())
}

/// Scores rows of a part as `params` say.
fn scan(
    device: &Device,
    codes: &Codes<'_>,
    queries: &Queries,
    (part, of_part): (&Part, &PartGroups),
    (marks, found): (&Buffer<u32>, &Buffer<u32>),
    params: ScanParams,
    samplers: Option<usize>,
) -> Result<(), Error> {
    let fits = |queries: usize| codes.alphabet == 16 && queries * codes.symbols * codes.alphabet <= ROOM;
    // Two queries share the way to memory, where their tables fit together.
    let (each, kernel) = match queries.count {
        2.. if fits(2) => (2, &SCAN_2),
        _ if fits(1) => (1, &SCAN_1),
        _ => (1, &SCAN_ANY),
    };
    let rounds = queries.count.div_ceil(each);
    let groups = of_part.count.div_ceil(params.stride as usize);
    if groups == 0 {
        return Ok(());
    }
    // Where none are chosen any buffer will do.
    let chosen = of_part.chosen.as_ref().map_or(&part.first_cells, |chosen| &chosen.list);
    let work = (rounds * BLOCK) as f64 * (each * codes.symbols + 16) as f64;
    for chart in 0..codes.charts {
        device.paced(kernel, groups, AT_ONCE, work, |some| {
            let params = ScanParams {
                first_group: part.first_group as u32,
                first: some.start as u32 * params.stride,
                groups: some.len() as u32,
                chart: chart as u32,
                query_count: queries.count as u32,
                bases_at: queries.bases_at as u32,
                looked_at: queries.looked_at as u32,
                looked_words: queries.looked_words as u32,
                chosen: u32::from(of_part.chosen.is_some()),
                ..params
            };
            // Every workgroup brings its own tables.
            let steps = some.len().div_ceil(AT_ONCE);
            let others = (WORKGROUPS / rounds).max(WORKGROUPS / 64).min(steps.div_ceil(2));
            let workgroups = [samplers.unwrap_or(others) as u32, rounds as u32, 1];
            device.launch(
                kernel,
                workgroups,
                &params,
                &[
                    (1, &part.words),
                    (2, &part.first_cells),
                    (3, &codes.store),
                    (4, &queries.values),
                    (5, marks),
                    (6, found),
                    (7, chosen),
                ],
            )
        })?;
    }
    Ok(())
}

/// The best of all rows of one query, put in order on the CPU.
fn of_all(
    device: &Device,
    codes: &Codes<'_>,
    groups: &Groups,
    host: &ScoreTables,
    q: usize,
    k: usize,
) -> Result<TopK, Error> {
    let queries = Queries::upload(device, codes, host, q..q + 1, k)?;
    let marks: Buffer<u32> = device.alloc(2)?;
    let mut best = TopK::new(k);
    for (part, of_part) in codes.parts.iter().zip(&groups.parts).filter(|(_, of_part)| of_part.count > 0) {
        // What is not looked at stays 0.
        let keys: Buffer<u32> = device.alloc(of_part.count * BLOCK)?;
        let params = ScanParams { mode: ALL, stride: 1, ..codes.params() };
        scan(device, codes, &queries, (part, of_part), (&marks, &keys), params, None)?;
        let keys = device.download(&keys)?;
        let first = part.first_group * BLOCK;
        let each = keys.len().div_ceil(rayon::current_num_threads()).next_multiple_of(BLOCK);
        let tops = keys.par_chunks(each).enumerate().map(|(c, keys)| {
            let mut top = TopK::new(k);
            for (b, block) in keys.chunks(BLOCK).enumerate() {
                let most = block.iter().fold(0, |most, &key| most.max(key));
                if most == 0 || score_of(most) < top.threshold() {
                    continue;
                }
                for (i, &key) in block.iter().enumerate().filter(|(_, key)| **key > 0) {
                    let position = (first + of_part.position(c * each + b * BLOCK + i)) as u64;
                    top.offer(score_of(key), position, |position| codes.labels.row(position));
                }
            }
            top
        });
        best = best.merge(&tops.reduce(|| TopK::new(k), |a, b| a.merge(&b)));
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_leave_room_for_what_is_expected() {
        for n in [1usize, 31, 1000, 16_384, 16_385, 70_000, 1_000_000, 10_000_000, 4_000_000_000] {
            for k in [1, 10, 100, 1000, 4096, 10_000, 1_000_000] {
                let k = k.min(n);
                for part in [n.div_ceil(BLOCK), n.div_ceil(BLOCK).min(87_381)] {
                    let Some(plan) = Plan::new(n, n.div_ceil(BLOCK), part, k) else {
                        assert!(n > CAPACITY && k >= 4096, "{n} rows, k {k}");
                        continue;
                    };
                    assert!(plan.capacity <= CAPACITY && (1..=plan.capacity).contains(&plan.head), "{plan:?}");
                    assert!((1..=SAMPLERS[1]).contains(&plan.samplers) && plan.stride >= 1, "{plan:?}");
                    assert!(plan.capacity >= (plan.stride * k).min(n), "{n} rows, k {k}: {plan:?}");
                }
            }
        }
    }

    #[test]
    fn keys_are_scores() {
        for score in [0.0f32, 1.5, -1.5, f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY] {
            let bits = score.to_bits();
            let key = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
            assert_eq!(score_of(key), score);
        }
    }
}
