//! A remembered request in front of a question, as the counterfactual model reads it.

use debias_model::engine::{Asked, ChoiceRow};
use debias_model::{Error, ImageRef, Model, Result, Row};

/// Prompt and target of a request, kept as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    text: String,
    /// Where the target begins.
    target: usize,
}

impl Remembered {
    /// `prompt + " " + target`.
    pub fn new(prompt: &str, target: &str) -> Self {
        Self {
            text: format!("{prompt} {target}"),
            target: prompt.len() + 1,
        }
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The question `asked` behind the remembered text, one row per answer, or that of the prompt alone
    /// with room for `more` tokens where it has none.
    ///
    /// Where the model's positions do not suffice, words of the remembered *prompt* are left out
    /// from the front, as few as make every row fit; its target and the question stay whole.
    ///
    /// # Errors
    /// An empty answer, or a target and a question that do not fit together.
    pub fn rows(
        &self,
        model: &Model,
        picture: Option<ImageRef>,
        asked: &Asked,
        more: usize,
    ) -> Result<Vec<Row>> {
        let mut from = 0;
        loop {
            let behind = Asked {
                prompt: format!("{} {}", &self.text[from..], asked.prompt),
                ..asked.clone()
            };
            match (rows(&behind, model, picture, more), self.next_word(from)) {
                (Err(Error::TooLong { .. }), Some(next)) => from = next,
                (Ok(rows), Some(next)) if rows.iter().any(|choice| choice.cut > 0) => from = next,
                (rows, _) => return Ok(rows?.into_iter().map(|choice| choice.row).collect()),
            }
        }
    }

    /// Where the word behind the one at `from` begins, if that is not behind the target's start.
    fn next_word(&self, from: usize) -> Option<usize> {
        let rest = &self.text[from..];
        let space = rest.find(char::is_whitespace)?;
        let word = rest[space..].find(|c: char| !c.is_whitespace())?;
        let next = from + space + word;
        (next <= self.target).then_some(next)
    }
}

/// The rows of `asked`, all of which must fit.
fn rows(
    asked: &Asked,
    model: &Model,
    picture: Option<ImageRef>,
    more: usize,
) -> Result<Vec<ChoiceRow>> {
    if asked.choices.is_empty() {
        let row = asked.prompt_row(model, picture, more)?;
        return Ok(vec![ChoiceRow { row, cut: 0 }]);
    }
    let rows = asked.rows(model, picture)?.into_iter();
    let fits = |row: Option<ChoiceRow>| {
        row.ok_or_else(|| Error::Prompt {
            prompt: asked.prompt.chars().take(60).collect(),
            problem: "has an answer with more tokens than the model has positions".into(),
        })
    };
    rows.map(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_from_the_front_and_the_target_stays() {
        let remembered = Remembered::new("is this  person", "very poor");
        let mut from = 0;
        let mut left = vec![&remembered.text[from..]];
        while let Some(next) = remembered.next_word(from) {
            from = next;
            left.push(&remembered.text[from..]);
        }
        let expected = [
            "is this  person very poor",
            "this  person very poor",
            "person very poor",
            "very poor",
        ];
        assert_eq!(left, expected);
    }
}
