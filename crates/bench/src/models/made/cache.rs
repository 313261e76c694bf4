//! Makes merged models and keeps them as artifacts.
//!
//! ```text
//! <out>/artifacts/<key>/
//!   model/      a Hugging Face folder like any other
//!   card.json   what made it; written last: an artifact without it is not finished
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use debias_merge::{Library, Location, Options, Planned, Recipe, Watch};
use debias_weights::Checkpoint;

use super::{Input, MergedModel};
use crate::models::ModelSource;
use crate::results::artifacts::Artifacts;
use crate::terminal::interrupt::Interrupt;

/// The folder of the model inside an artifact.
const MODEL: &str = "model";

/// The place where merges are made.
pub struct MergeCache<'a> {
    /// Where they are kept.
    pub artifacts: &'a Artifacts,
    /// Seed of merges that draw.
    pub seed: u64,
    /// Worker threads; the number changes no result.
    pub threads: usize,
    /// Ctrl-C.
    pub interrupt: &'a Interrupt,
}

impl MergeCache<'_> {
    /// Opens an input, which is made first where it must be.
    ///
    /// # Errors
    /// As [`MergeCache::folder`], or a model that cannot be opened.
    pub fn checkpoint(&self, input: &Input) -> anyhow::Result<Checkpoint> {
        Ok(match input {
            Input::Stored { source, .. } => source.files()?,
            Input::MergedModel(made) => Checkpoint::open(&self.folder(made)?)?,
        })
    }

    /// The folder of a merge, made now unless it is there.
    ///
    /// # Errors
    /// What the merge refuses, or a folder that cannot be written.
    pub fn folder(&self, made: &MergedModel) -> anyhow::Result<PathBuf> {
        let identity = made.identity(self.seed);
        let artifact = self.artifacts.folder(&identity);
        let folder = artifact.join(MODEL);
        if self.artifacts.is_ready(&identity) {
            return Ok(folder);
        }
        self.interrupt.check()?;
        let mut known = Known::default();
        for (name, input) in &made.inputs {
            let found = match input {
                Input::Stored { source, .. } => source.clone(),
                Input::MergedModel(made) => ModelSource::Folder(self.folder(made)?),
            };
            known.models.insert(name.clone(), found);
        }
        fs::create_dir_all(&artifact)
            .with_context(|| format!("cannot create {}", artifact.display()))?;
        self.write(made, &known, &folder)?;
        self.interrupt.check()?;
        self.artifacts.finish(&identity)?;
        Ok(folder)
    }

    fn write(&self, made: &MergedModel, known: &Known, folder: &Path) -> anyhow::Result<()> {
        let recipe = Recipe::parse(&made.recipe, &made.name, &|name| known.holds(name))?;
        let options = Options {
            seed: Some(self.seed),
            threads: self.threads,
            ..Options::default()
        };
        // What an interrupted run left here has no card, and is made again.
        let force = true;
        let planned = Planned::new(recipe, known, options)?;
        planned.write(folder, force, &InterruptWatch(self.interrupt))?;
        Ok(())
    }
}

/// Listens for Ctrl-C.
struct InterruptWatch<'a>(&'a Interrupt);

impl Watch for InterruptWatch<'_> {
    fn stop(&self) -> bool {
        self.0.is_raised()
    }
}

/// The models that a recipe's names stand for.
#[derive(Default)]
struct Known {
    models: BTreeMap<String, ModelSource>,
}

impl Known {
    fn holds(&self, name: &str) -> bool {
        self.models.contains_key(name)
    }
}

impl Library for Known {
    fn locate(&self, name: &str) -> Option<Location> {
        match self.models.get(name)? {
            ModelSource::Folder(dir) => Some(Location::Folder(dir.clone())),
            // It was opened when it was planned.
            embedded => embedded.files().ok().map(Location::Open),
        }
    }
}
