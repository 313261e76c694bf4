//! Multimodal language models on burn: published checkpoints, named edit sites, and views.
//!
//! A model is loaded once and never written. What an editor proposes is a [`Change`]; a forward
//! pass looks at the weights through a [`View`] that lays changes over them, one for all rows or
//! one per group of rows.

mod batch;
mod bridge;
mod change;
mod decoders;
mod error;
mod families;
pub mod host;
mod layers;
mod likelihood;
mod loader;
mod mllm;
pub mod optim;
mod parallel;
mod pixels;
pub mod pretrain;
mod site;
mod text;
mod vision;

pub use batch::{Batch, ImageSpan, Row};
pub use change::{Change, Delta, Parameters, View};
pub use decoders::Decoder;
pub use error::{Error, Result};
pub use likelihood::{answer_nll, answer_scores, locality};
pub use loader::{Fresh, Weights};
pub use mllm::{Mllm, Question};
pub use parallel::in_order;
pub use pixels::{PixelConfig, resize_bicubic};
pub use site::{Side, Site, Stage};
pub use text::{IMAGE_TOKEN, Joined, Text, train_byte_level_bpe, train_metaspace_bpe};
