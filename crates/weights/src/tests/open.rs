//! Folders, embedded models, shards, JSON and digests.

use std::collections::BTreeSet;
use std::path::Path;

use safetensors::Dtype;
use serde::Deserialize;

use super::{file, folder, good};
use crate::{Checkpoint, Error, TensorInfo};

pub(super) const INDEX: &str = "model.safetensors.index.json";

/// The message with which the folder of `files` is refused.
pub(super) fn refused(files: &[(&str, &[u8])]) -> String {
    let dir = folder(files);
    let message = Checkpoint::open(dir.path())
        .expect_err("the folder breaks a rule")
        .to_string();
    message.replace(&dir.path().display().to_string(), "DIR")
}

/// A file of one F32 tensor.
pub(super) fn single(name: &str, value: f32) -> Vec<u8> {
    file(
        &format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#),
        &value.to_le_bytes(),
    )
}

fn leak(bytes: Vec<u8>) -> &'static [u8] {
    Vec::leak(bytes)
}

#[test]
fn a_folder_and_the_same_files_embedded_are_one_checkpoint() {
    let config = br#"{"model_type":"opt"}"#;
    let dir = folder(&[("model.safetensors", &good()), ("config.json", config)]);
    let disk = Checkpoint::open(dir.path()).expect("the folder is valid");
    let files = Vec::leak(vec![
        ("model.safetensors", leak(good())),
        ("config.json", config.as_slice()),
    ]);
    let embedded = Checkpoint::embedded("tiny", files).expect("the files are valid");
    assert_eq!(embedded.name(), "tiny");
    assert_eq!(embedded.location(), "embedded:tiny");
    assert_eq!(disk.location(), dir.path().display().to_string());
    assert_eq!(
        Some(disk.name()),
        dir.path().file_name().and_then(|n| n.to_str())
    );
    for checkpoint in [&disk, &embedded] {
        assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a", "b"]);
        let expected = TensorInfo {
            dtype: Dtype::BF16,
            shape: vec![1, 2],
        };
        assert_eq!(checkpoint.info("b"), Some(&expected));
        assert_eq!(checkpoint.info("c"), None);
        assert_eq!(checkpoint.f32("a", &[2]).expect("is there"), [1.0, -2.0]);
        assert_eq!(checkpoint.f32("b", &[1, 2]).expect("is there"), [0.5, 3.0]);
        let raw = checkpoint.raw("b").expect("is there");
        assert_eq!((raw.shape, raw.bytes.len()), (&[1, 2][..], 4));
        let used = BTreeSet::from(["a".to_owned()]);
        assert_eq!(checkpoint.unused(&used), ["b"]);
        assert_eq!(
            checkpoint.bytes("config.json").expect("is there").as_ref(),
            config
        );
    }
    assert_eq!(
        disk.digest().expect("readable"),
        embedded.digest().expect("readable")
    );
}

#[test]
fn a_single_file_opens_by_its_path() {
    let dir = folder(&[("golden.safetensors", &good()), ("case.json", b"[1]")]);
    let golden = Checkpoint::open_file(&dir.path().join("golden.safetensors")).expect("valid");
    assert_eq!(golden.name(), "golden.safetensors");
    assert_eq!(golden.f32("a", &[2]).expect("is there"), [1.0, -2.0]);
    assert_eq!(golden.json::<Vec<u32>>("case.json").expect("valid"), [1]);
    let missing = Checkpoint::open_file(&dir.path().join("x.safetensors"));
    assert!(matches!(missing, Err(Error::Missing { .. })));
}

#[test]
fn tensors_are_refused_by_name() {
    let dir = folder(&[("model.safetensors", &good())]);
    let checkpoint = Checkpoint::open(dir.path()).expect("valid");
    let at = dir.path().display();
    let message = |name: &str, shape: &[usize]| {
        checkpoint
            .f32(name, shape)
            .expect_err("cannot be read so")
            .to_string()
    };
    assert_eq!(
        message("a", &[3, 1]),
        format!(
            "{at}/model.safetensors: tensor `a` has shape [2], expected [3, 1]; weights and config.json do not belong together"
        )
    );
    assert!(message("nope", &[1]).contains("tensor `nope` is missing"));
    let dir = folder(&[(
        "model.safetensors",
        &file(
            r#"{"ids":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#,
            &[0; 8],
        ),
    )]);
    let checkpoint = Checkpoint::open(dir.path()).expect("valid");
    let error = checkpoint.f32("ids", &[1]).expect_err("no float");
    assert!(error.to_string().contains("tensor `ids` has dtype I64"));
}

