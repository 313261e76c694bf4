//! Recipes that list adapters by themselves: onto the base, or among each other.

use crate::adapter::Adapter;
use crate::card::Base;
use crate::error::{Error, Result};
use crate::library::{Library, Location};
use crate::merger::Merger;
use crate::recipe::{ModelRef, Recipe};

use super::Opened;

/// Whether a name in a recipe is an adapter's folder.
pub(super) fn is_adapter(model: &ModelRef, library: &dyn Library) -> bool {
    let alone = model.adapter.is_none();
    match library.locate(&model.path) {
        Some(Location::Folder(dir)) => {
            alone && Adapter::is_at(&dir) && !dir.join("config.json").is_file()
        }
        _ => false,
    }
}

/// Gives adapters that are listed by themselves the base of the recipe; whether there were any.
/// An adapter's merge without a base takes the folder that all adapters are written on.
///
/// # Errors
/// A base that has an adapter itself; a setting for adapters among themselves.
pub(super) fn seat(recipe: &mut Recipe, library: &dyn Library) -> Result<bool> {
    if recipe.parameters.get("lora_factors").is_some() {
        return Err(Error::Recipe {
            origin: recipe.origin.clone(),
            field: "parameters.lora_factors".to_owned(),
            problem: "is for adapters that are merged among themselves, without a base_model; leave it out".to_owned(),
        });
    }
    if recipe.base.is_none() && takes_only_adapters(recipe.merger) {
        recipe.base = common_base(recipe);
    }
    let Some(base) = recipe
        .base
        .clone()
        .filter(|base| !is_adapter(base, library))
    else {
        return Ok(false);
    };
    let mut seated = false;
    for source in recipe
        .parts
        .iter_mut()
        .flat_map(|part| &mut part.slices)
        .flat_map(|slice| &mut slice.sources)
    {
        if !is_adapter(&source.model, library) {
            continue;
        }
        if base.adapter.is_some() {
            return Err(Error::Recipe {
                origin: recipe.origin.clone(),
                field: "base_model".to_owned(),
                problem: format!(
                    "`{base}` has an adapter itself, so `{}` has no base to lie on; write base+adapter",
                    source.model
                ),
            });
        }
        source.model = ModelRef {
            adapter: Some(std::mem::replace(&mut source.model.path, base.path.clone())),
            path: base.path.clone(),
        };
        seated = true;
    }
    // The base was named for the adapters to lie on. To a method that knows no base it would count
    // as one more input.
    Ok(seated && recipe.merger.card().inputs.base == Base::Ignored)
}

fn takes_only_adapters(merger: &dyn Merger) -> bool {
    let merger = merger.on_adapters();
    merger.is_some_and(|merger| merger.takes_only_adapters())
}

/// The folder under all adapters of a recipe.
fn common_base(recipe: &Recipe) -> Option<ModelRef> {
    let models = recipe.models();
    let first = models.first()?;
    let same = |model: &&ModelRef| model.adapter.is_some() && model.path == first.path;
    models.iter().all(same).then(|| ModelRef {
        path: first.path.clone(),
        adapter: None,
    })
}

/// Checks what a method wants that merges adapters and nothing else.
///
/// # Errors
/// A model that is no adapter on a base; adapters of different modules or ranks.
pub(super) fn check_adapters(recipe: &Recipe, models: &[Opened]) -> Result<()> {
    if !takes_only_adapters(recipe.merger) {
        return Ok(());
    }
    let others = models
        .iter()
        .filter(|model| recipe.base.as_ref() != Some(&model.reference));
    let mut first: Option<&Adapter> = None;
    for model in others {
        let Some(adapter) = &model.adapter else {
            return Err(Error::Model {
                model: model.label.clone(),
                problem: format!(
                    "is no LoRA adapter, and {} merges nothing else; write base+adapter, or an adapter's folder",
                    recipe.merger.card().id
                ),
            });
        };
        match first {
            Some(first) => first.check_alike(adapter)?,
            None => first = Some(adapter),
        }
    }
    Ok(())
}
