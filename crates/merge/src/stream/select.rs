//! The k-th largest key of a tensor, exactly, in one reading and little memory.
//!
//! A sample says between which two keys the k-th lies, one pass counts what is above and keeps what
//! is between. Where the sample was wrong, or too many keys are equal to be kept, two histograms of
//! the bit pattern find the same key. Keys are non-negative floats, whose bits order them.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::pass::{Block, Fold};
use super::reading::Reading;
use crate::error::Result;
use crate::target::Target;

/// Keys that may be kept between the two brackets, over all chunks: 64 MiB.
const KEPT: usize = 1 << 24;

/// Runs of the sample, and keys in each.
const RUNS: usize = 1024;
const RUN: usize = 64;

/// How far from its expected place in the sample the bracket is set, as a share of the sample.
const MARGIN: f64 = 0.025;

/// Keys that are looked through at a time; the last place takes what is not kept.
const PIECE: usize = 513;

/// Bins of the first histogram; the second takes the other fifteen of 31 bits.
const HIGH: usize = 1 << 16;
const LOW_BITS: u32 = 15;

/// Turns a block into keys, in place of its first input. Mark it `#[inline(always)]`.
pub(crate) trait Key: Sync {
    /// Writes non-negative keys over `block.input_mut(0)`.
    fn keys(&self, block: &mut Block);
}

/// The keys that are kept: the `k` largest, equal ones by lower index first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Keys above this are kept.
    bits: u32,
    /// Keys equal to `bits` are kept before this place of the tensor.
    before: usize,
}

impl Cut {
    /// Keeps nothing.
    pub(crate) const NOTHING: Self = Self {
        bits: u32::MAX,
        before: 0,
    };

    /// Keeps all keys but zeros.
    const NONZERO: Self = Self { bits: 0, before: 0 };

    /// Whether the value at place `at` is kept; its magnitude is the key.
    #[inline(always)]
    pub(crate) fn keeps(&self, value: f32, at: usize) -> bool {
        let key = value.to_bits() & 0x7fff_ffff;
        key > self.bits || (key == self.bits && at < self.before)
    }

    /// Tells of each value from place `at` on whether it is kept.
    #[inline(always)]
    pub(crate) fn each(&self, at: usize, values: &mut [f32], mut tell: impl FnMut(&mut f32, bool)) {
        let end = at + values.len();
        if at < self.before && self.before < end {
            for (lane, value) in values.iter_mut().enumerate() {
                let kept = self.keeps(*value, at + lane);
                tell(value, kept);
            }
            return;
        }
        let bits = if end <= self.before {
            self.bits
        } else {
            self.bits.saturating_add(1)
        };
        for value in values {
            let kept = value.to_bits() & 0x7fff_ffff >= bits;
            tell(value, kept);
        }
    }
}

/// The cuts that keep the `k` largest keys for each `k` of `ranks`; zeros are never kept.
///
/// # Errors
/// As [`Target::fold`].
pub(crate) fn largest<K: Key>(
    target: &Target,
    reading: Reading,
    key: &K,
    ranks: &[usize],
) -> Result<Vec<Cut>> {
    let mut sample = sampled(target, reading, key)?;
    let brackets: Vec<_> = ranks
        .iter()
        .map(|rank| bracket(&mut sample, *rank, target.len()))
        .collect();
    let kept = AtomicUsize::new(0);
    let fold = Between {
        key,
        brackets: &brackets,
        kept: &kept,
    };
    let mut parts = target.fold(reading, &fold)?;
    let full = kept.into_inner() > KEPT;
    ranks
        .iter()
        .enumerate()
        .map(|(at, rank)| {
            let found = (!full).then(|| exact(&mut parts, at, *rank, brackets[at]));
            match found.flatten() {
                Some(Selection::At(cut)) => Ok(cut),
                Some(Selection::Tied(tie)) => tie.resolve(target, reading, key),
                None => by_histogram(target, reading, key, *rank),
            }
        })
        .collect()
}

/// A spread of keys, in no order.
fn sampled<K: Key>(target: &Target, reading: Reading, key: &K) -> Result<Vec<u32>> {
    let len = target.len();
    // A short tensor is its own sample.
    let (runs, run) = if len <= RUNS * RUN {
        (1, len)
    } else {
        (RUNS, RUN)
    };
    let mut keys = Vec::with_capacity(runs * run);
    for at in 0..runs {
        let start = (at as u128 * (len - run) as u128 / runs as u128) as usize;
        target.peek(reading, start, run, |block| {
            key.keys(block);
            keys.extend(block.input(0).iter().map(|key| key.to_bits()));
        })?;
    }
    Ok(keys)
}

