//! From an 8-bit picture to the numbers a vision model reads.
//!
//! The steps are those of the processors published with the models: resize, crop in the middle or
//! cut into tiles, rescale, normalise. What would change the pixels and is not done here is
//! refused when the configuration is read.

mod colours;
mod processor;
mod resize;
mod tiling;

use debias_core::Picture;
use serde::Deserialize;

use crate::error::{Error, Result};

pub use colours::Colours;
use processor::{LONGEST_SIDE, ProcessorConfig, Size, levels};
pub use resize::resize_bicubic;
use resize::{Canvas, Filter, resample, taps};
use tiling::Tiling;

/// How pictures become model input: `preprocessor_config.json`, checked.
///
/// A picture gives one tile of always the same size, whatever its own size; where pictures are
/// cut into tiles, their number depends on the picture.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "ProcessorConfig")]
pub struct PixelConfig {
    resize: Size,
    width: usize,
    height: usize,
    filter: Filter,
    /// The value of each channel's 256 levels after rescaling and normalising.
    levels: [Vec<f32>; 3],
    mean: [f64; 3],
    pad_to_square: bool,
    tiling: Option<Tiling>,
}

impl TryFrom<ProcessorConfig> for PixelConfig {
    type Error = String;

    fn try_from(written: ProcessorConfig) -> std::result::Result<Self, String> {
        written.check()?;
        let filter = written.filter()?;
        let (resize, width, height) = written.geometry()?;
        let (factor, colours) = written.colours()?;
        Ok(Self {
            resize,
            width,
            height,
            filter,
            levels: levels(factor, &colours)?,
            mean: colours.mean,
            pad_to_square: written.pads(),
            tiling: written.tiling()?,
        })
    }
}

impl PixelConfig {
    /// Bicubic straight to `side` x `side` pixels, for models published without a usable
    /// `preprocessor_config.json`; `location` is the folder, for messages.
    ///
    /// # Errors
    /// When `side` is 0 or too large, or `colours` are not finite or divide by 0.
    pub fn squash(side: usize, colours: &Colours, location: &str) -> Result<Self> {
        Self::square("image_size", side, colours, location)
    }

    /// Tiles of `side` x `side` pixels in a grid of `min` to `max` tiles, followed with
    /// `thumbnail` by the whole picture where there is more than one: what the `config.json` of
    /// the original InternVL layout describes (`force_image_size`, `min_dynamic_patch`,
    /// `max_dynamic_patch`, `use_thumbnail`; where `dynamic_image_size` is false, use
    /// [`PixelConfig::squash`]).
    ///
    /// # Errors
    /// As [`PixelConfig::squash`], and when no grid has `min` to `max` tiles.
    pub fn tiled(
        side: usize,
        (min, max): (usize, usize),
        thumbnail: bool,
        colours: &Colours,
        location: &str,
    ) -> Result<Self> {
        let tiling = Tiling::new(min, max, thumbnail)
            .map_err(|problem| invalid("max_dynamic_patch", problem, location))?;
        Ok(Self {
            tiling: Some(tiling),
            ..Self::square("force_image_size", side, colours, location)?
        })
    }

    /// One square tile per picture; `field` is what config.json calls its `side`.
    fn square(field: &str, side: usize, colours: &Colours, location: &str) -> Result<Self> {
        if !(1..=LONGEST_SIDE).contains(&side) {
            let problem = format!("{side} is not a number of pixels up to {LONGEST_SIDE}");
            return Err(invalid(field, problem, location));
        }
        let levels = levels(1.0 / 255.0, colours)
            .map_err(|problem| invalid("image_mean and image_std", problem, location))?;
        Ok(Self {
            resize: Size::Sides {
                width: side,
                height: side,
            },
            width: side,
            height: side,
            filter: Filter::Bicubic,
            levels,
            mean: colours.mean,
            pad_to_square: false,
            tiling: None,
        })
    }

    /// The shortest edge to `side` pixels, then the square in the middle: CLIP's processor.
    ///
    /// # Errors
    /// As [`PixelConfig::squash`].
    pub fn cropped(side: usize, colours: &Colours, location: &str) -> Result<Self> {
        Ok(Self {
            resize: Size::ShortestEdge(side),
            ..Self::square("crop_size", side, colours, location)?
        })
    }

    /// Columns and rows of the grid that a picture of `width` x `height` pixels is cut into.
    pub fn grid(&self, width: usize, height: usize) -> (usize, usize) {
        let area = self.width * self.height;
        self.tiling
            .as_ref()
            .map_or((1, 1), |tiling| tiling.grid(width, height, area))
    }

