//! A plan is the ordered list of a run's cells.

use std::fmt;
use std::str::FromStr;

use crate::canonical::sha256_hex;
use crate::cell::Cell;
use crate::error::{Error, Result};

/// What will happen, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The cells; neighbours share model, dataset and benchmark.
    pub cells: Vec<Cell>,
}

impl Plan {
    /// Orders cells so that those of one model, dataset and benchmark stand together; the order in
    /// which models, parts and variants first appear is kept.
    pub fn new(mut cells: Vec<Cell>) -> Self {
        let mut groups: Vec<Cell> = Vec::new();
        for cell in &cells {
            if !groups.iter().any(|first| same_group(first, cell)) {
                groups.push(cell.clone());
            }
        }
        cells.sort_by_key(|cell| groups.iter().position(|first| same_group(first, cell)));
        Self { cells }
    }

    /// SHA-256 of the keys, one per line: the identity of the whole plan.
    pub fn digest(&self) -> String {
        let keys: String = self
            .cells
            .iter()
            .map(|cell| format!("{}\n", cell.key()))
            .collect();
        sha256_hex(keys.as_bytes())
    }

    /// The cells of one shard: a pure function of plan and shard.
    ///
    /// Shards are runs of neighbours whose sizes differ by at most one, so that each loads few
    /// models; together they are the plan.
    #[must_use]
    pub fn shard(&self, shard: Shard) -> Self {
        let at = |index: usize| index * self.cells.len() / shard.of;
        Self {
            cells: self.cells[at(shard.index - 1)..at(shard.index)].to_vec(),
        }
    }

    /// Runs of neighbours that share model, dataset and benchmark.
    pub fn groups(&self) -> impl Iterator<Item = &[Cell]> {
        self.cells.chunk_by(same_group)
    }
}

fn same_group(a: &Cell, b: &Cell) -> bool {
    a.model == b.model && a.dataset == b.dataset && a.benchmark == b.benchmark
}

/// `I/N`: the I-th of N parts of a plan, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    of: usize,
}

impl Shard {
    /// Part `index` of `of`.
    ///
    /// # Errors
    /// [`Error::Shard`] unless `1 <= index <= of`.
    pub fn new(index: usize, of: usize) -> Result<Self> {
        match (1..=of).contains(&index) {
            true => Ok(Self { index, of }),
            false => Err(Error::Shard {
                given: format!("{index}/{of}"),
            }),
        }
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.split_once('/')
            .and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)))
            .ok_or_else(|| Error::Shard {
                given: text.to_owned(),
            })
            .and_then(|(index, of)| Self::new(index, of))
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::tests::{cell, edit};
    use proptest::prelude::*;

    fn plan(models: usize, editors: usize) -> Plan {
        let mut cells = Vec::new();
        for editor in 0..editors {
            for model in 0..models {
                let mut cell = cell();
                cell.model.id = format!("m{model}");
                cell.variant = edit(&format!("e{editor}"), serde_json::json!({}));
                cells.push(cell);
            }
        }
        Plan::new(cells)
    }

    #[test]
    fn cells_of_one_model_stand_together_in_their_order() {
        let order: Vec<_> = plan(2, 2)
            .cells
            .into_iter()
            .map(|cell| cell.model.id.clone() + cell.variant.name())
            .collect();
        assert_eq!(order, ["m0e0", "m0e1", "m1e0", "m1e1"]);
        let sizes: Vec<_> = plan(2, 3).groups().map(<[Cell]>::len).collect();
        assert_eq!(sizes, [3, 3]);
    }

    #[test]
    fn a_shard_is_counted_from_one() {
        for bad in ["0/3", "4/3", "1", "a/b", "1/0", ""] {
            assert!(bad.parse::<Shard>().is_err(), "{bad}");
        }
        assert_eq!(plan(1, 3).shard("1/1".parse().expect("whole")), plan(1, 3));
    }

    proptest! {
        #[test]
        fn shards_are_the_plan(models in 1_usize..4, editors in 1_usize..6, of in 1_usize..9) {
            let plan = plan(models, editors);
            let parts: Vec<_> = (1..=of)
                .map(|index| plan.shard(Shard::new(index, of).expect("in range")).cells)
                .collect();
            let sizes = parts.iter().map(Vec::len);
            prop_assert!(sizes.clone().max().unwrap_or(0) - sizes.min().unwrap_or(0) <= 1);
            prop_assert_eq!(parts.concat(), plan.cells);
        }

        #[test]
        fn a_printed_shard_reads_back(of in 1_usize..99, at in 0_usize..99) {
            let shard = Shard::new(1 + at % of, of).expect("in range");
            prop_assert_eq!(shard.to_string().parse::<Shard>(), Ok(shard));
        }
    }
}
