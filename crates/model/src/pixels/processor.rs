//! What `preprocessor_config.json` may say.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::colours::Colours;
use super::resize::Filter;
use super::tiling::Tiling;

/// Largest side of a prepared picture; published models use up to 1344.
pub(super) const LONGEST_SIDE: usize = 8192;

/// Steps of other processors that change the pixels and are not done here.
const FOREIGN: [&str; 8] = [
    "crop_pct",
    "do_image_splitting",
    "do_pan_and_scan",
    "image_grid_pinpoints",
    "max_pixels",
    "min_pixels",
    "rescale_offset",
    "size_divisor",
];

/// A size as configurations write it.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Value")]
pub(super) enum Size {
    /// One number, whose meaning depends on the processor.
    Number(usize),
    Sides {
        width: usize,
        height: usize,
    },
    ShortestEdge(usize),
}

impl Size {
    /// Width and height of a `width` x `height` picture after the resize.
    pub(super) fn of(self, width: usize, height: usize) -> (usize, usize) {
        match self {
            Self::Sides { width, height } => (width, height),
            // The longer side is truncated, not rounded, in the reference.
            Self::Number(edge) | Self::ShortestEdge(edge) if width <= height => {
                (edge, edge * height / width)
            }
            Self::Number(edge) | Self::ShortestEdge(edge) => (edge * width / height, edge),
        }
    }
}

impl TryFrom<Value> for Size {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let side = |value: &Value| {
            let side = value.as_u64().and_then(|n| usize::try_from(n).ok());
            side.filter(|n| (1..=LONGEST_SIDE).contains(n))
                .ok_or_else(|| format!("`{value}` is not a number of pixels up to {LONGEST_SIDE}"))
        };
        let object = match &value {
            Value::Object(object) => object,
            Value::Array(sides) if sides.len() == 2 => {
                return Ok(Self::Sides {
                    height: side(&sides[0])?,
                    width: side(&sides[1])?,
                });
            }
            number => return side(number).map(Self::Number),
        };
        let at = |key: &str| object.get(key).filter(|value| !value.is_null());
        match (at("width"), at("height"), at("shortest_edge"), object.len()) {
            (Some(width), Some(height), None, 2) => Ok(Self::Sides {
                width: side(width)?,
                height: side(height)?,
            }),
            (None, None, Some(edge), 1) => Ok(Self::ShortestEdge(side(edge)?)),
            _ => Err(format!(
                "`{value}` is not supported: write height and width, or shortest_edge alone"
            )),
        }
    }
}