    /// Pixels per row of a tile.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows of a tile.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Puts a picture into the middle of a square of the mean colour before anything else, as the
    /// original evaluation of LLaVA-1.5 does.
    #[must_use]
    pub fn padded_to_square(mut self) -> Self {
        self.pad_to_square = true;
        self
    }

    /// How many tiles [`PixelConfig::preprocess`] makes of `picture`: 1 where pictures are not cut.
    pub fn tiles(&self, picture: &Picture) -> usize {
        let canvas = self.canvas(picture);
        self.tiling.as_ref().map_or(1, |tiling| {
            let grid = tiling.grid(canvas.width, canvas.height, self.width * self.height);
            grid.0 * grid.1 + usize::from(tiling.thumbnail(grid))
        })
    }

    /// The most tiles that [`PixelConfig::preprocess`] makes of any picture.
    pub fn most_tiles(&self) -> usize {
        self.tiling.as_ref().map_or(1, Tiling::most)
    }

    /// The planar values `[tiles, 3, height, width]` of `picture`: resized, cropped in the middle
    /// or cut row by row into [`tiles`](PixelConfig::tiles), rescaled and normalised.
    pub fn preprocess(&self, picture: &Picture) -> Vec<f32> {
        let canvas = self.canvas(picture);
        let mut values = Vec::new();
        match &self.tiling {
            None => {
                let (width, height) = self.resize.of(canvas.width, canvas.height);
                self.one(&canvas, width, height, &mut values);
            }
            Some(tiling) => {
                let grid = tiling.grid(canvas.width, canvas.height, self.width * self.height);
                self.cut(&canvas, grid, &mut values);
                if tiling.thumbnail(grid) {
                    self.one(&canvas, self.width, self.height, &mut values);
                }
            }
        }
        values
    }

    fn canvas<'a>(&self, picture: &'a Picture) -> Canvas<'a> {
        if self.pad_to_square {
            // Truncated, as the original does it.
            Canvas::square(picture, self.mean.map(|mean| (255.0 * mean) as u8))
        } else {
            Canvas::of(picture)
        }
    }

    /// Appends the tile in the middle of the canvas at `width` x `height` pixels.
    fn one(&self, canvas: &Canvas, width: usize, height: usize, values: &mut Vec<f32>) {
        let left = (width - self.width) / 2;
        let top = (height - self.height) / 2;
        // Only the crop is computed: the resized whole of a very long picture would be huge.
        let columns = taps(self.filter, canvas.width, width, left..left + self.width);
        let rows = taps(self.filter, canvas.height, height, top..top + self.height);
        let bytes = resample(canvas, &columns, &rows);
        self.normalise(&bytes, self.width, 0, values);
    }

    /// Appends the tiles of a grid, row by row.
    fn cut(&self, canvas: &Canvas, grid: (usize, usize), values: &mut Vec<f32>) {
        let (width, height) = (grid.0 * self.width, grid.1 * self.height);
        let columns = taps(self.filter, canvas.width, width, 0..width);
        let rows = taps(self.filter, canvas.height, height, 0..height);
        let bytes = resample(canvas, &columns, &rows);
        for band in bytes.chunks_exact(3 * width * self.height) {
            for column in 0..grid.0 {
                self.normalise(band, width, column * self.width, values);
            }
        }
    }

    /// Appends the planar values of the tile whose first column is `left` in the interleaved
    /// `bytes`, `width` pixels to the row.
    fn normalise(&self, bytes: &[u8], width: usize, left: usize, values: &mut Vec<f32>) {
        for (channel, levels) in self.levels.iter().enumerate() {
            for line in bytes.as_chunks::<3>().0.chunks_exact(width) {
                let pixels = &line[left..left + self.width];
                values.extend(pixels.iter().map(|p| levels[usize::from(p[channel])]));
            }
        }
    }
}

