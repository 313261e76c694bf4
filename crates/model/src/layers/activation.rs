//! The activations named in published configurations.

use burn::tensor::Tensor;
use burn::tensor::activation as op;

use crate::cpu;

/// An element-wise activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `max(0, x)`.
    Relu,
    /// Exact GELU, by erf.
    Gelu,
    /// The tanh approximation of GELU.
    GeluTanh,
    /// `x σ(1.702 x)`.
    QuickGelu,
    /// `x σ(x)`.
    Silu,
}

impl Activation {
    /// Names accepted by [`Activation::named`], for messages.
    pub const KNOWN: &str = "relu, gelu, gelu_new, gelu_pytorch_tanh, quick_gelu, silu";

    /// By its name in `config.json`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "relu" => Some(Self::Relu),
            "gelu" => Some(Self::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Some(Self::GeluTanh),
            "quick_gelu" => Some(Self::QuickGelu),
            "silu" | "swish" => Some(Self::Silu),
            _ => None,
        }
    }

    /// Element-wise.
    pub fn apply(self, x: Tensor<3>) -> Tensor<3> {
        let x = match cpu::apply(self, x) {
            Ok(done) => return done,
            Err(x) => x,
        };
        match self {
            Self::Relu => op::relu(x),
            Self::Gelu => op::gelu(x),
            Self::GeluTanh => cpu::gelu_tanh_tangent(x).unwrap_or_else(op::gelu_approximate),
            Self::QuickGelu => x.clone() * op::sigmoid(x.mul_scalar(1.702)),
            Self::Silu => op::silu(x),
        }
    }
}
