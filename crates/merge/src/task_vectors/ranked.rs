//! DELLA's draw: in each row, the larger the magnitude, the likelier it is kept (arXiv:2406.11617,
//! section 3.1).
//!
//! `p = (density - ε) + 2 ε (rank - 1) / (m - 1)`, rank 1 for the smallest of `m` magnitudes. A draw
//! outside `density ± ε` decides alone. For the others a histogram of the row bounds all ranks at
//! once, and the few elements whose fate is then still open are ranked by counting.

use crate::random::Draws;

use super::bits::packed;

/// How the elements of a tensor are drawn by rank.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranked {
    draws: Draws,
    /// Keep probability of the smallest magnitude.
    low: f64,
    /// What the next rank has more.
    step: f64,
    /// Magnitudes that are ranked against each other: the second axis, or the only one.
    row: usize,
    /// Values between two neighbours of a row: the axes behind the second.
    stride: usize,
}

impl Ranked {
    pub(crate) fn new(draws: Draws, density: f64, epsilon: f64, shape: &[usize]) -> Self {
        let (row, stride) = match shape {
            [] => (1, 1),
            [one] => (*one, 1),
            [_, row, rest @ ..] => (*row, rest.iter().product()),
        };
        let (low, step) = match row {
            0 | 1 => (density, 0.0),
            _ => (density - epsilon, 2.0 * epsilon / (row - 1) as f64),
        };
        Self {
            draws,
            low,
            step,
            row,
            stride,
        }
    }

    /// Keep probability of the element that has `rank` others before it.
    #[inline(always)]
    fn probability(&self, rank: f64) -> f64 {
        self.low + self.step * rank
    }

    /// Sets the bits of the survivors of whole rows, of which the first begins at `at`; `mean` is
    /// that of the magnitudes, roughly.
    #[inline(always)]
    pub(crate) fn draw(&self, at: usize, values: &[f32], mean: f32, words: &mut [u64]) {
        let mut row = RankedRow::new(self.row, mean);
        for start in self.starts(values.len()) {
            if self.stride == 1 {
                let values = &values[start..start + self.row];
                row.decide(self, at + start, values, |place, kept| {
                    lay(words, start + place, kept);
                });
            } else {
                let values: Vec<f32> = self.along(values, start).collect();
                row.decide(self, at + start, &values, |place, kept| {
                    for lane in 0..64.min(values.len() - place) {
                        let one = kept >> lane & 1;
                        lay(words, start + (place + lane) * self.stride, one);
                    }
                });
            }
        }
    }

    /// The values of the row that begins at `start`.
    fn along(&self, values: &[f32], start: usize) -> impl Iterator<Item = f32> {
        let values = values[start..].iter().step_by(self.stride);
        values.take(self.row).copied()
    }

    /// The draws of the elements of a row from `at` on.
    #[inline(always)]
    fn fill(&self, at: usize, draws: &mut [u64]) {
        if self.stride == 1 {
            return self.draws.fill(at, draws);
        }
        for (j, draw) in draws.iter_mut().enumerate() {
            *draw = self.draws.bits(at + j * self.stride);
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
            let row: Vec<f32> = self.along(values, start).collect();
            let places = values[start..].iter_mut().step_by(self.stride);
            for (value, rank) in places.zip(ranks(&row)) {
                *value /= self.probability(f64::from(rank)) as f32;
            }
        }
    }
}

/// Sets the bits of up to 64 elements from `at` on.
#[inline(always)]
fn lay(words: &mut [u64], at: usize, bits: u64) {
    let (word, shift) = (at / 64, at % 64);
    words[word] |= bits << shift;
    if shift > 0 && word + 1 < words.len() {
        words[word + 1] |= bits >> (64 - shift);
    }
}

/// A draw as a number from 0 to 1.
#[inline(always)]
fn uniform(draw: u64) -> f64 {
    draw as f64 * 2f64.powi(-53)
}

