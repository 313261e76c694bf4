//! What a family of models is, what it reads from and what it loads.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Tensor;
use debias_weights::Checkpoint;
use serde_json::Value;

use crate::change::View;
use crate::chat::ChatTemplate;
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
pub(crate) struct ModelParts {
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
    /// The chat template that `config.json` names, where a family has such names.
    pub chat: Option<ChatTemplate>,
    /// Whether the Q-Former was left as it was when the rest of the vision side was trained, so that
    /// the projection behind it holds all that the family has learnt of pictures.
    pub frozen_queries: bool,
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
        Text::open(self.checkpoint)?.open_ended()
    }

    /// How pictures are prepared, which must give `side` by `side` pixels.
    ///
    /// # Errors
    /// A missing or unusable file, or another size.
    pub fn pixels(&self, side: usize) -> Result<PixelConfig> {
        self.fitting(self.processor()?, side)
    }

    /// What says how pictures are prepared, and its file: the `image_processor` of
    /// `processor_config.json`, where transformers 5 writes it, or else `preprocessor_config.json`.
    ///
    /// # Errors
    /// A missing or malformed file.
    pub fn processor(&self) -> Result<(&'static str, Value)> {
        const NEW: &str = "processor_config.json";
        const OLD: &str = "preprocessor_config.json";
        let whole: Option<Value> = self.checkpoint.json_if_present(NEW)?;
        match whole
            .as_ref()
            .and_then(|whole| whole.get("image_processor"))
        {
            Some(written) if written.is_object() => Ok((NEW, written.clone())),
            _ => Ok((OLD, self.checkpoint.json(OLD)?)),
        }
    }

    /// `written`, found in `file`, which must give `side` by `side` pixels.
    ///
    /// # Errors
    /// What cannot be honoured, by its field, or another size.
    pub fn fitting(&self, (file, written): (&str, Value), side: usize) -> Result<PixelConfig> {
        let pixels: PixelConfig =
            serde_json::from_value(written).map_err(|problem| debias_weights::Error::Json {
                file: format!("{}/{file}", self.location),
                field: None,
                problem: problem.to_string(),
                mend: "correct the value, or take the file that was published with the weights",
            })?;
        if (pixels.width(), pixels.height()) == (side, side) {
            Ok(pixels)
        } else {
            Err(Error::Pixels {
                location: format!("{}/{file}", self.location),
                problem: format!(
                    "does not produce the {side}x{side} pixels that config.json asks for"
                ),
            })
        }
    }
}

/// A family: its name in `config.json`, and how to load it.
pub(crate) struct ModelFamily {
    /// `model_type`.
    pub model_type: &'static str,
    /// A field of `config.json` without which the folder holds the text model of this name.
    pub needs: Option<&'static str>,
    /// How it is published where that is not with a `config.json`.
    pub layout: Option<FolderLayout>,
    /// Reads the configuration and loads the weights.
    pub load: fn(&mut Loader, &Folder) -> Result<ModelParts>,
}

/// A layout of files that only one family has.
pub(crate) struct FolderLayout {
    /// Whether a folder has it.
    pub recognises: fn(&Path) -> bool,
    /// Opens the files of a folder as one checkpoint.
    pub open: fn(&Path) -> Result<Checkpoint>,
    /// What stands for `config.json`, if the folder has this layout.
    pub config: fn(&Checkpoint) -> Result<Option<Value>>,
}

/// The names that newer versions of transformers write for LLaVA and InternVL.
pub(super) const NEWER: Names = Names(&[
    ("vision_tower.", "model.vision_tower."),
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head", "lm_head"),
    ("multi_modal_projector.", "model.multi_modal_projector."),
]);
