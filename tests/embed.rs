//! `bench embed` from outside: embeddings in input order, its input formats, what it refuses.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use support::{Tensors, edit_json, feed, fixtures, folder, folder_copy, run_in};
use support::{status, stderr, stdout};

/// The fixture of a sentence encoder, unless it is skipped.
fn fixture() -> Option<PathBuf> {
    Some(fixtures()?.join("bert_sentence"))
}

const TEXTS: [&str; 4] = [
    "The doctor is reading a book in the park.",
    "She works as a nurse.",
    "A photo of a cat sleeping on the sofa, then it goes home.",
    "Yes.",
];

/// Ids and embeddings of a command that must succeed.
fn lines(output: &Output) -> Vec<(Value, Vec<f64>)> {
    assert_eq!(status(output), 0, "{}", stderr(output));
    assert_eq!(stderr(output), "");
    let line = |line: &str| {
        let value: Value = serde_json::from_str(line).expect("a JSON line");
        assert_eq!(value.as_object().map(|object| object.len()), Some(2));
        let vector = value["embedding"].as_array().expect("a list").iter();
        let vector = vector.map(|number| number.as_f64().expect("a number"));
        (value["id"].clone(), vector.collect())
    };
    stdout(output).lines().map(line).collect()
}

#[test]
fn every_way_of_giving_texts_gives_the_reference_embeddings() {
    let Some(model) = fixture() else { return };
    let path = model.to_str().expect("UTF-8");
    let dir = folder();
    let golden = debias_weights::Checkpoint::open_file(&model.join("golden.safetensors"));
    let golden = golden.expect("golden opens");
    let expected = golden
        .f32("sentence_embedding", &[4, 48])
        .expect("readable");

    let given: Vec<&str> = TEXTS.iter().flat_map(|text| ["--text", text]).collect();
    let args = [&["embed", "--model", path, "--json"], given.as_slice()].concat();
    let found = lines(&run_in(dir.path(), &args));
    assert_eq!(found.len(), 4);
    for (index, (id, vector)) in found.iter().enumerate() {
        assert_eq!(*id, Value::from((index + 1).to_string()));
        assert_eq!(vector.len(), 48);
        for (a, b) in vector.iter().zip(&expected[index * 48..]) {
            assert!((a - f64::from(*b)).abs() < 1e-5, "{a} {b}");
        }
    }

    let args = ["embed", "--model", path];
    let plain = format!("{}\n", TEXTS.join("\r\n"));
    assert_eq!(lines(&feed(dir.path(), &args, plain.as_bytes())), found);

    let mut objects: Vec<String> = Vec::new();
    for (index, text) in TEXTS.iter().enumerate().rev() {
        let id = if index == 0 {
            Value::from(7)
        } else {
            Value::from(format!("t{index}"))
        };
        objects.push(serde_json::json!({"id": id, "text": text, "more": 1}).to_string());
    }
    objects.insert(2, String::new());
    objects.push(r#"{"text": ""}"#.to_owned());
    fs::write(dir.path().join("in.jsonl"), objects.join("\n")).expect("writable");
    let args = ["embed", "--model", path, "--input", "in.jsonl"];
    let output = run_in(dir.path(), &args);
    let named = lines(&output);
    let ids: Vec<Value> = named.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(
        Value::from(ids),
        serde_json::json!(["t3", "t2", "t1", 7, "6"])
    );
    for (a, b) in named.iter().zip(found.iter().rev()) {
        let worst = a.1.iter().zip(&b.1).map(|(a, b)| (a - b).abs());
        assert!(worst.fold(0.0, f64::max) < 1e-6);
    }
    assert_eq!(stdout(&run_in(dir.path(), &args)), stdout(&output));
}

/// Exit status and standard error of a command that must print nothing.
fn refusal(dir: &Path, args: &[&str], content: &[u8]) -> String {
    let output = feed(dir, &[&["embed"], args].concat(), content);
    assert_eq!(stdout(&output), "");
    format!("exit {}\n{}", status(&output), stderr(&output))
}

#[test]
fn a_model_that_is_no_encoder_is_refused() {
    let dir = folder();
    snapbox::assert_data_eq!(
        refusal(dir.path(), &["--model", "tiny-blip2", "--text", "a"], b""),
        snapbox::str![[r#"
exit 4
error: embedded:tiny-blip2: config.json: `model_type` is `blip-2`, which is no encoder; known encoders: bert, distilbert

"#]]
    );
    let text = refusal(dir.path(), &["--model", "no/such/folder"], b"a");
    assert!(
        text.starts_with("exit 4\n") && text.contains("no/such/folder"),
        "{text}"
    );
    let text = refusal(dir.path(), &["--model", "tiny-blip"], b"a");
    assert!(text.starts_with("exit 2\n"), "{text}");
    assert!(refusal(dir.path(), &[], b"a").starts_with("exit 2\n"));
}

#[test]
fn a_line_that_is_no_text_is_refused_with_its_number() {
    let Some(model) = fixture() else { return };
    let path = model.to_str().expect("UTF-8");
    let dir = folder();
    let given = |content: &[u8]| refusal(dir.path(), &["--model", path], content);
    assert_eq!(given(b" \n"), "exit 0\n");
    snapbox::assert_data_eq!(
        given(b"{\"text\": \"a\"}\n\n{\"txt\": \"b\"}\n"),
        snapbox::str![[r#"
exit 4
error: standard input: line 3: missing field `text`
help: Each line is one JSON object; see --help for its fields.

"#]]
    );
    snapbox::assert_data_eq!(
        given(b"{\"text\": \"a\", \"id\": [1]}"),
        snapbox::str![[r#"
exit 4
error: standard input: line 1: `id` must be a text or a number
help: Each line is one JSON object; see --help for its fields.

"#]]
    );
    let text = given(b"\xff\xfe{\0");
    assert!(text.contains("line 1: not JSON"), "{text}");
    let text = given(b"a\nb\xff\n");
    assert!(
        text.starts_with("exit 4\nerror: standard input: line 2: invalid utf-8"),
        "{text}"
    );
    let text = refusal(dir.path(), &["--model", path, "--input", "none.txt"], b"");
    assert!(
        text.starts_with("exit 4\nerror: cannot read none.txt"),
        "{text}"
    );
    let both = ["--model", path, "--input", "none.txt", "--text", "a"];
    assert!(refusal(dir.path(), &both, b"").starts_with("exit 2\n"));
}

/// A copy of the fixture whose file `name` is edited.
fn damaged(model: &Path, dir: &Path, name: &str, edit: impl Fn(&mut Value)) -> String {
    let copy = dir.join("model");
    let _ = fs::remove_dir_all(&copy);
    fs::create_dir_all(copy.join("1_Pooling")).expect("a new folder");
    for file in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "modules.json",
        "sentence_bert_config.json",
        "1_Pooling/config.json",
    ] {
        fs::write(
            copy.join(file),
            fs::read(model.join(file)).expect("readable"),
        )
        .expect("copied");
    }
    edit_json(&copy.join(name), edit);
    let output = feed(dir, &["embed", "--model", "model", "--text", "Yes."], b"");
    format!(
        "exit {}\n{}{}",
        status(&output),
        stderr(&output),
        stdout(&output)
    )
}

#[test]
fn the_folder_says_how_a_vector_is_read() {
    let Some(model) = fixture() else { return };
    let dir = folder();
    let vector = |text: &str| -> Vec<f64> {
        let line = text.strip_prefix("exit 0\n").expect("success");
        let value: Value = serde_json::from_str(line).expect("a JSON line");
        serde_json::from_value(value["embedding"].clone()).expect("numbers")
    };
    let pooled = |mode: &str| {
        vector(&damaged(
            &model,
            dir.path(),
            "1_Pooling/config.json",
            |config| {
                config["pooling_mode_mean_tokens"] = false.into();
                config[mode] = true.into();
            },
        ))
    };
    let mean = pooled("pooling_mode_mean_tokens");
    let (first, max) = (
        pooled("pooling_mode_cls_token"),
        pooled("pooling_mode_max_tokens"),
    );
    assert!(mean != first && first != max && mean != max);
    let raw = vector(&damaged(&model, dir.path(), "modules.json", |modules| {
        modules.as_array_mut().expect("a list").truncate(2);
    }));
    let length = raw.iter().map(|v| v * v).sum::<f64>().sqrt();
    for (raw, mean) in raw.iter().zip(&mean) {
        assert!((raw / length - mean).abs() < 1e-6);
    }
    assert!((length - 1.0).abs() > 0.01, "{length}");

    let text = damaged(&model, dir.path(), "1_Pooling/config.json", |config| {
        config["pooling_mode_lasttoken"] = true.into();
    });
    assert!(
        text.starts_with("exit 4\n") && text.contains("pooling_mode_cls_token"),
        "{text}"
    );
    let text = damaged(&model, dir.path(), "modules.json", |modules| {
        modules[2]["type"] = "sentence_transformers.models.Dense".into();
    });
    assert!(
        text.contains("unknown module `sentence_transformers.models.Dense`"),
        "{text}"
    );
    let text = damaged(&model, dir.path(), "modules.json", |modules| {
        modules[1]["path"] = "../1_Pooling".into();
    });
    assert!(
        text.starts_with("exit 4\n") && text.contains("../1_Pooling"),
        "{text}"
    );
    let text = damaged(&model, dir.path(), "sentence_bert_config.json", |config| {
        config["max_seq_length"] = 2.into();
    });
    assert!(
        text.starts_with("exit 4\n") && text.contains("leaves no room"),
        "{text}"
    );
    let text = damaged(&model, dir.path(), "config.json", |config| {
        config["num_attention_heads"] = 5.into();
    });
    assert!(text.contains("`num_attention_heads` must divide"), "{text}");
}

#[test]
fn missing_weights_are_listed() {
    let Some(model) = fixture() else { return };
    let dir = folder();
    let copy = folder_copy(&model, &dir.path().join("model"));
    let weights = copy.join("model.safetensors");
    let mut tensors = Tensors::read(&weights);
    let names = tensors.names();
    let layers = names
        .iter()
        .filter(|name| name.contains("layer.1.output.dense"));
    let lost: Vec<&String> = layers.collect();
    assert_eq!(lost.len(), 2, "{names:?}");
    for name in &lost {
        tensors.remove(name);
    }
    tensors.write(&weights);
    let output = run_in(dir.path(), &["embed", "--model", "model", "--text", "Yes."]);
    let error = stderr(&output);
    assert_eq!((status(&output), error.lines().count()), (4, 1), "{error}");
    assert!(error.contains("missing"), "{error}");
    assert!(lost.iter().all(|name| error.contains(*name)), "{error}");
}
