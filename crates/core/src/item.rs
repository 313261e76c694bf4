//! What is asked: items of a benchmark, and the probes by which each is put to a model.

use std::collections::BTreeMap;

use crate::draws::Draws;

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

/// How continuations are written, until one of their ends.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoding {
    /// Most tokens added.
    pub max_tokens: usize,
    /// Texts that end it; each is cut off.
    pub stops: Vec<String>,
    /// Whether it goes on behind the tokens that end a text for the model.
    pub ignore_end: bool,
    /// How the next token is chosen.
    pub choosing: Choosing,
}

/// How the next token is chosen.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Choosing {
    /// The likeliest, at equal logits that of the lower id.
    #[default]
    Greedy,
    /// Drawn.
    Sample(Sampling),
    /// So many beams are kept, by their sums of log-probabilities.
    Beams(usize),
}

impl Choosing {
    /// How many continuations of each prompt are written.
    pub fn count(&self) -> usize {
        match self {
            Choosing::Greedy => 1,
            Choosing::Sample(sampling) => sampling.samples,
            Choosing::Beams(n) => *n,
        }
    }
}

/// How tokens are drawn (`spec/suites.md` 4.3): logits over the temperature, the likeliest `top_k` of
/// them, of these the fewest that reach `top_p`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divisor of logits; at 0 the likeliest is taken.
    pub temperature: f64,
    /// How many tokens may follow at most; all where none is given.
    pub top_k: Option<usize>,
    /// The probability that those which may follow reach together, the likeliest first.
    pub top_p: f64,
    /// Continuations of each prompt.
    pub samples: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// What the items belong to: sample k of item i draws from the stream `{of}:{i}:{k}`.
    pub of: String,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: None,
            top_p: 1.0,
            samples: 1,
            seed: 0,
            of: String::new(),
        }
    }
}

impl Sampling {
    /// The draws of sample `k` of `item`, one for each position.
    pub fn draws(&self, item: &str, k: usize) -> Draws {
        Draws::new(self.seed, &format!("{}:{item}:{k}", self.of), 0)
    }
}
