//! The read side: one checkpoint, its tensors and its small files.

use std::borrow::Cow;
use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use safetensors::Dtype;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result, one_line};
use crate::header::{self, Entry, TensorInfo};
use crate::index::Index;
use crate::source::{Bytes, Source};
use crate::{digest, float, json};

/// The file of an unsharded checkpoint.
const SINGLE: &str = "model.safetensors";

/// The index of a sharded one.
const INDEX: &str = "model.safetensors.index.json";

/// A tensor as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a> {
    /// Number format of `bytes`.
    pub dtype: Dtype,
    /// Sides, outermost first.
    pub shape: &'a [usize],
    /// Row-major little-endian values, of any alignment.
    pub bytes: &'a [u8],
}

/// A Hugging Face folder, or the same files compiled into the binary.
///
/// Opening maps the weight files and checks every header; the numbers themselves are read when
/// they are asked for.
#[derive(Debug)]
pub struct Checkpoint {
    name: String,
    source: Source,
    shards: Vec<Shard>,
    /// Where each tensor is: shard, then its place there.
    tensors: BTreeMap<String, (usize, Entry)>,
    allow_nan: bool,
}

#[derive(Debug)]
struct Shard {
    file: String,
    bytes: Bytes,
}

impl Checkpoint {
    /// Opens the folder `dir`: its `model.safetensors`, or else the shards that
    /// `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// When the folder, the weights or a shard is missing, a weight file is truncated or breaks
    /// the rules of its format, the index names a path or an absent tensor, or a tensor is stored
    /// twice.
    pub fn open(dir: &Path) -> Result<Self> {
        let source = folder(dir)?;
        Self::assemble(folder_name(dir), source)
    }

    /// Opens a single safetensors file; its folder serves [`Self::json`] and [`Self::bytes`].
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_file(path: &Path) -> Result<Self> {
        let file = path.file_name().and_then(|name| name.to_str());
        let Some(file) = file else {
            return Err(Error::FileName {
                location: path.display().to_string(),
                name: one_line(&path.to_string_lossy()),
                mend: "give the path of a safetensors file",
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

    /// Accepts NaN and infinity in [`Self::f32`], which refuses them otherwise.
    #[must_use]
    pub fn allow_nan(mut self, allow: bool) -> Self {
        self.allow_nan = allow;
        self
    }

    /// The model's name: the folder's last component, or the embedded name.
    pub fn name(&self) -> &str {
        &self.name
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

    /// The tensors' names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Dtype and shape of a tensor, if it is there.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|(_, entry)| &entry.info)
    }

    /// A tensor as it is stored, without a copy.
    ///
    /// # Errors
    /// When there is no such tensor.
    pub fn raw(&self, name: &str) -> Result<Raw<'_>> {
        let Some((shard, entry)) = self.tensors.get(name) else {
            return Err(Error::MissingTensor {
                location: self.location(),
                name: name.to_owned(),
                mend: "the weights do not belong to this config.json, or are incomplete",
            });
        };
        Ok(Raw {
            dtype: entry.info.dtype,
            shape: &entry.info.shape,
            bytes: &self.shards[*shard].bytes[entry.start..entry.end],
        })
    }

    /// The row-major values of a tensor, widened to `f32`.
    ///
    /// # Errors
    /// When there is no such tensor, its shape is not `expected_shape`, it is not F32, F16 or
    /// BF16, or it holds NaN or infinity (see [`Self::allow_nan`]).
    pub fn f32(&self, name: &str, expected_shape: &[usize]) -> Result<Vec<f32>> {
        let raw = self.raw(name)?;
        if raw.shape != expected_shape {
            return Err(Error::Shape {
                location: self.location(),
                name: name.to_owned(),
                found: raw.shape.to_vec(),
                expected: expected_shape.to_vec(),
            });
        }
        let Some(values) = float::widen(raw.dtype, raw.bytes) else {
            return Err(Error::NotFloat {
                location: self.location(),
                name: name.to_owned(),
                found: raw.dtype,
            });
        };
        match float::first_odd(&values) {
            Some(index) if !self.allow_nan => Err(Error::NotFinite {
                location: self.location(),
                name: name.to_owned(),
                index,
                value: values[index],
            }),
            _ => Ok(values),
        }
    }

    /// SHA-256, in hexadecimal, of all tensors and of `config.json`, `tokenizer.json` and
    /// `preprocessor_config.json`; the spread over shards does not count.
    ///
    /// # Errors
    /// When one of these files is there but cannot be read.
    pub fn digest(&self) -> Result<String> {
        digest::digest(self)
    }

    /// The tensors that are not in `used`, sorted.
    pub fn unused(&self, used: &BTreeSet<String>) -> Vec<String> {
        self.tensors
            .keys()
            .filter(|name| !used.contains(*name))
            .cloned()
            .collect()
    }

    fn empty(name: String, source: Source) -> Self {
        Self {
            name,
            source,
            shards: Vec::new(),
            tensors: BTreeMap::new(),
            allow_nan: false,
        }
    }

    fn assemble(name: String, source: Source) -> Result<Self> {
        let mut checkpoint = Self::empty(name, source);
        if let Some(bytes) = checkpoint.source.weights(SINGLE)? {
            checkpoint.add_tensors(SINGLE, bytes)?;
            return Ok(checkpoint);
        }
        let Some(bytes) = checkpoint.source.read(INDEX)? else {
            return Err(Error::Missing {
                location: checkpoint.location(),
                missing: format!("{SINGLE} (or {INDEX} with its shards)"),
                mend: "fetch the whole folder, or convert its weights to safetensors",
            });
        };
        let index = Index::parse(&bytes, &checkpoint.source.describe(INDEX))?;
        for shard in index.shards() {
            checkpoint.add_shard(shard)?;
        }
        checkpoint.check_claims(&index)?;
        Ok(checkpoint)
    }

    fn add_shard(&mut self, file: &str) -> Result<()> {
        match self.source.weights(file)? {
            Some(bytes) => self.add_tensors(file, bytes),
            None => Err(Error::Missing {
                location: self.location(),
                missing: file.to_owned(),
                mend: "fetch the whole folder",
            }),
        }
    }

    fn add_tensors(&mut self, file: &str, bytes: Bytes) -> Result<()> {
        let shard = self.shards.len();
        for entry in header::parse(&bytes, &self.source.describe(file))? {
            match self.tensors.entry(entry.name.clone()) {
                Slot::Vacant(slot) => {
                    slot.insert((shard, entry));
                }
                Slot::Occupied(slot) => {
                    let earlier = &self.shards[slot.get().0].file;
                    return Err(Error::Duplicate {
                        location: self.source.location(),
                        name: entry.name,
                        places: format!("{earlier} and {file}"),
                    });
                }
            }
        }
        self.shards.push(Shard {
            file: file.to_owned(),
            bytes,
        });
        Ok(())
    }

    /// Every tensor must lie in the shard that the index claims for it. Tensors that the index
    /// forgets are kept: the model decides whether it knows them.
    fn check_claims(&self, index: &Index) -> Result<()> {
        for (name, file) in &index.claims {
            let held = self
                .tensors
                .get(name)
                .is_some_and(|(shard, _)| self.shards[*shard].file == *file);
            if !held {
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
