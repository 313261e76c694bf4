//! Edits of the input: text in front of every prompt.
//!
//! A fact is stated behind the demonstrations that were chosen for it. Where a context holds
//! several facts, each prompt is asked behind those it lies nearest to (`spec/editors.md` section
//! 5). The weights are never looked at, so that nothing has to be undone.

mod fit;
mod respondent;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};

use debias_core::demonstration::{Fact, query};
use debias_model::Model;
use serde::{Deserialize, Serialize};

use crate::embedding::{TextEmbedding, cosine};
use crate::error::Result;

/// Facts that are stated in front of every prompt.
#[derive(Clone, Debug, Default)]
pub struct Context {
    facts: Vec<Arc<Stated>>,
    /// How prompts choose among facts; without one, all facts stand in front in their order.
    manner: Option<Arc<Manner>>,
}

/// One fact as it is stated.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stated {
    /// What stands in front of the fact, in pieces.
    demonstrations: Vec<Arc<Demonstration>>,
    /// What stands directly in front of the prompt.
    fact: String,
    /// The direction of the prompt that the fact is about.
    key: Vec<f32>,
}

/// One answered prompt of a context.
#[derive(Clone, Debug)]
pub(crate) struct Demonstration {
    pub text: String,
    /// Its length when tokenised alone.
    pub tokens: usize,
}

/// How a context is put together, the same for all edits of one editor.
#[derive(Debug)]
pub(crate) struct Manner {
    pub multi: Multi,
    /// Most positions of a row beyond which demonstrations are left out.
    pub cap: Option<usize>,
    /// By what prompts and facts are compared.
    pub embedding: TextEmbedding,
    /// What had to be left out.
    pub shortened: Shortened,
}

/// What is stated in front of a prompt when there are several facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Multi {
    /// The nearest fact with its demonstrations.
    Nearest,
    /// All facts, each behind its demonstrations, the nearest last.
    ConcatAll,
}

impl Demonstration {
    /// # Errors
    /// A text that the tokenizer cannot represent.
    pub fn new(model: &Model, text: String) -> Result<Self> {
        let tokens = model.text().encode(&text, false)?.len();
        Ok(Self { text, tokens })
    }
}

impl Stated {
    /// `demonstrations`, then `fact` if it is to be stated; `key` is the direction of its prompt.
    pub fn new(demonstrations: Vec<Arc<Demonstration>>, fact: Option<Fact>, key: Vec<f32>) -> Self {
        Self {
            demonstrations,
            fact: fact.map(|fact| query(fact, "")).unwrap_or_default(),
            key,
        }
    }
}

impl Context {
    /// `prefix` in front of every prompt.
    pub fn prefix(prefix: String) -> Self {
        let fact = Stated {
            fact: prefix,
            ..Stated::default()
        };
        Self {
            facts: vec![Arc::new(fact)],
            manner: None,
        }
    }

    /// One fact, in the manner of its editor.
    pub(crate) fn stating(fact: Stated, manner: Arc<Manner>) -> Self {
        Self {
            facts: vec![Arc::new(fact)],
            manner: Some(manner),
        }
    }

    /// The facts of both.
    #[must_use]
    pub fn with(mut self, more: &Self) -> Self {
        self.facts.extend(more.facts.iter().cloned());
        self.manner = self.manner.or_else(|| more.manner.clone());
        self
    }

    /// Whether nothing stands in front of any prompt.
    pub fn is_identity(&self) -> bool {
        self.facts
            .iter()
            .all(|fact| fact.fact.is_empty() && fact.demonstrations.is_empty())
    }

    /// What the model reads in the place of `prompt` where its positions suffice.
    ///
    /// # Errors
    /// A prompt that cannot be tokenised.
    pub fn applied(&self, prompt: &str) -> Result<String> {
        Ok(self.said(prompt)?.before(0, prompt))
    }

    /// What is to be said in front of `prompt`.
    fn said(&self, prompt: &str) -> Result<Said<'_>> {
        let Some(manner) = &self.manner else {
            return Ok(Said {
                demonstrations: Vec::new(),
                fact: self.facts.iter().map(|fact| fact.fact.as_str()).collect(),
            });
        };
        let chosen: Vec<&Stated> = match (manner.multi, &self.facts[..]) {
            (_, [only]) => vec![only],
            (Multi::Nearest, _) => self
                .by_nearness(manner, prompt)?
                .pop()
                .into_iter()
                .collect(),
            (Multi::ConcatAll, _) => self.by_nearness(manner, prompt)?,
        };
        let demonstrations = chosen.iter().flat_map(|fact| &fact.demonstrations);
        Ok(Said {
            demonstrations: demonstrations.map(Arc::as_ref).collect(),
            fact: chosen
                .last()
                .map(|fact| fact.fact.clone())
                .unwrap_or_default(),
        })
    }

    /// The facts, that nearest to `prompt` last; of equally near ones the earlier counts as nearer.
    fn by_nearness(&self, manner: &Manner, prompt: &str) -> Result<Vec<&Stated>> {
        let asked = manner.embedding.one(prompt)?;
        let mut facts: Vec<(f64, &Stated)> = self
            .facts
            .iter()
            .rev()
            .map(|fact| (cosine(&fact.key, &asked), fact.as_ref()))
            .collect();
        facts.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        Ok(facts.into_iter().map(|(_, fact)| fact).collect())
    }
}

/// What stands in front of one prompt.
struct Said<'a> {
    /// Pieces that may be left out, from the front.
    demonstrations: Vec<&'a Demonstration>,
    /// What always stays.
    fact: String,
}

impl Said<'_> {
    /// The whole text that ends in `prompt`, the first `left_out` demonstrations left out.
    fn before(&self, left_out: usize, prompt: &str) -> String {
        let kept = self.demonstrations.iter().skip(left_out);
        let mut text: String = kept.map(|shown| shown.text.as_str()).collect();
        text.push_str(&self.fact);
        text.push_str(prompt);
        text
    }
}

/// How many demonstrations were left out, by the name of what was asked.
#[derive(Debug, Default)]
pub(crate) struct Shortened(Mutex<BTreeMap<String, usize>>);

impl Shortened {
    /// Notes that `count` demonstrations were left out in front of the prompt called `asked`. It may
    /// be asked again, so the entry is replaced, not added to.
    fn note(&self, asked: &str, count: usize) {
        let mut entries = self.0.lock().unwrap_or_else(|poison| poison.into_inner());
        entries.insert(asked.to_owned(), count);
    }

    /// What a reader of the result must know, once records have been scored; `None` while nothing
    /// was left out.
    pub fn remark(&self) -> Option<String> {
        let entries = self.0.lock().unwrap_or_else(|poison| poison.into_inner());
        let short: Vec<usize> = entries
            .values()
            .copied()
            .filter(|count| *count > 0)
            .collect();
        let (most, least) = (short.iter().max()?, short.iter().min()?);
        let mut remark = format!("in {} of {} prompts the first ", short.len(), entries.len());
        // Writing to a string cannot fail.
        let _ = match most == least {
            true => write!(remark, "{most}"),
            false => write!(remark, "{least} to {most}"),
        };
        remark.push_str(" demonstrations were left out for want of positions");
        Some(remark)
    }
}
