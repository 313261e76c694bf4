//! OPT (Zhang et al. 2022): learned positions with an offset of two, ReLU, tied head.
//!
//! All sizes but 350m put the norm in front of each block; 350m puts it behind, has no final
//! norm, and a token table narrower than the residual stream.

use burn::tensor::{Int, Tensor};
use serde::Deserialize;

use super::{Decoder, Family, Home, Outline, device_of};
use crate::change::View;
use crate::error::Result;
use crate::layers::{Activation, Embedding, LayerNorm, Linear, Matrix, attend, split_heads};
use crate::loader::{Loader, Place};
use crate::parameter::Stage;
use crate::positions::{Pass, Positions};

/// OPT stores row `position + 2`; the first two rows are never used by real tokens.
const POSITION_OFFSET: usize = 2;

/// `config.json`, with the published defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Config {
    hidden_size: usize,
    ffn_dim: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    activation_function: String,
    do_layer_norm_before: bool,
    word_embed_proj_dim: Option<usize>,
    enable_bias: bool,
    layer_norm_elementwise_affine: bool,
    tie_word_embeddings: bool,
    #[serde(rename = "_remove_final_layer_norm")]
    remove_final_layer_norm: bool,
}

impl Default for Config {
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
            enable_bias: true,
            layer_norm_elementwise_affine: true,
            tie_word_embeddings: true,
            remove_final_layer_norm: false,
        }
    }
}

pub(super) const FAMILY: Family = Family {
    model_type: "opt",
    load: |loader, home| Ok(Box::new(Opt::load(loader, home)?)),
    optional: &["lm_head.weight"],
};

struct Opt {
    tokens: Embedding,
    head: Embedding,
    project_in: Option<Linear>,
    project_out: Option<Linear>,
    positions: Matrix,
    layers: Vec<Layer>,
    final_norm: Option<LayerNorm>,
    outline: Outline,
    config: Config,
}

struct Layer {
    attention_norm: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    ffn_norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    activation: Activation,
}

