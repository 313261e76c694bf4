//! Trained parts of editors and merged models, kept as files named by everything that made them.
//!
//! ```text
//! <out>/artifacts/<key>/
//!   best.safetensors    what is used: the best by validation
//!   last.safetensors    the last state
//!   state.safetensors   an interrupted training; removed when it ends
//!   history.json        losses of every step and validation
//!   curve.svg           the same, drawn
//!   card.json           what made it; written last: an artifact without it is not finished
//! ```
//!
//! A merged model is a folder beside the card ([`crate::models::made`]).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use debias_core::{Cell, canonical_json, sha256_hex};
use debias_edit::{Error, History, Losses, Parts, Result, TrainingStore};
use debias_model::{Device, Workers, host};
use debias_weights::{PartsFile, Tensor, write_atomic};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::report::curve;
use crate::terminal::interrupt::Interrupt;
use crate::terminal::progress::Progress;

/// Version of what made an artifact; raised when equal descriptions no longer mean equal artifacts.
pub(crate) const FORMAT: u32 = 1;

const BEST: &str = "best.safetensors";
const LAST: &str = "last.safetensors";
const STATE: &str = "state.safetensors";
const CARD: &str = "card.json";
const CURVE: &str = "curve.svg";
/// Under this name a file of parts says which model they were trained for.
const MODEL: &str = "model_digest";
/// Under this name a stored state keeps what is not a tensor.
const NOTES: &str = "notes";

/// What made an artifact: the part of a cell that training depends on, or a merge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity(Value);

impl Identity {
    /// Of the editor that `cell` names.
    pub fn of(cell: &Cell) -> Self {
        Self(json!({
            "format": FORMAT,
            "editor": cell.variant.editor(),
            "model": cell.model.digest,
            "dataset": cell.dataset.digest,
            "task": cell.benchmark.task(),
            "protocol": cell.protocol,
            "train_bias": cell.train_bias,
            "seed": cell.seed,
            "dtype": cell.dtype,
            "device": cell.device,
        }))
    }

    /// The card of the artifact.
    fn card(&self) -> Value {
        json!({ "key": self.key(), "made_by": self })
    }

    /// Its hash: the artifact's name.
    pub fn key(&self) -> String {
        sha256_hex(canonical_json(&self.0).as_bytes())
    }
}

impl From<Value> for Identity {
    /// Of what `description` says in full.
    fn from(description: Value) -> Self {
        Self(description)
    }
}

/// All artifacts below one results folder.
#[derive(Clone, Debug)]
pub struct Artifacts {
    dir: PathBuf,
}

impl Artifacts {
    /// Those below `out`.
    pub fn below(out: &Path) -> Self {
        Self {
            dir: out.join("artifacts"),
        }
    }

    /// The folder of an artifact.
    pub fn folder(&self, identity: &Identity) -> PathBuf {
        self.dir.join(identity.key())
    }

    /// Whether the artifact is finished.
    pub fn is_ready(&self, identity: &Identity) -> bool {
        self.folder(identity).join(CARD).is_file()
    }

    /// Says that everything else in the artifact's folder is there.
    ///
    /// # Errors
    /// When the card cannot be written.
    pub fn finish(&self, identity: &Identity) -> anyhow::Result<()> {
        put(&identity.card(), &self.folder(identity).join(CARD))
    }

    /// `ready`, `interrupted` or `missing`.
    pub fn status(&self, identity: &Identity) -> &'static str {
        let folder = self.folder(identity);
        match (self.is_ready(identity), folder.join(STATE).is_file()) {
            (true, _) => "ready",
            (false, true) => "interrupted",
            (false, false) => "missing",
        }
    }
}

/// The place where one cell's editor learns.
pub struct Bench<'a> {
    /// Where the artifact is.
    pub folder: PathBuf,
    /// What makes it.
    pub identity: Identity,
    /// The model's digest.
    pub model: &'a str,
    /// Where the parts compute.
    pub device: Device,
    /// A file of parts in place of training.
    pub given: Option<PathBuf>,
    /// Who computes.
    pub workers: Workers,
    /// What the progress bar says.
    pub what: String,
    /// The terminal.
    pub progress: &'a Progress,
    /// Ctrl-C.
    pub interrupt: &'a Interrupt,
}

