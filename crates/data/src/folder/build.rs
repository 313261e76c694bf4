//! Writes a collection as a folder, whole or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use debias_core::{Record, Task, sha256_hex};
use serde_json::Value;

use super::{
    FORMAT, IMAGES, MANIFEST, Manifest, SplitCounts, content_digest, keys_of, request_file,
};
use crate::codec::encode_png;
use crate::dataset::{Collection, Dataset, SPLITS};
use crate::request::{is_inside, to_json};
use crate::{Error, Result};

/// Opens `dataset` by `open` and writes its records and pictures to `out`.
///
/// Everything is written to a sibling of `out`, which is renamed at the end. An `out` that
/// already holds something is refused; with `force` it is replaced if it is a built dataset.
/// `progress` is told how many pictures are written, of how many.
///
/// # Errors
/// [`Error::Occupied`], an unwritable folder, or what opening and reading the dataset may raise.
pub fn build(
    dataset: &dyn Dataset,
    open: impl FnOnce(u64) -> Result<Box<dyn Collection>>,
    seed: u64,
    out: &Path,
    force: bool,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Manifest> {
    let replaces = occupied(out, force)?;
    let parent = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    let beside = tempfile::Builder::new()
        .prefix(".dataset-")
        .tempdir_in(parent)
        .map_err(Error::io("write to", parent))?;
    let collection = open(seed)?;
    let content = beside.path().join("content");
    fs::create_dir(&content).map_err(Error::io("create", &content))?;
    let manifest = write(dataset, collection.as_ref(), seed, &content, progress)?;
    if replaces {
        let old = beside.path().join("replaced");
        fs::rename(out, &old).map_err(Error::io("move aside", out))?;
    }
    fs::rename(&content, out).map_err(Error::io("rename into place", out))?;
    Ok(manifest)
}

/// Whether `out` has to be moved aside first.
fn occupied(out: &Path, force: bool) -> Result<bool> {
    let refuse = |problem| {
        Err(Error::Occupied {
            path: out.to_owned(),
            problem,
        })
    };
    if !out.try_exists().map_err(Error::io("look at", out))? {
        return Ok(false);
    }
    if !out.is_dir() {
        return refuse("is not a folder; give another --out");
    }
    let mut entries = fs::read_dir(out).map_err(Error::io("read", out))?;
    if entries.next().is_none() {
        return Ok(true);
    }
    match (force, out.join(MANIFEST).is_file()) {
        (true, true) => Ok(true),
        (true, false) => refuse("holds something else than a built dataset; give another --out"),
        (false, _) => {
            refuse("is not empty; give another --out, or --force to replace a built dataset")
        }
    }
}

fn write(
    dataset: &dyn Dataset,
    collection: &dyn Collection,
    seed: u64,
    dir: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Manifest> {
    let mut files = BTreeMap::new();
    let mut counts = BTreeMap::new();
    let mut records = Vec::new();
    for &task in dataset.tasks() {
        let of_task = collection.records(task)?;
        counts.insert(task, SplitCounts::of(of_task.iter()));
        write_requests(dir, task, &of_task, &mut files)?;
        records.extend(of_task);
    }
    let keys = keys_of(&records);
    for (done, key) in keys.iter().enumerate() {
        if !is_inside(key) {
            return Err(Error::UnknownPicture {
                dataset: dataset.card().name.clone(),
                key: key.clone(),
            });
        }
        let bytes = encode_png(&collection.picture(key)?)?;
        write_file(dir, &format!("{IMAGES}/{key}"), &bytes, &mut files)?;
        progress(done + 1, keys.len());
    }
    let manifest = Manifest {
        format: FORMAT,
        dataset: dataset.card().name.clone(),
        version: dataset.card().version.clone(),
        licence: dataset.card().licence.clone(),
        seed,
        counts,
        pictures: keys.len(),
        source_digest: collection.digest()?,
        content_digest: content_digest(&files),
        m_locality: collection.m_locality_source().to_owned(),
        remark: collection.remark().map(str::to_owned),
        provenance: collection.provenance(),
    };
    let text = pretty(&serde_json::to_value(&manifest).map_err(|error| {
        Error::format(&dir.join(MANIFEST), format!("cannot be written: {error}"))
    })?);
    write_file(dir, MANIFEST, text.as_bytes(), &mut files)?;
    Ok(manifest)
}

fn write_requests(
    dir: &Path,
    task: Task,
    records: &[Record],
    files: &mut BTreeMap<String, String>,
) -> Result<()> {
    for (split, name) in SPLITS {
        let of_split = records.iter().filter(|record| record.split == split);
        let text = pretty(&Value::Array(of_split.map(to_json).collect()));
        write_file(dir, &request_file(task, name), text.as_bytes(), files)?;
    }
    Ok(())
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// Writes one file below `dir` and notes its digest.
fn write_file(
    dir: &Path,
    name: &str,
    bytes: &[u8],
    files: &mut BTreeMap<String, String>,
) -> Result<()> {
    let path = dir.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    }
    fs::write(&path, bytes).map_err(Error::io("write", &path))?;
    files.insert(name.to_owned(), sha256_hex(bytes));
    Ok(())
}
