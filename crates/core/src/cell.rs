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
pub const FORMAT_MAJOR: u32 = 2;

/// Version of the JSON shapes of `spec/cli.md`: `major.minor`.
pub const FORMAT: &str = "1.0";

/// Version of stored cells: `major.minor`.
pub const STORED: &str = "2.0";

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

/// The name of the benchmark of editing: reliability, generality and locality of an edit.
pub const DEBIAS_EDIT: &str = "debias-edit";

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchmarkIdentity {
    /// The name in the registry.
    pub id: String,
    /// Raised when its items or prompts change. Columns have versions of their own, which are no part
    /// of a key.
    pub version: u32,
    /// Which parts of it: a task, categories; all where empty.
    pub parts: Vec<String>,
}

impl BenchmarkIdentity {
    /// Edits of one task's records.
    pub fn editing(task: Task) -> Self {
        Self {
            id: DEBIAS_EDIT.to_owned(),
            version: 1,
            parts: vec![task.name().to_owned()],
        }
    }

    /// Its parts in words; empty for all of it.
    pub fn part(&self) -> String {
        self.parts.join("+")
    }

    /// The task that it edits, where it is one of editing.
    pub fn task(&self) -> Option<Task> {
        let part = self.parts.first().filter(|_| self.id == DEBIAS_EDIT)?;
        Task::ALL.into_iter().find(|task| task.name() == part)
    }
}

/// A merge of models with its inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MergeIdentity {
    /// What its rows are called.
    pub id: String,
    /// Raised when the method's behaviour changes.
    pub version: u32,
    /// The recipe and the digests of everything it names.
    pub recipe: Value,
}

/// Which form of a model is asked: a row of every table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Variant {
    /// The model as it is.
    Base,
    /// The model through edits of its own records, or of a file's.
    Edit {
        /// The editor.
        editor: EditorIdentity,
        /// Requests per edit.
        batch: usize,
        /// How several requests become one edit; absent for `batch` 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<Mode>,
        /// Edits between a record's own and its evaluation, in mode `gap`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gap: Option<usize>,
        /// Digest of the requests, where they are not the benchmark's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        requests: Option<String>,
    },
    /// A model merged from others in its place.
    Merge(MergeIdentity),
}

impl Variant {
    /// What its rows are called.
    pub fn name(&self) -> &str {
        match self {
            Variant::Base => "base",
            Variant::Edit { editor, .. } => &editor.id,
            Variant::Merge(merge) => &merge.id,
        }
    }

    /// The editor, where it is an edit.
    pub fn editor(&self) -> Option<&EditorIdentity> {
        match self {
            Variant::Edit { editor, .. } => Some(editor),
            Variant::Base | Variant::Merge(_) => None,
        }
    }

    /// Requests per edit, how they become one, and the gap; single where it is no edit.
    pub fn batching(&self) -> (usize, Option<Mode>, Option<usize>) {
        match self {
            Variant::Edit {
                batch, mode, gap, ..
            } => (*batch, *mode, *gap),
            Variant::Base | Variant::Merge(_) => (1, None, None),
        }
    }
}

/// Everything that decides a cell's numbers, and nothing else. The definitions of columns are no
/// part of it: they are computed from the stored lines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// [`FORMAT_MAJOR`] at the time of writing.
    pub format: u32,
    /// The suite; absent outside one.
    pub suite: Option<String>,
    /// The suite's edition.
    pub edition: Option<String>,
    /// The model and the digest of its folder.
    pub model: Identity,
    /// What is asked.
    pub benchmark: BenchmarkIdentity,
    /// The dataset and the digest of what was read.
    pub dataset: Identity,
    /// Which form of the model is asked.
    pub variant: Variant,
    /// The bundle of settings that the run started from.
    pub preset: Preset,
    /// Scorer, filter and templates.
    pub protocol: Protocol,
    /// Bias axis that the editor is prepared on; absent = all.
    pub train_bias: Option<String>,
    /// Bias axis that is scored; absent = all.
    pub eval_bias: Option<String>,
    /// `language` or `vision` where an editor can do both.
    pub side: Option<String>,
    /// Seed of every random stream.
    pub seed: u64,
    /// Number format that the model computes in.
    pub dtype: String,
    /// `cpu` or `cuda`; never which one.
    pub device: String,
    /// Only so many records or items, by the rule of the benchmark.
    pub limit: Option<usize>,
    /// Records that share one forward pass, at most; changes the last bits.
    pub chunk: usize,
    /// Bytes of memory that may be taken where somebody limits them, which may make chunks smaller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_memory: Option<u64>,
    /// The chat template that is put around prompts, where the model's folder has its own: the file
    /// that it stands in, or its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
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

