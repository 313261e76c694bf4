//! Which elements of a task vector survive, and by what they are scaled.

use crate::error::Result;
use crate::random::{Draws, threshold};
use crate::stream::{Block, Cut, Fold, Key, Reading, largest, sum};
use crate::target::Target;

use super::bits::{mask, pack};
use super::ranked::Ranked;
use super::sparsifier::Sparsifier;

/// Sums of magnitudes below this are not restored by a factor.
const VANISHING: f64 = 1e-7;

/// The survivors of one task vector.
pub(crate) enum Thinning {
    /// All of them, unscaled: a density of 1 and above.
    All,
    /// None: a density of 0 and below.
    None,
    /// What the first cut keeps and the second does not.
    Cuts { keep: Cut, drop: Cut, factor: f32 },
    /// What was drawn or given.
    Bits {
        bits: Bits,
        factor: f32,
        /// Divides each survivor by the keep probability of its rank.
        ranked: Option<Ranked>,
    },
}

/// One bit per element; every block begins with a word of its own.
pub(crate) struct Bits {
    chunks: Vec<Vec<u64>>,
    /// Words of a full block.
    words: usize,
}

/// Overwrites task vector `i` of a block by `w · sparse(δ)`.
#[inline(always)]
pub(crate) fn thin(kept: &Thinning, i: usize, weight: f32, block: &mut Block) {
    match kept {
        Thinning::All => {}
        Thinning::None => block.input_mut(i).fill(0.0),
        Thinning::Cuts { keep, drop, factor } => {
            let at = block.at;
            cut(keep, drop, at, block.input_mut(i));
            scale(block.input_mut(i), *factor);
        }
        Thinning::Bits {
            bits,
            factor,
            ranked,
        } => {
            if let Some(ranked) = ranked {
                ranked.divide(block.input_mut(i));
            }
            let words = &bits.chunks[block.chunk][block.place * bits.words..];
            mask(block.input_mut(i), words);
            scale(block.input_mut(i), *factor);
        }
    }
    scale(block.input_mut(i), weight);
}

#[inline(always)]
fn scale(values: &mut [f32], factor: f32) {
    if factor != 1.0 {
        values.iter_mut().for_each(|value| *value *= factor);
    }
}

/// Keeps what the first cut keeps and the second, of which it keeps everything, does not.
#[inline(always)]
fn cut(keep: &Cut, drop: &Cut, at: usize, values: &mut [f32]) {
    keep.each(at, values, |value, kept| {
        *value = if kept { *value } else { 0.0 };
    });
    if *drop != Cut::NOTHING {
        drop.each(at, values, |value, kept| {
            *value = if kept { 0.0 } else { *value };
        });
    }
}

/// Magnitudes, the key of every selection here.
pub(crate) struct Magnitude;

impl Key for Magnitude {
    #[inline(always)]
    fn keys(&self, block: &mut Block) {
        block
            .input_mut(0)
            .iter_mut()
            .for_each(|value| *value = value.abs());
    }
}

/// Decides about every task vector of the tensor.
pub(crate) fn decide(
    sparsifier: Sparsifier,
    target: &Target,
    reading: Reading,
) -> Result<Vec<Thinning>> {
    match sparsifier {
        Sparsifier::Dense => Ok(reading.inputs.iter().map(|_| Thinning::All).collect()),
        Sparsifier::Magnitude | Sparsifier::Outliers => {
            let densities = target.of_others("density");
            let one = |(at, density): (usize, &f64)| {
                let reading = Reading {
                    inputs: &reading.inputs[at..=at],
                    ..reading
                };
                by_magnitude(sparsifier, target, reading, at, *density)
            };
            densities.iter().enumerate().map(one).collect()
        }
        Sparsifier::Bernoulli | Sparsifier::Ranked => drawn(sparsifier, target, reading),
    }
}

/// What a density outside (0, 1) leaves, whatever the sparsifier.
fn whole(density: f64) -> Option<Thinning> {
    if density >= 1.0 {
        Some(Thinning::All)
    } else {
        (density <= 0.0).then_some(Thinning::None)
    }
}

/// The magnitudes of one task vector that survive.
fn by_magnitude(
    sparsifier: Sparsifier,
    target: &Target,
    reading: Reading,
    at: usize,
    density: f64,
) -> Result<Thinning> {
    if let Some(thinning) = whole(density) {
        return Ok(thinning);
    }
    let n = target.len();
    let wanted = (density * n as f64) as usize;
    let ranks = match sparsifier {
        Sparsifier::Outliers => {
            let outliers = (target.of_others("gamma")[at] * n as f64) as usize;
            let smallest = (n.saturating_sub(wanted)).saturating_sub(outliers);
            [n - smallest, n - smallest - wanted]
        }
        _ => [wanted.max(1).min(n), 0],
    };
    let cuts = largest(target, reading, &Magnitude, &ranks)?;
    let [keep, drop] = [cuts[0], cuts[1]];
    let factor = match target.flag("rescale") {
        false => 1.0,
        true if inverse(target) => (1.0 / density) as f32,
        true => restoring(&target.fold(reading, &Survivors { keep, drop })?),
    };
    Ok(Thinning::Cuts { keep, drop, factor })
}

fn inverse(target: &Target) -> bool {
    target.text("rescale_mode") == "inverse_prob"
}

/// Magnitudes before and after thinning out.
struct Survivors {
    keep: Cut,
    drop: Cut,
}

