//! How much of the never-edited model's answers to unrelated questions an edit keeps.

use std::ops::Range;

use burn::tensor::Tensor;
use debias_core::LocalityScore;

use crate::batch::Row;
use crate::cpu::is_here;
use crate::error::{Error, Result};
use crate::host;
use crate::logits::{argmax, divergence, greatest, on_device};

/// Ranks compared by the reference M-Locality.
const TOP: usize = 10;

/// Positions that a device compares at once: 50 MiB per model at a vocabulary of 50,000.
const PIECE: usize = 256;

/// Compares the edited model's logits with the never-edited model's on unrelated items,
/// `[b, t, vocabulary]` each.
///
/// # Errors
/// [`Error::NotFinite`] when any compared logit is NaN or infinite.
pub fn locality(rows: &[Row], base: &Tensor<3>, edited: Tensor<3>) -> Result<Vec<LocalityScore>> {
    let [b, t, vocabulary] = base.dims();
    let flat = |logits: Tensor<3>| logits.reshape([b * t, vocabulary]);
    let lengths: Vec<usize> = rows.iter().map(|row| row.ids.len()).collect();
    let compared = compare(flat(base.clone()), flat(edited), t, &lengths)?;
    let scores = rows.iter().zip(compared).map(|(row, compared)| {
        let answers = row.answer_positions();
        let ids = &row.ids[row.ids.len() - answers.len()..];
        tally(&compared, &answers, ids)
    });
    Ok(scores.collect())
}

/// Compares positions that belong together, `[n, vocabulary]` each, for edits that change the
/// length of the prompt; `answers` are those among the n that predict answer tokens, which are
/// `ids`.
///
/// # Errors
/// [`Error::NotFinite`] when any compared logit is NaN or infinite.
pub fn locality_of_pairs(
    base: Tensor<2>,
    edited: Tensor<2>,
    answers: Range<usize>,
    ids: &[u32],
) -> Result<LocalityScore> {
    let [n, _] = base.dims();
    let compared = compare(base, edited, n, &[n])?;
    Ok(tally(&compared.concat(), &answers, ids))
}

/// The first `lengths[r]` positions of every row r of `width`, seen by both models.
fn compare(
    base: Tensor<2>,
    edited: Tensor<2>,
    width: usize,
    lengths: &[usize],
) -> Result<Vec<Vec<Compared>>> {
    let wanted = lengths.iter().enumerate();
    let wanted: Vec<usize> = wanted
        .flat_map(|(row, length)| row * width..row * width + length)
        .collect();
    let compared: Vec<Compared> = match is_here(&base) && is_here(&edited) {
        true => on_host(base, edited, &wanted),
        false => {
            let pieces = wanted.chunks(PIECE);
            pieces
                .flat_map(|piece| elsewhere(&base, &edited, piece))
                .collect()
        }
    };
    if compared.iter().any(|pair| !pair.kl.is_finite()) {
        return Err(Error::NotFinite {
            what: "a logit of a locality item".into(),
        });
    }
    let mut compared = compared.into_iter();
    let of_rows = lengths
        .iter()
        .map(|length| compared.by_ref().take(*length).collect());
    Ok(of_rows.collect())
}

fn on_host(base: Tensor<2>, edited: Tensor<2>, wanted: &[usize]) -> Vec<Compared> {
    let [_, vocabulary] = base.dims();
    let (base, edited) = (host::values(base), host::values(edited));
    let stretch = |at: usize| at * vocabulary..(at + 1) * vocabulary;
    let pairs = wanted.iter().map(|at| stretch(*at));
    pairs
        .map(|pair| Compared::new(&base[pair.clone()], &edited[pair]))
        .collect()
}

fn elsewhere(base: &Tensor<2>, edited: &Tensor<2>, wanted: &[usize]) -> Vec<Compared> {
    let index = wanted.iter().map(|at| *at as i64).collect();
    let index = host::indices(index, &base.device());
    let [base, edited] = [base, edited].map(|logits| logits.clone().select(0, index.clone()));
    let before = on_device::greatest(base.clone(), TOP);
    let after = on_device::greatest(edited.clone(), TOP);
    let ranked = before.into_iter().zip(after);
    let kl = on_device::divergences(base, edited);
    ranked
        .zip(kl)
        .map(|((before, after), kl)| Compared::ranked(&before, &after, kl))
        .collect()
}

