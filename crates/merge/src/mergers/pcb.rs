//! Parameter competition balancing (PCB-merging).

use rayon::prelude::*;

use crate::card::{
    Base, Contract, Fallback, Kind, MergerCard, Parameter, ParameterScope, Values, word,
};
use crate::error::Result;
use crate::merger::{Facts, Merger};
use crate::stream::{Block, Each, Fold};
use crate::target::Target;

static CARD: MergerCard = MergerCard {
    id: "pcb",
    version: 1,
    title: "Weigh each parameter by its own size and by its agreement with other tasks",
    summary: "Every value of every task vector competes: within its task by magnitude, between tasks by the product with the sum of all. The best share is averaged by those scores, the rest is left out. Quantiles are taken over the whole model.",
    paper: "Du et al., Parameter Competition Balancing for Model Merging, NeurIPS 2024, arXiv:2410.02396 (its released code, where text and code differ)",
    equation: "β_i = exp(N mm(|T_i|)²) tanh(T_i Σ T_j); s_i = mm(max(β_i, q_{1-ratio})); r = θ + λ Σ s_i T_i / Σ s_i",
    inputs: Contract {
        base: Base::Required,
        min: 1,
        max: None,
    },
    parameters: &[
        Parameter {
            name: "ratio",
            scope: ParameterScope::Shared,
            kind: Kind::Ratio,
            default: Fallback::Number(0.1),
            help: "share of each task vector that is kept",
        },
        Parameter {
            name: "lambda",
            scope: ParameterScope::Other,
            kind: Kind::Number,
            default: Fallback::Number(1.2),
            help: "scales the merged task vector, or this task's part of it",
        },
        word(
            "scope",
            &["model", "tensor"],
            "whether quantiles are those of the whole model (as the paper) or of each tensor",
        ),
    ],
    degenerate: "Task vectors of zeros add nothing. One task: its best values as they are.",
};

/// Share that is clipped at either end of the magnitudes.
const CLIPPED: f64 = 1e-4;

/// Sums of scores below this are not divided by.
const VANISHING: f64 = 1e-12;

pub(super) struct Pcb;

impl Merger for Pcb {
    fn card(&self) -> &MergerCard {
        &CARD
    }

    fn check(
        &self,
        shared: &Values,
        _others: &[&Values],
    ) -> std::result::Result<(), (&'static str, String)> {
        // At 1 the quantile would lie below the smallest value.
        if shared.number("ratio") < 1.0 {
            Ok(())
        } else {
            Err(("ratio", "must be below 1; 0.1 is usual".to_owned()))
        }
    }

    fn passes(&self) -> usize {
        5
    }

    fn survey(&self, targets: &[&Target]) -> Result<Facts> {
        let asking: Vec<&Target> = targets
            .iter()
            .copied()
            .filter(|target| target.text("scope") == "model")
            .collect();
        let numbers = if asking.is_empty() {
            Vec::new()
        } else {
            Bounds::numbers(&bounds(&asking)?)
        };
        Ok(Facts {
            numbers,
            ..Facts::default()
        })
    }

    fn merge(&self, target: &Target, facts: &Facts) -> Result<()> {
        let bounds = match target.text("scope") {
            "model" => Bounds::of_numbers(&facts.numbers),
            _ => bounds(&[target])?,
        };
        let balance = Balance {
            bounds,
            lambdas: target.of_others("lambda"),
        };
        target.each(target.deltas(), &balance)
    }
}

/// Where one task's magnitudes and scores are clipped.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Bounds {
    /// Of |T|.
    magnitude: [f32; 2],
    /// Of β: the quantile, and the largest.
    score: [f32; 2],
}

impl Bounds {
    fn numbers(all: &[Self]) -> Vec<f64> {
        let each = |b: &Self| [b.magnitude[0], b.magnitude[1], b.score[0], b.score[1]];
        all.iter().flat_map(each).map(f64::from).collect()
    }

