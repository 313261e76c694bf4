//! The BLIP-2 vision tower (EVA ViT-g in the published models).
//!
//! Patch convolution, class token first, learned positions, pre-norm blocks with fused qkv, and
//! a final norm over **all** tokens, class token included. Li et al. 2023, section 3.

use serde::Deserialize;

use super::block::{BlockPlan, Labels, Stored};
use super::tower::{Tower, TowerPlan, side};
use crate::decoders::Home;
use crate::error::Result;
use crate::loader::Loader;

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
    #[serde(deserialize_with = "side")]
    pub image_size: usize,
    /// Side of a patch, pixels.
    #[serde(deserialize_with = "side")]
    pub patch_size: usize,
    /// Activation name.
    pub hidden_act: String,
    /// Epsilon of every norm.
    pub layer_norm_eps: f64,
    /// Whether qkv has a bias.
    pub qkv_bias: bool,
    /// Epsilon of the norm behind the blocks; as the others unless given. The original code of
    /// LAVIS and MiniGPT-4 takes 1e-5 here.
    #[serde(skip)]
    pub post_norm_eps: Option<f64>,
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
            post_norm_eps: None,
        }
    }
}

const LABELS: Labels = Labels {
    norm1: "layer_norm1",
    qkv: Stored::Packed("self_attn.qkv"),
    qk_norms: None,
    out: "self_attn.projection",
    norm2: "layer_norm2",
    scales: None,
};

impl Blip2VisionConfig {
    /// Loads the tower under `vision_model.`; `home` is this configuration, for messages.
    ///
    /// # Errors
    /// Missing or misshapen tensors; an unknown activation; sizes that do not divide.
    pub fn load(&self, loader: &mut Loader, home: Home) -> Result<Tower> {
        home.check_heads(
            "num_attention_heads",
            self.num_attention_heads,
            self.hidden_size,
        )?;
        let plan = TowerPlan {
            at: "vision_model.",
            image_size: self.image_size,
            patch_size: self.patch_size,
            depth: self.num_hidden_layers,
            used: self.num_hidden_layers,
            patches: ("embeddings.patch_embedding", true),
            class: ("embeddings.class_embedding", &[1, 1]),
            positions: ("embeddings.position_embedding", &[1]),
            pre_norm: None,
            blocks: "encoder.layers",
            post_norm: Some((
                "post_layernorm",
                self.post_norm_eps.unwrap_or(self.layer_norm_eps),
            )),
            block: BlockPlan {
                width: self.hidden_size,
                inner: self.intermediate_size,
                heads: self.num_attention_heads,
                activation: home.activation("hidden_act", &self.hidden_act)?,
                eps: self.layer_norm_eps,
                rms: false,
                qkv_bias: self.qkv_bias,
                norms_follow: false,
                labels: LABELS,
            },
        };
        Tower::load(loader, &plan, home)
    }
}
