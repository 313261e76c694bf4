//! How much memory a pass takes beside the weights, from the shapes of a model's parts: an upper
//! bound by which batches are chosen (`crates/edit/tests/footprint.rs` measures passes against it).

use burn::tensor::DType;

use crate::change::Parameters;
use crate::model::Model;
use crate::parameter::Stage;

/// Copies of the residual stream that live at once in a block: itself, normed, queries, keys, values
/// and what attention gives.
const STREAMS: u64 = 6;

/// Copies of a feed-forward block's inner values: gate, up and their product.
const INNER: u64 = 3;

/// Copies of attention's scores: raw, masked, normalised.
const SCORES: u64 = 3;

/// Copies of the residual stream that a block keeps for the gradient: steps of both norms, queries, keys
/// and values, what attention gives, the sums behind both blocks.
const KEPT_STREAMS: u64 = 20;

/// Copies of a feed-forward block's inner values that are kept: steps of the activation.
const KEPT_INNER: u64 = 8;

/// Copies of attention's scores that are kept.
const KEPT_SCORES: u64 = 4;

/// Copies of logits in f32: those of the base and of the edited model, as computed and as read.
const LOGITS: u64 = 4;

/// Width of the narrowest heads there are; fewer and wider ones have fewer scores.
const HEAD: usize = 64;

/// Bytes of an f32, in which scores and logits are at their largest.
const F32: u64 = 4;

/// Shapes that decide how much memory a pass takes.
#[derive(Clone, Debug)]
pub struct Footprint {
    /// Bytes of a value in the number format computed in.
    value: u64,
    decoder: Blocks,
    depth: usize,
    vocabulary: usize,
    tower: Option<Tower>,
}

/// A stack of transformer blocks.
#[derive(Clone, Copy, Debug)]
struct Blocks {
    width: usize,
    inner: usize,
}

#[derive(Clone, Copy, Debug)]
struct Tower {
    blocks: Blocks,
    /// Per tile, the class token included.
    tokens: usize,
    tiles: usize,
    side: usize,
}

impl Model {
    /// The shapes of its parts; pictures count as cut into as many tiles as they can be.
    pub fn footprint(&self) -> Footprint {
        let widest = |of: fn(Stage) -> bool| {
            let linear = self
                .parameters()
                .iter()
                .filter(|site| site.linear.is_some());
            let sizes = linear
                .filter(|site| of(site.stage))
                .map(|site| site.matrix_shape());
            sizes.flatten().max().unwrap_or(0)
        };
        let mut sites = self.parameters().iter();
        // The kernel that cuts a tile into patches: `[width, 3, side, side]`.
        let kernel = sites.find(|site| site.stage == Stage::Vision && site.shape.len() == 4);
        let tower = self.sight().ok().zip(kernel).map(|(sight, kernel)| {
            let patches = sight.image_size() / kernel.shape[3].max(1);
            Tower {
                blocks: Blocks {
                    width: kernel.shape[0],
                    inner: widest(|stage| matches!(stage, Stage::Vision | Stage::Projector)),
                },
                tokens: patches * patches + 1,
                tiles: self.most_tiles(),
                side: sight.image_size(),
            }
        });
        let outline = self.decoder().outline();
        Footprint {
            value: match self.dtype() {
                DType::F32 => F32,
                _ => 2,
            },
            decoder: Blocks {
                width: outline.width,
                inner: widest(|stage| matches!(stage, Stage::FeedForward(_))),
            },
            depth: outline.depth,
            vocabulary: outline.vocabulary,
            tower,
        }
    }
}

impl Footprint {
    /// Bytes that `rows` of `tokens` take on their way through the decoder.
    pub fn rows(&self, rows: usize, tokens: usize) -> u64 {
        self.decoder.bytes(rows, tokens, self.value)
    }

    /// Bytes of the residual stream of `rows` of `tokens`, kept at one place.
    pub fn stream(&self, rows: usize, tokens: usize) -> u64 {
        bytes(&[rows, tokens, self.decoder.width], self.value)
    }

    /// Bytes of the keys and values that are remembered of `rows` of `tokens`.
    pub fn memory(&self, rows: usize, tokens: usize) -> u64 {
        2 * self.depth as u64 * self.stream(rows, tokens)
    }

    /// Bytes of the logits of so many positions, and of what scores compute from them.
    pub fn logits(&self, positions: usize) -> u64 {
        bytes(&[positions, self.vocabulary], LOGITS * F32)
    }

    /// Bytes of what a pass of so many rows keeps for the gradient, that of every token's logits
    /// included.
    pub fn training(&self, rows: usize, tokens: usize) -> u64 {
        let layer = self.decoder.kept(rows, tokens);
        self.depth as u64 * layer + self.logits(rows * tokens)
    }

    /// Bytes that so many pictures take on their way through the tower.
    pub fn pictures(&self, pictures: usize) -> u64 {
        self.tower.map_or(0, |tower| {
            let tiles = pictures * tower.tiles;
            let pixels = bytes(&[tiles, 3, tower.side, tower.side], 2 * F32);
            pixels + tower.blocks.bytes(tiles, tower.tokens, self.value)
        })
    }

    /// Bytes of what the tower made of so many pictures.
    pub fn features(&self, pictures: usize) -> u64 {
        self.tower.map_or(0, |tower| {
            let values = [pictures * tower.tiles, tower.tokens, tower.blocks.width];
            bytes(&values, self.value)
        })
    }
}

impl Blocks {
    /// Bytes that a block of f32 keeps of `rows` of `tokens` for the gradient.
    fn kept(self, rows: usize, tokens: usize) -> u64 {
        let heads = self.width.div_ceil(HEAD);
        bytes(&[rows, tokens, self.width], KEPT_STREAMS * F32)
            + bytes(&[rows, tokens, self.inner], KEPT_INNER * F32)
            + bytes(&[rows, heads, tokens, tokens], KEPT_SCORES * F32)
    }

    /// Bytes that `rows` of `tokens` take on their way through one block, what enters it included.
    fn bytes(self, rows: usize, tokens: usize, value: u64) -> u64 {
        let heads = self.width.div_ceil(HEAD);
        bytes(&[rows, tokens, self.width], STREAMS * value)
            + bytes(&[rows, tokens, self.inner], INNER * value)
            + bytes(&[rows, heads, tokens, tokens], SCORES * F32)
    }
}

fn bytes(shape: &[usize], value: u64) -> u64 {
    shape
        .iter()
        .fold(value, |product, n| product.saturating_mul(*n as u64))
}
