//! What an editor proposes: a value that the judge looks through, and that is undone by dropping it.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use debias_model::{Change, Delta};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::respondent::Respondent;

/// One proposed edit, for a single request or for several together.
#[derive(Clone, Debug)]
pub enum Edit {
    /// Deltas of named parameters.
    Weights(Change),
    /// Somebody who stands over the model and answers in its place.
    Wrapped(Arc<dyn Wrap>),
}

/// An edit that leaves the weights as they are: it changes what the model is asked, or what it answers.
pub trait Wrap: Any + fmt::Debug + Send + Sync {
    /// What it acts on; [`Touches::Nothing`] where it changes no answer.
    fn touches(&self) -> Touches;

    /// Bytes that it holds by itself.
    fn bytes(&self) -> usize;

    /// Every text that it may put in front of a prompt.
    fn texts(&self) -> Vec<&str> {
        Vec::new()
    }

    /// Who answers in the place of `inner`.
    fn over<'a>(&'a self, inner: &'a dyn Respondent) -> Box<dyn Respondent + 'a>;

    /// Both as one, this one first; none where `more` is of another kind.
    fn joined(&self, more: &dyn Wrap) -> Option<Arc<dyn Wrap>>;
}

/// What an edit acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Touches {
    /// The identity.
    Nothing,
    /// Parameters.
    Weights,
    /// The prompt.
    Input,
    /// The distribution over answers.
    Output,
}

impl Touches {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Touches::Nothing => "nothing",
            Touches::Weights => "weights",
            Touches::Input => "input",
            Touches::Output => "output",
        }
    }
}

impl Default for Edit {
    /// The identity.
    fn default() -> Self {
        Self::Weights(Change::default())
    }
}

impl<W: Wrap> From<W> for Edit {
    fn from(wrap: W) -> Self {
        Self::Wrapped(Arc::new(wrap))
    }
}

impl Edit {
    /// What it acts on.
    pub fn touches(&self) -> Touches {
        match self {
            Edit::Weights(change) if change.is_identity() => Touches::Nothing,
            Edit::Weights(_) => Touches::Weights,
            Edit::Wrapped(wrap) => wrap.touches(),
        }
    }

    /// Names of the parameters it changes, sorted.
    pub fn parameters(&self) -> Vec<&str> {
        self.change()
            .map(|change| change.weights.keys().map(String::as_str).collect())
            .unwrap_or_default()
    }

    /// Bytes that it holds by itself, trained parts that all edits share left out.
    pub fn bytes(&self) -> usize {
        match self {
            Edit::Weights(change) => change.bytes(),
            Edit::Wrapped(wrap) => wrap.bytes(),
        }
    }

    /// Frobenius norm of the change of weights over all matrices; 0 for other edits.
    pub fn norm(&self) -> f64 {
        let deltas = self.change().map(|change| change.weights.values());
        let squares = deltas.into_iter().flatten().map(|d| d.norm().powi(2));
        squares.sum::<f64>().sqrt()
    }

    /// The change of weights, where it is one.
    pub fn change(&self) -> Option<&Change> {
        match self {
            Edit::Weights(change) => Some(change),
            Edit::Wrapped(_) => None,
        }
    }

    /// The wrap, where it is one of kind `W`.
    pub fn wrapped<W: Wrap>(&self) -> Option<&W> {
        match self {
            Edit::Weights(_) => None,
            Edit::Wrapped(wrap) => (wrap.as_ref() as &dyn Any).downcast_ref(),
        }
    }

    /// Who answers in the place of `inner` under this edit; none for a change of weights, which is a view
    /// of the model itself.
    pub fn over<'a>(&'a self, inner: &'a dyn Respondent) -> Option<Box<dyn Respondent + 'a>> {
        match self {
            Edit::Weights(_) => None,
            Edit::Wrapped(wrap) => Some(wrap.over(inner)),
        }
    }

    /// Several edits, each computed alone, as one: deltas are added, facts and memory entries
    /// stand side by side in the order given.
    ///
    /// # Errors
    /// [`Error::EmptyEdit`] without edits, [`Error::MixedEdits`] when they act on different things.
    pub fn joined(edits: &[Arc<Edit>]) -> Result<Edit> {
        let (first, rest) = edits.split_first().ok_or(Error::EmptyEdit)?;
        let mut joined = first.as_ref().clone();
        for edit in rest {
            joined = match (joined, edit.as_ref()) {
                (Edit::Weights(sum), Edit::Weights(change)) => Edit::Weights(added(sum, change)),
                (Edit::Wrapped(all), Edit::Wrapped(one)) => {
                    Edit::Wrapped(all.joined(one.as_ref()).ok_or(Error::MixedEdits)?)
                }
                _ => return Err(Error::MixedEdits),
            };
        }
        Ok(joined)
    }
}

/// The sum of two changes; low-rank factors are stacked, so that no dense matrix is formed while
/// the joint rank stays below the smaller side.
pub(crate) fn added(mut sum: Change, change: &Change) -> Change {
    use burn::tensor::Tensor;
    for (name, delta) in &change.weights {
        let total = match (sum.weights.remove(name), delta) {
            (None, delta) => delta.clone(),
            (
                Some(Delta::LowRank { a, b }),
                Delta::LowRank {
                    a: more_a,
                    b: more_b,
                },
            ) if a.dims()[0] + more_a.dims()[0] < b.dims()[0].min(a.dims()[1]) => Delta::LowRank {
                a: Tensor::cat(vec![a, more_a.clone()], 0),
                b: Tensor::cat(vec![b, more_b.clone()], 1),
            },
            (Some(total), delta) => Delta::Dense(total.dense() + delta.dense()),
        };
        sum.weights.insert(name.clone(), total);
    }
    sum
}
