//! What stands beside a golden file: tolerances, pictures and special ids (`case.json`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use debias_core::Picture;
use debias_weights::Checkpoint;
use serde::Deserialize;

use super::comparison::Comparison;
use super::golden::{Golden, Values};
use crate::batch::ImageFeatures;
use crate::change::View;
use crate::error::{Error, Result};
use crate::model::Model;

/// Reads a picture file.
pub type ReadPicture = fn(&Path) -> std::result::Result<Picture, String>;

/// Everything about a golden file that is not a tensor.
#[derive(Default)]
pub struct Case {
    written: CaseFile,
    folder: PathBuf,
    read: Option<ReadPicture>,
    pub(super) tolerances: BTreeMap<String, f64>,
}

/// `case.json`, as far as it is used.
#[derive(Default, Deserialize)]
#[serde(default)]
struct CaseFile {
    tolerance: BTreeMap<String, serde_json::Value>,
    prompts: Vec<CasePrompt>,
    image_token_id: Option<i64>,
    pad_token_id: Option<i64>,
    eos_token_id: Option<i64>,
    stop_token_id_for_generated_stop: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CasePrompt {
    image: Option<String>,
}

impl Case {
    /// Reads `case.json` of `files`, if there is one; its pictures lie in `folder` and are read by
    /// `read`. `config` is the model's own, which names the image token where the case does not.
    ///
    /// # Errors
    /// A malformed file.
    pub fn read(
        files: &Checkpoint,
        folder: &Path,
        config: Option<&serde_json::Value>,
        read: ReadPicture,
    ) -> Result<Self> {
        let mut written: CaseFile = files.json_if_present("case.json")?.unwrap_or_default();
        let named = |config: &serde_json::Value| {
            ["image_token_index", "image_token_id"]
                .iter()
                .find_map(|field| config.get(field)?.as_i64())
        };
        written.image_token_id = written.image_token_id.or(config.and_then(named));
        let tolerances = written.tolerance.iter();
        let tolerances = tolerances.filter_map(|(key, value)| Some((key.clone(), value.as_f64()?)));
        Ok(Self {
            tolerances: tolerances.collect(),
            written,
            folder: folder.to_owned(),
            read: Some(read),
        })
    }

    /// The pictures of the prompts, in order.
    ///
    /// # Errors
    /// An unreadable picture.
    pub(super) fn pictures(&self) -> Result<Vec<Picture>> {
        let Some(read) = self.read else {
            return Ok(Vec::new());
        };
        let files = self.written.prompts.iter();
        files
            .filter_map(|prompt| prompt.image.as_ref())
            .map(|file| read_picture(read, &self.folder, file))
            .collect()
    }

    /// Whether tensor `name` is an input: pixels and tile counts are where the pictures are not at
    /// hand, because then nothing is computed to be compared with them.
    pub(super) fn is_given(&self, name: &str) -> bool {
        let pictured = self
            .written
            .prompts
            .iter()
            .any(|prompt| prompt.image.is_some());
        !pictured && ["pixel_values", "tiles_per_image"].contains(&name)
    }

    /// Whether `id` marks the place of an image vector.
    pub(super) fn is_image(&self, id: i64) -> bool {
        id < 0 || self.written.image_token_id == Some(id)
    }

    /// What stands behind a stopped continuation.
    pub(super) fn pad(&self) -> i64 {
        let written = &self.written;
        written.pad_token_id.or(written.eos_token_id).unwrap_or(0)
    }

    /// The token that stops `generated_stop`.
    pub(super) fn stops(&self) -> Vec<u32> {
        let stop = self.written.stop_token_id_for_generated_stop;
        stop.and_then(|id| u32::try_from(id).ok())
            .into_iter()
            .collect()
    }

