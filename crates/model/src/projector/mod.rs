//! Bridges: features of a vision tower to vectors of the decoder's width.

mod glu;
mod mlp;
mod pixel_shuffle;
mod qformer;

pub use glu::GluProjector;
pub use mlp::Mlp;
pub use pixel_shuffle::PixelShuffle;
pub(crate) use qformer::QUERY_OUTPUT;
pub use qformer::{QFormer, QFormerConfig};
