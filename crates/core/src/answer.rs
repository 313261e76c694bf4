//! What came back: the answers of one model to one item, and the line that is stored of them.
//!
//! A line holds everything from which columns are computed, so that a new or changed column never
//! asks a model again.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::score::{AnswerScore, ContextScore, LocalityScore};

/// The name of the stereotyped answer among the choices of an edit's probes.
pub const Y_MORE: &str = "y_more";

/// The name of the unbiased answer there.
pub const Y_LESS: &str = "y_less";

/// The tag of a line that holds what the unedited model said to the prompt of a record that names no
/// stereotyped answer.
pub const OWN_ANSWER: &str = "own_answer";

/// The answer to one probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// How far the model is from the reference model on an unrelated text.
    Drift(LocalityScore),
    /// The log-likelihood of every choice by its name; none for one that the model cannot read.
    Choices(Named<Option<AnswerScore>>),
    /// Continuations, one per sample.
    Text(Vec<String>),
    /// The probability of every group of words at the next position.
    Next(Vec<f64>),
}

impl Answer {
    /// Whether every number is finite.
    pub fn is_finite(&self) -> bool {
        match self {
            Answer::Drift(score) => score.kl.is_finite() && score.answer_kl.is_finite(),
            Answer::Choices(choices) => choices
                .iter()
                .filter_map(|(_, score)| *score)
                .all(|score| score.sum.is_finite() && score.mean.is_finite()),
            Answer::Text(_) => true,
            Answer::Next(masses) => masses.iter().all(|mass| mass.is_finite()),
        }
    }
}

/// Things by name in the order in which they were asked for; an object in JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Named<T>(Vec<(String, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Named<T> {
    /// The thing called `name`.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.iter()
            .find(|(known, _)| *known == name)
            .map(|(_, thing)| thing)
    }

    /// Names and things in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(name, thing)| (name.as_str(), thing))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<S: Into<String>, T> FromIterator<(S, T)> for Named<T> {
    fn from_iter<I: IntoIterator<Item = (S, T)>>(things: I) -> Self {
        Self(
            things
                .into_iter()
                .map(|(name, thing)| (name.into(), thing))
                .collect(),
        )
    }
}

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for InOrder<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut things = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    things.push(entry);
                }
                Ok(Named(things))
            }
        }

        deserializer.deserialize_map(InOrder(std::marker::PhantomData))
    }
}

/// The answers to all probes of an item, by the names of the probes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Answers(Named<Answer>);

impl Answers {
    /// The answer to a probe.
    pub fn get(&self, probe: &str) -> Option<&Answer> {
        self.0.get(probe)
    }

    /// Probes and answers in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Answer)> {
        self.0.iter()
    }

    /// The log-likelihoods of the choices of a probe, by name.
    pub fn choices(&self, probe: &str) -> Option<&Named<Option<AnswerScore>>> {
        match self.get(probe)? {
            Answer::Choices(choices) => Some(choices),
            _ => None,
        }
    }

    /// Both answers of an edit's record in one context.
    pub fn context(&self, probe: &str) -> Option<ContextScore> {
        let choices = self.choices(probe)?;
        Some(ContextScore {
            y_more: (*choices.get(Y_MORE)?)?,
            y_less: (*choices.get(Y_LESS)?)?,
        })
    }

    /// How far the answer to an unrelated question moved.
    pub fn drift(&self, probe: &str) -> Option<&LocalityScore> {
        match self.get(probe)? {
            Answer::Drift(score) => Some(score),
            _ => None,
        }
    }

    /// Whether every number is finite; an item with another is counted as failed.
    pub fn is_finite(&self) -> bool {
        self.iter().all(|(_, answer)| answer.is_finite())
    }
}

impl<S: Into<String>> FromIterator<(S, Answer)> for Answers {
    fn from_iter<I: IntoIterator<Item = (S, Answer)>>(answers: I) -> Self {
        Self(answers.into_iter().collect())
    }
}

/// Where a record stood among the edits when it was scored.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    /// Edits that came after its own.
    pub edits_after: usize,
    /// Frobenius norm of the change of weights it was scored through; 0 for other edits.
    pub norm: f64,
    /// Whether its batch had fewer requests than the others; left out of the metrics.
    pub incomplete: bool,
}

/// One line of a cell's `records` file: an item, and what was answered to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ItemLine {
    /// The item's id.
    pub id: String,
    /// What tells items apart: bias axis, category, condition.
    #[serde(flatten)]
    pub tags: BTreeMap<String, String>,
    /// Items that resemble each other share it: the unit of the bootstrap. The item itself unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Answers of the unedited model, where the benchmark compares with it; absent when the item
    /// cannot even be read by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Answers>,
    /// Answers of the variant that was asked; absent when it failed on this item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Answers>,
    /// Why there is no answer; such an item is listed and never averaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Where its edit stood among several; absent for single ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Applied>,
}

impl ItemLine {
    /// The tag `name`; empty where the item has none.
    pub fn tag(&self, name: &str) -> &str {
        self.tags.get(name).map_or("", String::as_str)
    }

    /// The unit of the bootstrap that the item belongs to.
    pub fn cluster(&self) -> &str {
        self.cluster.as_deref().unwrap_or(&self.id)
    }

    /// Whether it enters the columns: it was answered, and not in an incomplete batch.
    pub fn counts(&self) -> bool {
        self.after.is_some() && self.applied.is_none_or(|applied| !applied.incomplete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back_what_it_says_in_its_order() {
        let text = concat!(
            r#"{"id":"1","bias_type":"race","before":{"prompt":{"y_more":{"sum":-1.5,"mean":-0.5,"tokens":3,"correct":1},"#,
            r#""y_less":null}},"after":{"said":["a","b"],"yes_no":[0.25,0.5]}}"#
        );
        let line: ItemLine = serde_json::from_str(text).expect("a line");
        assert_eq!(line.tag("bias_type"), "race");
        let choices = line
            .before
            .as_ref()
            .and_then(|before| before.choices("prompt"));
        let choices = choices.expect("choices");
        let names: Vec<&str> = choices.iter().map(|(name, _)| name).collect();
        assert_eq!(names, [Y_MORE, Y_LESS]);
        let after = line.after.as_ref().expect("answers");
        assert_eq!(after.get("yes_no"), Some(&Answer::Next(vec![0.25, 0.5])));
        assert_eq!(serde_json::to_string(&line).expect("json"), text);
    }
}