/// Magnitudes in their order.
#[inline(always)]
fn magnitude(value: f32) -> u32 {
    value.to_bits() & 0x7fff_ffff
}

/// How many of a row come before each: smaller ones, and equal ones of lower index.
fn ranks(row: &[f32]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..).take(row.len()).collect();
    order.sort_by_key(|j| magnitude(row[*j as usize]));
    let mut ranks = vec![0; row.len()];
    for (rank, j) in (0..).zip(order) {
        ranks[j as usize] = rank;
    }
    ranks
}

/// The rank of one element, as [`ranks`] would give it.
#[inline(always)]
fn rank(row: &[f32], j: usize) -> usize {
    let key = magnitude(row[j]);
    let (before, behind) = row.split_at(j);
    let mut count = 0u32;
    for other in before {
        count += u32::from(magnitude(*other) <= key);
    }
    for other in behind {
        count += u32::from(magnitude(*other) < key);
    }
    count as usize
}

/// Bins of a long row.
const BINS: usize = 512;

/// The bins reach up to this many means; what is larger shares the last one.
const REACH: f32 = 8.0;

/// Draws that are made at a time, a multiple of 64.
const PIECE: usize = 512;

/// To rank more elements of a row than this, sorting it by bins is less work than counting for each.
const MANY: usize = 24;

/// Elements of a bin, say the zeros of a fine-tune, from which on it is sorted rather than counted.
const LARGE: usize = 1024;

/// A stretch of bins with about as many elements as any other. Probabilities are in units of 2^-16,
/// and less than what the level before has, so that a sum over the levels that an element is behind
/// gives its own.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    /// The first bin.
    bin: u16,
    /// Draws below this keep all its elements.
    sure: u16,
    /// Draws above this keep none.
    never: u16,
}

/// How many levels a row has.
const LEVELS: usize = 8;

/// Room for one row on its way, and the width of its bins.
struct RankedRow {
    /// The bin of each element, in blocks of 64.
    bins: Vec<u16>,
    /// Where the elements of a bin begin in the order of bins; one more at the end counts all.
    below: [u32; BINS + 1],
    /// Keep probability of the first and of the last of a bin.
    least: [f64; BINS],
    most: [f64; BINS],
    /// How many bins there are.
    number: usize,
    /// Bins per unit of magnitude.
    scale: f32,
    levels: [Level; LEVELS],
    /// Elements whose bins do not decide, and their draws.
    unclear: Vec<(usize, f64)>,
    /// Magnitudes and places by bins, then in order within the bins of [`RankedRow::ordered`].
    mates: Vec<u64>,
    ordered: Vec<bool>,
}

impl RankedRow {
    #[inline(always)]
    fn new(len: usize, mean: f32) -> Self {
        let number = (len / 4).next_power_of_two().clamp(8, BINS);
        Self {
            bins: vec![0; len.next_multiple_of(64)],
            below: [0; BINS + 1],
            least: [0.0; BINS],
            most: [0.0; BINS],
            number,
            // Finite, so that zero is in the first bin.
            scale: (number as f32 / (REACH * mean)).min(f32::MAX),
            levels: [Level::default(); LEVELS],
            unclear: Vec::new(),
            mates: Vec::new(),
            ordered: Vec::new(),
        }
    }

    /// Counts the elements of a row by bins.
    #[inline(always)]
    fn count(&mut self, ranked: &Ranked, row: &[f32]) {
        let last = (self.number - 1) as f32;
        for (bin, value) in self.bins.iter_mut().zip(row) {
            // 2^23 more, the lowest bits of an f32 count units.
            let place = (value.abs() * self.scale).min(last) + 8_388_608.0;
            *bin = place.to_bits() as u16;
        }
        let below = &mut self.below[..=self.number];
        below.fill(0);
        for bin in &self.bins[..row.len()] {
            below[usize::from(*bin) + 1] += 1;
        }
        let mut sum = 0;
        for count in below.iter_mut() {
            sum += *count;
            *count = sum;
        }
        for (least, first) in self.least.iter_mut().zip(&*below) {
            *least = ranked.probability(f64::from(*first));
        }
        for (most, next) in self.most.iter_mut().zip(&below[1..]) {
            *most = ranked.probability(f64::from(*next) - 1.0);
        }
        self.level(ranked);
    }

