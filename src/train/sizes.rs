//! Sizes of the parts of a file that fit a budget.

use super::allocate::{Shape, allocate, symbol_bits};
use crate::{
    config::{Budget, Config, all_metadata},
    error::Error,
    format::{
        elias_fano::bytes_at_most as row_ids_len,
        rows::BlockShape,
        score::HEAD as SCORE_HEAD,
        sums::sums_len,
        write::{SECTIONS, file_len, metadata_bytes},
    },
    model::kinds::{CodeKind, DecoderShape, Metric},
};

/// Sizes that are known before anything is trained.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) n: u64,
    pub(crate) dim: usize,
    pub(crate) lags: usize,
    pub(crate) gain_nibbles: u8,
    /// Nibbles of the factor, where there is one, and whether codewords may have weights.
    pub(crate) factor_nibbles: u8,
    pub(crate) weights: bool,
    /// Whether rows have a nibble for their reach beside a learned decoder.
    pub(crate) reach: bool,
    pub(crate) metadata: u64,
    /// Bytes of the ids.
    pub(crate) ids: u64,
    /// Those of a scale of lengths beside the model's, at most.
    pub(crate) gains: u64,
    /// Bytes of the file, or of all symbols where these alone count.
    pub(crate) budget: f64,
    pub(crate) only_codes: bool,
    /// The learned decoder, once that is settled.
    pub(crate) decoder: Option<DecoderShape>,
}

impl Sizes {
    pub(crate) fn new(rows: usize, dim: usize, config: &Config<'_>) -> Result<Sizes, Error> {
        let n = config.expected_rows.map_or(rows, |expected| rows.max(expected as usize));
        let per_row = match config.budget {
            Budget::Ratio(ratio) => ratio * 4.0 * dim as f64,
            Budget::BytesPerVector(bytes) | Budget::CodeBytes(bytes) => bytes,
        };
        if !(per_row.is_finite() && per_row > 0.0) {
            return Err(Error::Config(format!("the budget {:?} is not above 0", config.budget)));
        }
        Ok(Sizes {
            n: n as u64,
            dim,
            lags: if config.code == CodeKind::Chain { LAGS } else { 0 },
            gain_nibbles: match config.metric {
                Metric::Cosine => 0,
                Metric::Dot => 2,
                Metric::L2 => 3,
            },
            // With a refine layer the factor only decides what that looks at.
            factor_nibbles: if config.refine.is_none() && per_row * n as f64 >= TWO_NIBBLES { 2 } else { 1 },
            weights: config.refine.is_none() && per_row * n as f64 >= WEIGHTS,
            reach: false,
            metadata: metadata_bytes(&all_metadata(config)).len() as u64,
            // Those to come are taken to be like those given.
            ids: config.ids.map_or(0, |ids| (ids.bytes().len() as f64 * n as f64 / rows.max(1) as f64) as u64),
            gains: 0,
            budget: per_row * n as f64,
            only_codes: matches!(config.budget, Budget::CodeBytes(_)),
            decoder: None,
        })
    }

    /// Bytes of the file at most. `decoder` are those of the learned decoder.
    fn file_bytes(
        &self,
        model_bytes: f64,
        decoder: u64,
        charts: &[usize],
        symbols: usize,
        config: &Config<'_>,
    ) -> u64 {
        let anchors: usize = charts.iter().sum();
        // Whoever decodes a row with the network has its length, and needs no factor.
        let of_factor = if self.decoder.is_some() { self.reach.into() } else { self.factor_nibbles };
        let side_nibbles = usize::from(of_factor + self.gain_nibbles);
        let tables = if of_factor == 0 { 0 } else { 4 << (4 * of_factor) };
        let with_scores = (of_factor > 0 && (self.weights || self.reach))
            || (self.gain_nibbles == 0 && config.metric != Metric::Cosine);
        let block = BlockShape { kind: config.code, symbols, side_nibbles };
        let means = if config.metric == Metric::L2 { 2 } else { 1 };
        let heads = charts.len() * (8 + 2 * symbols) + anchors + 4 * (2 * charts.len() + 1);
        let lengths: [u64; SECTIONS] = [
            128,
            (means * 4 * self.dim) as u64,
            model_bytes.ceil() as u64 + heads as u64,
            // Which bytes of the model stand in which section moves the padding by less than this.
            64,
            8 + tables,
            self.metadata,
            32,
            8 * (anchors as u64 + 1),
            row_ids_len(self.n, anchors as u64),
            block.code_bytes(self.n),
        ];
        // Ids are a section more, as a decoder is and the hashes of parts are: its entry, and what it is padded with. A scale of lengths is
        // two: the file names what a reader must know for it.
        let further = |bytes: u64| if bytes > 0 { bytes + 96 } else { 0 };
        let mut gains = if self.gains > 0 { further(self.gains) } else { 0 };
        if with_scores {
            gains += further(SCORE_HEAD as u64 + tables * if self.reach { 2 } else { 1 });
        }
        if gains > 0 {
            gains += further(64);
        }
        let sums = [lengths[8], lengths[9], self.ids].map(sums_len).iter().sum();
        file_len(&lengths) + further(self.ids) + further(decoder) + further(sums) + gains
    }
}

