//! Trained parts: a single safetensors file with notes of its own in the header.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, View};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::write::{Tensor, replace, serialize, write_atomic};

/// Tensors by name, and notes by key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PartsFile {
    /// Tensors, kept in F32.
    pub tensors: BTreeMap<String, Tensor>,
    /// Texts in the file's header.
    pub notes: BTreeMap<String, String>,
}

impl PartsFile {
    /// Writes the file whole or not at all.
    ///
    /// # Errors
    /// A tensor whose shape and values disagree or that is not finite, or a folder that cannot be
    /// written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let notes: HashMap<String, String> = self.notes.clone().into_iter().collect();
        write_atomic(path, &serialize(path, &self.tensors, notes)?)
    }

    /// Reads what [`PartsFile::write`] wrote.
    ///
    /// # Errors
    /// A missing or malformed file, or a value that is NaN or infinite.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        let name = path.display().to_string();
        // The checked reader first: the header is then known to be sound.
        let file = Checkpoint::from_bytes(&name, bytes.clone())?;
        let format = |source: safetensors::SafeTensorError| Error::Format {
            file: name.clone(),
            problem: source.to_string(),
        };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(format)?;
        let notes = header.metadata().clone().unwrap_or_default();
        let mut tensors = BTreeMap::new();
        for tensor in file.names() {
            let shape = file.info(tensor).map(|info| info.shape.clone());
            let shape = shape.unwrap_or_default();
            let values = file.f32(tensor, &shape)?;
            tensors.insert(tensor.to_owned(), Tensor { shape, values });
        }
        Ok(Self {
            tensors,
            notes: notes.into_iter().collect(),
        })
    }
}

/// A tensor in F32 whose values are made when they are written.
pub struct LazyTensor<'a> {
    shape: Vec<usize>,
    values: Box<dyn Fn() -> Vec<f32> + 'a>,
}

impl<'a> LazyTensor<'a> {
    /// A tensor of `shape`, which `values` fill.
    pub fn new(shape: &[usize], values: impl Fn() -> Vec<f32> + 'a) -> Self {
        Self {
            shape: shape.to_vec(),
            values: Box::new(values),
        }
    }
}

impl View for &LazyTensor<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        (self.values)()
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect()
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * size_of::<f32>()
    }
}

/// Writes tensors with notes in the header to `path`, whole or not at all, one tensor at a time: what is
/// written is never in memory as a whole.
///
/// # Errors
/// A folder that cannot be written.
pub fn write_lazily(
    path: &Path,
    tensors: &BTreeMap<String, LazyTensor>,
    notes: BTreeMap<String, String>,
) -> Result<()> {
    let notes = notes.into_iter().collect();
    replace(path, |temporary| {
        safetensors::serialize_to_file(tensors, Some(notes), temporary).map_err(|problem| {
            Error::Format {
                file: path.display().to_string(),
                problem: problem.to_string(),
            }
        })
    })
}

/// The notes in the header of a file that [`write_lazily`] or [`PartsFile::write`] wrote.
///
/// # Errors
/// A missing file, or one that is no such file.
pub fn read_notes(path: &Path) -> Result<BTreeMap<String, String>> {
    let format = |problem: String| Error::Format {
        file: path.display().to_string(),
        problem,
    };
    let read = |source| Error::io("read", path)(source);
    let mut file = File::open(path).map_err(read)?;
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(read)?;
    let limit = file.metadata().map_err(read)?.len().min(LONGEST_HEADER);
    let length = u64::from_le_bytes(length);
    if length > limit {
        return Err(format("its header is longer than the file".to_owned()));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(read)?;
    let header: Header = serde_json::from_slice(&header).map_err(|e| format(e.to_string()))?;
    Ok(header.notes)
}

/// More than any header that is read here.
const LONGEST_HEADER: u64 = 100 << 20;

/// The notes among a header's entries.
#[derive(Deserialize)]
struct Header {
    #[serde(default, rename = "__metadata__")]
    notes: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_notes_come_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("parts.safetensors");
        let tensor = Tensor {
            shape: vec![1, 2],
            values: vec![0.5, -3.0],
        };
        let parts = PartsFile {
            tensors: BTreeMap::from([("a".to_owned(), tensor)]),
            notes: BTreeMap::from([("step".to_owned(), "{\"n\": 3}".to_owned())]),
        };
        parts.write(&path).expect("written");
        assert_eq!(PartsFile::read(&path).expect("read"), parts);
        fs::write(&path, b"nothing of the kind").expect("written");
        assert!(PartsFile::read(&path).is_err());
    }
}