    /// Cuts the bins into levels.
    #[inline(always)]
    fn level(&mut self, ranked: &Ranked) {
        let below = &self.below[..=self.number];
        let all = below[self.number];
        let mut firsts = [0; LEVELS + 1];
        for (at, first) in (0..).zip(&mut firsts[1..]) {
            let wanted = (at + 1) * all / LEVELS as u32;
            *first = below.partition_point(|count| *count < wanted);
        }
        let units = |rank: u32| (ranked.probability(f64::from(rank)) * 65_536.0) as u16;
        let (mut sure, mut never) = (0, 0);
        for (level, ends) in self.levels.iter_mut().zip(firsts.windows(2)) {
            let least = units(below[ends[0]]);
            let most = units(below[ends[1]].max(1) - 1);
            *level = Level {
                bin: ends[0] as u16,
                sure: least.wrapping_sub(sure),
                never: most.wrapping_sub(never),
            };
            (sure, never) = (least, most);
        }
    }

    /// Hands on who of each 64 elements of a row is kept, a part of them again; the row begins at
    /// `at` of the tensor.
    #[inline(always)]
    fn decide(
        &mut self,
        ranked: &Ranked,
        at: usize,
        row: &[f32],
        mut kept: impl FnMut(usize, u64),
    ) {
        self.count(ranked, row);
        let mut draws = [0u64; PIECE];
        let mut units = [0u16; PIECE];
        let mut flags = [[0u8; PIECE]; 2];
        for start in (0..row.len()).step_by(PIECE) {
            let taken = PIECE.min(row.len() - start);
            ranked.fill(at + start * ranked.stride, &mut draws[..taken]);
            for (units, draw) in units[..taken].iter_mut().zip(&draws) {
                *units = (draw >> 37) as u16;
            }
            self.flag(&units[..taken], start, &mut flags);
            let [sure, maybe] = flags.each_ref().map(|flags| flags.as_chunks::<64>().0);
            let draws = draws.as_chunks::<64>().0;
            let places = (start..row.len()).step_by(64);
            for (place, ((sure, maybe), draws)) in places.zip(sure.iter().zip(maybe).zip(draws)) {
                let sure = packed(sure);
                let open = packed(maybe) & !sure;
                kept(place, sure | self.open(open, draws, place));
            }
        }
        self.rest(ranked, row, kept);
    }

    /// Flags whose draw, in units of 2^-16, surely keeps them at their level, and whose may.
    #[inline(always)]
    fn flag(&self, units: &[u16], start: usize, flags: &mut [[u8; PIECE]; 2]) {
        let [first, others @ ..] = &self.levels;
        let [sure, maybe] = flags;
        sure[units.len()..].fill(0);
        maybe[units.len()..].fill(0);
        let flags = sure.iter_mut().zip(maybe);
        for (((sure, maybe), units), bin) in flags.zip(units).zip(&self.bins[start..]) {
            let (mut least, mut most) = (first.sure, first.never);
            for level in others {
                let behind = if *bin >= level.bin { u16::MAX } else { 0 };
                least = least.wrapping_add(level.sure & behind);
                most = most.wrapping_add(level.never & behind);
            }
            *sure = u8::from(*units < least);
            *maybe = u8::from(*units <= most);
        }
    }