    fn of_numbers(numbers: &[f64]) -> Vec<Self> {
        let (tasks, _) = numbers.as_chunks::<4>();
        let each = tasks.iter().map(|n| n.map(|x| x as f32));
        each.map(|[a, b, c, d]| Self {
            magnitude: [a, b],
            score: [c, d],
        })
        .collect()
    }

    /// `|T|` clipped, and as a share of its range.
    #[inline(always)]
    fn clipped(&self, value: f32) -> (f64, f64) {
        let [low, high] = self.magnitude;
        let clipped = value.abs().clamp(low, high.max(low));
        let range = f64::from(high) - f64::from(low);
        let share = if range > 0.0 {
            (f64::from(clipped) - f64::from(low)) / range
        } else {
            0.0
        };
        (f64::from(clipped), share)
    }

    /// β of one value of a task among `n`, where the task vectors sum to `total`.
    #[inline(always)]
    fn balance(&self, value: f32, total: f32, n: f64) -> f32 {
        let (_, share) = self.clipped(value);
        let within = (n * share * share).exp();
        let between = (f64::from(value) * f64::from(total)).tanh();
        (within * between) as f32
    }

    /// The score as a share of its range above the quantile.
    #[inline(always)]
    fn score(&self, balance: f32) -> f64 {
        let [low, high] = self.score.map(f64::from);
        let range = high - low;
        if range > 0.0 {
            (f64::from(balance).max(low) - low) / range
        } else {
            0.0
        }
    }
}

/// The sum of all task vectors at one place.
#[inline(always)]
fn total(block: &Block, lane: usize) -> f32 {
    let mut total = 0.0;
    for i in 0..block.count() {
        total += block.input(i)[lane];
    }
    total
}

struct Balance {
    bounds: Vec<Bounds>,
    lambdas: Vec<f64>,
}

impl Each for Balance {
    #[inline(always)]
    fn block(&self, block: &mut Block, out: &mut [f32]) {
        let n = self.bounds.len() as f64;
        for (lane, out) in out.iter_mut().enumerate() {
            let total = total(block, lane);
            let (mut sum, mut scores) = (0.0f64, 0.0f64);
            for (i, bounds) in self.bounds.iter().enumerate() {
                let value = block.input(i)[lane];
                let score = bounds.score(bounds.balance(value, total, n));
                let (clipped, _) = bounds.clipped(value);
                // A zero has no sign, and so no clipped magnitude.
                let signed = if value == 0.0 {
                    0.0
                } else {
                    clipped.copysign(f64::from(value))
                };
                sum += score * self.lambdas[i] * signed;
                scores += score;
            }
            *out = block.base()[lane] + (sum / scores.max(VANISHING)) as f32;
        }
    }
}

/// The bounds of every task over all values of some tensors: four passes.
fn bounds(targets: &[&Target]) -> Result<Vec<Bounds>> {
    let Some(first) = targets.first() else {
        return Ok(Vec::new());
    };
    let tasks = first.others().len();
    let values: usize = targets.iter().map(|target| target.len()).sum();
    // Ranks count from the smallest, as sorted lists do.
    let low = ((values as f64 * CLIPPED) as usize).min(values.saturating_sub(1));
    let high = (values as f64 * (1.0 - CLIPPED) - 1.0).max(0.0) as usize;
    let mut bounds = vec![Bounds::default(); tasks];
    let magnitudes = quantiles(targets, &bounds, Of::Magnitude, &[low, high])?;
    for (bounds, found) in bounds.iter_mut().zip(magnitudes) {
        bounds.magnitude = [found[0], found[1]];
    }
    let ratio = first.number("ratio");
    let floor = ((values as f64 * (1.0 - ratio)) as usize).min(values.saturating_sub(1));
    let scores = quantiles(
        targets,
        &bounds,
        Of::Score,
        &[floor, values.saturating_sub(1)],
    )?;
    for (bounds, found) in bounds.iter_mut().zip(scores) {
        bounds.score = [found[0], found[1]];
    }
    Ok(bounds)
}

