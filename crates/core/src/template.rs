//! The text around a prompt.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::record::Task;

/// A text with one `{}`, where the prompt goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template(String);

impl Template {
    /// The template that adds nothing.
    pub fn bare() -> Self {
        Self("{}".to_owned())
    }

    fn is_bare(&self) -> bool {
        *self == Self::bare()
    }

    /// The published template of visual questions.
    pub fn short_answer() -> Self {
        Self("Question: {} Short answer:".to_owned())
    }

    /// Reads a template.
    ///
    /// # Errors
    /// [`Error::Setting`] under `key` unless `text` holds `{}` exactly once.
    pub fn parse(key: &str, text: &str) -> Result<Self> {
        match text.matches("{}").count() {
            1 => Ok(Self(text.to_owned())),
            _ => Err(Error::Setting {
                key: key.to_owned(),
                problem: format!("`{text}` must hold {{}} exactly once, in the place of the text"),
            }),
        }
    }

    /// The text with `prompt` in its place.
    pub fn apply(&self, prompt: &str) -> String {
        self.0.replacen("{}", prompt, 1)
    }

    /// The template as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Template {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse("template", &text)
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.0
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One template per kind of text; each prompt of a kind, rephrased or not, gets the same one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Templates {
    /// Prompts of the question-answering task.
    pub vqa: Template,
    /// Prompts of the captioning task.
    pub ic: Template,
    /// Prompts of records without a picture.
    #[serde(default = "Template::bare", skip_serializing_if = "Template::is_bare")]
    pub text: Template,
    /// Questions of the multimodal-locality items.
    pub mloc: Template,
    /// Questions of the text-locality items.
    pub tloc: Template,
}

impl Templates {
    /// The template of a task's prompts.
    pub fn of(&self, task: Task) -> &Template {
        match task {
            Task::Ic => &self.ic,
            Task::Vqa => &self.vqa,
            Task::Text => &self.text,
        }
    }
}

impl Default for Templates {
    /// Visual questions in the published question-answering template, everything else bare.
    fn default() -> Self {
        Self {
            vqa: Template::short_answer(),
            ic: Template::bare(),
            text: Template::bare(),
            mloc: Template::short_answer(),
            tloc: Template::bare(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prompt_goes_where_the_braces_are() {
        assert_eq!(
            Template::short_answer().apply("What {} is it?"),
            "Question: What {} is it? Short answer:"
        );
        assert_eq!(Template::bare().apply("a photo of"), "a photo of");
    }

    #[test]
    fn the_braces_stand_once() {
        for text in ["", "Question:", "{} {}"] {
            assert!(Template::parse("template.vqa", text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Template>("\"none\"").is_err());
    }
}