/// `preprocessor_config.json` as it is written; other keys have no influence on the pixels.
#[derive(Deserialize)]
pub(super) struct ProcessorConfig {
    image_processor_type: Option<String>,
    feature_extractor_type: Option<String>,
    do_resize: Option<bool>,
    size: Size,
    resample: Option<u32>,
    do_center_crop: Option<bool>,
    crop_size: Option<Size>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Option<[f64; 3]>,
    image_std: Option<[f64; 3]>,
    do_pad: Option<bool>,
    crop_to_patches: Option<bool>,
    min_patches: Option<usize>,
    max_patches: Option<usize>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl ProcessorConfig {
    /// Refuses steps that would change the pixels and are not done here.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.do_resize == Some(false) {
            return Err("`do_resize` false is not supported: the model takes one size".to_owned());
        }
        for key in FOREIGN {
            match self.others.get(key) {
                None | Some(Value::Null | Value::Bool(false)) => {}
                Some(_) => {
                    return Err(format!(
                        "`{key}` is a step of a processor that is not supported"
                    ));
                }
            }
        }
        if self.pads() && !self.is_of("Llava") {
            return Err("`do_pad` true is not supported by this processor".to_owned());
        }
        Ok(())
    }

    /// Whether pictures become squares first: LLaVA's own processor pads as the original
    /// evaluation does.
    pub(super) fn pads(&self) -> bool {
        self.do_pad == Some(true)
    }

    pub(super) fn filter(&self) -> Result<Filter, String> {
        match self.resample {
            Some(2) => Ok(Filter::Bilinear),
            Some(3) | None => Ok(Filter::Bicubic),
            Some(other) => Err(format!(
                "`resample` {other} is not supported: write 2 (bilinear) or 3 (bicubic)"
            )),
        }
    }

    /// Whether this is the configuration of the `family`'s processor.
    fn is_of(&self, family: &str) -> bool {
        let kind = self.image_processor_type.as_ref();
        let kind = kind.or(self.feature_extractor_type.as_ref());
        let rest = kind.and_then(|kind| kind.strip_prefix(family));
        rest.is_some_and(|rest| rest.starts_with("ImageProcessor") || rest == "FeatureExtractor")
    }

    /// The grids of tiles, where there are any.
    pub(super) fn tiling(&self) -> Result<Option<Tiling>, String> {
        if self.crop_to_patches != Some(true) {
            return Ok(None);
        }
        if self.do_center_crop == Some(true) {
            return Err("`crop_to_patches` and `do_center_crop` exclude each other".to_owned());
        }
        let (min, max) = (
            self.min_patches.unwrap_or(1),
            self.max_patches.unwrap_or(12),
        );
        // The reference always appends the whole picture.
        Tiling::new(min, max, true)
            .map(Some)
            .map_err(|problem| format!("`min_patches`, `max_patches`: {problem}"))
    }

    /// The resize, and width and height after the crop.
    pub(super) fn geometry(&self) -> Result<(Size, usize, usize), String> {
        let clip = self.is_of("CLIP") || self.is_of("Llava");
        let resize = match self.size {
            // CLIP's processors read one number as the shortest edge, all others as a square.
            Size::Number(edge) if clip => Size::ShortestEdge(edge),
            size => square(size),
        };
        let crop = if self.do_center_crop.unwrap_or(clip) {
            Some(square(
                self.crop_size
                    .ok_or("`crop_size` is required and missing")?,
            ))
        } else {
            None
        };
        let smallest = match resize {
            Size::Sides { width, height } => (width, height),
            Size::Number(edge) | Size::ShortestEdge(edge) => (edge, edge),
        };
        match (resize, crop) {
            (Size::Sides { width, height }, None) => Ok((resize, width, height)),
            (_, Some(Size::Sides { width, height }))
                if width <= smallest.0 && height <= smallest.1 =>
            {
                Ok((resize, width, height))
            }
            (_, Some(Size::Sides { .. })) => {
                Err("`crop_size` is larger than `size`: the crop must lie inside".to_owned())
            }
            (_, Some(_)) => Err("`crop_size` needs height and width".to_owned()),
            (_, None) => Err(
                "`size` with shortest_edge needs `do_center_crop` true: the model takes one size"
                    .to_owned(),
            ),
        }
    }

    /// The factor of the rescaling, and what normalises.
    pub(super) fn colours(&self) -> Result<(f64, Colours), String> {
        let factor = match (self.do_rescale.unwrap_or(true), self.rescale_factor) {
            (false, _) => 1.0,
            (true, None) => 1.0 / 255.0,
            (true, Some(factor)) if factor.is_finite() && factor > 0.0 => factor,
            (true, Some(factor)) => {
                return Err(format!(
                    "`rescale_factor` {factor} is not a positive number"
                ));
            }
        };
        let colours = if self.do_normalize.unwrap_or(true) {
            Colours {
                mean: self
                    .image_mean
                    .ok_or("`image_mean` is required and missing")?,
                std: self
                    .image_std
                    .ok_or("`image_std` is required and missing")?,
            }
        } else {
            Colours {
                mean: [0.0; 3],
                std: [1.0; 3],
            }
        };
        Ok((factor, colours))
    }
}

/// The value of every level of every channel.
pub(super) fn levels(factor: f64, colours: &Colours) -> Result<[Vec<f32>; 3], String> {
    let Colours { mean, std } = colours;
    if !mean.iter().all(|mean| mean.is_finite()) {
        return Err("`image_mean` is not finite".to_owned());
    }
    if !std.iter().all(|std| std.is_finite() && *std > 0.0) {
        return Err("`image_std` must be positive".to_owned());
    }
    // Rescaled in f64, rounded to f32, normalised in f32: the reference's own order.
    Ok([0, 1, 2].map(|channel| {
        let level = |byte| (f64::from(byte) * factor) as f32;
        (0..=u8::MAX)
            .map(|byte| (level(byte) - mean[channel] as f32) / std[channel] as f32)
            .collect()
    }))
}

