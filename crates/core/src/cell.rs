//! A cell is one number-producing unit of work; its key is the hash of everything that made it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::batching::{Mode, RetentionPoint};
use crate::canonical::{canonical_json, sha256_hex};
use crate::error::{Error, Result};
use crate::estimate::Estimate;
use crate::filter::FilterCounts;
use crate::merger::Merged;
use crate::record::Task;
use crate::settings::{Preset, Protocol};

/// Major version of stored cells. A reader refuses a larger one.
pub const FORMAT_MAJOR: u32 = 1;

/// Version of the JSON shapes of `spec/cli.md`: `major.minor`.
pub const FORMAT: &str = "1.0";

/// A name and the digest of what it stood for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The name in the catalogue, or a folder's name.
    pub id: String,
    /// Lower-case hexadecimal SHA-256 of the content.
    pub digest: String,
}

/// An editor with its merged settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EditorIdentity {
    /// The name in the registry.
    pub id: String,
    /// Raised when the editor's behaviour changes.
    pub version: u32,
    /// Every setting with its merged value.
    pub settings: Value,
}

/// Everything that decides a cell's numbers, and nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// [`FORMAT_MAJOR`] at the time of writing.
    pub format: u32,
    /// The suite; absent for a single `edit`.
    pub suite: Option<String>,
    /// The suite's edition.
    pub edition: Option<String>,
    /// The model and the digest of its folder.
    pub model: Identity,
    /// Captioning or question answering.
    pub task: Task,
    /// The dataset and the digest of what was read.
    pub dataset: Identity,
    /// The editor.
    pub editor: EditorIdentity,
    /// The bundle of settings that the run started from.
    pub preset: Preset,
    /// Scorer, filter and templates.
    pub protocol: Protocol,
    /// Bias axis that the editor is prepared on; absent = all.
    pub train_bias: Option<String>,
    /// Bias axis that is scored; absent = all.
    pub eval_bias: Option<String>,
    /// Requests per edit.
    pub batch: usize,
    /// How several requests become one edit; absent for `batch` 1.
    pub mode: Option<Mode>,
    /// Edits between a record's own and its evaluation, in mode `gap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<usize>,
    /// `language` or `vision` where an editor can do both.
    pub side: Option<String>,
    /// Seed of every random stream.
    pub seed: u64,
    /// Number format that the model computes in.
    pub dtype: String,
    /// `cpu` or `cuda`; never which one.
    pub device: String,
    /// Only the first so many admitted records.
    pub limit: Option<usize>,
    /// Records that share one forward pass, at most; changes the last bits.
    pub chunk: usize,
    /// Bytes of memory that may be taken where somebody limits them, which may make chunks smaller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_memory: Option<u64>,
    /// Version of every metric.
    pub metrics: BTreeMap<String, u32>,
}

impl Cell {
    /// SHA-256 of the canonical JSON of the cell.
    pub fn key(&self) -> CellKey {
        let value = serde_json::to_value(self).expect(
            "a cell holds strings, integers and string-keyed maps, which all have a JSON form",
        );
        CellKey(sha256_hex(canonical_json(&value).as_bytes()))
    }
}

/// The name of a cell's files: 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CellKey(String);

impl CellKey {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CellKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CellKey {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        // A key becomes a file name, so nothing but a key may pass.
        let digits = text.len() == 64
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        match digits {
            true => Ok(Self(text)),
            false => Err(Error::Setting {
                key: "key".to_owned(),
                problem: "a cell key is 64 lower-case hexadecimal digits".to_owned(),
            }),
        }
    }
}

impl From<CellKey> for String {
    fn from(key: CellKey) -> Self {
        key.0
    }
}

/// Whether a cell has numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its metrics are complete.
    Done,
    /// It has an error in place of metrics.
    Failed,
}

/// What a cell cost on the machine that computed it: provenance, never part of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Seconds of preparing the editor.
    pub prepare_s: f64,
    /// Seconds of editing.
    pub edit_s: f64,
    /// Seconds of scoring the edited model.
    pub score_s: f64,
    /// Highest resident memory of the process up to the end of the cell.
    pub peak_bytes: u64,
}

/// A computed cell, as printed by `bench run --json`; stored without `cost`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellResult {
    /// Key of the cell.
    pub key: CellKey,
    /// Whether there are numbers.
    pub status: Status,
    /// Why there are none.
    pub error: Option<String>,
    /// The model's name.
    pub model: String,
    /// Captioning or question answering.
    pub task: Task,
    /// The dataset's name.
    pub dataset: String,
    /// The editor's name.
    pub editor: String,
    /// As in [`Cell`].
    pub train_bias: Option<String>,
    /// As in [`Cell`].
    pub eval_bias: Option<String>,
    /// As in [`Cell`].
    pub batch: usize,
    /// As in [`Cell`].
    pub mode: Option<Mode>,
    /// As in [`Cell`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<usize>,
    /// As in [`Cell`].
    pub side: Option<String>,
    /// As in [`Cell`].
    pub seed: u64,
    /// Records that were edited and scored.
    pub n: usize,
    /// Records whose edit failed; listed in `records`, never averaged.
    pub failed: usize,
    /// Reliability by the number of edits that came after a record's own; empty for single edits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retention: Vec<RetentionPoint>,
    /// What the admission filter did.
    pub filter: FilterCounts,
    /// What the merge was, for a row that is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<Merged>,
    /// What a reader must know about the editor in this cell, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// Every metric.
    pub metrics: BTreeMap<String, Estimate>,
    /// What it cost; absent in the stored form, so that equal runs store equal bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// The file with one line per record, relative to the run folder.
    pub records: String,
}

