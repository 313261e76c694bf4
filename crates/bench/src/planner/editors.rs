//! The editors of a plan: their settings merged, the files they name hashed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use debias_core::{EditorIdentity, KnownSettings, Overrides, Preset, Suite, Task};
use debias_edit::{Claims, Editor, Learns, Settings, TRAINING, editors, training_keys};
use debias_model::{Model, Side};
use serde_json::Value;

use crate::models::ModelSource;
use crate::results::digest::digest_of;
use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;

/// An editor of the plan with its merged settings.
pub struct PlannedEditor {
    /// The editor.
    pub editor: Arc<dyn Editor>,
    /// Preset, model card, suite and command line, merged in this order.
    pub settings: Settings,
    /// What it learns under them.
    pub learns: Learns,
    /// What it promises under them.
    pub claims: Claims,
    /// SHA-256 of every file and folder that the settings name.
    pub inputs: BTreeMap<String, String>,
}

impl PlannedEditor {
    /// Refuses an editor of the vision side where requests never pass one: on a text model, and where
    /// some have no picture.
    pub(super) fn check_side(&self, suite: &Suite, model: &Model) -> Result<(), Refusal> {
        if self.claims.side != Some(Side::Vision) {
            return Ok(());
        }
        let id = self.editor.card().id;
        let help = "ft-l and the other editors of the language side edit such requests.";
        let refused = |why: String| Err(Refusal::new(Exit::Usage, why).help(help));
        if !model.has_sight() {
            let name = model.name();
            return refused(format!(
                "{id} edits the vision side, and {name} is a text model"
            ));
        }
        if suite.tasks.contains(&Task::Text) {
            return refused(format!(
                "{id} edits the vision side, which text alone never passes"
            ));
        }
        Ok(())
    }

    /// Everything of it that decides a result.
    pub(super) fn identity(&self) -> EditorIdentity {
        let card = self.editor.card();
        let mut settings = settings_value(&self.settings);
        if !self.inputs.is_empty() {
            settings["inputs"] = self.inputs.iter().map(|(k, v)| (k, v.as_str())).collect();
        }
        EditorIdentity {
            id: card.id.to_owned(),
            version: card.version,
            settings,
        }
    }
}

/// The editors that a plan may name.
pub(super) struct Shelf {
    /// The user's own, beside the built-in ones.
    foreign: Option<Arc<dyn Editor>>,
    digests: BTreeMap<String, String>,
}

impl Shelf {
    /// The built-in editors, and `foreign`.
    pub(super) fn new(foreign: Option<Arc<dyn Editor>>) -> Self {
        Self {
            foreign,
            digests: BTreeMap::new(),
        }
    }

    fn find(&self, name: &str) -> debias_core::Result<Arc<dyn Editor>> {
        match &self.foreign {
            Some(editor) if editor.card().id == name => Ok(editor.clone()),
            _ => editors::shared(name),
        }
    }

    /// The suite's editors on one model.
    ///
    /// # Errors
    /// An unknown editor, or a setting that names what cannot be read.
    pub(super) fn planned(
        &mut self,
        suite: &Suite,
        source: &ModelSource,
        given: &Overrides,
    ) -> anyhow::Result<Vec<PlannedEditor>> {
        let mut planned = Vec::new();
        for name in &suite.editors {
            let editor = self.find(name)?;
            let settings = merged_settings(editor.as_ref(), suite.preset, source, given)?;
            let mut inputs = BTreeMap::new();
            for path in editor.inputs(&settings)? {
                inputs.insert(path.display().to_string(), self.digest(&path)?);
            }
            planned.push(PlannedEditor {
                learns: editor.learns(&settings)?,
                claims: editor.claims(&settings)?,
                editor,
                settings,
                inputs,
            });
        }
        Ok(planned)
    }

    /// The digest of a file or folder, read once per plan.
    fn digest(&mut self, path: &Path) -> anyhow::Result<String> {
        let name = path.display().to_string();
        if let Some(digest) = self.digests.get(&name) {
            return Ok(digest.clone());
        }
        let digest = digest_of(path).with_context(|| format!("cannot read {name}"))?;
        self.digests.insert(name, digest.clone());
        Ok(digest)
    }
}

/// The settings of `editor` on the model of `source`: preset, model card, what is `given` for all
/// trainings (`train.*`) and for the editor itself. What fits a
/// model is part of this project's preset; the published presets keep the published numbers.
///
/// # Errors
/// An embedded card that cannot be read.
pub fn merged_settings(
    editor: &dyn Editor,
    preset: Preset,
    source: &ModelSource,
    given: &Overrides,
) -> anyhow::Result<Settings> {
    let fitting = match preset {
        Preset::Project => source.settings()?,
        Preset::Paper | Preset::RefEasyedit => Overrides::default(),
    };
    let scope = editor.scope();
    let mut settings = editor.defaults(preset);
    for (key, value) in fitting.scope(scope) {
        settings.set(scope, &key, &value.to_string())?;
    }
    if editor.learns(&settings)? == Learns::Parts {
        for (key, value) in given.scope(TRAINING) {
            settings.set(scope, &key, &value.to_string())?;
        }
    }
    for (key, value) in given.scope(scope) {
        settings.set(scope, &key, &value.to_string())?;
    }
    Ok(settings)
}

pub(super) fn known_settings(preset: Preset) -> KnownSettings {
    let defaults: Vec<(&str, Settings)> = editors::ALL
        .iter()
        .map(|editor| (editor.scope(), editor.defaults(preset)))
        .collect();
    let of_editors = defaults
        .iter()
        .map(|(id, settings)| (*id, settings.keys().collect()));
    KnownSettings::new(of_editors.chain([(TRAINING, training_keys())]))
}

/// Settings of the command line alone; all known.
///
/// # Errors
/// A setting that there is not, or that has no form of one.
pub fn given(preset: Preset, assignments: &[String]) -> debias_core::Result<Overrides> {
    let known = known_settings(preset);
    let mut given = Overrides::default();
    for assignment in assignments {
        given.assign(assignment, &known)?;
    }
    Ok(given)
}

/// Settings of the suite, then those of the command line; all known.
pub(super) fn overrides(
    suite: &Suite,
    assignments: &[String],
    known: &KnownSettings,
) -> debias_core::Result<Overrides> {
    let mut given = Overrides::default();
    given.extend(&suite.settings, known)?;
    for assignment in assignments {
        given.assign(assignment, known)?;
    }
    Ok(given)
}

pub(super) fn settings_value(settings: &Settings) -> Value {
    settings
        .keys()
        .filter_map(|key| Some((key.to_owned(), settings.get(key)?.clone())))
        .collect()
}