/// A computed cell; stored without `cost`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellResult {
    /// What made it.
    pub cell: Cell,
    /// Whether there are numbers.
    pub status: Status,
    /// Why there are none.
    pub error: Option<String>,
    /// Items that were answered and count.
    pub n: usize,
    /// Items that failed; listed in `records`, never averaged.
    pub failed: usize,
    /// Reliability by the number of edits that came after a record's own; empty for single edits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retention: Vec<RetentionPoint>,
    /// What the admission filter did, where the benchmark has one.
    #[serde(default, skip_serializing_if = "FilterCounts::is_empty")]
    pub filter: FilterCounts,
    /// What the merge was, for a row that is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<Merged>,
    /// What a reader must know about this cell, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// Every column that is defined.
    pub metrics: BTreeMap<String, Estimate>,
    /// The version of every column that was asked for.
    #[serde(default)]
    pub versions: BTreeMap<String, u32>,
    /// What it cost; absent in the stored form, so that equal runs store equal bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

impl CellResult {
    /// A result of `cell` without numbers yet: the starting point of both outcomes.
    pub fn pending(cell: &Cell, filter: FilterCounts) -> Self {
        Self {
            cell: cell.clone(),
            status: Status::Done,
            error: None,
            n: 0,
            failed: 0,
            retention: Vec::new(),
            merge: None,
            remarks: Vec::new(),
            filter,
            metrics: BTreeMap::new(),
            versions: BTreeMap::new(),
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

    /// Key of the cell.
    pub fn key(&self) -> CellKey {
        self.cell.key()
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        &self.cell.model.id
    }

    /// What its row is called.
    pub fn row(&self) -> &str {
        self.cell.variant.name()
    }

    /// Which part of the benchmark it asks; empty for all of it.
    pub fn part(&self) -> String {
        self.cell.benchmark.part()
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
            benchmark: BenchmarkIdentity::editing(Task::Vqa),
            dataset: identity("toytown"),
            variant: edit("ft-l", json!({"steps": 15, "lr": 2e-4})),
            preset: Preset::Project,
            protocol: Protocol::default(),
            train_bias: None,
            eval_bias: None,
            side: None,
            seed: 0,
            dtype: "f32".to_owned(),
            device: "cpu".to_owned(),
            limit: None,
            chunk: 16,
            max_memory: None,
            template: None,
        }
    }

    /// Single edits by `editor`.
    pub(crate) fn edit(editor: &str, settings: Value) -> Variant {
        Variant::Edit {
            editor: EditorIdentity {
                id: editor.to_owned(),
                version: 1,
                settings,
            },
            batch: 1,
            mode: None,
            gap: None,
            requests: None,
        }
    }

    #[test]
    fn the_key_is_frozen() {
        // A change of this value orphans every stored result: raise `FORMAT_MAJOR` with it.
        assert_eq!(
            cell().key().as_str(),
            "287141b8bad3680fc45579686129b674db12ecbdc3112c1f2e59269e0e0bbc41"
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
            17,
            "a new field is a new key: raise FORMAT_MAJOR"
        );
    }

    #[test]
    fn the_order_of_settings_is_no_part_of_the_key() {
        let mut other = cell();
        other.variant = edit("ft-l", json!({"lr": 2e-4, "steps": 15}));
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
        assert_eq!(stored["error"], Value::Null);
        result.cost = Some(Cost::default());
        let printed = serde_json::to_value(&result).expect("json");
        assert_eq!(printed["cost"]["peak_bytes"], 0);
        assert_eq!(
            serde_json::from_value::<CellResult>(printed).expect("its own form"),
            result
        );
    }

    #[test]
    fn a_variant_says_its_kind() {
        let value = serde_json::to_value(edit("mend", json!({}))).expect("json");
        assert_eq!(
            (&value["kind"], &value["batch"]),
            (&json!("edit"), &json!(1))
        );
        let base = serde_json::to_value(Variant::Base).expect("json");
        assert_eq!(base, json!({"kind": "base"}));
    }
}
