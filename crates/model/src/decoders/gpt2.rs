//! GPT-2 (Radford et al. 2019): learned positions, pre-norm, matrices stored `[d_in, d_out]`.

use serde::Deserialize;

use super::absolute::{
    AbsoluteDecoder, AbsoluteLabels, AbsolutePlan, LayerPlan, ProjectionLabels, Weights,
};
use super::decoder::{DecoderFamily, Home};
use crate::error::Result;

/// `config.json`, with the published defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Config {
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    n_inner: Option<usize>,
    n_positions: usize,
    vocab_size: usize,
    layer_norm_epsilon: f64,
    activation_function: String,
    tie_word_embeddings: bool,
    scale_attn_weights: bool,
    scale_attn_by_inverse_layer_idx: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            n_embd: 768,
            n_layer: 12,
            n_head: 12,
            n_inner: None,
            n_positions: 1024,
            vocab_size: 50257,
            layer_norm_epsilon: 1e-5,
            activation_function: "gelu_new".into(),
            tie_word_embeddings: true,
            scale_attn_weights: true,
            scale_attn_by_inverse_layer_idx: false,
        }
    }
}

pub(super) const FAMILY: DecoderFamily = DecoderFamily {
    model_type: "gpt2",
    load: |loader, home| {
        let plan = home.read::<Config>()?.plan(home)?;
        // The base-model class publishes without `transformer.`.
        let whole = format!("{}transformer.", home.prefix);
        let at = if loader.has(&format!("{whole}wte.weight")) {
            &whole
        } else {
            home.prefix
        };
        Ok(Box::new(AbsoluteDecoder::load(loader, plan, at, home)?))
    },
    // The causal mask, stored as a buffer.
    optional: &["lm_head.weight", "*.attn.bias", "*.attn.masked_bias"],
};

const LABELS: AbsoluteLabels = AbsoluteLabels {
    tokens: "wte",
    positions: "wpe",
    layers: "h",
    final_norm: "ln_f",
    attention_norm: "ln_1",
    projections: ProjectionLabels::Packed("attn.c_attn"),
    out: "attn.c_proj",
    ffn_norm: "ln_2",
    up: "mlp.c_fc",
    down: "mlp.c_proj",
};

impl Config {
    fn plan(self, home: Home) -> Result<AbsolutePlan> {
        home.check_heads("n_head", self.n_head, self.n_embd)?;
        let layer = |index| LayerPlan {
            scale: Some(self.scale(index)),
            window: None,
        };
        Ok(AbsolutePlan {
            model_type: FAMILY.model_type,
            width: self.n_embd,
            table_width: self.n_embd,
            inner: self.n_inner.unwrap_or(4 * self.n_embd),
            heads: self.n_head,
            vocabulary: self.vocab_size,
            max_positions: self.n_positions,
            first_position: 0,
            eps: self.layer_norm_epsilon,
            tied: self.tie_word_embeddings,
            activation: home.activation("activation_function", &self.activation_function)?,
            norms_first: true,
            final_norm: true,
            weights: Weights::InputFirst,
            layers: (0..self.n_layer).map(layer).collect(),
            labels: &LABELS,
        })
    }

    /// `1/sqrt(D)`, divided once more by the layer's number where the configuration says so.
    fn scale(&self, layer: usize) -> f64 {
        let d = self.n_embd / self.n_head;
        let scale = if self.scale_attn_weights {
            1.0 / (d as f64).sqrt()
        } else {
            1.0
        };
        if self.scale_attn_by_inverse_layer_idx {
            scale / (layer + 1) as f64
        } else {
            scale
        }
    }
}
