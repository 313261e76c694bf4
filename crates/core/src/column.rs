//! Columns: what a cell reports about its items, computed from their stored lines alone.
//!
//! A column says what one line contributes; [`measure`] turns the contributions of all lines into
//! estimates whose intervals are paired, because every column sees the same resamples.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::answer::ItemLine;
use crate::error::{Error, Result};
use crate::estimate::{Bootstrap, Estimate, Ratio, Taken, Weighed};
use crate::score::Norm;

/// Which way a column should move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
    /// Neither: it describes the items, or has an ideal in between.
    Neutral,
}

/// One column of the results.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// The column's name; permanent.
    pub id: &'static str,
    /// Raised when the numbers change; stored beside them, so that a stored cell is measured again.
    pub version: u32,
    /// What exactly is computed.
    pub definition: &'static str,
    /// `fraction`, `percent` or `nats`.
    pub unit: &'static str,
    /// Which way is up.
    pub better: Better,
    /// The tags of the lines that enter it, such as `("category", "Age")`; all lines where empty.
    pub only: &'static [(&'static str, &'static str)],
    /// How it is computed.
    pub statistic: Statistic,
}

impl Column {
    /// Whether a line with these tags enters it.
    pub fn admits(&self, line: &ItemLine) -> bool {
        self.only.iter().all(|(tag, value)| line.tag(tag) == *value)
    }
}

/// How a column is computed from lines.
#[derive(Clone, Copy, Debug)]
pub enum Statistic {
    /// `Σ part / Σ whole` of what each line contributes.
    Ratio(fn(&ItemLine, Norm) -> Ratio),
    /// A figure of the whole set that no sum of ratios gives: a mean of means, an F1, a product.
    Whole {
        /// What one line contributes; none where it does not enter.
        take: fn(&ItemLine, Norm) -> Option<Taken>,
        /// The figure of weighed contributions; none where it is not defined.
        value: fn(&[Weighed]) -> Option<f64>,
    },
}

/// The version of every column, to be stored beside the numbers.
pub fn versions<'c>(columns: impl IntoIterator<Item = &'c Column>) -> BTreeMap<String, u32> {
    let columns = columns.into_iter();
    columns
        .map(|column| (column.id.to_owned(), column.version))
        .collect()
}

/// Estimates every column over the lines that count; see [`ItemLine::counts`].
///
/// `rng` decides the resamples; the same stream for two cells with the same items makes them
/// comparable pair by pair. A column that no line enters, or that is not defined, is absent.
///
/// # Errors
/// [`Error::Record`] when a contribution is NaN or infinite, which no stored number may be.
pub fn measure<'c>(
    columns: impl IntoIterator<Item = &'c Column>,
    lines: &[ItemLine],
    norm: Norm,
    rng: ChaCha8Rng,
) -> Result<BTreeMap<String, Estimate>> {
    let lines: Vec<&ItemLine> = lines.iter().filter(|line| line.counts()).collect();
    let clusters: Vec<&str> = lines.iter().map(|line| line.cluster()).collect();
    let mut bootstrap = Bootstrap::new(rng, &clusters);
    let columns: Vec<&Column> = columns.into_iter().collect();
    for column in &columns {
        match column.statistic {
            Statistic::Ratio(of) => bootstrap.add_ratio(ratios(column, of, &lines, norm)?),
            Statistic::Whole { take, value } => {
                bootstrap.add_whole(taken(column, take, &lines, norm)?, value);
            }
        }
    }
    let named = columns.iter().zip(bootstrap.estimates());
    Ok(named
        .filter_map(|(column, found)| Some((column.id.to_owned(), found?)))
        .collect())
}

fn ratios(
    column: &Column,
    of: fn(&ItemLine, Norm) -> Ratio,
    lines: &[&ItemLine],
    norm: Norm,
) -> Result<Vec<Ratio>> {
    let ratio = |line: &&ItemLine| {
        if !column.admits(line) {
            return Ok(Ratio::none());
        }
        let ratio = of(line, norm);
        match ratio.part.is_finite() && ratio.whole.is_finite() {
            true => Ok(ratio),
            false => Err(not_finite(column, line)),
        }
    };
    lines.iter().map(ratio).collect()
}

fn taken(
    column: &Column,
    take: fn(&ItemLine, Norm) -> Option<Taken>,
    lines: &[&ItemLine],
    norm: Norm,
) -> Result<Vec<Option<Taken>>> {
    let one = |line: &&ItemLine| match column.admits(line).then(|| take(line, norm)).flatten() {
        Some(taken) if !taken.values.iter().all(|value| value.is_finite()) => {
            Err(not_finite(column, line))
        }
        taken => Ok(taken),
    };
    lines.iter().map(one).collect()
}

fn not_finite(column: &Column, line: &ItemLine) -> Error {
    Error::Record {
        id: line.id.clone(),
        field: column.id.to_owned(),
        problem: "is not a finite number".to_owned(),
    }
}
