//! Decoders with learned absolute positions and LayerNorms: the machine of GPT-2, GPT-Neo and OPT,
//! which differ in names, sizes and where the norms stand.

use burn::tensor::{Int, Tensor};

use super::decoder::{Decoder, Home, Outline, device_of};
use crate::change::View;
use crate::error::Result;
use crate::layers::{Activation, Embedding, LayerNorm, Linear, Matrix, attend, split_heads};
use crate::loader::{Loader, Place};
use crate::parameter::Stage;
use crate::positions::{Pass, Positions};

/// What distinguishes one of them from another.
pub(super) struct AbsolutePlan {
    pub model_type: &'static str,
    pub width: usize,
    /// Width of the token table; where it is not `width`, projections stand between them.
    pub table_width: usize,
    pub inner: usize,
    pub heads: usize,
    pub vocabulary: usize,
    pub max_positions: usize,
    /// Row of the position table that the first position reads.
    pub first_position: usize,
    pub eps: f64,
    /// Whether the head is the token table.
    pub tied: bool,
    pub activation: Activation,
    /// Whether norms stand in front of their blocks, not behind.
    pub norms_first: bool,
    pub final_norm: bool,
    pub weights: Weights,
    pub layers: Vec<LayerPlan>,
    pub labels: &'static AbsoluteLabels,
}

/// What may differ from layer to layer.
#[derive(Clone, Copy)]
pub(super) struct LayerPlan {
    /// What scores are multiplied by; `1/sqrt(D)` where it says nothing.
    pub scale: Option<f64>,
    /// How far the layer sees; everything where it says nothing.
    pub window: Option<usize>,
}

/// How weights of linear layers are stored.
#[derive(Clone, Copy)]
pub(super) enum Weights {
    /// `[d_out, d_in]`; whether projections, their output and the feed-forward block have a bias.
    OutputFirst {
        projections: bool,
        out: bool,
        feed_forward: bool,
    },
    /// `[d_in, d_out]`, all with a bias.
    InputFirst,
}

/// Published names of the parts.
pub(super) struct AbsoluteLabels {
    pub tokens: &'static str,
    pub positions: &'static str,
    pub layers: &'static str,
    pub final_norm: &'static str,
    pub attention_norm: &'static str,
    pub projections: ProjectionLabels,
    pub out: &'static str,
    pub ffn_norm: &'static str,
    pub up: &'static str,
    pub down: &'static str,
}

