//! A picture as a row of patches.

use burn::tensor::Tensor;

use super::matrix::{Matrix, Vector};
use crate::change::View;
use crate::error::Result;
use crate::loader::{Loader, Place};
use crate::parameter::Orientation;

/// The patch convolution, whose stride is its kernel: a product over cut-out squares.
#[derive(Clone, Debug)]
pub struct Patches {
    weight: Matrix,
    bias: Option<Vector>,
    side: usize,
}

impl Patches {
    /// Loads `{prefix}.weight` `[width, channels, side, side]` and, if `bias`, `{prefix}.bias`.
    ///
    /// # Errors
    /// What the source of the weights refuses.
    pub fn load(
        loader: &mut Loader,
        prefix: &str,
        [width, channels, side]: [usize; 3],
        bias: bool,
        place: Place,
    ) -> Result<Self> {
        let shape = [width, channels, side, side];
        let name = format!("{prefix}.weight");
        Ok(Self {
            weight: loader.folded(&name, &shape, Some(Orientation::OutIn), place)?,
            bias: match bias {
                true => Some(loader.vector(&format!("{prefix}.bias"), width, place)?),
                false => None,
            },
            side,
        })
    }

    /// `[n, channels, h, w]` → `[n, h/side * w/side, width]`, row by row.
    pub fn forward(&self, x: Tensor<4>, view: &View) -> Tensor<3> {
        let [n, channels, height, width] = x.dims();
        let (p, rows, columns) = (self.side, height / self.side, width / self.side);
        let patches = x
            .reshape([n, channels, rows, p, columns, p])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([n, rows * columns, channels * p * p]);
        view.watch(self.weight.name(), patches, |patches| {
            let x = self.weight.product(patches, view);
            match &self.bias {
                Some(bias) => bias.add(x, view),
                None => x,
            }
        })
    }
}
