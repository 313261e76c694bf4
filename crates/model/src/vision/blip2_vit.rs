//! The BLIP-2 vision tower (EVA ViT-g in the published models).
//!
//! Patch convolution, class token first, learned positions, pre-norm blocks with fused qkv, and
//! a final norm over **all** tokens, class token included. Li et al. 2023, section 3.

use burn::tensor::Tensor;
use serde::Deserialize;

use crate::change::View;
use crate::error::{Error, Result};
use crate::layers::{Activation, LayerNorm, Linear, Matrix, Vector, attend, split_heads};
use crate::loader::{Loader, Place};
use crate::site::Stage;

/// `vision_config` of a BLIP-2 `config.json`, with the published defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Blip2VisionConfig {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward block.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Side of the square input, pixels.
    pub image_size: usize,
    /// Side of a patch, pixels.
    pub patch_size: usize,
    /// Activation name.
    pub hidden_act: String,
    /// Epsilon of every norm.
    pub layer_norm_eps: f64,
    /// Whether qkv has a bias.
    pub qkv_bias: bool,
}

impl Default for Blip2VisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 1408,
            intermediate_size: 6144,
            num_hidden_layers: 39,
            num_attention_heads: 16,
            image_size: 224,
            patch_size: 14,
            hidden_act: "gelu".into(),
            layer_norm_eps: 1e-6,
            qkv_bias: true,
        }
    }
}

/// The tower.
#[derive(Clone, Debug)]
pub struct Blip2Vision {
    patch: Matrix,
    patch_bias: Vector,
    class: Matrix,
    positions: Matrix,
    blocks: Vec<Block>,
    post_norm: LayerNorm,
    image_size: usize,
    patch_size: usize,
}

#[derive(Clone, Debug)]
struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    projection: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: usize,
    activation: Activation,
}

impl Blip2Vision {
    /// Loads the tower under `vision_model.`.
    ///
    /// # Errors
    /// Missing or misshapen tensors; an unknown activation; sizes that do not divide.
    pub fn load(loader: &mut Loader, config: &Blip2VisionConfig, location: &str) -> Result<Self> {
        let refuse = |field: &str, problem: String| Error::Config {
            location: location.to_owned(),
            field: format!("vision_config.{field}"),
            problem,
        };
        let activation = Activation::named(&config.hidden_act).ok_or_else(|| {
            refuse(
                "hidden_act",
                format!("is `{}`; known: relu, gelu, silu", config.hidden_act),
            )
        })?;
        if config.patch_size == 0 || !config.image_size.is_multiple_of(config.patch_size) {
            return Err(refuse("patch_size", "must divide image_size".into()));
        }
        if config.num_attention_heads == 0
            || !config
                .hidden_size
                .is_multiple_of(config.num_attention_heads)
        {
            return Err(refuse(
                "num_attention_heads",
                "must divide hidden_size".into(),
            ));
        }
        let place = Place::vision(Stage::Vision);
        let (width, side) = (config.hidden_size, config.patch_size);
        let tokens = (config.image_size / side).pow(2) + 1;
        let embeddings = "vision_model.embeddings";
        let patch = loader.matrix(
            &format!("{embeddings}.patch_embedding.weight"),
            &[width, 3, side, side],
            place,
        )?;
        let blocks = (0..config.num_hidden_layers)
            .map(|index| Block::load(loader, config, activation, index))
            .collect::<Result<_>>()?;
        Ok(Self {
            patch,
            patch_bias: loader.vector(
                &format!("{embeddings}.patch_embedding.bias"),
                width,
                place,
            )?,
            class: loader.matrix(
                &format!("{embeddings}.class_embedding"),
                &[1, 1, width],
                place,
            )?,
            positions: loader.matrix(
                &format!("{embeddings}.position_embedding"),
                &[1, tokens, width],
                place,
            )?,
            blocks,
            post_norm: LayerNorm::load(
                loader,
                "vision_model.post_layernorm",
                width,
                config.layer_norm_eps,
                place,
            )?,
            image_size: config.image_size,
            patch_size: side,
        })
    }

    /// Side of the square input, pixels.
    pub fn image_size(&self) -> usize {
        self.image_size
    }

    /// pixels `[n, 3, s, s]` → tokens `[n, 1 + patches, width]`.
    pub fn forward(&self, pixels: Tensor<4>, view: &View) -> Tensor<3> {
        let n = pixels.dims()[0];
        let x = self.patch.product(self.patches(pixels), view);
        let x = self.patch_bias.add(x, view);
        let width = x.dims()[2];
        let class = self
            .class
            .shared(view)
            .unsqueeze::<3>()
            .expand([n, 1, width]);
        let x = Tensor::cat(vec![class, x], 1) + self.positions.shared(view).unsqueeze();
        let x = self
            .blocks
            .iter()
            .fold(x, |x, block| block.forward(x, view));
        self.post_norm.forward(x, view)
    }

    /// A convolution whose stride is its kernel is a product over cut-out patches:
    /// `[n, 3, s, s]` → `[n, patches, 3 * p * p]`, channels first within a patch.
    fn patches(&self, pixels: Tensor<4>) -> Tensor<3> {
        let n = pixels.dims()[0];
        let (p, grid) = (self.patch_size, self.image_size / self.patch_size);
        pixels
            .reshape([n, 3, grid, p, grid, p])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([n, grid * grid, 3 * p * p])
    }
}

impl Block {
    fn load(
        loader: &mut Loader,
        config: &Blip2VisionConfig,
        activation: Activation,
        index: usize,
    ) -> Result<Self> {
        let place = Place::vision(Stage::Vision);
        let (d, f, eps) = (
            config.hidden_size,
            config.intermediate_size,
            config.layer_norm_eps,
        );
        let at = |name: &str| format!("vision_model.encoder.layers.{index}.{name}");
        Ok(Self {
            norm1: LayerNorm::load(loader, &at("layer_norm1"), d, eps, place)?,
            qkv: Linear::load(
                loader,
                &at("self_attn.qkv"),
                [3 * d, d],
                config.qkv_bias,
                place,
            )?,
            projection: Linear::load(loader, &at("self_attn.projection"), [d, d], true, place)?,
            norm2: LayerNorm::load(loader, &at("layer_norm2"), d, eps, place)?,
            fc1: Linear::load(loader, &at("mlp.fc1"), [f, d], true, place)?,
            fc2: Linear::load(loader, &at("mlp.fc2"), [d, f], true, place)?,
            heads: config.num_attention_heads,
            activation,
        })
    }

    fn forward(&self, x: Tensor<3>, view: &View) -> Tensor<3> {
        let width = x.dims()[2];
        let qkv = self.qkv.forward(self.norm1.forward(x.clone(), view), view);
        // Rows of qkv: all of q, then k, then v; head-major inside each.
        let part = |i: usize| split_heads(qkv.clone().narrow(2, i * width, width), self.heads);
        let x = x + self
            .projection
            .forward(attend(part(0), part(1), part(2), false), view);
        let h = self.fc1.forward(self.norm2.forward(x.clone(), view), view);
        x + self.fc2.forward(self.activation.apply(h), view)
    }
}
