//! The write side: files and folders that are there whole or not at all.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, View};

use crate::error::{Error, Result};
use crate::float::first_odd;
use crate::source::plain;

/// The weight file of a folder written here.
const WEIGHTS: &str = "model.safetensors";

/// A tensor to be written as F32.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Sides, outermost first; a linear weight is `[out, in]`.
    pub shape: Vec<usize>,
    /// Row-major values.
    pub values: Vec<f32>,
}

/// Writes `bytes` to `path` through a temporary file in the same folder, so that a reader finds
/// the old content or the new one and never a part.
///
/// # Errors
/// When the folder does not exist or cannot be written; `path` is then as it was.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, |temporary| {
        fs::write(temporary, bytes).map_err(Error::io("write", path))
    })
}

/// [`write_atomic`] of what `fill` writes to the path that it is given.
pub(crate) fn replace(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let (parent, name) = split(path)?;
    let mut builder = tempfile::Builder::new();
    let prefix = format!(".{name}.");
    builder.prefix(&prefix);
    #[cfg(unix)]
    builder.permissions(mode(0o666));
    let file = builder
        .tempfile_in(&parent)
        .map_err(Error::io("create a temporary file for", path))?;
    fill(file.path())?;
    file.as_file()
        .sync_all()
        .map_err(Error::io("write", path))?;
    file.persist(path)
        .map_err(|failed| Error::io("replace", path)(failed.error))?;
    Ok(())
}

/// Writes a Hugging Face folder: `files` as they are, and `tensors` as `model.safetensors` with
/// the names in sorted order, so that equal input gives equal bytes.
///
/// Everything is written into a temporary folder beside `dir`, which then takes its name; after
/// an error nothing is left behind. With `force` an earlier checkpoint at `dir` is replaced.
///
/// # Errors
/// When `dir` exists and `force` is not given, or it exists and does not look like a checkpoint
/// (a folder, empty or with a `config.json` or `adapter_config.json`, whose subfolders hold code,
/// templates and settings alone); when the folder above it is
/// missing or cannot be written; when a file name is not plain or occurs twice; when a tensor's
/// shape and values disagree or a value is NaN or infinite.
pub fn write_folder(
    dir: &Path,
    files: &[(String, Vec<u8>)],
    tensors: &BTreeMap<String, Tensor>,
    force: bool,
) -> Result<()> {
    write_weights(dir, files, WEIGHTS, tensors, force)
}

/// [`write_folder`] of a LoRA adapter: its tensors are `adapter_model.safetensors`.
///
/// # Errors
/// As [`write_folder`].
pub fn write_adapter(
    dir: &Path,
    files: &[(String, Vec<u8>)],
    tensors: &BTreeMap<String, Tensor>,
    force: bool,
) -> Result<()> {
    write_weights(dir, files, "adapter_model.safetensors", tensors, force)
}

fn write_weights(
    dir: &Path,
    files: &[(String, Vec<u8>)],
    name: &str,
    tensors: &BTreeMap<String, Tensor>,
    force: bool,
) -> Result<()> {
    check_files(dir, files, name)?;
    let beside = Beside::new(dir, force)?;
    // transformers refuses a file without this entry.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let weights = serialize(dir, tensors, metadata)?;
    for (file, bytes) in files {
        beside.write(file, bytes)?;
    }
    beside.write(name, &weights)?;
    beside.into_place()
}

/// Checks before any work that a checkpoint can be written to `dir`.
///
/// # Errors
/// When `dir` exists and `force` is not given, or it exists and does not look like a checkpoint
/// (a folder, empty or with a `config.json` or `adapter_config.json`, whose subfolders hold code,
/// templates and settings alone); when there is no folder above it.
pub fn check_target(dir: &Path, force: bool) -> Result<()> {
    replaces(dir, force)?;
    let (parent, _) = split(dir)?;
    match parent.is_dir() {
        true => Ok(()),
        false => Err(Error::Missing {
            location: dir.display().to_string(),
            missing: "the folder above it".to_owned(),
            mend: "create it first",
        }),
    }
}

/// A folder that is filled beside its target and then takes its name; dropped before, it leaves
/// nothing behind.
#[derive(Debug)]
pub(crate) struct Beside {
    dir: PathBuf,
    parent: PathBuf,
    name: String,
    fresh: tempfile::TempDir,
    replaced: bool,
}

impl Beside {
    /// An empty folder beside `dir`.
    pub(crate) fn new(dir: &Path, force: bool) -> Result<Self> {
        check_target(dir, force)?;
        let replaced = replaces(dir, force)?;
        let (parent, name) = split(dir)?;
        Ok(Self {
            fresh: sibling(dir, &parent, &name)?,
            dir: dir.to_owned(),
            parent,
            name,
            replaced,
        })
    }

