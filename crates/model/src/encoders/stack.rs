//! Token embeddings and post-norm blocks (Vaswani et al. 2017; Devlin et al. 2019), shared by the
//! families.

use burn::tensor::activation::{relu, tanh};
use burn::tensor::{Bool, Device, Tensor, TensorData};
use serde::Deserialize;
use std::collections::BTreeMap;

use super::tokens::Tokens;
use crate::change::View;
use crate::decoders::{Home, device_of};
use crate::error::Result;
use crate::host;
use crate::layers::{Activation, LayerNorm, Linear, Matrix, Visible, attend, split_heads};
use crate::loader::{Loader, Place};
use crate::parameter::Stage;

/// Sizes of a family's model, as its configuration gives them.
pub(super) struct Shape {
    pub width: usize,
    pub inner: usize,
    pub layers: usize,
    pub heads: usize,
    pub vocabulary: usize,
    pub positions: usize,
    /// Rows of the table of text numbers; none where the family has no such table.
    pub types: Option<usize>,
    pub eps: f64,
    pub activation: Activation,
}

/// Names of a block's layers below its own.
pub(super) struct BlockNames {
    pub query: &'static str,
    pub key: &'static str,
    pub value: &'static str,
    pub out: &'static str,
    pub attention_norm: &'static str,
    pub inner: &'static str,
    pub outer: &'static str,
    pub norm: &'static str,
}

/// Ids to last hidden states.
pub(super) struct Stack {
    words: Matrix,
    positions: Matrix,
    types: Option<Matrix>,
    norm: LayerNorm,
    blocks: Vec<Block>,
}

struct Block {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    attention_norm: LayerNorm,
    inner: Linear,
    outer: Linear,
    norm: LayerNorm,
    heads: usize,
    activation: Activation,
}

impl Stack {
    /// Loads `{prefix}embeddings` and the blocks `{prefix}{blocks}.0`, `.1`, ….
    ///
    /// # Errors
    /// What the source of the weights refuses.
    pub fn load(
        loader: &mut Loader,
        shape: &Shape,
        prefix: &str,
        blocks: &str,
        names: &BlockNames,
    ) -> Result<Self> {
        let place = Place::language(Stage::Embed);
        let at = format!("{prefix}embeddings");
        let mut table = |name: &str, rows: usize| {
            loader.matrix(&format!("{at}.{name}.weight"), &[rows, shape.width], place)
        };
        Ok(Self {
            words: table("word_embeddings", shape.vocabulary)?,
            positions: table("position_embeddings", shape.positions)?,
            types: match shape.types {
                Some(rows) => Some(table("token_type_embeddings", rows)?),
                None => None,
            },
            norm: LayerNorm::load(
                loader,
                &format!("{at}.LayerNorm"),
                shape.width,
                shape.eps,
                place,
            )?,
            blocks: (0..shape.layers)
                .map(|index| {
                    let at = format!("{prefix}{blocks}.{index}");
                    Block::load(loader, shape, &at, names, index)
                })
                .collect::<Result<_>>()?,
        })
    }

    /// Length of a hidden state.
    pub fn width(&self) -> usize {
        self.words.shape()[1]
    }

    /// Rows of the token table.
    pub fn vocabulary(&self) -> usize {
        self.words.shape()[0]
    }

    /// Most tokens of a row.
    pub fn positions(&self) -> usize {
        self.positions.shape()[0]
    }

    /// What is wrong with `rows`, if anything.
    pub fn check(&self, rows: &[&Tokens]) -> std::result::Result<(), String> {
        let types = self
            .types
            .as_ref()
            .map_or(u32::MAX as usize, |table| table.shape()[0]);
        if rows.is_empty() {
            return Err("a batch needs at least one row".into());
        }
        for Tokens { ids, types: of } in rows {
            let (length, limit) = (ids.len(), self.positions());
            if length == 0 || length > limit || of.len() != length {
                return Err(format!(
                    "a row has {length} ids and {} text numbers; it needs as many of both, from 1 to {limit}",
                    of.len()
                ));
            }
            let beyond = |values: &[u32], rows: usize| {
                values.iter().copied().find(|value| *value as usize >= rows)
            };
            if let Some(id) = beyond(ids, self.vocabulary()) {
                let rows = self.vocabulary();
                return Err(format!(
                    "id {id} is beyond the {rows} rows of the embedding"
                ));
            }
            if let Some(number) = beyond(of, types) {
                return Err(format!(
                    "text number {number} is beyond the {types} rows of token_type_embeddings"
                ));
            }
        }
        Ok(())
    }

    /// Rows that passed [`Stack::check`], padded on the right: `[b, t, d]`.
    pub fn forward(&self, rows: &[&Tokens], view: &View) -> Tensor<3> {
        let width = rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
        let x = self.embed(rows, width, view);
        view.note("hidden.embeds", &x);
        let visible = visible(rows, width, &device_of(&x));
        let blocks = self.blocks.iter().enumerate();
        blocks.fold(x, |x, (index, block)| {
            let x = block.forward(x, &visible, view);
            view.note(&format!("hidden.layer{index}"), &x);
            x
        })
    }

