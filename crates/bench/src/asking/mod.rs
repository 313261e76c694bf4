//! Questions to a model, line by line: what `bench score` and `bench generate` have in common.

mod answers;
mod lines;
mod variant;

use std::path::{Path, PathBuf};

use debias_core::Picture;
use debias_data::{picture_file, read_picture};
use debias_edit::Respondent;
use debias_model::Style;
use debias_model::engine::{Asked, Pictures, Unreadable, Watch};

pub use answers::Answers;
pub use lines::{Continued, Item, Line, Prompt, Score};
pub use variant::{AskedModel, Opening, VariantRequest, threads};

use crate::terminal::lines::Given;
use crate::terminal::printer::Printer;

/// Pictures by their paths below a folder.
pub struct PictureFolder(PathBuf);

impl PictureFolder {
    /// Those below `folder`.
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }
}

impl Pictures for PictureFolder {
    fn picture(&self, key: &str) -> Result<Picture, Unreadable> {
        let path = picture_file(&self.0, key);
        read_picture(&path).map_err(|error| match error {
            debias_data::Error::Picture { name, problem } => Unreadable {
                path: name,
                problem,
            },
            other => {
                let problem = anyhow::Error::new(other);
                Unreadable {
                    path: path.display().to_string(),
                    problem: format!("{problem:#}"),
                }
            }
        })
    }
}

/// Tells a person how the engine's work goes.
pub struct Teller {
    printer: Printer,
}

impl Teller {
    /// Through `printer`.
    pub fn new(printer: Printer) -> Self {
        Self { printer }
    }
}

impl Watch for Teller {
    fn halved(&self, what: &'static str, n: usize) {
        self.printer.warn(&format!(
            "the device is out of memory; trying {n} {what} at a time"
        ));
    }

    fn done(&self, items: usize, pictures: usize, seconds: f64) {
        self.printer.detail(&format!(
            "{items} lines, {pictures} pictures in {seconds:.5} s"
        ));
    }
}

/// What is put around a prompt.
pub fn style(raw: bool) -> Style {
    if raw { Style::Raw } else { Style::Chat }
}

/// Asks everything that the lines `given` ask, and puts answers to their lines: of the variant and of
/// the model beside it, with the chat template that is around them. An answer that lacks either is none.
///
/// # Errors
/// What ends all.
pub fn answered<'a, T, A>(
    given: &[Given<T>],
    ask: impl Fn(&T, String) -> Asked,
    (respondent, before): (&dyn Respondent, Option<&dyn Respondent>),
    template: Option<&'a str>,
    answers: impl Fn(&dyn Respondent, &[Asked]) -> anyhow::Result<Vec<Result<A, String>>>,
) -> anyhow::Result<Vec<Result<Line<'a, A>, String>>> {
    let name = |given: &Given<T>| {
        given
            .id
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default()
    };
    let asked: Vec<Asked> = given
        .iter()
        .filter_map(|line| Some(ask(line.asked.as_ref().ok()?, name(line))))
        .collect();
    let mut own = answers(respondent, &asked)?.into_iter();
    let before = before.map(|before| answers(before, &asked)).transpose()?;
    let mut before = before.map(Vec::into_iter);
    let mut line = |given: &Given<T>| {
        given.asked.as_ref().map_err(Clone::clone)?;
        let missing = || "has no answer".to_owned();
        let own = own.next().ok_or_else(missing)?;
        let before = before.as_mut().and_then(Iterator::next);
        Ok(Line {
            answer: own?,
            before: before.transpose()?,
            template,
        })
    };
    Ok(given.iter().map(&mut line).collect())
}
