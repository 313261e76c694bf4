//! Where `bench` finds the models of a recipe: among the embedded ones, then in folders.

use std::path::Path;

use debias_merge::{Error, Folders, Library, Location};

use crate::exit::Exit;
use crate::failure::Refusal;
use crate::models::{self, ModelSource};

/// Embedded models by name, and folders.
pub struct Models {
    folders: Folders,
}

impl Models {
    /// Folders are looked up from the working directory, then from the folder of `recipe`.
    pub fn of(recipe: &Path) -> Self {
        Self {
            folders: Folders::of(recipe),
        }
    }

    /// Whether there is a model of that name, in one word.
    pub fn has(&self, name: &str) -> bool {
        embedded(name).is_some() || self.folders.has(name)
    }
}

fn embedded(name: &str) -> Option<&'static models::Embedded> {
    models::embedded().iter().find(|model| model.name() == name)
}

impl Library for Models {
    fn locate(&self, name: &str) -> Option<Location> {
        let Some(model) = embedded(name) else {
            return self.folders.locate(name);
        };
        // Only the release's own files are embedded; that they open is tested.
        let opened = ModelSource::Embedded(model).checkpoint().ok()?;
        Some(Location::Open(opened))
    }
}

/// What is wrong with the recipe is wrong usage; what is wrong with a model is a refused input.
pub fn refusal(error: Error) -> anyhow::Error {
    let exit = match &error {
        Error::Read { .. } | Error::Yaml { .. } | Error::Recipe { .. } => Exit::Usage,
        Error::Range { .. } | Error::Memory { .. } | Error::Mask { .. } => Exit::Usage,
        _ => return error.into(),
    };
    let message = error.to_string();
    anyhow::Error::new(error).context(Refusal::new(exit, message))
}
