//! LLaVA-1.5 (Liu et al. 2024): CLIP, a two-layer projector, and LLaMA.

use burn::tensor::Tensor;
use serde::Deserialize;
use serde_json::{Value, json};

use super::family::{Folder, ModelFamily, ModelParts, NEWER, VisionSide};
use crate::change::View;
use crate::decoders::Home;
use crate::error::Result;
use crate::loader::Loader;
use crate::names::Names;
use crate::positions::ImagePositions;
use crate::projector::Mlp;
use crate::prompt::{Frame, Piece};
use crate::text::{IMAGE_TOKEN, Text};
use crate::vision::{ClipConfig, Tower};

pub(super) const FAMILY: ModelFamily = ModelFamily {
    model_type: "llava",
    needs: None,
    layout: None,
    load,
};

/// `config.json`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Config {
    vision_config: ClipConfig,
    vision_feature_layer: i64,
    vision_feature_select_strategy: Strategy,
    projector_hidden_act: String,
    multimodal_projector_bias: bool,
    image_token_index: Option<u32>,
    image_token_id: Option<u32>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vision_config: ClipConfig::of_llava(),
            vision_feature_layer: -2,
            vision_feature_select_strategy: Strategy::Default,
            projector_hidden_act: "gelu".into(),
            multimodal_projector_bias: true,
            image_token_index: None,
            image_token_id: None,
        }
    }
}

/// Which features enter the projector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Strategy {
    /// Those of the patches.
    Default,
    /// That of the class token too.
    Full,
}

/// The image token where `config.json` names none.
const IMAGE_ID: u32 = 32_000;

/// In front of and behind the picture.
const TEMPLATE: [&str; 2] = ["USER: ", "\n{prompt} ASSISTANT:"];

/// The newer names where the tower stands without `vision_model`.
const NEWER_BARE: Names = Names(&[
    ("vision_tower.vision_model.", "model.vision_tower."),
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head", "lm_head"),
    ("multi_modal_projector.", "model.multi_modal_projector."),
]);

fn load(loader: &mut Loader, folder: &Folder) -> Result<ModelParts> {
    let config: Config = folder.home("").read()?;
    let class = "embeddings.class_embedding";
    if loader.has(&format!("model.vision_tower.{class}")) {
        loader.translate(NEWER_BARE);
    } else if loader.has(&format!("model.vision_tower.vision_model.{class}")) {
        loader.translate(NEWER);
    }
    let text_config = text_config(folder.config);
    let home = Home {
        config: &text_config,
        within: "text_config",
        prefix: "language_model.",
        location: folder.location,
    };
    let (decoder, mut optional) = folder.decoder(loader, home)?;
    // Behind the features, for the pooled output that CLIP compares texts with.
    optional.push(loader.published("vision_tower.vision_model.post_layernorm."));
    optional.push("*.position_ids".into());
    let vision = Home {
        within: "vision_config",
        ..folder.home("")
    };
    let tower = config
        .vision_config
        .load(loader, config.vision_feature_layer, vision)?;
    let activation = folder
        .home("")
        .activation("projector_hidden_act", &config.projector_hidden_act)?;
    let sight = LlavaVisionSide {
        projector: Mlp::load(
            loader,
            "multi_modal_projector.",
            (tower.width(), decoder.outline().width),
            config.multimodal_projector_bias,
            activation,
        )?,
        whole: config.vision_feature_select_strategy == Strategy::Full,
        tower,
    };
    let text = folder.text()?;
    let image = config.image_token_index.or(config.image_token_id);
    Ok(ModelParts {
        pixels: Some(folder.pixels(sight.image_size())?),
        sight: Some(Box::new(sight)),
        decoder,
        frame: frame(&text, image.unwrap_or(IMAGE_ID))?,
        text,
        chat: None,
        frozen_queries: false,
        image_positions: ImagePositions::Counted,
        optional,
    })
}

/// The hub's file has a `text_config` of a few fields; nothing said means LLaMA. The head is tied
/// where either object says so.
fn text_config(config: &Value) -> Value {
    const TIED: &str = "tie_word_embeddings";
    let mut text = config.get("text_config").cloned().unwrap_or(json!({}));
    if let Some(fields) = text.as_object_mut() {
        fields.entry("model_type").or_insert(json!("llama"));
        if config[TIED] == true {
            fields.insert(TIED.into(), json!(true));
        }
    }
    text
}

/// One text where the tokenizer knows the placeholder as the model's image token; otherwise the
/// text is cut around it, as the original code does.
fn frame(text: &Text, image: u32) -> Result<Frame> {
    let [before, after] = TEMPLATE;
    if text.encode(IMAGE_TOKEN, false)? == [image] {
        let template = format!("{before}{IMAGE_TOKEN}{after}");
        return Ok(Frame::marked(template, IMAGE_TOKEN, vec![image]));
    }
    let [before, after] = [before, after].map(|text| Piece::Text(text.into()));
    Ok(Frame::cut(vec![before, Piece::Image, after], IMAGE_TOKEN))
}

struct LlavaVisionSide {
    tower: Tower,
    projector: Mlp,
    /// Whether the class token's feature is kept.
    whole: bool,
}

impl VisionSide for LlavaVisionSide {
    fn image_size(&self) -> usize {
        self.tower.image_size()
    }

    fn vectors(&self) -> usize {
        self.tower.grid().pow(2) + usize::from(self.whole)
    }

    fn see(&self, pixels: Tensor<4>, view: &View) -> Tensor<3> {
        self.tower.forward(pixels, view)
    }

    fn projector(&self, features: Tensor<3>, view: &View) -> Tensor<3> {
        let tokens = features.dims()[1];
        let features = if self.whole {
            features
        } else {
            features.narrow(1, 1, tokens - 1)
        };
        let vectors = self.projector.forward(features, view);
        view.note("projected", &vectors);
        vectors
    }
}
