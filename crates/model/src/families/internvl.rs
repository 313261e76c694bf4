//! InternVL 2.5 (Chen et al. 2024): InternViT over tiles, pixel shuffle, and Qwen2 or InternLM2; in
//! the layout of transformers and in that of the original release.

use burn::tensor::Tensor;
use serde::Deserialize;
use serde_json::{Value, json};

use super::family::{Folder, ModelFamily, ModelParts, NEWER, VisionSide};
use crate::change::View;
use crate::chat::ChatTemplate;
use crate::decoders::Home;
use crate::error::Result;
use crate::loader::Loader;
use crate::names::Names;
use crate::pixels::{Colours, PixelConfig};
use crate::positions::ImagePositions;
use crate::projector::PixelShuffle;
use crate::prompt::Frame;
use crate::vision::{InternVitConfig, Tower};

pub(super) const NATIVE: ModelFamily = ModelFamily {
    model_type: "internvl",
    needs: None,
    layout: None,
    load: native,
};

pub(super) const ORIGINAL: ModelFamily = ModelFamily {
    model_type: "internvl_chat",
    needs: None,
    layout: None,
    load: original,
};

/// `config.json` of the native layout.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct NativeConfig {
    downsample_ratio: f64,
    vision_feature_layer: i64,
    vision_feature_select_strategy: String,
    projector_hidden_act: String,
    image_token_id: u32,
    tie_word_embeddings: Option<bool>,
}

impl Default for NativeConfig {
    fn default() -> Self {
        Self {
            downsample_ratio: 0.5,
            vision_feature_layer: -1,
            vision_feature_select_strategy: "default".into(),
            projector_hidden_act: "gelu".into(),
            image_token_id: 151_667,
            tie_word_embeddings: None,
        }
    }
}

/// `config.json` of the original layout.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct OriginalConfig {
    downsample_ratio: f64,
    select_layer: i64,
    ps_version: String,
    force_image_size: Option<usize>,
    dynamic_image_size: bool,
    use_thumbnail: bool,
    min_dynamic_patch: usize,
    max_dynamic_patch: usize,
    pad2square: bool,
    template: Option<String>,
}

impl Default for OriginalConfig {
    fn default() -> Self {
        Self {
            downsample_ratio: 0.5,
            select_layer: -1,
            ps_version: "v1".into(),
            force_image_size: None,
            dynamic_image_size: false,
            use_thumbnail: false,
            min_dynamic_patch: 1,
            max_dynamic_patch: 6,
            pad2square: false,
            template: None,
        }
    }
}

/// The names of the original layout, but for the decoder.
const ORIGINAL_NAMES: Names = Names(&[
    (
        "vision_tower.embeddings.cls_token",
        "vision_model.embeddings.class_embedding",
    ),
    (
        "vision_tower.embeddings.position_embeddings",
        "vision_model.embeddings.position_embedding",
    ),
    (
        "vision_tower.embeddings.patch_embeddings.projection",
        "vision_model.embeddings.patch_embedding",
    ),
    (
        "vision_tower.encoder.layer.#.attention.projection_layer",
        "vision_model.encoder.layers.#.attn.proj",
    ),
    (
        "vision_tower.encoder.layer.#.attention.",
        "vision_model.encoder.layers.#.attn.",
    ),
    (
        "vision_tower.encoder.layer.#.layernorm_before",
        "vision_model.encoder.layers.#.norm1",
    ),
    (
        "vision_tower.encoder.layer.#.layernorm_after",
        "vision_model.encoder.layers.#.norm2",
    ),
    (
        "vision_tower.encoder.layer.#.lambda_",
        "vision_model.encoder.layers.#.ls",
    ),
    (
        "vision_tower.encoder.layer.#.mlp.",
        "vision_model.encoder.layers.#.mlp.",
    ),
    ("multi_modal_projector.layer_norm", "mlp1.0"),
    ("multi_modal_projector.linear_1", "mlp1.1"),
    ("multi_modal_projector.linear_2", "mlp1.3"),
]);

/// Stands where the vectors go.
const CONTEXT: &str = "<IMG_CONTEXT>";

const TEMPLATE: &str =
    "<|im_start|>user\n<img><IMG_CONTEXT></img>\n{prompt}<|im_end|>\n<|im_start|>assistant\n";

/// The sentence with which version 2.5 opens every conversation.
const ASSISTANT_2_5: &str = "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。";

/// The same of the versions before it.
const ASSISTANT: &str = "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。";

/// What `template` may name: the conversations of the original release, the sentence that opens each,
/// and what ends a turn.
const CONVERSATIONS: [(&str, &str, &str); 3] = [
    ("internvl2_5", ASSISTANT_2_5, "<|im_end|>\n"),
    ("internlm2-chat", ASSISTANT, "<|im_end|>"),
    ("Hermes-2", ASSISTANT, "<|im_end|>"),
];

/// Where the vectors go in a prompt, and what always stands around them.
fn frame(id: u32) -> Frame {
    Frame::marked(TEMPLATE.into(), CONTEXT, vec![id]).shown_as("<img><IMG_CONTEXT></img>", "\n")
}

/// The conversation of that name, as a template; `None` for a name that is not known, whose model
/// gets the text of the family.
fn conversation(name: Option<&str>, location: &str) -> Result<Option<ChatTemplate>> {
    let known = CONVERSATIONS
        .iter()
        .find(|(known, ..)| Some(*known) == name);
    let Some((name, system, end)) = known else {
        return Ok(None);
    };
    let opening = json!(format!("<|im_start|>system\n{system}{end}"));
    let [role, newline, end] = [json!("<|im_start|>"), json!("\n"), json!(end)];
    let answer = json!("<|im_start|>assistant\n");
    let turn = format!("{{{{ {role} + turn.role + {newline} + turn.content + {end} }}}}");
    let source = format!(
        "{{{{ {opening} }}}}{{% for turn in messages %}}{turn}{{% endfor %}}{{{{ {answer} }}}}"
    );
    ChatTemplate::named(name, &source, location).map(Some)
}

