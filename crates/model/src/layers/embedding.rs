//! Token tables and the heads tied to them.

use burn::tensor::{Int, Tensor};

use super::matrix::Matrix;
use crate::change::View;

/// A table of vectors, `[rows, d]`.
#[derive(Clone, Debug)]
pub struct Embedding(Matrix);

impl Embedding {
    /// Wraps a loaded matrix.
    pub fn new(table: Matrix) -> Self {
        Self(table)
    }

    /// ids `[b * t]` → `[b, t, d]`.
    pub fn forward(&self, ids: Tensor<1, Int>, [b, t]: [usize; 2], view: &View) -> Tensor<3> {
        let rows = self.0.select(ids, view);
        let width = rows.dims()[1];
        rows.reshape([b, t, width])
    }

    /// Logits by the transposed table: `h Eᵀ`.
    pub fn unembed(&self, h: Tensor<3>, view: &View) -> Tensor<3> {
        self.0.product(h, view)
    }
}
