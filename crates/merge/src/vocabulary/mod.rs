//! One vocabulary for models whose tokenizers differ: which rows the output's embedding matrix and
//! head have, where each model takes them from, and the tokenizer files of the output.
//!
//! Everything here is read from and written to JSON; no tokenizer runs. The ids of the model whose
//! tokenizer the output takes never change, so that whatever refers to them stays true.

mod chat;
mod files;
mod messages;
mod rows;
mod setting;
mod speaker;
mod tokens;
mod union;

#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::sync::Arc;

use debias_weights::Checkpoint;
use serde_json::Value as Json;

pub(crate) use chat::{chat_template, own as own_template, put_chat_template};
pub(crate) use files::{copied, is_tokenizers};
pub use setting::{TokenRowSource, TokenRule, TokenSource, TokenizerSetting};
pub(crate) use speaker::Speaker;

use crate::error::Result;
use crate::stream::VocabularyRow;
use files::OTHER_VOCABULARIES;
use messages::{counted, listed, refused};
use rows::Table;
use speaker::Voice;
use tokens::Tokens;
use union::Union;

/// Largest `pad_to_multiple_of`; published ones stay below 1024.
const LARGEST_MULTIPLE: usize = 1 << 20;

/// What [`unite`] found.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    /// Rows of the output's vocabulary matrices.
    pub size: usize,
    /// Where each row of the output comes from, for each speaker; `None` where the speaker's
    /// matrices stay as they are. [`VocabularyRow`] counts models as the speakers are counted.
    pub rows: Vec<Option<Arc<Vec<VocabularyRow>>>>,
    /// The tokenizer files of the output: names and contents.
    pub files: Vec<(String, Vec<u8>)>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// The common vocabulary of `speakers`. `base` is the place of the merge's base model, if it has
/// one; the first speaker stands in where only a tokenizer is asked for. `outside` is the folder
/// that [`TokenSource::Model`] names when it is none of the speakers.
///
/// A row of the output comes, for a model that has the token, from the token's row there; for the
/// others from the base if it has the token, from the only model that has it, or is the mean over
/// those that have it; zeros when none has it. Rows without a token stay where a model has them,
/// and are [`VocabularyRow::Padding`] elsewhere.
///
/// # Errors
/// A tokenizer that is missing or malformed, a source or rule that names what is not there, or a
/// `pad_to_multiple_of` beyond reason.
pub(crate) fn unite(
    setting: &TokenizerSetting,
    speakers: &[Speaker],
    base: Option<usize>,
    outside: Option<(&str, &Checkpoint)>,
) -> Result<Vocabulary> {
    let main = base.unwrap_or(0);
    let mut notes = Vec::new();
    let tokens = read_all(speakers, main, &mut notes)?;
    let voice = choose(&setting.source, speakers, &tokens, main, outside)?;
    let mut union = Union::of(&voice.tokens);
    if setting.source == TokenSource::Union {
        let others = tokens.iter().enumerate().filter(|(at, _)| *at != main);
        let others: Vec<&Tokens> = others.map(|(_, tokens)| &**tokens).collect();
        union.extend(&others, &mut notes);
    }
    for (token, _) in &setting.tokens {
        union.add(token);
    }
    let size = size(setting.pad_to_multiple_of, &union, &voice)?;
    let table = Table {
        speakers,
        tokens: &tokens,
        base,
        union: &union.tokens,
        keep_unnamed: setting.pad_to_multiple_of.is_none_or(|of| of == 0),
    };
    let rows = table.fill(&setting.tokens, size, &mut notes)?;
    let files = files::write(&voice, &union, &mut notes)?;
    if voice.at != Some(main) {
        warn_of_config(&speakers[main], &tokens[main], &union.tokens, &mut notes)?;
    }
    Ok(Vocabulary {
        size,
        rows,
        files,
        notes,
    })
}