/// What is ranked.
#[derive(Clone, Copy)]
enum Of {
    Magnitude,
    Score,
}

/// Counts the high or the low halves of ordered bit patterns, per task.
struct Counts<'a> {
    of: Of,
    bounds: &'a [Bounds],
    /// High halves whose low halves are counted, per task; none counts the high ones.
    within: &'a [Vec<u32>],
}

const BINS: usize = 1 << 16;

impl Counts<'_> {
    fn tables(&self) -> usize {
        self.within.first().map_or(1, Vec::len)
    }
}

impl Fold for Counts<'_> {
    type Part = Vec<u64>;

    fn part(&self) -> Vec<u64> {
        vec![0; self.bounds.len() * self.tables() * BINS]
    }

    #[inline(always)]
    fn block(&self, block: &mut Block, part: &mut Vec<u64>) {
        let n = self.bounds.len() as f64;
        for lane in 0..block.len() {
            let total = total(block, lane);
            for (i, bounds) in self.bounds.iter().enumerate() {
                let value = block.input(i)[lane];
                let key = ordered(match self.of {
                    Of::Magnitude => value.abs(),
                    Of::Score => bounds.balance(value, total, n),
                });
                let (high, low) = ((key >> 16) as usize, (key & 0xffff) as usize);
                match self.within.get(i) {
                    None => part[i * BINS + high] += 1,
                    Some(wanted) => {
                        for (table, wanted) in wanted.iter().enumerate() {
                            if *wanted as usize == high {
                                part[(i * self.tables() + table) * BINS + low] += 1;
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Bits that sort as the floats do, negative ones included.
#[inline(always)]
fn ordered(value: f32) -> u32 {
    let bits = value.to_bits();
    if bits >> 31 == 1 {
        !bits
    } else {
        bits | 1 << 31
    }
}

fn unordered(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 {
        key & !(1 << 31)
    } else {
        !key
    })
}

/// The values of these ranks (0 the smallest) of every task, exactly.
fn quantiles(
    targets: &[&Target],
    bounds: &[Bounds],
    of: Of,
    ranks: &[usize],
) -> Result<Vec<Vec<f32>>> {
    let count = |within: &[Vec<u32>]| -> Result<Vec<u64>> {
        let counts = Counts { of, bounds, within };
        let each: Result<Vec<_>> = targets
            .iter()
            .map(|target| target.tally(target.deltas(), &counts, add))
            .collect();
        Ok(each?.into_iter().reduce(add).unwrap_or_default())
    };
    let coarse = count(&[])?;
    let places: Vec<Vec<(u32, u64)>> = (0..bounds.len())
        .map(|task| {
            let bins = &coarse[task * BINS..][..BINS];
            ranks
                .iter()
                .map(|rank| descend(bins, *rank as u64))
                .collect()
        })
        .collect();
    let within: Vec<Vec<u32>> = places
        .iter()
        .map(|places| places.iter().map(|(high, _)| *high).collect())
        .collect();
    let fine = count(&within)?;
    let found = places.iter().enumerate().map(|(task, places)| {
        let of_rank = |(at, (high, rest)): (usize, &(u32, u64))| {
            let bins = &fine[(task * ranks.len() + at) * BINS..][..BINS];
            let (low, _) = descend(bins, *rest);
            unordered(high << 16 | low)
        };
        places.iter().enumerate().map(of_rank).collect()
    });
    Ok(found.collect())
}

fn add(mut a: Vec<u64>, b: Vec<u64>) -> Vec<u64> {
    a.par_iter_mut().zip(b).for_each(|(a, b)| *a += b);
    a
}

/// The bin that holds the value of this rank from below, and its rank within.
fn descend(bins: &[u64], rank: u64) -> (u32, u64) {
    let mut left = rank;
    for (bin, count) in bins.iter().enumerate() {
        match left.checked_sub(*count) {
            Some(rest) => left = rest,
            None => return (bin as u32, left),
        }
    }
    (0, 0)
}
