//! Layers over named parameters, in the checkpoint's own orientation and number format.
//!
//! Every layer takes the [`View`](crate::View) it should compute through. A view may hold one
//! value per group of rows; rows of a batch `[b, t, d]` belong to `g` contiguous groups of `b / g`
//! rows. Weights stay as they are stored (f32, f16, bf16); the numbers computed with are those of
//! the activations, which are f32 unless a caller asks for less.

mod activation;
mod attention;
mod embedding;
mod linear;
mod matrix;
mod norm;
mod patches;
mod rotary;

pub use activation::Activation;
pub(crate) use attention::{Visible, attend, repeat_heads, split_heads};
pub(crate) use embedding::Embedding;
pub(crate) use linear::Linear;
pub use matrix::Matrix;
pub(crate) use matrix::Vector;
pub(crate) use norm::{LayerNorm, Norm, RmsNorm};
pub(crate) use patches::Patches;
pub(crate) use rotary::{Pairing, Rotary, RotaryConfig};
