//! Inputs that are not what they should be: one clear line, the right status, nothing written.

mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::{edit_json, folder, model_copy, run_in, status, stderr, stdout};

/// What a run on a damaged model says; it must write nothing.
fn refused_model(damage: impl Fn(&Path)) -> String {
    let dir = folder();
    let model = model_copy("tiny-blip2", dir.path());
    damage(&model);
    let work = folder();
    let path = model.to_str().expect("UTF-8");
    refused(work.path(), &["--model", path]).replace(path, "MODEL")
}

/// The one error line of a run that must be refused with status 4.
fn refused(dir: &Path, more: &[&str]) -> String {
    let args = [&["run", "--suite", "debias-edit", "--limit", "4"], more].concat();
    let output = run_in(dir, &args);
    let text = stderr(&output);
    assert_eq!(status(&output), 4, "{text}");
    assert_eq!(stdout(&output), "");
    assert!(!dir.join("results").exists(), "something was written");
    let errors: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 1, "{text}");
    text
}

#[test]
fn missing_and_truncated_weights_are_named() {
    let missing = refused_model(|model| {
        fs::remove_file(model.join("model.safetensors")).expect("there");
    });
    assert!(
        missing.contains("MODEL") && missing.contains("model.safetensors"),
        "{missing}"
    );
    let truncated = refused_model(|model| {
        let path = model.join("model.safetensors");
        let bytes = fs::read(&path).expect("readable");
        fs::write(&path, &bytes[..bytes.len() / 2]).expect("writable");
    });
    assert!(truncated.contains("truncated"), "{truncated}");
    let nowhere = folder();
    let text = refused(nowhere.path(), &["--model", "no/such/folder"]);
    assert!(text.contains("no/such/folder"), "{text}");
}

#[test]
fn a_tensor_of_the_wrong_shape_is_named() {
    let text = refused_model(|model| {
        edit_json(&model.join("config.json"), |config| {
            config["text_config"]["ffn_dim"] = 100.into();
        });
    });
    assert!(
        text.contains("fc1.weight") && text.contains("has shape"),
        "{text}"
    );
}

/// What is said of a model whose `config.json` lacks `field` of `part`.
fn without(part: &str, field: &str) -> String {
    refused_model(|model| {
        edit_json(&model.join("config.json"), |config| {
            config[part].as_object_mut().map(|part| part.remove(field));
        });
    })
}

#[test]
fn a_config_without_a_field_names_it() {
    for (part, field) in [
        ("text_config", "model_type"),
        ("text_config", "num_attention_heads"),
        ("vision_config", "patch_size"),
    ] {
        let text = without(part, field);
        assert!(text.contains(&format!("`{part}.{field}`")), "{text}");
    }
}

#[test]
fn a_field_that_is_left_out_has_the_published_default() {
    // Published files leave out what equals the default, so the weights are what disagrees.
    let text = without("text_config", "hidden_size");
    assert!(
        text.contains("project_in.weight") && text.contains("config.json"),
        "{text}"
    );
    for (part, field, tensor, default) in [
        ("text_config", "vocab_size", "embed_tokens.weight", "50272"),
        ("text_config", "ffn_dim", "fc1.weight", "3072"),
        ("vision_config", "hidden_size", "patch_embedding", "1408"),
        ("qformer_config", "hidden_size", "query_tokens", "768"),
    ] {
        let text = without(part, field);
        let named = [tensor, default, "has shape", "config.json"];
        assert!(named.iter().all(|part| text.contains(part)), "{text}");
    }
}

/// The town as a folder.
fn built(dir: &Path) -> std::path::PathBuf {
    let output = run_in(dir, &["data", "build", "toytown", "--out", "town"]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    dir.join("town")
}

#[test]
fn damaged_datasets_are_refused() {
    let dir = folder();
    let town = built(dir.path());
    let given = format!("toytown={}", town.display());
    let run = || {
        let work = folder();
        refused(work.path(), &["--task", "vqa", "--data", &given])
    };
    let check = |expected: i32| {
        let output = run_in(dir.path(), &["data", "check", "town"]);
        assert_eq!(
            status(&output),
            expected,
            "{}{}",
            stdout(&output),
            stderr(&output)
        );
        stdout(&output)
    };
    check(0);

    let requests = town.join("vqa_eval.json");
    let text = fs::read_to_string(&requests).expect("readable");
    let records: Value = serde_json::from_str(&text).expect("JSON");
    let picture = town
        .join("images")
        .join(records[0]["image"].as_str().expect("a key"));
    let bytes = fs::read(&picture).expect("readable");

    fs::write(&picture, &bytes[..bytes.len() / 2]).expect("writable");
    assert!(run().contains("cannot be decoded"));
    assert!(check(4).contains("cannot be decoded"));

    fs::write(&picture, bomb()).expect("writable");
    assert!(run().contains("40000x40000"));

    fs::remove_file(&picture).expect("there");
    let name = picture
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a name");
    assert!(run().contains(name));
    fs::write(&picture, &bytes).expect("writable");

    edit_json(&requests, |records| {
        for name in ["y_less", "alt"] {
            records[0][name] = records[0]["y_more"].clone();
        }
    });
    let id = records[0]["id"].as_str().expect("an id");
    let text = run();
    assert!(
        text.contains(id) && text.contains("equals y_more"),
        "{text}"
    );
}

/// A PNG whose header claims 40000 x 40000 pixels.
fn bomb() -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    bytes.extend(13_u32.to_be_bytes());
    let mut header = b"IHDR".to_vec();
    header.extend(40_000_u32.to_be_bytes());
    header.extend(40_000_u32.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    bytes.extend(&header);
    bytes.extend(crc32(&header).to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(b"IDAT");
    bytes.extend(crc32(b"IDAT").to_be_bytes());
    bytes
}

/// The checksum of PNG chunks (ISO 3309), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn an_unwritable_output_folder_is_refused_before_work() {
    let dir = folder();
    fs::write(dir.path().join("file"), "x").expect("writable");
    let text = refused(dir.path(), &["--out", "file"]);
    assert!(text.contains("cannot write results below file"), "{text}");
    assert!(
        text.contains("help: Name a writable folder with --out."),
        "{text}"
    );
}