impl Opt {
    fn load(loader: &mut Loader, home: Home) -> Result<Self> {
        let config: Config = home.read()?;
        let d = config.hidden_size;
        home.check_heads("num_attention_heads", config.num_attention_heads, d)?;
        if !config.layer_norm_elementwise_affine {
            let problem = "is false; norms without weights are not supported".to_owned();
            return Err(home.refuse("layer_norm_elementwise_affine", problem));
        }
        let activation = home.activation("activation_function", &config.activation_function)?;
        // The base-model class publishes without `model.`.
        let bare = format!("{}decoder", home.prefix);
        let at = match loader.has(&format!("{bare}.embed_tokens.weight")) {
            true => bare,
            false => format!("{}model.decoder", home.prefix),
        };
        let narrow = config.word_embed_proj_dim.unwrap_or(d);
        let embed = Place::language(Stage::Embed);
        let head_place = Place::language(Stage::Head);
        let table = format!("{at}.embed_tokens.weight");
        let shape = [config.vocab_size, narrow];
        let tokens = Embedding::new(loader.matrix(&table, &shape, embed)?);
        let head = match config.tie_word_embeddings {
            true => tokens.clone(),
            false => {
                let name = format!("{}lm_head.weight", home.prefix);
                Embedding::new(loader.matrix(&name, &shape, head_place)?)
            }
        };
        let mut project = |name: &str, shape: [usize; 2], place: Place| match narrow == d {
            true => Ok(None),
            false => Linear::load(loader, &format!("{at}.{name}"), shape, false, place).map(Some),
        };
        let project_in = project("project_in", [d, narrow], embed)?;
        let project_out = project("project_out", [narrow, d], head_place)?;
        let rows = config.max_position_embeddings + POSITION_OFFSET;
        let positions =
            loader.matrix(&format!("{at}.embed_positions.weight"), &[rows, d], embed)?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| {
                let at = format!("{at}.layers.{index}");
                Layer::load(loader, &config, activation, &at, index)
            })
            .collect::<Result<_>>()?;
        let final_norm = match config.do_layer_norm_before && !config.remove_final_layer_norm {
            true => {
                let name = format!("{at}.final_layer_norm");
                Some(LayerNorm::load(loader, &name, d, 1e-5, head_place)?)
            }
            false => None,
        };
        Ok(Self {
            tokens,
            head,
            project_in,
            project_out,
            positions,
            layers,
            final_norm,
            outline: Outline {
                depth: config.num_hidden_layers,
                width: config.hidden_size,
                vocabulary: config.vocab_size,
                max_positions: config.max_position_embeddings,
                layers: loader.published(&format!("{at}.layers.")),
                edited: ["fc1", "fc2"],
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
        activation: Activation,
        at: &str,
        index: usize,
    ) -> Result<Self> {
        let attention = Place::language(Stage::Attention(index));
        let ffn = Place::language(Stage::FeedForward(index));
        let (d, f, bias) = (config.hidden_size, config.ffn_dim, config.enable_bias);
        let mut linear = |name: &str, shape: [usize; 2], place: Place| {
            Linear::load(loader, &format!("{at}.{name}"), shape, bias, place)
        };
        let query = linear("self_attn.q_proj", [d, d], attention)?;
        let key = linear("self_attn.k_proj", [d, d], attention)?;
        let value = linear("self_attn.v_proj", [d, d], attention)?;
        let out = linear("self_attn.out_proj", [d, d], attention)?;
        let fc1 = linear("fc1", [f, d], ffn)?;
        let fc2 = linear("fc2", [d, f], ffn)?;
        let mut norm = |name: &str, place: Place| {
            LayerNorm::load(loader, &format!("{at}.{name}"), d, 1e-5, place)
        };
        Ok(Self {
            query,
            key,
            value,
            out,
            attention_norm: norm("self_attn_layer_norm", attention)?,
            ffn_norm: norm("final_layer_norm", ffn)?,
            fc1,
            fc2,
            activation,
        })
    }
}

impl Decoder for Opt {
    fn outline(&self) -> &Outline {
        &self.outline
    }

    fn embed(&self, ids: Tensor<1, Int>, shape: [usize; 2], view: &View) -> Tensor<3> {
        let x = self.tokens.forward(ids, shape, view);
        match &self.project_in {
            Some(project) => project.forward(x, view),
            None => x,
        }
    }

    fn place(&self, x: Tensor<3>, places: &Positions, view: &View) -> Tensor<3> {
        places.add_rows(x, &self.positions, POSITION_OFFSET, view)
    }

    fn attention(&self, index: usize, x: Tensor<3>, pass: &mut Pass, view: &View) -> Tensor<3> {
        let layer = &self.layers[index];
        let before = self.config.do_layer_norm_before;
        let h = match before {
            true => layer.attention_norm.forward(x.clone(), view),
            false => x.clone(),
        };
        let heads = self.config.num_attention_heads;
        let split = |linear: &Linear| split_heads(linear.forward(h.clone(), view), heads);
        let (k, v) = pass.remember(index, split(&layer.key), split(&layer.value));
        let visible = pass.visible(None, &device_of(&x));
        let mixed = attend(split(&layer.query), k, v, &visible, None);
        let x = x + layer.out.forward(mixed, view);
        match before {
            true => x,
            false => layer.attention_norm.forward(x, view),
        }
    }

    fn feed_forward(&self, index: usize, x: Tensor<3>, view: &View) -> Tensor<3> {
        let layer = &self.layers[index];
        let before = self.config.do_layer_norm_before;
        let h = match before {
            true => layer.ffn_norm.forward(x.clone(), view),
            false => x.clone(),
        };
        let h = layer.activation.apply(layer.fc1.forward(h, view));
        let x = x + layer.fc2.forward(h, view);
        match before {
            true => x,
            false => layer.ffn_norm.forward(x, view),
        }
    }

    fn head(&self, x: Tensor<3>, view: &View) -> Tensor<3> {
        let x = match &self.final_norm {
            Some(norm) => norm.forward(x, view),
            None => x,
        };
        let x = match &self.project_out {
            Some(project) => project.forward(x, view),
            None => x,
        };
        self.head.unembed(x, view)
    }
}