#[test]
fn nan_and_infinity_are_refused_unless_allowed() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut bytes = good();
        let at = bytes.len() - 8;
        bytes[at..at + 4].copy_from_slice(&bad.to_le_bytes());
        let dir = folder(&[("model.safetensors", &bytes)]);
        let checkpoint = Checkpoint::open(dir.path()).expect("valid");
        let error = checkpoint.f32("a", &[2]).expect_err("not finite");
        let Error::NotFinite { name, index, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!((name.as_str(), *index), ("a", 1));
        assert!(checkpoint.f32("b", &[1, 2]).is_ok());
        let values = checkpoint.allow_nan(true).f32("a", &[2]).expect("allowed");
        assert!(!values[1].is_finite());
    }
}

#[test]
fn shards_are_read_as_one() {
    let (a, b) = (single("a", 1.0), single("b", 2.0));
    let index =
        br#"{"metadata":{"total_size":8},"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#;
    let dir = folder(&[(INDEX, index), ("1.safetensors", &a), ("2.safetensors", &b)]);
    let sharded = Checkpoint::open(dir.path()).expect("valid");
    assert_eq!(sharded.f32("b", &[1]).expect("is there"), [2.0]);
    let whole = file(
        r#"{"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
        &[2.0f32.to_le_bytes(), 1.0f32.to_le_bytes()].concat(),
    );
    let dir = folder(&[("model.safetensors", &whole)]);
    let one = Checkpoint::open(dir.path()).expect("valid");
    assert_eq!(
        sharded.digest().expect("readable"),
        one.digest().expect("readable")
    );
}

