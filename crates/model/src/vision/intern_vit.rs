//! InternViT (Chen et al. 2024): pre-norm blocks with layer scale and no final norm. The 300M model
//! has layer norms; the 6B model has root-mean-square norms, also of queries and keys, and no bias
//! of queries, keys and values.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::block::{BlockPlan, Labels, Stored};
use super::tower::{Tower, TowerPlan, side, used_blocks};
use crate::decoders::Home;
use crate::error::Result;
use crate::loader::Loader;

/// `vision_config`; the two layouts spell some fields and their defaults differently.
#[derive(Clone, Debug, Deserialize)]
pub struct InternVitConfig {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    /// Side of the square input, pixels.
    #[serde(deserialize_with = "side")]
    pub image_size: usize,
    #[serde(deserialize_with = "side")]
    patch_size: usize,
    hidden_act: String,
    layer_norm_eps: f64,
    norm_type: String,
    #[serde(alias = "attention_bias")]
    qkv_bias: bool,
    #[serde(alias = "use_qk_norm")]
    qk_normalization: bool,
    #[serde(default = "yes")]
    use_absolute_position_embeddings: bool,
    #[serde(default = "yes")]
    use_mean_pooling: bool,
}

fn yes() -> bool {
    true
}

/// The names of the native layout of transformers; the original one is translated to it.
const NATIVE: Labels = Labels {
    norm1: "layernorm_before",
    qkv: Stored::Apart(["attention.q_proj", "attention.k_proj", "attention.v_proj"]),
    qk_norms: None,
    out: "attention.projection_layer",
    norm2: "layernorm_after",
    scales: Some(["lambda_1", "lambda_2"]),
};

impl InternVitConfig {
    /// Reads the configuration of the native layout.
    ///
    /// # Errors
    /// A malformed field.
    pub fn native(home: Home) -> Result<Self> {
        let defaults = json!({
            "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
            "num_attention_heads": 16, "image_size": 448, "patch_size": 14, "hidden_act": "gelu",
            "layer_norm_eps": 1e-6, "norm_type": "layer_norm", "attention_bias": false,
            "use_qk_norm": false,
        });
        Self::over(defaults, home)
    }

    /// Reads the configuration of the original layout.
    ///
    /// # Errors
    /// A malformed field.
    pub fn original(home: Home) -> Result<Self> {
        let defaults = json!({
            "hidden_size": 3200, "intermediate_size": 12800, "num_hidden_layers": 48,
            "num_attention_heads": 25, "image_size": 224, "patch_size": 14, "hidden_act": "gelu",
            "layer_norm_eps": 1e-6, "norm_type": "rms_norm", "qkv_bias": false,
            "qk_normalization": true,
        });
        Self::over(defaults, home)
    }

    fn over(defaults: Value, home: Home) -> Result<Self> {
        let fields = |value: &Value| value.as_object().cloned().unwrap_or_default();
        let mut all: Map<String, Value> = fields(&defaults);
        all.extend(fields(home.config));
        let config = Value::Object(all);
        Home {
            config: &config,
            ..home
        }
        .read()
    }

    /// Loads the tower under `vision_tower.` whose features are those of `layer`; `home` is this
    /// configuration, for messages.
    ///
    /// # Errors
    /// Missing or misshapen tensors; an unknown norm or activation; sizes that do not divide; no
    /// such layer.
    pub fn load(&self, loader: &mut Loader, layer: i64, home: Home) -> Result<Tower> {
        home.check_heads(
            "num_attention_heads",
            self.num_attention_heads,
            self.hidden_size,
        )?;
        let rms = match self.norm_type.as_str() {
            "layer_norm" => false,
            "rms_norm" => true,
            other => {
                let problem = format!("is `{other}`; known: layer_norm, rms_norm");
                return Err(home.refuse("norm_type", problem));
            }
        };
        for (field, value) in [
            (
                "use_absolute_position_embeddings",
                self.use_absolute_position_embeddings,
            ),
            ("use_mean_pooling", self.use_mean_pooling),
        ] {
            if !value {
                return Err(home.refuse(field, "is false; only true is supported".into()));
            }
        }
        let packed = "encoder.layer.0.attention.qkv.weight";
        let qkv = match loader.has(&format!("vision_tower.{packed}")) {
            true => Stored::Packed("attention.qkv"),
            false => NATIVE.qkv,
        };
        let qk_norms = self
            .qk_normalization
            .then_some(["attention.q_norm", "attention.k_norm"]);
        let plan = TowerPlan {
            at: "vision_tower.",
            image_size: self.image_size,
            patch_size: self.patch_size,
            depth: self.num_hidden_layers,
            used: used_blocks(home, self.num_hidden_layers, layer)?,
            patches: ("embeddings.patch_embeddings.projection", true),
            class: ("embeddings.cls_token", &[1, 1]),
            positions: ("embeddings.position_embeddings", &[1]),
            pre_norm: None,
            blocks: "encoder.layer",
            post_norm: None,
            block: BlockPlan {
                width: self.hidden_size,
                inner: self.intermediate_size,
                heads: self.num_attention_heads,
                activation: home.activation("hidden_act", &self.hidden_act)?,
                eps: self.layer_norm_eps,
                rms,
                qkv_bias: self.qkv_bias,
                norms_follow: false,
                labels: Labels {
                    qkv,
                    qk_norms,
                    ..NATIVE
                },
            },
        };
        Tower::load(loader, &plan, home)
    }
}
