//! The state of a training, and its stored form.

use burn::tensor::Tensor;
use debias_model::host;
use serde_json::{Value, json};

use super::{Trainable, Values};
use crate::error::{Error, Result};
use crate::training_store::{History, Losses, Parts};
use debias_model::optim::{Descent, Rule};

/// In stored parts, running statistics stand behind this.
const STATISTICS: &str = "statistics.";
/// In a stored state, the best parameters so far stand behind this.
const BEST: &str = "best.";
const FIRST: &str = "moment1.";
const SECOND: &str = "moment2.";

/// Parameters and statistics of one moment.
#[derive(Clone)]
struct Moment {
    values: Values,
    statistics: Values,
}

/// Everything that decides how a training goes on.
pub(super) struct State {
    pub step: usize,
    pub values: Values,
    pub statistics: Values,
    pub history: History,
    optimiser: Descent,
    best: Moment,
    best_total: f64,
}

impl State {
    pub fn fresh<P: Trainable>(pupil: &P) -> Self {
        let (values, statistics) = (pupil.start(), pupil.statistics());
        Self {
            step: 0,
            best: Moment {
                values: values.clone(),
                statistics: statistics.clone(),
            },
            values,
            statistics,
            history: History::default(),
            optimiser: Descent::new(Rule::Adam),
            best_total: f64::INFINITY,
        }
    }

    /// One step of the optimiser.
    pub fn descend(
        &mut self,
        gradients: std::collections::BTreeMap<String, Tensor<3>>,
        rate: impl Fn(&str) -> f64,
    ) {
        for (name, gradient) in gradients {
            if let Some(value) = self.values.remove(&name) {
                let lr = rate(&name);
                let value = self
                    .optimiser
                    .step(&name, lr, value.unsqueeze::<3>(), gradient);
                self.values.insert(name, value.squeeze_dim(0));
            }
        }
    }

    /// Keeps this moment if `losses` are the best so far, or `always`.
    pub fn judge(&mut self, losses: Losses, always: bool) {
        if always || losses.total < self.best_total {
            self.best_total = losses.total;
            self.history.best = losses.step;
            self.best = Moment {
                values: self.values.clone(),
                statistics: self.statistics.clone(),
            };
        }
        self.history.val.push(losses);
    }

    /// The best parameters and their statistics.
    pub fn best(&self) -> Parts {
        stored(&self.best.values, &self.best.statistics)
    }

    /// The last ones.
    pub fn last(&self) -> Parts {
        stored(&self.values, &self.statistics)
    }

    /// Everything that [`State::resumed`] needs.
    pub fn resumable(&self) -> Parts {
        let mut parts = self.last();
        let best = self.best().tensors.into_iter();
        parts
            .tensors
            .extend(best.map(|(name, tensor)| (format!("{BEST}{name}"), tensor)));
        let mut steps = serde_json::Map::new();
        for (name, value) in &self.values {
            let Some((done, first, second)) = self.optimiser.memory(name) else {
                continue;
            };
            let tensor =
                |values: &[f32]| host::tensor(values.to_vec(), value.dims(), &value.device());
            let named = [(FIRST, tensor(first)), (SECOND, tensor(second))];
            parts
                .tensors
                .extend(named.map(|(prefix, tensor)| (format!("{prefix}{name}"), tensor)));
            steps.insert(name.clone(), json!(done));
        }
        parts.notes = json!({
            "step": self.step,
            // JSON numbers may lose the last bit; a comparison must not.
            "best_total_bits": self.best_total.to_bits(),
            "optimiser_steps": steps,
            "history": self.history,
        });
        parts
    }

    /// The state that `parts` were made from.
    pub fn resumed<P: Trainable>(parts: &Parts, pupil: &mut P) -> Result<Self> {
        let refuse = |problem: &str| Error::Trained {
            file: "the state of an interrupted training".to_owned(),
            problem: format!("{problem}; remove it and train again"),
        };
        let taken = |prefix: &str| -> Parts {
            let of = parts.tensors.iter();
            Parts {
                tensors: of
                    .filter_map(|(name, tensor)| {
                        Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone()))
                    })
                    .collect(),
                notes: Value::Null,
            }
        };
        let mut state = Self::fresh(pupil);
        let moment = |parts: &Parts| -> Result<Moment> {
            Ok(Moment {
                values: matching(&state.values, parts)?,
                statistics: statistics_of(parts),
            })
        };
        let (last, best) = (moment(parts)?, moment(&taken(BEST))?);
        let notes = &parts.notes;
        let number = |key: &str| notes[key].as_u64().ok_or_else(|| refuse(key));
        state.step = number("step")? as usize;
        state.best_total = f64::from_bits(number("best_total_bits")?);
        state.history = serde_json::from_value(notes["history"].clone())
            .map_err(|error| refuse(&error.to_string()))?;
        let (first, second) = (taken(FIRST).tensors, taken(SECOND).tensors);
        for name in last.values.keys() {
            let (Some(first), Some(second)) = (first.get(name), second.get(name)) else {
                continue;
            };
            let steps = notes["optimiser_steps"][name.as_str()].as_i64();
            let steps = steps.ok_or_else(|| refuse("optimiser_steps"))? as i32;
            let [first, second] = [first, second].map(|tensor| host::values(tensor.clone()));
            state.optimiser.remember(name, steps, first, second);
        }
        pupil.restore(&last.statistics);
        (state.values, state.statistics, state.best) = (last.values, last.statistics, best);
        Ok(state)
    }
}

/// Takes stored parts into use: their statistics into the pupil, their parameters returned.
///
/// # Errors
/// [`Error::Trained`] when a parameter is missing or has another shape.
pub(super) fn usable<P: Trainable>(pupil: &mut P, parts: &Parts) -> Result<Values> {
    let values = matching(&pupil.start(), parts)?;
    pupil.restore(&statistics_of(parts));
    Ok(values)
}

/// Parameters and statistics as they are stored.
pub(super) fn stored(values: &Values, statistics: &Values) -> Parts {
    let statistics = statistics.iter();
    let statistics =
        statistics.map(|(name, tensor)| (format!("{STATISTICS}{name}"), tensor.clone()));
    Parts {
        tensors: values.clone().into_iter().chain(statistics).collect(),
        notes: Value::Null,
    }
}

fn statistics_of(parts: &Parts) -> Values {
    let tensors = parts.tensors.iter();
    tensors
        .filter_map(|(name, tensor)| {
            Some((name.strip_prefix(STATISTICS)?.to_owned(), tensor.clone()))
        })
        .collect()
}

/// The parameters of `parts` that `expected` names, of the same shapes.
fn matching(expected: &Values, parts: &Parts) -> Result<Values> {
    let refuse = |problem: String| {
        Err(Error::Trained {
            file: "trained parts".to_owned(),
            problem,
        })
    };
    let mut values = Values::new();
    for (name, shape) in expected {
        match parts.tensors.get(name) {
            Some(tensor) if tensor.dims() == shape.dims() => {
                values.insert(name.clone(), tensor.clone());
            }
            Some(tensor) => {
                return refuse(format!(
                    "`{name}` is {:?} where {:?} is expected; it was trained with other settings or for another model",
                    tensor.dims(),
                    shape.dims()
                ));
            }
            None => {
                return refuse(format!(
                    "`{name}` is missing; it was trained with other settings or for another model"
                ));
            }
        }
    }
    Ok(values)
}