impl Bench<'_> {
    fn write(&self, name: &str, parts: &Parts) -> anyhow::Result<()> {
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot create {}", self.folder.display()))?;
        let stored = |tensor: &debias_edit::Matrix| Tensor {
            shape: tensor.dims().to_vec(),
            values: host::values(tensor.clone()),
        };
        let tensors = parts.tensors.iter();
        let file = PartsFile {
            tensors: tensors.map(|(name, t)| (name.clone(), stored(t))).collect(),
            notes: BTreeMap::from([
                (MODEL.to_owned(), self.model.to_owned()),
                (NOTES.to_owned(), parts.notes.to_string()),
            ]),
        };
        Ok(file.write(&self.folder.join(name))?)
    }

    fn read(&self, path: &Path) -> Result<Parts> {
        let refuse = |problem: String| Error::Trained {
            file: path.display().to_string(),
            problem,
        };
        let file = PartsFile::read(path).map_err(|error| {
            refuse(format!(
                "{error}; name another file, or remove it and train again"
            ))
        })?;
        let made_for = file.notes.get(MODEL).map_or("", String::as_str);
        if made_for != self.model {
            return Err(refuse(format!(
                "it was trained for another model (digest {} where this one has {}); train again, or use that model",
                short(made_for),
                short(self.model)
            )));
        }
        let mut tensors = BTreeMap::new();
        for (name, Tensor { shape, values }) in file.tensors {
            let [rows, columns] = shape[..] else {
                return Err(refuse(format!("`{name}` is no matrix; train again")));
            };
            let matrix = host::tensor(values, [rows, columns], &self.device);
            tensors.insert(name, matrix);
        }
        let notes = file.notes.get(NOTES).map_or("null", String::as_str);
        Ok(Parts {
            tensors,
            notes: serde_json::from_str(notes).map_err(|error| refuse(error.to_string()))?,
        })
    }

    fn store(&self, best: &Parts, last: &Parts, history: &History) -> anyhow::Result<()> {
        self.write(BEST, best)?;
        self.write(LAST, last)?;
        let history_file = self.folder.join("history.json");
        put(&serde_json::to_value(history)?, &history_file)?;
        let svg = curve::of_history(&self.what, history)?;
        write_atomic(&self.folder.join(CURVE), svg.as_bytes())?;
        put(&self.identity.card(), &self.folder.join(CARD))?;
        match fs::remove_file(self.folder.join(STATE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The loss curve of the parts in use; none where they were given as a file.
    pub fn curve(&self) -> Option<String> {
        fs::read_to_string(self.folder.join(CURVE)).ok()
    }

    fn failed(&self, error: anyhow::Error) -> Error {
        Error::Trained {
            file: self.folder.display().to_string(),
            problem: format!("{error:#}"),
        }
    }
}

impl TrainingStore for Bench<'_> {
    fn workers(&self) -> Workers {
        self.workers
    }

    fn finished(&self) -> Result<Option<Parts>> {
        if let Some(given) = &self.given {
            return self.read(given).map(Some);
        }
        match self.folder.join(CARD).is_file() {
            true => self.read(&self.folder.join(BEST)).map(Some),
            false => Ok(None),
        }
    }

    fn interrupted(&self) -> Result<Option<Parts>> {
        let path = self.folder.join(STATE);
        match path.is_file() {
            true => self.read(&path).map(Some),
            false => Ok(None),
        }
    }

    fn keep(&self, state: &Parts, _history: &History) -> Result<()> {
        self.write(STATE, state).map_err(|error| self.failed(error))
    }

    fn finish(&self, best: &Parts, last: &Parts, history: &History) -> Result<()> {
        self.store(best, last, history)
            .map_err(|error| self.failed(error))
    }

    fn step(&self, losses: &Losses, of: usize) -> Result<()> {
        if losses.step == 1 {
            self.progress.start(&format!("{}: training", self.what), of);
        }
        self.progress.advance(1);
        self.interrupt.check().map_err(|_| Error::Stopped)
    }
}

fn put(text: &Value, path: &Path) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(text)?;
    text.push('\n');
    Ok(write_atomic(path, text.as_bytes())?)
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or("unknown")
}
