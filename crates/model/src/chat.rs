//! Conversations as the text a model was trained to continue.
//!
//! Instruction-tuned models publish a Jinja template for that. It is a program from a model's
//! folder, so it runs without access to files or the clock, for a limited time, and its output is
//! limited.

mod environment;

use debias_weights::Checkpoint;
use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::error::{Error, Result};
use crate::text::one_line;

/// Longest template in bytes; published ones stay below 20 000.
const LONGEST: usize = 1 << 20;

/// Names under which a folder may keep special tokens that templates use.
const SPECIAL: [&str; 4] = ["bos_token", "eos_token", "pad_token", "unk_token"];

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: Content,
}

impl Message {
    /// A turn of text, which may hold image placeholders.
    pub fn text(role: &str, text: &str) -> Self {
        Self {
            role: role.to_owned(),
            content: Content::Text(text.to_owned()),
        }
    }

    /// A turn of pictures and text, for templates that write the placeholders themselves (see
    /// [`ChatTemplate::takes_parts`]).
    pub fn parts(role: &str, parts: Vec<Part>) -> Self {
        Self {
            role: role.to_owned(),
            content: Content::Parts(parts),
        }
    }
}

/// The content of a turn, in either of the forms that templates expect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Content {
    /// One text.
    Text(String),
    /// A list of pictures and texts.
    Parts(Vec<Part>),
}

/// A part of a turn's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Part {
    /// A picture, for which the template writes its placeholder.
    Image,
    /// A text.
    Text {
        /// The text itself.
        text: String,
    },
}

impl Part {
    /// A text.
    pub fn text(text: &str) -> Self {
        Self::Text {
            text: text.to_owned(),
        }
    }
}

/// The chat template of a model, checked when it is read.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    /// The special tokens, by their names in templates.
    tokens: Vec<(&'static str, String)>,
    takes_parts: bool,
    /// The file that it stands in, or the name by which `config.json` calls it.
    name: String,
    location: String,
}

impl ChatTemplate {
    /// The template of a model's folder: that of its own files, or else the one in
    /// `tokenizer_config.json` (of several there, the one called `default`); `None` where there is
    /// none. Special tokens come from `tokenizer_config.json`, or else from
    /// `special_tokens_map.json`.
    ///
    /// # Errors
    /// When a file cannot be read, or the template is malformed.
    pub fn open(checkpoint: &Checkpoint) -> Result<Option<Self>> {
        match Self::of_model(checkpoint)? {
            Some(template) => Ok(Some(template)),
            None => Self::of_tokenizer(checkpoint),
        }
    }

    /// The template that a folder's model has beside its tokenizer: `chat_template.jinja`, or else
    /// `chat_template.json`, or else the one in `processor_config.json`.
    ///
    /// # Errors
    /// As [`ChatTemplate::open`].
    pub(crate) fn of_model(checkpoint: &Checkpoint) -> Result<Option<Self>> {
        const ALONE: &str = "chat_template.jinja";
        const JSON: &str = "chat_template.json";
        let location = |file: &str| format!("{}/{file}", checkpoint.location());
        if let Some(bytes) = checkpoint.bytes_if_present(ALONE)? {
            let source = String::from_utf8(bytes.into_owned());
            let source = source.map_err(|_| refused(&location(ALONE), "it is not UTF-8"))?;
            return Self::in_file(checkpoint, &source, ALONE).map(Some);
        }
        if let Some(json) = checkpoint.json_if_present::<Json>(JSON)? {
            let Some(source) = choose(&json, &location(JSON))? else {
                return Err(refused(&location(JSON), "`chat_template` is missing"));
            };
            return Self::in_file(checkpoint, &source, JSON).map(Some);
        }
        Self::inside(checkpoint, "processor_config.json")
    }

    /// The template in `tokenizer_config.json`.
    ///
    /// # Errors
    /// As [`ChatTemplate::open`].
    pub(crate) fn of_tokenizer(checkpoint: &Checkpoint) -> Result<Option<Self>> {
        Self::inside(checkpoint, "tokenizer_config.json")
    }

    /// The template that `config.json` calls `name`, whose text is `source`.
    ///
    /// # Errors
    /// A malformed template.
    pub(crate) fn named(name: &str, source: &str, location: &str) -> Result<Self> {
        Self::new(source, Vec::new(), name, location)
    }