#[test]
fn broken_indices_are_refused() {
    let a = single("a", 1.0);
    let claim = |map: &str| format!(r#"{{"weight_map":{map}}}"#).into_bytes();
    for (map, said) in [
        (
            r#"{"a":"../1.safetensors"}"#,
            "`../1.safetensors` is not a plain file name",
        ),
        (
            r#"{"a":"/etc/passwd"}"#,
            "`/etc/passwd` is not a plain file name",
        ),
        (r#"{"a":"x/1.safetensors"}"#, "not a plain file name"),
        (r#"{"a":"x\\1.safetensors"}"#, "not a plain file name"),
        (r#"{"a":".."}"#, "not a plain file name"),
        (r#"{"a":""}"#, "not a plain file name"),
        (r#"{"a":"1.safetensors/"}"#, "not a plain file name"),
        (r#"{"a":"9.safetensors"}"#, "DIR: 9.safetensors is missing"),
        (
            r#"{"b":"1.safetensors"}"#,
            "DIR/1.safetensors: tensor `b` is missing; the index claims it",
        ),
        (
            r#"{"a":"1.safetensors","a":"2.safetensors"}"#,
            "tensor `a` is stored twice (1.safetensors and 2.safetensors)",
        ),
        ("{}", "field `weight_map`: names no tensor"),
        ("[]", "field `weight_map`: invalid type"),
        (r#"{"a":1}"#, "field `weight_map"),
    ] {
        let message = refused(&[(INDEX, &claim(map)), ("1.safetensors", &a)]);
        assert!(message.contains(said), "{map}: {message}");
    }
    let both = claim(r#"{"a":"1.safetensors","b":"2.safetensors"}"#);
    let double = file(
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
        &[0; 8],
    );
    let dir = folder(&[
        (INDEX, &both),
        ("1.safetensors", &a),
        ("2.safetensors", &double),
    ]);
    let settled = Checkpoint::open(dir.path()).expect("the index says which");
    assert_eq!(settled.f32("a", &[1]).expect("is there"), [1.0]);
    assert_eq!(settled.f32("b", &[1]).expect("is there"), [0.0]);
    assert_eq!(settled.notes(), [] as [String; 0]);
    let cut = &a[..a.len() - 1];
    let message = refused(&[
        (INDEX, &claim(r#"{"a":"1.safetensors"}"#)),
        ("1.safetensors", cut),
    ]);
    assert!(
        message.contains("DIR/1.safetensors: truncated"),
        "{message}"
    );
}

#[test]
fn missing_folders_and_weights_are_named() {
    let dir = folder(&[("config.json", b"{}")]);
    let message = refused(&[("config.json", b"{}")]);
    assert!(
        message.starts_with("DIR: model.safetensors (or model.safetensors.index.json"),
        "{message}"
    );
    let gone = dir.path().join("gone");
    let error = Checkpoint::open(&gone).expect_err("not there").to_string();
    assert_eq!(
        error,
        format!(
            "{}: the folder is missing; give the path of a Hugging Face folder",
            gone.display()
        )
    );
    let error = Checkpoint::open(&dir.path().join("config.json")).expect_err("a file");
    assert!(error.to_string().contains("is not a folder"));
    std::fs::create_dir(dir.path().join("model.safetensors")).expect("writable");
    let error = Checkpoint::open(dir.path()).expect_err("a folder as weights");
    assert!(error.to_string().contains("is not a regular file"));
}

#[test]
fn json_errors_name_file_field_and_mend() {
    #[derive(Debug, Deserialize)]
    struct Text {
        #[serde(rename = "hidden_size")]
        _hidden: u32,
    }
    #[derive(Debug, Deserialize)]
    struct Config {
        #[serde(rename = "text_config")]
        _text: Text,
    }
    for (content, said) in [
        (
            "{}",
            "DIR/config.json: field `text_config`: is required and missing; add it",
        ),
        (
            r#"{"text_config":{}}"#,
            "field `text_config.hidden_size`: is required and missing",
        ),
        (
            r#"{"text_config":{"hidden_size":"x"}}"#,
            "field `text_config.hidden_size`: invalid type: string \"x\", expected u32",
        ),
        (
            r#"{"text_config":{"hidden_size":-1}}"#,
            "field `text_config.hidden_size`: invalid value: integer `-1`",
        ),
        ("[1]", "invalid type"),
        (r#"{"text_config":"#, "config.json: the file ends too early"),
        ("{,}", "config.json: not valid JSON"),
        (
            r#"{"text_config":{"hidden_size":1}} x"#,
            "config.json: not valid JSON: trailing characters",
        ),
        ("", "ends too early"),
    ] {
        let dir = folder(&[
            ("model.safetensors", &good()),
            ("config.json", content.as_bytes()),
        ]);
        let checkpoint = Checkpoint::open(dir.path()).expect("valid");
        let message = checkpoint
            .json::<Config>("config.json")
            .expect_err("breaks a rule")
            .to_string()
            .replace(&dir.path().display().to_string(), "DIR");
        assert!(message.contains(said), "{content}: {message}");
        assert!(!message.contains('\n'));
    }
    let deep = "[".repeat(100_000);
    let dir = folder(&[
        ("model.safetensors", &good()),
        ("deep.json", deep.as_bytes()),
    ]);
    let checkpoint = Checkpoint::open(dir.path()).expect("valid");
    let error = checkpoint.json::<serde_json::Value>("deep.json");
    assert!(
        error
            .expect_err("too deep")
            .to_string()
            .contains("recursion")
    );
    let error = checkpoint
        .json::<Config>("config.json")
        .expect_err("absent");
    assert!(error.to_string().contains("config.json is missing"));
    let absent = checkpoint.json_if_present::<Config>("config.json");
    assert!(absent.expect("absence is no error").is_none());
    for name in ["../config.json", "", ".", "a/b"] {
        let error = checkpoint.bytes(name).expect_err("leaves the folder");
        assert!(matches!(error, Error::FileName { .. }), "{error}");
    }
}

#[test]
fn huge_json_files_are_refused_unread() {
    let dir = folder(&[("model.safetensors", &good())]);
    let sparse = std::fs::File::create(dir.path().join("tokenizer.json")).expect("writable");
    sparse.set_len((64 << 20) + 1).expect("sparse files work");
    let checkpoint = Checkpoint::open(dir.path()).expect("valid");
    let error = checkpoint.bytes("tokenizer.json").expect_err("too large");
    assert!(
        error.to_string().contains("the limit is 67108864"),
        "{error}"
    );
    assert!(checkpoint.digest().is_err());
}

#[test]
fn the_digest_is_frozen_and_sees_every_part() {
    let digest = |weights: &[u8], config: Option<&[u8]>| {
        let mut files = vec![
            ("model.safetensors", weights),
            ("README.md", b"x".as_slice()),
        ];
        files.extend(config.map(|bytes| ("config.json", bytes)));
        let dir = folder(&files);
        Checkpoint::open(dir.path())
            .and_then(|checkpoint| checkpoint.digest())
            .expect("valid")
    };
    let base = digest(&good(), Some(b"{}"));
    assert_eq!(
        base,
        "65e679c8b6ff267b0c4b743c836bb8be139a368a3e18ab7657e68b6c436c4524"
    );
    let mut other = good();
    *other.last_mut().expect("not empty") ^= 1;
    let changed = [
        digest(&other, Some(b"{}")),
        digest(&good(), Some(b"{ }")),
        digest(&good(), Some(b"")),
        digest(&good(), None),
        digest(&single("a", 1.0), Some(b"{}")),
        digest(&single("c", 1.0), Some(b"{}")),
    ];
    let distinct: BTreeSet<_> = changed.iter().chain([&base]).collect();
    assert_eq!(distinct.len(), changed.len() + 1);
}

#[test]
fn a_checkpoint_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Checkpoint>();
    assert!(Checkpoint::open(Path::new("")).is_err());
}
