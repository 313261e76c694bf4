//! The metrics: what a cell reports about its records.
//!
//! A metric says what one record contributes; [`measure`] turns the contributions of all records
//! into estimates with paired intervals. A family of metrics is one file with a `METRICS` list and
//! one line in the registry below.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::estimate::{Estimate, Share, paired_bootstrap};
use crate::score::{Norm, RecordLine, RecordScores};

/// Which way a metric should move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
    /// Neither: it describes the records.
    Neutral,
}

/// One column of the results.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The column's name; permanent.
    pub id: &'static str,
    /// Raised when the numbers change; part of every cell's key.
    pub version: u32,
    /// What exactly is computed.
    pub definition: &'static str,
    /// `fraction` or `nats`.
    pub unit: &'static str,
    /// Which way is up.
    pub better: Better,
    /// What one record contributes, from its scores before and after the edit.
    pub share: fn(&RecordScores, &RecordScores, Norm) -> Share,
}

macro_rules! registry {
    ($($family:ident),+ $(,)?) => {
        $(mod $family;)+
        static FAMILIES: &[&[Metric]] = &[$($family::METRICS),+];
    };
}

registry! {
    success,
    margin,
    locality,
    divergence,
    accuracy,
    knowledge,
}

/// The five columns of the paper's table, in its order.
pub const HEADLINE: [&str; 5] = [
    "reliability",
    "t_generality",
    "v_generality",
    "t_locality",
    "m_locality",
];

/// Every metric, family by family.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    FAMILIES.iter().flat_map(|family| family.iter())
}

/// The metric named `id`.
///
/// # Errors
/// [`Error::Unknown`] with the nearest name.
pub fn find(id: &str) -> Result<&'static Metric> {
    all()
        .find(|metric| metric.id == id)
        .ok_or_else(|| Error::unknown("metric", id, all().map(|metric| metric.id)))
}

/// The version of every metric, for the key of a cell.
pub fn versions() -> BTreeMap<String, u32> {
    all()
        .map(|metric| (metric.id.to_owned(), metric.version))
        .collect()
}

/// Estimates every metric over the records that were edited; failed records are left out.
///
/// `rng` decides the resamples; the same stream for two cells with the same records makes them
/// comparable pair by pair. A metric without any denominator (no record, no compared position) is
/// absent from the result.
///
/// # Errors
/// [`Error::Record`] when a contribution is NaN or infinite, which no stored number may be.
pub fn measure(
    lines: &[RecordLine],
    norm: Norm,
    rng: ChaCha8Rng,
) -> Result<BTreeMap<String, Estimate>> {
    let scored: Vec<_> = lines
        .iter()
        .filter(|line| line.applied.is_none_or(|applied| !applied.incomplete))
        .filter_map(|line| Some((line, line.before.as_ref()?, line.after.as_ref()?)))
        .collect();
    let metrics: Vec<_> = all().collect();
    let mut columns = Vec::with_capacity(metrics.len());
    for metric in &metrics {
        let mut column = Vec::with_capacity(scored.len());
        for (line, before, after) in &scored {
            let share = (metric.share)(before, after, norm);
            if !(share.part.is_finite() && share.whole.is_finite()) {
                return Err(Error::Record {
                    id: line.id.clone(),
                    field: metric.id.to_owned(),
                    problem: "is not a finite number".to_owned(),
                });
            }
            column.push(share);
        }
        columns.push(column);
    }
    Ok(metrics
        .iter()
        .zip(paired_bootstrap(rng, &columns))
        .filter_map(|(metric, estimate)| Some((metric.id.to_owned(), estimate?)))
        .collect())
}

#[cfg(test)]
mod tests;
