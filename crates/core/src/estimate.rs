//! Means of per-record values, with the interval that says how far to trust them.

use std::collections::HashMap;

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
    /// Lines that entered it.
    pub n: usize,
}

/// What one line contributes to a figure of the whole set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taken {
    /// The part of the set that it belongs to, for figures that are means over parts.
    pub part: String,
    /// Its numbers.
    pub values: Vec<f64>,
}

/// What one record contributes to a statistic `Σ part / Σ whole`.
///
/// A plain mean has `whole == 1` for every record; a record with `whole == 0` is left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// Numerator.
    pub part: f64,
    /// Denominator, never negative.
    pub whole: f64,
}

impl Ratio {
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

    /// No contribution: the record is left out.
    pub fn none() -> Self {
        Self::pooled(0, 0)
    }

    /// `kept` of `total`, pooled over the records: long records weigh more.
    pub fn pooled(kept: usize, total: usize) -> Self {
        Self {
            part: kept as f64,
            whole: total as f64,
        }
    }
}

/// What lines contribute to a figure of the whole set, as a resample weighs them: all lines of one
/// cluster and part that contribute the same numbers, which are always drawn together.
#[derive(Clone, Copy, Debug)]
pub struct Weighed<'t> {
    /// The part of the set that they belong to, numbered from 0 in order of first appearance.
    pub part: usize,
    /// How many lines they are in the set as it is.
    pub lines: f64,
    /// How many they are in the resample: `lines` times how often their cluster was drawn.
    pub weight: f64,
    /// The numbers of each.
    pub values: &'t [f64],
}

/// What a column is computed from: the lines that enter it, by number. A column of one category
/// then costs what that category does, however many lines the others have.
enum Contributions {
    Ratios(Vec<(usize, Ratio)>),
    Whole {
        entries: Vec<Entry>,
        value: fn(&[Weighed]) -> Option<f64>,
    },
}

/// Lines of one cluster and part that contribute the same numbers. Right or wrong answers to a few
/// hundred templates are a few entries each, however many thousand rows there are.
struct Entry {
    cluster: usize,
    part: usize,
    lines: f64,
    values: Vec<f64>,
}

/// Estimates several statistics of the same lines with one paired percentile bootstrap.
///
/// Whole clusters of lines are drawn, and all columns see the same draws, so differences between
/// them are paired. Sums run in line order in `f64`: equal input and equal `rng` give equal bits on
/// every machine.
pub struct Bootstrap {
    rng: ChaCha8Rng,
    /// The cluster of each line, numbered in order of first appearance.
    clusters: Vec<usize>,
    columns: Vec<Contributions>,
}

impl Bootstrap {
    /// A bootstrap over lines, of each of which `clusters` says the cluster.
    pub fn new(rng: ChaCha8Rng, clusters: &[&str]) -> Self {
        Self {
            rng,
            clusters: numbered(clusters.iter().copied()),
            columns: Vec::new(),
        }
    }

    /// Adds a column `Σ part / Σ whole`, one ratio per line.
    ///
    /// # Panics
    /// When there is not one ratio per line.
    pub fn add_ratio(&mut self, ratios: Vec<Ratio>) {
        assert_eq!(
            ratios.len(),
            self.clusters.len(),
            "every line has one ratio"
        );
        let entering = |(_, ratio): &(usize, Ratio)| ratio.part != 0.0 || ratio.whole != 0.0;
        let ratios = ratios.into_iter().enumerate().filter(entering).collect();
        self.columns.push(Contributions::Ratios(ratios));
    }

