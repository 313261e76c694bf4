//! The two-layer projector of LLaVA-1.5 (Liu et al. 2024), which InternVL uses too.

use burn::tensor::Tensor;

use crate::change::View;
use crate::error::Result;
use crate::layers::{Activation, Linear};
use crate::loader::{Loader, Place};
use crate::parameter::Stage;

/// `W2 σ(W1 x + b1) + b2`.
#[derive(Clone, Debug)]
pub struct Mlp {
    first: Linear,
    second: Linear,
    activation: Activation,
}

impl Mlp {
    /// Loads `{at}linear_1` and `{at}linear_2` from `inputs` to `outputs` entries.
    ///
    /// # Errors
    /// Missing or misshapen tensors.
    pub fn load(
        loader: &mut Loader,
        at: &str,
        (inputs, outputs): (usize, usize),
        bias: bool,
        activation: Activation,
    ) -> Result<Self> {
        let place = Place::vision(Stage::Projector);
        let mut linear = |name: &str, inputs: usize| {
            Linear::load(
                loader,
                &format!("{at}{name}"),
                [outputs, inputs],
                bias,
                place,
            )
        };
        Ok(Self {
            first: linear("linear_1", inputs)?,
            second: linear("linear_2", outputs)?,
            activation,
        })
    }

    /// x `[n, t, inputs]` → `[n, t, outputs]`.
    pub fn forward(&self, x: Tensor<3>, view: &View) -> Tensor<3> {
        let h = self.activation.apply(self.first.forward(x, view));
        self.second.forward(h, view)
    }
}