/// A bracket of no keys, for a cut that keeps none.
const EMPTY: (u32, u32) = (1, 0);

/// Two keys between which the one of rank `rank` among `len` most likely lies.
fn bracket(sample: &mut [u32], rank: usize, len: usize) -> (u32, u32) {
    if rank == 0 {
        return EMPTY;
    }
    let Some(last) = sample.len().checked_sub(1) else {
        return (0, u32::MAX);
    };
    let n = sample.len() as f64;
    let place = rank as f64 / len.max(1) as f64 * n;
    let margin = (n * MARGIN).max(4.0);
    let mut nth = |place: f64| {
        let place = last - (place.max(0.0) as usize).min(last);
        *sample.select_nth_unstable(place).1
    };
    let high = if place - margin <= 1.0 {
        u32::MAX
    } else {
        nth(place - margin)
    };
    let low = if place + margin >= n - 1.0 {
        0
    } else {
        nth(place + margin)
    };
    (low, high)
}

/// What a chunk holds above and between the brackets of every rank.
struct Found {
    above: usize,
    between: Vec<u32>,
}

struct Between<'a, K> {
    key: &'a K,
    brackets: &'a [(u32, u32)],
    kept: &'a AtomicUsize,
}

impl<K: Key> Fold for Between<'_, K> {
    type Part = Vec<Found>;

    fn part(&self) -> Self::Part {
        let empty = |_| Found {
            above: 0,
            between: Vec::new(),
        };
        self.brackets.iter().map(empty).collect()
    }

    #[inline(always)]
    fn block(&self, block: &mut Block, part: &mut Self::Part) {
        self.key.keys(block);
        let keys = block.input(0);
        for ((low, high), found) in self.brackets.iter().zip(part) {
            if low > high {
                continue;
            }
            // Zeros are never kept.
            let (low, high) = ((*low).max(1), *high);
            let mut above = 0u32;
            let mut between = 0u32;
            for key in keys {
                above += u32::from(key.to_bits() > high);
                between += u32::from(key.to_bits() >= low);
            }
            found.above += above as usize;
            let between = (between - above) as usize;
            if between == 0 {
                continue;
            }
            let held = self.kept.fetch_add(between, Ordering::Relaxed) + between;
            if held <= KEPT {
                collect(keys, low, high, &mut found.between);
            }
        }
    }
}

/// Appends the keys from `low` to `high`, without a branch for each.
#[inline(always)]
fn collect(keys: &[f32], low: u32, high: u32, found: &mut Vec<u32>) {
    let mut piece = [0u32; PIECE];
    for keys in keys.chunks(PIECE - 1) {
        let mut len = 0;
        for key in keys {
            let key = key.to_bits();
            piece[len] = key;
            len += usize::from(key >= low && key <= high);
        }
        found.extend_from_slice(&piece[..len]);
    }
}

/// What is known of a cut.
enum Selection {
    At(Cut),
    /// Equal keys are still to be told apart.
    Tied(Tie),
}

/// The cut of `rank`, if the key of this rank lies in the bracket.
fn exact(
    parts: &mut [Vec<Found>],
    at: usize,
    rank: usize,
    bracket: (u32, u32),
) -> Option<Selection> {
    let above: usize = parts.iter().map(|part| part[at].above).sum();
    let between: usize = parts.iter().map(|part| part[at].between.len()).sum();
    if rank == 0 {
        return Some(Selection::At(Cut::NOTHING));
    }
    let within = rank.checked_sub(above + 1)?;
    if within >= between {
        return (bracket.0 == 0).then_some(Selection::At(Cut::NONZERO));
    }
    let mut keys = Vec::with_capacity(between);
    parts.iter().for_each(|part| keys.extend(&part[at].between));
    let (larger, bits, _) = keys.select_nth_unstable_by(within, |a: &u32, b: &u32| b.cmp(a));
    let bits = *bits;
    // Ties may stand on either side of the chosen one.
    let larger = larger.iter().filter(|key| **key > bits).count();
    let ties = rank - above - larger;
    let in_chunk = |part: &Vec<Found>| part[at].between.iter().filter(|k| **k == bits).count();
    Some(Selection::Tied(Tie::new(
        bits,
        ties,
        parts.iter().map(in_chunk),
    )))
}