/// One number read as a square.
fn square(size: Size) -> Size {
    match size {
        Size::Number(side) => Size::Sides {
            width: side,
            height: side,
        },
        size => size,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{clip, config};

    #[test]
    fn unsupported_configurations_are_refused_by_field() {
        let side = json!({"height": 4, "width": 4});
        for (extra, said) in [
            (json!({}), "missing field `size`"),
            (json!({"size": 0}), "`0` is not a number of pixels"),
            (
                json!({"size": 100_000}),
                "`100000` is not a number of pixels",
            ),
            (
                json!({"size": {"height": 4}}),
                "write height and width, or shortest_edge alone",
            ),
            (
                json!({"size": {"shortest_edge": 4, "longest_edge": 8}}),
                "shortest_edge alone",
            ),
            (
                json!({"size": {"shortest_edge": 4}}),
                "needs `do_center_crop` true",
            ),
            (
                json!({"size": side, "resample": 1}),
                "`resample` 1 is not supported",
            ),
            (
                json!({"size": side, "do_resize": false}),
                "`do_resize` false",
            ),
            (json!({"size": side, "do_pad": true}), "`do_pad` true"),
            (
                json!({"size": side, "crop_to_patches": true, "max_patches": 0}),
                "`max_patches`: from 1 to 0 tiles",
            ),
            (
                json!({"size": side, "crop_to_patches": true, "do_center_crop": true, "crop_size": 4}),
                "exclude each other",
            ),
            (
                json!({"size": side, "image_grid_pinpoints": [[336, 672]]}),
                "`image_grid_pinpoints` is a step",
            ),
            (json!({"size": [4]}), "`[4]` is not a number of pixels"),
            (
                json!({"size": side, "do_center_crop": true}),
                "`crop_size` is required",
            ),
            (
                json!({"size": side, "do_center_crop": true, "crop_size": 5}),
                "larger than `size`",
            ),
            (
                json!({"size": side, "do_center_crop": true, "crop_size": {"shortest_edge": 4}}),
                "`crop_size` needs height and width",
            ),
            (
                json!({"size": side, "image_mean": null}),
                "`image_mean` is required",
            ),
            (
                json!({"size": side, "image_mean": [0.5]}),
                "invalid length 1",
            ),
            (
                json!({"size": side, "image_std": [0.5, 0.0, 0.5]}),
                "`image_std` must be positive",
            ),
            (
                json!({"size": side, "rescale_factor": 0}),
                "`rescale_factor` 0",
            ),
        ] {
            let error = config(clip(extra.clone())).expect_err("not supported");
            assert!(error.contains(said), "{extra}: {error}");
        }
        let tolerated = clip(json!({
            "size": side, "note": "any", "do_convert_rgb": true, "rescale_offset": false,
            "max_pixels": null, "crop_to_patches": false,
        }));
        assert_eq!(config(tolerated).expect("valid").width(), 4);
        let sides = config(clip(json!({"size": [4, 6]}))).expect("valid");
        assert_eq!((sides.height(), sides.width()), (4, 6));
    }

    #[test]
    fn the_processor_of_llava_pads_where_it_is_told_to() {
        let read = |kind: &str, pad: bool| {
            config(clip(json!({
                "image_processor_type": kind, "size": {"shortest_edge": 8},
                "crop_size": {"height": 8, "width": 8}, "do_pad": pad,
            })))
        };
        let plain = read("CLIPImageProcessor", false).expect("valid");
        assert_eq!(read("LlavaImageProcessor", false), Ok(plain.clone()));
        let padded = read("LlavaImageProcessorFast", true);
        assert_eq!(padded, Ok(plain.padded_to_square()));
        assert!(read("CLIPImageProcessor", true).is_err());
        assert!(read("LlavaNextImageProcessor", true).is_err());
    }
}
