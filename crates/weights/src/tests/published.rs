//! What people's real folders hold beside, or in the place of, what they should.

use super::open::{INDEX, refused, single};
use super::{file, folder, good};
use crate::Checkpoint;

#[test]
fn an_index_goes_before_a_single_file_and_says_which_tensors_there_are() {
    let index = |shard: &str| format!(r#"{{"weight_map":{{"a":"{shard}"}}}}"#).into_bytes();
    let more = file(
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"old.b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},"old.c":{"dtype":"F32","shape":[0],"data_offsets":[8,8]}}"#,
        &[1.0f32.to_le_bytes(), 5.0f32.to_le_bytes()].concat(),
    );
    for (single_file, index_file, shard) in [
        (
            "model.safetensors",
            INDEX,
            "model-00001-of-00001.safetensors",
        ),
        (
            "pytorch_model.bin",
            "pytorch_model.bin.index.json",
            "pytorch_model-00001-of-00001.bin",
        ),
    ] {
        let (index, stray) = (index(shard), single("a", 9.0));
        let dir = folder(&[(index_file, &index), (shard, &more), (single_file, &stray)]);
        let checkpoint = Checkpoint::open(dir.path()).expect("valid");
        assert_eq!(checkpoint.f32("a", &[1]).expect("is there"), [1.0]);
        assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a"]);
        let [chosen, left] = checkpoint.notes() else {
            panic!("two notes: {:?}", checkpoint.notes());
        };
        assert!(
            chosen.ends_with(&format!("{single_file} is not")),
            "{chosen}"
        );
        assert!(left.contains("`old.b` and 1 more left out"), "{left}");

        // All shards gone: the index is what is left of another checkpoint.
        let dir = folder(&[(index_file, &index), (single_file, &stray)]);
        let checkpoint = Checkpoint::open(dir.path()).expect("valid");
        assert_eq!(checkpoint.f32("a", &[1]).expect("is there"), [9.0]);
        let [note] = checkpoint.notes() else {
            panic!("one note: {:?}", checkpoint.notes());
        };
        assert!(note.ends_with(&format!("{single_file} is read")), "{note}");
    }
    // One that is there beside one that is not is an unfinished download.
    let two = br#"{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#;
    let (a, stray) = (single("a", 1.0), single("a", 9.0));
    let message = refused(&[
        (INDEX, two),
        ("1.safetensors", &a),
        ("model.safetensors", &stray),
    ]);
    assert!(
        message.starts_with("DIR: 2.safetensors is missing"),
        "{message}"
    );
    // A file that its own index names is not stray.
    let dir = folder(&[
        (INDEX, &index("model.safetensors")),
        ("model.safetensors", &stray),
    ]);
    let checkpoint = Checkpoint::open(dir.path()).expect("valid");
    assert_eq!(checkpoint.notes(), [] as [String; 0]);
}

#[test]
fn what_is_no_weight_file_is_called_what_it_is() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
    let page = b"<!DOCTYPE html>\n<html><title>404</title></html>";
    for name in ["model.safetensors", "pytorch_model.bin", INDEX] {
        let message = refused(&[(name, pointer)]);
        assert!(
            message.starts_with(&format!("DIR/{name}: is a Git LFS pointer")),
            "{message}"
        );
        let message = refused(&[(name, page)]);
        assert!(
            message.starts_with(&format!("DIR/{name}: is an HTML page")),
            "{message}"
        );
    }
    let good = good();
    let dir = folder(&[("model.safetensors", &good), ("config.json", page)]);
    let checkpoint = Checkpoint::open(dir.path()).expect("valid weights");
    let error = checkpoint.json::<serde_json::Value>("config.json");
    assert!(
        error
            .expect_err("a page")
            .to_string()
            .contains("is an HTML page")
    );
}

#[test]
fn quantised_weights_are_named_by_their_method() {
    let of = |name: &str, dtype: &str, bytes: usize| {
        file(
            &format!(
                r#"{{"a.weight":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}},"{name}":{{"dtype":"{dtype}","shape":[1],"data_offsets":[4,{}]}}}}"#,
                4 + bytes
            ),
            &vec![0; 4 + bytes],
        )
    };
    let refusal = |weights: &[u8], config: &str| {
        let dir = folder(&[
            ("model.safetensors", weights),
            ("config.json", config.as_bytes()),
        ]);
        let checkpoint = Checkpoint::open(dir.path()).expect("valid");
        match checkpoint.refuse_quantised() {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    };
    let said = |method: &str| format!(r#"{{"quantization_config":{{"quant_method":"{method}"}}}}"#);
    for (name, dtype, bytes, config, expected) in [
        (
            "x.qweight",
            "I32",
            4,
            said("awq"),
            "config.json says awq; `x.qweight`",
        ),
        (
            "x.qweight",
            "I32",
            4,
            "{}".into(),
            "GPTQ or AWQ, as `x.qweight` shows",
        ),
        ("x.g_idx", "I32", 4, said("gptq"), "config.json says gptq"),
        (
            "x.weight.absmax",
            "F32",
            4,
            said("bitsandbytes"),
            "config.json says bitsandbytes",
        ),
        (
            "x.SCB",
            "F32",
            4,
            "{}".into(),
            "bitsandbytes, as `x.SCB` shows",
        ),
        (
            "x.weight_scale_inv",
            "F32",
            4,
            said("fp8"),
            "config.json says fp8",
        ),
        (
            "x.weight",
            "F8_E4M3",
            1,
            "{}".into(),
            "FP8, as `x.weight` shows",
        ),
        (
            "x.weight",
            "I8",
            1,
            "{}".into(),
            "INT8, as `x.weight` shows",
        ),
    ] {
        let message = refusal(&of(name, dtype, bytes), &config);
        assert!(message.contains(expected), "{name}: {message}");
        assert!(!message.contains('\n'));
    }
    // What a configuration says of weights that are plain is a leftover.
    assert_eq!(
        refusal(&of("x.weight", "F32", 4), &said("bitsandbytes")),
        ""
    );
    assert_eq!(refusal(&of("x.attn.bias", "U8", 1), "{}"), "");
}

#[test]
fn values_of_64_bits_are_read_as_32() {
    let stored = |values: [f64; 2]| {
        let data: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let header = r#"{"a":{"dtype":"F64","shape":[2],"data_offsets":[0,16]}}"#;
        Checkpoint::from_bytes("x", file(header, &data)).expect("valid")
    };
    let read = stored([0.1, -2.0]).f32("a", &[2]);
    assert_eq!(read.expect("floats"), [0.1f32, -2.0]);
    for odd in [f64::NAN, f64::INFINITY, 1e300] {
        let error = stored([0.0, odd]).f32("a", &[2]).expect_err("not finite");
        assert!(error.to_string().contains("at flat index 1"), "{error}");
    }
}
