//! The read side: one checkpoint, its tensors and its small files.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result, one_line};
use crate::header::{self, Entry};
use crate::index::Index;
use crate::source::{Source, itself};
use crate::{digest, json, pytorch};

/// The file of an unsharded checkpoint, and the index of a sharded one, which goes first; the first
/// that is there is read.
const LAYOUTS: [(&str, &str); 2] = [
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
];

/// A Hugging Face folder, or the same files compiled into the binary.
///
/// Opening maps the weight files and checks every header; the numbers themselves are read when
/// they are asked for.
#[derive(Debug)]
pub struct Checkpoint {
    name: String,
    pub(crate) source: Source,
    pub(crate) shards: Vec<Shard>,
    /// Where each tensor is: shard, then its place there.
    pub(crate) tensors: BTreeMap<String, (usize, Entry)>,
    pub(crate) allow_nan: bool,
    notes: Vec<String>,
}

/// One weight file.
#[derive(Debug)]
pub(crate) struct Shard {
    /// Its name in its folder.
    pub(crate) file: String,
    /// For messages: the name with its folder.
    pub(crate) place: String,
    pub(crate) bytes: Bytes,
    /// Whether every tensor of the file is one of the checkpoint's.
    pub(crate) whole: bool,
}

impl Checkpoint {
    /// Opens the folder `dir`: the shards that `model.safetensors.index.json` names, or else its
    /// `model.safetensors`, or else the same of `pytorch_model.bin.index.json` and
    /// `pytorch_model.bin`.
    ///
    /// An index settles which tensors there are and which file holds each: what a shard holds beyond
    /// that is not taken. [`Self::notes`] says so, and what was chosen where a folder holds an index
    /// and a single file.
    ///
    /// PyTorch files are read as data: a pickle that would call anything but the few constructors
    /// of tensors is refused.
    ///
    /// # Errors
    /// When the folder, the weights or a shard is missing, a weight file is truncated or breaks
    /// the rules of its format, or the index names a path or an absent tensor.
    pub fn open(dir: &Path) -> Result<Self> {
        let source = folder(dir)?;
        Self::assemble(folder_name(dir), source)
    }

    /// Opens a single safetensors or PyTorch file (its content tells which); its folder serves [`Self::json`] and [`Self::bytes`].
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_file(path: &Path) -> Result<Self> {
        let file = path.file_name().and_then(|name| name.to_str());
        let Some(file) = file else {
            return Err(Error::FileName {
                location: path.display().to_string(),
                name: one_line(&path.to_string_lossy()),
                mend: "give the path of a safetensors or PyTorch file",
            });
        };
        let dir = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let mut checkpoint = Self::empty(file.to_owned(), folder(dir)?);
        checkpoint.add_shard(file)?;
        Ok(checkpoint)
    }

