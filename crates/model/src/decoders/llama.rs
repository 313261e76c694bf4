//! LLaMA (Touvron et al. 2023): RMSNorm, rotary positions in the half form, SwiGLU, grouped
//! key/value heads.

use burn::tensor::{Int, Tensor};
use serde::Deserialize;

use super::Decoder;
use crate::change::View;
use crate::error::{Error, Result};
use crate::host;
use crate::layers::{Activation, Embedding, Linear, RmsNorm, attend, split_heads};
use crate::loader::{Loader, Place};
use crate::site::Stage;

/// `config.json` of a LLaMA model, with the published defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct LlamaConfig {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the gated feed-forward block.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key/value heads; as many as query heads when absent.
    pub num_key_value_heads: Option<usize>,
    /// Width of a head; `hidden_size / num_attention_heads` when absent.
    pub head_dim: Option<usize>,
    /// Vocabulary rows.
    pub vocab_size: usize,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Epsilon of every norm.
    pub rms_norm_eps: f64,
    /// Base of the rotary angles.
    pub rope_theta: f64,
    /// Rotary scaling; only absent (or null) is supported here.
    pub rope_scaling: Option<serde_json::Value>,
    /// Whether the head is the token table.
    pub tie_word_embeddings: bool,
    /// Activation of the gate.
    pub hidden_act: String,
}

impl Default for LlamaConfig {
    fn default() -> Self {
        Self {
            hidden_size: 4096,
            intermediate_size: 11008,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: None,
            head_dim: None,
            vocab_size: 32000,
            max_position_embeddings: 2048,
            rms_norm_eps: 1e-6,
            rope_theta: 10000.0,
            rope_scaling: None,
            tie_word_embeddings: false,
            hidden_act: "silu".into(),
        }
    }
}

impl LlamaConfig {
    fn head_dim(&self) -> usize {
        self.head_dim
            .unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    fn key_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }
}

/// The decoder.
#[derive(Clone, Debug)]
pub struct Llama {
    tokens: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    head: Embedding,
    rotary: Rotary,
    prefix: String,
    config: LlamaConfig,
}

#[derive(Clone, Debug)]
struct Layer {
    attention_norm: RmsNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    ffn_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
    activation: Activation,
}

impl Llama {
    /// Loads the decoder under `{prefix}model.`, and `{prefix}lm_head.weight` unless tied.
    ///
    /// # Errors
    /// Missing or misshapen tensors, or a configuration this decoder cannot honour.
    pub fn load(
        loader: &mut Loader,
        prefix: &str,
        config: &LlamaConfig,
        location: &str,
    ) -> Result<Self> {
        let refuse = |field: &str, problem: String| Error::Config {
            location: location.to_owned(),
            field: field.to_owned(),
            problem,
        };
        if config.rope_scaling.is_some() {
            return Err(refuse(
                "rope_scaling",
                "is set; only unscaled rotary positions are supported".into(),
            ));
        }
        if config.key_heads() == 0
            || !config
                .num_attention_heads
                .is_multiple_of(config.key_heads())
        {
            return Err(refuse(
                "num_key_value_heads",
                "must divide num_attention_heads".into(),
            ));
        }
        if config.head_dim() == 0 || !config.head_dim().is_multiple_of(2) {
            return Err(refuse("head_dim", "must be even and positive".into()));
        }
        let activation = Activation::named(&config.hidden_act).ok_or_else(|| {
            refuse(
                "hidden_act",
                format!("is `{}`; known: relu, gelu, silu", config.hidden_act),
            )
        })?;
        let table = [config.vocab_size, config.hidden_size];
        let tokens = Embedding::new(loader.matrix(
            &format!("{prefix}model.embed_tokens.weight"),
            &table,
            Place::language(Stage::Embed),
        )?);
        let layers = (0..config.num_hidden_layers)
            .map(|index| {
                Layer::load(
                    loader,
                    config,
                    activation,
                    &format!("{prefix}model.layers.{index}"),
                    index,
                )
            })
            .collect::<Result<_>>()?;
        let at_head = Place::language(Stage::Head);
        let norm = RmsNorm::load(
            loader,
            &format!("{prefix}model.norm"),
            config.hidden_size,
            config.rms_norm_eps,
            at_head,
        )?;
        let head = match config.tie_word_embeddings {
            true => tokens.clone(),
            false => Embedding::new(loader.matrix(
                &format!("{prefix}lm_head.weight"),
                &table,
                at_head,
            )?),
        };
        Ok(Self {
            tokens,
            layers,
            norm,
            head,
            rotary: Rotary::new(config),
            prefix: prefix.to_owned(),
            config: config.clone(),
        })
    }
}

