//! From an 8-bit picture to the numbers a vision model reads.
//!
//! The steps are those of the processors published with the models: resize, crop in the middle,
//! rescale, normalise. What would change the pixels and is not done here is refused when the
//! configuration is read.

mod resize;
mod written;

use debias_core::Picture;
use serde::Deserialize;

pub use resize::resize_bicubic;
use resize::{Canvas, Filter, resample, taps};
use written::{Size, Written};

/// How pictures become model input: `preprocessor_config.json`, checked.
///
/// Every picture gives the same number of values, whatever its own size.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Written")]
pub struct PixelConfig {
    resize: Size,
    width: usize,
    height: usize,
    filter: Filter,
    /// The value of each channel's 256 levels after rescaling and normalising.
    levels: [Vec<f32>; 3],
    mean: [f64; 3],
    pad_to_square: bool,
}

impl PixelConfig {
    /// Pixels per row of a prepared picture.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows of a prepared picture.
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

    /// The planar values `[3, height, width]` of `picture`: resized, cropped in the middle,
    /// rescaled and normalised.
    pub fn preprocess(&self, picture: &Picture) -> Vec<f32> {
        let canvas = if self.pad_to_square {
            // Truncated, as the original does it.
            Canvas::square(picture, self.mean.map(|mean| (255.0 * mean) as u8))
        } else {
            Canvas::of(picture)
        };
        let (width, height) = self.resize.of(canvas.width, canvas.height);
        let left = (width - self.width) / 2;
        let top = (height - self.height) / 2;
        // Only the crop is computed: the resized whole of a very long picture would be huge.
        let columns = taps(self.filter, canvas.width, width, left..left + self.width);
        let rows = taps(self.filter, canvas.height, height, top..top + self.height);
        let bytes = resample(&canvas, &columns, &rows);
        let plane = |(channel, levels): (usize, &Vec<f32>)| {
            let values = bytes.iter().skip(channel).step_by(3);
            values.map(|byte| levels[usize::from(*byte)]).collect()
        };
        let planes: Vec<Vec<f32>> = self.levels.iter().enumerate().map(plane).collect();
        planes.concat()
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

    pub(super) fn config(value: Value) -> Result<PixelConfig, String> {
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
        ] {
            let dir = dir.join("models").join(case);
            let golden = Checkpoint::open_file(&dir.join("golden.safetensors")).expect("valid");
            let mut config: PixelConfig = golden.json("preprocessor_config.json").expect("valid");
            if pad {
                config = config.padded_to_square();
            }
            let pictures = ["image_0.png", "image_1.png"].map(|file| picture(&dir.join(file)));
            let values: Vec<f32> = pictures.iter().flat_map(|p| config.preprocess(p)).collect();
            let expected = golden
                .f32(tensor, &[2, 3, config.height(), config.width()])
                .expect("a golden tensor");
            assert_close(&values, &expected, case);
        }
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
