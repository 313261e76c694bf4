//! Means of per-record values, with the interval that says how far to trust them.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;
use serde::{Deserialize, Serialize};

/// Number of bootstrap resamples behind every interval.
pub const RESAMPLES: usize = 2000;

/// Share of the resampled values that lie inside the interval.
pub const CONFIDENCE: f64 = 0.95;

/// Resamples drawn at a time: bounds the memory at `records * TILE` counts.
const TILE: usize = 250;

/// A statistic over the records of a cell, with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The statistic on the records as they are.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Records that entered it.
    pub n: usize,
}

/// What one record contributes to a statistic `Σ part / Σ whole`.
///
/// A plain mean has `whole == 1` for every record; a record with `whole == 0` is left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// Numerator.
    pub part: f64,
    /// Denominator, never negative.
    pub whole: f64,
}

impl Share {
    /// One value of a mean over records.
    pub fn of(value: f64) -> Self {
        Self {
            part: value,
            whole: 1.0,
        }
    }

    /// 1 or 0 of a mean over records.
    pub fn when(holds: bool) -> Self {
        Self::of(f64::from(u8::from(holds)))
    }

    /// The fraction `kept / total` of one record, in a mean over records; left out when `total` is 0.
    pub fn fraction(kept: usize, total: usize) -> Self {
        match total {
            0 => Self::pooled(0, 0),
            _ => Self::of(kept as f64 / total as f64),
        }
    }

    /// `kept` of `total`, pooled over the records: long records weigh more.
    pub fn pooled(kept: usize, total: usize) -> Self {
        Self {
            part: kept as f64,
            whole: total as f64,
        }
    }
}

/// Estimates several statistics of the same records with one paired percentile bootstrap.
///
/// `columns[c][r]` is what record `r` contributes to statistic `c`. Whole records are drawn, so
/// an interval is clustered by record, and all columns see the same draws, so differences between
/// them are paired. Sums run in record order in `f64`: equal input and equal `rng` give equal bits
/// on every machine.
///
/// A column whose denominators are all 0 has no value and gives `None`.
///
/// # Panics
/// When the columns differ in length.
pub fn paired_bootstrap(mut rng: ChaCha8Rng, columns: &[Vec<Share>]) -> Vec<Option<Estimate>> {
    let records = columns.first().map_or(0, Vec::len);
    assert!(
        columns.iter().all(|column| column.len() == records),
        "every statistic has one share per record"
    );
    let mut resampled: Vec<Vec<f64>> = vec![Vec::with_capacity(RESAMPLES); columns.len()];
    if records > 0 {
        let mut counts = vec![0_u16; records * TILE];
        for _ in 0..RESAMPLES / TILE {
            draw(&mut rng, records, &mut counts);
            for (column, values) in columns.iter().zip(&mut resampled) {
                resample(column, &counts, values);
            }
        }
    }
    columns
        .iter()
        .zip(resampled)
        .map(|(column, values)| estimate(column, values))
        .collect()
}

/// Draws [`TILE`] resamples: `counts[record * TILE + b]` is how often `record` is in resample `b`.
fn draw(rng: &mut ChaCha8Rng, records: usize, counts: &mut [u16]) {
    counts.fill(0);
    for b in 0..TILE {
        for _ in 0..records {
            // A fixed-point product in place of a library's range type: the draws, and with them
            // every printed interval, must survive an upgrade of that library.
            let record = ((u64::from(rng.next_u32()) * records as u64) >> 32) as usize;
            let count = &mut counts[record * TILE + b];
            *count = count.saturating_add(1);
        }
    }
}

/// Appends the statistic of every resample in which its denominator is not 0.
fn resample(column: &[Share], counts: &[u16], values: &mut Vec<f64>) {
    let (mut part, mut whole) = ([0.0_f64; TILE], [0.0_f64; TILE]);
    for (share, counts) in column.iter().zip(counts.chunks_exact(TILE)) {
        for b in 0..TILE {
            let count = f64::from(counts[b]);
            part[b] += count * share.part;
            whole[b] += count * share.whole;
        }
    }
    values.extend(
        part.into_iter()
            .zip(whole)
            .filter(|(_, whole)| *whole > 0.0)
            .map(|(part, whole)| part / whole),
    );
}

