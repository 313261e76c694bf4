//! The projector of GLM-4V: a convolution halves the grid, a gated layer widens it, and a learned
//! vector stands at either end.

use burn::tensor::Tensor;

use crate::change::View;
use crate::error::Result;
use crate::layers::{Activation, LayerNorm, Linear, Matrix, Patches};
use crate::loader::{Loader, Place};
use crate::parameter::Stage;

/// Side of the squares that become one vector.
const SIDE: usize = 2;

/// Epsilon of the norm, which is PyTorch's own.
const EPS: f64 = 1e-5;

/// Features `[n, 1 + grid², c]`, class token first → vectors `[n, 2 + (grid / 2)², d]`.
#[derive(Clone, Debug)]
pub struct GluProjector {
    grid: usize,
    conv: Patches,
    linear: Linear,
    norm: LayerNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
    begin: Matrix,
    end: Matrix,
    scaling: f64,
}

impl GluProjector {
    /// Loads what stands under `transformer.vision.` behind the tower, for features `[grid², c]`,
    /// to vectors of `width` entries over `inner` ones; `grid` is even.
    ///
    /// # Errors
    /// Missing or misshapen tensors.
    pub fn load(
        loader: &mut Loader,
        (grid, c): (usize, usize),
        (width, inner): (usize, usize),
        scaling: f64,
    ) -> Result<Self> {
        let place = Place::vision(Stage::Projector);
        let at = |name: &str| format!("transformer.vision.{name}");
        let conv = Patches::load(loader, &at("conv"), [width, c, SIDE], true, place)?;
        let norm = LayerNorm::load(loader, &at("linear_proj.norm1"), width, EPS, place)?;
        let begin = loader.matrix(&at("boi"), &[1, 1, width], place)?;
        let end = loader.matrix(&at("eoi"), &[1, 1, width], place)?;
        let mut linear = |name: &str, shape: [usize; 2]| {
            Linear::load(
                loader,
                &at(&format!("linear_proj.{name}")),
                shape,
                false,
                place,
            )
        };
        Ok(Self {
            grid,
            conv,
            linear: linear("linear_proj", [width, width])?,
            norm,
            gate: linear("gate_proj", [inner, width])?,
            up: linear("dense_h_to_4h", [inner, width])?,
            down: linear("dense_4h_to_h", [width, inner])?,
            begin,
            end,
            scaling,
        })
    }

    /// Vectors per picture.
    pub fn vectors(&self) -> usize {
        (self.grid / SIDE).pow(2) + 2
    }

    /// Features `[n, 1 + grid², c]` → vectors.
    pub fn forward(&self, features: Tensor<3>, view: &View) -> Tensor<3> {
        let [n, tokens, c] = features.dims();
        let cells = features
            .narrow(1, 1, tokens - 1)
            .reshape([n, self.grid, self.grid, c])
            .permute([0, 3, 1, 2]);
        let x = self.conv.forward(cells, view);
        view.note("vision.downsampled", &x);
        let x = self.norm.forward(self.linear.forward(x, view), view);
        let x = Activation::Gelu.apply(x);
        let gate = Activation::Silu.apply(self.gate.forward(x.clone(), view));
        let x = self.down.forward(gate * self.up.forward(x, view), view);
        let [_, _, width] = x.dims();
        let row = |table: &Matrix| {
            let row = table.shared(view).unsqueeze::<3>();
            row.expand([n, 1, width])
        };
        Tensor::cat(vec![row(&self.begin), x, row(&self.end)], 1).div_scalar(self.scaling)
    }
}
