//! The chat template of the output: `chat_template: auto`, a name, or the template itself.

use serde_json::{Value as Json, json};

use super::files::pretty;
use super::messages::refused;
use super::speaker::Speaker;
use crate::error::Result;

/// The templates that have a name.
const NAMED: [(&str, &str); 4] = [
    ("alpaca", include_str!("chat/alpaca.jinja")),
    ("chatml", include_str!("chat/chatml.jinja")),
    ("llama3", include_str!("chat/llama3.jinja")),
    ("mistral", include_str!("chat/mistral.jinja")),
];

/// The template that a recipe's `chat_template` means: with `auto` the one that most models have,
/// of equals the first model's, or `None` when no model has one.
///
/// # Errors
/// A name that is not known, or a folder's template that cannot be read.
pub(crate) fn chat_template(setting: &str, speakers: &[Speaker]) -> Result<Option<String>> {
    if setting == "auto" {
        return most_common(speakers);
    }
    if setting.contains('{') {
        return Ok(Some(setting.to_owned()));
    }
    let known = NAMED.iter().find(|(name, _)| *name == setting);
    let (_, template) = known.ok_or_else(|| {
        let names: Vec<&str> = NAMED.iter().map(|(name, _)| *name).collect();
        let problem = format!(
            "chat_template `{}` is not offered; give auto, one of {}, or the template itself",
            setting.escape_debug(),
            names.join(", ")
        );
        refused(
            speakers.first().map_or("", |speaker| speaker.label),
            problem,
        )
    })?;
    Ok(Some((*template).to_owned()))
}

fn most_common(speakers: &[Speaker]) -> Result<Option<String>> {
    let mut found: Vec<(String, usize)> = Vec::new();
    for speaker in speakers {
        let Some(template) = own(speaker)? else {
            continue;
        };
        let template = template.trim();
        match found.iter_mut().find(|(known, _)| known == template) {
            Some((_, count)) => *count += 1,
            None if template.is_empty() => {}
            None => found.push((template.to_owned(), 1)),
        }
    }
    // The last of equals would win; so the first is looked at last.
    let best = found.into_iter().rev().max_by_key(|(_, count)| *count);
    Ok(best.map(|(template, _)| template))
}

/// A model's template, from where loading programs look for it.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn own(speaker: &Speaker) -> Result<Option<String>> {
    let folder = speaker.checkpoint;
    if let Some(bytes) = folder.bytes_if_present("chat_template.jinja")? {
        let template = String::from_utf8(bytes.into_owned());
        let template = template.map_err(|_| speaker.error("chat_template.jinja is not UTF-8"));
        return template.map(Some);
    }
    for file in ["chat_template.json", "tokenizer_config.json"] {
        let settings: Option<Json> = folder.json_if_present(file)?;
        let settings = settings.unwrap_or_default();
        let template = match &settings["chat_template"] {
            Json::Array(several) => {
                let mut several = several.iter();
                let default = several.find(|one| one["name"] == "default");
                default.map_or(&Json::Null, |default| &default["template"])
            }
            one => one,
        };
        if let Some(template) = template.as_str() {
            return Ok(Some(template.to_owned()));
        }
    }
    Ok(None)
}

/// Puts a template into tokenizer files: into `tokenizer_config.json`, and into
/// `chat_template.jinja` and `chat_template.json` where they are; without any of them, into a new
/// `chat_template.jinja`.
///
/// # Errors
/// A `tokenizer_config.json` or `chat_template.json` that is no JSON object; `model` is whose files
/// these are.
pub(crate) fn put_chat_template(
    files: &mut Vec<(String, Vec<u8>)>,
    template: &str,
    model: &str,
) -> Result<()> {
    let mut stored = false;
    for (name, bytes) in files.iter_mut() {
        match name.as_str() {
            "chat_template.jinja" => *bytes = template.as_bytes().to_vec(),
            "chat_template.json" | "tokenizer_config.json" => {
                *bytes = with(bytes, template)
                    .ok_or_else(|| refused(model, format!("{name} is no JSON object")))?;
            }
            _ => continue,
        }
        stored = true;
    }
    if !stored {
        let template = template.as_bytes().to_vec();
        files.push(("chat_template.jinja".to_owned(), template));
    }
    Ok(())
}

fn with(settings: &[u8], template: &str) -> Option<Vec<u8>> {
    let mut settings: Json = serde_json::from_slice(settings).ok()?;
    let entries = settings.as_object_mut()?;
    entries.insert("chat_template".to_owned(), json!(template));
    Some(pretty(&settings))
}
