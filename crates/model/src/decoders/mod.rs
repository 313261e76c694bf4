//! Decoders: token and prefix vectors to logits, in half-layer steps.
//!
//! A decoder layer is an attention block followed by a feed-forward block. Passes may stop and
//! resume between any two blocks, so that whatever an edit does not touch is computed once.

mod llama;
mod opt;

pub use llama::{Llama, LlamaConfig};
pub use opt::{Opt, OptConfig};

use burn::tensor::{Int, Tensor};

use crate::change::View;
use crate::site::Stage;

/// What every decoder family offers.
pub trait Decoder: Send + Sync {
    /// Number of layers.
    fn depth(&self) -> usize;
    /// Width of the residual stream.
    fn width(&self) -> usize;
    /// Rows of the vocabulary.
    fn vocabulary(&self) -> usize;
    /// Longest sequence, image prefix included.
    fn max_positions(&self) -> usize;
    /// Prefix under which the decoder's parameters are published, e.g. `language_model.`.
    fn layer_prefix(&self, layer: usize) -> String;
    /// Published names of the feed-forward matrices that FT-L edits in `layer`.
    fn feed_forward_sites(&self, layer: usize) -> Vec<String>;
    /// Learning rate at which the reference fine-tunes this family per edit (VLKEB's settings).
    fn fine_tuning_rate(&self) -> f64;

    /// ids `[b * t]` → embeddings `[b, t, d]`, without positions.
    fn embed(&self, ids: Tensor<1, Int>, shape: [usize; 2], view: &View) -> Tensor<3>;
    /// Adds absolute positions 0, 1, … where the family has them: `[b, t, d]` → `[b, t, d]`.
    fn place(&self, x: Tensor<3>, view: &View) -> Tensor<3>;
    /// Attention block of `layer` with its residual, `[b, t, d]` → `[b, t, d]`.
    fn attention(&self, layer: usize, x: Tensor<3>, view: &View) -> Tensor<3>;
    /// Feed-forward block of `layer` with its residual; acts on every position alone.
    fn feed_forward(&self, layer: usize, x: Tensor<3>, view: &View) -> Tensor<3>;
    /// Final norm and head, `[b, t, d]` → logits `[b, t, vocabulary]`.
    fn head(&self, x: Tensor<3>, view: &View) -> Tensor<3>;

    /// Runs the blocks from `from` up to, not including, `to`.
    fn advance(&self, x: Tensor<3>, from: Stage, to: Stage, view: &View) -> Tensor<3> {
        let mut x = x;
        for layer in 0..self.depth() {
            let within = |stage: Stage| !stage.precedes(from) && stage.precedes(to);
            if within(Stage::Attention(layer)) {
                x = self.attention(layer, x, view);
            }
            if within(Stage::FeedForward(layer)) {
                x = self.feed_forward(layer, x, view);
            }
        }
        x
    }
}
