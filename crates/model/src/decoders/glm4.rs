//! GLM-4 in its original layout (Zeng et al. 2024): fused queries, keys and values, fused gate
//! and up matrix, rotary positions on the first half of each head in neighbouring pairs.

use burn::tensor::{Int, Tensor};
use serde::Deserialize;

use super::decoder::{Decoder, DecoderFamily, Home, Outline, device_of};
use crate::change::View;
use crate::error::Result;
use crate::layers::{
    Activation, Embedding, Linear, Pairing, RmsNorm, Rotary, attend, repeat_heads, split_heads,
};
use crate::loader::{Loader, Place};
use crate::parameter::Stage;
use crate::positions::{Pass, Positions};

/// `config.json`, with the published defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Config {
    hidden_size: usize,
    ffn_hidden_size: usize,
    num_layers: usize,
    num_attention_heads: usize,
    kv_channels: usize,
    multi_query_attention: bool,
    multi_query_group_num: usize,
    padded_vocab_size: usize,
    seq_length: usize,
    layernorm_epsilon: f64,
    rope_ratio: f64,
    add_bias_linear: bool,
    add_qkv_bias: bool,
    tie_word_embeddings: bool,
    rmsnorm: bool,
    post_layer_norm: bool,
    apply_residual_connection_post_layernorm: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hidden_size: 4096,
            ffn_hidden_size: 13696,
            num_layers: 28,
            num_attention_heads: 32,
            kv_channels: 128,
            multi_query_attention: false,
            multi_query_group_num: 1,
            padded_vocab_size: 65024,
            seq_length: 2048,
            layernorm_epsilon: 1e-5,
            rope_ratio: 1.0,
            add_bias_linear: false,
            add_qkv_bias: false,
            tie_word_embeddings: false,
            rmsnorm: true,
            post_layer_norm: true,
            apply_residual_connection_post_layernorm: false,
        }
    }
}

impl Config {
    fn key_heads(&self) -> usize {
        if self.multi_query_attention {
            self.multi_query_group_num
        } else {
            self.num_attention_heads
        }
    }

    /// Refuses the members of the configuration class that no published GLM-4 uses.
    fn check(&self, home: Home) -> Result<()> {
        home.check_heads(
            "multi_query_group_num",
            self.key_heads(),
            self.num_attention_heads,
        )?;
        let known = [
            ("rmsnorm", self.rmsnorm, true),
            ("post_layer_norm", self.post_layer_norm, true),
            (
                "apply_residual_connection_post_layernorm",
                self.apply_residual_connection_post_layernorm,
                false,
            ),
        ];
        for (field, value, supported) in known {
            if value != supported {
                return Err(
                    home.refuse(field, format!("is {value}; only {supported} is supported"))
                );
            }
        }
        if self.kv_channels > 0 && self.kv_channels.is_multiple_of(4) {
            Ok(())
        } else {
            Err(home.refuse("kv_channels", "must be a positive multiple of 4".into()))
        }
    }
}

pub(super) const FAMILY: DecoderFamily = DecoderFamily {
    model_type: "chatglm",
    load: |loader, home| Ok(Box::new(Glm4::load(loader, home)?)),
    optional: &[
        "transformer.output_layer.weight",
        "transformer.rotary_pos_emb.inv_freq",
    ],
};

struct Glm4 {
    tokens: Embedding,
    head: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    rotary: Rotary,
    outline: Outline,
    config: Config,
}

struct Layer {
    attention_norm: RmsNorm,
    /// All queries, then all keys, then all values.
    all: Linear,
    out: Linear,
    ffn_norm: RmsNorm,
    /// Gate, then up.
    gate_up: Linear,
    down: Linear,
}

