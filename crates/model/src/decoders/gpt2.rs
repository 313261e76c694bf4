//! GPT-2 (Radford et al. 2019): learned positions, pre-norm, matrices stored `[d_in, d_out]`.

use burn::tensor::{Int, Tensor};
use serde::Deserialize;

use super::{Decoder, Family, Home, Outline, device_of};
use crate::change::View;
use crate::error::Result;
use crate::layers::{Activation, Embedding, LayerNorm, Linear, Matrix, attend, split_heads};
use crate::loader::{Loader, Place};
use crate::parameter::Stage;
use crate::positions::{Pass, Positions};

/// `config.json`, with the published defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Config {
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    n_inner: Option<usize>,
    n_positions: usize,
    vocab_size: usize,
    layer_norm_epsilon: f64,
    activation_function: String,
    tie_word_embeddings: bool,
    scale_attn_weights: bool,
    scale_attn_by_inverse_layer_idx: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            n_embd: 768,
            n_layer: 12,
            n_head: 12,
            n_inner: None,
            n_positions: 1024,
            vocab_size: 50257,
            layer_norm_epsilon: 1e-5,
            activation_function: "gelu_new".into(),
            tie_word_embeddings: true,
            scale_attn_weights: true,
            scale_attn_by_inverse_layer_idx: false,
        }
    }
}

pub(super) const FAMILY: Family = Family {
    model_type: "gpt2",
    load: |loader, home| Ok(Box::new(Gpt2::load(loader, home)?)),
    // The causal mask, stored as a buffer.
    optional: &["lm_head.weight", "*.attn.bias", "*.attn.masked_bias"],
};

struct Gpt2 {
    tokens: Embedding,
    head: Embedding,
    positions: Matrix,
    layers: Vec<Layer>,
    final_norm: LayerNorm,
    outline: Outline,
    config: Config,
}

struct Layer {
    attention_norm: LayerNorm,
    /// Queries, keys and values, `[d, 3 d]`.
    all: Linear,
    out: Linear,
    ffn_norm: LayerNorm,
    fc: Linear,
    down: Linear,
    activation: Activation,
}

impl Gpt2 {
    fn load(loader: &mut Loader, home: Home) -> Result<Self> {
        let config: Config = home.read()?;
        let (d, eps) = (config.n_embd, config.layer_norm_epsilon);
        home.check_heads("n_head", config.n_head, d)?;
        let activation = home.activation("activation_function", &config.activation_function)?;
        // The base-model class publishes without `transformer.`.
        let bare = home.prefix.to_owned();
        let at = match loader.has(&format!("{bare}transformer.wte.weight")) {
            true => format!("{bare}transformer."),
            false => bare,
        };
        let embed = Place::language(Stage::Embed);
        let end = Place::language(Stage::Head);
        let table = [config.vocab_size, d];
        let tokens = Embedding::new(loader.matrix(&format!("{at}wte.weight"), &table, embed)?);
        let head = match config.tie_word_embeddings {
            true => tokens.clone(),
            false => {
                let name = format!("{}lm_head.weight", home.prefix);
                Embedding::new(loader.matrix(&name, &table, end)?)
            }
        };
        let shape = [config.n_positions, d];
        let positions = loader.matrix(&format!("{at}wpe.weight"), &shape, embed)?;
        let layers = (0..config.n_layer)
            .map(|index| {
                let at = format!("{at}h.{index}");
                Layer::load(loader, &config, activation, &at, index)
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            tokens,
            head,
            positions,
            layers,
            final_norm: LayerNorm::load(loader, &format!("{at}ln_f"), d, eps, end)?,
            outline: Outline {
                depth: config.n_layer,
                width: config.n_embd,
                vocabulary: config.vocab_size,
                max_positions: config.n_positions,
                layers: loader.published(&format!("{at}h.")),
                edited: ["mlp.c_fc", "mlp.c_proj"],
                fine_tuning_rate: 2e-4,
            },
            config,
        })
    }

    /// `1/sqrt(D)`, divided once more by the layer's number where the configuration says so.
    fn scale(&self, layer: usize) -> f64 {
        let d = self.config.n_embd / self.config.n_head;
        let scale = match self.config.scale_attn_weights {
            true => 1.0 / (d as f64).sqrt(),
            false => 1.0,
        };
        match self.config.scale_attn_by_inverse_layer_idx {
            true => scale / (layer + 1) as f64,
            false => scale,
        }
    }
}

impl Layer {
    fn load(
        loader: &mut Loader,
        config: &Config,
        activation: Activation,
        at: &str,
        index: usize,
    ) -> Result<Self> {
        let attention = Place::language(Stage::Attention(index));
        let ffn = Place::language(Stage::FeedForward(index));
        let d = config.n_embd;
        let f = config.n_inner.unwrap_or(4 * d);
        let mut linear = |name: &str, shape: [usize; 2], place: Place| {
            Linear::load_input_first(loader, &format!("{at}.{name}"), shape, place)
        };
        let all = linear("attn.c_attn", [3 * d, d], attention)?;
        let out = linear("attn.c_proj", [d, d], attention)?;
        let fc = linear("mlp.c_fc", [f, d], ffn)?;
        let down = linear("mlp.c_proj", [d, f], ffn)?;
        let eps = config.layer_norm_epsilon;
        let mut norm = |name: &str, place: Place| {
            LayerNorm::load(loader, &format!("{at}.{name}"), d, eps, place)
        };
        Ok(Self {
            attention_norm: norm("ln_1", attention)?,
            all,
            out,
            ffn_norm: norm("ln_2", ffn)?,
            fc,
            down,
            activation,
        })
    }
}

impl Decoder for Gpt2 {
    fn outline(&self) -> &Outline {
        &self.outline
    }

    fn embed(&self, ids: Tensor<1, Int>, shape: [usize; 2], view: &View) -> Tensor<3> {
        self.tokens.forward(ids, shape, view)
    }

    fn place(&self, x: Tensor<3>, places: &Positions, view: &View) -> Tensor<3> {
        places.add_rows(x, &self.positions, 0, view)
    }

    fn attention(&self, index: usize, x: Tensor<3>, pass: &mut Pass, view: &View) -> Tensor<3> {
        let layer = &self.layers[index];
        let d = self.config.n_embd;
        let all = layer
            .all
            .forward(layer.attention_norm.forward(x.clone(), view), view);
        let part = |i: usize| split_heads(all.clone().narrow(2, i * d, d), self.config.n_head);
        let (k, v) = pass.remember(index, part(1), part(2));
        let visible = pass.visible(None, &device_of(&x));
        let mixed = attend(part(0), k, v, &visible, Some(self.scale(index)));
        x + layer.out.forward(mixed, view)
    }

    fn feed_forward(&self, index: usize, x: Tensor<3>, view: &View) -> Tensor<3> {
        let layer = &self.layers[index];
        let h = layer
            .fc
            .forward(layer.ffn_norm.forward(x.clone(), view), view);
        x + layer.down.forward(layer.activation.apply(h), view)
    }

    fn head(&self, x: Tensor<3>, view: &View) -> Tensor<3> {
        self.head.unembed(self.final_norm.forward(x, view), view)
    }
}
