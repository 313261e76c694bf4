//! Model families: what a `config.json` composes, and how a picture enters a prompt.
//!
//! A family is one file here and one line in [`FAMILIES`]. Text models are families too, without
//! a vision side.

mod family;
mod text;

use std::collections::BTreeSet;
use std::path::Path;

use debias_weights::Checkpoint;
use serde_json::Value;

use crate::decoders;
use crate::error::Result;
use crate::loader::Loader;
use family::{FolderLayout, ModelFamily};

pub use family::VisionSide;
pub(crate) use family::{Folder, ModelParts};

debias_core::registry! {
    /// Every multimodal family; to add one, write its file and name it here. Text models come from
    /// [`decoders::FAMILIES`].
    static FAMILIES: ModelFamily;
    blip2::FAMILY,
    glm4v::FAMILY,
    internvl::NATIVE | ORIGINAL,
    llava::FAMILY,
    minigpt4::FAMILY,
}

fn layouts() -> impl Iterator<Item = &'static FolderLayout> {
    FAMILIES.iter().filter_map(|family| family.layout.as_ref())
}

/// Opens a model's folder: one of the Hugging Face layout, or one in a family's own layout.
///
/// # Errors
/// A missing or unusable file.
pub fn open_folder(dir: &Path) -> Result<Checkpoint> {
    match layouts().find(|layout| (layout.recognises)(dir)) {
        Some(layout) => (layout.open)(dir),
        None => Ok(Checkpoint::open(dir)?),
    }
}

/// The content of `config.json`, or what stands for it.
///
/// # Errors
/// A missing or malformed file.
pub(crate) fn config(folder: &Checkpoint) -> Result<Value> {
    for layout in layouts() {
        if let Some(config) = (layout.config)(folder)? {
            return Ok(config);
        }
    }
    Ok(folder.json("config.json")?)
}

/// The family that a folder says it is of.
///
/// # Errors
/// A missing or malformed `config.json`.
pub fn family(folder: &Checkpoint) -> Result<String> {
    let config = config(folder)?;
    let named = config.get("model_type").and_then(Value::as_str);
    Ok(named.unwrap_or("unknown").to_owned())
}

/// Loads what `folder` describes.
///
/// # Errors
/// An unknown `model_type`; the known ones are listed. Else what the family refuses.
pub(crate) fn load(loader: &mut Loader, folder: &Folder) -> Result<ModelParts> {
    let named = folder.config.get("model_type").and_then(Value::as_str);
    let known = || {
        let texts = decoders::FAMILIES.iter().map(|family| family.model_type);
        let names = FAMILIES.iter().map(|family| family.model_type).chain(texts);
        names
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
            .join(", ")
    };
    let refuse = |problem: String| folder.home("").refuse("model_type", problem);
    let Some(named) = named else {
        return Err(refuse(format!("is missing; known: {}", known())));
    };
    let has = |field: &str| {
        folder
            .config
            .get(field)
            .is_some_and(|value| !value.is_null())
    };
    let fits = |family: &&&ModelFamily| family.model_type == named && family.needs.is_none_or(has);
    if let Some(family) = FAMILIES.iter().find(fits) {
        return (family.load)(loader, folder);
    }
    let mut texts = decoders::FAMILIES.iter();
    if texts.any(|family| family.model_type == named) {
        text::load(loader, folder)
    } else {
        Err(refuse(format!("is `{named}`; known: {}", known())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use debias_core::registry;

    #[test]
    fn families_have_names_of_their_own() {
        let names = FAMILIES.iter().map(|family| (family.model_type, []));
        assert_eq!(registry::flaws(names), Vec::<String>::new());
    }
}
