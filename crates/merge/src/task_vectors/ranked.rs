//! DELLA's draw: in each row, the larger the magnitude, the likelier it is kept (arXiv:2406.11617,
//! section 3.1).
//!
//! `p = (density - ε) + 2 ε (rank - 1) / (m - 1)`, rank 1 for the smallest of `m` magnitudes. A rank
//! is needed exactly only where the draw falls next to it: a histogram of the row bounds all ranks at
//! once, and the few elements whose fate is still open are ranked by counting.

use crate::random::Draws;

/// How the elements of a tensor are drawn by rank.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranked {
    draws: Draws,
    /// Keep probability of the smallest magnitude.
    low: f64,
    /// What the largest has more.
    span: f64,
    density: f64,
    /// Magnitudes that are ranked against each other: the second axis, or the only one.
    row: usize,
    /// Values between two neighbours of a row: the axes behind the second.
    stride: usize,
}

/// Bins of a long and of a short row.
const FINE: usize = 4096;
const COARSE: usize = 512;

impl Ranked {
    pub(crate) fn new(draws: Draws, density: f64, epsilon: f64, shape: &[usize]) -> Self {
        let (row, stride) = match shape {
            [] => (1, 1),
            [one] => (*one, 1),
            [_, row, rest @ ..] => (*row, rest.iter().product()),
        };
        Self {
            draws,
            low: density - epsilon,
            span: 2.0 * epsilon,
            density,
            row,
            stride,
        }
    }

    /// Sets the bits of the survivors of whole rows, of which the first begins at `at`.
    #[inline(always)]
    pub(crate) fn draw(&self, at: usize, values: &[f32], words: &mut [u64]) {
        let mut keys = Vec::with_capacity(self.row);
        let mut bins = vec![0u32; FINE + 1];
        for start in self.starts(values.len()) {
            keys.clear();
            keys.extend((0..self.row).map(|j| magnitude(values[start + j * self.stride])));
            let scale = Bins::count(&keys, &mut bins);
            for (j, key) in keys.iter().enumerate() {
                let place = start + j * self.stride;
                let needed = self.needed(at + place);
                let bin = scale.of(*key);
                let (first, end) = (bins[bin], bins[bin + 1]);
                let mut kept = f64::from(first) > needed;
                // `end` is above 0: this key is in the bin.
                if !kept && f64::from(end - 1) > needed {
                    kept = f64::from(rank(&keys, j)) > needed;
                }
                words[place / 64] |= u64::from(kept) << (place % 64);
            }
        }
    }

    /// An element is kept when more magnitudes of its row than this are smaller.
    #[inline(always)]
    fn needed(&self, at: usize) -> f64 {
        let draw = self.draws.uniform(at);
        if self.row < 2 || self.span == 0.0 {
            // All have one probability.
            let p = if self.row < 2 { self.density } else { self.low };
            return if draw < p { -1.0 } else { f64::INFINITY };
        }
        (draw - self.low) * ((self.row - 1) as f64 / self.span)
    }

    /// Where the rows of a block begin.
    fn starts(&self, len: usize) -> impl Iterator<Item = usize> + use<> {
        let (row, stride) = (self.row, self.stride);
        (0..len)
            .step_by((row * stride).max(1))
            .flat_map(move |first| (0..stride).map(move |offset| first + offset))
    }

    /// Divides every value by the keep probability of its rank.
    pub(crate) fn divide(&self, values: &mut [f32]) {
        for start in self.starts(values.len()) {
            let keys: Vec<u32> = (0..self.row)
                .map(|j| magnitude(values[start + j * self.stride]))
                .collect();
            let mut order: Vec<usize> = (0..self.row).collect();
            order.sort_by_key(|j| keys[*j]);
            for (rank, j) in order.into_iter().enumerate() {
                let p = match self.row {
                    0 | 1 => self.density,
                    row => self.low + self.span * rank as f64 / (row - 1) as f64,
                };
                values[start + j * self.stride] /= p as f32;
            }
        }
    }
}

#[inline(always)]
fn magnitude(value: f32) -> u32 {
    value.to_bits() & 0x7fff_ffff
}

/// How many keys come before key `j`: smaller ones, and equal ones of lower index.
#[inline(always)]
fn rank(keys: &[u32], j: usize) -> u32 {
    let key = keys[j];
    let (before, behind) = keys.split_at(j);
    let mut count = 0;
    for other in before {
        count += u32::from(*other <= key);
    }
    for other in behind {
        count += u32::from(*other < key);
    }
    count
}

/// A monotone map of magnitudes to bins: 64 to an octave (8 for short rows), 64 octaves below the
/// largest; what is smaller still shares a bin.
#[derive(Clone, Copy)]
struct Bins {
    lowest: u32,
    shift: u32,
}

impl Bins {
    /// Counts, for every bin, the keys in lower bins; the last entry counts all.
    #[inline(always)]
    fn count(keys: &[u32], bins: &mut [u32]) -> Self {
        let (number, shift) = match keys.len() >= FINE / 2 {
            true => (FINE, 17),
            false => (COARSE, 20),
        };
        let largest = keys.iter().fold(0, |max, key| max.max(*key));
        let span = ((number - 1) as u32) << shift;
        let scale = Self {
            lowest: largest.saturating_sub(span),
            shift,
        };
        let bins = &mut bins[..=number];
        bins.fill(0);
        for key in keys {
            bins[scale.of(*key) + 1] += 1;
        }
        let mut before = 0;
        for bin in bins {
            before += *bin;
            *bin = before;
        }
        scale
    }

    #[inline(always)]
    fn of(self, key: u32) -> usize {
        (key.saturating_sub(self.lowest) >> self.shift) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition: sort the row, then compare each draw with the probability of its rank.
    fn defined(ranked: &Ranked, at: usize, values: &[f32]) -> Vec<bool> {
        let mut kept = vec![false; values.len()];
        for start in ranked.starts(values.len()) {
            let mut order: Vec<usize> = (0..ranked.row).collect();
            order.sort_by_key(|j| magnitude(values[start + j * ranked.stride]));
            for (rank, j) in order.into_iter().enumerate() {
                let place = start + j * ranked.stride;
                kept[place] = rank as f64 > ranked.needed(at + place);
            }
        }
        kept
    }

    #[test]
    fn the_histogram_decides_as_the_sorted_row_does() {
        let noise = Draws::new(9, "noise", 0);
        for shape in [
            vec![7, 3000],
            vec![5000],
            vec![3, 40, 2, 3],
            vec![9, 1],
            vec![1],
        ] {
            let len: usize = shape.iter().product();
            let values: Vec<f32> = (0..len)
                .map(|i| match i % 5 {
                    // Ties and zeros, as between fine-tunes in bf16.
                    0 => 0.0,
                    1 => ((noise.uniform(i) * 8.0).floor() / 8.0) as f32,
                    _ => (noise.uniform(i) as f32 - 0.5) * 2f32.powi((i % 90) as i32 - 45),
                })
                .collect();
            let ranked = Ranked::new(Draws::new(1, "a", 0), 0.5, 0.3, &shape);
            let mut words = vec![0u64; len.div_ceil(64)];
            ranked.draw(100, &values, &mut words);
            let want = defined(&ranked, 100, &values);
            for (i, want) in want.iter().enumerate() {
                assert_eq!(words[i / 64] >> (i % 64) & 1 == 1, *want, "{shape:?} {i}");
            }
        }
    }
}
