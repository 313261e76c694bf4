//! Rephrased images without a diffusion model: a geometric, then a photometric change.
//!
//! Every number is drawn as an integer from a hashed stream and every transcendental comes from
//! `libm` in Rust, so the bytes are the same on every machine. The optional JPEG pass of the
//! specification is left out because JPEG codecs differ between processors.

use debias_core::{Picture, seed};
use rand::Rng;
use serde::Serialize;

/// The drawn parameters of one rephrased image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mix {
    /// Mirrored left to right.
    pub flip: bool,
    /// Share of the area that is kept, 0.8 to 1.
    pub crop_area: f64,
    /// Position of the crop within the room it has, each 0 to 1.
    pub crop_at: [f64; 2],
    /// Rotation in degrees, -5 to 5; edges are replicated.
    pub rotation_deg: f64,
    /// Brightness factor, 0.8 to 1.2.
    pub brightness: f64,
    /// Contrast factor, 0.8 to 1.2.
    pub contrast: f64,
    /// Saturation factor, 0.7 to 1.3.
    pub saturation: f64,
    /// Hue shift in turns, -0.03 to 0.03.
    pub hue: f64,
    /// Standard deviation of the Gaussian blur in pixels, 0 to 1.
    pub blur_sigma: f64,
}

impl Mix {
    /// Draws the parameters for one record of one dataset.
    pub fn draw(seed: u64, dataset: &str, record: &str) -> Self {
        let mut rng = seed::stream(seed, &[dataset, "mix", record]);
        let mut within = |low: f64, high: f64| {
            low + (high - low) * f64::from(rng.random_range(0..=1000u32)) / 1e3
        };
        Self {
            crop_area: within(0.8, 1.0),
            crop_at: [within(0.0, 1.0), within(0.0, 1.0)],
            rotation_deg: within(-5.0, 5.0),
            brightness: within(0.8, 1.2),
            contrast: within(0.8, 1.2),
            saturation: within(0.7, 1.3),
            hue: within(-0.03, 0.03),
            blur_sigma: within(0.0, 1.0),
            flip: rng.random_range(0..2u32) == 1,
        }
    }

    /// Applies the change; the size stays.
    pub fn apply(&self, picture: &Picture) -> Picture {
        let mut pixels = self.geometric(picture);
        self.light(&mut pixels);
        for pixel in &mut pixels {
            *pixel = shift_hue(*pixel, self.hue);
        }
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let blurred = blur(pixels, width, height, self.blur_sigma);
        let rgb = blurred
            .into_iter()
            .flatten()
            .map(|value| (value + 0.5).clamp(0.0, 255.0) as u8)
            .collect();
        Picture::new(picture.width(), picture.height(), rgb)
            .expect("one pixel was made for each pixel of the source")
    }

    /// Crop, flip and rotation as one inverse mapping, so that pixels are resampled once.
    fn geometric(&self, picture: &Picture) -> Vec<[f64; 3]> {
        let (width, height) = (f64::from(picture.width()), f64::from(picture.height()));
        let side = self.crop_area.sqrt();
        let room = 1.0 - side;
        let [left, top] = [
            self.crop_at[0] * room * width,
            self.crop_at[1] * room * height,
        ];
        let angle = self.rotation_deg * std::f64::consts::PI / 180.0;
        let (sin, cos) = (libm::sin(angle), libm::cos(angle));
        let mut pixels = Vec::with_capacity(picture.rgb().len() / 3);
        for y in 0..picture.height() {
            for x in 0..picture.width() {
                let cropped = left + (f64::from(x) + 0.5) * side;
                let u = if self.flip { width - cropped } else { cropped } - width / 2.0;
                let v = top + (f64::from(y) + 0.5) * side - height / 2.0;
                let source = [
                    u * cos - v * sin + width / 2.0 - 0.5,
                    u * sin + v * cos + height / 2.0 - 0.5,
                ];
                pixels.push(sample(picture, source));
            }
        }
        pixels
    }

    /// Brightness, contrast about the mean grey, saturation about each pixel's grey.
    fn light(&self, pixels: &mut [[f64; 3]]) {
        for pixel in pixels.iter_mut() {
            *pixel = pixel.map(|value| (value * self.brightness).clamp(0.0, 255.0));
        }
        let mean = pixels.iter().map(grey).sum::<f64>() / pixels.len() as f64;
        for pixel in pixels {
            *pixel = pixel.map(|value| (mean + (value - mean) * self.contrast).clamp(0.0, 255.0));
            let own = grey(pixel);
            *pixel = pixel.map(|value| (own + (value - own) * self.saturation).clamp(0.0, 255.0));
        }
    }
}

/// Luma by the weights of ITU-R BT.601.
fn grey([r, g, b]: &[f64; 3]) -> f64 {
    0.299 * r + 0.587 * g + 0.114 * b
}