/// The first `left` keys equal to `bits` of chunk `chunk` are kept, and all of those before it.
struct Tie {
    bits: u32,
    chunk: usize,
    left: usize,
}

impl Tie {
    fn new(bits: u32, ties: usize, in_chunks: impl Iterator<Item = usize>) -> Self {
        let mut left = ties;
        let mut chunk = 0;
        for count in in_chunks {
            match left.checked_sub(count) {
                Some(rest) => left = rest,
                None => break,
            }
            chunk += 1;
        }
        Self { bits, chunk, left }
    }

    /// Looks for the place in its chunk.
    fn resolve<K: Key>(self, target: &Target, reading: Reading, key: &K) -> Result<Cut> {
        let start = (self.chunk * reading.grain.chunk).min(target.len());
        let end = (start + reading.grain.chunk).min(target.len());
        let mut before = start;
        if self.left > 0 {
            target.peek(reading, start, end - start, |block| {
                key.keys(block);
                let keys = block.input(0).iter().enumerate();
                let mut equal = keys.filter(|(_, key)| key.to_bits() == self.bits);
                // The first one that is not kept ends the kept ones.
                before = equal.nth(self.left).map_or(end, |(at, _)| start + at);
            })?;
        }
        Ok(Cut {
            bits: self.bits,
            before,
        })
    }
}

/// Counts keys by their high or their low bits.
struct Histogram<'a, K> {
    key: &'a K,
    /// `None` counts high bits; otherwise low bits of keys with these high bits.
    within: Option<u32>,
}

impl<K: Key> Fold for Histogram<'_, K> {
    type Part = Vec<u64>;

    fn part(&self) -> Self::Part {
        vec![0; HIGH]
    }

    #[inline(always)]
    fn block(&self, block: &mut Block, part: &mut Self::Part) {
        self.key.keys(block);
        for key in block.input(0) {
            let bits = key.to_bits() & 0x7fff_ffff;
            let high = bits >> LOW_BITS;
            match self.within {
                None => part[high as usize] += 1,
                Some(wanted) if wanted == high => {
                    part[(bits & ((1 << LOW_BITS) - 1)) as usize] += 1;
                }
                Some(_) => {}
            }
        }
    }
}

struct Ties<'a, K> {
    key: &'a K,
    bits: u32,
}

impl<K: Key> Fold for Ties<'_, K> {
    type Part = usize;

    fn part(&self) -> usize {
        0
    }

    #[inline(always)]
    fn block(&self, block: &mut Block, part: &mut usize) {
        self.key.keys(block);
        let equal = block.input(0).iter().filter(|k| k.to_bits() == self.bits);
        *part += equal.count();
    }
}

/// The same cut from two histograms of the bits, whatever the distribution.
fn by_histogram<K: Key>(target: &Target, reading: Reading, key: &K, rank: usize) -> Result<Cut> {
    let count = |within| {
        target.tally(reading, &Histogram { key, within }, |mut a, b| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
            a
        })
    };
    let Some((high, rest)) = descend(&count(None)?, rank as u64) else {
        return Ok(Cut::NOTHING);
    };
    let Some((low, ties)) = descend(&count(Some(high))?, rest) else {
        return Ok(Cut::NOTHING);
    };
    let bits = (high << LOW_BITS) | low;
    if bits == 0 {
        return Ok(Cut::NONZERO);
    }
    let in_chunks = target.fold(reading, &Ties { key, bits })?;
    Tie::new(bits, ties as usize, in_chunks.into_iter()).resolve(target, reading, key)
}

/// The bin that holds the `rank`-th key from above, and its rank within; `None` for rank 0.
fn descend(bins: &[u64], rank: u64) -> Option<(u32, u64)> {
    let mut left = rank;
    if rank == 0 {
        return None;
    }
    for (bin, count) in bins.iter().enumerate().rev() {
        match left.checked_sub(*count) {
            Some(rest) if rest > 0 => left = rest,
            _ if *count > 0 => return Some((bin as u32, left)),
            _ => {}
        }
    }
    None
}
