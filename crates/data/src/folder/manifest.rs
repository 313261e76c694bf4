//! The files of a folder: names, manifest, records, digests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use debias_core::{Record, Split, Task, sha256_hex};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::codec::MAX_FILE_BYTES;
use crate::dataset::SPLITS;
use crate::mistakes::{Mistake, Mistakes};
use crate::request::{Unsaid, parse};
use crate::source::{read_bounded, read_text};
use crate::{Error, Result};

/// The folder of the pictures.
pub(super) const IMAGES: &str = "images";
/// The file that makes a folder a dataset.
pub(super) const MANIFEST: &str = "manifest.json";
/// The newest manifest format this build reads and the one it writes.
pub(super) const FORMAT: u32 = 1;

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
    pub(super) fn of<'a>(records: impl Iterator<Item = &'a Record>) -> Self {
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
    pub(super) fn read(dir: &Path) -> Result<Self> {
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
pub(super) fn request_file(task: Task, split: &str) -> String {
    format!("{}_{split}.json", task.name())
}

/// SHA-256 over `sha256  path` lines in path order.
pub(super) fn content_digest(files: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> = files
        .iter()
        .map(|(path, digest)| format!("{digest}  {path}\n"))
        .collect();
    sha256_hex(lines.concat().as_bytes())
}

/// Reads every request file; what is wrong with single records comes back beside the others.
pub(super) fn requests(dir: &Path, manifest: &Manifest) -> Result<(Vec<Record>, Mistakes)> {
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
pub(super) fn keys_of(records: &[Record]) -> BTreeSet<String> {
    let keys = records.iter().flat_map(Record::images);
    keys.map(|(_, key)| key.clone()).collect()
}

pub(super) fn file_digest(path: &Path) -> Result<String> {
    let file = fs::File::open(path).map_err(Error::io("read", path))?;
    let bytes = read_bounded(file, path, MAX_FILE_BYTES)?;
    Ok(sha256_hex(&bytes))
}
