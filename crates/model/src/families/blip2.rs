//! BLIP-2 (Li et al. 2023), and MiniGPT-4 (Zhu et al. 2023) in its Hugging Face form: the same
//! vision side, one linear projection, and OPT or LLaMA behind it.

use burn::tensor::Tensor;
use serde::Deserialize;

use super::family::{Folder, ModelFamily, ModelParts, VisionSide};
use crate::change::View;
use crate::decoders::Home;
use crate::error::Result;
use crate::layers::Linear;
use crate::loader::{Loader, Place};
use crate::names::Names;
use crate::parameter::Stage;
use crate::positions::ImagePositions;
use crate::projector::{QFormer, QFormerConfig};
use crate::prompt::{Frame, Piece};
use crate::vision::{Blip2VisionConfig, Tower};

pub(super) const FAMILY: ModelFamily = ModelFamily {
    model_type: "blip-2",
    needs: None,
    layout: None,
    load,
};

/// `config.json`.
#[derive(Clone, Debug, Deserialize)]
struct Config {
    #[serde(default = "default_queries")]
    num_query_tokens: usize,
    #[serde(default)]
    vision_config: Blip2VisionConfig,
    #[serde(default)]
    qformer_config: QFormerConfig,
    /// Text around the image, for models that were trained with a wrapper.
    #[serde(default)]
    image_wrapper: Option<ImageWrapper>,
}

/// Text in front of and behind the image vectors; each piece is tokenised on its own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct ImageWrapper {
    before: String,
    after: String,
}

fn default_queries() -> usize {
    32
}

/// Where MiniGPT-4's prompts say that the picture goes.
pub(super) const IMAGE_HERE: &str = "<ImageHere>";

/// The names of LAVIS and of the original MiniGPT-4, but for the projection and the decoder.
pub(super) const LAVIS: Names = Names(&[
    (
        "vision_model.embeddings.class_embedding",
        "visual_encoder.cls_token",
    ),
    (
        "vision_model.embeddings.position_embedding",
        "visual_encoder.pos_embed",
    ),
    (
        "vision_model.embeddings.patch_embedding",
        "visual_encoder.patch_embed.proj",
    ),
    (
        "vision_model.encoder.layers.#.layer_norm1",
        "visual_encoder.blocks.#.norm1",
    ),
    (
        "vision_model.encoder.layers.#.layer_norm2",
        "visual_encoder.blocks.#.norm2",
    ),
    (
        "vision_model.encoder.layers.#.self_attn.projection",
        "visual_encoder.blocks.#.attn.proj",
    ),
    (
        "vision_model.encoder.layers.#.self_attn.",
        "visual_encoder.blocks.#.attn.",
    ),
    (
        "vision_model.encoder.layers.#.mlp.",
        "visual_encoder.blocks.#.mlp.",
    ),
    ("vision_model.post_layernorm", "ln_vision"),
    ("qformer.layernorm", "Qformer.bert.embeddings.LayerNorm"),
    (
        "qformer.encoder.layer.#.attention.attention.",
        "Qformer.bert.encoder.layer.#.attention.self.",
    ),
    (
        "qformer.encoder.layer.#.crossattention.attention.",
        "Qformer.bert.encoder.layer.#.crossattention.self.",
    ),
    ("qformer.", "Qformer.bert."),
]);

/// What LAVIS files hold beside the parts used here: the text twins of the Q-Former, its token
/// tables and heads, the classifier of the vision tower.
pub(super) const LAVIS_OPTIONAL: [&str; 9] = [
    "Qformer.bert.embeddings.word_embeddings",
    "Qformer.bert.embeddings.position_",
    "Qformer.bert.encoder.layer.#.intermediate.",
    "Qformer.bert.encoder.layer.#.output.",
    "Qformer.cls.",
    "visual_encoder.head",
    "visual_encoder.norm.",
    "visual_encoder.fc_norm.",
    "t5_",
];

/// What older files of the Hugging Face layout may hold.
const OPTIONAL: [&str; 2] = ["qformer.embeddings.", "*.position_ids"];

