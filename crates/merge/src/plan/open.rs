//! The models of a recipe, opened: headers read, nothing else.

use std::collections::BTreeMap;

use debias_weights::{Checkpoint, Shared, TensorInfo};
use serde_json::Value;

use super::layers;
use crate::error::{Error, Result};
use crate::library::{Library, Place};
use crate::recipe::ModelRef;

/// One model of a merge.
pub(crate) struct Opened {
    pub reference: ModelRef,
    /// As the recipe names it.
    pub label: String,
    pub checkpoint: Checkpoint,
    pub config: Value,
    /// Tensors that are not row-major in their file, gathered.
    gathered: BTreeMap<String, Shared>,
}

impl Opened {
    /// Opens the folder or the embedded model of that name.
    pub(crate) fn new(reference: &ModelRef, library: &dyn Library) -> Result<Self> {
        let checkpoint = match library.locate(&reference.path) {
            Some(Place::Folder(dir)) => {
                let adapter = dir.join("adapter_config.json").is_file();
                if adapter && !dir.join("config.json").is_file() {
                    return Err(refuse(reference, ADAPTER));
                }
                Checkpoint::open(&dir)?
            }
            Some(Place::Open(checkpoint)) => checkpoint,
            None => return Err(refuse(reference, MISSING)),
        };
        let config = checkpoint.json("config.json")?;
        let mut gathered = BTreeMap::new();
        for name in checkpoint.names() {
            if checkpoint.raw(name).is_err() {
                gathered.insert(name.to_owned(), checkpoint.shared(name)?);
            }
        }
        Ok(Self {
            reference: reference.clone(),
            label: reference.to_string(),
            checkpoint,
            config,
            gathered,
        })
    }

    /// The tensors that are merged or copied, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.checkpoint
            .names()
            .filter(|name| !layers::is_derived(name))
    }

    pub(crate) fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.checkpoint.info(name)
    }

    /// The bytes of a tensor as they are stored.
    pub(crate) fn bytes(&self, name: &str) -> Result<&[u8]> {
        match self.gathered.get(name) {
            Some(shared) => Ok(&shared.bytes),
            None => Ok(self.checkpoint.raw(name)?.bytes),
        }
    }

    /// The tensor that stands for `name` here: itself, or the token table where a head is tied.
    pub(crate) fn stand_in<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        if self.checkpoint.contains(name) {
            return Some(name);
        }
        if !layers::is_head(name) || name.ends_with("bias") {
            return None;
        }
        self.names().find(|other| layers::is_token_table(other))
    }

    /// Rows of the token table.
    pub(crate) fn vocabulary(&self) -> Option<usize> {
        let table = self.names().find(|name| layers::is_token_table(name))?;
        self.info(table)?.shape.first().copied()
    }
}

const ADAPTER: &str = "is a LoRA adapter; write base+adapter to merge it with its base";

const MISSING: &str = "there is no such folder; models are looked for from the working directory, then beside the recipe, and nothing is downloaded";

fn refuse(reference: &ModelRef, problem: &str) -> Error {
    Error::Model {
        model: reference.to_string(),
        problem: problem.to_owned(),
    }
}
