//! LLaMA 1 to 3 and Vicuna (Touvron et al. 2023; Dubey et al. 2024): RMS norms, rotary positions,
//! grouped keys, gated feed-forward. Qwen2 and InternLM2 are the same machine under other names.

use std::marker::PhantomData;

use burn::tensor::{Int, Tensor};
use serde::Deserialize;

use super::decoder::{Decoder, DecoderFamily, Home, Outline, device_of};
use crate::change::View;
use crate::error::Result;
use crate::layers::{
    Activation, Embedding, Linear, RmsNorm, Rotary, RotaryConfig, attend, repeat_heads, split_heads,
};
use crate::loader::{Loader, Place};
use crate::parameter::Stage;
use crate::positions::{Pass, Positions};

/// `config.json` of the family `F`, with the published values of that family for what is left out.
#[derive(Deserialize)]
#[serde(default, bound(deserialize = "Config<F>: Default"))]
pub(super) struct Config<F> {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: Option<usize>,
    pub vocab_size: usize,
    pub max_position_embeddings: usize,
    pub rms_norm_eps: f64,
    pub tie_word_embeddings: bool,
    pub hidden_act: String,
    #[serde(flatten)]
    pub rotary: RotaryConfig,
    /// LLaMA's.
    pub head_dim: Option<usize>,
    /// LLaMA's: of queries, keys, values and their output.
    pub attention_bias: bool,
    /// LLaMA's.
    pub mlp_bias: bool,
    /// InternLM2's: of queries, keys, values and their output.
    pub bias: bool,
    /// Qwen2's.
    pub use_sliding_window: bool,
    /// Qwen2's.
    pub sliding_window: Option<usize>,
    /// Qwen2's: the first layer that sees a window.
    pub max_window_layers: usize,
    /// Qwen2's: what each layer sees, in the place of the three above.
    pub layer_types: Option<Vec<String>>,
    #[serde(skip)]
    pub(super) family: PhantomData<F>,
}

/// What a family has of its own beside sizes.
pub(super) struct Traits {
    pub model_type: &'static str,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    pub out_bias: bool,
    pub inner_bias: bool,
    /// Attention windows by layer; empty where every layer sees everything.
    pub windows: Vec<Option<usize>>,
    /// Name of the matrix that holds queries, keys and values together.
    pub packed: Option<&'static str>,
    pub labels: &'static LlamaLabels,
}

impl<F> Config<F> {
    /// The published values of LLaMA, from which other families differ in a few.
    pub fn of_llama() -> Self {
        Self {
            hidden_size: 4096,
            intermediate_size: 11008,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: None,
            vocab_size: 32000,
            max_position_embeddings: 2048,
            rms_norm_eps: 1e-6,
            tie_word_embeddings: false,
            hidden_act: "silu".into(),
            rotary: RotaryConfig::default(),
            head_dim: None,
            attention_bias: false,
            mlp_bias: false,
            bias: true,
            use_sliding_window: false,
            sliding_window: Some(4096),
            max_window_layers: 28,
            layer_types: None,
            family: PhantomData,
        }
    }

    /// Width of a head where it is the width divided by the heads.
    ///
    /// # Errors
    /// Heads that do not divide the width.
    pub fn even_heads(&self, home: Home) -> Result<usize> {
        let heads = self.num_attention_heads;
        home.check_heads("num_attention_heads", heads, self.hidden_size)?;
        Ok(self.hidden_size / heads)
    }

    /// The decoder that it describes.
    ///
    /// # Errors
    /// An unknown activation or scaling of positions.
    pub fn plan(&self, head_dim: usize, traits: Traits, home: Home) -> Result<LlamaPlan> {
        let positions = self.max_position_embeddings;
        Ok(LlamaPlan {
            width: self.hidden_size,
            inner: self.intermediate_size,
            depth: self.num_hidden_layers,
            heads: self.num_attention_heads,
            key_heads: self.num_key_value_heads.unwrap_or(self.num_attention_heads),
            head_dim,
            vocabulary: self.vocab_size,
            max_positions: positions,
            eps: self.rms_norm_eps,
            tied: self.tie_word_embeddings,
            activation: home.activation("hidden_act", &self.hidden_act)?,
            rotary: self.rotary.build(head_dim, positions, home.location)?,
            traits,
        })
    }
}

/// LLaMA among the families of its machine.
struct Published;

impl Default for Config<Published> {
    fn default() -> Self {
        Self::of_llama()
    }
}

