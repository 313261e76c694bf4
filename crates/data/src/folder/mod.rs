//! A dataset as a folder: `<task>_<split>.json`, `images/**.png` and `manifest.json`.

mod build;
mod check;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use debias_core::{Picture, Record, Split, Task, sha256_hex};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use build::build;
pub use check::{Checked, check};

use crate::codec::{MAX_FILE_BYTES, read_picture};
use crate::dataset::{Collection, SPLITS, validated};
use crate::mistakes::{Mistake, Mistakes};
use crate::request::{Unsaid, is_inside, parse};
use crate::source::{read_bounded, read_text};
use crate::{Error, Listing, Result};

/// The folder of the pictures.
const IMAGES: &str = "images";
/// The file that makes a folder a dataset.
const MANIFEST: &str = "manifest.json";
/// The newest manifest format this build reads and the one it writes.
const FORMAT: u32 = 1;

/// Records per split of one task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitCounts {
    /// Training records.
    pub train: usize,
    /// Validation records.
    pub val: usize,
    /// Evaluation records.
    pub eval: usize,
}

impl SplitCounts {
    fn of<'a>(records: impl Iterator<Item = &'a Record>) -> Self {
        let mut counts = Self::default();
        for record in records {
            match record.split {
                Split::Train => counts.train += 1,
                Split::Val => counts.val += 1,
                Split::Eval => counts.eval += 1,
            }
        }
        counts
    }
}

/// What a built folder says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this layout.
    pub format: u32,
    /// The dataset it was built from.
    pub dataset: String,
    /// Version of that dataset's card.
    pub version: String,
    /// Licence, repeated from the card because folders travel.
    pub licence: String,
    /// The seed of wordings and pairings.
    pub seed: u64,
    /// Records per task and split.
    pub counts: BTreeMap<Task, SplitCounts>,
    /// Picture files below `images`.
    pub pictures: usize,
    /// SHA-256 of the collection the folder was built from.
    pub source_digest: String,
    /// SHA-256 over the sorted list of files and their SHA-256.
    pub content_digest: String,
    /// Where the multimodal-locality questions come from.
    pub m_locality: String,
    /// What every report must say.
    pub remark: Option<String>,
    /// Parameters drawn at random on top of the records, e.g. those of rephrased images.
    pub provenance: Value,
}

impl Manifest {
    fn read(dir: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let path = dir.join(MANIFEST);
        let text = read_text(&path)?;
        let refuse = |error: serde_json::Error| {
            Error::format(&path, format!("{error}; build the folder again"))
        };
        let Version { format } = serde_json::from_str(&text).map_err(refuse)?;
        if format > FORMAT {
            return Err(Error::NewerFormat {
                path,
                found: format,
                known: FORMAT,
            });
        }
        serde_json::from_str(&text).map_err(refuse)
    }
}

/// The name of one request file.
fn request_file(task: Task, split: &str) -> String {
    format!("{}_{split}.json", task.name())
}

/// SHA-256 over `sha256  path` lines in path order.
fn content_digest(files: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> = files
        .iter()
        .map(|(path, digest)| format!("{digest}  {path}\n"))
        .collect();
    sha256_hex(lines.concat().as_bytes())
}

/// A folder written by [`build`], opened as a collection.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    manifest: Manifest,
    records: Vec<Record>,
    keys: BTreeSet<String>,
}

impl Folder {
    /// The folder that the keys of pictures are relative to.
    pub fn images(&self) -> PathBuf {
        self.dir.join(IMAGES)
    }

    /// Whether `dir` has a manifest.
    pub fn is_built(dir: &Path) -> bool {
        dir.join(MANIFEST).is_file()
    }

