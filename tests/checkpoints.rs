//! Checkpoint folders against the reference implementation: `bench verify`, and other layouts of
//! the same weights.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::{
    Tensors, edit_json, feed, fixtures, folder, folder_copy, model_copy, run_in, status,
};
use support::{stderr, stdout};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Every fixture folder that holds a model.
fn models(fixtures: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(fixtures).expect("a folder of fixtures");
    let mut found: Vec<PathBuf> = found.map(|entry| entry.expect("readable").path()).collect();
    found.retain(|dir| dir.join("config.json").exists() || dir.join("minigpt4.json").exists());
    found.sort();
    found
}

/// Exit status and report of `bench verify`.
fn verify(dir: &Path, more: &[&str]) -> (i32, Value) {
    let work = folder();
    let args = [&["verify", text(dir), "--json"], more].concat();
    let output = run_in(work.path(), &args);
    let report = serde_json::from_slice(&output.stdout);
    let report = report.unwrap_or_else(|_| panic!("{}", support::stderr(&output)));
    (status(&output), report)
}

/// The tensors of a report with this verdict.
fn judged(report: &Value, ok: Value) -> Vec<&str> {
    let tensors = report["tensors"].as_array().expect("a list").iter();
    tensors
        .filter(|tensor| tensor["ok"] == ok)
        .map(|tensor| tensor["name"].as_str().expect("a name"))
        .collect()
}

#[test]
fn every_fixture_agrees_with_the_reference() {
    let Some(fixtures) = fixtures() else { return };
    let models = models(&fixtures);
    assert!(models.len() > 15, "{models:?}");
    for dir in models {
        let (code, report) = verify(&dir, &[]);
        let off = (judged(&report, false.into()), judged(&report, Value::Null));
        assert_eq!((code, &report["ok"]), (0, &json!(true)), "{dir:?} {off:?}");
        assert!(judged(&report, true.into()).len() > 4, "{dir:?}");
        assert!(report["arch"].as_str().is_some_and(|arch| !arch.is_empty()));
        for tensor in report["tensors"].as_array().expect("a list") {
            assert!(tensor["shape"].is_array(), "{tensor}");
            let number = |field: &str| tensor[field].as_f64().expect(field);
            assert!(number("max_rel") >= 0.0, "{tensor}");
            assert!(number("max_abs") <= number("tolerance"), "{tensor}");
        }
    }
}

#[test]
fn a_tensor_that_differs_is_named() {
    let Some(fixtures) = fixtures() else { return };
    let model = fixtures.join("gpt2");
    let work = folder();
    let golden = work.path().join("other.safetensors");
    let given = ["--golden", text(&golden)];
    let mut tensors = Tensors::read(&model.join("golden.safetensors"));

    tensors.write(&golden);
    let (code, report) = verify(&model, &given);
    assert_eq!((code, &report["ok"]), (0, &json!(true)), "{report}");

    let last = tensors.floats("single.logits").len() - 1;
    let off_by = |off: f32| {
        let mut tensors = Tensors::read(&model.join("golden.safetensors"));
        let value = tensors.floats("single.logits")[last] + off;
        tensors.bytes("single.logits")[4 * last..].copy_from_slice(&value.to_le_bytes());
        tensors.write(&golden);
        let (code, report) = verify(&model, &given);
        assert_eq!(report["ok"], code == 0);
        (code, report)
    };
    // The tolerance is 1e-4: half of it passes, twice does not.
    let (code, report) = off_by(5e-5);
    assert_eq!((code, judged(&report, false.into()).len()), (0, 0));
    let (code, report) = off_by(f32::NAN);
    assert_eq!(
        (
            code,
            judged(&report, true.into()).contains(&"single.logits")
        ),
        (1, false)
    );
    let (code, report) = off_by(2e-4);
    assert_eq!(
        (code, judged(&report, false.into())),
        (1, vec!["single.logits"])
    );

    let output = run_in(
        work.path(),
        &[&["verify", text(&model)][..], &given].concat(),
    );
    assert_eq!(status(&output), 1);
    let table = stdout(&output);
    let lines: Vec<_> = table
        .lines()
        .filter(|line| line.contains("WRONG"))
        .collect();
    assert!(
        lines.len() == 1 && lines[0].contains("single.logits"),
        "{table}"
    );
}

#[test]
fn a_greedy_token_that_differs_is_named() {
    let Some(fixtures) = fixtures() else { return };
    let work = folder();
    let model = folder_copy(&fixtures.join("llama2"), &work.path().join("model"));
    let golden = model.join("golden.safetensors");
    let mut tensors = Tensors::read(&golden);
    tensors.bytes("left.generated")[8] ^= 1;
    tensors.write(&golden);
    let (code, report) = verify(&model, &[]);
    assert_eq!((code, &report["ok"]), (1, &json!(false)));
    assert_eq!(judged(&report, false.into()), ["left.generated"]);
}

