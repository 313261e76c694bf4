//! What is asked: items of a benchmark, and the probes by which each is put to a model.

use std::collections::BTreeMap;

/// One question of a benchmark.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Item {
    /// Stable and unique within the benchmark.
    pub id: String,
    /// Items that resemble each other share it: the unit of the bootstrap. The item itself unless said.
    pub cluster: Option<String>,
    /// What tells items apart: bias axis, category, condition.
    pub tags: BTreeMap<String, String>,
    /// What the model is asked about it.
    pub probes: Vec<Probe>,
}

/// One thing that a model is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Its name within the item.
    pub name: String,
    /// The text in front of the answer; where it is empty the answer follows the start token.
    pub prompt: String,
    /// What stands between prompt and answer: one blank, unless the answer is the whole text.
    pub join: String,
    /// Key of its picture; none for text alone.
    pub image: Option<String>,
    /// What stands around the prompt.
    pub framing: Framing,
    /// What is wanted.
    pub ask: Ask,
}

/// What stands around a prompt, and how its answers are joined to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// Nothing: the rules of the LM evaluation harness.
    #[default]
    Bare,
    /// What the model's family puts around a picture; the rules of edits.
    Model,
}

impl Probe {
    /// Asks for the log-likelihood of every choice behind `prompt` and one blank, without a picture.
    pub fn choose(name: &str, prompt: impl Into<String>, choices: Vec<Choice>) -> Self {
        Self {
            name: name.to_owned(),
            prompt: prompt.into(),
            join: " ".to_owned(),
            image: None,
            framing: Framing::Bare,
            ask: Ask::Choose(choices),
        }
    }

    /// Asks for the log-likelihood of every choice as a whole text, behind the start token alone.
    pub fn choose_text(name: &str, choices: Vec<Choice>) -> Self {
        Self {
            join: String::new(),
            ..Self::choose(name, "", choices)
        }
    }
}

/// What is wanted of a model.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// The log-likelihood of each answer.
    Choose(Vec<Choice>),
    /// How far the positions of this answer are from those of the reference model: locality.
    Compare(String),
    /// A continuation.
    Write(Decoding),
    /// The probability of each group of words at the next position: yes or no, letters.
    Next(Vec<Vec<String>>),
}

/// One answer among several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its name in the stored line.
    pub name: String,
    /// Its text, without what joins it to the prompt.
    pub text: String,
}

impl Choice {
    /// An answer with its name.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
        }
    }
}

/// How a continuation is written: greedily, until one of its ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoding {
    /// Most tokens added.
    pub max_tokens: usize,
    /// Texts that end it; each is cut off.
    pub stops: Vec<String>,
    /// Whether it goes on behind the tokens that end a text for the model.
    pub ignore_end: bool,
}