fn invalid(field: &str, problem: String, location: &str) -> Error {
    Error::Config {
        location: location.to_owned(),
        field: field.to_owned(),
        problem,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::{Path, PathBuf};

    use debias_weights::Checkpoint;
    use serde_json::{Value, json};

    use super::resize::tests::noise;
    use super::*;

    /// The fixtures' folder; `None`, said on stderr, where there is none and CI does not ask for it.
    pub(crate) fn fixtures() -> Option<PathBuf> {
        let dir = std::env::var_os("DEBIAS_BENCH_FIXTURES").map(PathBuf::from);
        match dir.filter(|dir| dir.is_dir()) {
            Some(dir) => Some(dir),
            None => {
                let ci = std::env::var("CI").is_ok_and(|value| value == "true");
                assert!(!ci, "CI needs DEBIAS_BENCH_FIXTURES");
                // Not eprintln!: the test harness swallows it, and a skipped case must be seen.
                let _ = std::io::Write::write_all(
                    &mut std::io::stderr(),
                    b"SKIPPED 1 case: DEBIAS_BENCH_FIXTURES names no folder\n",
                );
                None
            }
        }
    }

    pub(super) fn config(value: Value) -> std::result::Result<PixelConfig, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    pub(super) fn clip(extra: Value) -> Value {
        let mut config = json!({
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "resample": 3,
            "rescale_factor": 0.00392156862745098,
        });
        for (key, value) in extra.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        config
    }

    fn picture(path: &Path) -> Picture {
        let image = image::open(path).expect("a fixture picture").into_rgb8();
        Picture::new(image.width(), image.height(), image.into_raw()).expect("not empty")
    }

    fn assert_close(found: &[f32], expected: &[f32], what: &str) {
        assert_eq!(found.len(), expected.len(), "{what}");
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() <= 1e-5, "{what}: {a} is not {b}");
        }
    }

    #[test]
    fn pillow_is_met_exactly_on_every_fixture_picture() {
        let Some(dir) = fixtures() else { return };
        let golden = Checkpoint::open_file(&dir.join("models/preproc/golden.safetensors"));
        let golden = golden.expect("a valid fixture");
        let squash = config(clip(json!({"size": {"height": 42, "width": 42}}))).expect("valid");
        let crop = clip(json!({
            "image_processor_type": "CLIPImageProcessor",
            "size": {"shortest_edge": 42}, "crop_size": {"height": 42, "width": 42},
        }));
        let crop = config(crop).expect("valid");
        let padded = crop.clone().padded_to_square();
        let tiled = PixelConfig::tiled(42, (1, 6), true, &Colours::IMAGENET, "x").expect("valid");
        for case in [
            "rgb_wide",
            "rgb_tall",
            "rgb_small",
            "rgba",
            "gray",
            "palette",
        ] {
            let planar = golden
                .raw(&format!("{case}.rgb_u8"))
                .expect("a golden tensor");
            let [_, h, w] = *planar.shape else {
                panic!("three sides")
            };
            let interleaved =
                (0..h * w).flat_map(|i| [0, 1, 2].map(|c| planar.bytes[c * h * w + i]));
            let picture =
                Picture::new(w as u32, h as u32, interleaved.collect()).expect("not empty");
            let resized = resize_bicubic(&picture, 42, 42).expect("not empty");
            let expected = golden
                .raw(&format!("{case}.squash_u8"))
                .expect("a golden tensor")
                .bytes;
            let planes = (0..3).flat_map(|c| resized.rgb().iter().skip(c).step_by(3));
            assert!(planes.eq(expected), "{case}");
            for (name, config) in [
                ("squash", &squash),
                ("clip_crop", &crop),
                ("clip_pad_square", &padded),
            ] {
                let name = format!("{case}.{name}");
                let expected = golden.f32(&name, &[3, 42, 42]).expect("a golden tensor");
                assert_close(&config.preprocess(&picture), &expected, &name);
            }
            let name = format!("{case}.internvl_tiles");
            let shape = [tiled.tiles(&picture), 3, 42, 42];
            let expected = golden.f32(&name, &shape).expect("a golden tensor");
            assert_close(&tiled.preprocess(&picture), &expected, &name);
        }
    }

    #[test]
    fn published_configurations_give_the_published_pixel_values() {
        let Some(dir) = fixtures() else { return };
        for (case, tensor, pad) in [
            ("blip2_opt", "pixel_values", false),
            ("blip2_llama", "pixel_values", false),
            ("llava", "pixel_values", false),
            ("llava", "pixel_values_padded_square", true),
            ("glm4v_9b", "pixel_values", false),
            ("internvl", "pixel_values", false),
        ] {
            let dir = dir.join("models").join(case);
            let golden = Checkpoint::open_file(&dir.join("golden.safetensors")).expect("valid");
            let mut config: PixelConfig = golden.json("preprocessor_config.json").expect("valid");
            if pad {
                config = config.padded_to_square();
            }
            assert_golden(&golden, &dir, tensor, &config);
        }
    }

    /// Compares the fixture's two pictures, and their tiles where case.json counts them.
    fn assert_golden(golden: &Checkpoint, dir: &Path, tensor: &str, config: &PixelConfig) {
        let pictures = ["image_0.png", "image_1.png"].map(|file| picture(&dir.join(file)));
        let tiles = pictures.each_ref().map(|p| config.tiles(p));
        let case: Value = golden.json("case.json").expect("a fixture");
        let expected = case.get("tiles_per_image").cloned();
        assert_eq!(json!(tiles), expected.unwrap_or(json!([1, 1])), "{dir:?}");
        let values: Vec<f32> = pictures.iter().flat_map(|p| config.preprocess(p)).collect();
        let shape = [tiles[0] + tiles[1], 3, config.height(), config.width()];
        let expected = golden.f32(tensor, &shape).expect("a golden tensor");
        assert_close(&values, &expected, tensor);
    }

    #[test]
    fn layouts_without_a_usable_processor_give_the_published_pixel_values() {
        let Some(dir) = fixtures() else { return };
        for case in [
            "internvl_chat",
            "internvl_chat_qwen2",
            "minigpt4",
            "glm4v_9b",
        ] {
            let dir = dir.join("models").join(case);
            let golden = Checkpoint::open_file(&dir.join("golden.safetensors")).expect("valid");
            let config = if case.starts_with("internvl") {
                let written: Value = golden.json("config.json").expect("a configuration");
                let number = |key: &str| written[key].as_u64().expect("a number") as usize;
                let grids = (number("min_dynamic_patch"), number("max_dynamic_patch"));
                let side = number("force_image_size");
                PixelConfig::tiled(side, grids, true, &Colours::IMAGENET, case)
            } else {
                let side = golden.info("pixel_values").expect("a golden tensor").shape[3];
                PixelConfig::squash(side, &Colours::CLIP, case)
            };
            assert_golden(&golden, &dir, "pixel_values", &config.expect("valid"));
        }
        let impossible = PixelConfig::squash(0, &Colours::CLIP, "DIR").expect_err("no pixels");
        assert_eq!(
            impossible.to_string(),
            "DIR: config.json: `image_size` 0 is not a number of pixels up to 8192"
        );
        let impossible = PixelConfig::tiled(8, (3, 2), true, &Colours::CLIP, "DIR");
        let message = impossible.expect_err("no grid").to_string();
        assert!(
            message.contains("`max_dynamic_patch` from 3 to 2 tiles"),
            "{message}"
        );
    }

    #[test]
    fn a_crop_is_the_middle_of_the_resized_whole() {
        let values = json!({
            "size": {"shortest_edge": 20}, "do_center_crop": true,
            "crop_size": {"height": 15, "width": 10}, "do_rescale": false, "do_normalize": false,
        });
        let config = config(values).expect("valid");
        assert_eq!((config.width(), config.height()), (10, 15));
        for (w, h) in [(57, 31), (31, 57), (40, 40)] {
            let picture = noise(w, h);
            let (width, height) = config.resize.of(w as usize, h as usize);
            let whole = resize_bicubic(&picture, width as u32, height as u32).expect("not empty");
            let (left, top) = ((width - 10) / 2, (height - 15) / 2);
            let expected = (0..3)
                .flat_map(|c| (0..15).map(move |y| (c, y)))
                .flat_map(|(c, y)| {
                    let start = ((top + y) * width + left) * 3 + c;
                    whole.rgb()[start..]
                        .iter()
                        .step_by(3)
                        .take(10)
                        .map(|byte| f32::from(*byte))
                });
            assert_eq!(config.preprocess(&picture), expected.collect::<Vec<_>>());
        }
    }

    /// The resized whole would have 1.3 billion pixels, the square 40 billion.
    #[test]
    fn very_long_pictures_cost_no_more_than_their_crop() {
        let values = clip(json!({
            "feature_extractor_type": "CLIPFeatureExtractor", "size": 8, "crop_size": 8,
        }));
        let config = config(values).expect("valid");
        for (w, h) in [(200_000, 1), (1, 200_000)] {
            let picture = noise(w, h);
            assert_eq!(config.preprocess(&picture).len(), 3 * 8 * 8);
            let padded = config.clone().padded_to_square();
            assert_eq!(padded.preprocess(&picture).len(), 3 * 8 * 8);
        }
    }
}
