//! What scores read off logits: log-probabilities, greatest values, divergences.
//!
//! On the processor each number is computed from its row in f64. On a card logits stay where they are
//! (those of one locality item are tens of megabytes) and the same is computed there in f32.

use burn::tensor::{Int, Tensor};
use rayon::prelude::*;

use crate::cpu::{is_here, log_sum_exp};
use crate::host;

/// `log_softmax(logits_i)[targets[i]]` of every row i of `[n, vocabulary]`, not finite where the row is
/// not, and whether each target is the greatest value of its row, the lowest id among equals.
pub(crate) fn answers(logits: Tensor<2>, targets: &[u32]) -> Vec<(f64, bool)> {
    if !is_here(&logits) {
        let first = on_device::greatest(logits.clone(), 1).concat();
        let found = on_device::log_probabilities(logits, targets);
        let right = first
            .iter()
            .zip(targets)
            .map(|(first, id)| *first == *id as usize);
        return found.into_iter().zip(right).collect();
    }
    let [_, vocabulary] = logits.dims();
    let values = host::values(logits);
    targets
        .par_iter()
        .zip(values.par_chunks(vocabulary))
        .map(|(id, row)| (log_probability(row, *id), is_first(row, *id as usize)))
        .collect()
}

/// Whether `id` is the lowest among the greatest.
fn is_first(row: &[f32], id: usize) -> bool {
    let (before, from) = row.split_at(id);
    before.iter().all(|value| *value < row[id]) && from.iter().all(|value| *value <= row[id])
}

fn log_probability(row: &[f32], id: u32) -> f64 {
    f64::from(row[id as usize]) - log_sum_exp(row)
}

/// Lowest id among the greatest.
pub(crate) fn argmax(logits: &[f32]) -> usize {
    greatest(logits, 1).first().copied().unwrap_or(0)
}

/// The ids of the `n` greatest values, greatest first; the lower id first among equals.
pub(crate) fn greatest(logits: &[f32], n: usize) -> Vec<usize> {
    let mut best: Vec<usize> = Vec::with_capacity(n + 1);
    for (id, value) in logits.iter().enumerate() {
        let full = best.len() == n;
        if full && best.last().is_some_and(|last| *value <= logits[*last]) {
            continue;
        }
        let place = best.partition_point(|other| logits[*other] >= *value);
        best.insert(place, id);
        best.truncate(n);
    }
    best
}

/// Σ p (log p - log q), clamped at 0 against rounding.
pub(crate) fn divergence(base: &[f32], edited: &[f32]) -> f64 {
    let (b, e) = (log_sum_exp(base), log_sum_exp(edited));
    base.iter()
        .zip(edited)
        .map(|(x, y)| {
            let log_p = f64::from(*x) - b;
            log_p.exp() * (log_p - (f64::from(*y) - e))
        })
        .sum::<f64>()
        .max(0.0)
}

/// The same of whole tensors, computed where they live.
pub(crate) mod on_device {
    use super::*;

    pub(super) fn log_probabilities(logits: Tensor<2>, targets: &[u32]) -> Vec<f64> {
        let ids = targets.iter().map(|id| i64::from(*id)).collect();
        let ids = host::indices(ids, &logits.device()).reshape([targets.len(), 1]);
        let picked = logits.clone().gather(1, ids) - log_sum_exp(logits);
        doubles(picked)
    }

    /// [`greatest`](super::greatest) of every row.
    pub(crate) fn greatest(logits: Tensor<2>, n: usize) -> Vec<Vec<usize>> {
        let [rows, vocabulary] = logits.dims();
        let n = n.min(vocabulary);
        let ids: Tensor<2, Int> =
            Tensor::arange(0..vocabulary as i64, &logits.device()).unsqueeze();
        let ids = ids.repeat_dim(0, rows);
        let mut rest = logits;
        let mut found = Vec::with_capacity(n);
        for _ in 0..n {
            let beaten = rest.clone().lower(rest.clone().max_dim(1));
            let id = ids.clone().mask_fill(beaten, vocabulary as i64).min_dim(1);
            let taken = ids.clone().equal(id.clone());
            rest = rest.mask_fill(taken, f32::NEG_INFINITY);
            found.push(id);
        }
        let found = host::whole_numbers(Tensor::cat(found, 1));
        let found: Vec<usize> = found.into_iter().map(|id| id as usize).collect();
        found.chunks(n).map(<[usize]>::to_vec).collect()
    }

