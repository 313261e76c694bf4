//! What a training leaves behind: a model folder or an adapter folder, its card and its curve.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use debias_model::tune::{Pupil, State, Step};
use debias_weights::{Checkpoint, write_adapter, write_edited};
use serde::Serialize;
use serde_json::{Value, json};

use super::plan::Planned;
use crate::models::CARD;
use crate::report::curve;
use crate::results::digest::digest_of;

/// The card of a training in the folder that it made.
const TRAINING: &str = "training.json";

/// The loss curve.
const CURVE: &str = "loss.svg";

/// Files that speak of the model as it was: reference values, and measurements.
const OUTDATED: [&str; 2] = ["golden.safetensors", CARD];

/// Version of the arithmetic; it is part of what identifies a training.
pub(super) const METHOD: u32 = 1;

/// What is printed with `--json`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The folder.
    pub out: PathBuf,
    /// Kind of the training.
    pub kind: &'static str,
    /// Updates.
    pub steps: usize,
    /// How often every item was learnt.
    pub epochs: f64,
    /// Trained values.
    pub trained_parameters: usize,
    /// Losses.
    pub loss: Losses,
    /// What this run took.
    #[serde(flatten)]
    pub cost: Cost,
    /// Digest of the weights written.
    pub digest: String,
    /// Where the last weights are, if `out` has the best ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<PathBuf>,
}

/// What a run took.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cost {
    /// Seconds, with all that is read and written.
    pub wall_s: f64,
    /// Updates per second, validations and states on disk included.
    pub updates_per_s: f64,
    /// Most memory of this process.
    pub peak_bytes: u64,
}

/// Losses of a training.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Losses {
    /// Of the first update.
    pub first: Option<f64>,
    /// Of the last one.
    pub last: Option<f64>,
    /// The lowest on items that were not learnt.
    pub best_validation: Option<f64>,
}

impl Losses {
    fn of(state: &State) -> Self {
        let loss = |step: &Step| step.loss;
        Self {
            first: state.steps.first().map(loss),
            last: state.steps.last().map(loss),
            best_validation: state.best.as_ref().map(|best| best.at.loss),
        }
    }
}

/// Where the last weights are written when `out` gets the best ones.
pub fn beside(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push("-last");
    out.with_file_name(name)
}

/// Writes what was learnt; `out` appears last. Returns the digest of its weights, and where the last
/// weights are if they are not these.
///
/// # Errors
/// A folder that cannot be written, or a weight that is not finite in the stored format.
pub fn write(planned: &Planned, state: &State) -> anyhow::Result<(String, Option<PathBuf>)> {
    let out = &planned.request.out;
    let best = state
        .best
        .as_ref()
        .filter(|best| best.at.update != state.update());
    let last = match best {
        None => None,
        Some(_) => {
            let dir = beside(out);
            folder(planned, state, &state.pupil, state.update(), &dir)?;
            Some(dir)
        }
    };
    let (pupil, update) = best.map_or((&state.pupil, state.update()), |best| {
        (&best.pupil, best.at.update)
    });
    folder(planned, state, pupil, update, out)?;
    let digest = match planned.adapting {
        Some(_) => digest_of(&out.join("adapter_model.safetensors"))?,
        None => Checkpoint::open(out)?.digest()?,
    };
    Ok((digest, last))
}

fn folder(
    planned: &Planned,
    state: &State,
    pupil: &Pupil,
    update: usize,
    dir: &Path,
) -> anyhow::Result<()> {
    let title = format!("{}: training loss", planned.request.model);
    let mut files = vec![
        (TRAINING.to_owned(), pretty(&card(planned, state, update))?),
        (
            CURVE.to_owned(),
            curve::of_tuning(&title, &state.steps, &state.validations)?.into_bytes(),
        ),
    ];
    let force = planned.request.force;
    if let Some(adapting) = &planned.adapting {
        files.push((
            "adapter_config.json".to_owned(),
            adapting.config(&planned.model)?,
        ));
        let tensors = adapting.tensors(&planned.model, pupil)?;
        return Ok(write_adapter(dir, &files, &tensors, force)?);
    }
    let copies = copies(planned, pupil);
    let names: BTreeSet<&str> = pupil.names().chain(copies.keys().copied()).collect();
    let mut edit = |name: &str, values: &mut [f32]| {
        let of = copies.get(name).copied().unwrap_or(name);
        if let Some(learnt) = pupil.value(of) {
            values.copy_from_slice(&learnt);
        }
    };
    write_edited(
        dir,
        &planned.checkpoint,
        &names,
        &mut edit,
        &OUTDATED,
        &files,
        force,
    )?;
    Ok(())
}

/// Tensors of the file that hold a trained value once more, as a head tied to the token table does.
fn copies<'p>(planned: &'p Planned, pupil: &'p Pupil) -> BTreeMap<&'p str, &'p str> {
    let copied = |name: &'p str| Some((planned.model.copy_of(name)?, name));
    pupil.names().filter_map(copied).collect()
}

/// What made the folder; nothing in it depends on when or how fast.
fn card(planned: &Planned, state: &State, update: usize) -> Value {
    let losses = Losses::of(state);
    json!({
        "format": "1.0",
        "method": METHOD,
        "recipe": planned.recipe(),
        "seed": planned.course.seed,
        "base": { "name": planned.model.name(), "digest": planned.digests.base },
        "data": { "items": planned.lessons.len(), "digest": planned.digests.data },
        "validation": { "items": planned.validation.len() },
        "trained_parameters": state.pupil.size(),
        "updates": state.update(),
        "weights_of_update": update,
        "loss": losses,
        "best": state.best.as_ref().map(|best| best.at),
        "validations": state.validations,
        "differences": planned.differences,
    })
}

fn pretty(value: &Value) -> anyhow::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    Ok(text)
}

impl Report {
    /// Of a finished training.
    pub(super) fn new(
        planned: &Planned,
        state: &State,
        (digest, last): (String, Option<PathBuf>),
        cost: Cost,
    ) -> Self {
        let per_epoch = planned.course.per_epoch(planned.lessons.len());
        Self {
            out: planned.request.out.clone(),
            kind: planned.request.recipe.kind().name(),
            steps: state.update(),
            epochs: state.update() as f64 / per_epoch as f64,
            trained_parameters: state.pupil.size(),
            loss: Losses::of(state),
            cost,
            digest,
            last,
        }
    }

    /// The same for a person.
    pub fn sentence(&self) -> String {
        let number =
            |loss: Option<f64>| loss.map_or("none".to_owned(), |loss| format!("{loss:.4}"));
        let mut text = format!(
            "{}: {} parameters trained in {} updates, loss {} to {}",
            self.out.display(),
            self.trained_parameters,
            self.steps,
            number(self.loss.first),
            number(self.loss.last),
        );
        if let Some(best) = self.loss.best_validation {
            text += &format!(", best validation loss {best:.4}");
        }
        if let Some(last) = &self.last {
            text += &format!("; the last weights are in {}", last.display());
        }
        text + &format!("; digest {}", self.digest)
    }
}
