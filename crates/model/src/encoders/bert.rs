//! BERT (Devlin et al. 2019): texts are numbered, the first token is pooled through tanh.

use serde::Deserialize;

use super::family::{EncoderFamily, EncoderParts};
use super::stack::{BlockNames, Head, Shape, Squash, Stack, labels};
use crate::decoders::Home;
use crate::error::Result;
use crate::loader::Loader;

pub(super) const FAMILY: EncoderFamily = EncoderFamily {
    model_type: "bert",
    load,
};

/// `config.json`, with the published defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Config {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: String,
    layer_norm_eps: f64,
    vocab_size: usize,
    type_vocab_size: usize,
    max_position_embeddings: usize,
    position_embedding_type: String,
    is_decoder: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "gelu".into(),
            layer_norm_eps: 1e-12,
            vocab_size: 30522,
            type_vocab_size: 2,
            max_position_embeddings: 512,
            position_embedding_type: "absolute".into(),
            is_decoder: false,
        }
    }
}

const BLOCK: BlockNames = BlockNames {
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    out: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    inner: "intermediate.dense",
    outer: "output.dense",
    norm: "output.LayerNorm",
};

fn load(loader: &mut Loader, home: Home) -> Result<EncoderParts> {
    let config: Config = home.read()?;
    home.check_heads(
        "num_attention_heads",
        config.num_attention_heads,
        config.hidden_size,
    )?;
    if config.position_embedding_type != "absolute" {
        let kind = &config.position_embedding_type;
        let problem = format!("is `{kind}`; known: absolute");
        return Err(home.refuse("position_embedding_type", problem));
    }
    if config.is_decoder {
        let problem = "is true; only encoders, whose tokens see each other, are supported";
        return Err(home.refuse("is_decoder", problem.into()));
    }
    let shape = Shape {
        width: config.hidden_size,
        inner: config.intermediate_size,
        layers: config.num_hidden_layers,
        heads: config.num_attention_heads,
        vocabulary: config.vocab_size,
        positions: config.max_position_embeddings,
        types: Some(config.type_vocab_size),
        eps: config.layer_norm_eps,
        activation: home.activation("hidden_act", &config.hidden_act)?,
    };
    // The bare model class publishes without `bert.`.
    let prefix = if loader.has("embeddings.word_embeddings.weight") {
        ""
    } else {
        "bert."
    };
    let stack = Stack::load(loader, &shape, prefix, "encoder.layer", &BLOCK)?;
    let labels = if loader.has("classifier.weight") {
        labels(home)?
    } else {
        Vec::new()
    };
    let dense = format!("{prefix}pooler.dense");
    // Models trained without a pooler, such as those for masked tokens, may leave it out.
    let head = if !labels.is_empty() || loader.has(&format!("{dense}.weight")) {
        let (width, n) = (shape.width, labels.len());
        Some(Head::load(loader, &dense, Squash::Tanh, width, n)?)
    } else {
        None
    };
    Ok(EncoderParts {
        stack,
        head,
        labels,
        optional: vec!["*.position_ids".into(), "cls.".into()],
    })
}
