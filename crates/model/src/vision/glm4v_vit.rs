//! The vision tower of GLM-4V (EVA2-CLIP in the published code): the norm stands behind each
//! sub-layer, inside the residual.

use serde::Deserialize;

use super::block::{BlockPlan, Labels, Stored};
use super::tower::{Tower, TowerPlan, side};
use crate::decoders::Home;
use crate::error::Result;
use crate::loader::Loader;

/// `vision_config`, with the published values of GLM-4V-9B as defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Glm4vVisionConfig {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_heads: usize,
    #[serde(deserialize_with = "side")]
    image_size: usize,
    #[serde(deserialize_with = "side")]
    patch_size: usize,
    hidden_act: String,
    layer_norm_eps: f64,
    /// What the vectors behind the projector are divided by.
    pub scaling_factor: f64,
}

impl Default for Glm4vVisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 1792,
            intermediate_size: 15360,
            num_hidden_layers: 63,
            num_heads: 16,
            image_size: 1120,
            patch_size: 14,
            hidden_act: "gelu".into(),
            layer_norm_eps: 1e-6,
            scaling_factor: 8.0,
        }
    }
}

const LABELS: Labels = Labels {
    norm1: "input_layernorm",
    qkv: Stored::Packed("attention.query_key_value"),
    qk_norms: None,
    out: "attention.dense",
    norm2: "post_attention_layernorm",
    scales: None,
};

impl Glm4vVisionConfig {
    /// Loads the tower under `transformer.vision.`; `home` is this configuration, for messages.
    ///
    /// # Errors
    /// Missing or misshapen tensors; an unknown activation; sizes that do not divide.
    pub fn load(&self, loader: &mut Loader, home: Home) -> Result<Tower> {
        home.check_heads("num_heads", self.num_heads, self.hidden_size)?;
        let plan = TowerPlan {
            at: "transformer.vision.",
            image_size: self.image_size,
            patch_size: self.patch_size,
            depth: self.num_hidden_layers,
            used: self.num_hidden_layers,
            patches: ("patch_embedding.proj", true),
            class: ("patch_embedding.cls_embedding", &[1]),
            positions: ("patch_embedding.position_embedding.weight", &[]),
            pre_norm: None,
            blocks: "transformer.layers",
            post_norm: None,
            block: BlockPlan {
                width: self.hidden_size,
                inner: self.intermediate_size,
                heads: self.num_heads,
                activation: home.activation("hidden_act", &self.hidden_act)?,
                eps: self.layer_norm_eps,
                rms: false,
                qkv_bias: true,
                norms_follow: true,
                labels: LABELS,
            },
        };
        Tower::load(loader, &plan, home)
    }
}
