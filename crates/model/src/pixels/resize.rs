//! Resizing as Pillow does it, byte for byte.
//!
//! The published models were trained on pictures resized by Pillow, and Pillow's rounding shows
//! in the logits. No crate resizes to the same bytes (they run the vertical pass first), so the
//! two passes are written here: convolution with a kernel widened by the reduction, weights
//! rounded to 22 fractional bits, horizontal pass first, and the result of each pass rounded and
//! clipped to 8 bits.

use std::ops::Range;

use debias_core::Picture;

/// Fractional bits of a weight: 32 less 8 for the value and 2 for overshoot.
const FRACTION: u32 = 22;

/// Lines of the horizontal pass that are summed side by side.
const LINES: usize = 16;

/// Columns of the horizontal pass that are turned at a time.
const COLUMNS: usize = 32;

/// Bytes of a line of the vertical pass that are summed side by side.
const STRIP: usize = 64;

/// `picture` at `width` x `height` pixels, byte for byte as Pillow's bicubic filter (horizontal
/// pass first) gives it; `None` when a side is 0.
pub fn resize_bicubic(picture: &Picture, width: u32, height: u32) -> Option<Picture> {
    let canvas = Canvas::of(picture);
    let (w, h) = (width as usize, height as usize);
    let columns = taps(Filter::Bicubic, canvas.width, w, 0..w);
    let rows = taps(Filter::Bicubic, canvas.height, h, 0..h);
    if columns.is_empty() || rows.is_empty() {
        return None;
    }
    Picture::new(width, height, resample(&canvas, &columns, &rows))
}

/// A convolution kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Filter {
    Bilinear,
    Bicubic,
}

impl Filter {
    /// Half the kernel's width in source pixels when nothing is reduced.
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    /// The kernel at distance `x`; bicubic with a = -1/2.
    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Self::Bilinear => (1.0 - x).max(0.0),
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Self::Bicubic => 0.0,
        }
    }
}

/// The source pixels of one output pixel, with weights in units of `2^-FRACTION`.
pub(super) struct Taps {
    /// First source pixel.
    first: usize,
    /// Weights of it and the following ones.
    weights: Vec<i32>,
    /// The sum of the weights.
    total: i32,
}

impl Taps {
    /// The sum over a source of one `value`, half a unit included for the rounding.
    #[inline(always)]
    fn plain(&self, value: u8) -> i32 {
        (1 << (FRACTION - 1)) + self.total * i32::from(value)
    }

    /// The weights that fall on source pixels `from` and later, and the index of the first of
    /// these pixels counted from `from`.
    fn inside(&self, from: usize) -> (usize, &[i32]) {
        let skipped = from.saturating_sub(self.first).min(self.weights.len());
        (
            (self.first + skipped).saturating_sub(from),
            &self.weights[skipped..],
        )
    }
}

/// The taps of the output pixels in `window`, when `source` pixels become `target`.
pub(super) fn taps(
    filter: Filter,
    source: usize,
    target: usize,
    window: Range<usize>,
) -> Vec<Taps> {
    let scale = source as f64 / target as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    window
        .map(|position| {
            let centre = (position as f64 + 0.5) * scale;
            // Casts truncate towards zero and clip negative numbers to 0.
            let first = (centre - support + 0.5) as usize;
            let end = ((centre + support + 0.5) as usize).min(source);
            let weights: Vec<f64> = (first..end)
                .map(|pixel| filter.weight((pixel as f64 - centre + 0.5) * (1.0 / stretch)))
                .collect();
            let total: f64 = weights.iter().sum();
            let fixed = |weight: &f64| {
                let scaled = weight / total * f64::from(1 << FRACTION);
                (scaled + 0.5_f64.copysign(scaled)) as i32
            };
            let weights: Vec<i32> = weights.iter().map(fixed).collect();
            Taps {
                first,
                total: weights.iter().sum(),
                weights,
            }
        })
        .collect()
}

/// A picture, perhaps in the middle of a square of one colour that is never stored.
pub(super) struct Canvas<'a> {
    picture: &'a Picture,
    pub(super) width: usize,
    pub(super) height: usize,
    /// Where the picture's first pixel lies.
    left: usize,
    top: usize,
    fill: [u8; 3],
}

impl<'a> Canvas<'a> {
    pub(super) fn of(picture: &'a Picture) -> Self {
        Self {
            picture,
            width: picture.width() as usize,
            height: picture.height() as usize,
            left: 0,
            top: 0,
            fill: [0; 3],
        }
    }

