//! BLIP-2 (Li et al. 2023), and MiniGPT-4 (Zhu et al. 2023) in its Hugging Face form: the same
//! vision side, one linear projection, and OPT or LLaMA behind it.

use burn::tensor::Tensor;
use debias_weights::Checkpoint;
use serde::Deserialize;

use crate::bridge::{QFormer, QFormerConfig};
use crate::change::View;
use crate::decoders::{Decoder, Llama, LlamaConfig, Opt, OptConfig};
use crate::error::{Error, Result};
use crate::layers::Linear;
use crate::loader::{Loader, Place};
use crate::site::Stage;
use crate::vision::{Blip2Vision, Blip2VisionConfig};

/// `config.json` of a BLIP-2 folder.
#[derive(Clone, Debug, Deserialize)]
pub struct Blip2Config {
    /// Always `blip-2`.
    pub model_type: String,
    /// Number of learned queries.
    #[serde(default = "default_queries")]
    pub num_query_tokens: usize,
    /// Vision tower.
    pub vision_config: Blip2VisionConfig,
    /// Bridge.
    pub qformer_config: QFormerConfig,
    /// Decoder; its `model_type` decides the family.
    pub text_config: serde_json::Value,
    /// Text around the image, for models that were trained with a wrapper (MiniGPT-4).
    #[serde(default)]
    pub image_wrapper: Option<ImageWrapper>,
}

/// Text in front of and behind the image vectors; each piece is tokenised on its own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ImageWrapper {
    /// In front, e.g. `###Human: <Img>`.
    pub before: String,
    /// Behind, e.g. `</Img> `.
    pub after: String,
}

fn default_queries() -> usize {
    32
}

/// The three parts and the projection between the last two.
pub(crate) struct Parts {
    pub vision: Blip2Vision,
    pub bridge: QFormer,
    pub projection: Linear,
    pub decoder: Box<dyn Decoder>,
}

impl Parts {
    /// image tokens `[n, tokens, c]` → decoder vectors `[n, queries, d]`.
    pub fn prefix(&self, tokens: Tensor<3>, view: &View) -> Tensor<3> {
        self.projection
            .forward(self.bridge.forward(tokens, view), view)
    }
}

/// Reads the configuration and loads the parts.
///
/// # Errors
/// An unknown `model_type`, or what the parts refuse.
pub(crate) fn parts(loader: &mut Loader, config: &Blip2Config, location: &str) -> Result<Parts> {
    if config.model_type != "blip-2" {
        return Err(Error::Config {
            location: location.to_owned(),
            field: "model_type".into(),
            problem: format!("is `{}`; known: blip-2", config.model_type),
        });
    }
    let vision = Blip2Vision::load(loader, &config.vision_config, location)?;
    let bridge = QFormer::load(
        loader,
        &config.qformer_config,
        config.num_query_tokens,
        location,
    )?;
    let decoder = decoder(loader, &config.text_config, location)?;
    let projection = Linear::load(
        loader,
        "language_projection",
        [decoder.width(), config.qformer_config.hidden_size],
        true,
        Place::vision(Stage::Bridge),
    )?;
    Ok(Parts {
        vision,
        bridge,
        projection,
        decoder,
    })
}

fn decoder(
    loader: &mut Loader,
    config: &serde_json::Value,
    location: &str,
) -> Result<Box<dyn Decoder>> {
    const PREFIX: &str = "language_model.";
    let refuse = |field: &str, problem: String| Error::Config {
        location: location.to_owned(),
        field: field.to_owned(),
        problem,
    };
    let invalid = |problem: serde_json::Error| refuse("text_config", problem.to_string());
    match config.get("model_type").and_then(serde_json::Value::as_str) {
        Some("opt") => {
            let config = OptConfig::deserialize(config).map_err(invalid)?;
            Ok(Box::new(Opt::load(loader, PREFIX, &config, location)?))
        }
        Some("llama") => {
            let config = LlamaConfig::deserialize(config).map_err(invalid)?;
            Ok(Box::new(Llama::load(loader, PREFIX, &config, location)?))
        }
        Some(other) => Err(refuse(
            "text_config.model_type",
            format!("is `{other}`; known: opt, llama"),
        )),
        None => Err(refuse(
            "text_config.model_type",
            "is missing; known: opt, llama".into(),
        )),
    }
}

/// Parses `config.json`.
///
/// # Errors
/// A missing file or field, or a wrong type, named.
pub(crate) fn config(checkpoint: &Checkpoint) -> Result<Blip2Config> {
    Ok(checkpoint.json("config.json")?)
}
