//! Model families: what a `config.json` composes, and how a picture enters a prompt.
//!
//! A family is one file here and one line in [`FAMILIES`]. Text models are families too, without
//! a vision side.

mod text;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Tensor;
use debias_weights::Checkpoint;
use serde_json::Value;

use crate::change::View;
use crate::decoders::{self, Decoder, Home};
use crate::error::{Error, Result};
use crate::loader::Loader;
use crate::names::Names;
use crate::pixels::PixelConfig;
use crate::positions::ImagePositions;
use crate::prompt::Frame;
use crate::text::Text;

/// The vision side of a model: pixels to vectors that stand between the decoder's tokens.
pub trait VisionSide: Send + Sync {
    /// Side of the square input, pixels.
    fn image_size(&self) -> usize;
    /// Vectors per tile that enter the decoder.
    fn vectors(&self) -> usize;
    /// Pixels `[tiles, 3, s, s]` through the tower: features `[tiles, tokens, c]`.
    fn see(&self, pixels: Tensor<4>, view: &View) -> Tensor<3>;
    /// Features `[tiles, tokens, c]` through the projector: `[tiles, vectors, d]`.
    fn projector(&self, features: Tensor<3>, view: &View) -> Tensor<3>;
    /// The learned queries behind the projector and before the projection, for families that have
    /// them: features `[tiles, tokens, c]` → `[tiles, queries, w]`.
    fn queries(&self, features: Tensor<3>, view: &View) -> Option<Tensor<3>> {
        let _ = (features, view);
        None
    }
    /// [`VisionSide::queries`] → vectors `[tiles, vectors, d]`.
    fn project(&self, queries: Tensor<3>, view: &View) -> Tensor<3> {
        let _ = view;
        queries
    }
}

/// Everything a family loads.
pub(crate) struct Parts {
    /// The vision side; none for a text model.
    pub sight: Option<Box<dyn VisionSide>>,
    /// How pictures become pixels; present exactly where `sight` is.
    pub pixels: Option<PixelConfig>,
    /// The language model.
    pub decoder: Arc<dyn Decoder>,
    /// The tokenizer.
    pub text: Text,
    /// How a picture enters a prompt.
    pub frame: Frame,
    /// How positional encodings count a picture's vectors.
    pub image_positions: ImagePositions,
    /// Names that a file may hold and no layer reads (see [`crate::names::refuse_unused`]).
    pub optional: Vec<String>,
}

/// What a family reads from.
pub(crate) struct Folder<'a> {
    /// The small files.
    pub checkpoint: &'a Checkpoint,
    /// `config.json`.
    pub config: &'a Value,
    /// For messages.
    pub location: &'a str,
}

impl<'a> Folder<'a> {
    /// The object `field` of `config.json` as the home of a decoder under `prefix`.
    ///
    /// # Errors
    /// When the object is missing.
    pub fn part(&self, field: &'a str, prefix: &'a str) -> Result<Home<'a>> {
        match self.config.get(field) {
            Some(config) => Ok(Home {
                config,
                within: field,
                prefix,
                location: self.location,
            }),
            None => Err(self.home("").refuse(field, "is missing".into())),
        }
    }

    /// `config.json` itself as the home of a decoder under `prefix`.
    pub fn home(&self, prefix: &'a str) -> Home<'a> {
        Home {
            config: self.config,
            within: "",
            prefix,
            location: self.location,
        }
    }

    /// Loads the decoder that `home` describes, and names what its files may hold beside it.
    ///
    /// # Errors
    /// An unknown decoder, or what its loading refuses.
    pub fn decoder(
        &self,
        loader: &mut Loader,
        home: Home,
    ) -> Result<(Arc<dyn Decoder>, Vec<String>)> {
        let family = decoders::family(home)?;
        let decoder = (family.load)(loader, home)?;
        let optional = family.optional.iter().map(|pattern| match pattern {
            end if end.starts_with('*') => (*end).to_owned(),
            start => loader.published(&format!("{}{start}", home.prefix)),
        });
        Ok((decoder.into(), optional.collect()))
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// A missing or unusable file.
    pub fn text(&self) -> Result<Text> {
        Text::open(self.checkpoint)
    }

    /// `preprocessor_config.json`, which must give `side` by `side` pixels.
    ///
    /// # Errors
    /// A missing or unusable file, or another size.
    pub fn pixels(&self, side: usize) -> Result<PixelConfig> {
        self.fitting(self.checkpoint.json("preprocessor_config.json")?, side)
    }

    /// `pixels`, which must give `side` by `side` pixels.
    ///
    /// # Errors
    /// Another size.
    pub fn fitting(&self, pixels: PixelConfig, side: usize) -> Result<PixelConfig> {
        match (pixels.width(), pixels.height()) == (side, side) {
            true => Ok(pixels),
            false => Err(Error::Pixels {
                location: self.location.to_owned(),
                problem: format!(
                    "does not produce the {side}x{side} pixels that config.json asks for"
                ),
            }),
        }
    }
}

/// Opens a model's folder: one of the Hugging Face layout, or one of the original MiniGPT-4 files
/// with its `minigpt4.json`.
///
/// # Errors
/// A missing or unusable file.
pub fn open_folder(dir: &Path) -> Result<Checkpoint> {
    match minigpt4::recognises(dir) {
        true => minigpt4::open(dir),
        false => Ok(Checkpoint::open(dir)?),
    }
}

/// The content of `config.json`, or what stands for it.
///
/// # Errors
/// A missing or malformed file.
pub(crate) fn config(folder: &Checkpoint) -> Result<Value> {
    match minigpt4::config(folder)? {
        Some(config) => Ok(config),
        None => Ok(folder.json("config.json")?),
    }
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

/// A family: its name in `config.json`, and how to load it.
pub(crate) struct Family {
    /// `model_type`.
    pub model_type: &'static str,
    /// A field of `config.json` without which the folder holds the text model of this name.
    pub needs: Option<&'static str>,
    /// Reads the configuration and loads the weights.
    pub load: fn(&mut Loader, &Folder) -> Result<Parts>,
}

debias_core::registry! {
    /// Every multimodal family; to add one, write its file and name it here. Text models come from
    /// [`decoders::FAMILIES`].
    static FAMILIES: Family;
    blip2::FAMILY,
    glm4v::FAMILY,
    internvl::NATIVE | ORIGINAL,
    llava::FAMILY,
    minigpt4::FAMILY,
}

/// The names that newer versions of transformers write for LLaVA and InternVL.
const NEWER: Names = Names(&[
    ("vision_tower.", "model.vision_tower."),
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head", "lm_head"),
    ("multi_modal_projector.", "model.multi_modal_projector."),
]);

/// Loads what `folder` describes.
///
/// # Errors
/// An unknown `model_type`; the known ones are listed. Else what the family refuses.
pub(crate) fn load(loader: &mut Loader, folder: &Folder) -> Result<Parts> {
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
    let fits = |family: &&&Family| family.model_type == named && family.needs.is_none_or(has);
    if let Some(family) = FAMILIES.iter().find(fits) {
        return (family.load)(loader, folder);
    }
    match decoders::FAMILIES
        .iter()
        .any(|family| family.model_type == named)
    {
        true => text::load(loader, folder),
        false => Err(refuse(format!("is `{named}`; known: {}", known()))),
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
