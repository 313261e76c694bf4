//! Adapters' folders, made for a test.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use debias_weights::{Tensor, write_folder};
use serde_json::Value;

/// Writes an adapter's folder.
pub fn adapter(dir: &Path, config: &Value, tensors: &BTreeMap<String, Tensor>) -> PathBuf {
    let config = serde_json::to_vec(config).expect("JSON");
    let files = [("adapter_config.json".to_owned(), config)];
    write_folder(dir, &files, tensors, false).expect("is writable");
    let weights = dir.join("adapter_model.safetensors");
    fs::rename(dir.join("model.safetensors"), weights).expect("was written");
    dir.to_owned()
}
