//! GLM-4V-9B (Zeng et al. 2024) in its original layout: the text model of the same `model_type`
//! with a vision side. The vectors of a picture share one position between its two ends.

use burn::tensor::Tensor;
use serde::Deserialize;

use super::family::{Folder, ModelFamily, ModelParts, VisionSide};
use crate::change::View;
use crate::error::Result;
use crate::loader::Loader;
use crate::pixels::{Colours, PixelConfig};
use crate::positions::ImagePositions;
use crate::projector::GluProjector;
use crate::prompt::Frame;
use crate::vision::{Glm4vVisionConfig, Tower};

pub(super) const FAMILY: ModelFamily = ModelFamily {
    model_type: "chatglm",
    needs: Some("vision_config"),
    layout: None,
    load,
};

/// What `config.json` says beside the decoder.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Config {
    vision_config: Glm4vVisionConfig,
    ffn_hidden_size: usize,
    boi_token_id: u32,
    eoi_token_id: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vision_config: Glm4vVisionConfig::default(),
            ffn_hidden_size: 13696,
            boi_token_id: 151_339,
            eoi_token_id: 151_340,
        }
    }
}

/// Stands where the vectors go; only its ends count.
const IMAGE: &str = "<|begin_of_image|><|endoftext|><|end_of_image|>";

const TEMPLATE: &str =
    "<|user|>\n<|begin_of_image|><|endoftext|><|end_of_image|>{prompt}<|assistant|>\n";

fn load(loader: &mut Loader, folder: &Folder) -> Result<ModelParts> {
    let home = folder.home("");
    let config: Config = home.read()?;
    let (decoder, optional) = folder.decoder(loader, home)?;
    let vision = folder.part("vision_config", "")?;
    let tower = config.vision_config.load(loader, vision)?;
    if !tower.grid().is_multiple_of(2) {
        let problem = format!("gives {} patches a side; it must be even", tower.grid());
        return Err(vision.refuse("image_size", problem));
    }
    let scaling = config.vision_config.scaling_factor;
    if !scaling.is_normal() {
        return Err(vision.refuse("scaling_factor", "must not be 0".into()));
    }
    let sight = Glm4vVisionSide {
        projector: GluProjector::load(
            loader,
            (tower.grid(), tower.width()),
            (decoder.outline().width, config.ffn_hidden_size),
            scaling,
        )?,
        tower,
    };
    let text = folder.text()?;
    let marker = text.encode(IMAGE, false)?;
    let ends = (marker.first(), marker.last(), marker.len());
    if ends != (Some(&config.boi_token_id), Some(&config.eoi_token_id), 3) {
        let problem = format!(
            "is {} and eoi_token_id is {}, but the tokenizer writes {IMAGE} as {marker:?}; use the tokenizer of this checkpoint",
            config.boi_token_id, config.eoi_token_id
        );
        return Err(home.refuse("boi_token_id", problem));
    }
    // The published folder has no `preprocessor_config.json`: this is fixed in its code.
    let pixels = PixelConfig::squash(sight.image_size(), &Colours::CLIP, folder.location)?;
    Ok(ModelParts {
        pixels: Some(pixels),
        sight: Some(Box::new(sight)),
        decoder,
        text,
        frame: Frame::marked(TEMPLATE.into(), IMAGE, marker).shown_as(IMAGE, ""),
        chat: None,
        frozen_queries: false,
        image_positions: ImagePositions::Shared,
        optional,
    })
}

struct Glm4vVisionSide {
    tower: Tower,
    projector: GluProjector,
}

impl VisionSide for Glm4vVisionSide {
    fn image_size(&self) -> usize {
        self.tower.image_size()
    }

    fn vectors(&self) -> usize {
        self.projector.vectors()
    }

    fn see(&self, pixels: Tensor<4>, view: &View) -> Tensor<3> {
        self.tower.forward(pixels, view)
    }

    fn projector(&self, features: Tensor<3>, view: &View) -> Tensor<3> {
        let vectors = self.projector.forward(features, view);
        view.note("projected", &vectors);
        vectors
    }
}
