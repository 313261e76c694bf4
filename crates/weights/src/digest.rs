//! The identity of a checkpoint: equal digests mean equal numbers and equal tokens.

use sha2::{Digest, Sha256};

use crate::checkpoint::Checkpoint;
use crate::error::Result;

/// Files that decide what the tensors mean.
const DEFINING: [&str; 3] = ["config.json", "tokenizer.json", "preprocessor_config.json"];

/// Says how the files of the original MiniGPT-4 release make one model. Its absence leaves no
/// trace, so that the digests of all other folders stay as they were.
const ORIGINAL: &str = "minigpt4.json";

/// Hashes every tensor in name order, then the defining files.
///
/// How the tensors are spread over shards, their order and the header's metadata do not count.
/// Every text and every list is preceded by its length, so no two checkpoints share an input.
pub(crate) fn digest(checkpoint: &Checkpoint) -> Result<String> {
    let mut hash = Sha256::new();
    let count = checkpoint.names().count();
    hash.update(b"debias-checkpoint-1");
    hash.update((count as u64).to_le_bytes());
    for name in checkpoint.names() {
        let tensor = checkpoint.shared(name)?;
        text(&mut hash, name.as_bytes());
        text(&mut hash, tensor.dtype.to_string().as_bytes());
        hash.update((tensor.shape.len() as u64).to_le_bytes());
        for side in &tensor.shape {
            hash.update((*side as u64).to_le_bytes());
        }
        text(&mut hash, &tensor.bytes);
    }
    for file in DEFINING {
        text(&mut hash, file.as_bytes());
        match checkpoint.bytes_if_present(file)? {
            Some(bytes) => {
                hash.update([1]);
                text(&mut hash, &bytes);
            }
            None => hash.update([0]),
        }
    }
    if let Some(bytes) = checkpoint.bytes_if_present(ORIGINAL)? {
        text(&mut hash, ORIGINAL.as_bytes());
        text(&mut hash, &bytes);
    }
    Ok(hex::encode(hash.finalize()))
}

fn text(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}
