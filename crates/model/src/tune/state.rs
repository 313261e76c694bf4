//! The state of a training, and its stored form.

use std::collections::BTreeMap;
use std::path::Path;

use debias_weights::{Checkpoint, LazyTensor, read_notes, write_lazily};
use serde::{Deserialize, Serialize};

use super::pupil::{Pupil, Values};
use super::sums::Sums;
use crate::error::{Error, Result};
use crate::host;
use crate::optim::{Descent, Rule};

/// Of one update.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its number, from 1.
    pub update: usize,
    /// What was lowered: the mean over tokens or items, as the course says.
    pub loss: f64,
    /// Nats per learnt token.
    pub per_token: f64,
    /// Nats per item.
    pub per_item: f64,
    /// Learnt tokens.
    pub tokens: usize,
    /// Joint norm of the gradients before they were clipped.
    pub norm: f64,
    /// Learning rate.
    pub rate: f64,
}

/// A loss on items that are not learnt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validated {
    /// Updates before it.
    pub update: usize,
    /// The loss, reduced as that of the training.
    pub loss: f64,
}

/// The moment of the lowest validation loss.
#[derive(Clone)]
pub struct Best {
    /// When, and how low.
    pub at: Validated,
    /// What had been learnt by then.
    pub pupil: Pupil,
}

/// Everything that decides how a training goes on.
pub struct State {
    /// What is trained.
    pub pupil: Pupil,
    /// All updates so far.
    pub steps: Vec<Step>,
    /// All validations so far.
    pub validations: Vec<Validated>,
    /// The best of them.
    pub best: Option<Best>,
    matrices: Descent,
    vectors: Descent,
}

/// What stands in the header of a stored state.
#[derive(Serialize, Deserialize)]
struct Notes {
    steps: Vec<Step>,
    validations: Vec<Validated>,
    best: Option<Validated>,
    /// Updates of each value's moments.
    moments: BTreeMap<String, i32>,
}

const VALUE: &str = "value.";
const BEST: &str = "best.";
const MOMENTS: [&str; 2] = ["moment1.", "moment2."];
/// Keys of the header.
const STATE: &str = "state";
const KEY: &str = "key";

impl State {
    /// Before the first update.
    pub fn fresh(pupil: Pupil, weight_decay: f32) -> Self {
        let rule = |weight_decay| Rule::AdamW {
            weight_decay,
            beta2: 0.999,
        };
        Self {
            pupil,
            steps: Vec::new(),
            validations: Vec::new(),
            best: None,
            matrices: Descent::exact(rule(weight_decay)),
            vectors: Descent::exact(rule(0.0)),
        }
    }

    /// Updates so far.
    pub fn update(&self) -> usize {
        self.steps.len()
    }

    /// One step of AdamW.
    pub(super) fn descend(&mut self, gradients: Sums, rate: f64) {
        for (name, gradient) in gradients.into_iter() {
            let Some(value) = self.pupil.values.remove(&name) else {
                continue;
            };
            let descent = match self.pupil.is_matrix(&name) {
                true => &mut self.matrices,
                false => &mut self.vectors,
            };
            let (shape, device) = (value.dims(), value.device());
            let mut value = host::values(value);
            descent.update(&name, rate, &mut value, &gradient);
            self.pupil
                .values
                .insert(name, host::tensor(value, shape, &device));
        }
    }

    /// Remembers a validation, and what had been learnt if it is the best so far.
    pub(super) fn judge(&mut self, at: Validated) {
        self.validations.push(at);
        if self.best.as_ref().is_none_or(|best| at.loss < best.at.loss) {
            let pupil = self.pupil.clone();
            self.best = Some(Best { at, pupil });
        }
    }

    fn descent(&self, name: &str) -> &Descent {
        match self.pupil.is_matrix(name) {
            true => &self.matrices,
            false => &self.vectors,
        }
    }

