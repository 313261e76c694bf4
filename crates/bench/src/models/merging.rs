//! Where `bench` finds the models of a recipe: among the embedded ones, then in folders.

use std::path::{Path, PathBuf};

use anyhow::Context;
use debias_core::MergeIdentity;
use debias_merge::{Error, Folders, Library, Location, Options, Planned, Recipe};
use serde_json::{Map, json};

use crate::models::{self, ModelSource};
use crate::results::digest::digest_of;
use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;

/// A recipe's file, and how it is read.
#[derive(Clone, Debug)]
pub struct MergeRequest {
    /// The file.
    pub recipe: PathBuf,
    /// Whether what has no effect is refused.
    pub strict: bool,
}

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

    /// Reads the recipe of `request`.
    ///
    /// # Errors
    /// A recipe that cannot be used, or that holds what has no effect where the request is strict.
    pub fn read(&self, request: &MergeRequest) -> anyhow::Result<Recipe> {
        let read = Recipe::read(&request.recipe, &|name| self.has(name)).map_err(refusal)?;
        if request.strict {
            read.strictly().map_err(refusal)
        } else {
            Ok(read)
        }
    }

    /// What identifies the model that a recipe makes: the recipe, and the digests of all it names.
    ///
    /// # Errors
    /// As [`Models::read`], a name that is no model's, or a model that cannot be read.
    pub fn identity(&self, request: &MergeRequest) -> anyhow::Result<MergeIdentity> {
        let (read, recipe) = (self.read(request)?, request.recipe.as_path());
        // What cannot be merged is refused before anything is asked.
        Planned::new(read.clone(), self, Options::default()).map_err(refusal)?;
        let mut inputs = Map::new();
        for model in read.models() {
            for name in [Some(&model.path), model.adapter.as_ref()]
                .into_iter()
                .flatten()
            {
                inputs.insert(name.clone(), json!({ "digest": self.digest(name)? }));
            }
        }
        let (method, version) = (read.merger.card().id, read.merger.card().version);
        let name = recipe.file_stem().unwrap_or(recipe.as_os_str());
        Ok(MergeIdentity {
            id: name.to_string_lossy().into_owned(),
            version,
            recipe: json!({
                "method": method,
                "version": version,
                "recipe": read.text,
                "inputs": inputs,
            }),
        })
    }

    fn digest(&self, name: &str) -> anyhow::Result<String> {
        match self.locate(name) {
            Some(Location::Open(checkpoint)) => Ok(checkpoint.digest()?),
            Some(Location::Folder(dir)) => {
                digest_of(&dir).with_context(|| format!("cannot read {}", dir.display()))
            }
            None => Err(debias_core::Error::unknown("model", name, []).into()),
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