/// Published names of the matrices of queries, keys and values.
pub(super) enum ProjectionLabels {
    Separate([&'static str; 3]),
    /// One matrix that holds all queries, then all keys, then all values.
    Packed(&'static str),
}

/// The decoder.
pub(super) struct AbsoluteDecoder {
    tokens: Embedding,
    head: Embedding,
    project_in: Option<Linear>,
    project_out: Option<Linear>,
    positions: Matrix,
    layers: Vec<Layer>,
    final_norm: Option<LayerNorm>,
    outline: Outline,
    plan: AbsolutePlan,
}

struct Layer {
    attention_norm: LayerNorm,
    projections: Projections,
    out: Linear,
    ffn_norm: LayerNorm,
    up: Linear,
    down: Linear,
}

enum Projections {
    Separate {
        query: Linear,
        key: Linear,
        value: Linear,
    },
    Packed(Linear),
}

impl AbsoluteDecoder {
    /// Loads the decoder that `plan` describes, whose parameters stand under `at`.
    ///
    /// # Errors
    /// Missing or misshapen tensors.
    pub fn load(loader: &mut Loader, plan: AbsolutePlan, at: &str, home: Home) -> Result<Self> {
        let (d, narrow, labels) = (plan.width, plan.table_width, plan.labels);
        let embed = Place::language(Stage::Embed);
        let end = Place::language(Stage::Head);
        let table = [plan.vocabulary, narrow];
        let name = format!("{at}{}.weight", labels.tokens);
        let tokens = Embedding::new(loader.matrix(&name, &table, embed)?);
        let head = format!("{}lm_head.weight", home.prefix);
        let head = loader.head(&head, table, (&name, &tokens), plan.tied)?;
        let mut project = |name: &str, shape: [usize; 2], place: Place| {
            if narrow == d {
                return Ok(None);
            }
            Linear::load(loader, &format!("{at}{name}"), shape, false, place).map(Some)
        };
        let project_in = project("project_in", [d, narrow], embed)?;
        let project_out = project("project_out", [narrow, d], end)?;
        let positions = format!("{at}{}.weight", labels.positions);
        let rows = plan.max_positions + plan.first_position;
        let positions = loader.matrix(&positions, &[rows, d], embed)?;
        let layers = (0..plan.layers.len())
            .map(|index| {
                let at = format!("{at}{}.{index}", labels.layers);
                Layer::load(loader, &plan, &at, index)
            })
            .collect::<Result<_>>()?;
        let final_norm = if plan.final_norm {
            let name = format!("{at}{}", labels.final_norm);
            Some(LayerNorm::load(loader, &name, d, plan.eps, end)?)
        } else {
            None
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
                model_type: plan.model_type,
                depth: plan.layers.len(),
                width: d,
                vocabulary: plan.vocabulary,
                max_positions: plan.max_positions,
                layers: loader.published(&format!("{at}{}.", labels.layers)),
                feed_forward: [labels.up, labels.down],
            },
            plan,
        })
    }

    /// `block` with its residual and its norm, on whichever side of it that stands.
    fn residual(
        &self,
        x: Tensor<3>,
        norm: &LayerNorm,
        view: &View,
        block: impl FnOnce(Tensor<3>) -> Tensor<3>,
    ) -> Tensor<3> {
        if self.plan.norms_first {
            let h = norm.forward(x.clone(), view);
            x + block(h)
        } else {
            norm.forward(x.clone() + block(x), view)
        }
    }
}

impl Layer {
    fn load(loader: &mut Loader, plan: &AbsolutePlan, at: &str, index: usize) -> Result<Self> {
        let attention = Place::language(Stage::Attention(index));
        let ffn = Place::language(Stage::FeedForward(index));
        let (d, f, labels) = (plan.width, plan.inner, plan.labels);
        // Which biases there are, where not all layers have one.
        let (projections_bias, out_bias, ffn_bias) = match plan.weights {
            Weights::InputFirst => (true, true, true),
            Weights::OutputFirst {
                projections,
                out,
                feed_forward,
            } => (projections, out, feed_forward),
        };
        let mut linear = |name: &str, shape: [usize; 2], bias: bool, place: Place| {
            let name = format!("{at}.{name}");
            match plan.weights {
                Weights::InputFirst => Linear::load_input_first(loader, &name, shape, place),
                Weights::OutputFirst { .. } => Linear::load(loader, &name, shape, bias, place),
            }
        };
        let mut projection =
            |name: &str, rows: usize| linear(name, [rows, d], projections_bias, attention);
        let projections = match labels.projections {
            ProjectionLabels::Separate([query, key, value]) => Projections::Separate {
                query: projection(query, d)?,
                key: projection(key, d)?,
                value: projection(value, d)?,
            },
            ProjectionLabels::Packed(name) => Projections::Packed(projection(name, 3 * d)?),
        };
        let out = linear(labels.out, [d, d], out_bias, attention)?;
        let up = linear(labels.up, [f, d], ffn_bias, ffn)?;
        let down = linear(labels.down, [d, f], ffn_bias, ffn)?;
        let mut norm = |name: &str, place: Place| {
            LayerNorm::load(loader, &format!("{at}.{name}"), d, plan.eps, place)
        };
        Ok(Self {
            attention_norm: norm(labels.attention_norm, attention)?,
            projections,
            out,
            ffn_norm: norm(labels.ffn_norm, ffn)?,
            up,
            down,
        })
    }
}

impl Projections {
    /// Queries, keys and values `[b, heads, t, D]`.
    fn apply(&self, h: Tensor<3>, heads: usize, view: &View) -> [Tensor<4>; 3] {
        match self {
            Self::Separate { query, key, value } => [query, key, value]
                .map(|linear| split_heads(linear.forward(h.clone(), view), heads)),
            Self::Packed(all) => {
                let d = h.dims()[2];
                let all = all.forward(h, view);
                [0, 1, 2].map(|part| split_heads(all.clone().narrow(2, part * d, d), heads))
            }
        }
    }
}

impl Decoder for AbsoluteDecoder {
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
        places.add_rows(x, &self.positions, self.plan.first_position, view)
    }

    fn attention(&self, index: usize, x: Tensor<3>, pass: &mut Pass, view: &View) -> Tensor<3> {
        let (layer, plan) = (&self.layers[index], self.plan.layers[index]);
        self.residual(x, &layer.attention_norm, view, |h| {
            let device = device_of(&h);
            let [q, k, v] = layer.projections.apply(h, self.plan.heads, view);
            let (k, v) = pass.remember(index, k, v);
            let visible = pass.visible(plan.window, &device);
            layer
                .out
                .forward(attend(q, k, v, &visible, plan.scale), view)
        })
    }

    fn feed_forward(&self, index: usize, x: Tensor<3>, view: &View) -> Tensor<3> {
        let layer = &self.layers[index];
        self.residual(x, &layer.ffn_norm, view, |h| {
            let h = self.plan.activation.apply(layer.up.forward(h, view));
            layer.down.forward(h, view)
        })
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
