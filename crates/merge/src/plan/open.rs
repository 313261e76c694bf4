//! The models of a recipe, opened: headers read, nothing else.

use std::collections::BTreeMap;

use debias_weights::{Checkpoint, Shared, TensorInfo};
use serde_json::Value;

use super::layers;
use crate::adapter::{Adapter, config};
use crate::error::{Error, Result};
use crate::library::{Library, Location};
use crate::recipe::ModelRef;
use crate::stream::{Input, Stored};

/// One model of a merge.
pub(crate) struct Opened {
    pub reference: ModelRef,
    /// As the recipe names it.
    pub label: String,
    pub checkpoint: Checkpoint,
    pub config: Value,
    /// What lies on top of the checkpoint.
    pub adapter: Option<Adapter>,
    /// Tensors that are not row-major in their file, gathered.
    gathered: BTreeMap<String, Shared>,
}

impl Opened {
    /// Opens the folder or the embedded model of that name.
    pub(crate) fn new(
        reference: &ModelRef,
        library: &dyn Library,
        allow_nonfinite: bool,
    ) -> Result<Self> {
        let checkpoint = match library.locate(&reference.path) {
            Some(Location::Folder(dir)) => {
                if Adapter::is_at(&dir) && !dir.join("config.json").is_file() {
                    return Err(refuse(reference, ADAPTER));
                }
                Checkpoint::open(&dir)?
            }
            Some(Location::Open(checkpoint)) => checkpoint,
            None => return Err(refuse(reference, MISSING)),
        };
        let config = checkpoint.json("config.json")?;
        let mut gathered = BTreeMap::new();
        for name in checkpoint.names() {
            if checkpoint.raw(name).is_err() {
                gathered.insert(name.to_owned(), checkpoint.shared(name)?);
            }
        }
        let adapter = match &reference.adapter {
            None => None,
            Some(adapter) => {
                let Some(Location::Folder(dir)) = library.locate(adapter) else {
                    return Err(refuse(reference, MISSING_ADAPTER));
                };
                let adapter = Adapter::open(&dir, &reference.to_string())?;
                let shape = |name: &str| checkpoint.info(name).map(|info| info.shape.as_slice());
                let adapter = adapter.onto(&reference.path, checkpoint.names(), shape)?;
                Some(adapter.allow_nonfinite(allow_nonfinite))
            }
        };
        Ok(Self {
            adapter,
            reference: reference.clone(),
            label: reference.to_string(),
            checkpoint,
            config,
            gathered,
        })
    }

    /// Opens an adapter that is merged with others: its file as a model's, and what it is.
    pub(super) fn adapter(
        reference: &ModelRef,
        library: &dyn Library,
        allow_nonfinite: bool,
    ) -> Result<Self> {
        let Some(Location::Folder(dir)) = library.locate(&reference.path) else {
            return Err(refuse(reference, MISSING_ADAPTER));
        };
        let label = reference.to_string();
        let adapter = Adapter::open(&dir, &label)?.allow_nonfinite(allow_nonfinite);
        let checkpoint = Checkpoint::open_file(&Adapter::weights(&dir, &label)?)?;
        Ok(Self {
            reference: reference.clone(),
            label,
            config: checkpoint.json(config::FILE)?,
            checkpoint,
            adapter: Some(adapter),
            gathered: BTreeMap::new(),
        })
    }

    /// The tensors that are merged or copied, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.checkpoint
            .names()
            .filter(|name| !layers::is_derived(name))
    }

    pub(crate) fn info(&self, name: &str) -> Option<&TensorInfo> {
        let whole = self
            .adapter
            .as_ref()
            .and_then(|adapter| adapter.whole(name));
        whole.or_else(|| self.checkpoint.info(name))
    }

    /// Whether an adapter changes the tensor, so that its bytes are not all of it.
    pub(crate) fn is_adapted(&self, name: &str) -> bool {
        self.adapter
            .as_ref()
            .is_some_and(|adapter| adapter.touches(name))
    }

    /// The tensor as it is read: stored, perhaps replaced, perhaps with a change on top.
    pub(crate) fn input(&self, name: &str) -> Result<Input<'_>> {
        let whole = match &self.adapter {
            Some(adapter) => adapter.replaced(name)?.map(|(stored, _)| stored),
            None => None,
        };
        let info = self.info(name).ok_or_else(|| Error::MissingTensor {
            tensor: name.to_owned(),
            model: self.label.clone(),
        })?;
        let stored = match whole {
            Some(whole) => Some(whole),
            None => Stored::new(info.dtype, self.bytes(name)?),
        };
        let stored = stored.ok_or_else(|| Error::Dtype {
            tensor: name.to_owned(),
            model: self.label.clone(),
            found: info.dtype,
        })?;
        let change = match &self.adapter {
            Some(adapter) => adapter.change(name, &info.shape)?,
            None => None,
        };
        Ok(match change {
            Some(change) => Input::Adapted(stored, change),
            None => Input::Stored(stored),
        })
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

const MISSING_ADAPTER: &str = "the adapter's folder is not there; adapters are looked for from the working directory, then beside the recipe, and nothing is downloaded";

const MISSING: &str = "there is no such folder; models are looked for from the working directory, then beside the recipe, and nothing is downloaded";

fn refuse(reference: &ModelRef, problem: &str) -> Error {
    Error::Model {
        model: reference.to_string(),
        problem: problem.to_owned(),
    }
}

/// The adapter that a model of a merge of adapters is.
pub(crate) fn adapter_of(models: &[Opened], at: usize) -> &Adapter {
    let adapter = models[at].adapter.as_ref();
    adapter.expect("every model of a merge of adapters was opened as one")
}