impl Glm4 {
    fn load(loader: &mut Loader, home: Home) -> Result<Self> {
        let config: Config = home.read()?;
        config.check(home)?;
        let at = format!("{}transformer", home.prefix);
        let table = [config.padded_vocab_size, config.hidden_size];
        let embed = Place::language(Stage::Embed);
        let end = Place::language(Stage::Head);
        let name = format!("{at}.embedding.word_embeddings.weight");
        let tokens = Embedding::new(loader.matrix(&name, &table, embed)?);
        let layers = (0..config.num_layers)
            .map(|index| {
                let at = format!("{at}.encoder.layers.{index}");
                Layer::load(loader, &config, &at, index)
            })
            .collect::<Result<_>>()?;
        let (d, eps) = (config.hidden_size, config.layernorm_epsilon);
        let norm = RmsNorm::load(
            loader,
            &format!("{at}.encoder.final_layernorm"),
            d,
            eps,
            end,
        )?;
        let head = format!("{at}.output_layer.weight");
        let head = loader.head(&head, table, (&name, &tokens), config.tie_word_embeddings)?;
        let theta = 10_000.0 * config.rope_ratio;
        Ok(Self {
            tokens,
            head,
            layers,
            norm,
            rotary: Rotary::new(
                config.kv_channels / 2,
                theta,
                Pairing::NeighboursOfFirstHalf,
            ),
            outline: Outline {
                model_type: FAMILY.model_type,
                depth: config.num_layers,
                width: config.hidden_size,
                vocabulary: config.padded_vocab_size,
                max_positions: config.seq_length,
                layers: loader.published(&format!("{at}.encoder.layers.")),
                feed_forward: ["mlp.dense_h_to_4h", "mlp.dense_4h_to_h"],
            },
            config,
        })
    }
}

impl Layer {
    fn load(loader: &mut Loader, config: &Config, at: &str, index: usize) -> Result<Self> {
        let attention = Place::language(Stage::Attention(index));
        let ffn = Place::language(Stage::FeedForward(index));
        let (d, f, bias) = (
            config.hidden_size,
            config.ffn_hidden_size,
            config.add_bias_linear,
        );
        let queries = config.num_attention_heads * config.kv_channels;
        let rows = queries + 2 * config.key_heads() * config.kv_channels;
        let mut linear = |name: &str, shape: [usize; 2], bias: bool, place: Place| {
            Linear::load(loader, &format!("{at}.{name}"), shape, bias, place)
        };
        let qkv_bias = bias || config.add_qkv_bias;
        let all = linear(
            "self_attention.query_key_value",
            [rows, d],
            qkv_bias,
            attention,
        )?;
        let out = linear("self_attention.dense", [d, queries], bias, attention)?;
        let gate_up = linear("mlp.dense_h_to_4h", [2 * f, d], bias, ffn)?;
        let down = linear("mlp.dense_4h_to_h", [d, f], bias, ffn)?;
        let eps = config.layernorm_epsilon;
        let mut norm = |name: &str, place: Place| {
            RmsNorm::load(loader, &format!("{at}.{name}"), d, eps, place)
        };
        Ok(Self {
            attention_norm: norm("input_layernorm", attention)?,
            all,
            out,
            ffn_norm: norm("post_attention_layernorm", ffn)?,
            gate_up,
            down,
        })
    }
}

impl Decoder for Glm4 {
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
        let (layer, config) = (&self.layers[index], &self.config);
        let all = layer
            .all
            .forward(layer.attention_norm.forward(x.clone(), view), view);
        let (heads, shared, d) = (
            config.num_attention_heads,
            config.key_heads(),
            config.kv_channels,
        );
        let part = |from: usize, heads: usize| {
            split_heads(all.clone().narrow(2, from * d, heads * d), heads)
        };
        let t = x.dims()[1];
        let angles = self.rotary.angles(pass.places().positions(), t, &x, view);
        let k = self.rotary.turn(part(heads, shared), &angles);
        let (k, v) = pass.remember(index, k, part(heads + shared, shared));
        let visible = pass.visible(None, &device_of(&x));
        let times = heads / shared;
        let mixed = attend(
            self.rotary.turn(part(0, heads), &angles),
            repeat_heads(k, times),
            repeat_heads(v, times),
            &visible,
            None,
        );
        x + layer.out.forward(mixed, view)
    }

    fn feed_forward(&self, index: usize, x: Tensor<3>, view: &View) -> Tensor<3> {
        let layer = &self.layers[index];
        let f = self.config.ffn_hidden_size;
        let h = layer
            .gate_up
            .forward(layer.ffn_norm.forward(x.clone(), view), view);
        let gate = Activation::Silu.apply(h.clone().narrow(2, 0, f));
        x + layer.down.forward(gate * h.narrow(2, f, f), view)
    }

    fn head(&self, x: Tensor<3>, view: &View) -> Tensor<3> {
        self.head.unembed(self.norm.forward(x, view), view)
    }
}
