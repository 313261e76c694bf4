//! Pictures through every processor, compared with a golden file that knows no model.
//!
//! Its tensors are called `<picture>.<what was done>`; `case.json` beside it names the files of the
//! pictures and the grids into which pictures of other sizes are cut.

use std::collections::BTreeMap;
use std::path::Path;

use debias_core::Picture;
use debias_weights::Checkpoint;
use serde::Deserialize;
use serde_json::Value;

use super::case::{ReadPicture, Tolerance, read_picture};
use super::comparison::Comparison;
use super::golden::{Golden, Values};
use super::{Case, compare};
use crate::error::Result;
use crate::pixels::{Colours, PixelConfig, resize_bicubic};

/// `case.json`, as far as pictures need it.
#[derive(Deserialize)]
struct PictureFile {
    arch: String,
    size: usize,
    internvl_max_patches: usize,
    cases: Vec<PictureCase>,
    #[serde(default)]
    internvl_grid_cases: Vec<GridCase>,
}

/// One picture.
#[derive(Deserialize)]
struct PictureCase {
    name: String,
    file: String,
    internvl_columns_rows: [i64; 2],
}

/// A picture of which only the size is known, and its grid.
#[derive(Deserialize)]
struct GridCase {
    width: usize,
    height: usize,
    tile: usize,
    min: usize,
    max: usize,
    columns_rows: [i64; 2],
}

/// What was compared, and what the golden file says it is of.
pub struct Compared {
    /// The name that the case has.
    pub arch: String,
    /// Every tensor and every grid.
    pub tensors: Vec<Comparison>,
}

/// Compares everything in `golden`, if it is of pictures alone; `None` where it is of a model. The
/// pictures lie in `folder` and are read by `read`.
///
/// # Errors
/// A malformed `case.json`, an unreadable picture.
pub fn verify_pictures(
    golden: &Checkpoint,
    folder: &Path,
    read: ReadPicture,
) -> Result<Option<Compared>> {
    let written: Option<BTreeMap<String, Value>> = golden.json_if_present("case.json")?;
    if !written.is_some_and(|written| written.contains_key("pipelines")) {
        return Ok(None);
    }
    let file: PictureFile = golden.json("case.json")?;
    let case = Case::read(golden, folder, None, read)?;
    let processors = Processors::new(&file, &golden.location())?;
    let mut found = BTreeMap::new();
    let mut grids = Vec::new();
    for picture in &file.cases {
        let read = read_picture(read, folder, &picture.file)?;
        for (pipeline, values) in processors.values(&read) {
            found.insert(format!("{}.{pipeline}", picture.name), values);
        }
        let grid = processors
            .tiled
            .grid(read.width() as usize, read.height() as usize);
        let name = format!("{}.internvl_columns_rows", picture.name);
        grids.push(compared(name, grid, picture.internvl_columns_rows));
    }
    for case in &file.internvl_grid_cases {
        let GridCase {
            width,
            height,
            tile,
            min,
            max,
            ..
        } = *case;
        let tiled = PixelConfig::tiled(tile, (min, max), true, &Colours::IMAGENET, "case.json")?;
        let name = format!("internvl_grid.{width}x{height}.{min}-{max}");
        grids.push(compared(name, tiled.grid(width, height), case.columns_rows));
    }
    let mut tensors = compare(&Golden(golden), &case, &found);
    tensors.append(&mut grids);
    Ok(Some(Compared {
        arch: file.arch,
        tensors,
    }))
}

/// The processors of the published models at one size.
struct Processors {
    size: usize,
    squash: PixelConfig,
    crop: PixelConfig,
    tiled: PixelConfig,
}

impl Processors {
    fn new(file: &PictureFile, location: &str) -> Result<Self> {
        let size = file.size;
        let crop = PixelConfig::cropped(size, &Colours::CLIP, location)?;
        let grids = (1, file.internvl_max_patches);
        Ok(Self {
            size,
            squash: PixelConfig::squash(size, &Colours::CLIP, location)?,
            crop,
            tiled: PixelConfig::tiled(size, grids, true, &Colours::IMAGENET, location)?,
        })
    }

    /// What every processor makes of `picture`, by the processor's name in golden files.
    fn values(&self, picture: &Picture) -> Vec<(&'static str, Values)> {
        let side = u32::try_from(self.size).unwrap_or(u32::MAX);
        let resized = resize_bicubic(picture, side, side);
        let numbers = |config: &PixelConfig| Values::Numbers(config.preprocess(picture));
        let mut values = vec![
            ("rgb_u8", planar(picture)),
            ("squash", numbers(&self.squash)),
            ("clip_crop", numbers(&self.crop)),
            (
                "clip_pad_square",
                numbers(&self.crop.clone().padded_to_square()),
            ),
            ("internvl_tiles", numbers(&self.tiled)),
        ];
        values.extend(resized.map(|resized| ("squash_u8", planar(&resized))));
        values
    }
}

/// The bytes of a picture, channel by channel.
fn planar(picture: &Picture) -> Values {
    let channel = |c| picture.rgb().iter().skip(c).step_by(3);
    let bytes = (0..3).flat_map(channel);
    Values::Ids(bytes.map(|byte| i64::from(*byte)).collect())
}

fn compared(name: String, (columns, rows): (usize, usize), expected: [i64; 2]) -> Comparison {
    let found = Values::Ids(vec![columns as i64, rows as i64]);
    let tolerance = Tolerance::of(&name, &BTreeMap::new());
    tolerance.judge(&name, vec![2], &found, &Values::Ids(expected.to_vec()))
}