pub(super) const LABELS: LlamaLabels = LlamaLabels {
    tokens: "model.embed_tokens",
    layers: "model.layers",
    norm: "model.norm",
    head: "lm_head",
    attention_norm: "input_layernorm",
    query: "self_attn.q_proj",
    key: "self_attn.k_proj",
    value: "self_attn.v_proj",
    out: "self_attn.o_proj",
    ffn_norm: "post_attention_layernorm",
    gate: "mlp.gate_proj",
    up: "mlp.up_proj",
    down: "mlp.down_proj",
};

pub(super) const FAMILY: DecoderFamily = DecoderFamily {
    model_type: "llama",
    load: |loader, home| {
        let config: Config<Published> = home.read()?;
        let heads = config.num_attention_heads;
        let head_dim = config.head_dim.unwrap_or(config.hidden_size / heads.max(1));
        let traits = Traits {
            model_type: FAMILY.model_type,
            qkv_bias: config.attention_bias,
            out_bias: config.attention_bias,
            inner_bias: config.mlp_bias,
            windows: Vec::new(),
            packed: None,
            labels: &LABELS,
        };
        let plan = config.plan(head_dim, traits, home)?;
        Ok(Box::new(Llama::load(loader, plan, home)?))
    },
    optional: &["lm_head.weight", "*.self_attn.rotary_emb.inv_freq"],
};

/// A decoder of this machine.
pub(super) struct LlamaPlan {
    width: usize,
    inner: usize,
    depth: usize,
    heads: usize,
    key_heads: usize,
    head_dim: usize,
    vocabulary: usize,
    max_positions: usize,
    eps: f64,
    tied: bool,
    activation: Activation,
    rotary: Rotary,
    traits: Traits,
}

/// Published names of the parts.
pub(super) struct LlamaLabels {
    pub tokens: &'static str,
    pub layers: &'static str,
    pub norm: &'static str,
    pub head: &'static str,
    pub attention_norm: &'static str,
    pub query: &'static str,
    pub key: &'static str,
    pub value: &'static str,
    pub out: &'static str,
    pub ffn_norm: &'static str,
    pub gate: &'static str,
    pub up: &'static str,
    pub down: &'static str,
}

/// The decoder.
pub(super) struct Llama {
    tokens: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    head: Embedding,
    outline: Outline,
    plan: LlamaPlan,
}

