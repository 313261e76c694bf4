//! The projector of InternVL: squares of neighbouring features become one ("pixel shuffle", version
//! 2 of the published code), then a norm and two layers.

use burn::tensor::Tensor;

use super::Mlp;
use crate::change::View;
use crate::error::Result;
use crate::layers::{Activation, LayerNorm};
use crate::loader::{Loader, Place};
use crate::parameter::Stage;

/// Epsilon of the norm, which is PyTorch's own.
const EPS: f64 = 1e-5;

/// Features `[n, 1 + grid², c]`, class token first → vectors `[n, (grid / side)², d]`.
#[derive(Clone, Debug)]
pub struct PixelShuffle {
    grid: usize,
    side: usize,
    norm: LayerNorm,
    mlp: Mlp,
}

impl PixelShuffle {
    /// Loads what stands under `multi_modal_projector.` for features `[grid², c]`, of which `side`
    /// times `side` make one vector of `width` entries; `side` divides `grid`.
    ///
    /// # Errors
    /// Missing or misshapen tensors.
    pub fn load(
        loader: &mut Loader,
        (grid, c): (usize, usize),
        side: usize,
        width: usize,
        activation: Activation,
    ) -> Result<Self> {
        let at = "multi_modal_projector.";
        let inputs = c * side * side;
        let place = Place::vision(Stage::Projector);
        Ok(Self {
            grid,
            side,
            norm: LayerNorm::load(loader, &format!("{at}layer_norm"), inputs, EPS, place)?,
            mlp: Mlp::load(loader, at, (inputs, width), true, activation)?,
        })
    }

    /// Vectors per tile.
    pub fn vectors(&self) -> usize {
        (self.grid / self.side).pow(2)
    }

    /// Features `[n, 1 + grid², c]` → vectors.
    pub fn forward(&self, features: Tensor<3>, view: &View) -> Tensor<3> {
        let [n, tokens, c] = features.dims();
        let (side, cells) = (self.side, self.grid / self.side);
        let shuffled = features
            .narrow(1, 1, tokens - 1)
            .reshape([n, cells, side, cells, side, c])
            .permute([0, 1, 3, 2, 4, 5])
            .reshape([n, cells * cells, side * side * c]);
        view.note("pixel_shuffled", &shuffled);
        self.mlp.forward(self.norm.forward(shuffled, view), view)
    }
}
