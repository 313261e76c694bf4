//! Qwen2 and Qwen2.5 (Yang et al. 2024): LLaMA with biases on queries, keys and values.

use super::decoder::DecoderFamily;
use super::llama::{Config, LABELS, Llama, Traits};

/// Qwen2 among the families of LLaMA's machine.
struct Published;

impl Default for Config<Published> {
    fn default() -> Self {
        Self {
            intermediate_size: 22016,
            num_key_value_heads: Some(32),
            vocab_size: 151_936,
            max_position_embeddings: 32_768,
            ..Self::of_llama()
        }
    }
}

impl Config<Published> {
    /// Layers from `max_window_layers` on see a window, where windows are on at all.
    fn windows(&self) -> Vec<Option<usize>> {
        let window = self.sliding_window.filter(|_| self.use_sliding_window);
        (0..self.num_hidden_layers)
            .map(|layer| window.filter(|_| layer >= self.max_window_layers))
            .collect()
    }
}

pub(super) const FAMILY: DecoderFamily = DecoderFamily {
    model_type: "qwen2",
    load: |loader, home| {
        let config: Config<Published> = home.read()?;
        let traits = Traits {
            model_type: FAMILY.model_type,
            qkv_bias: true,
            out_bias: false,
            inner_bias: false,
            windows: config.windows(),
            packed: None,
            labels: &LABELS,
        };
        let plan = config.plan(config.even_heads(home)?, traits, home)?;
        Ok(Box::new(Llama::load(loader, plan, home)?))
    },
    optional: &[
        "lm_head.weight",
        "model.layers.#.self_attn.rotary_emb.inv_freq",
    ],
};
