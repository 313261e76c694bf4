//! Bridges: image tokens to vectors of the decoder's width.

mod qformer;

pub use qformer::{QFormer, QFormerConfig};