    /// Writes everything that [`State::read`] needs to `path`, whole or not at all; `key` says of which
    /// training it is.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, path: &Path, key: &str) -> Result<()> {
        let mut tensors = BTreeMap::new();
        let mut moments = BTreeMap::new();
        let stored = |values: &'_ Values, prefix: &str| -> Vec<(String, LazyTensor<'_>)> {
            let of = |(name, value): (&String, &burn::tensor::Tensor<3>)| {
                let value = value.clone();
                let tensor =
                    LazyTensor::new(&value.dims()[1..], move || host::values(value.clone()));
                (format!("{prefix}{name}"), tensor)
            };
            values.iter().map(of).collect()
        };
        tensors.extend(stored(&self.pupil.values, VALUE));
        if let Some(best) = &self.best {
            tensors.extend(stored(&best.pupil.values, BEST));
        }
        for name in self.pupil.values.keys() {
            let Some((steps, first, second)) = self.descent(name).memory(name) else {
                continue;
            };
            moments.insert(name.clone(), steps);
            for (prefix, values) in MOMENTS.iter().zip([first, second]) {
                let tensor = LazyTensor::new(&[values.len()], move || values.to_vec());
                tensors.insert(format!("{prefix}{name}"), tensor);
            }
        }
        let notes = Notes {
            steps: self.steps.clone(),
            validations: self.validations.clone(),
            best: self.best.as_ref().map(|best| best.at),
            moments,
        };
        let notes =
            serde_json::to_string(&notes).map_err(|error| refused(path, &error.to_string()))?;
        let notes = [(STATE.to_owned(), notes), (KEY.to_owned(), key.to_owned())];
        Ok(write_lazily(path, &tensors, notes.into())?)
    }

    /// The key under which the state at `path` was written.
    ///
    /// # Errors
    /// A file that is no such state.
    pub fn key(path: &Path) -> Result<String> {
        let notes = read_notes(path)?;
        notes
            .get(KEY)
            .cloned()
            .ok_or_else(|| refused(path, "it has no key"))
    }

    /// Goes on from the state at `path`; this one is [fresh](State::fresh).
    ///
    /// # Errors
    /// A file that is damaged, or of another training.
    pub fn read(&mut self, path: &Path) -> Result<()> {
        let file = Checkpoint::open_file(path)?;
        let notes = read_notes(path)?;
        let notes = notes
            .get(STATE)
            .ok_or_else(|| refused(path, "it has no notes"))?;
        let notes: Notes =
            serde_json::from_str(notes).map_err(|error| refused(path, &error.to_string()))?;
        let names: Vec<String> = self.pupil.names().map(str::to_owned).collect();
        if let Some(at) = notes.best {
            let mut pupil = self.pupil.clone();
            restore(&mut pupil, &file, BEST)?;
            self.best = Some(Best { at, pupil });
        }
        restore(&mut self.pupil, &file, VALUE)?;
        for name in names {
            let Some(steps) = notes.moments.get(&name) else {
                continue;
            };
            let [rows, columns] = self.pupil.shape(&name).unwrap_or_default();
            let [first, second] =
                MOMENTS.map(|prefix| file.f32(&format!("{prefix}{name}"), &[rows * columns]));
            let descent = match self.pupil.is_matrix(&name) {
                true => &mut self.matrices,
                false => &mut self.vectors,
            };
            descent.remember(&name, *steps, first?, second?);
        }
        self.steps = notes.steps;
        self.validations = notes.validations;
        Ok(())
    }
}

fn restore(pupil: &mut Pupil, file: &Checkpoint, prefix: &str) -> Result<()> {
    let names: Vec<String> = pupil.names().map(str::to_owned).collect();
    for name in names {
        let shape = pupil.shape(&name).unwrap_or_default();
        pupil.set(&name, file.f32(&format!("{prefix}{name}"), &shape)?)?;
    }
    Ok(())
}

fn refused(path: &Path, problem: &str) -> Error {
    Error::State {
        path: path.display().to_string(),
        problem: problem.to_owned(),
    }
}