    /// Opens the folder.
    ///
    /// # Errors
    /// A missing or malformed manifest, [`Error::MissingFiles`] listing request files and
    /// pictures that are not there, [`Error::Records`] for records that break the rules.
    pub fn open(dir: &Path) -> Result<Self> {
        let manifest = Manifest::read(dir)?;
        let expected = || {
            manifest
                .counts
                .keys()
                .flat_map(|&task| SPLITS.map(|(_, split)| request_file(task, split)))
        };
        missing(dir, &manifest, expected())?;
        let (records, found) = requests(dir, &manifest)?;
        if !found.is_empty() {
            return Err(Error::Records {
                path: dir.to_owned(),
                problems: found,
            });
        }
        let records = validated(dir, records)?;
        let keys = keys_of(&records);
        if let Some(key) = keys.iter().find(|key| !is_inside(key)) {
            return Err(Error::UnknownPicture {
                dataset: manifest.dataset.clone(),
                key: key.clone(),
            });
        }
        missing(
            dir,
            &manifest,
            keys.iter().map(|key| format!("{IMAGES}/{key}")),
        )?;
        Ok(Self {
            dir: dir.to_owned(),
            manifest,
            records,
            keys,
        })
    }

    /// The folder's manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}

impl Collection for Folder {
    fn records(&self, task: Task) -> Result<Vec<Record>> {
        if !self.manifest.counts.contains_key(&task) {
            return Err(Error::NoSuchTask {
                dataset: self.manifest.dataset.clone(),
                task: task.name(),
            });
        }
        let of_task = self.records.iter().filter(|record| record.task == task);
        Ok(of_task.cloned().collect())
    }

    fn picture(&self, key: &str) -> Result<Picture> {
        match self.keys.contains(key) {
            true => read_picture(&self.dir.join(IMAGES).join(key)),
            false => Err(Error::UnknownPicture {
                dataset: self.manifest.dataset.clone(),
                key: key.to_owned(),
            }),
        }
    }

    fn file(&self, key: &str) -> Option<PathBuf> {
        let known = self.keys.contains(key);
        known.then(|| self.dir.join(IMAGES).join(key))
    }

    fn digest(&self) -> Result<String> {
        let requests = self
            .manifest
            .counts
            .keys()
            .flat_map(|&task| SPLITS.map(|(_, split)| request_file(task, split)));
        let pictures = self.keys.iter().map(|key| format!("{IMAGES}/{key}"));
        let mut files = BTreeMap::new();
        for name in requests.chain(pictures) {
            let digest = file_digest(&self.dir.join(&name))?;
            files.insert(name, digest);
        }
        Ok(content_digest(&files))
    }

    fn m_locality_source(&self) -> &str {
        &self.manifest.m_locality
    }

    fn remark(&self) -> Option<&str> {
        self.manifest.remark.as_deref()
    }

    fn provenance(&self) -> Value {
        self.manifest.provenance.clone()
    }
}

/// Reads every request file; what is wrong with single records comes back beside the others.
fn requests(dir: &Path, manifest: &Manifest) -> Result<(Vec<Record>, Mistakes)> {
    let (mut records, mut found) = (Vec::new(), Mistakes::default());
    for &task in manifest.counts.keys() {
        for (split, name) in SPLITS {
            let path = dir.join(request_file(task, name));
            let file = request_file(task, name);
            let unsaid = Unsaid {
                task: Some(task),
                of_pictured: None,
                split,
            };
            let (read, broken) = parse(&path, &read_text(&path)?, unsaid)?;
            found.extend(broken.into_iter().map(|mistake| mistake.within(&file)));
            let strays = read
                .records
                .iter()
                .filter(|r| r.split != split || r.task != task);
            found.extend(strays.map(|stray| {
                let name = format!("{file}: record `{}`", stray.id);
                Mistake::new(name, "`split` or `task`", "belongs to another file")
            }));
            records.extend(read.records);
        }
    }
    Ok((records, found))
}

/// Every picture the records name.
fn keys_of(records: &[Record]) -> BTreeSet<String> {
    let keys = records.iter().flat_map(Record::images);
    keys.map(|(_, key)| key.clone()).collect()
}

fn missing(dir: &Path, manifest: &Manifest, names: impl Iterator<Item = String>) -> Result<()> {
    let missing: Vec<String> = names.filter(|name| !dir.join(name).is_file()).collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Error::MissingFiles {
            dataset: manifest.dataset.clone(),
            root: dir.to_owned(),
            missing: Listing(missing),
        }),
    }
}

fn file_digest(path: &Path) -> Result<String> {
    let file = fs::File::open(path).map_err(Error::io("read", path))?;
    let bytes = read_bounded(file, path, MAX_FILE_BYTES)?;
    Ok(sha256_hex(&bytes))
}

#[cfg(test)]
mod tests;
