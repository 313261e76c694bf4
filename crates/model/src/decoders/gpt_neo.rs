//! GPT-Neo (Black et al. 2021): layers that see everything alternate with layers that see a
//! window; scores are not divided by the square root of the head size.

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
        match kinds.len() == self.num_layers {
            true => Ok(kinds),
            false => Err(home.refuse(
                "attention_types",
                format!(
                    "describes {} layers, num_layers is {}",
                    kinds.len(),
                    self.num_layers
                ),
            )),
        }
    }
}

pub(super) const FAMILY: Family = Family {
    model_type: "gpt_neo",
    load: |loader, home| Ok(Box::new(GptNeo::load(loader, home)?)),
    // The masks, stored as buffers.
    optional: &[
        "lm_head.weight",
        "*.attn.attention.bias",
        "*.attn.attention.masked_bias",
    ],
};

struct GptNeo {
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
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    window: Option<usize>,
    ffn_norm: LayerNorm,
    fc: Linear,
    down: Linear,
    activation: Activation,
}

impl GptNeo {
    fn load(loader: &mut Loader, home: Home) -> Result<Self> {
        let config: Config = home.read()?;
        let (d, eps) = (config.hidden_size, config.layer_norm_epsilon);
        home.check_heads("num_heads", config.num_heads, d)?;
        let kinds = config.kinds(home)?;
        let activation = home.activation("activation_function", &config.activation_function)?;
        // The base-model class publishes without `transformer.`.
        let bare = home.prefix.to_owned();
        let at = match loader.has(&format!("{bare}wte.weight")) {
            true => bare,
            false => format!("{bare}transformer."),
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
        let shape = [config.max_position_embeddings, d];
        let positions = loader.matrix(&format!("{at}wpe.weight"), &shape, embed)?;
        let layers = kinds
            .iter()
            .enumerate()
            .map(|(index, kind)| {
                let at = format!("{at}h.{index}");
                let window = (*kind == Kind::Local).then_some(config.window_size);
                Layer::load(loader, &config, (activation, window), &at, index)
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            tokens,
            head,
            positions,
            layers,
            final_norm: LayerNorm::load(loader, &format!("{at}ln_f"), d, eps, end)?,
            outline: Outline {
                depth: config.num_layers,
                width: config.hidden_size,
                vocabulary: config.vocab_size,
                max_positions: config.max_position_embeddings,
                layers: loader.published(&format!("{at}h.")),
                edited: ["mlp.c_fc", "mlp.c_proj"],
                fine_tuning_rate: 2e-4,
            },
            config,
        })
    }
}

impl Layer {
    fn load(
        loader: &mut Loader,
        config: &Config,
        (activation, window): (Activation, Option<usize>),
        at: &str,
        index: usize,
    ) -> Result<Self> {
        let attention = Place::language(Stage::Attention(index));
        let ffn = Place::language(Stage::FeedForward(index));
        let d = config.hidden_size;
        let f = config.intermediate_size.unwrap_or(4 * d);
        let mut linear = |name: &str, shape: [usize; 2], bias: bool, place: Place| {
            Linear::load(loader, &format!("{at}.{name}"), shape, bias, place)
        };
        let query = linear("attn.attention.q_proj", [d, d], false, attention)?;
        let key = linear("attn.attention.k_proj", [d, d], false, attention)?;
        let value = linear("attn.attention.v_proj", [d, d], false, attention)?;
        let out = linear("attn.attention.out_proj", [d, d], true, attention)?;
        let fc = linear("mlp.c_fc", [f, d], true, ffn)?;
        let down = linear("mlp.c_proj", [d, f], true, ffn)?;
        let eps = config.layer_norm_epsilon;
        let mut norm = |name: &str, place: Place| {
            LayerNorm::load(loader, &format!("{at}.{name}"), d, eps, place)
        };
        Ok(Self {
            attention_norm: norm("ln_1", attention)?,
            query,
            key,
            value,
            out,
            window,
            ffn_norm: norm("ln_2", ffn)?,
            fc,
            down,
            activation,
        })
    }
}

impl Decoder for GptNeo {
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
        let h = layer.attention_norm.forward(x.clone(), view);
        let heads = self.config.num_heads;
        let split = |linear: &Linear| split_heads(linear.forward(h.clone(), view), heads);
        let (k, v) = pass.remember(index, split(&layer.key), split(&layer.value));
        let visible = pass.visible(layer.window, &device_of(&x));
        let mixed = attend(split(&layer.query), k, v, &visible, Some(1.0));
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
