//! What a merge says about itself, and the values of its parameters.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// A merge's card, printed by `bench show NAME`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MergerCard {
    /// Permanent name; mergekit's where mergekit has one.
    pub id: &'static str,
    /// Raised whenever results change.
    pub version: u32,
    /// One line for the catalogue.
    pub title: &'static str,
    /// The idea, in a few sentences.
    pub summary: &'static str,
    /// Where it was published.
    pub paper: &'static str,
    /// What it computes: θ base, θ_i inputs, δ_i = θ_i - θ, w_i weights.
    pub equation: &'static str,
    /// How many inputs it takes.
    pub inputs: Contract,
    /// What it can be told.
    pub parameters: &'static [Parameter],
    /// What it does with zeros, identical models and other odd inputs.
    pub degenerate: &'static str,
}

/// How many inputs a merge takes, and whether it needs a base.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Contract {
    /// What `base_model` means to it.
    pub base: Base,
    /// Fewest inputs: besides the base, unless the base is ignored.
    pub min: usize,
    /// Most inputs, counted likewise.
    pub max: Option<usize>,
}

/// What `base_model` means to a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Base {
    /// It must be given; task vectors begin there, or it is one of two ends.
    Required,
    /// It may be given as the origin.
    Optional,
    /// It is one more input.
    Ignored,
}

/// A parameter of a merge.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Parameter {
    /// Its key in a recipe.
    pub name: &'static str,
    /// Whose it is.
    pub scope: ParameterScope,
    /// What it may be.
    pub kind: Kind,
    /// What it is when no scope of the recipe says anything.
    pub default: Fallback,
    /// What it means.
    pub help: &'static str,
}

/// Whose a parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParameterScope {
    /// One value per tensor; never looked for under a model.
    Shared,
    /// One value per input.
    Input,
    /// One value per input besides the base.
    Other,
}

/// What a parameter may be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A finite number.
    Number,
    /// A number above 0 and at most 1.
    Ratio,
    /// A whole number of at least 0.
    Whole,
    /// True or false.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
}

/// The value of a parameter that a recipe does not give.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fallback {
    /// There is none: the recipe must give it.
    Required,
    /// No value.
    Absent,
    /// This number.
    Number(f64),
    /// This flag.
    Flag(bool),
    /// This word.
    Word(&'static str),
}

impl fmt::Display for Fallback {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Required => out.write_str("none: the recipe must give it"),
            Self::Absent => out.write_str("none"),
            Self::Number(number) => write!(out, "{number}"),
            Self::Flag(flag) => write!(out, "{flag}"),
            Self::Word(word) => out.write_str(word),
        }
    }
}

impl fmt::Display for Contract {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self.base {
            Base::Required => "base_model, and ",
            Base::Optional => "base_model if wanted, and ",
            Base::Ignored => "",
        })?;
        match (self.min, self.max) {
            (1, Some(1)) => out.write_str("1 model"),
            (min, Some(max)) if min == max => write!(out, "{min} models"),
            (min, Some(max)) => write!(out, "{min} to {max} models"),
            (min, None) => write!(out, "at least {min} models"),
        }
    }
}

/// A parameter's value for one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A number, or a whole number.
    Number(f64),
    /// A flag.
    Flag(bool),
    /// A word.
    Word(&'static str),
}

/// Values by parameter; one entry for every parameter of a card that has a value.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Values(BTreeMap<&'static str, Value>);

impl Values {
    /// No values.
    pub(crate) const EMPTY: Self = Self(BTreeMap::new());

    pub(crate) fn insert(&mut self, name: &'static str, value: Value) {
        self.0.insert(name, value);
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub(crate) fn number(&self, name: &str) -> f64 {
        match self.get(name) {
            Some(Value::Number(number)) => *number,
            other => unreachable!("the card promises a number `{name}`, not {other:?}"),
        }
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        match self.get(name) {
            Some(Value::Flag(flag)) => *flag,
            other => unreachable!("the card promises a flag `{name}`, not {other:?}"),
        }
    }

    pub(crate) fn text(&self, name: &str) -> &'static str {
        match self.get(name) {
            Some(Value::Word(word)) => word,
            other => unreachable!("the card promises a word `{name}`, not {other:?}"),
        }
    }
}

impl fmt::Display for Values {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = self.0.iter().map(|(name, value)| match value {
            Value::Number(number) => format!("{name}={number}"),
            Value::Flag(flag) => format!("{name}={flag}"),
            Value::Word(word) => format!("{name}={word}"),
        });
        write!(out, "[{}]", each.collect::<Vec<_>>().join(" "))
    }
}

/// A shared number.
pub(crate) const fn number(name: &'static str, default: f64, help: &'static str) -> Parameter {
    Parameter {
        name,
        scope: ParameterScope::Shared,
        kind: Kind::Number,
        default: Fallback::Number(default),
        help,
    }
}

/// A shared flag.
pub(crate) const fn flag(name: &'static str, default: bool, help: &'static str) -> Parameter {
    Parameter {
        name,
        scope: ParameterScope::Shared,
        kind: Kind::Flag,
        default: Fallback::Flag(default),
        help,
    }
}

/// A shared word; the first of `words` is the default.
pub(crate) const fn word(
    name: &'static str,
    words: &'static [&'static str],
    help: &'static str,
) -> Parameter {
    Parameter {
        name,
        scope: ParameterScope::Shared,
        kind: Kind::Word(words),
        default: Fallback::Word(words[0]),
        help,
    }
}

/// The weight of every input besides the base; the recipe must give it.
pub(crate) const WEIGHT: Parameter = Parameter {
    name: "weight",
    scope: ParameterScope::Other,
    kind: Kind::Number,
    default: Fallback::Required,
    help: "how much of this model's task vector is taken; may be negative",
};