/// Bilinear sample with replicated edges.
fn sample(picture: &Picture, [x, y]: [f64; 2]) -> [f64; 3] {
    let (right, bottom) = (picture.width() - 1, picture.height() - 1);
    let (x, y) = (
        x.clamp(0.0, f64::from(right)),
        y.clamp(0.0, f64::from(bottom)),
    );
    let (x0, y0) = (x as u32, y as u32);
    let (x1, y1) = ((x0 + 1).min(right), (y0 + 1).min(bottom));
    let (fx, fy) = (x - f64::from(x0), y - f64::from(y0));
    let at = |x: u32, y: u32, channel: usize| {
        let start = (y as usize * picture.width() as usize + x as usize) * 3;
        f64::from(picture.rgb()[start + channel])
    };
    std::array::from_fn(|c| {
        let upper = at(x0, y0, c) * (1.0 - fx) + at(x1, y0, c) * fx;
        let lower = at(x0, y1, c) * (1.0 - fx) + at(x1, y1, c) * fx;
        upper * (1.0 - fy) + lower * fy
    })
}

/// Turns the hue by a fraction of the colour circle; value and chroma stay.
fn shift_hue([r, g, b]: [f64; 3], turn: f64) -> [f64; 3] {
    let high = r.max(g).max(b);
    let chroma = high - r.min(g).min(b);
    if chroma <= 0.0 {
        return [r, g, b];
    }
    let sextant = if high == r {
        (g - b) / chroma
    } else if high == g {
        (b - r) / chroma + 2.0
    } else {
        (r - g) / chroma + 4.0
    };
    let turned = (sextant + turn * 6.0 + 6.0) % 6.0;
    [5.0, 3.0, 1.0].map(|offset: f64| {
        let k = (offset + turned) % 6.0;
        high - chroma * k.min(4.0 - k).clamp(0.0, 1.0)
    })
}

/// Separable Gaussian blur with replicated edges.
fn blur(pixels: Vec<[f64; 3]>, width: usize, height: usize, sigma: f64) -> Vec<[f64; 3]> {
    let radius = libm::ceil(sigma * 3.0) as isize;
    if radius == 0 {
        return pixels;
    }
    let mut kernel: Vec<f64> = (-radius..=radius)
        .map(|at| libm::exp(-((at * at) as f64) / (2.0 * sigma * sigma)))
        .collect();
    let total: f64 = kernel.iter().sum();
    kernel.iter_mut().for_each(|weight| *weight /= total);

    let pass = |source: &[[f64; 3]], dx: isize, dy: isize| -> Vec<[f64; 3]> {
        (0..width * height)
            .map(|at| {
                let (x, y) = ((at % width) as isize, (at / width) as isize);
                let mut sum = [0.0; 3];
                for (weight, offset) in kernel.iter().zip(-radius..) {
                    let sx = (x + offset * dx).clamp(0, width as isize - 1) as usize;
                    let sy = (y + offset * dy).clamp(0, height as isize - 1) as usize;
                    let pixel = source[sy * width + sx];
                    for (total, value) in sum.iter_mut().zip(pixel) {
                        *total += weight * value;
                    }
                }
                sum
            })
            .collect()
    };
    let across = pass(&pixels, 1, 0);
    pass(&across, 0, 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONE: Mix = Mix {
        flip: false,
        crop_area: 1.0,
        crop_at: [0.0, 0.0],
        rotation_deg: 0.0,
        brightness: 1.0,
        contrast: 1.0,
        saturation: 1.0,
        hue: 0.0,
        blur_sigma: 0.0,
    };

    fn picture() -> Picture {
        let rgb = (0..12 * 8 * 3).map(|at| (at * 53 % 251) as u8).collect();
        Picture::new(12, 8, rgb).expect("size")
    }

    #[test]
    fn the_neutral_parameters_change_nothing() {
        assert_eq!(NONE.apply(&picture()), picture());
    }

    #[test]
    fn flip_mirrors() {
        let flipped = Mix { flip: true, ..NONE }.apply(&picture());
        assert_eq!(flipped.rgb()[..3], picture().rgb()[33..36]);
    }

    #[test]
    fn a_third_of_a_turn_sends_red_to_green() {
        let [r, g, b] = shift_hue([200.0, 0.0, 0.0], 1.0 / 3.0);
        assert!(r.abs() < 1e-9 && (g - 200.0).abs() < 1e-9 && b.abs() < 1e-9);
    }

    #[test]
    fn brightness_scales() {
        let grey = Picture::new(1, 1, vec![100, 100, 100]).expect("size");
        let lit = Mix {
            brightness: 1.2,
            ..NONE
        }
        .apply(&grey);
        assert_eq!(lit.rgb(), [120, 120, 120]);
    }

    proptest! {
        #[test]
        fn drawn_parameters_stay_within_the_specification(seed in any::<u64>(), id in "[a-z]{1,8}") {
            let mix = Mix::draw(seed, "pairs", &id);
            prop_assert_eq!(&mix, &Mix::draw(seed, "pairs", &id));
            prop_assert!((0.8..=1.0).contains(&mix.crop_area));
            prop_assert!((-5.0..=5.0).contains(&mix.rotation_deg));
            prop_assert!((0.8..=1.2).contains(&mix.brightness));
            prop_assert!((0.8..=1.2).contains(&mix.contrast));
            prop_assert!((0.7..=1.3).contains(&mix.saturation));
            prop_assert!((-0.03..=0.03).contains(&mix.hue));
            prop_assert!((0.0..=1.0).contains(&mix.blur_sigma));
            let changed = mix.apply(&picture());
            prop_assert_eq!(changed.rgb().len(), picture().rgb().len());
        }
    }
}