    fn embed(&self, rows: &[&Tokens], width: usize, view: &View) -> Tensor<3> {
        let device = self.words.device();
        let shape = [rows.len(), width, self.width()];
        let padded = |values: fn(&Tokens) -> &[u32]| {
            let place = |row: &Tokens, i| values(row).get(i).map_or(0, |v| i64::from(*v));
            let all = rows
                .iter()
                .flat_map(|row| (0..width).map(move |i| place(row, i)));
            host::indices(all.collect(), &device)
        };
        let words = self
            .words
            .select(padded(|row| &row.ids), view)
            .reshape(shape);
        let places = host::indices((0..width as i64).collect(), &device);
        let places: Tensor<3> = self.positions.select(places, view).unsqueeze();
        let Some(types) = &self.types else {
            return self.norm.forward(words + places, view);
        };
        let single = rows
            .iter()
            .all(|row| row.types.iter().all(|number| *number == 0));
        let types = if single {
            types
                .select(host::indices(vec![0], &device), view)
                .unsqueeze()
        } else {
            types.select(padded(|row| &row.types), view).reshape(shape)
        };
        // The shared part first: one sum for the whole batch.
        let x = if single {
            words + (places + types)
        } else {
            words + types + places
        };
        self.norm.forward(x, view)
    }
}

/// Every token sees the real tokens of its row.
fn visible(rows: &[&Tokens], width: usize, device: &Device) -> Visible {
    if rows.iter().all(|row| row.ids.len() == width) {
        return Visible::All;
    }
    let hidden = rows.iter().flat_map(|row| {
        let length = row.ids.len();
        (0..width * width).map(move |place| place % width >= length)
    });
    let data = TensorData::new(hidden.collect(), [rows.len(), 1, width, width]);
    Visible::Unmasked(Tensor::<4, Bool>::from_data(data, device))
}

impl Block {
    fn load(
        loader: &mut Loader,
        shape: &Shape,
        at: &str,
        names: &BlockNames,
        index: usize,
    ) -> Result<Self> {
        let attention = Place::language(Stage::Attention(index));
        let feed_forward = Place::language(Stage::FeedForward(index));
        let (d, f) = (shape.width, shape.inner);
        let mut linear = |name: &str, [d_out, d_in]: [usize; 2], place: Place| {
            Linear::load(loader, &format!("{at}.{name}"), [d_out, d_in], true, place)
        };
        let query = linear(names.query, [d, d], attention)?;
        let key = linear(names.key, [d, d], attention)?;
        let value = linear(names.value, [d, d], attention)?;
        let out = linear(names.out, [d, d], attention)?;
        let inner = linear(names.inner, [f, d], feed_forward)?;
        let outer = linear(names.outer, [d, f], feed_forward)?;
        let mut norm = |name: &str, place: Place| {
            LayerNorm::load(loader, &format!("{at}.{name}"), d, shape.eps, place)
        };
        Ok(Self {
            query,
            key,
            value,
            out,
            attention_norm: norm(names.attention_norm, attention)?,
            inner,
            outer,
            norm: norm(names.norm, feed_forward)?,
            heads: shape.heads,
            activation: shape.activation,
        })
    }

    fn forward(&self, x: Tensor<3>, visible: &Visible, view: &View) -> Tensor<3> {
        let split = |linear: &Linear| split_heads(linear.forward(x.clone(), view), self.heads);
        let [q, k, v] = [&self.query, &self.key, &self.value].map(split);
        let mixed = self.out.forward(attend(q, k, v, visible, None), view);
        let x = self.attention_norm.forward(x + mixed, view);
        let h = self.inner.forward(x.clone(), view);
        let h = self.activation.apply(h);
        self.norm.forward(x + self.outer.forward(h, view), view)
    }
}

/// A dense layer on the first token, and the classifier that may stand on it.
pub(super) struct Head {
    dense: Linear,
    squash: Squash,
    classifier: Option<Linear>,
}

/// The activation behind a head's dense layer.
pub(super) enum Squash {
    /// BERT's pooler.
    Tanh,
    /// DistilBERT's `pre_classifier`.
    Relu,
}

impl Head {
    /// Loads `{dense}` and, for `labels` of them, `classifier`.
    ///
    /// # Errors
    /// What the source of the weights refuses.
    pub fn load(
        loader: &mut Loader,
        dense: &str,
        squash: Squash,
        width: usize,
        labels: usize,
    ) -> Result<Self> {
        let place = Place::language(Stage::Head);
        Ok(Self {
            dense: Linear::load(loader, dense, [width, width], true, place)?,
            squash,
            classifier: match labels {
                0 => None,
                n => Some(Linear::load(loader, "classifier", [n, width], true, place)?),
            },
        })
    }

    /// `[b, t, d]` → `[b, 1, d]`.
    pub fn summary(&self, states: &Tensor<3>, view: &View) -> Tensor<3> {
        let first = states.clone().narrow(1, 0, 1);
        let dense = self.dense.forward(first, view);
        match self.squash {
            Squash::Tanh => tanh(dense),
            Squash::Relu => relu(dense),
        }
    }

    /// `[b, t, d]` → `[b, 1, labels]`.
    pub fn logits(&self, states: &Tensor<3>, view: &View) -> Option<Tensor<3>> {
        let classifier = self.classifier.as_ref()?;
        Some(classifier.forward(self.summary(states, view), view))
    }
}

/// The labels of a classifier by index: `id2label`, or the published default of two.
///
/// # Errors
/// Indices that do not count from 0.
pub(super) fn labels(home: Home) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Config {
        id2label: Option<BTreeMap<String, String>>,
        num_labels: Option<usize>,
    }
    let config: Config = home.read()?;
    let Some(named) = config.id2label else {
        let n = config.num_labels.unwrap_or(2);
        return Ok((0..n).map(|index| format!("LABEL_{index}")).collect());
    };
    let labels = (0..named.len()).map(|index| named.get(&index.to_string()).cloned());
    let labels: Option<Vec<String>> = labels.collect();
    match labels.filter(|labels| !labels.is_empty()) {
        Some(labels) => Ok(labels),
        None => Err(home.refuse("id2label", "must name the labels 0, 1, 2, …".into())),
    }
}
