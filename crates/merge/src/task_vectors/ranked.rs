//! DELLA's draw: in each row, the larger the magnitude, the likelier it is kept (arXiv:2406.11617,
//! section 3.1).
//!
//! `p = (density - ε) + 2 ε (rank - 1) / (m - 1)`, rank 1 for the smallest of `m` magnitudes. A rank
//! is needed exactly only where the draw falls next to it: a histogram of the row bounds all ranks at
//! once, and the few elements whose fate is still open are ranked by counting.

use crate::random::Draws;

use super::bits::packed;

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
const FINE: usize = 2048;
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
        let mut row = Row::new(self.row);
        let mut flags = vec![0u8; values.len().next_multiple_of(64)];
        for start in self.starts(values.len()) {
            row.rank(values, start, self.stride);
            row.decide(|j, needs| self.needs(at + start + j * self.stride, needs));
            let flags = &mut flags[start..];
            // Two loops of one body, because only the first vectorises.
            if self.stride == 1 {
                for (flag, kept) in flags.iter_mut().zip(&row.kept) {
                    *flag = *kept & 1;
                }
            } else {
                for (flag, kept) in flags.iter_mut().step_by(self.stride).zip(&row.kept) {
                    *flag = *kept & 1;
                }
            }
        }
        let (flags, _) = flags.as_chunks::<64>();
        for (word, flags) in words.iter_mut().zip(flags) {
            *word = packed(flags);
        }
    }

    /// An element is kept when more magnitudes of its row than this are smaller; of the elements
    /// of a row from `at` on.
    #[inline(always)]
    fn needs(&self, at: usize, needs: &mut [f64]) {
        let mut draws = [0u64; PIECE];
        let draws = &mut draws[..needs.len()];
        if self.stride == 1 {
            self.draws.fill(at, draws);
        } else {
            for (j, draw) in draws.iter_mut().enumerate() {
                *draw = self.draws.bits(at + j * self.stride);
            }
        }
        // Without ranks to tell apart, all have one probability: a need below 0 or beyond any rank.
        let alone = self.row < 2 || self.span == 0.0;
        let (low, scale) = match (alone, self.row < 2) {
            (false, _) => (self.low, (self.row - 1) as f64 / self.span),
            (true, true) => (self.density, f64::MAX),
            (true, false) => (self.low, f64::MAX),
        };
        for (need, draw) in needs.iter_mut().zip(draws) {
            let above = *draw as f64 * 2f64.powi(-53) - low;
            *need = above * scale;
        }
        if alone {
            // A draw of exactly p is dropped.
            needs
                .iter_mut()
                .for_each(|need| *need = if *need < 0.0 { -1.0 } else { f64::MAX });
        }
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

/// One row on its way: keys, their bins, what each draw needs, and the verdict.
struct Row {
    keys: Vec<u32>,
    bins: Vec<u16>,
    /// Keys in lower bins, for every bin; one more at the end counts all.
    below: Box<[u32; FINE + 1]>,
    kept: Vec<u8>,
}

impl Row {
    fn new(len: usize) -> Self {
        Self {
            keys: vec![0; len],
            bins: vec![0; len],
            below: Box::new([0; FINE + 1]),
            kept: vec![0; len],
        }
    }

    /// Counts the keys of a row by bins: 32 to an octave (8 for short rows), 64 octaves below the
    /// largest; what is smaller still shares a bin.
    #[inline(always)]
    fn rank(&mut self, values: &[f32], start: usize, stride: usize) {
        let values = &values[start..];
        if stride == 1 {
            for (key, value) in self.keys.iter_mut().zip(values) {
                *key = magnitude(*value);
            }
        } else {
            for (key, value) in self.keys.iter_mut().zip(values.iter().step_by(stride)) {
                *key = magnitude(*value);
            }
        }
        let (number, shift) = match self.keys.len() > FINE / 2 {
            true => (FINE, 18),
            false => (COARSE, 20),
        };
        let largest = self.keys.iter().fold(0, |max, key| max.max(*key));
        let lowest = largest.saturating_sub(((number - 1) as u32) << shift);
        for (bin, key) in self.bins.iter_mut().zip(&self.keys) {
            // Less than `number`, because the largest key is in the last bin.
            *bin = (key.saturating_sub(lowest) >> shift) as u16;
        }
        let below = &mut self.below[..=number];
        below.fill(0);
        for bin in &self.bins {
            below[usize::from(*bin) + 1] += 1;
        }
        let mut sum = 0;
        for count in below {
            sum += *count;
            *count = sum;
        }
    }

    /// Keeps what has more smaller keys than it needs.
    #[inline(always)]
    fn decide(&mut self, fill: impl Fn(usize, &mut [f64])) {
        let mut needs = [0.0f64; PIECE];
        for start in (0..self.kept.len()).step_by(PIECE) {
            let end = (start + PIECE).min(self.kept.len());
            fill(start, &mut needs[..end - start]);
            let mut firsts = [0u32; PIECE];
            let mut lasts = [0u32; PIECE];
            let ranks = firsts.iter_mut().zip(&mut lasts);
            for ((first, last), bin) in ranks.zip(&self.bins[start..end]) {
                // The mask tells the compiler that both places exist.
                let bin = usize::from(*bin) & (FINE - 1);
                // The bin is not empty, so one can be taken from its end.
                (*first, *last) = (self.below[bin], self.below[bin + 1].wrapping_sub(1));
            }
            let kept = &mut self.kept[start..end];
            let mut open = 0;
            for (at, kept) in kept.iter_mut().enumerate() {
                let surely = u8::from(f64::from(firsts[at]) > needs[at]);
                let maybe = u8::from(f64::from(lasts[at]) > needs[at]);
                *kept = surely | maybe << 1;
                open |= maybe & !surely;
            }
            if open == 0 {
                continue;
            }
            for (at, kept) in kept.iter_mut().enumerate() {
                if *kept == MAYBE {
                    *kept = u8::from(f64::from(rank(&self.keys, start + at)) > needs[at]);
                }
            }
        }
    }
}

/// Draws that are made at a time.
const PIECE: usize = 128;

/// Some key of the bin has rank enough, and some has not.
const MAYBE: u8 = 2;

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
                let mut need = [0.0];
                ranked.needs(at + place, &mut need);
                kept[place] = rank as f64 > need[0];
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
