//! Trained parts: a single safetensors file with notes of its own in the header.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use safetensors::SafeTensors;

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::write::{Tensor, serialize, write_atomic};

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
