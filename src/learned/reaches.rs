//! Rows whose distance from their anchor is stored: what the network adds to the anchor is brought to that length.

use crate::{
    math::product::dot,
    matrix::{Mat, MatRef},
    model::Model,
};

/// What is no longer has no direction (docs/format.md, section 7).
const NOTHING: f32 = 1e-6;

/// The levels, and what the anchors take.
#[derive(Debug)]
pub(super) struct Reaches {
    /// By factor code.
    levels: Vec<f32>,
    /// Squared lengths of the anchors (and the mean) as vectors.
    squares: Vec<f32>,
    /// Anchors x active: their products with the directions of the decoder.
    along: Mat,
}

impl Reaches {
    /// Of a model that has levels: from its `directions` and its anchors (K x active), both in the unit of the network. O(K active d).
    pub(super) fn new(model: &Model, directions: MatRef<'_>, anchors: MatRef<'_>) -> Option<Reaches> {
        let levels = model.side.reaches.clone();
        if levels.is_empty() {
            return None;
        }
        let mut along = Mat::zeros(anchors.rows(), directions.rows());
        let mut squares = Vec::with_capacity(anchors.rows());
        let mut vector = vec![0f32; model.dim];
        for k in 0..anchors.rows() {
            vector.copy_from_slice(&model.mean);
            for (j, at) in anchors.row(k).iter().enumerate() {
                vector.iter_mut().zip(directions.row(j)).for_each(|(v, b)| *v += at * b);
            }
            squares.push(dot(&vector, &vector));
            along.row_mut(k).iter_mut().enumerate().for_each(|(j, a)| *a = dot(&vector, directions.row(j)));
        }
        Some(Reaches { levels, squares, along })
    }

    /// For what is added to an anchor (in the unit of the network, of squared length `square`), and the code of the row: what that is
    /// multiplied with, and the squared length of the sum.
    pub(super) fn of(&self, cell: usize, code: usize, added: &[f32], square: f32) -> (f32, f32) {
        let length = square.max(0.0).sqrt();
        let weight = if length > NOTHING { self.levels[code] / length } else { 1.0 };
        let cross = dot(self.along.row(cell), added);
        (weight, self.squares[cell] + weight * (2.0 * cross + weight * square))
    }
}
