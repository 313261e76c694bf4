//! GPT-Neo (Black et al. 2021): layers that see everything alternate with layers that see a
//! window; scores are not divided by the square root of the head size.

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
    hidden_size: usize,
    num_layers: usize,
    num_heads: usize,
    intermediate_size: Option<usize>,
    vocab_size: usize,
    max_position_embeddings: usize,
    window_size: usize,
    layer_norm_epsilon: f64,
    activation_function: String,
    tie_word_embeddings: bool,
    attention_layers: Option<Vec<Kind>>,
    /// Lists of kinds, each with the number of times it is repeated.
    attention_types: Vec<(Vec<Kind>, usize)>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Global,
    Local,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hidden_size: 2048,
            num_layers: 24,
            num_heads: 16,
            intermediate_size: None,
            vocab_size: 50257,
            max_position_embeddings: 2048,
            window_size: 256,
            layer_norm_epsilon: 1e-5,
            activation_function: "gelu_new".into(),
            tie_word_embeddings: true,
            attention_layers: None,
            attention_types: vec![(vec![Kind::Global, Kind::Local], 12)],
        }
    }
}

impl Config {
    /// The kind of every layer.
    fn kinds(&self, home: Home) -> Result<Vec<Kind>> {
        let kinds = self.attention_layers.clone().unwrap_or_else(|| {
            self.attention_types
                .iter()
                .flat_map(|(kinds, times)| kinds.repeat(*times))
                .collect()
        });
        if kinds.len() == self.num_layers {
            return Ok(kinds);
        }
        let problem = format!(
            "describes {} layers, num_layers is {}",
            kinds.len(),
            self.num_layers
        );
        Err(home.refuse("attention_types", problem))
    }

    fn plan(self, home: Home) -> Result<AbsolutePlan> {
        home.check_heads("num_heads", self.num_heads, self.hidden_size)?;
        let kinds = self.kinds(home)?.into_iter();
        let layers = kinds.map(|kind| LayerPlan {
            scale: Some(1.0),
            window: (kind == Kind::Local).then_some(self.window_size),
        });
        Ok(AbsolutePlan {
            model_type: FAMILY.model_type,
            width: self.hidden_size,
            table_width: self.hidden_size,
            inner: self.intermediate_size.unwrap_or(4 * self.hidden_size),
            heads: self.num_heads,
            vocabulary: self.vocab_size,
            max_positions: self.max_position_embeddings,
            first_position: 0,
            eps: self.layer_norm_epsilon,
            tied: self.tie_word_embeddings,
            activation: home.activation("activation_function", &self.activation_function)?,
            norms_first: true,
            final_norm: true,
            weights: Weights::OutputFirst {
                projections: false,
                out: true,
                feed_forward: true,
            },
            layers: layers.collect(),
            labels: &LABELS,
        })
    }
}

pub(super) const FAMILY: DecoderFamily = DecoderFamily {
    model_type: "gpt_neo",
    load: |loader, home| {
        let plan = home.read::<Config>()?.plan(home)?;
        // The base-model class publishes without `transformer.`.
        let whole = format!("{}transformer.", home.prefix);
        let at = if loader.has(&format!("{}wte.weight", home.prefix)) {
            home.prefix
        } else {
            &whole
        };
        Ok(Box::new(AbsoluteDecoder::load(loader, plan, at, home)?))
    },
    // The masks, stored as buffers.
    optional: &[
        "lm_head.weight",
        "*.attn.attention.bias",
        "*.attn.attention.masked_bias",
    ],
};

const LABELS: AbsoluteLabels = AbsoluteLabels {
    tokens: "wte",
    positions: "wpe",
    layers: "h",
    final_norm: "ln_f",
    attention_norm: "ln_1",
    projections: ProjectionLabels::Separate([
        "attn.attention.q_proj",
        "attn.attention.k_proj",
        "attn.attention.v_proj",
    ]),
    out: "attn.attention.out_proj",
    ffn_norm: "ln_2",
    up: "mlp.c_fc",
    down: "mlp.c_proj",
};
