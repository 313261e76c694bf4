//! A copy of a checkpoint with some tensors edited: same files, names, shards and number formats.
//!
//! Weights go from the map of the old file to the new one tensor by tensor; the model is never in
//! memory as a whole.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Map, json};

use crate::checkpoint::{Checkpoint, Shard};
use crate::error::{Error, Result};
use crate::float::{first_odd, narrow, readable, widen};
use crate::header::Entry;
use crate::pytorch;
use crate::source::{Source, plain};
use crate::streamed;
use crate::write::Beside;

/// Ends of the names of weight files; those in use are written, others would be stale.
const WEIGHTS: [&str; 9] = [
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".h5",
    ".msgpack",
    ".gguf",
    ".onnx",
    ".ckpt",
];

/// The index of a sharded checkpoint.
const INDEX: &str = "model.safetensors.index.json";

/// Writes `base` to the folder `dir` with the tensors in `names` changed by `edit`, which gets a
/// tensor's name and its row-major values in f32. The result is rounded to the stored format; every
/// other tensor keeps its bytes. PyTorch files become safetensors with the same shards.
///
/// Small files are copied, apart from hidden ones, weights that `base` does not use, those in `leave_out` and
/// those in whose place `add` has others; of subfolders what [`Checkpoint::belongings`] names. Everything is written beside `dir` and renamed at the end; after an error
/// nothing is left behind. With `force` an earlier checkpoint at `dir` is replaced.
///
/// # Errors
/// What [`check_target`](crate::check_target) refuses; a name that `base` lacks or whose values are
/// no floats of 16 to 64 bits; an edited value that is not finite in the stored format; a `base`
/// put together from several folders; a file that cannot be read or written.
pub fn write_edited(
    dir: &Path,
    base: &Checkpoint,
    names: &BTreeSet<&str>,
    edit: &mut dyn FnMut(&str, &mut [f32]),
    leave_out: &[&str],
    add: &[(String, Vec<u8>)],
    force: bool,
) -> Result<()> {
    for name in names {
        // Names the missing one.
        base.shared(name)?;
    }
    if let Source::Folder(old) = &base.source
        && same(old, dir)
    {
        return Err(Error::Target {
            path: dir.to_owned(),
            problem: "is the checkpoint that is edited; choose another folder",
        });
    }
    let beside = Beside::new(dir, force)?;
    let mut writer = Writer {
        base,
        names,
        edit,
        beside: &beside,
    };
    let mut files = Vec::new();
    for shard in 0..base.shards.len() {
        files.push(writer.shard(shard)?);
    }
    writer.index(&files)?;
    let replaced = add.iter().map(|(file, _)| file.as_str());
    let left_out: Vec<&str> = leave_out.iter().copied().chain(replaced).collect();
    writer.small_files(&left_out)?;
    for (file, bytes) in add {
        plain(file, || dir.display().to_string())?;
        beside.write(file, bytes)?;
    }
    beside.into_place()
}

/// Checks before any work that copies of `base` can be written at all.
///
/// # Errors
/// A `base` that is put together from several folders.
pub fn check_editable(base: &Checkpoint) -> Result<()> {
    base.shards.iter().try_for_each(|shard| own(base, shard))
}

/// Refuses a mounted file, which has a path for a name, or lies in another folder.
fn own(base: &Checkpoint, shard: &Shard) -> Result<()> {
    let own = plain(&shard.file, || base.location()).is_ok();
    match own && shard.place == base.source.describe(&shard.file) {
        true => Ok(()),
        false => Err(Error::Composed {
            location: base.location(),
        }),
    }
}

fn same(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

struct Writer<'a> {
    base: &'a Checkpoint,
    names: &'a BTreeSet<&'a str>,
    edit: &'a mut dyn FnMut(&str, &mut [f32]),
    beside: &'a Beside,
}

