//! The identity of a checkpoint: equal digests mean equal numbers and equal tokens.

use sha2::{Digest, Sha256};

use crate::checkpoint::Checkpoint;
use crate::error::Result;

/// Files that decide what the tensors mean.
const DEFINING: [&str; 3] = ["config.json", "tokenizer.json", "preprocessor_config.json"];

/// More of them, whose absence leaves no trace, so that the digests of folders without them stay as
/// they were: what a picture becomes, how a tokenizer is read, what is put around a prompt, where a
/// text ends.
const MORE: [&str; 6] = [
    "processor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
];

/// Says how the files of the original MiniGPT-4 release make one model. Its absence leaves no trace
/// either.
const ORIGINAL: &str = "minigpt4.json";

/// Where that release keeps its decoder.
const ORIGINAL_DECODER: &str = "llm";

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
    defining(&mut hash, checkpoint)?;
    if let Some(bytes) = checkpoint.bytes_if_present(ORIGINAL)? {
        text(&mut hash, ORIGINAL.as_bytes());
        text(&mut hash, &bytes);
        if let Some(decoder) = checkpoint.subfolder(ORIGINAL_DECODER)? {
            defining(&mut hash, &decoder)?;
        }
    }
    Ok(hex::encode(hash.finalize()))
}

/// The files of one folder that decide what tensors mean.
fn defining(hash: &mut Sha256, checkpoint: &Checkpoint) -> Result<()> {
    for file in DEFINING {
        text(hash, file.as_bytes());
        match checkpoint.bytes_if_present(file)? {
            Some(bytes) => {
                hash.update([1]);
                text(hash, &bytes);
            }
            None => hash.update([0]),
        }
    }
    for file in MORE {
        if let Some(bytes) = checkpoint.bytes_if_present(file)? {
            text(hash, file.as_bytes());
            text(hash, &bytes);
        }
    }
    Ok(())
}

fn text(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}
