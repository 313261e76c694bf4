//! The affine map, and the place where edits of it are watched.

use burn::tensor::Tensor;

use super::matrix::{Matrix, Vector};
use crate::change::View;
use crate::error::Result;
use crate::loader::{Loader, Place};
use crate::parameter::Orientation;

/// `y = x Wᵀ + b`, weight `[d_out, d_in]` (or `[d_in, d_out]`, where a checkpoint says so).
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Matrix,
    bias: Option<Vector>,
}

impl Linear {
    /// Loads `{prefix}.weight` and, if the layer has one, `{prefix}.bias`.
    ///
    /// # Errors
    /// What the source of the weights refuses.
    pub fn load(
        loader: &mut Loader,
        prefix: &str,
        [d_out, d_in]: [usize; 2],
        bias: bool,
        place: Place,
    ) -> Result<Self> {
        let name = format!("{prefix}.weight");
        let weight = loader.linear(&name, [d_out, d_in], Orientation::OutIn, place)?;
        let bias = match bias {
            true => Some(loader.vector(&format!("{prefix}.bias"), d_out, place)?),
            false => None,
        };
        Ok(Self { weight, bias })
    }

    /// As [`Linear::load`] with bias, for a weight stored `[d_in, d_out]` (GPT-2's `Conv1D`).
    ///
    /// # Errors
    /// What the source of the weights refuses.
    pub fn load_input_first(
        loader: &mut Loader,
        prefix: &str,
        [d_out, d_in]: [usize; 2],
        place: Place,
    ) -> Result<Self> {
        let name = format!("{prefix}.weight");
        Ok(Self {
            weight: loader.linear(&name, [d_in, d_out], Orientation::InOut, place)?,
            bias: Some(loader.vector(&format!("{prefix}.bias"), d_out, place)?),
        })
    }

    /// x `[b, t, d_in]` → `[b, t, d_out]`.
    pub fn forward(&self, x: Tensor<3>, view: &View) -> Tensor<3> {
        view.watch(self.weight.name(), x, |x| self.compute(x, view))
    }

    fn compute(&self, x: Tensor<3>, view: &View) -> Tensor<3> {
        let Some(bias) = &self.bias else {
            return self.weight.product(x, view);
        };
        match bias.uniform(view) {
            Some(shared) => self.weight.affine(x, Some(shared), view),
            None => bias.add(self.weight.product(x, view), view),
        }
    }
}
