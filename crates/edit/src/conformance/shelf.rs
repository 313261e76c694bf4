//! A store in memory: keeps trained parts as bytes, and can interrupt a training.

use std::collections::BTreeMap;
use std::sync::Mutex;

use burn::tensor::{Device, Tensor};
use debias_model::host;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::training_store::{History, Losses, Parts, TrainingStore};

/// Parts as a file would hold them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    tensors: BTreeMap<String, ([usize; 2], Vec<u8>)>,
    notes: String,
}

impl Stored {
    fn of(parts: &Parts) -> Self {
        let tensors = parts.tensors.iter().map(|(name, tensor)| {
            let values = host::values(tensor.clone()).into_iter();
            let bytes = values.flat_map(f32::to_le_bytes).collect();
            (name.clone(), (tensor.dims(), bytes))
        });
        Self {
            tensors: tensors.collect(),
            notes: parts.notes.to_string(),
        }
    }

    fn parts(&self, device: &Device) -> Result<Parts> {
        let tensors = self.tensors.iter().map(|(name, (shape, bytes))| {
            let values = bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes));
            let tensor: Tensor<2> = host::tensor(values.collect(), *shape, device);
            (name.clone(), tensor)
        });
        let notes: Value = serde_json::from_str(&self.notes).map_err(|error| Error::Trained {
            file: "the notes of the trained parts".to_owned(),
            problem: error.to_string(),
        })?;
        Ok(Parts {
            tensors: tensors.collect(),
            notes,
        })
    }

    /// The first tensor, or the notes, in which two sets of parts differ.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let names = self.tensors.keys().chain(other.tensors.keys());
        let tensor = names
            .filter(|name| self.tensors.get(*name) != other.tensors.get(*name))
            .map(|name| format!("`{name}`"))
            .next();
        tensor.or((self.notes != other.notes).then(|| "the notes".to_owned()))
    }
}

/// What a shelf has seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    /// Best and last parts of a training that came to its end.
    pub finished: Option<[Stored; 2]>,
    /// The last state from which it could go on.
    pub state: Option<Stored>,
    /// Steps done here.
    pub steps: usize,
}

/// A place for one training.
pub(super) struct Shelf {
    device: Device,
    ledger: Mutex<Ledger>,
    /// Whether the training ends at the first step behind a kept state, or at half of its steps.
    interrupting: bool,
}

impl Shelf {
    pub fn new(device: &Device) -> Self {
        Self::with(device, Ledger::default())
    }

    /// A shelf on which something lies already.
    pub fn with(device: &Device, ledger: Ledger) -> Self {
        Self {
            device: device.clone(),
            ledger: Mutex::new(ledger),
            interrupting: false,
        }
    }

    /// A shelf that stops the training behind its first kept state, or at half of its steps where
    /// none was kept by then.
    pub fn interrupting(device: &Device) -> Self {
        Self {
            interrupting: true,
            ..Self::new(device)
        }
    }

    /// What was seen so far.
    pub fn ledger(&self) -> Ledger {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger
            .lock()
            .unwrap_or_else(|poison| poison.into_inner())
    }
}

impl TrainingStore for Shelf {
    fn finished(&self) -> Result<Option<Parts>> {
        let best = self.lock().finished.clone().map(|[best, _]| best);
        best.map(|best| best.parts(&self.device)).transpose()
    }

    fn interrupted(&self) -> Result<Option<Parts>> {
        let state = self.lock().state.clone();
        state.map(|state| state.parts(&self.device)).transpose()
    }

    fn keep(&self, state: &Parts, _history: &History) -> Result<()> {
        self.lock().state = Some(Stored::of(state));
        Ok(())
    }

    fn finish(&self, best: &Parts, last: &Parts, _history: &History) -> Result<()> {
        self.lock().finished = Some([Stored::of(best), Stored::of(last)]);
        Ok(())
    }

    fn step(&self, _losses: &Losses, of: usize) -> Result<()> {
        let mut ledger = self.lock();
        ledger.steps += 1;
        let half = ledger.state.is_some() || 2 * ledger.steps >= of;
        match self.interrupting && half {
            true => Err(Error::Stopped),
            false => Ok(()),
        }
    }
}
