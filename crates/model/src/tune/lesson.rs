//! What is learnt: tokenised items, cut to length and closed by the end token.

use crate::batch::{ImageRef, Row};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::question::{Question, Style};

use super::loss::learns;

/// One item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lesson {
    /// Its tokens; what is learnt begins at `answer_start`.
    pub row: Row,
    /// The key of its picture.
    pub picture: Option<String>,
}

impl Lesson {
    /// Tokens of it that are learnt.
    pub fn tokens(&self, unlearnt: Option<u32>) -> usize {
        let places = self.row.answer_start..self.row.ids.len();
        places.filter(|at| learns(&self.row, *at, unlearnt)).count()
    }
}

/// A prompt, its answer and the picture that they are about.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// The prompt.
    pub prompt: &'a str,
    /// Between both.
    pub join: &'a str,
    /// The answer.
    pub answer: &'a str,
    /// Key of the picture, and the number of tiles that it is cut into.
    pub picture: Option<(&'a str, usize)>,
    /// Whether the prompt is learnt too.
    pub whole: bool,
}

/// Makes lessons for a model.
pub struct Primer<'m> {
    /// The model.
    pub model: &'m Model,
    /// What it puts around prompts.
    pub style: Style,
    /// Most tokens; the rest is cut off at the end.
    pub max_length: usize,
    /// Whether the token that ends a text is put behind.
    pub end: bool,
}

impl Primer<'_> {
    /// A text of which every token is learnt but the first.
    ///
    /// # Errors
    /// A text that cannot be tokenised, or has no token.
    pub fn text(&self, text: &str) -> Result<Lesson> {
        let row = Row {
            ids: self.model.text().encode(text, true)?,
            image: None,
            answer_start: 1,
        };
        if row.ids.is_empty() {
            return Err(Error::Prompt {
                prompt: text.chars().take(40).collect(),
                problem: "has no token to learn; leave it out".to_owned(),
            });
        }
        self.closed(row, None)
    }

    /// An answer behind its prompt, tokenised as one text.
    ///
    /// # Errors
    /// What cannot be tokenised, an answer without a token of its own, or a picture that does not fit
    /// into the length.
    pub fn answered(&self, item: &Answered) -> Result<Lesson> {
        let question = Question {
            picture: item.picture.map(|(_, tiles)| ImageRef { index: 0, tiles }),
            prompt: item.prompt,
            answer: Some(item.answer),
            join: item.join,
            style: self.style,
        };
        let mut row = self.model.uncut_row(&question)?;
        if item.whole {
            row.answer_start = 1;
        }
        self.closed(row, item.picture.map(|(key, _)| key.to_owned()))
    }

    fn closed(&self, mut row: Row, picture: Option<String>) -> Result<Lesson> {
        let end = self.model.marks().ends().first().filter(|_| self.end);
        if row.ids.last() != end {
            row.ids.extend(end);
        }
        row.ids.truncate(self.max_length);
        row.answer_start = row.answer_start.min(row.ids.len());
        match row.image {
            Some(span) if span.at + span.len > row.ids.len() => Err(Error::Prompt {
                prompt: picture.unwrap_or_default(),
                problem: format!(
                    "is a picture of {} vectors, which do not fit into {} positions; raise `max_length`",
                    span.len, self.max_length
                ),
            }),
            _ => Ok(Lesson { row, picture }),
        }
    }
}
