//! Which decoder the planner considers, and what it expects of it.

use crate::{
    config::{Config, Decoder},
    error::Error,
    model::kinds::DecoderShape,
    train::{
        allocate::Shape,
        chart::Spectrum,
        sizes::{Fit, Sizes, fit_symbols},
    },
};

/// Widths that are considered. What is wider takes minutes to train on a processor.
const WIDTHS: [usize; 4] = [128, 256, 512, 1024];
/// Share of the budget that a decoder may take. Twice as much lowers the distortion further, and no recall comes of it: the network
/// learns by heart what makes no difference to neighbours.
const SHARE: f64 = 0.025;
/// Rows below which there is none: training takes its time, and a few more symbols do as much.
const LEAST_ROWS: u64 = 10_000;
/// Bytes for each dimension above which there is none: at 0.2 it is worth 0.003 of recall, at 0.24 0.002, at 0.33 nothing.
const MOST_RATE: f64 = 0.21;
/// The expected distortion with a decoder, as a multiple of that without, below which it is taken.
const WORTH: f64 = 0.97;

/// The share of the distortion that is left with a decoder, synthesis included. Measured on 12,500 to 100,000 text embeddings at 3 %, where it
/// hardly depends on the number of rows; see docs/experiments/decoder.md.
pub(crate) fn expected_share(shape: DecoderShape) -> f64 {
    let width = shape.width.max(1) as f64 * shape.layers as f64;
    (1.0 - 0.105 * (width / 512.0).sqrt()).max(0.7)
}

/// The decoders to weigh for a file of these sizes.
fn considered(sizes: &Sizes) -> Vec<DecoderShape> {
    let per_value = sizes.budget / (sizes.n as f64 * sizes.dim as f64);
    if sizes.n < LEAST_ROWS || per_value > MOST_RATE {
        return Vec::new();
    }
    WIDTHS.into_iter().map(DecoderShape::of_width).collect()
}

/// The learned decoder that leaves least of the distortion in the budget, if any does better than none, and what then fits.
pub(crate) fn choose(
    sizes: &Sizes,
    shape: Shape,
    spectrum: &Spectrum,
    charts: usize,
    config: &Config<'_>,
) -> Result<(Fit, Option<DecoderShape>), Error> {
    let fit = |decoder: Option<DecoderShape>| -> Result<Fit, Error> {
        let sizes = Sizes { decoder, ..*sizes };
        let mut fit = fit_symbols(&sizes, &[(shape, &spectrum.variances, &spectrum.anchors)], config)?;
        fit.distortion *= decoder.map_or(1.0, expected_share);
        Ok(fit)
    };
    let given = match config.decoder {
        Decoder::Of(decoder) => return Ok((fit(Some(decoder))?, Some(decoder))),
        Decoder::Auto if charts == 1 && config.refine.is_none() => considered(sizes),
        _ => Vec::new(),
    };
    let mut best = (fit(None)?, None);
    let without = best.0.distortion;
    for decoder in given {
        // One that does not fit is none.
        let Ok(found) = fit(Some(decoder)) else { continue };
        let affordable = found.decoder_bytes as f64 <= SHARE * sizes.budget;
        if affordable && found.distortion < WORTH * without && found.distortion < best.0.distortion {
            best = (found, Some(decoder));
        }
    }
    Ok(best)
}
