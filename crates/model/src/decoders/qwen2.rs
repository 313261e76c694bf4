//! Qwen2 and Qwen2.5 (Yang et al. 2024): LLaMA with biases on queries, keys and values.

use super::decoder::{DecoderFamily, Home};
use super::llama::{Config, LABELS, Llama, Traits};
use crate::error::Result;

/// Layers that see everything.
const FULL: &str = "full_attention";

/// Layers that see a window.
const SLIDING: &str = "sliding_attention";

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
    /// The layers that `layer_types` names see a window, or else those from `max_window_layers` on,
    /// where windows are on at all.
    ///
    /// # Errors
    /// Another number of layers, a kind that Qwen2 does not have, or a window that is off.
    fn windows(&self, home: Home) -> Result<Vec<Option<usize>>> {
        let refuse = |problem: String| home.refuse("layer_types", problem);
        let (window, depth) = (
            self.sliding_window.filter(|_| self.use_sliding_window),
            self.num_hidden_layers,
        );
        let Some(kinds) = &self.layer_types else {
            let first = self.max_window_layers;
            let of = |layer| window.filter(|_| layer >= first);
            return Ok((0..depth).map(of).collect());
        };
        if kinds.len() != depth {
            let problem = format!("names {} layers, num_hidden_layers is {depth}", kinds.len());
            return Err(refuse(problem));
        }
        let windows = kinds.iter().map(|kind| match (kind.as_str(), window) {
            (FULL, _) => Ok(None),
            (SLIDING, Some(window)) => Ok(Some(window)),
            (SLIDING, None) => Err(refuse(format!(
                "names {SLIDING}, but use_sliding_window is false or sliding_window missing"
            ))),
            (other, _) => Err(refuse(format!("names `{other}`; known: {FULL}, {SLIDING}"))),
        });
        windows.collect()
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
            windows: config.windows(home)?,
            packed: None,
            labels: &LABELS,
        };
        let plan = config.plan(config.even_heads(home)?, traits, home)?;
        Ok(Box::new(Llama::load(loader, plan, home)?))
    },
    optional: &["lm_head.weight", "*.self_attn.rotary_emb.inv_freq"],
};
