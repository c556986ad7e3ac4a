//! The learned decoder: section `DECO` (docs/format.md, section 15).

use half::f16;

use super::{
    bits::{pack, u32_at, u64_at},
    meta::Meta,
    model::Reader,
};
use crate::{
    error::ParseError,
    matrix::Mat,
    model::{
        Model,
        learned::{Learned, MOST_HIDDEN, MOST_SHORTLIST, MOST_WEIGHTS},
        mlp::{Dense, Mlp, top},
    },
};

const PART: &str = "DECO";
const HEAD: usize = 24;

fn put_halves(values: &[f32], out: &mut Vec<u8>) {
    values.iter().for_each(|&v| out.extend_from_slice(&f16::from_f32(v).to_le_bytes()));
}

/// Section `DECO`.
pub(crate) fn learned_bytes(learned: &Learned) -> Vec<u8> {
    let (mlp, shape) = (learned.mlp(), learned.shape());
    let mut out = vec![shape.layers as u8, shape.bits, 0, 0];
    out.extend_from_slice(&(shape.width as u32).to_le_bytes());
    out.extend_from_slice(&learned.shortlist.to_le_bytes());
    out.extend_from_slice(&learned.unit.to_le_bytes());
    out.extend_from_slice(&learned.unseen_energy.to_le_bytes());
    put_halves(&mlp.input_scale, &mut out);
    let half = top(shape.bits);
    for dense in &mlp.layers {
        put_halves(&dense.steps, &mut out);
        put_halves(&dense.bias, &mut out);
        for (o, step) in dense.steps.iter().enumerate() {
            let codes = dense.weights.row(o).iter().map(|w| (w / step + half).round().clamp(0.0, 2.0 * half) as u32);
            pack(codes, shape.bits, &mut out);
        }
    }
    out
}

pub(super) fn parse(bytes: &[u8], meta: &Meta, model: &Model) -> Result<Learned, ParseError> {
    let bad = |message: String| Err(ParseError::invalid(PART, message));
    let [chart] = model.charts.as_slice() else {
        return bad(format!("{} charts beside it, where one is allowed", model.charts.len()));
    };
    if !meta.alpha.is_finite() {
        return bad("the exponent of the factor is not finite".into());
    }
    let mut r = Reader::new(PART, bytes);
    let head = r.take(HEAD)?;
    let (hidden, bits, width, shortlist) = (usize::from(head[0]), head[1], u32_at(head, 4) as usize, u32_at(head, 8));
    if !(1..=MOST_HIDDEN).contains(&hidden)
        || !(1..=8).contains(&bits)
        || !(1..=65_536).contains(&width)
        || !(1..=MOST_SHORTLIST).contains(&shortlist)
    {
        return bad(format!("{hidden} layers of {width} with {bits} bits, a shortlist of {shortlist}: out of range"));
    }
    if head[2..4].iter().any(|&b| b != 0) {
        return bad("reserved bytes are not zero".into());
    }
    let unit = f32::from_bits(u32_at(head, 12));
    if !(unit.is_finite() && unit > 0.0) {
        return bad("the unit of coordinates is not above 0".into());
    }
    let unseen_energy = f64::from_bits(u64_at(head, 16));
    let active = chart.active();
    let input_scale = r.halves(active)?;
    let weights = (2 * active).saturating_add((hidden - 1) * width).saturating_mul(width);
    if weights > MOST_WEIGHTS {
        return bad(format!("{weights} weights; {MOST_WEIGHTS} are allowed"));
    }
    let half = top(bits);
    let mut layers = Vec::with_capacity(hidden + 1);
    for l in 0..=hidden {
        let inputs = if l == 0 { active } else { width };
        let outputs = if l == hidden { active } else { width };
        let steps = r.halves(outputs)?;
        let bias = r.halves(outputs)?;
        if steps.iter().any(|&s| s <= 0.0) {
            return bad("a step is not above 0".into());
        }
        let codes = r.columns(&vec![bits; outputs], inputs)?;
        let mut weights = Mat::zeros(outputs, inputs);
        if inputs > 0 {
            let rows = weights.as_mut_slice().chunks_exact_mut(inputs).zip(codes.chunks_exact(inputs)).zip(&steps);
            rows.for_each(|((row, codes), &step)| {
                row.iter_mut().zip(codes).for_each(|(w, &q)| *w = step * (f32::from(q) - half));
            });
        }
        layers.push(Dense { weights, bias, steps });
    }
    r.end()?;
    Ok(Learned::stored(Mlp { input_scale, layers, bits }, unit, shortlist, unseen_energy))
}
