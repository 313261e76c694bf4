//! Adapters that are merged among themselves: without a base, the output is an adapter.
//!
//! A method that says how ([`crate::AdapterMerger`]) merges the factors of a module with each other;
//! all others merge `A` and `B` each as a tensor, with zeros for a base.

use std::collections::BTreeMap;

use super::adapters;
use super::check::Checked;
use super::factors::AdapterLayout;
use super::jobs::{Planner, Work};
use super::merged_adapter::{Among, PlannedModule};
use super::open::{Opened, adapter_of};
use super::options::Options;
use crate::adapter::merged_config;
use crate::card::{Base, Value, Values};
use crate::error::{Error, Result};
use crate::library::Library;
use crate::recipe::{ModelRef, Recipe, Slice};

/// Whether all models of a recipe are adapters.
pub(super) fn applies(recipe: &Recipe, library: &dyn Library) -> bool {
    let mut models = recipe.models().into_iter();
    models.all(|model| adapters::is_adapter(model, library))
}

/// What a planned merge of adapters is made of.
pub(super) struct AdapterPlan {
    pub models: Vec<Opened>,
    pub among: Among,
    pub tensors: Vec<Checked>,
    /// What a reader should know.
    pub notes: Vec<String>,
    /// `adapter_config.json`.
    pub config: serde_json::Value,
}

/// Plans a merge of adapters.
///
/// # Errors
/// An adapter that is damaged or no plain LoRA; adapters that do not fit each other or the method;
/// settings that adapters do not have.
pub(super) fn plan(
    recipe: &Recipe,
    library: &dyn Library,
    options: &Options,
) -> Result<AdapterPlan> {
    let open = |model: &ModelRef| Opened::adapter(model, library, options.allow_nonfinite);
    let models: Result<Vec<_>> = recipe.models().into_iter().map(open).collect();
    let models = models?;
    let slice = only_slice(recipe)?;
    let planner = Planner::new(recipe, &models, 0);
    let (inputs, base) = planner.seats(slice)?;
    let mut layout = AdapterLayout {
        recipe,
        slice,
        models: &models,
        among: Among {
            inputs,
            base,
            modules: Vec::new(),
            wholes: Vec::new(),
        },
        tensors: Vec::new(),
        written: BTreeMap::new(),
    };
    layout.all()?;
    let (among, tensors) = (layout.among, layout.tensors);
    let inputs = among.inputs.iter();
    let configs: Vec<_> = inputs.map(|at| adapter_of(&models, *at).config()).collect();
    let config = merged_config(&configs, &layout.written);
    let notes = notes(&among, &tensors);
    Ok(AdapterPlan {
        notes,
        models,
        among,
        tensors,
        config,
    })
}

/// What factors that are merged apart do not give.
fn notes(among: &Among, tensors: &[Checked]) -> Vec<String> {
    let apart = |module: &&PlannedModule| !module.together;
    let negative = |values: &Values| matches!(values.get("weight"), Some(Value::Number(weight)) if *weight < 0.0);
    let turned = |module: &PlannedModule| match &tensors[module.places[0]].job.work {
        Work::Merge { each, .. } => each.iter().any(negative),
        Work::Copy { .. } => false,
    };
    let mut notes = Vec::new();
    let all: Vec<&PlannedModule> = among.modules.iter().filter(apart).collect();
    if !all.is_empty() {
        notes.push("A and B are merged each for itself, which is not the merge of their products; base_model merges the products, linear adds them up exactly".to_owned());
    }
    if all.into_iter().any(turned) {
        notes.push("a negative weight turns both factors of an adapter, so that its product keeps its sign; name a base_model, or use linear".to_owned());
    }
    notes
}

/// The one list of models of the recipe.
fn only_slice(recipe: &Recipe) -> Result<&Slice> {
    let refuse = |field: &str, problem: &str| {
        Err(Error::Recipe {
            origin: recipe.origin.clone(),
            field: field.to_owned(),
            problem: problem.to_owned(),
        })
    };
    if recipe.tokenizer.is_some() || recipe.chat_template.is_some() {
        let field = match recipe.tokenizer {
            Some(_) => "tokenizer",
            None => "chat_template",
        };
        return refuse(
            field,
            "adapters have no vocabulary; give a base_model, or leave it out",
        );
    }
    match recipe.parts.as_slice() {
        [part] if part.name.is_none() => match part.slices.as_slice() {
            [slice] if slice.sources.iter().all(|source| source.layers.is_none()) => Ok(slice),
            _ => refuse(
                "slices",
                "adapters are merged whole; list them under models, or give a base_model",
            ),
        },
        _ => refuse(
            "modules",
            "adapters are merged whole; list them under models, or give a base_model",
        ),
    }
}

impl Planner<'_> {
    /// Inputs of a merge of adapters, and the base among them; behind the last it is zeros.
    fn seats(&self, slice: &Slice) -> Result<(Vec<usize>, Option<usize>)> {
        let sources = slice.sources.iter();
        let mut inputs: Vec<usize> = sources.map(|source| self.model(&source.model)).collect();
        let card = self.recipe.merger.card();
        let named = self.recipe.base.as_ref().map(|base| self.model(base));
        let place = named.map(|base| {
            inputs.iter().position(|at| *at == base).unwrap_or_else(|| {
                inputs.push(base);
                inputs.len() - 1
            })
        });
        let together = self.recipe.merger.on_adapters().is_some();
        let base = match (card.inputs.base, place) {
            (Base::Ignored, _) | (Base::Optional, None) => None,
            (Base::Required, None) if together => None,
            (Base::Optional | Base::Required, Some(_)) if together => {
                return Err(self.refuse(
                    "base_model",
                    "is an adapter; give the model that all adapters lie on, or leave it out",
                ));
            }
            (Base::Optional | Base::Required, Some(place)) => Some(place),
            // One of two ends; zeros are none.
            (Base::Required, None) if card.inputs.max == Some(1) => {
                return Err(self.without_base(slice, false));
            }
            (Base::Required, None) => Some(inputs.len()),
        };
        let others = (0..inputs.len()).filter(|at| base != Some(*at)).count();
        self.check_count(slice, others)?;
        Ok((inputs, base))
    }
}
