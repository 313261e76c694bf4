//! OPT (Zhang et al. 2022): learned positions with an offset of two, ReLU, biases everywhere,
//! tied head. The pre-norm order of all sizes but 350m.

use burn::tensor::{Int, Tensor};
use serde::Deserialize;

use super::Decoder;
use crate::change::View;
use crate::error::{Error, Result};
use crate::layers::{Activation, Embedding, LayerNorm, Linear, Matrix, attend, split_heads};
use crate::loader::{Loader, Place};
use crate::site::Stage;

/// OPT stores row `position + 2`; the first two rows are never used by real tokens.
const POSITION_OFFSET: usize = 2;

/// `config.json` of an OPT model, with the published defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct OptConfig {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward block.
    pub ffn_dim: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Vocabulary rows.
    pub vocab_size: usize,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Activation name.
    pub activation_function: String,
    /// Pre-norm (true) or the post-norm of the 350m model.
    pub do_layer_norm_before: bool,
    /// Width of the token table; differs from `hidden_size` in the 350m model only.
    pub word_embed_proj_dim: Option<usize>,
}

impl Default for OptConfig {
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
        }
    }
}

/// The decoder.
#[derive(Clone, Debug)]
pub struct Opt {
    tokens: Embedding,
    positions: Matrix,
    layers: Vec<Layer>,
    final_norm: LayerNorm,
    prefix: String,
    config: OptConfig,
}

#[derive(Clone, Debug)]
struct Layer {
    attention_norm: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    ffn_norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: usize,
    activation: Activation,
}

impl Opt {
    /// Loads the decoder under `{prefix}model.decoder.`.
    ///
    /// # Errors
    /// Missing or misshapen tensors, or a configuration this decoder cannot honour.
    pub fn load(
        loader: &mut Loader,
        prefix: &str,
        config: &OptConfig,
        location: &str,
    ) -> Result<Self> {
        let refuse = |field: &str, problem: String| Error::Config {
            location: location.to_owned(),
            field: field.to_owned(),
            problem,
        };
        if !config.do_layer_norm_before {
            return Err(refuse(
                "do_layer_norm_before",
                "is false; only the pre-norm order is supported".into(),
            ));
        }
        if config
            .word_embed_proj_dim
            .is_some_and(|dim| dim != config.hidden_size)
        {
            return Err(refuse(
                "word_embed_proj_dim",
                "differs from hidden_size, which is not supported".into(),
            ));
        }
        if config.num_attention_heads == 0
            || !config
                .hidden_size
                .is_multiple_of(config.num_attention_heads)
        {
            return Err(refuse(
                "num_attention_heads",
                "must divide hidden_size".into(),
            ));
        }
        let activation = Activation::named(&config.activation_function).ok_or_else(|| {
            refuse(
                "activation_function",
                format!(
                    "is `{}`; known: relu, gelu, silu",
                    config.activation_function
                ),
            )
        })?;
        let decoder = format!("{prefix}model.decoder");
        let (d, embed) = (config.hidden_size, Place::language(Stage::Embed));
        Ok(Self {
            tokens: Embedding::new(loader.matrix(
                &format!("{decoder}.embed_tokens.weight"),
                &[config.vocab_size, d],
                embed,
            )?),
            positions: loader.matrix(
                &format!("{decoder}.embed_positions.weight"),
                &[config.max_position_embeddings + POSITION_OFFSET, d],
                embed,
            )?,
            layers: (0..config.num_hidden_layers)
                .map(|index| {
                    Layer::load(
                        loader,
                        config,
                        activation,
                        &format!("{decoder}.layers.{index}"),
                        index,
                    )
                })
                .collect::<Result<_>>()?,
            final_norm: LayerNorm::load(
                loader,
                &format!("{decoder}.final_layer_norm"),
                d,
                1e-5,
                Place::language(Stage::Head),
            )?,
            prefix: prefix.to_owned(),
            config: config.clone(),
        })
    }
}

impl Layer {
    fn load(
        loader: &mut Loader,
        config: &OptConfig,
        activation: Activation,
        at: &str,
        index: usize,
    ) -> Result<Self> {
        let attention = Place::language(Stage::Attention(index));
        let ffn = Place::language(Stage::FeedForward(index));
        let (d, f) = (config.hidden_size, config.ffn_dim);
        let mut square = |name: &str| {
            Linear::load(
                loader,
                &format!("{at}.self_attn.{name}"),
                [d, d],
                true,
                attention,
            )
        };
        let (query, key, value, out) = (
            square("q_proj")?,
            square("k_proj")?,
            square("v_proj")?,
            square("out_proj")?,
        );
        Ok(Self {
            query,
            key,
            value,
            out,
            attention_norm: LayerNorm::load(
                loader,
                &format!("{at}.self_attn_layer_norm"),
                d,
                1e-5,
                attention,
            )?,
            ffn_norm: LayerNorm::load(loader, &format!("{at}.final_layer_norm"), d, 1e-5, ffn)?,
            fc1: Linear::load(loader, &format!("{at}.fc1"), [f, d], true, ffn)?,
            fc2: Linear::load(loader, &format!("{at}.fc2"), [d, f], true, ffn)?,
            heads: config.num_attention_heads,
            activation,
        })
    }
}

impl Decoder for Opt {
    fn depth(&self) -> usize {
        self.layers.len()
    }

    fn width(&self) -> usize {
        self.config.hidden_size
    }

    fn vocabulary(&self) -> usize {
        self.config.vocab_size
    }

    fn max_positions(&self) -> usize {
        self.config.max_position_embeddings
    }

    fn layer_prefix(&self, layer: usize) -> String {
        format!("{}model.decoder.layers.{layer}.", self.prefix)
    }

    fn feed_forward_sites(&self, layer: usize) -> Vec<String> {
        let at = self.layer_prefix(layer);
        vec![format!("{at}fc1.weight"), format!("{at}fc2.weight")]
    }

    fn fine_tuning_rate(&self) -> f64 {
        2e-4
    }

    fn embed(&self, ids: Tensor<1, Int>, shape: [usize; 2], view: &View) -> Tensor<3> {
        self.tokens.forward(ids, shape, view)
    }

    fn place(&self, x: Tensor<3>, view: &View) -> Tensor<3> {
        let t = x.dims()[1];
        let rows = self.positions.shared(view).narrow(0, POSITION_OFFSET, t);
        x + rows.unsqueeze()
    }

    fn attention(&self, layer: usize, x: Tensor<3>, view: &View) -> Tensor<3> {
        let layer = &self.layers[layer];
        let h = layer.attention_norm.forward(x.clone(), view);
        let split = |linear: &Linear| split_heads(linear.forward(h.clone(), view), layer.heads);
        let mixed = attend(
            split(&layer.query),
            split(&layer.key),
            split(&layer.value),
            true,
        );
        x + layer.out.forward(mixed, view)
    }

    fn feed_forward(&self, layer: usize, x: Tensor<3>, view: &View) -> Tensor<3> {
        let layer = &self.layers[layer];
        let h = layer
            .fc1
            .forward(layer.ffn_norm.forward(x.clone(), view), view);
        x + layer.fc2.forward(layer.activation.apply(h), view)
    }

    fn head(&self, x: Tensor<3>, view: &View) -> Tensor<3> {
        self.tokens.unembed(self.final_norm.forward(x, view), view)
    }
}
