//! What a remembered request is about: how far the text of a question lies from it.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Tensor;
use debias_model::{Encoder, Model, Parameters, Tokens, View, host, open_folder};
use serde::{Deserialize, Serialize};

use super::mix::rows;
use crate::embedding::TextEmbedding;
use crate::error::Result;
use crate::training::Values;

/// In front of the names of a classifier's own parameters.
const PREFIX: &str = "scope.";
/// The linear layer on top of an encoder that stays as it is.
const PROJECTION: &str = "scope.projection.weight";
/// What only a classifier's head uses.
const HEADS: [&str; 2] = ["pooler", "classifier"];

/// How a classifier compares two texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// One vector per text; the squared distance decides.
    Embedding,
    /// Both texts in one input; the first of two classes is "in scope".
    Cross,
}

/// Reads pairs of texts; its parameters are given to it.
#[derive(Clone)]
pub(crate) enum Reader {
    /// Vectors that stay as they are, under a linear layer that is trained.
    Projected(TextEmbedding),
    /// The first token's vector of an encoder whose weights are all trained.
    First(Arc<Encoder>),
    /// A classifier of pairs whose weights are all trained.
    Pairs(Arc<Encoder>),
}

impl Reader {
    /// The classifier in `folder`, or the model's own words under a linear layer; with `frozen`
    /// the encoder's weights stay and the linear layer stands on top of them.
    ///
    /// # Errors
    /// A folder that holds no usable encoder, or no classifier of two classes where one is needed.
    pub fn of(model: &Model, folder: Option<&Path>, mode: Mode, frozen: bool) -> Result<Self> {
        let Some(folder) = folder else {
            return Ok(Self::Projected(TextEmbedding::of(model, None)?));
        };
        match mode {
            Mode::Embedding if frozen => {
                let embedding = TextEmbedding::of(model, Some(folder))?;
                Ok(Self::Projected(embedding))
            }
            Mode::Embedding => Ok(Self::First(open(model, folder)?)),
            Mode::Cross => {
                let encoder = open(model, folder)?;
                match encoder.labels().len() {
                    2 => Ok(Self::Pairs(encoder)),
                    n => Err(super::setting(
                        "classifier",
                        format!(
                            "{} has a classifier of {n} classes where mode cross needs two (in scope, out of scope); give another folder or use mode embedding",
                            encoder.name()
                        ),
                    )),
                }
            }
        }
    }

    /// The parameters before training: the identity, or the encoder's own.
    pub fn start(&self, model: &Model) -> Values {
        match self {
            Self::Projected(embedding) => {
                let eye = Tensor::eye(embedding.width(), model.device());
                Values::from([(PROJECTION.to_owned(), eye)])
            }
            Self::First(encoder) => {
                let head = |name: &str| HEADS.iter().any(|head| name.contains(head));
                weights(encoder, |name| !head(name))
            }
            Self::Pairs(encoder) => weights(encoder, |_| true),
        }
    }

    /// Pairs as far as they can be read without parameters.
    ///
    /// # Errors
    /// A text that cannot be tokenised or is too long.
    pub fn pairs(&self, pairs: &[(&str, &str)]) -> Result<Pairs> {
        if let Self::Pairs(encoder) = self {
            let read = |(memory, test): &(&str, &str)| encoder.whole(memory, Some(*test));
            let whole = pairs
                .iter()
                .map(read)
                .collect::<debias_model::Result<_>>()?;
            return Ok(Pairs {
                inputs: Inputs::Tokens(whole),
                places: Vec::new(),
            });
        }
        let mut texts: Vec<&str> = Vec::new();
        let mut index: HashMap<&str, usize> = HashMap::new();
        let mut place = |text| {
            *index.entry(text).or_insert_with(|| {
                texts.push(text);
                texts.len() - 1
            })
        };
        let places = pairs
            .iter()
            .map(|(memory, test)| [place(*memory), place(*test)])
            .collect();
        Ok(Pairs {
            inputs: self.texts(&texts)?,
            places,
        })
    }

    /// Texts as far as they can be read without parameters, each by itself.
    fn texts(&self, texts: &[&str]) -> Result<Inputs> {
        Ok(match self {
            Self::Projected(embedding) => {
                let vectors: Vec<f32> = texts
                    .iter()
                    .map(|text| embedding.one(text))
                    .collect::<Result<Vec<_>>>()?
                    .concat();
                Inputs::Vectors(vectors, embedding.width())
            }
            Self::First(encoder) | Self::Pairs(encoder) => {
                let tokens = texts.iter().map(|text| encoder.tokens(text));
                Inputs::Tokens(tokens.collect::<debias_model::Result<_>>()?)
            }
        })
    }

    /// `-log s` of each pair at scale 1, `[n]`: the squared distance of the two vectors, or the
    /// classifier's `-log p(in scope)`.
    ///
    /// # Errors
    /// What the encoder refuses.
    pub fn distances(&self, pairs: &Pairs, values: &Values) -> Result<Tensor<1>> {
        if let (Self::Pairs(encoder), Inputs::Tokens(tokens)) = (self, &pairs.inputs) {
            let view = view(values);
            let logits = encoder.logits(&encoder.hidden(tokens, &view)?, &view)?;
            let away = logits.clone().narrow(1, 1, 1) - logits.narrow(1, 0, 1);
            // -log softmax_0 = log(1 + e^(l1 - l0)), without overflow.
            let peak = away.clone().clamp_min(0.0);
            let small = (away.abs().neg()).exp().add_scalar(1.0).log();
            return Ok((peak + small).squeeze_dim(1));
        }
        let vectors = self.vectors(&pairs.inputs, values)?;
        let side = |which: usize| rows(&vectors, pairs.places.iter().map(|pair| pair[which]));
        let apart = side(0) - side(1);
        Ok(apart.square().sum_dim(1).squeeze_dim(1))
    }

