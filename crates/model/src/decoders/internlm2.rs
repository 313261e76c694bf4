//! InternLM2 (Cai et al. 2024): LLaMA under other names, with queries, keys and values of each
//! group packed into one matrix.

use serde::Deserialize;

use super::decoder::{DecoderFamily, Home};
use super::llama::{Labels, Llama, Plan};
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
    num_key_value_heads: Option<usize>,
    vocab_size: usize,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    tie_word_embeddings: bool,
    bias: bool,
    hidden_act: String,
    #[serde(flatten)]
    rotary: RotaryConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hidden_size: 4096,
            intermediate_size: 11008,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: None,
            vocab_size: 103_168,
            max_position_embeddings: 2048,
            rms_norm_eps: 1e-6,
            tie_word_embeddings: false,
            bias: true,
            hidden_act: "silu".into(),
            rotary: RotaryConfig::default(),
        }
    }
}

const LABELS: Labels = Labels {
    tokens: "model.tok_embeddings",
    layers: "model.layers",
    norm: "model.norm",
    head: "output",
    attention_norm: "attention_norm",
    query: "attention.wqkv",
    key: "attention.wqkv",
    value: "attention.wqkv",
    out: "attention.wo",
    ffn_norm: "ffn_norm",
    gate: "feed_forward.w1",
    up: "feed_forward.w3",
    down: "feed_forward.w2",
};

impl Config {
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
            key_heads: self.num_key_value_heads.unwrap_or(heads),
            head_dim,
            vocabulary: self.vocab_size,
            max_positions: self.max_position_embeddings,
            eps: self.rms_norm_eps,
            tied: self.tie_word_embeddings,
            qkv_bias: self.bias,
            out_bias: self.bias,
            inner_bias: false,
            activation: home.activation("hidden_act", &self.hidden_act)?,
            rotary: self
                .rotary
                .build(head_dim, self.max_position_embeddings, home.location)?,
            windows: Vec::new(),
            packed: Some(LABELS.query),
            labels: &LABELS,
        })
    }
}

pub(super) const FAMILY: DecoderFamily = DecoderFamily {
    model_type: "internlm2",
    load: |loader, home| {
        let plan = home.read::<Config>()?.plan(home)?;
        Ok(Box::new(Llama::load(loader, plan, home)?))
    },
    optional: &[
        "output.weight",
        "model.layers.#.attention.rotary_emb.inv_freq",
    ],
};
