//! The tokenizer files of the output: those of one model, changed where its tokens have changed.

use std::collections::HashSet;

use debias_weights::Checkpoint;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::messages::{listed, refused};
use super::speaker::Voice;
use super::tokens::{Added, Tokens, Vocab};
use super::union::Union;
use crate::error::Result;

/// Files that hold a vocabulary without being a `tokenizer.json`.
pub(super) const OTHER_VOCABULARIES: [&str; 5] = [
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "vocab.txt",
];

/// Files that are read from every tokenizer, in the order in which they are written.
const FILES: [&str; 12] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    OTHER_VOCABULARIES[0],
    OTHER_VOCABULARIES[1],
    OTHER_VOCABULARIES[2],
    OTHER_VOCABULARIES[3],
    OTHER_VOCABULARIES[4],
];

/// Whether a file holds a vocabulary, or part of one, in a format that is not rewritten here.
fn holds_vocabulary(name: &str) -> bool {
    let ends = [".model", ".tiktoken", ".spm", ".vocab", ".bpe", ".codes"];
    ends.iter().any(|end| name.ends_with(end))
        || name.starts_with("vocab")
        || matches!(name, "merges.txt" | "tekken.json" | "dict.txt")
}

/// Whether a file belongs to the tokenizer, whatever its kind: vocabularies, templates, its code.
pub(crate) fn is_tokenizers(name: &str) -> bool {
    FILES.contains(&name)
        || holds_vocabulary(name)
        || (name.starts_with("tokenizer") && name.ends_with(".json"))
        || (name.starts_with("tokenization") && name.ends_with(".py"))
        || (name.contains("chat_template") || name.ends_with(".jinja"))
        || name == "normalizer.json"
}

/// The tokenizer files of a folder as they are.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn copied(checkpoint: &Checkpoint) -> Result<Vec<(String, Vec<u8>)>> {
    let there = checkpoint.files()?;
    let known = FILES.iter().map(|name| (*name).to_owned());
    let known = known.filter(|name| there.contains(name));
    let others = there.iter().filter(|name| !FILES.contains(&name.as_str()));
    let others = others.filter(|name| is_tokenizers(name)).cloned();
    known
        .chain(others)
        .map(|name| Ok((name.clone(), checkpoint.bytes(&name)?.into_owned())))
        .collect()
}

/// The files of `voice` for the tokens of `union`.
pub(super) fn write(
    voice: &Voice,
    union: &Union,
    notes: &mut Vec<String>,
) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = copied(voice.checkpoint)?;
    let (told, kept) = (&voice.tokens, &union.tokens);
    if told.dropped.is_empty() && kept.len() == told.len() && kept.added == told.added {
        return Ok(files);
    }
    let lost = told.dropped.iter().map(String::as_str);
    let mut lost: Vec<&str> = lost.filter(|token| kept.id(token).is_none()).collect();
    lost.sort_unstable();
    if !lost.is_empty() {
        notes.push(format!(
            "the output leaves out tokens of model `{}` that have no row there: {}",
            voice.label,
            listed(&lost)
        ));
    }
    let document: Json = voice.checkpoint.json("tokenizer.json")?;
    let Rewritten {
        mut document,
        outside,
        cut,
    } = rewrite(document, told, kept).map_err(|problem| refused(voice.label, problem))?;
    if cut {
        // They hold the whole vocabulary, and in formats that are not rewritten here.
        files.retain(|(name, _)| !holds_vocabulary(name));
    }
    for (name, bytes) in &mut files {
        let changed = match name.as_str() {
            "tokenizer.json" => document.take(),
            "added_tokens.json" => outside.clone(),
            "tokenizer_config.json" | "special_tokens_map.json" => {
                let mut settings: Json = voice.checkpoint.json(name)?;
                forget(&mut settings, &lost);
                if let Some(decoder) = settings.get_mut("added_tokens_decoder") {
                    let entries = kept
                        .added
                        .iter()
                        .map(|(id, added)| (id.to_string(), json!(added)));
                    *decoder = Json::Object(entries.collect());
                }
                settings
            }
            _ => continue,
        };
        *bytes = pretty(&changed);
    }
    Ok(files)
}

/// JSON as published folders have it.
pub(super) fn pretty(json: &Json) -> Vec<u8> {
    format!("{json:#}\n").into_bytes()
}