    /// One vector per text, `[n, w]`.
    fn vectors(&self, inputs: &Inputs, values: &Values) -> Result<Tensor<2>> {
        match (self, inputs) {
            (Self::First(encoder) | Self::Pairs(encoder), Inputs::Tokens(tokens)) => {
                let hidden = encoder.hidden(tokens, &view(values))?;
                Ok(hidden.states().clone().narrow(1, 0, 1).squeeze_dim(1))
            }
            (_, Inputs::Vectors(vectors, width)) => {
                let projection = values[PROJECTION].clone();
                let device = projection.device().inner();
                let shape = [vectors.len() / width, *width];
                let x: Tensor<2> = host::tensor(vectors.clone(), shape, &device);
                let x = match projection.is_autodiff() {
                    true => x.autodiff(),
                    false => x,
                };
                Ok(x.matmul(projection.transpose()))
            }
            (Self::Projected(_), Inputs::Tokens(_)) => {
                unreachable!("texts() of this reader gives vectors")
            }
        }
    }

    /// What a reader of the result must know.
    pub fn note(&self) -> Option<String> {
        match self {
            Self::Projected(embedding) => embedding.note().map(|note| {
                format!("serac: {note}, under a linear layer trained to tell scopes apart")
            }),
            Self::First(_) | Self::Pairs(_) => None,
        }
    }
}

fn open(model: &Model, folder: &Path) -> Result<Arc<Encoder>> {
    let folder = open_folder(folder)?;
    Ok(Arc::new(Encoder::open(&folder, model.device())?))
}

fn weights(encoder: &Encoder, wanted: impl Fn(&str) -> bool) -> Values {
    let sites = encoder
        .parameters()
        .iter()
        .filter(|site| wanted(&site.name));
    sites
        .filter_map(|site| Some((format!("{PREFIX}{}", site.name), encoder.value(&site.name)?)))
        .collect()
}

/// The encoder with `values` in the place of its own.
fn view(values: &Values) -> View {
    let own = values.iter().filter_map(|(name, value)| {
        let site = name.strip_prefix(PREFIX)?;
        Some((site.to_owned(), value.clone().unsqueeze::<3>()))
    });
    let tracked = values.values().any(|value| value.is_autodiff());
    View::replacing(own, tracked)
}

/// Pairs of texts in front of the trained part.
pub(crate) struct Pairs {
    inputs: Inputs,
    /// Of each pair, the places of its two texts; empty where an input is a pair.
    places: Vec<[usize; 2]>,
}

enum Inputs {
    Tokens(Vec<Tokens>),
    /// Row-major, and the length of a row.
    Vectors(Vec<f32>, usize),
}

/// A trained classifier of scope.
pub(crate) struct Scope {
    pub reader: Reader,
    pub values: Values,
    pub scale: f64,
}

impl Scope {
    /// The vector that stands for `text`; empty for a classifier of pairs, which has none.
    ///
    /// # Errors
    /// A text that cannot be tokenised.
    pub fn key(&self, text: &str) -> Result<Vec<f32>> {
        match &self.reader {
            Reader::Pairs(_) => Ok(Vec::new()),
            reader => Ok(host::values(
                reader.vectors(&reader.texts(&[text])?, &self.values)?,
            )),
        }
    }

    /// `s = exp(-scale ‖key - other‖²)`, or the classifier's `p(in scope)^scale` of the two texts.
    ///
    /// # Errors
    /// Texts that the classifier refuses.
    pub fn similarity(&self, memory: (&str, &[f32]), test: (&str, &[f32])) -> Result<f64> {
        let distance = match &self.reader {
            Reader::Pairs(_) => {
                let pair = self.reader.pairs(&[(memory.0, test.0)])?;
                let found = host::values(self.reader.distances(&pair, &self.values)?);
                found.iter().map(|d| f64::from(*d)).sum()
            }
            _ => squared_distance(memory.1, test.1),
        };
        Ok(similarity(distance, self.scale))
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("scale", &self.scale)
            .finish_non_exhaustive()
    }
}

/// `exp(-scale · distance)`, in (0, 1].
pub(crate) fn similarity(distance: f64, scale: f64) -> f64 {
    (-scale * distance).exp()
}

/// `‖a - b‖²`, summed in `f64`.
pub(crate) fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    let differences = a.iter().zip(b).map(|(x, y)| f64::from(*x) - f64::from(*y));
    differences.map(|d| d * d).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similarities_are_those_worked_by_hand() {
        let distance = squared_distance(&[1.0, 2.0, 0.0], &[0.0, 0.0, 0.5]);
        assert_eq!(distance, 5.25);
        assert_eq!(similarity(0.0, 3.0), 1.0);
        assert!((similarity(std::f64::consts::LN_2, 2.0) - 0.25).abs() < 1e-12);
    }
}