#[test]
fn a_tensor_that_nobody_computes_is_no_agreement() {
    let Some(fixtures) = fixtures() else { return };
    let work = folder();
    let model = folder_copy(&fixtures.join("opt"), &work.path().join("model"));
    let golden = model.join("golden.safetensors");
    let mut tensors = Tensors::read(&golden);
    tensors.add("single.mystery", &[1.0, 2.0]);
    tensors.write(&golden);
    let (code, report) = verify(&model, &[]);
    assert_eq!((code, &report["ok"]), (1, &json!(false)));
    assert_eq!(judged(&report, Value::Null), ["single.mystery"]);
    assert!(judged(&report, false.into()).is_empty());
}

#[test]
fn weights_that_differ_are_seen() {
    let Some(fixtures) = fixtures() else { return };
    let work = folder();
    let model = folder_copy(&fixtures.join("qwen2"), &work.path().join("model"));
    let weights = model.join("model.safetensors");
    let mut tensors = Tensors::read(&weights);
    tensors.bytes("model.layers.0.mlp.down_proj.weight").fill(0);
    tensors.write(&weights);
    let (code, report) = verify(&model, &[]);
    assert_eq!(code, 1);
    let wrong = judged(&report, false.into());
    assert!(wrong.contains(&"single.logits"), "{wrong:?}");
    assert!(!wrong.contains(&"single.hidden.embeds"), "{wrong:?}");
}

#[test]
fn a_folder_without_golden_file_is_refused() {
    let work = folder();
    let model = support::model_copy("tiny-blip2", work.path());
    for more in [&[][..], &["--golden", "nowhere.safetensors"]] {
        let args = [&["verify", text(&model), "--json"], more].concat();
        let output = run_in(work.path(), &args);
        let error = support::stderr(&output);
        assert_eq!(
            (status(&output), stdout(&output).as_str()),
            (4, ""),
            "{error}"
        );
        assert_eq!(error.matches("error: ").count(), 1, "{error}");
        assert!(error.contains(".safetensors"), "{error}");
    }
}

/// Sums of the answers of a fixture's own prompts, scored raw under the model in `dir`.
fn sums(dir: &Path, case: &Path) -> Vec<f64> {
    let written = fs::read(case.join("case.json")).expect("case.json");
    let written: Value = serde_json::from_slice(&written).expect("JSON");
    let mut lines = String::new();
    for (id, prompt) in written["prompts"]
        .as_array()
        .expect("a list")
        .iter()
        .enumerate()
    {
        let mut line = json!({"id": id, "join": ""});
        for field in ["prompt", "answer", "image"] {
            line[field] = prompt[field].clone();
        }
        lines += &format!("{line}\n");
    }
    let work = folder();
    let args = [
        "score",
        "--raw",
        "--model",
        text(dir),
        "--images",
        text(case),
    ];
    let output = feed(work.path(), &args, lines.as_bytes());
    assert_eq!(status(&output), 0, "{}", support::stderr(&output));
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        line["sum"].as_f64().expect("a number")
    };
    stdout(&output).lines().map(line).collect()
}

#[test]
fn other_layouts_of_the_same_weights_give_the_same_scores() {
    let Some(fixtures) = fixtures() else { return };
    let same = |case: &Path, copy: &Path| {
        let (expected, found) = (sums(case, case), sums(copy, case));
        assert_eq!(expected.len(), found.len());
        for (expected, found) in expected.iter().zip(&found) {
            assert!(
                (expected - found).abs() < 1e-5,
                "{copy:?}: {expected} {found}"
            );
        }
    };
    let work = folder();

    // The image in front of the text, without a placeholder among the tokens.
    let case = fixtures.join("blip2_opt");
    let copy = folder_copy(&case, &work.path().join("legacy"));
    fs::rename(copy.join("config_legacy.json"), copy.join("config.json")).expect("renamed");
    same(&case, &copy);

    // One file in place of three shards.
    let copy = folder_copy(&case, &work.path().join("one"));
    let mut whole = Tensors::read(&copy.join("model-00001-of-00003.safetensors"));
    for shard in 1..=3 {
        let file = copy.join(format!("model-0000{shard}-of-00003.safetensors"));
        let mut part = Tensors::read(&file);
        for name in part.names().iter().filter(|_| shard > 1) {
            whole.append(name, &mut part);
        }
        fs::remove_file(file).expect("there");
    }
    fs::remove_file(copy.join("model.safetensors.index.json")).expect("there");
    whole.write(&copy.join("model.safetensors"));
    same(&case, &copy);

    // The names of newer releases of transformers.
    let case = fixtures.join("llava");
    let copy = folder_copy(&case, &work.path().join("alt_names"));
    for entry in fs::read_dir(case.join("alt_names")).expect("a folder") {
        let path = entry.expect("readable").path();
        let file = path.file_name().expect("a file");
        fs::write(copy.join(file), fs::read(&path).expect("readable")).expect("copied");
    }
    same(&case, &copy);

    // A tied head, named or not.
    let case = fixtures.join("gpt_neo");
    let copy = folder_copy(&case, &work.path().join("tied"));
    let weights = copy.join("model.safetensors");
    let mut tensors = Tensors::read(&weights);
    tensors.remove("lm_head.weight");
    tensors.write(&weights);
    same(&case, &copy);

    // A config that writes its defaults out.
    let case = fixtures.join("llama2");
    let copy = folder_copy(&case, &work.path().join("explicit"));
    edit_json(&copy.join("config.json"), |config| {
        config["num_key_value_heads"] = config["num_attention_heads"].clone();
        config["rope_theta"] = json!(10_000.0);
        config["rope_scaling"] = Value::Null;
    });
    same(&case, &copy);
}

