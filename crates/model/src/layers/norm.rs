//! Layer norm and root-mean-square norm.

use burn::tensor::module::layer_norm;
use burn::tensor::{DType, Tensor};

use super::matrix::Vector;
use crate::change::View;
use crate::cpu;
use crate::dtype::as_dtype;
use crate::error::Result;
use crate::loader::{Loader, Place};

/// `y = (x - mean) / sqrt(var + eps) ⊙ w + b`, biased variance.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Vector,
    bias: Vector,
    eps: f64,
}

impl LayerNorm {
    /// Loads `{prefix}.weight` and `{prefix}.bias`, or `.gamma` and `.beta` as the first BERT
    /// checkpoints call them.
    ///
    /// # Errors
    /// What the source of the weights refuses.
    pub fn load(
        loader: &mut Loader,
        prefix: &str,
        width: usize,
        eps: f64,
        place: Place,
    ) -> Result<Self> {
        let old = loader.has(&format!("{prefix}.gamma"));
        let (weight, bias) = if old {
            ("gamma", "beta")
        } else {
            ("weight", "bias")
        };
        Ok(Self {
            weight: loader.vector(&format!("{prefix}.{weight}"), width, place)?,
            bias: loader.vector(&format!("{prefix}.{bias}"), width, place)?,
            eps,
        })
    }

    /// x `[b, t, d]` → `[b, t, d]`; computed in f32 where x is in less.
    pub fn forward(&self, x: Tensor<3>, view: &View) -> Tensor<3> {
        let dtype = x.dtype();
        let wide = at_least_f32(dtype);
        as_dtype(self.normalised(as_dtype(x, wide), view), dtype)
    }

    fn normalised(&self, x: Tensor<3>, view: &View) -> Tensor<3> {
        if let (false, Some(gamma), Some(beta)) = (
            x.is_autodiff(),
            self.weight.uniform(view),
            self.bias.uniform(view),
        ) {
            let [gamma, beta] = [gamma, beta].map(|vector| as_dtype(vector, x.dtype()));
            return layer_norm(x, gamma, Some(beta), self.eps);
        }
        let centred = x.clone() - x.mean_dim(2);
        let variance = centred.clone().square().mean_dim(2);
        let normal = centred / variance.add_scalar(self.eps).sqrt();
        self.bias.add(self.weight.scale(normal, view), view)
    }
}

/// `y = x / sqrt(mean(x²) + eps) ⊙ w`.
#[derive(Clone, Debug)]
pub struct RmsNorm {
    weight: Vector,
    eps: f64,
}

impl RmsNorm {
    /// Loads `{prefix}.weight`.
    ///
    /// # Errors
    /// What the source of the weights refuses.
    pub fn load(
        loader: &mut Loader,
        prefix: &str,
        width: usize,
        eps: f64,
        place: Place,
    ) -> Result<Self> {
        Ok(Self {
            weight: loader.vector(&format!("{prefix}.weight"), width, place)?,
            eps,
        })
    }

    /// x `[b, t, d]` → `[b, t, d]`; the mean is taken in f32 where x is in less.
    pub fn forward(&self, x: Tensor<3>, view: &View) -> Tensor<3> {
        let x = match self.weight.uniform(view) {
            None => x,
            Some(weight) => match cpu::rms_norm(x, &weight, self.eps as f32) {
                Ok(done) => return done,
                Err(x) => x,
            },
        };
        let dtype = x.dtype();
        let wide = as_dtype(x, at_least_f32(dtype));
        let scale = wide
            .clone()
            .square()
            .mean_dim(2)
            .add_scalar(self.eps)
            .sqrt()
            .recip();
        let normal = as_dtype(wide * scale, dtype);
        self.weight.scale(normal, view)
    }
}

fn at_least_f32(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    }
}

/// The norm of a family that ships in both kinds.
#[derive(Clone, Debug)]
pub enum Norm {
    /// With mean and bias.
    Layer(LayerNorm),
    /// Without.
    Rms(RmsNorm),
}

impl Norm {
    /// x `[b, t, d]` → `[b, t, d]`.
    pub fn forward(&self, x: Tensor<3>, view: &View) -> Tensor<3> {
        match self {
            Self::Layer(norm) => norm.forward(x, view),
            Self::Rms(norm) => norm.forward(x, view),
        }
    }
}
