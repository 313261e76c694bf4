//! The vision tower of CLIP (Radford et al. 2021), as LLaVA-1.5 uses it: no bias on the patches,
//! a norm in front of the blocks, quick GELU, and features from a layer before the last.

use serde::Deserialize;

use super::block::{BlockPlan, Labels, Stored};
use super::tower::{Tower, TowerPlan, side, used_blocks};
use crate::decoders::Home;
use crate::error::Result;
use crate::loader::Loader;

/// `vision_config`, with the published defaults of CLIP.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct ClipConfig {
    /// Kind of the tower.
    pub model_type: String,
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
}

impl Default for ClipConfig {
    fn default() -> Self {
        Self {
            model_type: KIND.into(),
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            image_size: 224,
            patch_size: 32,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: 1e-5,
        }
    }
}

const KIND: &str = "clip_vision_model";

const LABELS: Labels = Labels {
    norm1: "layer_norm1",
    qkv: Stored::Apart(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    qk_norms: None,
    out: "self_attn.out_proj",
    norm2: "layer_norm2",
    scales: None,
};

impl ClipConfig {
    /// The ViT-L/14 at 336 pixels that LLaVA-1.5 means where it says nothing.
    pub fn of_llava() -> Self {
        Self {
            hidden_size: 1024,
            intermediate_size: 4096,
            num_hidden_layers: 24,
            num_attention_heads: 16,
            image_size: 336,
            patch_size: 14,
            ..Self::default()
        }
    }

    /// Loads the tower under `vision_tower.vision_model.` whose features are those of `layer`;
    /// `home` is this configuration, for messages.
    ///
    /// # Errors
    /// Missing or misshapen tensors; another kind of tower; an unknown activation; sizes that do
    /// not divide; no such layer.
    pub fn load(&self, loader: &mut Loader, layer: i64, home: Home) -> Result<Tower> {
        if self.model_type != KIND {
            let problem = format!("is `{}`; only {KIND} is supported", self.model_type);
            return Err(home.refuse("model_type", problem));
        }
        home.check_heads(
            "num_attention_heads",
            self.num_attention_heads,
            self.hidden_size,
        )?;
        let plan = TowerPlan {
            at: "vision_tower.vision_model.",
            image_size: self.image_size,
            patch_size: self.patch_size,
            depth: self.num_hidden_layers,
            used: used_blocks(home, self.num_hidden_layers, layer)?,
            patches: ("embeddings.patch_embedding", false),
            class: ("embeddings.class_embedding", &[]),
            positions: ("embeddings.position_embedding.weight", &[]),
            // Spelt so in every published file.
            pre_norm: Some("pre_layrnorm"),
            blocks: "encoder.layers",
            post_norm: None,
            block: BlockPlan {
                width: self.hidden_size,
                inner: self.intermediate_size,
                heads: self.num_attention_heads,
                activation: home.activation("hidden_act", &self.hidden_act)?,
                eps: self.layer_norm_eps,
                rms: false,
                qkv_bias: true,
                norms_follow: false,
                labels: LABELS,
            },
        };
        Tower::load(loader, &plan, home)
    }
}