    pub(super) fn square(picture: &'a Picture, fill: [u8; 3]) -> Self {
        let Self { width, height, .. } = Self::of(picture);
        let side = width.max(height);
        Self {
            picture,
            width: side,
            height: side,
            left: (side - width) / 2,
            top: (side - height) / 2,
            fill,
        }
    }
}

/// The interleaved bytes `[rows, columns, 3]` of the output pixels described by the taps.
///
/// Only the picture itself is visited: what surrounds it enters as one sum per output pixel, and
/// the picture as its difference from it, which integers keep exact.
pub(super) fn resample(canvas: &Canvas, columns: &[Taps], rows: &[Taps]) -> Vec<u8> {
    // Integers add up to the same bytes whichever instructions the processor has.
    pulp::Arch::new().dispatch(Passes {
        canvas,
        columns,
        rows,
    })
}

/// Both passes, compiled once for every set of vector instructions: what they call has to be
/// inlined to be part of that.
struct Passes<'a> {
    canvas: &'a Canvas<'a>,
    columns: &'a [Taps],
    rows: &'a [Taps],
}

impl pulp::NullaryFnOnce for Passes<'_> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn call(self) -> Vec<u8> {
        let blank: Vec<u8> = self
            .columns
            .iter()
            .flat_map(|taps| self.canvas.fill.map(|fill| clip(taps.plain(fill))))
            .collect();
        // Taps move forward with the output, so the first and the last bound the lines needed.
        let top = self.canvas.top;
        let lines = needed(self.rows, top, self.canvas.picture.height() as usize);
        let above = lines.start;
        let narrow = self.horizontal(lines, blank.len());
        self.vertical(&narrow, above, &blank)
    }
}

impl Passes<'_> {
    /// The picture's `lines` with the output's columns, `stride` bytes each.
    #[inline(always)]
    fn horizontal(&self, lines: Range<usize>, stride: usize) -> Vec<u8> {
        let Canvas {
            picture,
            left,
            fill,
            ..
        } = *self.canvas;
        let width = picture.width() as usize;
        let span = needed(self.columns, left, width);
        let fill = fill.map(i16::from);
        let source = picture.rgb().as_chunks::<3>().0;
        let mut narrow = vec![0; lines.len() * stride];
        let mut turned = vec![[[0_i16; LINES]; 3]; span.len()];
        for (block, out) in lines
            .step_by(LINES)
            .zip(narrow.chunks_mut((LINES * stride).max(1)))
        {
            let count = out.len() / stride;
            // A few columns at a time, so that what is written stays in the nearest cache.
            for (places, start) in turned
                .chunks_mut(COLUMNS)
                .zip(span.clone().step_by(COLUMNS))
            {
                for line in 0..count {
                    let start = (block + line) * width + start;
                    let pixels = &source[start..start + places.len()];
                    for (place, pixel) in places.iter_mut().zip(pixels) {
                        for channel in 0..3 {
                            place[channel][line] = i16::from(pixel[channel]) - fill[channel];
                        }
                    }
                }
            }
            for (column, taps) in self.columns.iter().enumerate() {
                let (first, weights) = taps.inside(left);
                let plain = self.canvas.fill.map(|fill| taps.plain(fill));
                let mut sums = plain.map(|plain| [plain; LINES]);
                let pixels = turned.iter().skip(first.saturating_sub(span.start));
                for (pixel, weight) in pixels.zip(weights) {
                    for (sums, values) in sums.iter_mut().zip(pixel) {
                        for (sum, value) in sums.iter_mut().zip(values) {
                            *sum += weight * i32::from(*value);
                        }
                    }
                }
                let bytes = sums.map(|sums| sums.map(clip));
                for (line, out) in out.chunks_exact_mut(stride).enumerate() {
                    let pixel = [bytes[0][line], bytes[1][line], bytes[2][line]];
                    out[3 * column..3 * column + 3].copy_from_slice(&pixel);
                }
            }
        }
        narrow
    }

    /// The output's rows from the lines of `narrow`, of which the first is the picture's line
    /// `above`; beside the picture every line is `blank`.
    #[inline(always)]
    fn vertical(&self, narrow: &[u8], above: usize, blank: &[u8]) -> Vec<u8> {
        let stride = blank.len();
        let mut out = vec![0; self.rows.len() * stride];
        for (taps, out) in self.rows.iter().zip(out.chunks_exact_mut(stride.max(1))) {
            let (first, weights) = taps.inside(self.canvas.top);
            let narrow = &narrow[(first.saturating_sub(above) * stride).min(narrow.len())..];
            let (whole, rest) = out.as_chunks_mut::<STRIP>();
            let (blanks, last) = blank.as_chunks::<STRIP>();
            for (index, (out, blank)) in whole.iter_mut().zip(blanks).enumerate() {
                let mut sums = blank.map(|blank| taps.plain(blank));
                for (line, weight) in narrow.chunks_exact(stride).zip(weights) {
                    let line = &line.as_chunks::<STRIP>().0[index];
                    add(&mut sums, line, blank, *weight);
                }
                *out = sums.map(clip);
            }
            let mut sums = [0; STRIP];
            let sums = &mut sums[..rest.len()];
            for (sum, blank) in sums.iter_mut().zip(last) {
                *sum = taps.plain(*blank);
            }
            for (line, weight) in narrow.chunks_exact(stride).zip(weights) {
                add(sums, &line[stride - rest.len()..], last, *weight);
            }
            for (out, sum) in rest.iter_mut().zip(sums) {
                *out = clip(*sum);
            }
        }
        out
    }
}