    /// Which of the open ones among 64 elements are surely kept.
    #[inline(always)]
    fn open(&mut self, mut open: u64, draws: &[u64; 64], place: usize) -> u64 {
        let bins = self.bins[place..].first_chunk::<64>();
        let bins = bins.expect("blocks of 64");
        let mut kept = 0;
        let mut unclear = 0;
        while open != 0 {
            // The masks tell the compiler that all places exist.
            let lane = open.trailing_zeros() as usize & 63;
            open &= open - 1;
            let bin = usize::from(bins[lane]) & (BINS - 1);
            let draw = uniform(draws[lane]);
            let surely = u64::from(draw < self.least[bin]);
            let maybe = u64::from(draw < self.most[bin]);
            kept |= surely << lane;
            unclear |= (maybe ^ surely) << lane;
        }
        while unclear != 0 {
            let lane = unclear.trailing_zeros() as usize & 63;
            unclear &= unclear - 1;
            self.unclear.push((place + lane, uniform(draws[lane])));
        }
        kept
    }

    /// Hands on those of the unclear ones whose rank is enough.
    #[inline(always)]
    fn rest(&mut self, ranked: &Ranked, row: &[f32], mut kept: impl FnMut(usize, u64)) {
        let mut unclear = std::mem::take(&mut self.unclear);
        let many = unclear.len() > MANY;
        if many {
            self.group(row);
        }
        for (j, uniform) in unclear.drain(..) {
            let rank = if many {
                self.among_mates(row, j)
            } else {
                rank(row, j)
            };
            if uniform < ranked.probability(rank as f64) {
                kept(j, 1);
            }
        }
        self.unclear = unclear;
    }

    /// Sorts the elements by bins.
    #[inline(always)]
    fn group(&mut self, row: &[f32]) {
        self.mates.resize(row.len(), 0);
        self.ordered.clear();
        self.ordered.resize(BINS, false);
        let mut next = self.below;
        for (j, (value, bin)) in row.iter().zip(&self.bins).enumerate() {
            let next = &mut next[usize::from(*bin) & (BINS - 1)];
            self.mates[*next as usize] = mate(*value, j);
            *next += 1;
        }
    }

    /// The rank of one element, once they are grouped.
    #[inline(always)]
    fn among_mates(&mut self, row: &[f32], j: usize) -> usize {
        let bin = usize::from(self.bins[j]);
        let first = self.below[bin] as usize;
        let mates = &mut self.mates[first..self.below[bin + 1] as usize];
        let own = mate(row[j], j);
        if mates.len() < LARGE {
            let mut count = 0u64;
            for other in mates {
                count += u64::from(*other < own);
            }
            return first + count as usize;
        }
        if !self.ordered[bin] {
            mates.sort_unstable();
            self.ordered[bin] = true;
        }
        first + mates.partition_point(|other| *other < own)
    }
}

/// An element of a row, ordered by magnitude and then by place.
#[inline(always)]
fn mate(value: f32, j: usize) -> u64 {
    u64::from(magnitude(value)) << 32 | j as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition: sort the row, then compare each draw with the probability of its rank.
    fn defined(ranked: &Ranked, at: usize, values: &[f32]) -> Vec<bool> {
        let mut kept = vec![false; values.len()];
        for start in ranked.starts(values.len()) {
            let row: Vec<f32> = ranked.along(values, start).collect();
            for (j, rank) in ranks(&row).into_iter().enumerate() {
                let place = start + j * ranked.stride;
                let share = match ranked.row {
                    1 => 0.5,
                    row => f64::from(rank) / (row - 1) as f64,
                };
                kept[place] = ranked.draws.uniform(at + place) < 0.2 + 0.6 * share;
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
            let want = defined(&ranked, 100, &values);
            // The mean may only change how long it takes.
            for mean in [0.0, 1e-40, 0.3, 1e9, f32::INFINITY] {
                let mut words = vec![0u64; len.div_ceil(64)];
                ranked.draw(100, &values, mean, &mut words);
                for (i, want) in want.iter().enumerate() {
                    let got = words[i / 64] >> (i % 64) & 1 == 1;
                    assert_eq!(got, *want, "{shape:?} {mean} {i}");
                }
            }
        }
    }
}
