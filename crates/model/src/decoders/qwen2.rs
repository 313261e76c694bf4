//! Qwen2 and Qwen2.5 (Yang et al. 2024): LLaMA with biases on queries, keys and values.

use serde::Deserialize;

use super::decoder::{DecoderFamily, Home};
use super::llama::{LABELS, Llama, Plan};
use crate::error::Result;
use crate::layers::RotaryConfig;

/// `config.json`, with the published defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Config {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    tie_word_embeddings: bool,
    hidden_act: String,
    use_sliding_window: bool,
    sliding_window: Option<usize>,
    max_window_layers: usize,
    #[serde(flatten)]
    rotary: RotaryConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hidden_size: 4096,
            intermediate_size: 22016,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: 32,
            vocab_size: 151_936,
            max_position_embeddings: 32_768,
            rms_norm_eps: 1e-6,
            tie_word_embeddings: false,
            hidden_act: "silu".into(),
            use_sliding_window: false,
            sliding_window: Some(4096),
            max_window_layers: 28,
            rotary: RotaryConfig::default(),
        }
    }
}

impl Config {
    /// Layers from `max_window_layers` on see a window, where windows are on at all.
    fn windows(&self) -> Vec<Option<usize>> {
        let window = self.sliding_window.filter(|_| self.use_sliding_window);
        (0..self.num_hidden_layers)
            .map(|layer| window.filter(|_| layer >= self.max_window_layers))
            .collect()
    }

    fn plan(self, home: Home) -> Result<Plan> {
        let heads = self.num_attention_heads;
        home.check_heads("num_attention_heads", heads, self.hidden_size)?;
        let head_dim = self.hidden_size / heads;
        Ok(Plan {
            model_type: FAMILY.model_type,
            width: self.hidden_size,
            inner: self.intermediate_size,
            depth: self.num_hidden_layers,
            heads,
            key_heads: self.num_key_value_heads,
            head_dim,
            vocabulary: self.vocab_size,
            max_positions: self.max_position_embeddings,
            eps: self.rms_norm_eps,
            tied: self.tie_word_embeddings,
            qkv_bias: true,
            out_bias: false,
            inner_bias: false,
            activation: home.activation("hidden_act", &self.hidden_act)?,
            rotary: self
                .rotary
                .build(head_dim, self.max_position_embeddings, home.location)?,
            windows: self.windows(),
            packed: None,
            labels: &LABELS,
        })
    }
}

pub(super) const FAMILY: DecoderFamily = DecoderFamily {
    model_type: "qwen2",
    load: |loader, home| {
        let plan = home.read::<Config>()?.plan(home)?;
        Ok(Box::new(Llama::load(loader, plan, home)?))
    },
    optional: &[
        "lm_head.weight",
        "model.layers.#.self_attn.rotary_emb.inv_freq",
    ],
};
