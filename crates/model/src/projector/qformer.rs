//! The querying transformer of BLIP-2 (Li et al. 2023, section 3.1).
//!
//! Learned queries attend to each other and, on every `cross_attention_frequency`-th layer, to
//! the image tokens; a BERT encoder with post-norms and the query feed-forward only.

use burn::tensor::Tensor;
use serde::Deserialize;

use crate::change::View;
use crate::dtype::as_dtype;
use crate::error::{Error, Result};
use crate::layers::{Activation, LayerNorm, Linear, Matrix, Visible, attend, split_heads};
use crate::loader::{Loader, Place};
use crate::parameter::Stage;

/// What a layer calls the last linear layer on the way of the queries.
pub(crate) const QUERY_OUTPUT: &str = "output_query.dense";

/// `qformer_config` of a BLIP-2 `config.json`, with the published defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct QFormerConfig {
    /// Width of the queries.
    pub hidden_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Width of the feed-forward block.
    pub intermediate_size: usize,
    /// Activation name.
    pub hidden_act: String,
    /// Epsilon of every norm.
    pub layer_norm_eps: f64,
    /// Cross-attention stands on layers 0, f, 2f, …
    pub cross_attention_frequency: usize,
    /// Width of the image tokens.
    pub encoder_hidden_size: usize,
}

impl Default for QFormerConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "gelu".into(),
            layer_norm_eps: 1e-12,
            cross_attention_frequency: 2,
            encoder_hidden_size: 1408,
        }
    }
}

/// The projector: `[n, tokens, encoder_hidden]` → `[n, queries, hidden]`.
#[derive(Clone, Debug)]
pub struct QFormer {
    queries: Matrix,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

#[derive(Clone, Debug)]
struct Layer {
    attention: Attention,
    cross: Option<Attention>,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
    activation: Activation,
}

#[derive(Clone, Debug)]
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    dense: Linear,
    norm: LayerNorm,
    heads: usize,
}

impl QFormer {
    /// Loads `query_tokens` and everything under `qformer.`.
    ///
    /// # Errors
    /// Missing or misshapen tensors; an unknown activation; heads that do not divide the width.
    pub fn load(
        loader: &mut Loader,
        config: &QFormerConfig,
        num_query_tokens: usize,
        location: &str,
    ) -> Result<Self> {
        let refuse = |field: &str, problem: String| Error::Config {
            location: location.to_owned(),
            field: format!("qformer_config.{field}"),
            problem,
        };
        let activation = Activation::named(&config.hidden_act).ok_or_else(|| {
            refuse(
                "hidden_act",
                format!("is `{}`; known: {}", config.hidden_act, Activation::KNOWN),
            )
        })?;
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
        if config.cross_attention_frequency == 0 {
            return Err(refuse(
                "cross_attention_frequency",
                "must be at least 1".into(),
            ));
        }
        let place = Place::vision(Stage::Projector);
        let width = config.hidden_size;
        Ok(Self {
            queries: loader.matrix("query_tokens", &[1, num_query_tokens, width], place)?,
            norm: LayerNorm::load(
                loader,
                "qformer.layernorm",
                width,
                config.layer_norm_eps,
                place,
            )?,
            layers: (0..config.num_hidden_layers)
                .map(|index| Layer::load(loader, config, activation, index))
                .collect::<Result<_>>()?,
        })
    }

    /// Number and width of the learned queries.
    pub fn shape(&self) -> [usize; 2] {
        self.queries.shape()
    }

    /// tokens `[n, tokens, encoder_hidden]` → `[n, queries, hidden]`; computed in f32 where the
    /// view computes in less, as the reference does.
    pub fn forward(&self, tokens: Tensor<3>, view: &View) -> Tensor<3> {
        let dtype = view.dtype();
        let view = &view.at_least_f32();
        let n = tokens.dims()[0];
        let tokens = as_dtype(tokens, view.dtype());
        let queries = self.queries.shared(view);
        let [q, width] = queries.dims();
        let x = queries.unsqueeze::<3>().expand([n, q, width]);
        let x = self.norm.forward(x, view);
        let x = self
            .layers
            .iter()
            .fold(x, |x, layer| layer.forward(x, &tokens, view));
        as_dtype(x, dtype)
    }
}

impl Layer {
    fn load(
        loader: &mut Loader,
        config: &QFormerConfig,
        activation: Activation,
        index: usize,
    ) -> Result<Self> {
        let place = Place::vision(Stage::Projector);
        let (d, f, eps) = (
            config.hidden_size,
            config.intermediate_size,
            config.layer_norm_eps,
        );
        let at = |name: &str| format!("qformer.encoder.layer.{index}.{name}");
        let cross = match index % config.cross_attention_frequency {
            0 => Some(Attention::load(
                loader,
                config,
                &at("crossattention"),
                config.encoder_hidden_size,
            )?),
            _ => None,
        };
        Ok(Self {
            attention: Attention::load(loader, config, &at("attention"), d)?,
            cross,
            intermediate: Linear::load(
                loader,
                &at("intermediate_query.dense"),
                [f, d],
                true,
                place,
            )?,
            output: Linear::load(loader, &at(QUERY_OUTPUT), [d, f], true, place)?,
            output_norm: LayerNorm::load(loader, &at("output_query.LayerNorm"), d, eps, place)?,
            activation,
        })
    }

    fn forward(&self, x: Tensor<3>, tokens: &Tensor<3>, view: &View) -> Tensor<3> {
        let x = self.attention.forward(x.clone(), x, view);
        let x = match &self.cross {
            Some(cross) => cross.forward(x, tokens.clone(), view),
            None => x,
        };
        let h = self
            .activation
            .apply(self.intermediate.forward(x.clone(), view));
        self.output_norm
            .forward(self.output.forward(h, view) + x, view)
    }
}

impl Attention {
    fn load(
        loader: &mut Loader,
        config: &QFormerConfig,
        prefix: &str,
        d_source: usize,
    ) -> Result<Self> {
        let place = Place::vision(Stage::Projector);
        let d = config.hidden_size;
        let at = |name: &str| format!("{prefix}.{name}");
        Ok(Self {
            query: Linear::load(loader, &at("attention.query"), [d, d], true, place)?,
            key: Linear::load(loader, &at("attention.key"), [d, d_source], true, place)?,
            value: Linear::load(loader, &at("attention.value"), [d, d_source], true, place)?,
            dense: Linear::load(loader, &at("output.dense"), [d, d], true, place)?,
            norm: LayerNorm::load(
                loader,
                &at("output.LayerNorm"),
                d,
                config.layer_norm_eps,
                place,
            )?,
            heads: config.num_attention_heads,
        })
    }

    fn forward(&self, x: Tensor<3>, source: Tensor<3>, view: &View) -> Tensor<3> {
        let split =
            |linear: &Linear, from: Tensor<3>| split_heads(linear.forward(from, view), self.heads);
        let q = split(&self.query, x.clone());
        let k = split(&self.key, source.clone());
        let v = split(&self.value, source);
        let h = self
            .dense
            .forward(attend(q, k, v, &Visible::All, None), view);
        self.norm.forward(h + x, view)
    }
}
