//! Which token follows: the likeliest, one that is drawn, or those of the best beams.
//!
//! `spec/suites.md` 4.3. Every row draws from a stream of its own, so that what stands beside it in a
//! batch changes nothing.

use burn::tensor::Tensor;
use debias_core::{Choosing, Draws, Sampling};
use rayon::prelude::*;

use crate::cpu::log_sum_exp;
use crate::error::{Error, Result};
use crate::generate::{Limits, Steps, greedy};
use crate::host;
use crate::logits::{argmax, greatest};

/// Continues each of the prompts called `items`, which `steps` have read, as often as `how` says: the
/// tokens added to each, the stop token included.
///
/// # Errors
/// [`Error::NotFinite`] in the place of a prompt, one of whose rows has logits that are not finite.
pub fn continued(
    steps: &mut dyn Steps,
    items: &[&str],
    how: &Choosing,
    limits: &Limits,
) -> Vec<Result<Vec<Vec<u32>>>> {
    match how {
        Choosing::Greedy => {
            let ids = greedy(steps, items.len(), limits).into_iter();
            ids.map(|ids| Ok(vec![ids?])).collect()
        }
        Choosing::Sample(sampling) => sampled(steps, items, sampling, limits),
        Choosing::Beams(width) => beams(steps, items.len(), *width, limits),
    }
}

/// Tokens that are sorted before all of them are, where `top_p` alone decides.
const FIRST: usize = 1024;

/// The tokens that may follow, likeliest first, and their probabilities, which add up to 1.
///
/// `logits / temperature` in f32; of the `top_k` largest, the lower id first among equals, the shortest
/// prefix whose share of them reaches `top_p`.
fn candidates(logits: &[f32], how: &Sampling) -> Vec<(u32, f64)> {
    if how.temperature == 0.0 {
        return vec![(argmax(logits) as u32, 1.0)];
    }
    let temperature = how.temperature as f32;
    let scaled: Vec<f32> = logits.iter().map(|logit| logit / temperature).collect();
    let peak = scaled.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |id: usize| f64::from(scaled[id] - peak).exp();
    // Sums in another order must not leave out what all of them hold.
    let enough = |whole: f64| {
        if how.top_p < 1.0 {
            how.top_p * whole
        } else {
            f64::INFINITY
        }
    };
    let kept = match how.top_k {
        Some(k) if k < scaled.len() => {
            let ids = greatest(&scaled, k.max(1));
            let whole: f64 = ids.iter().map(|id| weight(*id)).sum();
            prefix(ids, weight, enough(whole))
        }
        _ => {
            let whole: f64 = (0..scaled.len()).map(weight).sum();
            nucleus(&scaled, weight, enough(whole))
        }
    };
    let whole: f64 = kept.iter().map(|(_, weight)| weight).sum();
    let share = |(id, weight): (usize, f64)| (id as u32, weight / whole);
    kept.into_iter().map(share).collect()
}

/// The fewest of all tokens, likeliest first, that weigh `enough`.
fn nucleus(scaled: &[f32], weight: impl Fn(usize) -> f64, enough: f64) -> Vec<(usize, f64)> {
    let order = |a: &usize, b: &usize| scaled[*b].total_cmp(&scaled[*a]).then(a.cmp(b));
    let mut ids: Vec<usize> = (0..scaled.len()).collect();
    if ids.len() > FIRST {
        ids.select_nth_unstable_by(FIRST - 1, order);
        let mut first = ids[..FIRST].to_vec();
        first.sort_unstable_by(order);
        let kept = prefix(first, &weight, enough);
        if kept.iter().map(|(_, weight)| weight).sum::<f64>() >= enough {
            return kept;
        }
    }
    ids.sort_unstable_by(order);
    prefix(ids, weight, enough)
}

/// The shortest prefix of `ids` that weighs `enough`, one at least.
fn prefix(ids: Vec<usize>, weight: impl Fn(usize) -> f64, enough: f64) -> Vec<(usize, f64)> {
    let mut sum = 0.0;
    let mut kept = Vec::new();
    for id in ids {
        if sum >= enough && !kept.is_empty() {
            break;
        }
        let weight = weight(id);
        sum += weight;
        kept.push((id, weight));
    }
    kept
}

/// The first of `candidates` with which their probabilities exceed `u`.
fn drawn(candidates: &[(u32, f64)], u: f64) -> u32 {
    let mut sum = 0.0;
    let found = candidates.iter().find(|(_, share)| {
        sum += share;
        sum > u
    });
    // Rounding may leave the sum of all below 1.
    found.or(candidates.last()).map_or(0, |(id, _)| *id)
}

/// Rows of logits, `[n, vocabulary]`, on the host.
fn rows(logits: Tensor<2>) -> Vec<Vec<f32>> {
    let [_, vocabulary] = logits.dims();
    let values = host::values(logits);
    values
        .chunks(vocabulary.max(1))
        .map(<[f32]>::to_vec)
        .collect()
}

fn is_finite(row: &[f32]) -> bool {
    row.iter().all(|value| value.is_finite())
}