fn native(loader: &mut Loader, folder: &Folder) -> Result<ModelParts> {
    let home = folder.home("");
    let config: NativeConfig = home.read()?;
    let strategy = &config.vision_feature_select_strategy;
    if strategy != "default" {
        let problem = format!("is `{strategy}`; only default is supported");
        return Err(home.refuse("vision_feature_select_strategy", problem));
    }
    if loader.has("model.vision_tower.embeddings.cls_token") {
        loader.translate(NEWER);
    }
    let part = folder.part("text_config", "language_model.")?;
    let mut text_config = part.config.clone();
    let head = loader.has("language_model.lm_head.weight");
    if let Some(fields) = text_config.as_object_mut() {
        let own = fields.get("tie_word_embeddings").and_then(Value::as_bool);
        // Where neither object says it, what is published does: files of tied models have no head.
        let tied = config.tie_word_embeddings.or(own).unwrap_or(!head);
        fields.insert("tie_word_embeddings".into(), json!(tied));
    }
    let part = Home {
        config: &text_config,
        ..part
    };
    let (decoder, mut optional) = folder.decoder(loader, part)?;
    optional.push(loader.published("vision_tower.embeddings.mask_token"));
    let vision = folder.part("vision_config", "")?;
    let tower = InternVitConfig::native(vision)?;
    let tower = tower.load(loader, config.vision_feature_layer, vision)?;
    let act = &config.projector_hidden_act;
    let projector = (
        config.downsample_ratio,
        act.as_str(),
        decoder.outline().width,
    );
    let sight = InternVlVisionSide::load(loader, tower, projector, home)?;
    let text = folder.text()?;
    let id = text.required_id(CONTEXT)?;
    if id != config.image_token_id {
        let problem = format!(
            "is {}, but the tokenizer writes {CONTEXT} as {id}; use the tokenizer of this checkpoint",
            config.image_token_id
        );
        return Err(home.refuse("image_token_id", problem));
    }
    // The processor cuts into tiles even where its file says otherwise.
    let (file, mut pixels) = folder.processor()?;
    if let Some(fields) = pixels.as_object_mut() {
        fields.insert("crop_to_patches".into(), json!(true));
    }
    Ok(ModelParts {
        pixels: Some(folder.fitting((file, pixels), sight.image_size())?),
        sight: Some(Box::new(sight)),
        decoder,
        text,
        frame: frame(id),
        chat: None,
        frozen_queries: false,
        image_positions: ImagePositions::Counted,
        optional,
    })
}

fn original(loader: &mut Loader, folder: &Folder) -> Result<ModelParts> {
    let home = folder.home("");
    let config: OriginalConfig = home.read()?;
    if config.ps_version != "v2" {
        let problem = format!("is `{}`; only v2 is supported", config.ps_version);
        return Err(home.refuse("ps_version", problem));
    }
    if config.pad2square {
        return Err(home.refuse("pad2square", "is true; only false is supported".into()));
    }
    loader.translate(ORIGINAL_NAMES);
    let (decoder, optional) =
        folder.decoder(loader, folder.part("llm_config", "language_model.")?)?;
    let vision = folder.part("vision_config", "")?;
    let tower = InternVitConfig::original(vision)?.load(loader, config.select_layer, vision)?;
    let side = tower.image_size();
    if config.force_image_size.is_some_and(|forced| forced != side) {
        let problem = format!("must be the vision_config.image_size {side}");
        return Err(home.refuse("force_image_size", problem));
    }
    let projector = (config.downsample_ratio, "gelu", decoder.outline().width);
    let sight = InternVlVisionSide::load(loader, tower, projector, home)?;
    let text = folder.text()?;
    // `preprocessor_config.json` is a leftover here.
    let pixels = if config.dynamic_image_size {
        PixelConfig::tiled(
            side,
            (config.min_dynamic_patch, config.max_dynamic_patch),
            config.use_thumbnail,
            &Colours::IMAGENET,
            folder.location,
        )?
    } else {
        PixelConfig::squash(side, &Colours::IMAGENET, folder.location)?
    };
    Ok(ModelParts {
        pixels: Some(pixels),
        sight: Some(Box::new(sight)),
        decoder,
        frame: frame(text.required_id(CONTEXT)?),
        text,
        chat: conversation(config.template.as_deref(), folder.location)?,
        frozen_queries: false,
        image_positions: ImagePositions::Counted,
        optional,
    })
}

struct InternVlVisionSide {
    tower: Tower,
    projector: PixelShuffle,
}

impl InternVlVisionSide {
    /// The projector behind `tower`, which keeps `ratio` of the features along each side.
    fn load(
        loader: &mut Loader,
        tower: Tower,
        (ratio, activation, width): (f64, &str, usize),
        home: Home,
    ) -> Result<Self> {
        let side = (1.0 / ratio).round();
        let grid = tower.grid();
        let fits = side >= 1.0 && side <= grid as f64 && (side * ratio - 1.0).abs() < 1e-6;
        if !fits || !grid.is_multiple_of(side as usize) {
            let problem = format!("is {ratio}; it must divide the {grid} patches of a side");
            return Err(home.refuse("downsample_ratio", problem));
        }
        let activation = home.activation("projector_hidden_act", activation)?;
        let features = (grid, tower.width());
        let projector = PixelShuffle::load(loader, features, side as usize, width, activation)?;
        Ok(Self { tower, projector })
    }
}

impl VisionSide for InternVlVisionSide {
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
