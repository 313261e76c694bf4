//! Checkpoints written by the reference implementation.

use serde_json::Value;

use super::fixtures;
use crate::{Checkpoint, Dtype};

#[test]
fn every_fixture_checkpoint_opens_and_is_finite() {
    let Some(dir) = fixtures() else { return };
    let mut opened = 0;
    let mut cases: Vec<_> = std::fs::read_dir(dir.join("models"))
        .expect("the fixtures hold models")
        .map(|entry| entry.expect("the folder is readable").path())
        .collect();
    cases.sort();
    for case in cases {
        let weights = ["model.safetensors", "model.safetensors.index.json"];
        if !weights.iter().any(|file| case.join(file).exists()) {
            continue;
        }
        let checkpoint = Checkpoint::open(&case).expect("written by the reference");
        for name in checkpoint.names() {
            let info = checkpoint.info(name).expect("was listed");
            if matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
                let count: usize = info.shape.iter().product();
                let values = checkpoint.f32(name, &info.shape).expect("finite");
                assert_eq!(values.len(), count, "{name}");
            }
        }
        let config: Value = checkpoint.json("config.json").expect("valid");
        assert!(config.is_object());
        opened += 1;
    }
    assert!(opened >= 17, "only {opened} checkpoints were found");
}

#[test]
fn shards_and_halves_have_the_known_contents() {
    let Some(dir) = fixtures() else { return };
    let blip = Checkpoint::open(&dir.join("models/blip2_opt")).expect("valid");
    let index: Value = blip.json("model.safetensors.index.json").expect("valid");
    let map = index["weight_map"].as_object().expect("an object");
    assert!(blip.names().eq({
        let mut names: Vec<_> = map.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }));
    let bytes: usize = blip
        .names()
        .map(|name| blip.raw(name).expect("was listed").bytes.len())
        .sum();
    assert_eq!(Some(bytes as u64), index["metadata"]["total_size"].as_u64());

    let bf16 = Checkpoint::open(&dir.join("models/llama3_bf16")).expect("valid");
    let name = "model.embed_tokens.weight";
    let info = bf16.info(name).expect("published name").clone();
    assert_eq!(info.dtype, Dtype::BF16);
    let values = bf16.f32(name, &info.shape).expect("finite");
    // A bf16 value has no more than 16 significant bits, and they are those of the file.
    let raw = bf16.raw(name).expect("is there").bytes;
    for (value, stored) in values.iter().zip(raw.as_chunks::<2>().0) {
        assert_eq!(
            value.to_bits(),
            u32::from(u16::from_le_bytes(*stored)) << 16
        );
    }
    let llama = Checkpoint::open(&dir.join("models/blip2_llama")).expect("valid");
    let error = llama
        .f32("query_tokens", &[1, 1, 1])
        .expect_err("another shape");
    assert!(
        error
            .to_string()
            .contains("tensor `query_tokens` has shape")
    );
}
