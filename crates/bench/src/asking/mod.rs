//! Questions to a model, line by line: what `bench score` and `bench generate` have in common.

mod lines;
mod variant;

use std::path::{Path, PathBuf};

use debias_core::Picture;
use debias_data::read_picture;
use debias_model::Style;
use debias_model::engine::{Pictures, Unreadable, Watch};

pub use lines::{Continued, Item, Line, Prompt, Score};
pub use variant::{AskedModel, Opening, VariantRequest, threads};

use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;
use crate::terminal::lines::Id;
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
        let path = self.0.join(key);
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

/// What stops one line, in one line.
pub fn in_item(id: &Id, error: &debias_edit::Error) -> Refusal {
    let id = id.to_string();
    Refusal::new(
        Exit::Refused,
        format!("item `{}`: {error}", id.escape_debug()),
    )
}