fn load(loader: &mut Loader, folder: &Folder) -> Result<ModelParts> {
    let mut config: Config = folder.home("").read()?;
    let lavis = loader.has("visual_encoder.cls_token") || loader.has("ln_vision.weight");
    let mut optional: Vec<String> = OPTIONAL.map(str::to_owned).to_vec();
    if lavis {
        config.vision_config.post_norm_eps = Some(1e-5);
        loader.translate(LAVIS);
        optional.extend(LAVIS_OPTIONAL.map(str::to_owned));
    }
    let language = ["llama_model.", "opt_model.", "language_model."];
    let prefix = language
        .into_iter()
        .find(|prefix| has_decoder(loader, prefix))
        .unwrap_or("language_model.");
    let home = folder.part("text_config", prefix)?;
    let (decoder, beside) = folder.decoder(loader, home)?;
    optional.extend(beside);
    let projection = ["llama_proj", "opt_proj", "language_projection"]
        .into_iter()
        .find(|name| loader.has(&format!("{name}.weight")))
        .unwrap_or("language_projection");
    let sight = Blip2VisionSide::load(
        loader,
        (&config.vision_config, &config.qformer_config),
        (config.num_query_tokens, projection, decoder.outline().width),
        Home {
            within: "vision_config",
            ..folder.home("")
        },
    )?;
    // MiniGPT-4 in this form, the one that stands text around its pictures.
    let frozen_queries = config.image_wrapper.is_some();
    Ok(ModelParts {
        pixels: Some(folder.pixels(sight.image_size())?),
        sight: Some(Box::new(sight)),
        decoder,
        text: folder.text()?,
        frame: frame(config.image_wrapper),
        chat: None,
        frozen_queries,
        image_positions: ImagePositions::Counted,
        optional,
    })
}

fn has_decoder(loader: &Loader, prefix: &str) -> bool {
    ["model.embed_tokens", "model.decoder.embed_tokens"]
        .iter()
        .any(|name| loader.has(&format!("{prefix}{name}.weight")))
}

fn frame(wrapper: Option<ImageWrapper>) -> Frame {
    match wrapper {
        None => Frame::front(IMAGE_HERE),
        Some(ImageWrapper { before, after }) => {
            let prompt = Piece::Text("{prompt}".into());
            let pieces = [
                Piece::Text(before),
                Piece::Image,
                Piece::Text(after),
                prompt,
            ];
            Frame::cut(pieces.to_vec(), IMAGE_HERE)
        }
    }
}

/// Tower, querying transformer and projection.
pub(super) struct Blip2VisionSide {
    vision: Tower,
    projector: QFormer,
    projection: Linear,
}

impl Blip2VisionSide {
    /// Loads the three; `queries` vectors are projected by the layer `projection` to `width`;
    /// `home` is the tower's configuration, for messages.
    ///
    /// # Errors
    /// What the parts refuse.
    pub fn load(
        loader: &mut Loader,
        (vision, projector): (&Blip2VisionConfig, &QFormerConfig),
        (queries, projection, width): (usize, &str, usize),
        home: Home,
    ) -> Result<Self> {
        let shape = [width, projector.hidden_size];
        let place = Place::vision(Stage::Projector);
        Ok(Self {
            vision: vision.load(loader, home)?,
            projector: QFormer::load(loader, projector, queries, home.location)?,
            projection: Linear::load(loader, projection, shape, true, place)?,
        })
    }
}

impl VisionSide for Blip2VisionSide {
    fn image_size(&self) -> usize {
        self.vision.image_size()
    }

    fn vectors(&self) -> usize {
        self.projector.shape()[0]
    }

    fn see(&self, pixels: Tensor<4>, view: &View) -> Tensor<3> {
        self.vision.forward(pixels, view)
    }

    fn projector(&self, features: Tensor<3>, view: &View) -> Tensor<3> {
        let queries = self.projector.forward(features, view);
        view.note("qformer.last_hidden_state", &queries);
        self.project(queries, view)
    }

    fn queries(&self, features: Tensor<3>, view: &View) -> Option<Tensor<3>> {
        Some(self.projector.forward(features, view))
    }

    fn project(&self, queries: Tensor<3>, view: &View) -> Tensor<3> {
        let vectors = self.projection.forward(queries, view);
        view.note("projected", &vectors);
        vectors
    }
}