    /// Opens a model compiled into the binary: `files` holds names and contents of the files that
    /// its folder would hold.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn embedded(
        name: &'static str,
        files: &'static [(&'static str, &'static [u8])],
    ) -> Result<Self> {
        Self::assemble(name.to_owned(), Source::Embedded { name, files })
    }

    /// Opens the content of one safetensors or PyTorch file; `name` stands for it in messages.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_bytes(name: &str, bytes: impl Into<Bytes>) -> Result<Self> {
        let source = Source::Memory {
            name: name.to_owned(),
        };
        let mut checkpoint = Self::empty(name.to_owned(), source);
        checkpoint.add_tensors(name, bytes.into())?;
        Ok(checkpoint)
    }

    /// A folder with its small files and no tensors yet; [`Self::mount`] and
    /// [`Self::mount_file`] add them.
    ///
    /// # Errors
    /// When `dir` is missing, unreadable or no folder.
    pub fn bare(dir: &Path) -> Result<Self> {
        Ok(Self::empty(folder_name(dir), folder(dir)?))
    }

    /// The folder `name` inside this one, as [`Self::bare`]; `None` when there is no such folder.
    /// Embedded models and single files have none.
    ///
    /// # Errors
    /// When `name` is not a plain name, or names something unreadable or a file.
    pub fn subfolder(&self, name: &str) -> Result<Option<Self>> {
        match self.source.subfolder(name)? {
            Some(dir) if dir.exists() => Self::bare(&dir).map(Some),
            _ => Ok(None),
        }
    }

    /// Adds every tensor of `other` under `prefix` and its name. A tensor that has this name
    /// already is replaced: the original MiniGPT-4 release loads its files over each other in
    /// this way. Small files, name and [`Self::allow_nan`] stay those of `self`.
    #[must_use]
    pub fn mount(mut self, prefix: &str, other: Self) -> Self {
        let earlier = self.shards.len();
        self.shards.extend(other.shards);
        self.notes.extend(other.notes);
        for (name, (shard, entry)) in other.tensors {
            self.tensors
                .insert(format!("{prefix}{name}"), (earlier + shard, entry));
        }
        self
    }

    /// [`Self::mount`] for `file` of this folder, a safetensors or PyTorch file.
    ///
    /// # Errors
    /// When `file` is not a plain file name or missing, or breaks the rules of its format.
    pub fn mount_file(self, prefix: &str, file: &str) -> Result<Self> {
        let bytes = self.weights(file)?;
        let other = Self::from_bytes(&self.source.describe(file), bytes)?;
        Ok(self.mount(prefix, other))
    }

    /// Accepts NaN and infinity in [`Self::checked`] and [`Self::f32`], which refuse them
    /// otherwise.
    #[must_use]
    pub fn allow_nan(mut self, allow: bool) -> Self {
        self.allow_nan = allow;
        self
    }

    /// The model's name: the folder's last component, or the embedded name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a person should know about which of the folder's files and tensors are read; a sentence
    /// each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// For messages: the folder's path, or `embedded:<name>`.
    pub fn location(&self) -> String {
        self.source.location()
    }

    /// Reads the JSON file `file`.
    ///
    /// # Errors
    /// When it is missing, above 64 MiB or malformed, or lacks what `T` requires; the field is
    /// named.
    pub fn json<T: DeserializeOwned>(&self, file: &str) -> Result<T> {
        json::parse(&self.bytes(file)?, &self.source.describe(file))
    }

    /// [`Self::json`], or `None` when there is no such file.
    ///
    /// # Errors
    /// As [`Self::json`], except for a missing file.
    pub fn json_if_present<T: DeserializeOwned>(&self, file: &str) -> Result<Option<T>> {
        self.bytes_if_present(file)?
            .map(|bytes| json::parse(&bytes, &self.source.describe(file)))
            .transpose()
    }

    /// Reads the file `file` whole.
    ///
    /// # Errors
    /// When it is missing, unreadable or above 64 MiB, or `file` is not a plain file name.
    pub fn bytes(&self, file: &str) -> Result<Cow<'static, [u8]>> {
        self.bytes_if_present(file)?.ok_or_else(|| Error::Missing {
            location: self.location(),
            missing: file.to_owned(),
            mend: "fetch the whole folder",
        })
    }

    /// [`Self::bytes`], or `None` when there is no such file.
    ///
    /// # Errors
    /// As [`Self::bytes`], except for a missing file.
    pub fn bytes_if_present(&self, file: &str) -> Result<Option<Cow<'static, [u8]>>> {
        self.source.read(file)
    }

    /// SHA-256, in hexadecimal, of all tensors and of the files that decide what they mean: of
    /// `config.json`, tokenizer, processor and chat template, and of `minigpt4.json` where there is
    /// one; the spread over shards does not count.
    ///
    /// # Errors
    /// When one of these files is there but cannot be read.
    pub fn digest(&self) -> Result<String> {
        digest::digest(self)
    }

    fn empty(name: String, source: Source) -> Self {
        Self {
            name,
            source,
            shards: Vec::new(),
            tensors: BTreeMap::new(),
            allow_nan: false,
            notes: Vec::new(),
        }
    }

    fn assemble(name: String, source: Source) -> Result<Self> {
        let mut checkpoint = Self::empty(name, source);
        for (single, index) in LAYOUTS {
            if checkpoint.add_indexed(single, index)? {
                return Ok(checkpoint);
            }
            if let Some(bytes) = checkpoint.source.weights(single)? {
                checkpoint.add_tensors(single, bytes)?;
                return Ok(checkpoint);
            }
        }
        let [(single, index), (old, old_index)] = LAYOUTS;
        Err(Error::Missing {
            location: checkpoint.location(),
            missing: format!("{single} (or {index} with its shards, or {old}, or {old_index})"),
            mend: "fetch the whole folder, or convert its weights to safetensors",
        })
    }

    /// Adds what the file `index` names, if it is there, and says which was chosen where `single` is
    /// there too. An index all of whose shards are gone is a leftover.
    fn add_indexed(&mut self, single: &str, index: &str) -> Result<bool> {
        let Some(bytes) = self.source.read(index)? else {
            return Ok(false);
        };
        let written = Index::parse(&bytes, &self.source.describe(index))?;
        let shards = written.shards();
        let beside = !shards.contains(single) && self.source.has(single)?;
        if beside {
            let mut there = false;
            for shard in &shards {
                there |= self.source.has(shard)?;
            }
            let location = self.source.location();
            if !there {
                self.notes.push(format!(
                    "{location}: none of the shards that {index} names is there; {single} is read"
                ));
                return Ok(false);
            }
            self.notes.push(format!(
                "{location} holds {index} and {single}; the shards of the index are read, {single} is not"
            ));
        }
        for shard in shards {
            let bytes = self.weights(shard)?;
            self.add_claimed(shard, bytes, &written)?;
        }
        self.check_claims(&written)?;
        Ok(true)
    }

    /// The content of a weight file that must be there.
    fn weights(&self, file: &str) -> Result<Bytes> {
        self.source.weights(file)?.ok_or_else(|| Error::Missing {
            location: self.location(),
            missing: file.to_owned(),
            mend: "fetch the whole folder",
        })
    }

    fn add_shard(&mut self, file: &str) -> Result<()> {
        let bytes = self.weights(file)?;
        self.add_tensors(file, bytes)
    }

    /// Adds every tensor of `file`.
    fn add_tensors(&mut self, file: &str, bytes: Bytes) -> Result<()> {
        let entries = self.entries(file, &bytes)?;
        self.add(file, bytes, entries, true);
        Ok(())
    }

    /// Adds the tensors of the shard `file` that `index` claims for it.
    fn add_claimed(&mut self, file: &str, bytes: Bytes, index: &Index) -> Result<()> {
        let mut entries = self.entries(file, &bytes)?;
        let held = entries.len();
        let mut unnamed = Vec::new();
        entries.retain(|entry| match index.shard(&entry.name) {
            Some(shard) => shard == file,
            None => {
                unnamed.push(entry.name.clone());
                false
            }
        });
        if let Some(first) = unnamed.first() {
            let more = match unnamed.len() - 1 {
                0 => String::new(),
                n => format!(" and {n} more"),
            };
            self.notes.push(format!(
                "{}: `{}`{more} left out: the index does not name it",
                self.source.describe(file),
                one_line(first)
            ));
        }
        let whole = entries.len() == held;
        self.add(file, bytes, entries, whole);
        Ok(())
    }

    fn entries(&self, file: &str, bytes: &[u8]) -> Result<Vec<Entry>> {
        let place = self.source.describe(file);
        itself(bytes, || place.clone())?;
        if pytorch::recognized(bytes) {
            pytorch::parse(bytes, &place)
        } else {
            header::parse(bytes, &place)
        }
    }

    /// Adds `entries` of `file`, no two of which, and none of which and another's, share a name.
    fn add(&mut self, file: &str, bytes: Bytes, entries: Vec<Entry>, whole: bool) {
        let shard = self.shards.len();
        let named = entries.into_iter();
        self.tensors
            .extend(named.map(|entry| (entry.name.clone(), (shard, entry))));
        self.shards.push(Shard {
            file: file.to_owned(),
            place: self.source.describe(file),
            bytes,
            whole,
        });
    }

    /// Every tensor must lie in the shard that the index claims for it.
    fn check_claims(&self, index: &Index) -> Result<()> {
        for (name, file) in index.claims() {
            if !self.tensors.contains_key(name) {
                return Err(Error::MissingTensor {
                    location: self.source.describe(file),
                    name: one_line(name),
                    mend: "the index claims it for this shard; fetch both again",
                });
            }
        }
        Ok(())
    }
}

fn folder(dir: &Path) -> Result<Source> {
    match fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => Ok(Source::Folder(dir.to_owned())),
        Ok(_) => Err(Error::Target {
            path: dir.to_owned(),
            problem: "is not a folder; give the folder that holds config.json",
        }),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Err(Error::Missing {
            location: dir.display().to_string(),
            missing: "the folder".to_owned(),
            mend: "give the path of a Hugging Face folder",
        }),
        Err(source) => Err(Error::io("read", dir)(source)),
    }
}

/// The last component of `dir`, also for `.` and `..`.
fn folder_name(dir: &Path) -> String {
    let resolved = match dir.file_name() {
        Some(_) => dir.to_owned(),
        None => dir.canonicalize().unwrap_or_else(|_| dir.to_owned()),
    };
    resolved
        .file_name()
        .unwrap_or(resolved.as_os_str())
        .to_string_lossy()
        .into_owned()
}