    /// Where `file` is to be written.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.fresh.path().join(file)
    }

    /// Writes one file, whose path may lead into subfolders.
    pub(crate) fn write(&self, file: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(file);
        if let (Some(parent), true) = (path.parent(), file.contains('/')) {
            fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        write_synced(&path, bytes)
    }

    /// Gives the folder its name; an earlier one is removed once that is done.
    pub(crate) fn into_place(self) -> Result<()> {
        let dir = &self.dir;
        if self.replaced {
            let aside = sibling(dir, &self.parent, &self.name)?;
            let old = aside.path().join("old");
            fs::rename(dir, &old).map_err(Error::io("move aside", dir))?;
            if let Err(source) = fs::rename(self.fresh.path(), dir) {
                if fs::rename(&old, dir).is_err() {
                    // Better a strangely named folder than a lost checkpoint.
                    let kept = aside.keep().join("old");
                    return Err(Error::io("restore the earlier checkpoint from", &kept)(
                        source,
                    ));
                }
                return Err(Error::io("replace", dir)(source));
            }
        } else {
            fs::rename(self.fresh.path(), dir).map_err(Error::io("create", dir))?;
        }
        // The temporary name is gone: there is nothing left to clean up.
        let _ = self.fresh.keep();
        Ok(())
    }
}

fn check_files(dir: &Path, files: &[(String, Vec<u8>)], weights: &str) -> Result<()> {
    let mut seen = BTreeSet::from([weights]);
    for (file, _) in files {
        plain(file, || dir.display().to_string())?;
        if !seen.insert(file) {
            return Err(Error::FileName {
                location: dir.display().to_string(),
                name: file.clone(),
                mend: "give each file once, and the weights as tensors",
            });
        }
    }
    Ok(())
}

/// Whether `dir` exists and may be replaced.
fn replaces(dir: &Path, force: bool) -> Result<bool> {
    let refuse = |problem| {
        Err(Error::Target {
            path: dir.to_owned(),
            problem,
        })
    };
    let meta = match fs::symlink_metadata(dir) {
        Ok(meta) => meta,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(Error::io("read", dir)(source)),
    };
    if !force {
        return refuse("exists already; choose another folder, or force its replacement");
    }
    if !meta.is_dir() {
        return refuse("is not a folder and is not replaced; choose another folder");
    }
    let entries: std::io::Result<Vec<_>> = fs::read_dir(dir).and_then(Iterator::collect);
    let entries = entries.map_err(Error::io("read", dir))?;
    let flat = entries.iter().all(|entry| {
        let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        !folder || is_belonging(&entry.path(), 0)
    });
    let known = |name| entries.iter().any(|entry| entry.file_name() == name);
    let known = entries.is_empty() || known("config.json") || known("adapter_config.json");
    if !(flat && known) {
        return refuse("does not look like a checkpoint and is not replaced; remove it yourself");
    }
    Ok(true)
}

/// Whether a subfolder holds nothing but what is written beside weights: code, templates, settings.
fn is_belonging(dir: &Path, depth: usize) -> bool {
    let written = |entry: std::io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => depth < 4 && is_belonging(&entry.path(), depth + 1),
            Ok(kind) => {
                let name = entry.file_name();
                let ends = [".py", ".jinja", ".json"];
                kind.is_file() && ends.iter().any(|end| name.to_string_lossy().ends_with(end))
            }
            Err(_) => false,
        })
    };
    // An empty folder is somebody else's: none is written here.
    fs::read_dir(dir).is_ok_and(|entries| {
        let mut entries = entries.map(written).peekable();
        entries.peek().is_some() && entries.all(|written| written)
    })
}

/// `tensors` with `metadata` in the header, as the bytes of a safetensors file; `place` is what an
/// error names.
pub(crate) fn serialize(
    place: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: HashMap<String, String>,
) -> Result<Vec<u8>> {
    for (name, Tensor { shape, values }) in tensors {
        let expected = shape
            .iter()
            .try_fold(1usize, |n, side| n.checked_mul(*side));
        if expected != Some(values.len()) {
            return Err(Error::Length {
                name: name.clone(),
                shape: shape.clone(),
                found: values.len(),
            });
        }
        if let Some(index) = first_odd(values) {
            return Err(Error::NotFinite {
                location: place.display().to_string(),
                name: name.clone(),
                index,
                value: values[index],
                mend: "train them again",
            });
        }
    }
    safetensors::serialize(tensors, Some(metadata)).map_err(|problem| Error::Format {
        file: place.display().to_string(),
        problem: problem.to_string(),
    })
}

impl View for &Tensor {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn data_len(&self) -> usize {
        self.values.len() * size_of::<f32>()
    }
}

/// The folder that holds `path`, and the last component.
fn split(path: &Path) -> Result<(PathBuf, String)> {
    let Some(name) = path.file_name() else {
        return Err(Error::Target {
            path: path.to_owned(),
            problem: "has no name of its own; give a path that ends in one",
        });
    };
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    Ok((parent.to_owned(), name.to_string_lossy().into_owned()))
}

/// A temporary folder beside `dir`, removed when dropped.
fn sibling(dir: &Path, parent: &Path, name: &str) -> Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    let prefix = format!(".{name}.");
    builder.prefix(&prefix);
    #[cfg(unix)]
    builder.permissions(mode(0o777));
    builder
        .tempdir_in(parent)
        .map_err(Error::io("create a temporary folder for", dir))
}

/// Permissions before the user's umask; the crate's own default hides a file from everyone else.
#[cfg(unix)]
fn mode(bits: u32) -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(bits)
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create_new(path).map_err(Error::io("create", path))?;
    file.write_all(bytes).map_err(Error::io("write", path))?;
    file.sync_all().map_err(Error::io("write", path))
}