/// Which difference between two tokenizers explains that the vocabulary matrices of two models
/// differ in their rows, and what to add to the recipe; for the message of a shape mismatch.
/// `None` where the tokenizers do not tell.
pub(crate) fn difference(a: &Speaker, b: &Speaker) -> Option<String> {
    if a.rows == b.rows {
        return None;
    }
    let read =
        |speaker: &Speaker| Tokens::read(speaker.label, speaker.checkpoint, Some(speaker.rows));
    let (ours, theirs) = (read(a).ok()??, read(b).ok()??);
    let mut found = Vec::new();
    for (has, lacks, its, others) in [(b, a, &theirs, &ours), (a, b, &ours, &theirs)] {
        let besides = its.besides(others);
        if !besides.is_empty() {
            let (count, list) = (counted(besides.len()), listed(&besides));
            let (has, lacks) = (has.label, lacks.label);
            found.push(format!(
                "model `{has}` has {count} that `{lacks}` lacks: {list}"
            ));
        }
    }
    Some(if found.is_empty() {
        format!(
            "both tokenizers have the same {} tokens, one matrix has rows to spare; add `tokenizer_source: base` to the recipe",
            ours.len()
        )
    } else {
        format!(
            "{}; add `tokenizer_source: union` to the recipe, or `tokenizer_source: base`",
            found.join("; ")
        )
    })
}

/// What to say of models whose rows are merged by number although their tokenizers number tokens
/// otherwise than the one of `speakers[main]`.
pub(crate) fn renumbered(speakers: &[Speaker], main: usize) -> Vec<String> {
    let file = |speaker: &Speaker| speaker.checkpoint.bytes_if_present("tokenizer.json").ok();
    let leader = &speakers[main];
    let told = |speaker: &Speaker| Tokens::told(speaker.label, speaker.checkpoint, speaker.rows);
    let mut first = None;
    let mut notes = Vec::new();
    for (at, speaker) in speakers.iter().enumerate() {
        let written = file(speaker);
        if at == main || (matches!(&written, Some(Some(_))) && written == file(leader)) {
            continue;
        }
        let ours = first.get_or_insert_with(|| told(leader));
        let (Some(ours), Some(theirs)) = (ours, told(speaker)) else {
            continue;
        };
        let moved = ours.renumbered(&theirs);
        if let Some((id, here, there)) = moved.first() {
            notes.push(format!(
                "`{}` and `{}` give {} to different tokens ({id} is `{}` and `{}`), and rows are merged by number; `tokenizer_source: union` merges them by token",
                leader.label,
                speaker.label,
                match moved.len() {
                    1 => "1 number".to_owned(),
                    numbers => format!("{numbers} numbers"),
                },
                here.escape_debug(),
                there.escape_debug(),
            ));
        }
    }
    notes
}

/// Whether two tokenizers name the same tokens; `None` where one of them does not tell.
pub(crate) fn same_tokens(a: &Speaker, b: &Speaker) -> Option<bool> {
    let told = |speaker: &Speaker| Tokens::told(speaker.label, speaker.checkpoint, usize::MAX);
    let (ours, theirs) = (told(a)?, told(b)?);
    let new = ours.besides(&theirs).len() + theirs.besides(&ours).len();
    Some(new == 0 && ours.renumbered(&theirs).is_empty())
}

/// One behind the last id of a tokenizer; `None` where it does not tell.
pub(crate) fn end_of_tokens(speaker: &Speaker) -> Option<usize> {
    let told = Tokens::told(speaker.label, speaker.checkpoint, usize::MAX);
    told.map(|tokens| tokens.end())
}

