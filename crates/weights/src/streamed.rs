//! A checkpoint folder written piece by piece: from any thread, in any order, each tensor at its
//! final place.
//!
//! Every name, format and shape is known before the first value, so the headers and the index come
//! first and nothing is gathered in memory. Weights are not forced to the disk before the rename:
//! a killed program leaves nothing at the target, a loss of power may leave a folder to be made again.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result, one_line};
use crate::header::TensorInfo;
use crate::source::plain;
use crate::write::Beside;

/// Kept free beside the weights for small files.
const SPARE: u64 = 64 << 20;

/// How the weight files of a folder are called and cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharding<'a> {
    /// `model` in `model.safetensors` and `model-00001-of-00002.safetensors`.
    pub stem: &'a str,
    /// A file is closed when the next tensor would make its data longer than this.
    pub limit: u64,
}

/// A folder in the making; dropped before [`StreamedFolder::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct StreamedFolder {
    beside: Beside,
    files: Vec<(PathBuf, File)>,
    places: Vec<Place>,
}

/// Where a tensor begins, and how long it is.
#[derive(Clone, Copy, Debug)]
struct Place {
    file: usize,
    start: u64,
    length: u64,
}

impl StreamedFolder {
    /// Begins a folder that will be `dir`, with these tensors in this order.
    ///
    /// # Errors
    /// What [`check_target`](crate::check_target) refuses; a tensor that does not fill whole bytes
    /// or whose size overflows; too little room on the disk; a folder that cannot be written.
    pub fn create(
        dir: &Path,
        tensors: &[(String, TensorInfo)],
        sharding: Sharding,
        force: bool,
    ) -> Result<Self> {
        let beside = Beside::new(dir, force)?;
        let shards = shards(dir, tensors, sharding.limit)?;
        let total: u64 = shards.iter().flatten().map(|(_, length)| length).sum();
        check_room(dir, total)?;
        let mut folder = Self {
            beside,
            files: Vec::new(),
            places: Vec::new(),
        };
        let mut claims = BTreeMap::new();
        for (at, shard) in shards.iter().enumerate() {
            let name = file_name(sharding.stem, at, shards.len());
            folder.begin(&name, at, shard, tensors)?;
            for (tensor, _) in shard {
                claims.insert(tensors[*tensor].0.as_str(), name.clone());
            }
        }
        if shards.len() > 1 {
            let index = json!({"metadata": {"total_size": total}, "weight_map": claims});
            let name = format!("{}.safetensors.index.json", sharding.stem);
            folder.file(&name, format!("{index:#}\n").as_bytes())?;
        }
        Ok(folder)
    }

    /// Creates one weight file with its header.
    fn begin(
        &mut self,
        name: &str,
        at: usize,
        shard: &[(usize, u64)],
        tensors: &[(String, TensorInfo)],
    ) -> Result<()> {
        let path = self.beside.path(name);
        let mut described = Vec::with_capacity(shard.len());
        let mut end = 0;
        for (tensor, length) in shard {
            let (name, info) = &tensors[*tensor];
            described.push((name.as_str(), info, [end, end + length]));
            end += length;
        }
        let header = header(&described, &path)?;
        let file = File::create_new(&path).map_err(Error::io("create", &path))?;
        file.write_all_at(&header, 0)
            .and_then(|()| file.set_len(header.len() as u64 + end))
            .map_err(Error::io("write", &path))?;
        for ((_, length), (_, _, [start, _])) in shard.iter().zip(&described) {
            self.places.push(Place {
                file: at,
                start: header.len() as u64 + start,
                length: *length,
            });
        }
        self.files.push((path, file));
        Ok(())
    }

    /// Writes `bytes` into tensor `tensor`, counted in the order of [`StreamedFolder::create`],
    /// `offset` bytes behind its first.
    ///
    /// # Errors
    /// A disk that is full or fails.
    ///
    /// # Panics
    /// When the bytes would leave the tensor.
    pub fn write_at(&self, tensor: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        let place = self.places[tensor];
        assert!(
            offset + bytes.len() as u64 <= place.length,
            "a tensor is written inside its bounds"
        );
        let (path, file) = &self.files[place.file];
        file.write_all_at(bytes, place.start + offset)
            .map_err(Error::io("write", path))
    }

    /// Adds a small file; `name` may lead into subfolders, its parts joined by `/`.
    ///
    /// # Errors
    /// When a part of `name` is not a plain file name, `name` is taken, or the disk is full or
    /// fails.
    pub fn file(&self, name: &str, bytes: &[u8]) -> Result<()> {
        for part in name.split('/') {
            plain(part, || self.beside.path("").display().to_string())?;
        }
        self.beside.write(name, bytes)
    }

    /// Gives the folder its name.
    ///
    /// # Errors
    /// When it cannot be renamed; nothing is left behind then.
    pub fn finish(self) -> Result<()> {
        let Self { beside, files, .. } = self;
        drop(files);
        beside.into_place()
    }
}

/// The tensors of each file with their length in bytes.
fn shards(
    dir: &Path,
    tensors: &[(String, TensorInfo)],
    limit: u64,
) -> Result<Vec<Vec<(usize, u64)>>> {
    let mut shards = vec![Vec::new()];
    let mut held = 0u64;
    for (at, (name, info)) in tensors.iter().enumerate() {
        let length = info.bytes().ok_or_else(|| Error::Format {
            file: dir.display().to_string(),
            problem: format!("tensor `{}` has no size in bytes", one_line(name)),
        })?;
        if held > 0 && held.saturating_add(length) > limit {
            shards.push(Vec::new());
            held = 0;
        }
        held = held.saturating_add(length);
        shards
            .last_mut()
            .expect("there is always one")
            .push((at, length));
    }
    Ok(shards)
}

fn file_name(stem: &str, at: usize, of: usize) -> String {
    match of {
        1 => format!("{stem}.safetensors"),
        of => format!("{stem}-{:05}-of-{of:05}.safetensors", at + 1),
    }
}

/// Says before hours of work that the disk is too small.
fn check_room(dir: &Path, bytes: u64) -> Result<()> {
    let parent = match dir.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let Ok(found) = rustix::fs::statvfs(parent) else {
        return Ok(());
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    match free >= bytes.saturating_add(SPARE) {
        true => Ok(()),
        false => Err(Error::NoRoom {
            path: parent.to_owned(),
            needed: bytes.saturating_add(SPARE),
            free,
        }),
    }
}

/// Length and header of a new safetensors file that holds these tensors at these offsets.
pub(crate) fn header(described: &[(&str, &TensorInfo, [u64; 2])], path: &Path) -> Result<Vec<u8>> {
    // transformers refuses a file without this entry.
    let mut header = Map::from_iter([("__metadata__".to_owned(), json!({"format": "pt"}))]);
    for (name, info, offsets) in described {
        let described = json!({
            "dtype": dtype_name(name, info.dtype, path)?,
            "shape": info.shape,
            "data_offsets": offsets,
        });
        header.insert((*name).to_owned(), described);
    }
    let mut text = Value::Object(header).to_string();
    // Data begins at a multiple of eight.
    text.extend(std::iter::repeat_n(
        ' ',
        text.len().next_multiple_of(8) - text.len(),
    ));
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.into_bytes());
    Ok(bytes)
}

fn dtype_name(name: &str, dtype: Dtype, path: &Path) -> Result<Value> {
    serde_json::to_value(dtype).map_err(|problem| Error::Format {
        file: path.display().to_string(),
        problem: one_line(&format!("tensor `{name}`: {problem}")),
    })
}
