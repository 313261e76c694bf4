//! Cells that format 1 stored: found by the key they had there, and read.
//!
//! In format 1 the versions of all columns were part of a key, and a cell named its task and editor in
//! fields of their own. What a cell of a plan was called then follows from what it is now, so that
//! nothing has to be guessed; its lines have the form of today's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use debias_core::{
    Cell, CellResult, Cost, FilterCounts, ItemLine, Merged, Status, Variant, canonical_json,
    sha256_hex,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{RecordCost, read_lines};

/// The columns of format 1, all of version 1.
const COLUMNS: [&str; 38] = [
    "acc_exact",
    "acc_token",
    "bias",
    "fact_accuracy",
    "fact_accuracy_before",
    "margin_after",
    "margin_before",
    "mloc_all_top1",
    "mloc_item",
    "mloc_kl",
    "mloc_kl_all",
    "mloc_ref_top10rank",
    "mloc_top1",
    "mloc_top10set",
    "m_locality",
    "neutral_accuracy",
    "neutral_accuracy_before",
    "norm_disagree",
    "reliability",
    "reliability_mean",
    "reliability_sum",
    "ties",
    "tloc_item",
    "tloc_kl",
    "tloc_kl_all",
    "tloc_ref_top1",
    "tloc_top1",
    "t_generality",
    "t_generality_mean",
    "t_generality_sum",
    "t_locality",
    "t_margin_after",
    "t_margin_before",
    "v_generality",
    "v_generality_mean",
    "v_generality_sum",
    "v_margin_after",
    "v_margin_before",
];

/// The files of a cell in a folder of format 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Earlier {
    /// `cells/<key>`, without an ending.
    stem: PathBuf,
}

/// What is read of `cells/<key>.json`.
#[derive(Deserialize)]
struct StoredCell {
    cell: Value,
    records_sha256: String,
    status: Status,
    error: Option<String>,
    filter: FilterCounts,
    merge: Option<Merged>,
    #[serde(default)]
    remarks: Vec<String>,
}

/// What is read of `cells/<key>.run.json`.
#[derive(Deserialize)]
struct StoredCost {
    #[serde(flatten)]
    cost: Cost,
    #[serde(default)]
    per_record: Vec<RecordCost>,
}

impl Earlier {
    /// The files of `cell` in any run folder below `out`.
    pub(super) fn find(out: &Path, cell: &Cell) -> Option<Self> {
        let key = sha256_hex(canonical_json(&description(cell)?).as_bytes());
        let runs = fs::read_dir(out).ok()?.flatten();
        let stems = runs.map(|run| run.path().join("cells").join(&key));
        let mut found: Vec<PathBuf> = stems
            .filter(|stem| stem.with_extension("json").is_file())
            .collect();
        // Whatever order the system lists folders in.
        found.sort();
        found.into_iter().next().map(|stem| Self { stem })
    }

    /// The file of the cell.
    pub(super) fn path(&self) -> PathBuf {
        self.stem.with_extension("json")
    }

    /// What is stored of `cell` besides its numbers.
    pub(super) fn read(&self, cell: &Cell) -> anyhow::Result<CellResult> {
        let stored: StoredCell = serde_json::from_str(&fs::read_to_string(self.path())?)?;
        anyhow::ensure!(
            description(cell).is_some_and(|own| own == stored.cell),
            "it belongs to another cell"
        );
        let lines = fs::read(self.stem.with_extension("jsonl"));
        anyhow::ensure!(
            sha256_hex(&lines.context("its record lines cannot be read")?) == stored.records_sha256,
            "its record lines are not those it was computed from"
        );
        Ok(CellResult {
            status: stored.status,
            error: stored.error,
            merge: stored.merge,
            remarks: stored.remarks,
            cost: self.cost().map(|stored| stored.cost),
            ..CellResult::pending(cell, stored.filter)
        })
    }

    /// Its record lines.
    pub(super) fn lines(&self) -> anyhow::Result<Vec<ItemLine>> {
        read_lines(&self.stem.with_extension("jsonl"))
    }

    /// What its records cost, as far as that is known.
    pub(super) fn costs(&self) -> Vec<RecordCost> {
        self.cost()
            .map(|stored| stored.per_record)
            .unwrap_or_default()
    }

    fn cost(&self) -> Option<StoredCost> {
        let text = fs::read_to_string(self.stem.with_extension("run.json")).ok()?;
        serde_json::from_str(&text).ok()
    }
}

/// What made `cell`, in the words of format 1; none for what format 1 could not ask.
pub(super) fn description(cell: &Cell) -> Option<Value> {
    let editor = match &cell.variant {
        Variant::Edit {
            editor,
            requests: None,
            ..
        } => json!(editor),
        Variant::Merge(merge) => {
            json!({ "id": merge.id, "version": merge.version, "settings": merge.recipe })
        }
        Variant::Base | Variant::Edit { .. } => return None,
    };
    let (batch, mode, gap) = cell.variant.batching();
    let columns: BTreeMap<&str, u32> = COLUMNS.into_iter().map(|column| (column, 1)).collect();
    let mut description = Map::new();
    let mut say = |name: &str, value: Value| description.insert(name.to_owned(), value);
    say("format", json!(1));
    say("suite", json!(cell.suite));
    say("edition", json!(cell.edition));
    say("model", json!(cell.model));
    say("task", json!(cell.benchmark.task()?));
    say("dataset", json!(cell.dataset));
    say("editor", editor);
    say("preset", json!(cell.preset));
    say("protocol", json!(cell.protocol));
    say("train_bias", json!(cell.train_bias));
    say("eval_bias", json!(cell.eval_bias));
    say("batch", json!(batch));
    say("mode", json!(mode));
    say("side", json!(cell.side));
    say("seed", json!(cell.seed));
    say("dtype", json!(cell.dtype));
    say("device", json!(cell.device));
    say("limit", json!(cell.limit));
    say("chunk", json!(cell.chunk));
    say("metrics", json!(columns));
    // Absent where they are none.
    for (name, value) in [
        ("gap", gap.map(|gap| json!(gap))),
        ("max_memory", cell.max_memory.map(|most| json!(most))),
    ] {
        if let Some(value) = value {
            say(name, value);
        }
    }
    Some(Value::Object(description))
}