fn tally(compared: &[Compared], answers: &Range<usize>, ids: &[u32]) -> LocalityScore {
    let mut score = Tally::default();
    for (position, pair) in compared.iter().enumerate() {
        let is_answer = answers.contains(&position);
        score.add(pair, is_answer);
        if is_answer && let Some(id) = ids.get(position - answers.start) {
            score.correct += usize::from(pair.first == *id as usize);
        }
    }
    score.finish()
}

/// One position seen by both models.
#[derive(Clone, Debug, PartialEq)]
struct Compared {
    /// The edited model's first choice.
    first: usize,
    top1: bool,
    ranks_kept: usize,
    shared: usize,
    ranks: usize,
    kl: f64,
}

impl Compared {
    fn new(base: &[f32], edited: &[f32]) -> Self {
        if base == edited {
            let ranks = TOP.min(base.len());
            return Self {
                first: argmax(edited),
                top1: true,
                ranks_kept: ranks,
                shared: ranks,
                ranks,
                kl: 0.0,
            };
        }
        let kl = divergence(base, edited);
        Self::ranked(&greatest(base, TOP), &greatest(edited, TOP), kl)
    }

    /// From the ids of the greatest logits before and after, greatest first.
    fn ranked(before: &[usize], after: &[usize], kl: f64) -> Self {
        Self {
            first: after.first().copied().unwrap_or(0),
            top1: before.first() == after.first(),
            ranks_kept: before.iter().zip(after).filter(|(b, a)| b == a).count(),
            shared: before.iter().filter(|id| after.contains(id)).count(),
            ranks: before.len(),
            kl,
        }
    }
}

#[derive(Default)]
struct Tally {
    all: Sums,
    answers: Sums,
    correct: usize,
}

#[derive(Default)]
struct Sums {
    positions: usize,
    top1: usize,
    ranks_kept: usize,
    shared: usize,
    ranks: usize,
    kl: f64,
}

impl Sums {
    fn add(&mut self, pair: &Compared) {
        self.positions += 1;
        self.top1 += usize::from(pair.top1);
        self.ranks_kept += pair.ranks_kept;
        self.shared += pair.shared;
        self.ranks += pair.ranks;
        self.kl += pair.kl;
    }

    fn mean_kl(&self) -> f64 {
        self.kl / self.positions.max(1) as f64
    }
}

impl Tally {
    fn add(&mut self, pair: &Compared, is_answer: bool) {
        self.all.add(pair);
        if is_answer {
            self.answers.add(pair);
        }
    }

    fn finish(self) -> LocalityScore {
        LocalityScore {
            positions: self.all.positions,
            top1_kept: self.all.top1,
            top10_rank_kept: self.all.ranks_kept,
            ranks: self.all.ranks,
            answer_positions: self.answers.positions,
            answer_top1_kept: self.answers.top1,
            answer_correct: Some(self.correct),
            answer_top10_shared: self.answers.shared,
            answer_ranks: self.answers.ranks,
            kl: self.all.mean_kl(),
            answer_kl: self.answers.mean_kl(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceName;

    /// Logits of 5 positions over 53 tokens, with ties; those of position 2 are the same in all.
    fn logits(step: usize) -> Tensor<2> {
        let value = |i: usize| match i / 53 {
            2 => (i % 7) as f32,
            _ => ((i * step) % 23) as f32 / 3.0,
        };
        let device = DeviceName::Cpu.open().expect("always there");
        host::tensor((0..5 * 53).map(value).collect(), [5, 53], &device)
    }

    #[test]
    fn a_device_compares_as_the_host_does() {
        let (base, edited) = (logits(31), logits(17));
        let wanted = [0, 1, 2, 4];
        let host = on_host(base.clone(), edited.clone(), &wanted);
        let device = elsewhere(&base, &edited, &wanted);
        for (host, device) in host.iter().zip(&device) {
            assert!((host.kl - device.kl).abs() <= 1e-5, "{host:?} {device:?}");
            let kl = host.kl;
            assert_eq!(
                *host,
                Compared {
                    kl,
                    ..device.clone()
                }
            );
        }
        assert_eq!((host[2].kl, device[2].kl), (0.0, 0.0));
        assert!(host.iter().any(|pair| !pair.top1 && pair.ranks_kept < TOP));
    }
}