#[test]
fn processors_are_verified_without_a_model() {
    let Some(fixtures) = fixtures() else { return };
    let dir = fixtures.join("preproc");
    let (code, report) = verify(&dir, &[]);
    let tensors = report["tensors"].as_array().expect("a list");
    let wrong: Vec<_> = tensors
        .iter()
        .filter(|tensor| tensor["ok"] != true)
        .collect();
    assert!(code == 0 && report["ok"] == true, "{wrong:?}");
    assert_eq!(report["arch"], "preproc");
    let named = |part: &str| {
        let names = tensors.iter().filter_map(|tensor| tensor["name"].as_str());
        names.filter(|name| name.contains(part)).count()
    };
    assert_eq!((named(".rgb_u8"), named(".internvl_tiles")), (6, 6));
    assert_eq!(
        (named("internvl_columns_rows"), named("internvl_grid.")),
        (6, 26)
    );

    // Another grid, another picture and a pipeline that nobody knows are found.
    let work = folder();
    let copy = folder_copy(&dir, &work.path().join("copy"));
    edit_json(&copy.join("case.json"), |case| {
        case["internvl_grid_cases"][0]["columns_rows"] = json!([2, 1]);
    });
    fs::copy(copy.join("gray.png"), copy.join("rgba.png")).expect("writable");
    let mut golden = Tensors::read(&copy.join("golden.safetensors"));
    golden.add("gray.sharpened", &[0.5]);
    golden.write(&copy.join("golden.safetensors"));
    let (code, report) = verify(&copy, &[]);
    let ok = |name: &str| {
        let tensors = report["tensors"].as_array().expect("a list");
        let found = tensors.iter().find(|tensor| tensor["name"] == name);
        found.unwrap_or_else(|| panic!("{name}"))["ok"].clone()
    };
    assert_eq!(code, 1);
    assert_eq!(ok("internvl_grid.448x448.1-6"), false);
    assert_eq!(ok("rgba.squash_u8"), false);
    assert_eq!(ok("gray.squash_u8"), true);
    assert_eq!(ok("gray.sharpened"), Value::Null);
}

#[test]
fn what_stands_in_the_place_of_a_file_is_called_what_it_is() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";
    let page = "<!DOCTYPE html><html><title>Sign in</title>";
    for (file, content, said) in [
        (
            "model.safetensors",
            pointer,
            "is a Git LFS pointer, not the file itself",
        ),
        ("tokenizer.json", pointer, "is a Git LFS pointer"),
        ("config.json", page, "is an HTML page, not the file itself"),
        ("preprocessor_config.json", page, "is an HTML page"),
    ] {
        let work = folder();
        let model = model_copy("tiny-blip2", work.path());
        fs::write(model.join(file), content).expect("writable");
        let line = r#"{"id": 1, "prompt": "a", "answer": "b"}"#;
        let args = ["score", "--model", text(&model)];
        let output = feed(work.path(), &args, line.as_bytes());
        let error = stderr(&output);
        assert_eq!(status(&output), 4, "{error}");
        let first = error.lines().next().unwrap_or_default();
        assert!(first.contains(file) && first.contains(said), "{error}");
    }
    let work = folder();
    fs::write(work.path().join("lines.jsonl"), page).expect("writable");
    let output = run_in(
        work.path(),
        &["score", "--model", "tiny-blip2", "lines.jsonl"],
    );
    assert!(
        stderr(&output).contains("lines.jsonl: is an HTML page"),
        "{}",
        stderr(&output)
    );
    fs::write(work.path().join("vqa.json"), pointer).expect("writable");
    let args = [
        "edit",
        "vqa.json",
        "--model",
        "tiny-blip2",
        "--editor",
        "nothing",
    ];
    let output = run_in(work.path(), &args);
    assert!(
        stderr(&output).contains("vqa.json: is a Git LFS pointer"),
        "{}",
        stderr(&output)
    );
}
