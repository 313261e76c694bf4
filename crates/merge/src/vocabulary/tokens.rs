//! What one model calls its ids: its `tokenizer.json`, read as every program that loads it would.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use debias_weights::Checkpoint;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::messages::refused;
use crate::error::Result;

/// A token that is found in a text before the text is cut into others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Added {
    /// The token.
    pub content: String,
    /// Whether it has to be a word of its own.
    #[serde(default)]
    pub single_word: bool,
    /// Whether it swallows spaces before it.
    #[serde(default)]
    pub lstrip: bool,
    /// Whether it swallows spaces behind it.
    #[serde(default)]
    pub rstrip: bool,
    /// Whether it is looked for in the normalised text.
    #[serde(default = "yes")]
    pub normalized: bool,
    /// Whether it is left out when text is decoded for people.
    #[serde(default)]
    pub special: bool,
}

fn yes() -> bool {
    true
}

impl Added {
    /// A token without peculiarities.
    pub fn plain(content: &str) -> Self {
        Self {
            content: content.to_owned(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: true,
            special: false,
        }
    }
}

/// Tokens and their ids.
#[derive(Clone, Debug, Default)]
pub(super) struct Tokens {
    ids: HashMap<String, usize>,
    /// Where two tokens share an id: the first in the order of strings.
    names: BTreeMap<usize, String>,
    /// The added ones among them, by id.
    pub added: BTreeMap<usize, Added>,
    /// Tokens of the file whose ids lie behind the last row.
    pub dropped: HashSet<String>,
}

impl Tokens {
    /// The tokens of a folder whose embedding matrix has `rows` rows, if that is known; `None`
    /// when there is no `tokenizer.json`.
    pub fn read(label: &str, checkpoint: &Checkpoint, rows: Option<usize>) -> Result<Option<Self>> {
        let Some(file): Option<File> = checkpoint.json_if_present("tokenizer.json")? else {
            return Ok(None);
        };
        let mut added = file.added_tokens;
        added.extend(besides_the_file(checkpoint)?);
        let vocab = file.model.vocab;
        let placed = vocab.place(added.iter().map(|added| added.content.as_str()));
        let mut tokens = Self::default();
        let limit = rows.unwrap_or(2 * (vocab.ids.len() + added.len()));
        for (token, id) in vocab.ids.iter().chain(&placed) {
            if *id < limit {
                tokens.put(token, *id)
            } else {
                tokens.dropped.insert(token.clone());
            }
        }
        for added in added {
            let id = placed.get(&added.content);
            if let Some(id) = id.filter(|id| **id < limit) {
                tokens.added.entry(*id).or_insert(added);
            }
        }
        match (rows, tokens.dropped.iter().min()) {
            _ if tokens.ids.is_empty() => Err(refused(label, "tokenizer.json names no token")),
            (None, Some(token)) => Err(refused(
                label,
                format!(
                    "the id of `{}` leaves more ids unused than used",
                    token.escape_debug()
                ),
            )),
            _ => Ok(Some(tokens)),
        }
    }

    /// The tokens of `tokenizer.json`, or else of `vocab.json` or `vocab.txt`; `None` where no file
    /// tells, or one that is not needed cannot be read.
    pub fn told(label: &str, checkpoint: &Checkpoint, rows: usize) -> Option<Self> {
        if let Ok(Some(tokens)) = Self::read(label, checkpoint, Some(rows)) {
            return Some(tokens);
        }
        let mut tokens = Self::default();
        let ids: Option<HashMap<String, usize>> = checkpoint.json_if_present("vocab.json").ok()?;
        if let Some(ids) = ids {
            ids.iter().for_each(|(token, id)| tokens.put(token, *id));
            return Some(tokens);
        }
        let lines = checkpoint.bytes_if_present("vocab.txt").ok()??;
        let lines = String::from_utf8_lossy(&lines);
        let lines = lines.lines().enumerate();
        lines.for_each(|(id, token)| tokens.put(token, id));
        Some(tokens)
    }

