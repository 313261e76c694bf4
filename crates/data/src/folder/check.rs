//! Validates a built folder and lists everything that is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use debias_core::{Record, Task};
use walkdir::WalkDir;

use super::{
    IMAGES, MANIFEST, Manifest, SplitCounts, content_digest, file_digest, keys_of, request_file,
    requests,
};
use crate::codec::read_picture;
use crate::dataset::{SPLITS, problems};
use crate::request::is_inside;
use crate::{Error, Result};

/// The outcome of [`check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The dataset the manifest names; empty when the manifest cannot be read.
    pub dataset: String,
    /// Records read.
    pub records: usize,
    /// Pictures decoded.
    pub pictures: usize,
    /// Everything that is wrong, one line each; empty for a valid folder.
    pub problems: Vec<String>,
}

/// Checks a folder written by [`crate::build`]: manifest, records, splits, every picture, no
/// file too many, digests.
///
/// # Errors
/// [`Error::Io`] when `dir` is not a readable folder; everything inside it is a problem, not an
/// error.
pub fn check(dir: &Path) -> Result<Checked> {
    std::fs::read_dir(dir).map_err(Error::io("read", dir))?;
    let mut checked = Checked {
        dataset: String::new(),
        records: 0,
        pictures: 0,
        problems: Vec::new(),
    };
    let manifest = match Manifest::read(dir) {
        Ok(manifest) => manifest,
        Err(error) => {
            checked.problems.push(with_cause(&error));
            return Ok(checked);
        }
    };
    checked.dataset.clone_from(&manifest.dataset);
    let records = match requests(dir, &manifest) {
        Ok((records, found)) => {
            checked.problems.extend(found.sentences());
            records
        }
        Err(error) => {
            checked.problems.push(with_cause(&error));
            return Ok(checked);
        }
    };
    checked.records = records.len();
    checked.problems.extend(problems(&records).sentences());
    compare_counts(&manifest, &records, &mut checked.problems);
    let keys = keys_of(&records);
    for key in &keys {
        match look_at(dir, key) {
            Ok(()) => checked.pictures += 1,
            Err(problem) => checked.problems.push(problem),
        }
    }
    compare_files(dir, &manifest, &keys, &mut checked.problems);
    Ok(checked)
}

fn look_at(dir: &Path, key: &str) -> std::result::Result<(), String> {
    if !is_inside(key) {
        return Err(format!("picture `{key}` would leave the folder"));
    }
    let read = read_picture(&dir.join(IMAGES).join(key));
    read.map(|_| ()).map_err(|error| with_cause(&error))
}

fn compare_counts(manifest: &Manifest, records: &[Record], found: &mut Vec<String>) {
    for (&task, &stated) in &manifest.counts {
        let counted = SplitCounts::of(records.iter().filter(|record| record.task == task));
        if counted != stated {
            found.push(format!(
                "{MANIFEST}: `counts.{}` says {stated:?}, the files hold {counted:?}",
                task.name()
            ));
        }
    }
}

/// Compares the files that are there with those that belong there, then their digest.
fn compare_files(
    dir: &Path,
    manifest: &Manifest,
    keys: &BTreeSet<String>,
    found: &mut Vec<String>,
) {
    if manifest.pictures != keys.len() {
        found.push(format!(
            "{MANIFEST}: `pictures` says {}, the records name {}",
            manifest.pictures,
            keys.len()
        ));
    }
    let tasks: Vec<Task> = manifest.counts.keys().copied().collect();
    let requests = tasks
        .iter()
        .flat_map(|&task| SPLITS.map(|(_, split)| request_file(task, split)));
    let pictures = keys.iter().map(|key| format!("{IMAGES}/{key}"));
    let belongs: BTreeSet<String> = requests.chain(pictures).collect();
    let mut digests = BTreeMap::new();
    for entry in WalkDir::new(dir).sort_by_file_name() {
        let Ok(entry) = entry.map_err(|error| found.push(error.to_string())) else {
            continue;
        };
        let below = entry.path().strip_prefix(dir).unwrap_or(entry.path());
        let name = below.to_string_lossy().replace('\\', "/");
        if entry.file_type().is_dir() || name == MANIFEST {
            continue;
        }
        if !belongs.contains(&name) || !entry.file_type().is_file() {
            found.push(format!("{name}: does not belong to the dataset; remove it"));
            continue;
        }
        match file_digest(entry.path()) {
            Ok(digest) => {
                digests.insert(name, digest);
            }
            Err(error) => found.push(with_cause(&error)),
        }
    }
    if content_digest(&digests) != manifest.content_digest {
        found.push(format!(
            "{MANIFEST}: `content_digest` does not match the files; build the folder again"
        ));
    }
}

/// The message and the operating system's words in one line.
fn with_cause(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