struct Rewritten {
    /// `tokenizer.json`.
    document: Json,
    /// `added_tokens.json`: ids of the tokens that the model's own vocabulary lacks.
    outside: Json,
    /// Whether the model's own vocabulary has become smaller.
    cut: bool,
}

fn rewrite(
    mut document: Json,
    told: &Tokens,
    kept: &Tokens,
) -> std::result::Result<Rewritten, &'static str> {
    const FORM: &str = "tokenizer.json is no object with a `model` that is one; take the file that was published with the weights";
    let model = document
        .get_mut("model")
        .and_then(Json::as_object_mut)
        .ok_or(FORM)?;
    let cut = prune(model, &told.dropped);
    let vocab = model.get_mut("vocab").ok_or(FORM)?;
    let own = Vocab::deserialize(&*vocab).map_err(|_| FORM)?;
    let tokens = kept
        .added
        .iter()
        .map(|(id, added)| (added.content.as_str(), *id));
    let outside: Vec<(&str, usize)> = tokens
        .clone()
        .filter(|(token, _)| !own.ids.contains_key(*token))
        .collect();
    let placed = own.place(tokens.clone().map(|(token, _)| token));
    if tokens
        .clone()
        .any(|(token, id)| placed.get(token) != Some(&id))
    {
        // Ids with holes: loading programs would count on from elsewhere. An entry in the model's
        // own vocabulary keeps its id.
        let vocab = vocab.as_object_mut().ok_or(
            "its ids have holes that a Unigram tokenizer cannot have; take another tokenizer_source",
        )?;
        vocab.extend(
            outside
                .iter()
                .map(|(token, id)| ((*token).to_owned(), json!(id))),
        );
    }
    let outside = outside
        .iter()
        .map(|(token, id)| ((*token).to_owned(), json!(id)))
        .collect();
    document["added_tokens"] = kept
        .added
        .iter()
        .map(|(id, added)| entry(*id, added))
        .collect();
    Ok(Rewritten {
        document,
        outside: Json::Object(outside),
        cut,
    })
}

/// An added token as `tokenizer.json` lists it.
fn entry(id: usize, added: &Added) -> Json {
    #[derive(Serialize)]
    struct Entry<'a> {
        id: usize,
        #[serde(flatten)]
        added: &'a Added,
    }
    json!(Entry { id, added })
}

/// Takes tokens out of a model's own vocabulary, with the merges that lead to them or from them;
/// whether there were any.
fn prune(model: &mut Map<String, Json>, dropped: &HashSet<String>) -> bool {
    if dropped.is_empty() {
        return false;
    }
    let gone = |token: &str| dropped.contains(token);
    let before = model.get("vocab").map(size);
    match model.get_mut("vocab") {
        Some(Json::Object(ids)) => ids.retain(|token, _| !gone(token)),
        Some(Json::Array(pieces)) => pieces.retain(|piece| !piece[0].as_str().is_some_and(gone)),
        _ => {}
    }
    if let Some(Json::Array(merges)) = model.get_mut("merges") {
        merges.retain(|merge| {
            let pair = match merge {
                Json::String(pair) => pair.split_once(' '),
                pair => pair[0].as_str().zip(pair[1].as_str()),
            };
            !pair.is_some_and(|(a, b)| gone(a) || gone(b) || gone(&format!("{a}{b}")))
        });
    }
    before != model.get("vocab").map(size)
}

fn size(vocab: &Json) -> usize {
    match vocab {
        Json::Object(ids) => ids.len(),
        Json::Array(pieces) => pieces.len(),
        _ => 0,
    }
}

/// Takes tokens out of the roles that they play: loading programs would give them new ids.
fn forget(settings: &mut Json, lost: &[&str]) {
    let is_lost = |role: &Json| {
        let token = role.as_str().or_else(|| role["content"].as_str());
        token.is_some_and(|token| lost.contains(&token))
    };
    let Some(settings) = settings.as_object_mut() else {
        return;
    };
    settings.retain(|key, role| !(key.ends_with("_token") && is_lost(role)));
    for roles in settings.values_mut().filter_map(Json::as_array_mut) {
        roles.retain(|role| !is_lost(role));
    }
}