    /// Ids that both have and give to different tokens, with both tokens.
    pub fn renumbered<'t>(&'t self, other: &'t Self) -> Vec<(usize, &'t str, &'t str)> {
        let ids = self.names.iter().filter_map(|(id, token)| {
            let there = other.at(*id)?;
            let same = token == there || other.id(token) == Some(*id);
            (!same).then_some((*id, token.as_str(), there))
        });
        ids.collect()
    }

    /// Gives a token an id.
    pub fn put(&mut self, token: &str, id: usize) {
        self.ids.insert(token.to_owned(), id);
        let name = self.names.entry(id).or_insert_with(|| token.to_owned());
        if token < name.as_str() {
            *name = token.to_owned();
        }
    }

    /// The id of a token.
    pub fn id(&self, token: &str) -> Option<usize> {
        self.ids.get(token).copied()
    }

    /// The token of an id.
    pub fn at(&self, id: usize) -> Option<&str> {
        self.names.get(&id).map(String::as_str)
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// One behind the last id.
    pub fn end(&self) -> usize {
        self.names.last_key_value().map_or(0, |(id, _)| id + 1)
    }

    /// All tokens, by id.
    pub fn in_order(&self) -> impl Iterator<Item = &str> {
        self.names.values().map(String::as_str)
    }

    /// The tokens that `other` lacks, by id.
    pub fn besides(&self, other: &Self) -> Vec<&str> {
        let tokens = self.in_order();
        tokens.filter(|token| other.id(token).is_none()).collect()
    }
}

/// Added tokens that only the files beside `tokenizer.json` name, in the order in which they are
/// added when the folder is loaded.
fn besides_the_file(checkpoint: &Checkpoint) -> Result<Vec<Added>> {
    #[derive(Default, Deserialize)]
    struct Config {
        added_tokens_decoder: Option<BTreeMap<u32, Added>>,
    }
    let config: Option<Config> = checkpoint.json_if_present("tokenizer_config.json")?;
    if let Some(decoder) = config.unwrap_or_default().added_tokens_decoder {
        return Ok(decoder.into_values().collect());
    }
    let older: Option<HashMap<String, u32>> = checkpoint.json_if_present("added_tokens.json")?;
    let mut older: Vec<_> = older.unwrap_or_default().into_iter().collect();
    older.sort_by(|(a, i), (b, j)| (i, a).cmp(&(j, b)));
    Ok(older.iter().map(|(token, _)| Added::plain(token)).collect())
}

/// The part of `tokenizer.json` that names tokens.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    vocab: Vocab,
}

/// A model's own tokens: ids by token (BPE, WordPiece, WordLevel), or tokens with scores in the
/// order of their ids (Unigram).
pub(super) struct Vocab {
    pub ids: HashMap<String, usize>,
    /// How many entries the file has, repeated ones too.
    entries: usize,
}

impl Vocab {
    /// The ids of added tokens, of which loading programs take the order but not the ids: a token
    /// of the model's own keeps its id, another goes behind all those before it.
    pub fn place<'t>(&self, added: impl Iterator<Item = &'t str>) -> HashMap<String, usize> {
        let mut placed = HashMap::new();
        let mut next = self.entries;
        for token in added.filter(|token| !token.is_empty()) {
            if !placed.contains_key(token) {
                let id = self.ids.get(token).copied().unwrap_or(next);
                next = next.max(id + 1);
                placed.insert(token.to_owned(), id);
            }
        }
        placed
    }
}

impl<'de> Deserialize<'de> for Vocab {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct VocabularyReader;
        impl<'de> Visitor<'de> for VocabularyReader {
            type Value = Vocab;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("ids by token, or a list of tokens with scores")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocab, A::Error> {
                let mut ids = HashMap::new();
                while let Some((token, id)) = map.next_entry::<String, u32>()? {
                    ids.insert(token, id as usize);
                }
                let entries = ids.len();
                Ok(Vocab { ids, entries })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vocab, A::Error> {
                let (mut ids, mut entries) = (HashMap::new(), 0);
                while let Some((token, _)) = list.next_element::<(String, IgnoredAny)>()? {
                    ids.insert(token, entries);
                    entries += 1;
                }
                Ok(Vocab { ids, entries })
            }
        }
        type Result<T, E> = std::result::Result<T, E>;
        deserializer.deserialize_any(VocabularyReader)
    }
}
