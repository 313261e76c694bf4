//! What cells cost here before: the estimate of `bench plan`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use debias_core::{Cell, CellResult, Cost, Status};

/// Seconds per record of finished cells, by model, part of the benchmark and row.
#[derive(Debug, Default)]
pub struct History {
    seconds: BTreeMap<(String, String, String), (f64, usize)>,
}

impl History {
    /// Reads the finished cells of every run folder below `out`; what cannot be read is passed
    /// over, for an estimate is all this is for.
    pub fn read(out: &Path) -> Self {
        let mut history = Self::default();
        for run in entries(out) {
            for path in entries(&run.join("cells")) {
                let name = path.to_str().unwrap_or_default();
                if name.ends_with(".json") && !name.ends_with(".run.json") {
                    history.add(&path);
                }
            }
        }
        history
    }

    fn add(&mut self, path: &Path) -> Option<()> {
        let cell: CellResult = serde_json::from_str(&fs::read_to_string(path).ok()?).ok()?;
        let cost = fs::read_to_string(path.with_extension("run.json")).ok()?;
        let cost: Cost = serde_json::from_str(&cost).ok()?;
        if cell.status == Status::Done {
            let entry = self.seconds.entry(place(&cell.cell)).or_default();
            entry.0 += cost.prepare_s + cost.edit_s + cost.score_s;
            entry.1 += cell.n;
        }
        Some(())
    }

    /// Seconds that `records` records of `cell` would take on one thread; `None` when no such cell
    /// was ever finished here.
    pub fn estimate(&self, cell: &Cell, records: usize) -> Option<f64> {
        let (seconds, n) = self.seconds.get(&place(cell))?;
        (*n > 0).then(|| seconds / *n as f64 * records as f64)
    }
}

fn place(cell: &Cell) -> (String, String, String) {
    let row = cell.variant.name().to_owned();
    (cell.model.id.clone(), cell.benchmark.part(), row)
}

fn entries(folder: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries.flatten().map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{cell, lines};
    use crate::results::store::RunFolder;
    use debias_core::{FilterCounts, Plan};

    #[test]
    fn the_estimate_is_the_mean_of_what_was_measured() {
        let out = tempfile::tempdir().expect("a temporary folder");
        let cell = cell("ft-l");
        let folder = RunFolder::of(out.path(), "suite", &Plan::new(vec![cell.clone()]));
        let result = CellResult {
            n: 4,
            cost: Some(Cost {
                prepare_s: 1.0,
                edit_s: 2.0,
                score_s: 1.0,
                peak_bytes: 0,
            }),
            ..CellResult::pending(&cell, FilterCounts::default())
        };
        folder.put(&result, &lines(), &[]).expect("stored");
        let history = History::read(out.path());
        assert_eq!(history.estimate(&cell, 10), Some(10.0));
        assert_eq!(history.estimate(&crate::fixture::cell("ft-v"), 10), None);
        assert_eq!(
            History::read(Path::new("/nowhere")).estimate(&cell, 1),
            None
        );
    }
}
