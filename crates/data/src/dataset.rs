//! The two contracts: a dataset can be opened, and what is opened hands out records and pictures.

use std::path::{Path, PathBuf};

use debias_core::{Picture, Record, Split, Task};
use serde_json::Value;

use crate::mistakes::{Mistake, Mistakes};
use crate::{Card, Error, Result};

/// A dataset the program knows by name.
pub trait Dataset: Sync {
    /// The card embedded from `datasets/<name>.toml`.
    fn card(&self) -> &Card;

    /// The tasks it has records for.
    fn tasks(&self) -> &'static [Task];

    /// Whether it is made by the program and needs no folder.
    fn is_generated(&self) -> bool {
        false
    }

    /// Opens the dataset. `root` is the folder the user gave for *this* dataset (or the common
    /// data folder, for datasets made of files); a generated dataset is opened without one, and
    /// with one reads the folder that [`crate::build`] wrote there. `seed` decides wordings and
    /// pairings, never which split a scene is in.
    ///
    /// # Errors
    /// Missing, unreadable or malformed files, each named.
    fn open(&self, root: Option<&Path>, seed: u64) -> Result<Box<dyn Collection>>;

    /// Opens a copy of what the dataset's authors publish, to be built; what they do not publish is
    /// looked for in the `common` data folder.
    ///
    /// # Errors
    /// [`Error::NoClone`] where the dataset has no such form, missing and malformed files.
    fn open_clone(
        &self,
        _clone: &Path,
        _common: Option<&Path>,
        _seed: u64,
    ) -> Result<Box<dyn Collection>> {
        Err(Error::NoClone {
            dataset: self.card().name.clone(),
        })
    }
}

/// An opened dataset.
pub trait Collection: Send + Sync {
    /// The validated records of one task, all splits, in an order that never changes.
    ///
    /// # Errors
    /// [`Error::NoSuchTask`] when the dataset has none.
    fn records(&self, task: Task) -> Result<Vec<Record>>;

    /// The picture a record names by `key`. Keys are looked up, never opened as paths.
    ///
    /// # Errors
    /// [`Error::UnknownPicture`], or an unreadable or refused file.
    fn picture(&self, key: &str) -> Result<Picture>;

    /// The file of that picture, where it is one as it stands.
    fn file(&self, _key: &str) -> Option<PathBuf> {
        None
    }

    /// SHA-256 (hex) of everything the records and pictures are made of.
    ///
    /// # Errors
    /// Files that cannot be read any more.
    fn digest(&self) -> Result<String>;

    /// Where the multimodal-locality questions come from; names a stand-in as one.
    fn m_locality_source(&self) -> &str;

    /// What every report on this dataset must say.
    fn remark(&self) -> Option<&str>;

    /// What was drawn at random on top of the records, for the manifest of a built folder.
    fn provenance(&self) -> Value {
        Value::Null
    }
}

/// The splits in file order, with the names used in files and keys.
pub(crate) const SPLITS: [(Split, &str); 3] = [
    (Split::Train, "train"),
    (Split::Val, "val"),
    (Split::Eval, "eval"),
];

/// The name of a split in files and keys.
pub(crate) fn split_name(split: Split) -> &'static str {
    match split {
        Split::Train => "train",
        Split::Val => "val",
        Split::Eval => "eval",
    }
}

/// Checks every record and that ids are unique and groups stay within one split.
pub(crate) fn problems(records: &[Record]) -> Mistakes {
    let mut ids = std::collections::HashSet::new();
    let mut homes = std::collections::HashMap::new();
    let mut found = Mistakes::default();
    for record in records {
        let name = format!("record `{}`", record.id);
        match record.validate() {
            Ok(()) => {}
            Err(debias_core::Error::Record { field, problem, .. }) => {
                found.push(Mistake::new(&name, format!("`{field}`"), problem));
            }
            Err(other) => found.push(Mistake::new(&name, "it", format!("is refused: {other}"))),
        }
        if !ids.insert(record.id.as_str()) {
            found.push(Mistake::new(&name, "`id`", "is used twice"));
        }
        let home = *homes.entry(record.group.as_str()).or_insert(record.split);
        if home != record.split {
            let (one, other) = (split_name(home), split_name(record.split));
            let problem = format!("is in two splits, {one} and {other}");
            found.push(Mistake::new(&name, "`group`", problem).of_value(&record.group));
        }
    }
    found
}

/// Refuses records with [`problems`].
pub(crate) fn validated(path: &Path, records: Vec<Record>) -> Result<Vec<Record>> {
    match problems(&records) {
        found if found.is_empty() => Ok(records),
        problems => Err(Error::Records {
            path: path.to_owned(),
            problems,
        }),
    }
}