/// The number of symbols that fits the budget, and what comes with it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fit {
    pub(crate) symbols: usize,
    pub(crate) file_bytes: u64,
    pub(crate) model_bytes: f64,
    pub(crate) decoder_bytes: u64,
    /// Weighted mean of the charts' expected distortion.
    pub(crate) distortion: f64,
}

/// Most symbols per row such that the file fits the budget, for charts given by shape and the variances of residual and anchors.
///
/// # Errors
/// [`Error::Budget`] when not even one symbol fits.
pub(crate) fn fit_symbols(
    sizes: &Sizes,
    charts: &[(Shape, &[f64], &[f64])],
    config: &Config<'_>,
) -> Result<Fit, Error> {
    let anchors: Vec<usize> = charts.iter().map(|(shape, ..)| shape.anchors).collect();
    let at = |symbols: usize| -> (Fit, usize) {
        let bits = (symbols * symbol_bits(config.code)) as f64;
        let rows: f64 = charts.iter().map(|(shape, ..)| shape.rows).sum();
        let (mut model_bytes, mut distortion, mut useful, mut decoder) = (0.0, 0.0, 0, 0);
        for (shape, variances, anchors) in charts {
            let found = allocate(variances, anchors, bits, shape);
            model_bytes += found.model_bytes;
            distortion += found.distortion * shape.rows / rows;
            let active = found.rates.iter().filter(|r| **r > 0.0).count();
            useful = useful.max(active * (sizes.lags + 1));
            decoder += sizes.decoder.map_or(0, |shape| crate::model::learned::bytes(shape, active));
        }
        let file_bytes = sizes.file_bytes(model_bytes, decoder, &anchors, symbols, config);
        (Fit { symbols, file_bytes, model_bytes, decoder_bytes: decoder, distortion }, useful)
    };
    let fits = |symbols: usize| match sizes.only_codes {
        true => (symbols * symbol_bits(config.code)) as f64 * sizes.n as f64 <= 8.0 * sizes.budget,
        false => at(symbols).0.file_bytes as f64 <= sizes.budget,
    };
    let varied = charts.iter().any(|(_, variances, anchors)| variances.iter().chain(*anchors).any(|&v| v > 0.0));
    let least = usize::from(varied);
    if !fits(least) {
        return Err(too_small(sizes, at(least).0.file_bytes));
    }
    if !varied {
        return Ok(at(0).0);
    }
    // The codes alone must fit, and no more symbols are of use than each direction can reach.
    let codes = (sizes.budget * 8.0 / (sizes.n as f64 * symbol_bits(config.code) as f64)).min(65_536.0) as usize;
    let (mut lo, mut hi) = (least, (sizes.dim * (sizes.lags + 1)).min(codes).max(least) + 1);
    while lo + 1 < hi {
        let middle = (lo + hi) / 2;
        if fits(middle) {
            lo = middle;
        } else {
            hi = middle;
        }
    }
    // Symbols beyond those that some direction can use would be paid for nothing.
    let (mut found, mut useful) = at(lo);
    while found.symbols > useful.max(1) {
        (found, useful) = at(useful.max(1));
    }
    Ok(found)
}

pub(crate) fn too_small(sizes: &Sizes, bytes: u64) -> Error {
    let (n, raw) = (sizes.n as f64, 4.0 * sizes.dim as f64);
    let smallest = bytes as f64 / n;
    Error::Budget {
        asked: sizes.budget / n,
        asked_ratio: sizes.budget / n / raw,
        smallest,
        // Rounded up at the fourth decimal, so that asking for what is printed works.
        smallest_ratio: (smallest / raw * 1e4).ceil() / 1e4,
    }
}

/// Bytes of a file from which on a table of 16 weights and what names it, 350 bytes, take little of it.
const WEIGHTS: f64 = 40_000.0;
/// Those from which on tables of 256 factors and weights, 2 kB, do.
const TWO_NIBBLES: f64 = 400_000.0;

/// Symbols a codeword depends on beside its own. Two, with four survivors per state, lower the distortion of chain codes
/// by 3 % against one at the same scan; more do not pay.
pub(crate) const LAGS: usize = 2;