impl Writer<'_> {
    /// Writes one weight file and returns its name.
    fn shard(&mut self, at: usize) -> Result<String> {
        let base = self.base;
        let shard = &base.shards[at];
        own(base, shard)?;
        let mut held: Vec<(&String, &Entry)> = base
            .tensors
            .iter()
            .filter(|(_, (of, _))| *of == at)
            .map(|(name, (_, entry))| (name, entry))
            .collect();
        // What the index leaves out has no place in a copy of the file's own header.
        let anew = pytorch::recognized(&shard.bytes) || !shard.whole;
        if !anew {
            held.sort_by_key(|(_, entry)| (entry.start, entry.end));
        }
        let name = match shard.file.ends_with(".safetensors") {
            true => shard.file.clone(),
            false => converted_name(&shard.file),
        };
        let path = self.beside.path(&name);
        let write = |source| Error::io("write", &path)(source);
        let file = File::create_new(&path).map_err(write)?;
        let mut out = BufWriter::new(file);
        let head = if anew {
            Cow::Owned(header(base, &held, &path)?)
        } else {
            Cow::Borrowed(original_header(shard))
        };
        out.write_all(&head).map_err(write)?;
        for (name, entry) in held {
            let stored = base.shared(name)?;
            match self.names.contains(name.as_str()) {
                true => out.write_all(&self.edited(name, entry, &stored.bytes)?),
                false => out.write_all(&stored.bytes),
            }
            .map_err(write)?;
        }
        let file = out.into_inner().map_err(|e| write(e.into_error()))?;
        file.sync_all().map_err(write)?;
        Ok(name)
    }

    /// The bytes of a tensor with the edit in it.
    fn edited(&mut self, name: &str, entry: &Entry, stored: &[u8]) -> Result<Vec<u8>> {
        let dtype = entry.info.dtype;
        let refuse = || Error::NotFloat {
            location: self.base.location(),
            name: name.to_owned(),
            found: dtype,
        };
        if !readable(dtype) {
            return Err(refuse());
        }
        let mut values = widen(dtype, stored).ok_or_else(refuse)?;
        (self.edit)(name, &mut values);
        let bytes = narrow(dtype, &values).ok_or_else(refuse)?;
        let rounded = widen(dtype, &bytes).ok_or_else(refuse)?;
        match first_odd(&rounded) {
            None => Ok(bytes),
            Some(index) => Err(Error::NotFinite {
                location: self.base.location(),
                name: name.to_owned(),
                index,
                value: rounded[index],
                mend: "make a smaller edit, or keep the weights in F32",
            }),
        }
    }

    /// The index of several shards: the old one where there is one, else a new one.
    fn index(&self, files: &[String]) -> Result<()> {
        let single = matches!(files, [only] if only == "model.safetensors");
        if single {
            return Ok(());
        }
        if let Some(bytes) = self.base.bytes_if_present(INDEX)? {
            return self.beside.write(INDEX, &bytes);
        }
        let mut total = 0;
        let mut map = Map::new();
        for (name, (shard, _)) in &self.base.tensors {
            total += self.base.shared(name)?.bytes.len();
            map.insert(name.clone(), files[*shard].clone().into());
        }
        let index = json!({"metadata": {"total_size": total}, "weight_map": map});
        self.beside.write(INDEX, format!("{index:#}\n").as_bytes())
    }

    fn small_files(&self, leave_out: &[&str]) -> Result<()> {
        let wanted = |name: &str| {
            let weights = WEIGHTS.iter().any(|end| name.ends_with(end));
            let index = name.ends_with(".index.json");
            !(weights || index || name.starts_with('.') || leave_out.contains(&name))
        };
        match &self.base.source {
            Source::Memory { .. } => Ok(()),
            Source::Embedded { files, .. } => files
                .iter()
                .filter(|(name, _)| wanted(name))
                .try_for_each(|(name, bytes)| self.beside.write(name, bytes)),
            Source::Folder(dir) => {
                let entries = fs::read_dir(dir).map_err(Error::io("read", dir))?;
                for entry in entries {
                    let name = entry.map_err(Error::io("read", dir))?.file_name();
                    let from = dir.join(&name);
                    match name.to_str() {
                        Some(name) if wanted(name) && from.is_file() => self.copy(&from, name)?,
                        _ => {}
                    }
                }
                let mut below = self.base.belongings()?.into_iter();
                below.try_for_each(|(path, bytes)| self.beside.write(&path, &bytes))
            }
        }
    }

    fn copy(&self, from: &Path, name: &str) -> Result<()> {
        let to = self.beside.path(name);
        let mut source = File::open(from).map_err(Error::io("open", from))?;
        let mut target = File::create_new(&to).map_err(Error::io("create", &to))?;
        io::copy(&mut source, &mut target).map_err(Error::io("write", &to))?;
        target.sync_all().map_err(Error::io("write", &to))
    }
}

/// Length and header of a safetensors file, as they are: no name, format or shape changes.
fn original_header(shard: &Shard) -> &[u8] {
    let (length, _) = shard
        .bytes
        .split_first_chunk::<8>()
        .expect("the header was read when the file was opened");
    &shard.bytes[..8 + u64::from_le_bytes(*length) as usize]
}

/// Length and header of a new safetensors file that holds these tensors in this order.
fn header(base: &Checkpoint, held: &[(&String, &Entry)], path: &Path) -> Result<Vec<u8>> {
    let mut described = Vec::with_capacity(held.len());
    let mut start = 0;
    for (name, entry) in held {
        let end = start + base.shared(name)?.bytes.len() as u64;
        described.push((name.as_str(), &entry.info, [start, end]));
        start = end;
    }
    streamed::header(&described, path)
}

/// The safetensors name of a PyTorch file: `pytorch_model-00001-of-00002.bin` becomes
/// `model-00001-of-00002.safetensors`.
fn converted_name(file: &str) -> String {
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    format!(
        "{}.safetensors",
        stem.strip_prefix("pytorch_").unwrap_or(stem)
    )
}
