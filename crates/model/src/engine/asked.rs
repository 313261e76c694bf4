//! What is asked, as text, and the rows of tokens that it becomes.

use crate::batch::{ImageRef, Row};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::question::{Question, Style};

/// One question with the answers among which it is to be decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// What it is called in messages.
    pub name: String,
    /// The text in front of the answer.
    pub prompt: String,
    /// Key of its picture; none for text alone.
    pub image: Option<String>,
    /// The answers.
    pub choices: Vec<String>,
    /// Between prompt and answer.
    pub join: String,
    /// What the model puts around the prompt.
    pub style: Style,
    /// Where the answers begin.
    pub joining: Joining,
}

/// Where in the tokens of a prompt and an answer the answer begins, and what becomes of what is too
/// long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Joining {
    /// Where the tokens of both part from those of the prompt alone. Too long is an error.
    #[default]
    Own,
    /// The same, all answers from the earliest of their beginnings, so that none is scored on fewer
    /// of its tokens (`spec/editors.md` 2.1: both answers of an edit).
    Common,
    /// As the LM evaluation harness has it (`spec/bias_benchmarks.md` 0): behind as many tokens as
    /// the prompt alone has; blanks at the prompt's end belong to the answer; an empty prompt is the
    /// token that begins a text. Too long is cut from the left, the beginning token included; an
    /// answer is never cut, and one that has more tokens than the model has positions has no score.
    Harness,
}

/// A prompt and one of its answers as tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChoiceRow {
    /// The tokens.
    pub row: Row,
    /// Tokens of the prompt that were left out.
    pub cut: usize,
}

impl Asked {
    /// The rows of all answers, or that of the prompt alone where there is none; `None` in the place
    /// of an answer that is longer than the model's positions.
    ///
    /// # Errors
    /// A text that cannot be tokenised, an answer without a token of its own, or under
    /// [`Joining::Own`] and [`Joining::Common`] more tokens than the model has positions.
    pub fn rows(&self, model: &Model, picture: Option<ImageRef>) -> Result<Vec<Option<ChoiceRow>>> {
        if self.choices.is_empty() {
            return Ok(vec![whole(self.prompt_row(model, picture, 0)?)]);
        }
        if self.joining == Joining::Harness && picture.is_none() {
            return self.harness_rows(model);
        }
        let question = |choice: &'_ String| {
            model.row(&Question {
                picture,
                prompt: &self.prompt,
                answer: Some(choice),
                join: &self.join,
                style: self.style,
            })
        };
        let rows = self.choices.iter().map(question);
        let mut rows = rows.collect::<Result<Vec<Row>>>()?;
        if self.joining == Joining::Common {
            let first = rows.iter().map(|row| row.answer_start).min().unwrap_or(0);
            rows.iter_mut().for_each(|row| row.answer_start = first);
        }
        Ok(rows.into_iter().map(whole).collect())
    }

    /// The row of the prompt alone, behind which there is room for `more` tokens; the last of them is
    /// never read.
    ///
    /// # Errors
    /// A text that cannot be tokenised, or more tokens than the model has positions.
    pub fn prompt_row(&self, model: &Model, picture: Option<ImageRef>, more: usize) -> Result<Row> {
        let row = model.row(&Question {
            picture,
            prompt: &self.prompt,
            answer: None,
            join: "",
            style: self.style,
        })?;
        model.check_room(&row, &self.prompt, more)?;
        Ok(row)
    }

    /// The rows of [`Joining::Harness`], of text alone.
    fn harness_rows(&self, model: &Model) -> Result<Vec<Option<ChoiceRow>>> {
        let text = model.text();
        let (said, special) = model.said(&self.prompt, self.style, false)?;
        let prompt = said.trim_end_matches(is_blank);
        let blanks = &said[prompt.len()..];
        // Where not even a beginning token opens a text, the one that would begin it stands there.
        let alone = if prompt.is_empty() {
            vec![model.marks().beginning().ok_or_else(|| Error::Prompt {
                prompt: String::new(),
                problem:
                    "is empty, and the model has no token that begins a text; give a prompt".into(),
            })?]
        } else {
            text.encode(prompt, special)?
        };
        let positions = model.decoder().outline().max_positions;
        let row = |choice: &String| {
            let answer = format!("{blanks}{}{choice}", self.join);
            let answer = if prompt.is_empty() {
                text.encode(&answer, false)?
            } else {
                let joint = text.encode(&format!("{prompt}{answer}"), special)?;
                joint.get(alone.len()..).unwrap_or_default().to_vec()
            };
            if answer.is_empty() {
                return Err(Error::Prompt {
                    prompt: prompt.chars().take(60).collect(),
                    problem: format!(
                        "is answered by `{choice}`, which has no token of its own; give a longer answer"
                    ),
                });
            }
            // The last token is never read, because nobody asks what follows it.
            let cut = (alone.len() + answer.len()).saturating_sub(positions + 1);
            Ok((answer.len() <= positions).then(|| ChoiceRow {
                cut,
                row: Row {
                    answer_start: alone.len() - cut,
                    ids: alone[cut..].iter().copied().chain(answer).collect(),
                    image: None,
                },
            }))
        };
        self.choices.iter().map(row).collect()
    }
}

fn whole(row: Row) -> Option<ChoiceRow> {
    Some(ChoiceRow { row, cut: 0 })
}

/// What Python's `str.rstrip` takes for a blank: Unicode's white space and four separators.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}