    /// The golden pixels through a view that may hold gradients.
    ///
    /// # Errors
    /// An unreadable golden file.
    pub(super) fn see_again(
        &self,
        model: &Model,
        golden: &Golden,
        view: &View,
    ) -> Result<Option<ImageFeatures>> {
        let Some(pixels) = golden.floats_if_present("pixel_values")? else {
            return Ok(None);
        };
        let side = model.sight()?.image_size();
        let total = pixels.len() / (3 * side * side).max(1);
        let tiles = match golden.ints("tiles_per_image") {
            Some(counts) => counts.iter().map(|n| (*n).max(0) as usize).collect(),
            None => vec![1; total],
        };
        Ok(Some(model.see_pixels(pixels, tiles, view)?))
    }
}

/// The picture `file` in `folder`.
///
/// # Errors
/// An unreadable picture.
pub(super) fn read_picture(read: ReadPicture, folder: &Path, file: &str) -> Result<Picture> {
    let path = folder.join(file);
    read(&path).map_err(|problem| Error::Picture {
        path: path.display().to_string(),
        problem,
    })
}

/// What two tensors may differ by: `absolute + relative * largest reference entry`.
pub(super) struct Tolerance {
    pub absolute: f64,
    relative: f64,
}

impl Tolerance {
    /// By the tensor's name; `given` overrides the published figures.
    pub fn of(name: &str, given: &BTreeMap<String, f64>) -> Self {
        let get = |key: &str, default: f64| given.get(key).copied().unwrap_or(default);
        let last = name.rsplit('.').next().unwrap_or(name);
        let relative = if name.starts_with("grad.") {
            get("grad_rel", 1e-3)
        } else {
            0.0
        };
        let absolute = match last {
            _ if name.starts_with("lowp.") => get("logits_bf16", 0.25),
            _ if name.starts_with("grad.") => get("grad_abs", 1e-5),
            "loss" => get("loss_f32", 1e-5),
            "logits" | "logits_tail" => get("logits_f32", 1e-4),
            "token_logprobs" => get("token_logprobs_f32", 1e-4),
            // A sum of as many terms as the answer has tokens.
            "seq_logprob" => 10.0 * get("token_logprobs_f32", 1e-4),
            "pixel_values"
            | "pixel_values_padded_square"
            | "squash"
            | "clip_crop"
            | "clip_pad_square"
            | "internvl_tiles" => get("pixel_values", 1e-5),
            "mean_pooled" | "sentence_embedding" | "cosine" => get("embedding", 1e-4),
            _ => get("hidden_f32", 1e-4),
        };
        Self { absolute, relative }
    }

    /// Compares values that should be the same.
    pub fn judge(
        &self,
        name: &str,
        shape: Vec<usize>,
        found: &Values,
        expected: &Values,
    ) -> Comparison {
        let (differences, largest, length): (f64, f64, bool) = match (found, expected) {
            (Values::Numbers(a), Values::Numbers(b)) => {
                let difference = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs()));
                let largest = b.iter().map(|b| f64::from(b.abs()));
                (greatest(difference), greatest(largest), a.len() == b.len())
            }
            (Values::Ids(a), Values::Ids(b)) => {
                let difference = a.iter().zip(b).map(|(a, b)| (a - b).abs() as f64);
                (greatest(difference), 1.0, a.len() == b.len())
            }
            _ => (f64::NAN, 1.0, false),
        };
        let exact = matches!(expected, Values::Ids(_));
        let tolerance = if exact {
            0.0
        } else {
            self.absolute + self.relative * largest
        };
        Comparison {
            name: name.to_owned(),
            shape,
            max_abs: Some(differences),
            max_rel: Some(differences / largest.max(f64::MIN_POSITIVE)),
            tolerance,
            computed_in: if name.starts_with("lowp.") {
                "bf16"
            } else {
                "f32"
            },
            ok: Some(length && differences <= tolerance),
        }
    }
}

/// The greatest of some numbers; NaN if one is.
fn greatest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |worst, value| {
        if value.is_nan() || worst.is_nan() {
            f64::NAN
        } else {
            worst.max(value)
        }
    })
}
