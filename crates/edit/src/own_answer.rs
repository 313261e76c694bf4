//! What the unedited model itself says: the answer to be edited away where a request names none.

use debias_core::{Record, Templates};
use debias_model::{Limits, Model, Parameters, Question};

use crate::error::{Error, Result};

/// How many more tokens a model is given that has said nothing but white space.
const PATIENCE: usize = 16;

/// How much of a prompt a message shows.
const SHOWN: usize = 40;

/// Fills in `y_more` of every record that [awaits it](Record::awaits_answer): the greedy
/// continuation of its prompt by the never-edited model, as many tokens as `y_less` has behind the
/// same prompt, up to the end of its line. White space in front counts for nothing.
///
/// Each prompt is read alone, so that what is said depends on no other record.
///
/// # Errors
/// [`Error::Record`] for a record that the model cannot read, or to which it says nothing.
pub fn answer_by_itself(
    model: &Model,
    records: &mut [Record],
    templates: &Templates,
) -> Result<()> {
    for record in records.iter_mut().filter(|record| record.awaits_answer()) {
        let prompt = templates.of(record.task).apply(&record.prompt);
        let answer = answer(model, &prompt, &record.y_less);
        record.y_more = answer.map_err(|source| Error::Record {
            id: record.id.clone(),
            source,
        })?;
    }
    Ok(())
}

/// What `model` says to `prompt`, about as long as `target`.
fn answer(model: &Model, prompt: &str, target: &str) -> debias_model::Result<String> {
    let whole = Question::new(None, prompt, target);
    let open = Question {
        answer: None,
        join: "",
        ..whole.clone()
    };
    let length: usize = model
        .rows(&[whole])?
        .iter()
        .map(|row| row.answer().len())
        .sum();
    let rows = model.rows(&[open])?;
    let read = rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
    // The last token that is said is not read.
    let room = (model.decoder().outline().max_positions + 1).saturating_sub(read);
    for length in [length, length + PATIENCE] {
        let limits = Limits {
            max_tokens: length.min(room),
            stops: model.text().end_of_text().into_iter().collect(),
        };
        let said = model.generate(&rows, None, &limits, &model.base())?;
        let line = first_line(&model.text().decode(&said.concat(), true)?);
        if !line.is_empty() {
            return Ok(line);
        }
    }
    Err(debias_model::Error::Prompt {
        prompt: prompt.chars().take(SHOWN).collect(),
        problem: "is answered by the model with nothing; give the answer that is to be edited away"
            .to_owned(),
    })
}

/// The first line that is not empty.
fn first_line(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_with_its_line() {
        assert_eq!(first_line("\n\n a nurse \nand so on"), "a nurse");
        assert_eq!(first_line(" \n\t"), "");
    }
}