fn choose<'a>(
    source: &TokenSource,
    speakers: &[Speaker<'a>],
    tokens: &[Rc<Tokens>],
    main: usize,
    outside: Option<(&'a str, &'a Checkpoint)>,
) -> Result<Voice<'a>> {
    let at = match source {
        TokenSource::Union | TokenSource::Base => Some(main),
        TokenSource::Model(label) => speakers.iter().position(|model| model.label == label),
    };
    if let Some(at) = at {
        let Speaker {
            label,
            checkpoint,
            rows,
        } = speakers[at];
        return Ok(Voice {
            label,
            checkpoint,
            at: Some(at),
            rows: Some(rows),
            tokens: tokens[at].clone(),
        });
    }
    let (label, checkpoint) = outside.ok_or_else(|| {
        let name = match source {
            TokenSource::Model(label) => label.as_str(),
            TokenSource::Union | TokenSource::Base => speakers[main].label,
        };
        refused(name, "the tokenizer's source is no model of this merge")
    })?;
    let tokens = Tokens::read(label, checkpoint, None)?;
    Ok(Voice {
        label,
        checkpoint,
        at: None,
        rows: None,
        tokens: Rc::new(tokens.ok_or_else(|| refused(label, MISSING))?),
    })
}

const MISSING: &str = "there is no tokenizer.json; write one with transformers (AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER))";

/// The tokens of every speaker. One that has none is taken to speak as the main one does, where
/// its matrix has as many rows and no file says otherwise.
fn read_all(speakers: &[Speaker], main: usize, notes: &mut Vec<String>) -> Result<Vec<Rc<Tokens>>> {
    let read = |speaker: &Speaker| {
        Tokens::read(speaker.label, speaker.checkpoint, Some(speaker.rows))
            .map(|tokens| tokens.map(Rc::new))
    };
    let leader = &speakers[main];
    let first = read(leader)?.ok_or_else(|| leader.error(MISSING))?;
    let each = speakers.iter().enumerate().map(|(at, speaker)| {
        if at == main {
            return Ok(first.clone());
        }
        if let Some(tokens) = read(speaker)? {
            return Ok(tokens);
        }
        if speaker.rows != leader.rows || speaks_otherwise(speaker, leader)? {
            return Err(speaker.error(MISSING));
        }
        notes.push(format!(
            "model `{}` has no tokenizer.json and as many rows as `{}`: its tokens are taken to be the same",
            speaker.label, leader.label
        ));
        Ok(first.clone())
    });
    each.collect()
}

/// Whether a vocabulary file in another format says that the tokens are not the leader's.
fn speaks_otherwise(speaker: &Speaker, leader: &Speaker) -> Result<bool> {
    for file in OTHER_VOCABULARIES {
        let own = speaker.checkpoint.bytes_if_present(file)?;
        if own.is_some() && own != leader.checkpoint.bytes_if_present(file)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn size(multiple: Option<usize>, union: &Union, voice: &Voice) -> Result<usize> {
    let named = union.tokens.end();
    match multiple {
        Some(of) if of > LARGEST_MULTIPLE => Err(refused(
            voice.label,
            format!("pad_to_multiple_of is {of}; give at most {LARGEST_MULTIPLE}"),
        )),
        Some(of) if of > 0 => Ok(named.next_multiple_of(of)),
        _ => Ok(named.max(voice.rows.unwrap_or(0))),
    }
}

/// Ids in the main model's `config.json` that mean another token after the merge: the file is not
/// rewritten, since what its keys mean is not known here.
fn warn_of_config(
    main: &Speaker,
    tokens: &Tokens,
    union: &Tokens,
    notes: &mut Vec<String>,
) -> Result<()> {
    let config: Option<Json> = main.checkpoint.json_if_present("config.json")?;
    let config = config.unwrap_or_default();
    let keys = [&config, &config["text_config"]].into_iter();
    let keys = keys.filter_map(Json::as_object).flatten();
    for (key, id) in keys.filter(|(key, _)| key.ends_with("_token_id")) {
        let id = id.as_u64().and_then(|id| usize::try_from(id).ok());
        let Some((id, token)) = id.and_then(|id| Some((id, tokens.at(id)?))) else {
            continue;
        };
        if union.at(id) != Some(token) {
            let now = match union.id(token) {
                Some(now) => format!("set it to {now}"),
                None => "the output's tokenizer has no such token".to_owned(),
            };
            notes.push(format!(
                "`{key}` in config.json is {id}, which was {token:?} in `{}`: {now}",
                main.label
            ));
        }
    }
    Ok(())
}
