//! `bench edit --save`: an edited model as a checkpoint folder of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use debias_edit::{Edit, Editor, Touches};
use debias_model::{Change, host};
use debias_weights::{check_target, write_edited};

use crate::models::CARD;
use crate::planner::Planned;
use crate::runner::Joint;
use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;

/// Files that speak of the model as it was: reference values, and measurements.
const OUTDATED: [&str; 2] = ["golden.safetensors", CARD];

/// Where an edited model is written.
#[derive(Clone, Debug)]
pub struct Target {
    /// The folder.
    pub dir: PathBuf,
    /// Whether an earlier checkpoint there is replaced.
    pub force: bool,
}

impl Target {
    /// Checks before any work that `planned` makes one edit of weights, and that it can be written.
    ///
    /// # Errors
    /// A [`Refusal`] for wrong usage, or what
    /// [`check_target`] refuses.
    pub fn check(&self, planned: &Planned) -> anyhow::Result<()> {
        let usage =
            |message: String, help: &str| Err(Refusal::new(Exit::Usage, message).help(help).into());
        let [model] = planned.models.as_slice() else {
            return usage(
                "--save writes one model, several are given".to_owned(),
                "Give --model once.",
            );
        };
        if planned.suite.tasks.len() > 1 {
            return usage(
                "--save makes one edit, the file has requests of both tasks".to_owned(),
                "Choose one with --task.",
            );
        }
        for planned in &model.editors {
            let card = planned.editor.card();
            if !changes_weights(planned.editor.as_ref()) {
                return usage(
                    format!(
                        "--save: {} leaves the weights as they are and acts on the {}",
                        card.id, card.touches
                    ),
                    "Only an editor of weights makes a checkpoint.",
                );
            }
        }
        Ok(check_target(&self.dir, self.force)?)
    }

    /// Writes the model of `planned` with `joint` in its weights, and says so in one line.
    ///
    /// # Errors
    /// An edit of something else than weights, or a folder that cannot be written.
    pub fn save(&self, planned: &Planned, joint: &Joint) -> anyhow::Result<String> {
        let Edit::Weights(Change { weights }) = &joint.edit else {
            return Err(Refusal::new(
                Exit::CellsFailed,
                "nothing is saved: the edit does not change the weights",
            )
            .into());
        };
        let model = planned.models.first();
        let base = model.expect("a plan has a model").source.checkpoint()?;
        let mut deltas: BTreeMap<&str, _> = weights.iter().map(|(n, d)| (n.as_str(), d)).collect();
        // What the files hold twice stays the same in both places.
        for (name, copy) in &joint.copies {
            deltas.extend(weights.get(name).map(|delta| (copy.as_str(), delta)));
        }
        let names: BTreeSet<&str> = deltas.keys().copied().collect();
        let mut edit = |name: &str, values: &mut [f32]| {
            if let Some(delta) = deltas.get(name) {
                let delta = host::values(delta.dense());
                for (value, delta) in values.iter_mut().zip(delta) {
                    *value += delta;
                }
            }
        };
        write_edited(
            &self.dir,
            &base,
            &names,
            &mut edit,
            &OUTDATED,
            &[],
            self.force,
        )?;
        Ok(format!(
            "Saved {}: {} as one edit, {} of {} tensors changed",
            self.dir.display(),
            match joint.requests {
                1 => "1 request".to_owned(),
                n => format!("{n} requests"),
            },
            names.len(),
            base.names().count(),
        ))
    }
}

/// Whether an editor's card says that it changes nothing else; an external one may do either.
fn changes_weights(editor: &dyn Editor) -> bool {
    let kinds = editor.card().touches.kinds;
    [Touches::Weights, Touches::Nothing]
        .iter()
        .any(|kind| kinds.contains(kind))
}