    /// The one in the `chat_template` of a file that may have none.
    fn inside(checkpoint: &Checkpoint, file: &str) -> Result<Option<Self>> {
        let json: Option<Json> = checkpoint.json_if_present(file)?;
        let location = format!("{}/{file}", checkpoint.location());
        match choose(&json.unwrap_or_default(), &location)? {
            Some(source) => Self::in_file(checkpoint, &source, file).map(Some),
            None => Ok(None),
        }
    }

    fn in_file(checkpoint: &Checkpoint, source: &str, file: &str) -> Result<Self> {
        let read = |file: &str| -> Result<Json> {
            Ok(checkpoint.json_if_present(file)?.unwrap_or_default())
        };
        let (config, map) = (
            read("tokenizer_config.json")?,
            read("special_tokens_map.json")?,
        );
        let tokens = SPECIAL.iter().filter_map(|name| {
            let token = token(&config[name]).or_else(|| token(&map[name]))?;
            Some((*name, token))
        });
        let location = format!("{}/{file}", checkpoint.location());
        Self::new(source, tokens.collect(), file, &location)
    }

    fn new(
        source: &str,
        tokens: Vec<(&'static str, String)>,
        name: &str,
        location: &str,
    ) -> Result<Self> {
        if source.len() > LONGEST {
            let problem = format!("it is longer than {LONGEST} bytes");
            return Err(refused(location, &problem));
        }
        let mut template = Self {
            environment: environment::sandbox(),
            source: environment::without_marks(source),
            tokens,
            takes_parts: false,
            name: name.to_owned(),
            location: location.to_owned(),
        };
        template
            .environment
            .template_from_str(&template.source)
            .map_err(|error| template.error(&error))?;
        template.takes_parts = template.shows_parts();
        Ok(template)
    }

    /// The file that it stands in, or the name by which `config.json` calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a user's turn may be a list of parts, for whose pictures the template writes the
    /// placeholders; otherwise every content has to be text with the placeholders in it.
    pub fn takes_parts(&self) -> bool {
        self.takes_parts
    }

    /// The text of a conversation; with `add_generation_prompt`, up to where the model answers.
    /// Where the text begins with the BOS token, tokenise it without special tokens.
    ///
    /// # Errors
    /// When the template refuses the conversation (such as roles that do not alternate), fails,
    /// or exceeds its limits.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let tokens = self.tokens.iter();
        let tokens = Value::from_pairs(tokens.map(|(name, token)| (*name, token.as_str())));
        let given = context! {
            messages => Value::from(Serde(messages)),
            add_generation_prompt,
            // What the reference passes where there are none.
            tools => Value::from(()),
            documents => Value::from(()),
            ..tokens
        };
        let template = self.environment.template_from_str(&self.source);
        template
            .and_then(|template| environment::run(&template, given))
            .map_err(|error| self.error(&error))
    }

    /// Whether a text survives as a part, and is not shown as a list.
    fn shows_parts(&self) -> bool {
        const PROBE: &str = "Probe0Text";
        let turn = Message::parts("user", vec![Part::Image, Part::text(PROBE)]);
        let shown = self.render(&[turn], false);
        shown.is_ok_and(|shown| {
            let list = ["\"type\"", "'type'"].iter().any(|key| shown.contains(key));
            shown.contains(PROBE) && !list
        })
    }

    fn error(&self, error: &minijinja::Error) -> Error {
        refused(&self.location, &error.to_string())
    }
}

/// The template in the `chat_template` of a file: a string, or a list of named ones.
fn choose(json: &Json, location: &str) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
        template: String,
    }

    let written = match json.get("chat_template") {
        None | Some(Json::Null) => return Ok(None),
        Some(Json::String(source)) => return Ok(Some(source.clone())),
        Some(other) => other,
    };
    let named: Vec<Named> = Deserialize::deserialize(written).map_err(|_| {
        refused(
            location,
            "`chat_template` is neither a string nor a list of name and template",
        )
    })?;
    let several = named.len() > 1;
    let chosen = named
        .into_iter()
        .find(|named| !several || named.name == "default");
    match chosen {
        Some(named) => Ok(Some(named.template)),
        None => Err(refused(location, "`chat_template` has no `default` one")),
    }
}

/// A special token, written as a string or as an object.
fn token(written: &Json) -> Option<String> {
    let token = written.as_str().or_else(|| written["content"].as_str());
    token.map(str::to_owned)
}

fn refused(location: &str, problem: &str) -> Error {
    Error::Text {
        location: location.to_owned(),
        problem: format!(
            "the chat template cannot be used: {}",
            one_line(problem, 300)
        ),
    }
}

#[cfg(test)]
mod tests;