    /// [`divergence`](super::divergence) of every row.
    pub(crate) fn divergences(base: Tensor<2>, edited: Tensor<2>) -> Vec<f64> {
        let log_p = base.clone() - log_sum_exp(base);
        let log_q = edited.clone() - log_sum_exp(edited);
        let divergences = doubles((log_p.clone().exp() * (log_p - log_q)).sum_dim(1));
        // `max` would make 0 of NaN.
        let clamped = divergences
            .into_iter()
            .map(|kl| if kl < 0.0 { 0.0 } else { kl });
        clamped.collect()
    }

    /// `log Σ e^x` of every row, `[n, 1]`.
    fn log_sum_exp(logits: Tensor<2>) -> Tensor<2> {
        let peak = logits.clone().max_dim(1);
        (logits - peak.clone()).exp().sum_dim(1).log() + peak
    }

    fn doubles(values: Tensor<2>) -> Vec<f64> {
        host::values(values).into_iter().map(f64::from).collect()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::device::DeviceName;

    const ROWS: usize = 7;
    const VOCABULARY: usize = 1_003;

    /// Rows with many equal values.
    fn logits(step: usize) -> Vec<f32> {
        let value = |i: usize| ((i * step) % 97) as f32 / 7.0 - 5.0;
        (0..ROWS * VOCABULARY).map(value).collect()
    }

    fn tensor(values: &[f32]) -> Tensor<2> {
        let device: Device = DeviceName::Cpu.open().expect("always there");
        host::tensor(values.to_vec(), [ROWS, VOCABULARY], &device)
    }

    #[test]
    fn a_device_finds_the_greatest_values_of_the_host_and_ties_in_its_order() {
        let values = logits(31);
        let found = on_device::greatest(tensor(&values), 10);
        for (row, found) in values.chunks(VOCABULARY).zip(found) {
            assert_eq!(found, greatest(row, 10));
        }
        let first: Vec<usize> = values.chunks(VOCABULARY).map(argmax).collect();
        assert_eq!(on_device::greatest(tensor(&values), 1).concat(), first);
    }

    #[test]
    fn a_target_is_the_first_choice_where_it_is_the_lowest_of_the_greatest() {
        let values = logits(31);
        let first: Vec<u32> = values
            .chunks(VOCABULARY)
            .map(|row| argmax(row) as u32)
            .collect();
        let found = |targets: &[u32]| {
            let found = answers(tensor(&values), targets);
            found.into_iter().filter(|(_, first)| *first).count()
        };
        assert_eq!(found(&first), ROWS);
        // Another id of the same value stands behind the first.
        let row = &values[..VOCABULARY];
        let peak = row[first[0] as usize];
        let tie = row
            .iter()
            .rposition(|value| *value == peak)
            .expect("the first at least");
        assert!(tie > first[0] as usize);
        assert_eq!(found(&[tie as u32; ROWS]), 0);
    }

    #[test]
    fn a_device_computes_the_probabilities_and_divergences_of_the_host() {
        let (base, edited) = (logits(31), logits(57));
        let targets: Vec<u32> = (0..ROWS as u32).map(|row| row * 140).collect();
        let host = answers(tensor(&base), &targets);
        let device = on_device::log_probabilities(tensor(&base), &targets);
        for ((host, _), device) in host.iter().zip(device) {
            assert!((host - device).abs() < 1e-5, "{host} {device}");
        }
        let pairs = base.chunks(VOCABULARY).zip(edited.chunks(VOCABULARY));
        let found = on_device::divergences(tensor(&base), tensor(&edited));
        for ((base, edited), found) in pairs.zip(found) {
            let expected = divergence(base, edited);
            assert!(expected > 0.1 && (expected - found).abs() < 1e-5 * expected);
        }
        let same = on_device::divergences(tensor(&base), tensor(&base));
        assert_eq!(same, [0.0; ROWS]);
    }

    #[test]
    fn what_is_not_finite_shows() {
        let mut holed = logits(31);
        holed[5] = f32::NAN;
        holed[VOCABULARY + 5] = f32::INFINITY;
        holed[2 * VOCABULARY + 5] = f32::NEG_INFINITY;
        let found = on_device::divergences(tensor(&holed), tensor(&logits(57)));
        assert!(found[..3].iter().all(|kl| !kl.is_finite()), "{found:?}");
        let found = on_device::log_probabilities(tensor(&holed), &[0; ROWS]);
        assert!(found[..2].iter().all(|log_p| !log_p.is_finite()));
    }
}
