//! OPT (Zhang et al. 2022): learned positions with an offset of two, ReLU, tied head.
//!
//! All sizes but 350m put the norm in front of each block; 350m puts it behind, has no final
//! norm, and a token table narrower than the residual stream.

use serde::Deserialize;

use super::absolute::{
    AbsoluteDecoder, AbsoluteLabels, AbsolutePlan, LayerPlan, ProjectionLabels, Weights,
};
use super::decoder::{DecoderFamily, Home};
use crate::error::Result;

/// OPT stores row `position + 2`; the first two rows are never used by real tokens.
const POSITION_OFFSET: usize = 2;

/// The norms' epsilon, which no configuration names.
const EPS: f64 = 1e-5;

/// `config.json`, with the published defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Config {
    hidden_size: usize,
    ffn_dim: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    activation_function: String,
    do_layer_norm_before: bool,
    word_embed_proj_dim: Option<usize>,
    enable_bias: bool,
    layer_norm_elementwise_affine: bool,
    tie_word_embeddings: bool,
    #[serde(rename = "_remove_final_layer_norm")]
    remove_final_layer_norm: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            ffn_dim: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            vocab_size: 50272,
            max_position_embeddings: 2048,
            activation_function: "relu".into(),
            do_layer_norm_before: true,
            word_embed_proj_dim: None,
            enable_bias: true,
            layer_norm_elementwise_affine: true,
            tie_word_embeddings: true,
            remove_final_layer_norm: false,
        }
    }
}

pub(super) const FAMILY: DecoderFamily = DecoderFamily {
    model_type: "opt",
    load: |loader, home| {
        let plan = home.read::<Config>()?.plan(home)?;
        // The base-model class publishes without `model.`.
        let bare = format!("{}decoder.", home.prefix);
        let at = if loader.has(&format!("{bare}embed_tokens.weight")) {
            bare
        } else {
            format!("{}model.decoder.", home.prefix)
        };
        Ok(Box::new(AbsoluteDecoder::load(loader, plan, &at, home)?))
    },
    optional: &["lm_head.weight"],
};

const LABELS: AbsoluteLabels = AbsoluteLabels {
    tokens: "embed_tokens",
    positions: "embed_positions",
    layers: "layers",
    final_norm: "final_layer_norm",
    attention_norm: "self_attn_layer_norm",
    projections: ProjectionLabels::Separate([
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
    ]),
    out: "self_attn.out_proj",
    ffn_norm: "final_layer_norm",
    up: "fc1",
    down: "fc2",
};

impl Config {
    fn plan(self, home: Home) -> Result<AbsolutePlan> {
        let d = self.hidden_size;
        home.check_heads("num_attention_heads", self.num_attention_heads, d)?;
        if !self.layer_norm_elementwise_affine {
            let problem = "is false; norms without weights are not supported".to_owned();
            return Err(home.refuse("layer_norm_elementwise_affine", problem));
        }
        let layer = LayerPlan {
            scale: None,
            window: None,
        };
        Ok(AbsolutePlan {
            model_type: FAMILY.model_type,
            width: d,
            table_width: self.word_embed_proj_dim.unwrap_or(d),
            inner: self.ffn_dim,
            heads: self.num_attention_heads,
            vocabulary: self.vocab_size,
            max_positions: self.max_position_embeddings,
            first_position: POSITION_OFFSET,
            eps: EPS,
            tied: self.tie_word_embeddings,
            activation: home.activation("activation_function", &self.activation_function)?,
            norms_first: self.do_layer_norm_before,
            final_norm: self.do_layer_norm_before && !self.remove_final_layer_norm,
            weights: Weights::OutputFirst {
                projections: self.enable_bias,
                out: self.enable_bias,
                feed_forward: self.enable_bias,
            },
            layers: vec![layer; self.num_hidden_layers],
            labels: &LABELS,
        })
    }
}