impl Fold for Survivors {
    type Part = (f64, f64);

    fn part(&self) -> (f64, f64) {
        (0.0, 0.0)
    }

    #[inline(always)]
    fn block(&self, block: &mut Block, part: &mut (f64, f64)) {
        part.0 += sum(block.input(0), f32::abs);
        let at = block.at;
        cut(&self.keep, &self.drop, at, block.input_mut(0));
        part.1 += sum(block.input(0), f32::abs);
    }
}

/// The factor that gives survivors the L1 norm of the whole.
fn restoring(parts: &[(f64, f64)]) -> f32 {
    let (before, after) = parts
        .iter()
        .fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
    if before < VANISHING || after < VANISHING {
        1.0
    } else {
        (before / after) as f32
    }
}

/// How one element's fate is decided.
enum Fate<'a> {
    /// Kept when its draw is below this.
    Uniform(Draws, u64),
    /// By its rank in its row.
    Ranked(Ranked),
    /// By somebody else's draw.
    Given(&'a [u8]),
}

/// Draws for all task vectors in one pass.
struct Lottery<'a> {
    /// `None` where nothing is left to chance.
    fates: Vec<Option<Fate<'a>>>,
    words: usize,
}

/// What one chunk of one task vector gives.
#[derive(Default)]
struct Drawn {
    words: Vec<u64>,
    sums: (f64, f64),
}

fn drawn(sparsifier: Sparsifier, target: &Target, reading: Reading) -> Result<Vec<Thinning>> {
    let densities = target.of_others("density");
    let mut fates = Vec::with_capacity(densities.len());
    for (at, density) in densities.iter().enumerate() {
        fates.push(match whole(*density) {
            Some(_) => None,
            None => Some(fate(sparsifier, target, at, *density)?),
        });
    }
    let lottery = Lottery {
        fates,
        words: reading.grain.block.div_ceil(64),
    };
    let mut columns: Vec<Vec<Drawn>> = densities.iter().map(|_| Vec::new()).collect();
    for part in target.fold(reading, &lottery)? {
        for (column, drawn) in columns.iter_mut().zip(part) {
            column.push(drawn);
        }
    }
    let words = lottery.words;
    let kept = lottery.fates.into_iter().zip(columns).zip(densities);
    Ok(kept
        .map(|((fate, column), density)| match fate {
            None => whole(density).unwrap_or(Thinning::All),
            Some(fate) => survivors(target, fate, column, words, density),
        })
        .collect())
}

fn fate<'a>(
    sparsifier: Sparsifier,
    target: &'a Target,
    at: usize,
    density: f64,
) -> Result<Fate<'a>> {
    let given = match target.run.masks {
        Some(masks) => masks.find(target.name(), at, target.len())?,
        None => None,
    };
    let draws = Draws::new(target.run.seed, target.name(), at as u64);
    Ok(match (given, sparsifier) {
        (Some(mask), _) => Fate::Given(mask),
        (None, Sparsifier::Ranked) => {
            let epsilon = target.of_others("epsilon")[at];
            Fate::Ranked(Ranked::new(draws, density, epsilon, target.shape()))
        }
        (None, _) => Fate::Uniform(draws, threshold(density)),
    })
}

fn survivors(
    target: &Target,
    fate: Fate,
    column: Vec<Drawn>,
    words: usize,
    density: f64,
) -> Thinning {
    let sums: Vec<_> = column.iter().map(|drawn| drawn.sums).collect();
    let bits = Bits {
        chunks: column.into_iter().map(|drawn| drawn.words).collect(),
        words,
    };
    let rescale = target.flag("rescale");
    let (factor, ranked) = match (rescale, rescale && inverse(target), fate) {
        (false, ..) => (1.0, None),
        (true, false, _) => (restoring(&sums), None),
        (true, true, Fate::Ranked(ranked)) => (1.0, Some(ranked)),
        (true, true, _) => ((1.0 / density) as f32, None),
    };
    Thinning::Bits {
        bits,
        factor,
        ranked,
    }
}

impl Fold for Lottery<'_> {
    type Part = Vec<Drawn>;

    fn part(&self) -> Vec<Drawn> {
        self.fates.iter().map(|_| Drawn::default()).collect()
    }

    #[inline(always)]
    fn block(&self, block: &mut Block, part: &mut Vec<Drawn>) {
        let at = block.at;
        for (i, (fate, drawn)) in self.fates.iter().zip(part).enumerate() {
            let Some(fate) = fate else {
                continue;
            };
            let first = drawn.words.len();
            drawn.words.resize(first + self.words, 0);
            let words = &mut drawn.words[first..];
            let values = block.input_mut(i);
            let before = sum(values, f32::abs);
            match fate {
                Fate::Uniform(draws, below) => {
                    pack(words, values.len(), *below, |start, row| {
                        draws.fill(at + start, row);
                    });
                }
                Fate::Given(mask) => pack(words, values.len(), 1, |start, row| {
                    for (draw, kept) in row.iter_mut().zip(&mask[at + start..]) {
                        *draw = u64::from(*kept == 0);
                    }
                }),
                Fate::Ranked(ranked) => {
                    let mean = before / values.len() as f64;
                    ranked.draw(at, values, mean as f32, words);
                }
            }
            drawn.sums.0 += before;
            mask(values, words);
            drawn.sums.1 += sum(values, f32::abs);
        }
    }
}