struct Layer {
    attention_norm: RmsNorm,
    projections: Projections,
    out: Linear,
    ffn_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// How queries, keys and values are stored.
enum Projections {
    Separate {
        query: Linear,
        key: Linear,
        value: Linear,
    },
    /// Rows `[K, N/K + 2, D]`: each group's queries, its key, its value.
    Grouped(Linear),
}

impl Llama {
    /// Loads the decoder that `plan` describes.
    ///
    /// # Errors
    /// Missing or misshapen tensors, or heads that do not fit.
    pub fn load(loader: &mut Loader, plan: LlamaPlan, home: Home) -> Result<Self> {
        home.check_heads("num_key_value_heads", plan.key_heads, plan.heads)?;
        if plan.head_dim == 0 || !plan.head_dim.is_multiple_of(2) {
            return Err(home.refuse("head_dim", "must be even and positive".into()));
        }
        let labels = plan.traits.labels;
        // The base-model class publishes without `model.`.
        let bare = |name: &'static str| name.strip_prefix("model.").unwrap_or(name);
        let is_bare = loader.has(&format!("{}{}.weight", home.prefix, bare(labels.tokens)));
        let at = |name| format!("{}{}", home.prefix, if is_bare { bare(name) } else { name });
        let weight = |name: &'static str| format!("{}.weight", at(name));
        let table = [plan.vocabulary, plan.width];
        let embed = Place::language(Stage::Embed);
        let names = (weight(labels.tokens), weight(labels.head));
        let tokens = Embedding::new(loader.matrix(&names.0, &table, embed)?);
        let layers = (0..plan.depth)
            .map(|index| {
                let at = format!("{}.{index}", at(labels.layers));
                Layer::load(loader, &plan, &at, index)
            })
            .collect::<Result<_>>()?;
        let end = Place::language(Stage::Head);
        let norm = RmsNorm::load(loader, &at(labels.norm), plan.width, plan.eps, end)?;
        let head = loader.head(&names.1, table, (&names.0, &tokens), plan.tied)?;
        Ok(Self {
            tokens,
            layers,
            norm,
            head,
            outline: Outline {
                model_type: plan.traits.model_type,
                depth: plan.depth,
                width: plan.width,
                vocabulary: plan.vocabulary,
                max_positions: plan.max_positions,
                layers: loader.published(&format!("{}.", at(labels.layers))),
                feed_forward: [labels.up, labels.down],
            },
            plan,
        })
    }
}

impl Layer {
    fn load(loader: &mut Loader, plan: &LlamaPlan, at: &str, index: usize) -> Result<Self> {
        let attention = Place::language(Stage::Attention(index));
        let ffn = Place::language(Stage::FeedForward(index));
        let (d, f, own) = (plan.width, plan.inner, &plan.traits);
        let labels = own.labels;
        let queries = plan.heads * plan.head_dim;
        let keys = plan.key_heads * plan.head_dim;
        let mut linear = |name: &str, shape: [usize; 2], bias: bool, place: Place| {
            Linear::load(loader, &format!("{at}.{name}"), shape, bias, place)
        };
        let projections = match own.packed {
            None => Projections::Separate {
                query: linear(labels.query, [queries, d], own.qkv_bias, attention)?,
                key: linear(labels.key, [keys, d], own.qkv_bias, attention)?,
                value: linear(labels.value, [keys, d], own.qkv_bias, attention)?,
            },
            Some(name) => {
                let shape = [queries + 2 * keys, d];
                Projections::Grouped(linear(name, shape, own.qkv_bias, attention)?)
            }
        };
        let out = linear(labels.out, [d, queries], own.out_bias, attention)?;
        let gate = linear(labels.gate, [f, d], own.inner_bias, ffn)?;
        let up = linear(labels.up, [f, d], own.inner_bias, ffn)?;
        let down = linear(labels.down, [d, f], own.inner_bias, ffn)?;
        let mut norm = |name: &str, place: Place| {
            RmsNorm::load(loader, &format!("{at}.{name}"), d, plan.eps, place)
        };
        Ok(Self {
            attention_norm: norm(labels.attention_norm, attention)?,
            projections,
            out,
            ffn_norm: norm(labels.ffn_norm, ffn)?,
            gate,
            up,
            down,
        })
    }
}

impl Projections {
    /// Queries `[b, N, t, D]`, keys and values `[b, K, t, D]`.
    fn apply(&self, h: Tensor<3>, plan: &LlamaPlan, view: &View) -> [Tensor<4>; 3] {
        match self {
            Self::Separate { query, key, value } => [
                split_heads(query.forward(h.clone(), view), plan.heads),
                split_heads(key.forward(h.clone(), view), plan.key_heads),
                split_heads(value.forward(h, view), plan.key_heads),
            ],
            Self::Grouped(packed) => {
                let [b, t, _] = h.dims();
                let (k, d) = (plan.key_heads, plan.head_dim);
                let group = plan.heads / k;
                let all = packed.forward(h, view).reshape([b, t, k, group + 2, d]);
                let part = |from: usize, n: usize| {
                    all.clone()
                        .narrow(3, from, n)
                        .reshape([b, t, k * n, d])
                        .swap_dims(1, 2)
                };
                [part(0, group), part(group, 1), part(group + 1, 1)]
            }
        }
    }
}

impl Decoder for Llama {
    fn outline(&self) -> &Outline {
        &self.outline
    }

    fn embed(&self, ids: Tensor<1, Int>, shape: [usize; 2], view: &View) -> Tensor<3> {
        self.tokens.forward(ids, shape, view)
    }

    fn place(&self, x: Tensor<3>, _places: &Positions, _view: &View) -> Tensor<3> {
        x
    }

    fn attention(&self, index: usize, x: Tensor<3>, pass: &mut Pass, view: &View) -> Tensor<3> {
        let (layer, plan) = (&self.layers[index], &self.plan);
        let h = layer.attention_norm.forward(x.clone(), view);
        let t = x.dims()[1];
        let angles = plan.rotary.angles(pass.places().positions(), t, &x, view);
        let [q, k, v] = layer.projections.apply(h, plan, view);
        let (k, v) = pass.remember(index, plan.rotary.turn(k, &angles), v);
        let window = plan.traits.windows.get(index).copied().flatten();
        let visible = pass.visible(window, &device_of(&x));
        let times = plan.heads / plan.key_heads;
        let mixed = attend(
            plan.rotary.turn(q, &angles),
            repeat_heads(k, times),
            repeat_heads(v, times),
            &visible,
            None,
        );
        x + layer.out.forward(mixed, view)
    }

    fn feed_forward(&self, index: usize, x: Tensor<3>, view: &View) -> Tensor<3> {
        let layer = &self.layers[index];
        let h = layer.ffn_norm.forward(x.clone(), view);
        let gate = layer.gate.forward(h.clone(), view);
        let h = self.plan.activation.apply(gate) * layer.up.forward(h, view);
        x + layer.down.forward(h, view)
    }

    fn head(&self, x: Tensor<3>, view: &View) -> Tensor<3> {
        self.head.unembed(self.norm.forward(x, view), view)
    }
}