/// Adds to each of the `sums` the weighted difference of a byte from its blank.
#[inline(always)]
fn add(sums: &mut [i32], bytes: &[u8], blank: &[u8], weight: i32) {
    for ((sum, byte), blank) in sums.iter_mut().zip(bytes).zip(blank) {
        *sum += weight * (i32::from(*byte) - i32::from(*blank));
    }
}

/// The source pixels, counted from `from`, on which the taps fall; there are `limit` of them.
fn needed(taps: &[Taps], from: usize, limit: usize) -> Range<usize> {
    let start = taps.first().map_or(0, |taps| taps.inside(from).0);
    let end = taps.last().map_or(0, |taps| {
        let (first, weights) = taps.inside(from);
        (first + weights.len()).min(limit)
    });
    start.min(end)..end
}

/// A sum with [`FRACTION`] bits, half a unit included, as a byte.
#[inline(always)]
fn clip(sum: i32) -> u8 {
    (sum >> FRACTION).clamp(0, 255) as u8
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// White noise, the hardest picture to resize alike.
    pub(in crate::pixels) fn noise(width: u32, height: u32) -> Picture {
        let mut state = 12345u64;
        let bytes = (0..width * height * 3).map(|_| {
            state = (state * 1_103_515_245 + 12345) % (1 << 31);
            (state >> 16) as u8
        });
        Picture::new(width, height, bytes.collect()).expect("not empty")
    }

    fn checksum(bytes: &[u8]) -> u64 {
        (1..).zip(bytes).map(|(i, byte)| i * u64::from(*byte)).sum()
    }

    /// Checksums from Pillow 11.3: source, target, bicubic, bilinear.
    #[test]
    fn pillow_is_met_on_noise_of_any_shape() {
        for ((w, h), (width, height), bicubic, bilinear) in [
            ((640, 427), (224, 224), 1445473775025, 1445447376301),
            ((97, 64), (42, 42), 1785707942, 1786188147),
            ((17, 23), (64, 50), 5940974715, 5941045350),
            ((1, 1), (3, 5), 110340, 110340),
            ((300, 5), (7, 9), 2291113, 2290884),
            ((5, 300), (9, 7), 2294882, 2295955),
            ((33, 33), (33, 33), 679230210, 679230210),
            ((256, 256), (64, 64), 9606357627, 9610653601),
        ] {
            let picture = noise(w, h);
            let resized = resize_bicubic(&picture, width, height).expect("not empty");
            assert_eq!(checksum(resized.rgb()), bicubic, "{w}x{h}");
            let canvas = Canvas::of(&picture);
            let axis = |from: u32, to: u32| {
                taps(Filter::Bilinear, from as usize, to as usize, 0..to as usize)
            };
            let bytes = resample(&canvas, &axis(w, width), &axis(h, height));
            assert_eq!(checksum(&bytes), bilinear, "{w}x{h}");
            assert!(w != width || resized == picture);
        }
        assert_eq!(resize_bicubic(&noise(2, 2), 0, 2), None);
        assert_eq!(resize_bicubic(&noise(2, 2), 2, 0), None);
    }

    /// A reduction by two, by hand: the bicubic kernel at distances 1/4, 3/4, 5/4, 7/4 is
    /// 111, 29, -9, -3 of 128, and both sides together make 256.
    #[test]
    fn weights_are_those_of_the_widened_kernel() {
        let taps = taps(Filter::Bicubic, 16, 8, 3..4);
        assert_eq!(taps[0].first, 3);
        let expected = [-3, -9, 29, 111, 111, 29, -9, -3].map(|n| n << (FRACTION - 8));
        assert_eq!(taps[0].weights, expected);
        assert_eq!(taps[0].total, 1 << FRACTION);
    }
}