fn estimate(column: &[Share], mut resampled: Vec<f64>) -> Option<Estimate> {
    let (part, whole) = column.iter().fold((0.0, 0.0), |(part, whole), share| {
        (part + share.part, whole + share.whole)
    });
    if whole <= 0.0 {
        return None;
    }
    let value = part / whole;
    resampled.sort_by(f64::total_cmp);
    let tail = (1.0 - CONFIDENCE) / 2.0;
    Some(Estimate {
        value,
        // Equal values summed in different multiplicities may round apart by a unit in the last
        // place; an interval that excludes its own value would look like a mistake.
        low: quantile(&resampled, tail).unwrap_or(value).min(value),
        high: quantile(&resampled, 1.0 - tail).unwrap_or(value).max(value),
        n: column.iter().filter(|share| share.whole > 0.0).count(),
    })
}

/// Linear interpolation between order statistics (Hyndman and Fan's type 7).
fn quantile(sorted: &[f64], p: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = p * last as f64;
    let below = at.floor() as usize;
    let above = (below + 1).min(last);
    Some(sorted[below] + (sorted[above] - sorted[below]) * (at - below as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed;
    use proptest::prelude::*;

    fn rng() -> ChaCha8Rng {
        seed::stream(0, &["bootstrap", "test"])
    }

    fn one(column: Vec<Share>) -> Option<Estimate> {
        paired_bootstrap(rng(), &[column]).remove(0)
    }

    #[test]
    fn a_mean_of_three_numbers() {
        // (0 + 1 + 1) / 3; a resample of three records has 0, 1, 2 or 3 ones.
        let got = one(vec![Share::of(0.0), Share::of(1.0), Share::of(1.0)]).expect("three records");
        assert_eq!(got.value, 2.0 / 3.0);
        // P(no one drawn) = 1/27 > 0.025, so the lower end is 0; P(all ones) = 8/27, so the upper is 1.
        assert_eq!((got.low, got.high, got.n), (0.0, 1.0, 3));
    }

    #[test]
    fn a_pooled_share_weighs_long_records_more() {
        // 1 of 1 and 0 of 3: pooled 1/4, mean over records 1/2.
        let pooled = one(vec![Share::pooled(1, 1), Share::pooled(0, 3)]).expect("two records");
        let mean = one(vec![Share::fraction(1, 1), Share::fraction(0, 3)]).expect("two records");
        assert_eq!((pooled.value, mean.value), (0.25, 0.5));
    }

    #[test]
    fn records_without_a_denominator_are_left_out() {
        let got = one(vec![Share::fraction(0, 0), Share::fraction(1, 2)]).expect("one record");
        assert_eq!((got.value, got.low, got.high, got.n), (0.5, 0.5, 0.5, 1));
        assert_eq!(one(vec![Share::fraction(0, 0)]), None);
        assert_eq!(one(vec![]), None);
    }

    #[test]
    fn the_interval_of_a_fair_coin_is_that_of_the_normal_law() {
        let column = (0..400).map(|i| Share::when(i % 2 == 0)).collect();
        let got = one(column).expect("400 records");
        // 1.96 * sqrt(0.25 / 400) = 0.049.
        assert!((got.low - 0.451).abs() < 0.006, "{got:?}");
        assert!((got.high - 0.549).abs() < 0.006, "{got:?}");
    }

    #[test]
    fn columns_are_paired() {
        let column: Vec<_> = (0..50).map(|i| Share::of(f64::from(i * i))).collect();
        let twice = paired_bootstrap(rng(), &[column.clone(), column]);
        assert_eq!(twice[0], twice[1]);
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.5), Some(2.0));
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), Some(3.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn constant_data_has_an_interval_around_its_value(value in -1e6_f64..1e6, n in 1_usize..60) {
            let got = one(vec![Share::of(value); n]).expect("records");
            prop_assert!(got.low <= got.value && got.value <= got.high);
            prop_assert!(got.high - got.low <= value.abs() * 1e-12);
            prop_assert_eq!(got.n, n);
        }

        #[test]
        fn whole_fractions_are_exact(n in 1_usize..60) {
            let got = one(vec![Share::fraction(7, 7); n]).expect("records");
            prop_assert_eq!((got.value, got.low, got.high), (1.0, 1.0, 1.0));
        }
    }
}