fn not_finite() -> Error {
    Error::NotFinite {
        what: "a logit of the next token".into(),
    }
}

/// One sample on its way.
struct Sample {
    draws: Draws,
    ids: Vec<u32>,
    failed: bool,
}

/// Draws the samples of each prompt; its rows share what was read of it.
fn sampled(
    steps: &mut dyn Steps,
    items: &[&str],
    how: &Sampling,
    limits: &Limits,
) -> Vec<Result<Vec<Vec<u32>>>> {
    let of_item = |item: &&str| {
        let draws = (0..how.samples).map(|k| how.draws(item, k));
        let samples = draws.map(|draws| Sample {
            draws,
            ids: Vec::new(),
            failed: false,
        });
        samples.collect::<Vec<_>>()
    };
    let mut samples: Vec<Sample> = items.iter().flat_map(of_item).collect();
    // Which row of `steps` each open sample stands at: that of its prompt, then its own.
    let mut open: Vec<(usize, usize)> = (0..samples.len())
        .map(|at| (at, at / how.samples.max(1)))
        .collect();
    for position in 0..limits.max_tokens {
        let logits = rows(steps.next());
        let following: Vec<Option<Vec<(u32, f64)>>> = logits
            .par_iter()
            .map(|row| is_finite(row).then(|| candidates(row, how)))
            .collect();
        let (mut going, mut ids, mut still) = (Vec::new(), Vec::new(), Vec::new());
        for (at, row) in &open {
            let sample = &mut samples[*at];
            let Some(candidates) = &following[*row] else {
                sample.failed = true;
                continue;
            };
            let id = drawn(candidates, sample.draws.uniform(position));
            sample.ids.push(id);
            if !limits.stops.contains(&id) {
                still.push((*at, going.len()));
                going.push(*row);
                ids.push(id);
            }
        }
        if going.is_empty() || position + 1 == limits.max_tokens {
            break;
        }
        steps.add(&going, &ids);
        open = still;
    }
    let of_prompt = samples.chunks(how.samples.max(1)).map(|samples| {
        if samples.iter().any(|sample| sample.failed) {
            return Err(not_finite());
        }
        Ok(samples.iter().map(|sample| sample.ids.clone()).collect())
    });
    of_prompt.collect()
}

/// A beam of one prompt.
#[derive(Clone, Debug, Default)]
struct Beam {
    ids: Vec<u32>,
    /// Sum of log-probabilities, in nats.
    score: f64,
    /// Its row of the steps; none once it has ended.
    row: Option<usize>,
}

/// The `width` best beams of each of `n` prompts that `steps` have read, the best first: a beam's score
/// is the sum of its log-probabilities, without a penalty of length, and an ended one keeps its place.
/// Of equal ones the earlier beam and the lower id stand first.
fn beams(
    steps: &mut dyn Steps,
    n: usize,
    width: usize,
    limits: &Limits,
) -> Vec<Result<Vec<Vec<u32>>>> {
    let first = |row| {
        Ok(vec![Beam {
            row: Some(row),
            ..Beam::default()
        }])
    };
    let mut found: Vec<Result<Vec<Beam>>> = (0..n).map(first).collect();
    for position in 0..limits.max_tokens {
        let logits = rows(steps.next());
        let (mut going, mut ids) = (Vec::new(), Vec::new());
        for prompt in &mut found {
            let Ok(beams) = prompt else { continue };
            *prompt = extended(beams, &logits, width, limits);
            for beam in prompt.iter_mut().flatten() {
                let Some(row) = &mut beam.row else { continue };
                going.push(*row);
                *row = ids.len();
                ids.extend(beam.ids.last());
            }
        }
        if going.is_empty() || position + 1 == limits.max_tokens {
            break;
        }
        steps.add(&going, &ids);
    }
    let of_prompt = found.into_iter().map(|beams| {
        let ids = beams?.into_iter().map(|beam| beam.ids);
        Ok(ids.collect())
    });
    of_prompt.collect()
}

/// The best `width` of the ended beams and of every open one with another token.
fn extended(
    beams: &[Beam],
    logits: &[Vec<f32>],
    width: usize,
    limits: &Limits,
) -> Result<Vec<Beam>> {
    let mut all: Vec<Beam> = Vec::new();
    for beam in beams {
        let Some(row) = beam.row else {
            all.push(beam.clone());
            continue;
        };
        let logits = &logits[row];
        if !is_finite(logits) {
            return Err(not_finite());
        }
        let whole = log_sum_exp(logits);
        for id in greatest(logits, width) {
            let mut ids = beam.ids.clone();
            ids.push(id as u32);
            all.push(Beam {
                ids,
                score: beam.score + f64::from(logits[id]) - whole,
                row: (!limits.stops.contains(&(id as u32))).then_some(row),
            });
        }
    }
    // Stable: equal scores keep the order of beams and ids.
    all.sort_by(|a, b| b.score.total_cmp(&a.score));
    all.truncate(width);
    Ok(all)
}

#[cfg(test)]
mod tests;
