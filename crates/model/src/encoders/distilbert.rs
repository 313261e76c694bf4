//! DistilBERT (Sanh et al. 2019): half of BERT's layers, without numbers of texts and without its
//! pooler.

use serde::Deserialize;

use super::family::{EncoderFamily, EncoderParts};
use super::stack::{BlockNames, Head, Shape, Squash, Stack, labels};
use crate::decoders::Home;
use crate::error::Result;
use crate::loader::Loader;

pub(super) const FAMILY: EncoderFamily = EncoderFamily {
    model_type: "distilbert",
    load,
};

/// The norms' epsilon, which no configuration names.
const EPS: f64 = 1e-12;

/// `config.json`, with the published defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Config {
    dim: usize,
    n_layers: usize,
    n_heads: usize,
    hidden_dim: usize,
    activation: String,
    vocab_size: usize,
    max_position_embeddings: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dim: 768,
            n_layers: 6,
            n_heads: 12,
            hidden_dim: 3072,
            activation: "gelu".into(),
            vocab_size: 30522,
            max_position_embeddings: 512,
        }
    }
}

const BLOCK: BlockNames = BlockNames {
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    out: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    inner: "ffn.lin1",
    outer: "ffn.lin2",
    norm: "output_layer_norm",
};

/// What the classes for masked tokens have beside the encoder.
const OPTIONAL: [&str; 4] = [
    "*.position_ids",
    "vocab_transform.",
    "vocab_layer_norm.",
    "vocab_projector.",
];

fn load(loader: &mut Loader, home: Home) -> Result<EncoderParts> {
    let config: Config = home.read()?;
    home.check_heads("n_heads", config.n_heads, config.dim)?;
    let shape = Shape {
        width: config.dim,
        inner: config.hidden_dim,
        layers: config.n_layers,
        heads: config.n_heads,
        vocabulary: config.vocab_size,
        positions: config.max_position_embeddings,
        types: None,
        eps: EPS,
        activation: home.activation("activation", &config.activation)?,
    };
    // The bare model class publishes without `distilbert.`.
    let prefix = if loader.has("embeddings.word_embeddings.weight") {
        ""
    } else {
        "distilbert."
    };
    let stack = Stack::load(loader, &shape, prefix, "transformer.layer", &BLOCK)?;
    let (labels, head) = if loader.has("classifier.weight") {
        let labels = labels(home)?;
        let (width, n) = (shape.width, labels.len());
        let head = Head::load(loader, "pre_classifier", Squash::Relu, width, n)?;
        (labels, Some(head))
    } else {
        (Vec::new(), None)
    };
    Ok(EncoderParts {
        stack,
        head,
        labels,
        optional: OPTIONAL.map(str::to_owned).to_vec(),
    })
}