    /// Adds a column of the whole set, one contribution per line or none.
    ///
    /// # Panics
    /// When there is not one entry per line.
    pub fn add_whole(&mut self, taken: Vec<Option<Taken>>, value: fn(&[Weighed]) -> Option<f64>) {
        assert_eq!(taken.len(), self.clusters.len(), "every line has one entry");
        let parts = numbered(taken.iter().flatten().map(|taken| taken.part.as_str()));
        let entering = self.clusters.iter().zip(taken);
        let entering = entering.filter_map(|(cluster, taken)| Some((*cluster, taken?.values)));
        let mut entries: Vec<Entry> = Vec::new();
        let mut known = HashMap::new();
        for ((cluster, values), part) in entering.zip(parts) {
            let bits: Vec<u64> = values.iter().map(|value| value.to_bits()).collect();
            let at = *known.entry((cluster, part, bits)).or_insert_with(|| {
                entries.push(Entry {
                    cluster,
                    part,
                    lines: 0.0,
                    values,
                });
                entries.len() - 1
            });
            entries[at].lines += 1.0;
        }
        self.columns.push(Contributions::Whole { entries, value });
    }

    /// The estimate of every column, in the order in which they were added; none for one without
    /// any denominator, or that is not defined.
    pub fn estimates(mut self) -> Vec<Option<Estimate>> {
        let clusters = self.clusters.iter().max().map_or(0, |last| last + 1);
        let mut resampled: Vec<Vec<f64>> = vec![Vec::with_capacity(RESAMPLES); self.columns.len()];
        if clusters > 0 {
            let mut counts = vec![0_u16; clusters * TILE];
            for _ in 0..RESAMPLES / TILE {
                draw(&mut self.rng, clusters, &mut counts);
                for (column, values) in self.columns.iter().zip(&mut resampled) {
                    column.resample(&self.clusters, &counts, values);
                }
            }
        }
        let columns = self.columns.iter().zip(resampled);
        columns
            .map(|(column, values)| estimate(column, values))
            .collect()
    }
}

/// Numbers for names, in order of first appearance.
fn numbered<'n>(names: impl Iterator<Item = &'n str>) -> Vec<usize> {
    let mut known: HashMap<&str, usize> = HashMap::new();
    names
        .map(|name| {
            let next = known.len();
            *known.entry(name).or_insert(next)
        })
        .collect()
}

/// Draws [`TILE`] resamples: `counts[cluster * TILE + b]` is how often `cluster` is in resample `b`.
fn draw(rng: &mut ChaCha8Rng, clusters: usize, counts: &mut [u16]) {
    counts.fill(0);
    for b in 0..TILE {
        for _ in 0..clusters {
            // A fixed-point product in place of a library's range type: the draws, and with them
            // every printed interval, must survive an upgrade of that library.
            let cluster = ((u64::from(rng.next_u32()) * clusters as u64) >> 32) as usize;
            let count = &mut counts[cluster * TILE + b];
            *count = count.saturating_add(1);
        }
    }
}

impl Contributions {
    /// Appends the statistic of every resample in which it is defined.
    fn resample(&self, clusters: &[usize], counts: &[u16], values: &mut Vec<f64>) {
        match self {
            Contributions::Ratios(ratios) => resample(ratios, clusters, counts, values),
            Contributions::Whole { entries, value } => {
                for b in 0..TILE {
                    let weight = |cluster: usize| f64::from(counts[cluster * TILE + b]);
                    values.extend(value(&weighed(entries, weight)));
                }
            }
        }
    }

    /// The statistic of the lines as they are, and how many of them enter it.
    fn value(&self) -> Option<(f64, usize)> {
        match self {
            Contributions::Ratios(ratios) => {
                let (part, whole) = ratios.iter().fold((0.0, 0.0), |(part, whole), (_, ratio)| {
                    (part + ratio.part, whole + ratio.whole)
                });
                let n = ratios.iter().filter(|(_, ratio)| ratio.whole > 0.0).count();
                (whole > 0.0).then_some((part / whole, n))
            }
            Contributions::Whole { entries, value } => {
                let n: f64 = entries.iter().map(|entry| entry.lines).sum();
                Some((value(&weighed(entries, |_| 1.0))?, n as usize))
            }
        }
    }
}

/// The contributions to a figure of the whole set; those that were not drawn are left out. `drawn`
/// says how often a cluster was.
fn weighed(entries: &[Entry], drawn: impl Fn(usize) -> f64) -> Vec<Weighed<'_>> {
    let weighed = entries.iter().map(|entry| Weighed {
        part: entry.part,
        lines: entry.lines,
        weight: entry.lines * drawn(entry.cluster),
        values: &entry.values,
    });
    weighed.filter(|entry| entry.weight > 0.0).collect()
}