impl CellResult {
    /// A result of `cell` without numbers yet: the starting point of both outcomes.
    pub fn pending(cell: &Cell, filter: FilterCounts) -> Self {
        let key = cell.key();
        Self {
            records: records_path(&key),
            key,
            status: Status::Done,
            error: None,
            model: cell.model.id.clone(),
            task: cell.task,
            dataset: cell.dataset.id.clone(),
            editor: cell.editor.id.clone(),
            train_bias: cell.train_bias.clone(),
            eval_bias: cell.eval_bias.clone(),
            batch: cell.batch,
            mode: cell.mode,
            gap: cell.gap,
            side: cell.side.clone(),
            seed: cell.seed,
            n: 0,
            failed: 0,
            retention: Vec::new(),
            merge: None,
            remarks: Vec::new(),
            filter,
            metrics: BTreeMap::new(),
            cost: None,
        }
    }

    /// The result of a cell that could not be computed.
    pub fn failed(cell: &Cell, filter: FilterCounts, error: String) -> Self {
        Self {
            status: Status::Failed,
            error: Some(error),
            ..Self::pending(cell, filter)
        }
    }
}

/// The `records` file of a cell, relative to the run folder.
pub fn records_path(key: &CellKey) -> String {
    format!("cells/{key}.jsonl")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn cell() -> Cell {
        let identity = |id: &str| Identity {
            id: id.to_owned(),
            digest: sha256_hex(id.as_bytes()),
        };
        Cell {
            format: FORMAT_MAJOR,
            suite: Some("debias-edit".to_owned()),
            edition: Some("2026.1".to_owned()),
            model: identity("tiny-blip2"),
            task: Task::Vqa,
            dataset: identity("toytown"),
            editor: EditorIdentity {
                id: "ft-l".to_owned(),
                version: 1,
                settings: json!({"steps": 15, "lr": 2e-4}),
            },
            preset: Preset::Project,
            protocol: Protocol::default(),
            train_bias: None,
            eval_bias: None,
            batch: 1,
            mode: None,
            gap: None,
            side: None,
            seed: 0,
            dtype: "f32".to_owned(),
            device: "cpu".to_owned(),
            limit: None,
            chunk: 16,
            max_memory: None,
            metrics: BTreeMap::from([("reliability".to_owned(), 1)]),
        }
    }

    #[test]
    fn the_key_is_frozen() {
        // A change of this value orphans every stored result: raise `FORMAT_MAJOR` with it.
        assert_eq!(
            cell().key().as_str(),
            "9797fb0916bc83a8dde6893758b32d3209901e48e6453e3bba9af0e95749a10e"
        );
    }

    #[test]
    fn the_key_depends_on_every_field() {
        let value = serde_json::to_value(cell()).expect("json");
        let fields = value.as_object().expect("an object");
        for name in fields.keys() {
            let mut other = value.clone();
            other[name] = json!("something else");
            assert_ne!(canonical_json(&other), canonical_json(&value), "{name}");
        }
        assert_eq!(
            fields.len(),
            20,
            "a new field is a new key: raise FORMAT_MAJOR"
        );
    }

    #[test]
    fn the_order_of_settings_is_no_part_of_the_key() {
        let mut other = cell();
        other.editor.settings = json!({"lr": 2e-4, "steps": 15});
        assert_eq!(other.key(), cell().key());
    }

    #[test]
    fn only_a_key_is_a_key() {
        assert!(CellKey::try_from(cell().key().to_string()).is_ok());
        for text in ["", "../../etc/passwd", &"A".repeat(64), &"0".repeat(63)] {
            assert!(CellKey::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_stored_result_holds_no_timings() {
        let mut result = CellResult::pending(&cell(), FilterCounts::default());
        let stored = serde_json::to_value(&result).expect("json");
        assert!(stored.get("cost").is_none());
        assert_eq!(stored["records"], format!("cells/{}.jsonl", result.key));
        assert_eq!(stored["error"], Value::Null);
        result.cost = Some(Cost::default());
        let printed = serde_json::to_value(&result).expect("json");
        assert_eq!(printed["cost"]["peak_bytes"], 0);
        assert_eq!(
            serde_json::from_value::<CellResult>(printed).expect("its own form"),
            result
        );
    }
}
