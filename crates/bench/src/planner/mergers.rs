//! The merges of a plan: places filled, recipes read, models found and hashed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use debias_core::{Error, Identity, Merger, Point, Suite, written};
use debias_merge::Recipe;

use crate::models::made::{Input, MergedModel};
use crate::models::{self, ModelSource};
use crate::results::digest::digest_of;

/// A row that is a merge.
pub struct PlannedMerge {
    /// The merger's name in the suite.
    pub merger: String,
    /// Where in its grid.
    pub at: Point,
    /// What is made; its name is the row's.
    pub made: Arc<MergedModel>,
    /// The model that distances are compared with.
    pub towards: Option<Input>,
}

/// The suite's mergers that have these names, in their order.
///
/// # Errors
/// [`Error::Unknown`] with the nearest name.
pub(super) fn narrowed(suite: &Suite, names: &[String]) -> debias_core::Result<Vec<Merger>> {
    let known = || suite.mergers.iter();
    let find = |name: &String| {
        let found = known().find(|merger| merger.name == *name).cloned();
        found.ok_or_else(|| Error::unknown("merger", name, known().map(|m| m.name.as_str())))
    };
    names.iter().map(find).collect()
}

/// The suite's merges on one model.
///
/// # Errors
/// A recipe that cannot be read, with the row's name; a model that is not there.
pub(super) fn planned(
    suite: &Suite,
    source: &ModelSource,
    model: &Identity,
) -> anyhow::Result<Vec<PlannedMerge>> {
    let mut shelf = Shelf::new(source, model);
    for intermediate in &suite.intermediates {
        let made = shelf.made(&intermediate.name, &intermediate.recipe, &Point::new())?;
        let known = shelf
            .inputs
            .insert(intermediate.name.clone(), Input::MergedModel(made));
        if known.is_some() {
            anyhow::bail!(Error::Suite {
                name: suite.name.clone(),
                problem: format!(
                    "`{}` is a model already; rename the intermediate",
                    intermediate.name
                ),
            });
        }
    }
    let mut planned = Vec::new();
    for merger in &suite.mergers {
        let towards = match &merger.towards {
            None => None,
            Some(name) => Some(shelf.input(name)?),
        };
        for at in merger.points() {
            planned.push(PlannedMerge {
                made: shelf.made(&merger.label(&at), &merger.recipe, &at)?,
                merger: merger.name.clone(),
                at,
                towards: towards.clone(),
            });
        }
    }
    Ok(planned)
}

/// What the recipes of these merges hold that has no effect, each sentence once.
pub(super) fn warnings<'a>(merges: impl Iterator<Item = &'a PlannedMerge>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut open: Vec<&MergedModel> = merges.map(|merge| &*merge.made).collect();
    while let Some(made) = open.pop() {
        for warning in &made.warnings {
            let sentence = format!("{}: {warning}", made.method.0);
            if !found.contains(&sentence) {
                found.push(sentence);
            }
        }
        open.extend(made.inputs.values().filter_map(|input| match input {
            Input::MergedModel(made) => Some(&**made),
            Input::Stored { .. } => None,
        }));
    }
    found
}

/// The folder of an adapter, which is no model by itself.
fn of_adapter(dir: &str) -> anyhow::Result<Input> {
    let path = PathBuf::from(dir);
    Ok(Input::Stored {
        digest: digest_of(&path).with_context(|| format!("cannot read the adapter {dir}"))?,
        source: ModelSource::Folder(path),
    })
}

/// The models that recipes may name.
struct Shelf<'a> {
    /// What `${model}` stands for.
    model: &'a str,
    /// By name, each read once: the suite's model, what is made, and what was asked for.
    inputs: BTreeMap<String, Input>,
}

impl<'a> Shelf<'a> {
    fn new(source: &ModelSource, model: &'a Identity) -> Self {
        let own = Input::Stored {
            source: source.clone(),
            digest: model.digest.clone(),
        };
        Self {
            model: &model.id,
            inputs: BTreeMap::from([(model.id.clone(), own)]),
        }
    }

    fn input(&mut self, name: &str) -> anyhow::Result<Input> {
        if let Some(input) = self.inputs.get(name) {
            return Ok(input.clone());
        }
        let source = ModelSource::resolve(name).map_err(|_| self.unknown(name))?;
        let digest = source.files()?.digest()?;
        let input = Input::Stored { source, digest };
        self.inputs.insert(name.to_owned(), input.clone());
        Ok(input)
    }

    fn unknown(&self, name: &str) -> Error {
        let embedded = models::embedded().iter().map(|model| model.name());
        Error::unknown(
            "model",
            name,
            self.inputs.keys().map(String::as_str).chain(embedded),
        )
    }

    fn made(&mut self, name: &str, recipe: &str, at: &Point) -> anyhow::Result<Arc<MergedModel>> {
        let recipe = written(recipe, self.model, at).map_err(|problem| Error::Suite {
            name: name.to_owned(),
            problem,
        })?;
        let exists = |name: &str| self.inputs.contains_key(name) || Path::new(name).is_dir();
        let read = Recipe::parse(&recipe, name, &exists)?;
        let mut inputs = BTreeMap::new();
        for model in read.models() {
            let input = self.input(&model.path);
            let input = input.with_context(|| format!("merger {name}"))?;
            inputs.insert(model.path.clone(), input);
            if let Some(adapter) = &model.adapter {
                inputs.insert(adapter.clone(), of_adapter(adapter)?);
            }
        }
        let card = read.merger.card();
        Ok(Arc::new(MergedModel {
            name: name.to_owned(),
            method: (card.id.to_owned(), card.version),
            recipe,
            inputs,
            warnings: read.warnings,
        }))
    }
}
