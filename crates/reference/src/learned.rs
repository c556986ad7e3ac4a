//! Section `DECO`: `docs/format.md`, section 15, written from that text alone.

use crate::{
    mlp::{Layer, Mlp},
    model::LIMIT,
    packed::Cursor,
};

/// A learned decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Learned {
    /// Rows to score again for ten hits.
    pub shortlist: usize,
    /// U: what coordinates are divided by.
    pub unit: f64,
    /// The energy of rows it was not trained on; NaN when it was not measured.
    pub unseen_energy: f64,
    /// The layers, for coordinates in that unit.
    pub mlp: Mlp,
}

/// Parses the section; `active` are the directions of the chart.
pub fn parse(bytes: &[u8], active: usize) -> Result<Learned, String> {
    let mut at = Cursor::new("DECO", bytes);
    let (hidden, bits) = (at.u8()?, at.u8()?);
    at.zeros(2)?;
    let (width, shortlist) = (at.count32()?, at.count32()?);
    let (unit, unseen_energy) = (at.f32()?, at.f64()?);
    if !(1..=4).contains(&hidden) || !(1..=8).contains(&bits) || !(1..=65_536).contains(&width) {
        return Err(format!("DECO: {hidden} layers of {width} with {bits} bits"));
    }
    if !(1..=65_536).contains(&shortlist) || !unit.is_finite() || unit <= 0.0 {
        return Err(format!("DECO: a shortlist of {shortlist} or a unit of {unit}"));
    }
    let input_scale = halves(&mut at, active)?;
    let mut layers = Vec::new();
    for l in 0..=hidden {
        let inputs = if l == 0 { active } else { width };
        let outputs = if l == hidden { active } else { width };
        if inputs * outputs > LIMIT {
            return Err("DECO: a layer that is not for the oracle".into());
        }
        let steps = halves(&mut at, outputs)?;
        let bias = halves(&mut at, outputs)?;
        if steps.iter().any(|&s| s <= 0.0) {
            return Err("DECO: a step is not above 0".into());
        }
        let half = (2f64.powi(bits as i32) - 1.0) / 2.0;
        let mut weights = Vec::new();
        for step in steps {
            let codes = at.packed(bits, inputs)?;
            weights.push(codes.into_iter().map(|q| step * (f64::from(q) - half)).collect());
        }
        layers.push(Layer { weights, bias });
    }
    at.end()?;
    Ok(Learned { shortlist, unit, unseen_energy, mlp: Mlp { input_scale, layers } })
}

/// Floats of two bytes: a sign, five bits of exponent, ten of mantissa (IEEE 754 binary16), finite.
fn halves(at: &mut Cursor<'_>, count: usize) -> Result<Vec<f64>, String> {
    let bytes = at.take(2 * count)?;
    let value = |pair: &[u8]| {
        let word = u16::from_le_bytes([pair[0], pair[1]]);
        let (exponent, mantissa) = (i32::from(word >> 10 & 31), f64::from(word & 1023) / 1024.0);
        let size = match exponent {
            31 => return Err("DECO: a value is not finite".to_string()),
            0 => mantissa * 2f64.powi(-14),
            _ => (1.0 + mantissa) * 2f64.powi(exponent - 15),
        };
        Ok(if word >> 15 == 1 { -size } else { size })
    };
    bytes.chunks(2).map(value).collect()
}

impl Learned {
    /// y' of y.
    pub fn apply(&self, y: &[f64]) -> Vec<f64> {
        let scaled: Vec<f64> = y.iter().map(|v| v / self.unit).collect();
        self.mlp.apply(&scaled).iter().map(|v| v * self.unit).collect()
    }
}
