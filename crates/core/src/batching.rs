//! Several requests in one edited model: batches, sequences, and how long an edit is kept
//! (`spec/editors.md` section 5).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::answer::ItemLine;
use crate::score::Norm;

/// How several requests become one edited model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Every request is computed at the never-edited weights; the edits are added.
    Joint,
    /// Every request is computed at the weights that the ones before it have left.
    Sequential,
    /// Sequential without end; each record is evaluated a fixed number of edits after its own
    /// (VLKEB, MMKE-Bench).
    Gap,
}

impl Mode {
    /// The name used on the command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Joint => "joint",
            Mode::Sequential => "sequential",
            Mode::Gap => "gap",
        }
    }
}

/// Records that are evaluated in mode `gap` at most.
pub const GAP_RECORDS: usize = 200;

/// Which batches a suite looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batching {
    /// Requests per edit.
    #[serde(default = "Batching::single")]
    pub sizes: Vec<usize>,
    /// Modes of the sizes above 1.
    #[serde(default = "Batching::both")]
    pub modes: Vec<Mode>,
    /// Gaps of mode `gap`.
    #[serde(default)]
    pub gaps: Vec<usize>,
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            sizes: Self::single(),
            modes: Self::both(),
            gaps: Vec::new(),
        }
    }
}

impl Batching {
    fn single() -> Vec<usize> {
        vec![1]
    }

    fn both() -> Vec<Mode> {
        vec![Mode::Joint, Mode::Sequential]
    }

    /// Batch size, mode and gap of every cell.
    pub fn cells(&self) -> Vec<(usize, Option<Mode>, Option<usize>)> {
        let sizes = self.sizes.iter().flat_map(|size| match size {
            0 | 1 => vec![(1, None, None)],
            _ => self
                .modes
                .iter()
                .filter(|mode| **mode != Mode::Gap)
                .map(|mode| (*size, Some(*mode), None))
                .collect(),
        });
        let gaps = self.gaps.iter();
        let gaps = gaps.map(|gap| (1, Some(Mode::Gap), Some(*gap)));
        sizes.chain(gaps).collect()
    }
}

/// How many records were still edited after so many later edits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetentionPoint {
    /// Edits that came after a record's own.
    pub edits_after: usize,
    /// Share of the records whose unbiased answer is the likelier one.
    pub reliability: f64,
    /// Mean Frobenius norm of the change of weights.
    pub norm: f64,
    /// Records.
    pub n: usize,
}

/// The retention curve: reliability by the number of edits that came after, ascending.
pub fn retention(lines: &[ItemLine], norm: Norm) -> Vec<RetentionPoint> {
    let mut counts: BTreeMap<usize, (usize, f64, usize)> = BTreeMap::new();
    for line in lines {
        let edited = line
            .after
            .as_ref()
            .and_then(|after| after.context("prompt"));
        let (Some(applied), Some(edited), true) = (&line.applied, edited, line.counts()) else {
            continue;
        };
        let count = counts.entry(applied.edits_after).or_default();
        count.0 += usize::from(edited.success(norm));
        count.1 += applied.norm;
        count.2 += 1;
    }
    counts
        .into_iter()
        .map(|(edits_after, (held, norms, n))| RetentionPoint {
            edits_after,
            reliability: held as f64 / n as f64,
            norm: norms / n as f64,
            n,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_of_one_has_no_mode_and_gaps_stand_last() {
        let batching = Batching {
            sizes: vec![1, 4],
            gaps: vec![10],
            ..Batching::default()
        };
        assert_eq!(
            batching.cells(),
            [
                (1, None, None),
                (4, Some(Mode::Joint), None),
                (4, Some(Mode::Sequential), None),
                (1, Some(Mode::Gap), Some(10)),
            ]
        );
    }
}