/// Appends `Σ part / Σ whole` of every resample in which its denominator is not 0.
fn resample(column: &[(usize, Ratio)], clusters: &[usize], counts: &[u16], values: &mut Vec<f64>) {
    let (mut part, mut whole) = ([0.0_f64; TILE], [0.0_f64; TILE]);
    for (line, ratio) in column {
        let counts = &counts[clusters[*line] * TILE..][..TILE];
        for b in 0..TILE {
            let count = f64::from(counts[b]);
            part[b] += count * ratio.part;
            whole[b] += count * ratio.whole;
        }
    }
    values.extend(
        part.into_iter()
            .zip(whole)
            .filter(|(_, whole)| *whole > 0.0)
            .map(|(part, whole)| part / whole),
    );
}

fn estimate(column: &Contributions, mut resampled: Vec<f64>) -> Option<Estimate> {
    let (value, n) = column.value()?;
    resampled.sort_by(f64::total_cmp);
    let tail = (1.0 - CONFIDENCE) / 2.0;
    Some(Estimate {
        value,
        // Equal values summed in different multiplicities may round apart by a unit in the last
        // place; an interval that excludes its own value would look like a mistake.
        low: quantile(&resampled, tail).unwrap_or(value).min(value),
        high: quantile(&resampled, 1.0 - tail).unwrap_or(value).max(value),
        n,
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

    /// Columns over lines of which each is a cluster of its own.
    fn paired(columns: &[Vec<Ratio>]) -> Vec<Option<Estimate>> {
        let names: Vec<String> = (0..columns[0].len()).map(|i| i.to_string()).collect();
        let clusters: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut bootstrap = Bootstrap::new(rng(), &clusters);
        for column in columns {
            bootstrap.add_ratio(column.clone());
        }
        bootstrap.estimates()
    }

    fn one(column: Vec<Ratio>) -> Option<Estimate> {
        paired(&[column]).remove(0)
    }

    #[test]
    fn a_mean_of_three_numbers() {
        // (0 + 1 + 1) / 3; a resample of three records has 0, 1, 2 or 3 ones.
        let got = one(vec![Ratio::of(0.0), Ratio::of(1.0), Ratio::of(1.0)]).expect("three records");
        assert_eq!(got.value, 2.0 / 3.0);
        // P(no one drawn) = 1/27 > 0.025, so the lower end is 0; P(all ones) = 8/27, so the upper is 1.
        assert_eq!((got.low, got.high, got.n), (0.0, 1.0, 3));
    }

    #[test]
    fn a_pooled_share_weighs_long_records_more() {
        // 1 of 1 and 0 of 3: pooled 1/4, mean over records 1/2.
        let pooled = one(vec![Ratio::pooled(1, 1), Ratio::pooled(0, 3)]).expect("two records");
        let mean = one(vec![Ratio::fraction(1, 1), Ratio::fraction(0, 3)]).expect("two records");
        assert_eq!((pooled.value, mean.value), (0.25, 0.5));
    }

    #[test]
    fn records_without_a_denominator_are_left_out() {
        let got = one(vec![Ratio::fraction(0, 0), Ratio::fraction(1, 2)]).expect("one record");
        assert_eq!((got.value, got.low, got.high, got.n), (0.5, 0.5, 0.5, 1));
        assert_eq!(one(vec![Ratio::fraction(0, 0)]), None);
        assert_eq!(one(vec![]), None);
    }

    #[test]
    fn the_interval_of_a_fair_coin_is_that_of_the_normal_law() {
        let column = (0..400).map(|i| Ratio::when(i % 2 == 0)).collect();
        let got = one(column).expect("400 records");
        // 1.96 * sqrt(0.25 / 400) = 0.049.
        assert!((got.low - 0.451).abs() < 0.006, "{got:?}");
        assert!((got.high - 0.549).abs() < 0.006, "{got:?}");
    }

    #[test]
    fn columns_are_paired() {
        let column: Vec<_> = (0..50).map(|i| Ratio::of(f64::from(i * i))).collect();
        let twice = paired(&[column.clone(), column]);
        assert_eq!(twice[0], twice[1]);
    }

    #[test]
    fn clusters_are_drawn_whole() {
        // Ten lines in two clusters, all ones and all zeros: a resample is 0, 1/2 or 1.
        let clusters: Vec<&str> = (0..10).map(|i| if i < 5 { "a" } else { "b" }).collect();
        let mut bootstrap = Bootstrap::new(rng(), &clusters);
        bootstrap.add_ratio((0..10).map(|i| Ratio::when(i < 5)).collect());
        let got = bootstrap.estimates().remove(0).expect("ten lines");
        assert_eq!((got.value, got.low, got.high, got.n), (0.5, 0.0, 1.0, 10));
    }

    #[test]
    fn a_figure_of_the_whole_set_weighs_parts_alike() {
        // Part a: 1 of 1, part b: 0 of 3; the mean of means is 1/2 where the pooled share is 1/4.
        let taken = |part: &str, value: f64| {
            Some(Taken {
                part: part.to_owned(),
                values: vec![value],
            })
        };
        let lines = vec![
            taken("a", 1.0),
            None,
            taken("b", 0.0),
            taken("b", 0.0),
            taken("b", 0.0),
        ];
        let mean_of_means = |lines: &[Weighed]| {
            let mut sums = [(0.0, 0.0); 2];
            for line in lines {
                sums[line.part].0 += line.weight * line.values[0];
                sums[line.part].1 += line.weight;
            }
            let means = sums
                .iter()
                .filter(|sum| sum.1 > 0.0)
                .map(|sum| sum.0 / sum.1);
            let means: Vec<f64> = means.collect();
            (!means.is_empty()).then(|| means.iter().sum::<f64>() / means.len() as f64)
        };
        let clusters = ["1", "2", "3", "4", "5"];
        let mut bootstrap = Bootstrap::new(rng(), &clusters);
        bootstrap.add_whole(lines, mean_of_means);
        bootstrap.add_whole(vec![None; 5], mean_of_means);
        let got = bootstrap.estimates();
        let first = got[0].expect("four lines");
        assert_eq!((first.value, first.n), (0.5, 4));
        assert!(first.low == 0.0 && first.high >= 0.5);
        assert_eq!(got[1], None);
    }

    #[test]
    fn lines_that_are_drawn_together_and_say_the_same_are_weighed_once() {
        let taken = |value: f64| {
            Some(Taken {
                part: String::new(),
                values: vec![value],
            })
        };
        let clusters: Vec<&str> = (0..900).map(|i| if i < 600 { "a" } else { "b" }).collect();
        let lines = (0..900)
            .map(|i| taken(f64::from(u8::from(i % 3 == 0))))
            .collect();
        let mean = |lines: &[Weighed]| {
            assert!(lines.len() <= 4);
            let sums = lines.iter().fold((0.0, 0.0), |(sum, n), line| {
                (sum + line.weight * line.values[0], n + line.weight)
            });
            Some(sums.0 / sums.1)
        };
        let mut bootstrap = Bootstrap::new(rng(), &clusters);
        bootstrap.add_whole(lines, mean);
        let got = bootstrap.estimates().remove(0).expect("lines");
        assert_eq!(
            (got.value, got.low, got.high, got.n),
            (1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0, 900)
        );
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
            let got = one(vec![Ratio::of(value); n]).expect("records");
            prop_assert!(got.low <= got.value && got.value <= got.high);
            prop_assert!(got.high - got.low <= value.abs() * 1e-12);
            prop_assert_eq!(got.n, n);
        }

        #[test]
        fn whole_fractions_are_exact(n in 1_usize..60) {
            let got = one(vec![Ratio::fraction(7, 7); n]).expect("records");
            prop_assert_eq!((got.value, got.low, got.high), (1.0, 1.0, 1.0));
        }
    }
}
