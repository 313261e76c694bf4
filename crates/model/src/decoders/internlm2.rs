//! InternLM2 (Cai et al. 2024): LLaMA under other names, with queries, keys and values of each
//! group packed into one matrix.

use super::decoder::DecoderFamily;
use super::llama::{Config, Llama, LlamaLabels, Traits};

/// InternLM2 among the families of LLaMA's machine.
struct Published;

impl Default for Config<Published> {
    fn default() -> Self {
        Self {
            vocab_size: 103_168,
            ..Self::of_llama()
        }
    }
}

const LABELS: LlamaLabels = LlamaLabels {
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

pub(super) const FAMILY: DecoderFamily = DecoderFamily {
    model_type: "internlm2",
    load: |loader, home| {
        let config: Config<Published> = home.read()?;
        let traits = Traits {
            model_type: FAMILY.model_type,
            qkv_bias: config.bias,
            out_bias: config.bias,
            inner_bias: false,
            windows: Vec::new(),
            packed: Some(LABELS.query),
            labels: &LABELS,
        };
        let plan = config.plan(config.even_heads(home)?, traits, home)?;
        Ok(Box::new(Llama::load(loader, plan, home)?))
    },
    optional: &["output.weight", "*.attention.rotary_emb.inv_freq"],
};