impl Layer {
    fn load(
        loader: &mut Loader,
        config: &LlamaConfig,
        activation: Activation,
        at: &str,
        index: usize,
    ) -> Result<Self> {
        let attention = Place::language(Stage::Attention(index));
        let ffn = Place::language(Stage::FeedForward(index));
        let (d, f, eps) = (
            config.hidden_size,
            config.intermediate_size,
            config.rms_norm_eps,
        );
        let queries = config.num_attention_heads * config.head_dim();
        let keys = config.key_heads() * config.head_dim();
        let mut linear = |name: &str, shape: [usize; 2], place: Place| {
            Linear::load(loader, &format!("{at}.{name}"), shape, false, place)
        };
        let query = linear("self_attn.q_proj", [queries, d], attention)?;
        let key = linear("self_attn.k_proj", [keys, d], attention)?;
        let value = linear("self_attn.v_proj", [keys, d], attention)?;
        let out = linear("self_attn.o_proj", [d, queries], attention)?;
        let gate = linear("mlp.gate_proj", [f, d], ffn)?;
        let up = linear("mlp.up_proj", [f, d], ffn)?;
        let down = linear("mlp.down_proj", [d, f], ffn)?;
        Ok(Self {
            query,
            key,
            value,
            out,
            gate,
            up,
            down,
            attention_norm: RmsNorm::load(
                loader,
                &format!("{at}.input_layernorm"),
                d,
                eps,
                attention,
            )?,
            ffn_norm: RmsNorm::load(
                loader,
                &format!("{at}.post_attention_layernorm"),
                d,
                eps,
                ffn,
            )?,
            activation,
        })
    }
}

impl Decoder for Llama {
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
        format!("{}model.layers.{layer}.", self.prefix)
    }

    /// The paper edits `down_proj` and `up_proj`, not the gate.
    fn feed_forward_sites(&self, layer: usize) -> Vec<String> {
        let at = self.layer_prefix(layer);
        vec![
            format!("{at}mlp.up_proj.weight"),
            format!("{at}mlp.down_proj.weight"),
        ]
    }

    fn fine_tuning_rate(&self) -> f64 {
        1e-4
    }

    fn embed(&self, ids: Tensor<1, Int>, shape: [usize; 2], view: &View) -> Tensor<3> {
        self.tokens.forward(ids, shape, view)
    }

    fn place(&self, x: Tensor<3>, _view: &View) -> Tensor<3> {
        x
    }

    fn attention(&self, layer: usize, x: Tensor<3>, view: &View) -> Tensor<3> {
        let layer = &self.layers[layer];
        let (heads, shared) = (self.config.num_attention_heads, self.config.key_heads());
        let h = layer.attention_norm.forward(x.clone(), view);
        let split = |linear: &Linear, heads| split_heads(linear.forward(h.clone(), view), heads);
        let [_, t, _] = x.dims();
        let (cos, sin) = self.rotary.angles(t, &x, view);
        let q = rotate(split(&layer.query, heads), &cos, &sin);
        let k = rotate(split(&layer.key, shared), &cos, &sin);
        let v = split(&layer.value, shared);
        let mixed = attend(
            q,
            repeat_heads(k, heads / shared),
            repeat_heads(v, heads / shared),
            true,
        );
        x + layer.out.forward(mixed, view)
    }

    fn feed_forward(&self, layer: usize, x: Tensor<3>, view: &View) -> Tensor<3> {
        let layer = &self.layers[layer];
        let h = layer.ffn_norm.forward(x.clone(), view);
        let gate = layer.activation.apply(layer.gate.forward(h.clone(), view));
        x + layer.down.forward(gate * layer.up.forward(h, view), view)
    }

    fn head(&self, x: Tensor<3>, view: &View) -> Tensor<3> {
        self.head.unembed(self.norm.forward(x, view), view)
    }
}

/// Rotary positions: `inv_i = theta^(-2i/D)`, the angle table is `[a, a]`.
#[derive(Clone, Debug)]
struct Rotary {
    inverse: Vec<f64>,
}

impl Rotary {
    fn new(config: &LlamaConfig) -> Self {
        let d = config.head_dim();
        Self {
            inverse: (0..d / 2)
                .map(|i| config.rope_theta.powf(-2.0 * i as f64 / d as f64))
                .collect(),
        }
    }

    /// Cosines and sines of positions `0..t`, each `[1, 1, t, d]`.
    fn angles(&self, t: usize, like: &Tensor<3>, view: &View) -> (Tensor<4>, Tensor<4>) {
        let table = |f: fn(f64) -> f64| {
            let values = (0..t)
                .flat_map(|position| {
                    let row: Vec<f32> = self
                        .inverse
                        .iter()
                        .map(|inverse| f(position as f64 * inverse) as f32)
                        .collect();
                    [row.clone(), row].concat()
                })
                .collect();
            let device = like.device().inner();
            view.lift(&host::tensor(
                values,
                [1, 1, t, 2 * self.inverse.len()],
                &device,
            ))
        };
        (table(f64::cos), table(f64::sin))
    }
}

/// `x cos + rotate_half(x) sin` with `rotate_half(x) = [-x2, x1]`.
fn rotate(x: Tensor<4>, cos: &Tensor<4>, sin: &Tensor<4>) -> Tensor<4> {
    let half = x.dims()[3] / 2;
    let turned = Tensor::cat(
        vec![
            x.clone().narrow(3, half, half).neg(),
            x.clone().narrow(3, 0, half),
        ],
        3,
    );
    x * cos.clone() + turned * sin.clone()
}

/// Each key/value head serves `times` consecutive query heads.
fn repeat_heads(x: Tensor<4>, times: usize) -> Tensor<4> {
    if times == 1 {
        return x;
    }
    let [b, heads, t, d] = x.dims();
    x.reshape([b, heads, 1, t * d])
        .expand([b, heads, times, t * d])
        .reshape([b, heads * times, t, d])
}
