//! MiniGPT-4 (Zhu et al. 2023) as its authors publish it: the vision tower, the Q-Former and the
//! projection in three PyTorch files, Vicuna in a folder of its own, and `minigpt4.json` in place
//! of the YAML file and of the constants in the original code.

use std::path::Path;

use debias_weights::Checkpoint;
use serde::Deserialize;
use serde_json::{Value, json};

use super::blip2::{Blip2VisionSide, IMAGE_HERE, LAVIS, LAVIS_OPTIONAL};
use super::family::{Folder, FolderLayout, ModelFamily, ModelParts, VisionSide};
use crate::decoders::Home;
use crate::error::{Error, Result};
use crate::loader::Loader;
use crate::pixels::{Colours, PixelConfig};
use crate::positions::ImagePositions;
use crate::projector::QFormerConfig;
use crate::prompt::{Frame, Piece};
use crate::text::Text;
use crate::vision::Blip2VisionConfig;

pub(super) const FAMILY: ModelFamily = ModelFamily {
    model_type: "minigpt4",
    needs: None,
    layout: Some(FolderLayout {
        recognises,
        open,
        config,
    }),
    load,
};

/// The file that makes a folder one of this family.
const SETUP: &str = "minigpt4.json";

/// In front of the names of the language model.
const LANGUAGE: &str = "llama_model.";

/// `minigpt4.json`, with the published values as defaults.
#[derive(Clone, Debug, Deserialize)]
struct Setup {
    files: Files,
    #[serde(flatten)]
    sizes: Sizes,
    #[serde(default = "prompt_template")]
    prompt_template: String,
}

/// Names inside the folder.
#[derive(Clone, Debug, Deserialize)]
struct Files {
    vit: String,
    qformer: String,
    projection: String,
    llm: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Sizes {
    image_size: usize,
    patch_size: usize,
    vit_width: usize,
    vit_depth: usize,
    vit_heads: usize,
    vit_mlp: usize,
    vit_block_eps: f64,
    ln_vision_eps: f64,
    num_query_token: usize,
    qformer_hidden: usize,
    qformer_heads: usize,
    qformer_layers: usize,
    qformer_mlp: usize,
    qformer_eps: f64,
    cross_attention_freq: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            image_size: 224,
            patch_size: 14,
            vit_width: 1408,
            vit_depth: 39,
            vit_heads: 16,
            vit_mlp: 6144,
            vit_block_eps: 1e-6,
            ln_vision_eps: 1e-5,
            num_query_token: 32,
            qformer_hidden: 768,
            qformer_heads: 12,
            qformer_layers: 12,
            qformer_mlp: 3072,
            qformer_eps: 1e-12,
            cross_attention_freq: 2,
        }
    }
}

fn prompt_template() -> String {
    "###Human: {} ###Assistant:".into()
}

/// Whether `dir` is a folder of this family.
fn recognises(dir: &Path) -> bool {
    dir.join(SETUP).is_file()
}

/// Opens the files of `dir` as one checkpoint, under the names of the original code.
///
/// # Errors
/// A missing or unusable file.
fn open(dir: &Path) -> Result<Checkpoint> {
    let folder = Checkpoint::bare(dir)?;
    let Setup { files, .. } = folder.json(SETUP)?;
    language_folder(&folder, &files.llm)?;
    let folder = folder
        .mount_file("visual_encoder.", &files.vit)?
        .mount_file("", &files.qformer)?
        .mount_file("", &files.projection)?;
    Ok(folder.mount(LANGUAGE, Checkpoint::open(&dir.join(&files.llm))?))
}

/// What stands for `config.json`, if `folder` is of this family.
///
/// # Errors
/// A malformed file.
fn config(folder: &Checkpoint) -> Result<Option<Value>> {
    let Some(Setup { files, .. }) = folder.json_if_present(SETUP)? else {
        return Ok(None);
    };
    let language: Value = language_folder(folder, &files.llm)?.json("config.json")?;
    Ok(Some(
        json!({"model_type": FAMILY.model_type, "text_config": language}),
    ))
}

/// The small files of the language model.
fn language_folder(folder: &Checkpoint, name: &str) -> Result<Checkpoint> {
    folder.subfolder(name)?.ok_or_else(|| {
        Error::Weights(debias_weights::Error::Missing {
            location: folder.location(),
            missing: format!("the folder {name}"),
            mend: "put the language model there, or name its folder in minigpt4.json",
        })
    })
}

fn load(loader: &mut Loader, folder: &Folder) -> Result<ModelParts> {
    let setup: Setup = folder.checkpoint.json(SETUP)?;
    let sizes = &setup.sizes;
    loader.translate(LAVIS);
    let home = folder.part("text_config", LANGUAGE)?;
    let (decoder, mut optional) = folder.decoder(loader, home)?;
    optional.extend(LAVIS_OPTIONAL.map(str::to_owned));
    // The published tower has a block more than is used.
    optional.push(format!("visual_encoder.blocks.{}.", sizes.vit_depth));
    let here = Home {
        within: SETUP,
        ..folder.home("")
    };
    let sight = Blip2VisionSide::load(
        loader,
        (&sizes.vision(), &sizes.projector()),
        (sizes.num_query_token, "llama_proj", decoder.outline().width),
        here,
    )?;
    let pixels = PixelConfig::squash(sight.image_size(), &Colours::CLIP, folder.location)?;
    Ok(ModelParts {
        pixels: Some(pixels),
        sight: Some(Box::new(sight)),
        decoder,
        text: Text::open(&language_folder(folder.checkpoint, &setup.files.llm)?)?,
        frame: frame(&setup.prompt_template, here)?,
        chat: None,
        frozen_queries: true,
        image_positions: ImagePositions::Counted,
        optional,
    })
}

impl Sizes {
    fn vision(&self) -> Blip2VisionConfig {
        Blip2VisionConfig {
            hidden_size: self.vit_width,
            intermediate_size: self.vit_mlp,
            num_hidden_layers: self.vit_depth,
            num_attention_heads: self.vit_heads,
            image_size: self.image_size,
            patch_size: self.patch_size,
            layer_norm_eps: self.vit_block_eps,
            post_norm_eps: Some(self.ln_vision_eps),
            ..Blip2VisionConfig::default()
        }
    }

    fn projector(&self) -> QFormerConfig {
        QFormerConfig {
            hidden_size: self.qformer_hidden,
            num_hidden_layers: self.qformer_layers,
            num_attention_heads: self.qformer_heads,
            intermediate_size: self.qformer_mlp,
            layer_norm_eps: self.qformer_eps,
            cross_attention_frequency: self.cross_attention_freq,
            encoder_hidden_size: self.vit_width,
            ..QFormerConfig::default()
        }
    }
}

/// The template with picture and prompt in the place of `{}`.
fn frame(template: &str, home: Home) -> Result<Frame> {
    let Some((before, after)) = template.split_once("{}") else {
        let problem = "must hold {} where picture and prompt go".into();
        return Err(home.refuse("prompt_template", problem));
    };
    let pieces = [
        Piece::Text(format!("{before}<Img>")),
        Piece::Image,
        Piece::Text(format!("</Img> {{prompt}}{after}")),
    ];
    Ok(Frame::cut(pieces.to_vec(), IMAGE_HERE))
}
