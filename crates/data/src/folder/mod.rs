//! A dataset as a folder: `<task>_<split>.json`, `images/**.png` and `manifest.json`.

mod build;
mod check;
mod manifest;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use debias_core::{Picture, Record, Task};
use serde_json::Value;

pub use build::build;
pub use check::{Checked, check};
pub use manifest::{Manifest, SplitCounts};

use manifest::{
    FORMAT, IMAGES, MANIFEST, content_digest, file_digest, keys_of, request_file, requests,
};

use crate::codec::read_picture;
use crate::dataset::{Collection, SPLITS, validated};
use crate::request::is_inside;
use crate::{Error, Listing, Result};

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

#[cfg(test)]
mod tests;
