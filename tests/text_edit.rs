//! `bench edit` on requests without pictures: EasyEdit's text JSON, on text models and on the language
//! side of multimodal ones.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};
use support::{Tensors, assert_close, edit_json, fixtures, folder, json as object, model_copy};
use support::{records, run_in, status, stderr, stdout, town_requests};

/// Every editor with a language side.
const EDITORS: [&str; 8] = [
    "nothing", "random", "ft-l", "ike", "serac", "ke", "mend", "biasedit",
];

/// Trainings of a few steps of small networks, and requests as they are.
const SHORT: [&str; 10] = [
    "--set",
    "filter.contexts=0",
    "--set",
    "train.steps=2",
    "--set",
    "train.val_every=1",
    "--set",
    "ke.h=8",
    "--set",
    "ke.c=8",
];

/// Questions of the generated dataset in EasyEdit's text form.
fn questions(file: &str, n: usize) -> Vec<Value> {
    let town = town_requests(file).into_iter().take(n);
    town.map(|request| {
        json!({
            "case_id": request["id"], "prompt": request["prompt"],
            "target_new": request["y_less"], "ground_truth": [request["y_more"]],
            "rephrase_prompt": request["prompt_rephrase"],
            "locality": {"neighborhood": {
                "prompt": [request["loc_q"]], "ground_truth": [[request["loc_a"]]],
            }},
            "portability": {"Reasoning": [{"prompt": "x", "ground_truth": "y"}]},
        })
    })
    .collect()
}

fn eval(n: usize) -> Vec<Value> {
    questions("vqa_eval.json", n)
}

fn write(dir: &Path, file: &str, requests: &[Value]) -> String {
    fs::write(dir.join(file), Value::from(requests.to_vec()).to_string()).expect("writable");
    file.to_owned()
}

fn edit(dir: &Path, requests: &[Value], more: &[&str]) -> Output {
    let file = write(dir, "requests.json", requests);
    run_in(dir, &[&["edit", file.as_str()], &SHORT[..], more].concat())
}

/// The language side of an embedded model as a text model of its own.
fn text_model(name: &str, dir: &Path) -> PathBuf {
    let model = model_copy(name, dir);
    edit_json(&model.join("config.json"), |config| {
        *config = config["text_config"].clone();
    });
    let weights = model.join("model.safetensors");
    let mut whole = Tensors::read(&weights);
    let mut text = Tensors::default();
    for name in whole.names() {
        if let Some(own) = name.strip_prefix("language_model.") {
            let entry = whole.header[&name].clone();
            text.put(own, entry, whole.bytes(&name));
        }
    }
    text.write(&weights);
    for file in ["preprocessor_config.json", "card.json"] {
        fs::remove_file(model.join(file)).expect("it was there");
    }
    model
}

/// The mean log-likelihoods of the target in the contexts of one side of a line.
fn target(line: &Value, side: &str) -> Vec<f64> {
    let contexts = ["prompt", "rephrase"].into_iter();
    let scores = contexts.filter_map(|context| line[side].get(context));
    scores
        .map(|score| score["y_less"]["mean"].as_f64().expect("a number"))
        .collect()
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.iter().any(has_null),
        Value::Object(map) => map.values().any(has_null),
        _ => false,
    }
}

#[test]
fn what_text_alone_does_not_ask_has_no_column() {
    let dir = folder();
    let on = ["--model", "tiny-blip2", "--editor", "nothing"];
    let found = object(&edit(
        dir.path(),
        &eval(3),
        &[&on[..], &["--json"]].concat(),
    ));
    let cell = &found["cells"][0];
    assert_eq!(
        (&cell["task"], &cell["n"], &cell["status"]),
        (&"text".into(), &3.into(), &"done".into())
    );
    let metrics = cell["metrics"].as_object().expect("metrics");
    for absent in ["v_generality", "m_locality"] {
        assert!(!metrics.contains_key(absent), "{absent}");
    }
    assert_eq!(metrics["t_locality"]["value"], 1.0);
    assert!(metrics.contains_key("reliability") && metrics.contains_key("t_generality"));
    assert!(!has_null(&cell["metrics"]), "{}", cell["metrics"]);
    for (line, request) in records(dir.path(), &found, 0).iter().zip(eval(3)) {
        assert_eq!(line["id"], request["case_id"]);
        assert_eq!((&line["before"], has_null(line)), (&line["after"], false));
        assert!(line["after"].get("image_rephrase").is_none());
        assert!(line["after"].get("m_locality").is_none());
    }
    let table = stdout(&edit(dir.path(), &eval(3), &on));
    let row = table.lines().find(|line| line.contains("  nothing"));
    let row = row.expect("a row of the editor");
    assert!(table.contains("TEXT") && row.contains(" - "), "{table}");
}

#[test]
fn a_target_becomes_likelier_on_a_text_model() {
    let dir = folder();
    for name in ["tiny-blip2", "tiny-minigpt4"] {
        let sub = dir.path().join(name);
        fs::create_dir(&sub).expect("a new folder");
        text_model(name, &sub);
        let more = ["--model", "model", "--editor", "ft-l", "--json"];
        let found = object(&edit(&sub, &eval(4), &more));
        assert_eq!(found["cells"][0]["n"], 4, "{}", found["cells"][0]);
        for line in records(&sub, &found, 0) {
            let (before, after) = (target(&line, "before"), target(&line, "after"));
            assert_eq!(before.len(), 2);
            assert!(after[0] > before[0], "{after:?} {before:?}");
        }
    }
}

#[test]
fn text_asked_of_the_language_side_is_asked_of_a_text_model() {
    // What is around a picture is not around text alone: both models read the same tokens.
    let dir = folder();
    text_model("tiny-blip2", dir.path());
    let scores = |model: &str| -> Vec<f64> {
        let more = ["--model", model, "--editor", "nothing", "--json"];
        let found = object(&edit(dir.path(), &eval(3), &more));
        let lines = records(dir.path(), &found, 0);
        lines
            .iter()
            .flat_map(|line| target(line, "after"))
            .collect()
    };
    assert_close(&scores("model"), &scores("tiny-blip2"), 1e-5);
}

#[test]
fn every_editor_of_the_language_side_edits_text() {
    let dir = folder();
    text_model("tiny-minigpt4", dir.path());
    let mut learned = questions("vqa_train.json", 12);
    for request in &mut learned {
        request["split"] = "train".into();
    }
    let requests = [eval(3), learned].concat();
    for model in ["model", "tiny-blip2"] {
        for editor in EDITORS {
            let more = ["--model", model, "--editor", editor, "--json"];
            let found = object(&edit(dir.path(), &requests, &more));
            let cell = &found["cells"][0];
            let said = format!("{editor} on {model}: {cell}");
            assert_eq!(
                (&cell["n"], &cell["failed"]),
                (&3.into(), &0.into()),
                "{said}"
            );
            assert!(cell["metrics"].get("v_generality").is_none(), "{said}");
            let lines = records(dir.path(), &found, 0);
            let changed = lines.iter().any(|line| line["after"] != line["before"]);
            assert_eq!(changed, editor != "nothing", "{said}");
        }
    }
}

#[test]
fn training_requests_of_text_come_from_a_file_too() {
    let dir = folder();
    let train = write(dir.path(), "train.json", &questions("vqa_train.json", 12));
    let more = [
        "--model",
        "tiny-blip2",
        "--editor",
        "mend",
        "--json",
        "--train",
        &train,
    ];
    let found = object(&edit(dir.path(), &eval(2), &more));
    assert_eq!(found["cells"][0]["n"], 2, "{}", found["cells"][0]);
    let none = edit(dir.path(), &eval(2), &more[..5]);
    assert_eq!(status(&none), 3, "{}", stderr(&none));
}

#[test]
fn an_editor_of_the_vision_side_is_refused_in_a_line() {
    let dir = folder();
    text_model("tiny-minigpt4", dir.path());
    for (model, expected) in [
        ("tiny-blip2", "which text alone never passes"),
        ("model", "and model is a text model"),
    ] {
        let more = ["--model", model, "--editor", "ft-v"];
        let refused = edit(dir.path(), &eval(1), &more);
        let text = stderr(&refused);
        assert_eq!(
            (status(&refused), stdout(&refused).as_str()),
            (2, ""),
            "{text}"
        );
        let expected = format!("error: ft-v edits the vision side, {expected}\n");
        assert!(text.starts_with(&expected), "{text}");
        assert!(!dir.path().join("results").exists());
    }
}

#[test]
fn without_an_answer_to_edit_away_it_is_the_models_own() {
    let dir = folder();
    let bare = |target: &str| json!({"id": 1, "prompt": "what is this", "target_new": target});
    let more = ["--model", "tiny-blip2", "--editor", "ft-l", "--json"];
    let found = object(&edit(dir.path(), &[bare("the old mill")], &more));
    let cell = &found["cells"][0];
    assert_eq!(cell["n"], 1, "{cell}");
    let metrics: Vec<&String> = cell["metrics"]
        .as_object()
        .expect("metrics")
        .keys()
        .collect();
    assert!(
        metrics.iter().any(|name| *name == "reliability"),
        "{metrics:?}"
    );
    assert!(
        !metrics.iter().any(|name| *name == "t_generality"),
        "{metrics:?}"
    );
    let line = &records(dir.path(), &found, 0)[0];
    let own = line["own_answer"]
        .as_str()
        .expect("what the model says")
        .to_owned();
    assert!(!own.is_empty());
    // It is what `bench generate` writes, as far as it goes.
    let prompt = json!({"id": "1", "prompt": "what is this"}).to_string();
    fs::write(dir.path().join("prompts.jsonl"), prompt).expect("writable");
    let asked = [
        "generate",
        "prompts.jsonl",
        "--model",
        "tiny-blip2",
        "--max-tokens",
        "8",
    ];
    let written = run_in(dir.path(), &asked);
    let written: Value = serde_json::from_slice(&written.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", stderr(&written)));
    let text = written["text"].as_str().expect("text");
    assert!(text.trim_start().starts_with(&own), "{own:?} of {text:?}");
    // A model that says the target by itself has no bias to be edited away.
    let output = edit(dir.path(), &[bare(&own), bare("the old mill")], &more);
    assert_eq!(status(&output), 4, "an id used twice: {}", stderr(&output));
    let mut other = bare("the old mill");
    other["id"] = 2.into();
    let found = object(&edit(dir.path(), &[bare(&own), other], &more));
    let cell = &found["cells"][0];
    assert_eq!(
        (&cell["n"], &cell["filter"]["unbiased"]),
        (&1.into(), &1.into()),
        "{cell}"
    );
}

#[test]
fn bad_requests_are_refused_in_one_line() {
    let dir = folder();
    let with = |key: &str, value: Value| {
        let mut request = eval(1).remove(0);
        request[key] = value;
        request
    };
    let named = |request: Value, id: usize| {
        let mut request = request;
        request["case_id"] = id.into();
        request
    };
    let lacking: Vec<Value> = (0..13)
        .map(|at| named(with("target_new", Value::Null), at))
        .collect();
    for (requests, expected) in [
        (
            lacking,
            "13 records: `y_less` (EasyEdit's `target_new`) is missing (record `0`, record `1`, record `2` and 10 more)",
        ),
        (
            vec![with("prompt", " ".into())],
            "`prompt` (EasyEdit's `src`) is empty",
        ),
        (
            vec![with("task", "speech".into())],
            "`task` `speech` is none of ic, vqa, text",
        ),
        (vec![with("task", "vqa".into())], "`image` is missing"),
        (
            vec![with("split", "dev".into())],
            "`split` `dev` is none of train, val, eval, test",
        ),
        ([eval(1), eval(1)].concat(), "`id` is used twice"),
        (
            vec![with("locality", "x".into())],
            "`locality` holds something else",
        ),
    ] {
        let refused = edit(
            dir.path(),
            &requests,
            &["--model", "tiny-blip2", "--editor", "ft-l"],
        );
        let text = stderr(&refused);
        assert_eq!(
            (status(&refused), stdout(&refused).as_str()),
            (4, ""),
            "{text}"
        );
        assert!(
            text.starts_with("error: requests.json: ") && text.contains(expected),
            "{text}"
        );
        assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    }
    let refused = edit(
        dir.path(),
        &eval(1),
        &["--model", "tiny-blip2", "--editor", "ft-l", "--task", "vqa"],
    );
    assert_eq!(status(&refused), 4, "{}", stderr(&refused));
    let asked = [
        "--model",
        "tiny-blip2",
        "--editor",
        "ft-l",
        "--task",
        "text",
        "--json",
    ];
    assert_eq!(
        object(&edit(dir.path(), &eval(1), &asked))["cells"][0]["n"],
        1
    );
}

#[test]
fn a_template_stands_around_text_when_it_is_given() {
    let dir = folder();
    let after = |more: &[&str]| {
        let on = ["--model", "tiny-blip2", "--editor", "nothing", "--json"];
        let found = object(&edit(dir.path(), &eval(1), &[&on[..], more].concat()));
        target(&records(dir.path(), &found, 0)[0], "after")
    };
    let framed: Vec<Value> = eval(1)
        .into_iter()
        .map(|mut request| {
            for key in ["prompt", "rephrase_prompt"] {
                let text = request[key].as_str().expect("text");
                request[key] = format!("Question: {text} Short answer:").into();
            }
            request
        })
        .collect();
    let given = after(&["--set", "template.text=Question: {} Short answer:"]);
    assert_ne!(given, after(&[]));
    let on = ["--model", "tiny-blip2", "--editor", "nothing", "--json"];
    let found = object(&edit(dir.path(), &framed, &on));
    assert_close(
        &target(&records(dir.path(), &found, 0)[0], "after"),
        &given,
        1e-5,
    );
}

#[test]
fn a_saved_text_model_scores_as_its_edit_did() {
    let dir = folder();
    text_model("tiny-blip2", dir.path());
    let on = [
        "--model", "model", "--editor", "ft-l", "--json", "--save", "saved",
    ];
    let found = object(&edit(dir.path(), &eval(1), &on));
    let after = target(&records(dir.path(), &found, 0)[0], "after");
    let on = ["--model", "saved", "--editor", "nothing", "--json"];
    let found = object(&edit(dir.path(), &eval(1), &on));
    assert_close(
        &target(&records(dir.path(), &found, 0)[0], "after"),
        &after,
        1e-5,
    );
}

#[cfg(unix)]
#[test]
fn a_command_is_told_of_no_picture() {
    let dir = folder();
    let script = r#"while read -r line; do
  printf '%s\n' "$line" >> seen.jsonl
  case "$line" in *'"op":"edit"'*)
    id=$(printf '%s' "$line" | sed 's/.*"op":"edit","id":"\([^"]*\)".*/\1/')
    printf '{"id": "%s", "context": {"prefix": "the mill. "}}\n' "$id" ;;
  esac
done"#;
    fs::write(dir.path().join("editor.sh"), script).expect("writable");
    let on = [
        "--model",
        "tiny-blip2",
        "--command",
        "sh editor.sh",
        "--json",
    ];
    let found = object(&edit(dir.path(), &eval(2), &on));
    assert_eq!(found["cells"][0]["n"], 2, "{}", found["cells"][0]);
    let seen = fs::read_to_string(dir.path().join("seen.jsonl")).expect("was written");
    let asked: Vec<Value> = seen
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .filter(|message: &Value| message["op"] == "edit")
        .collect();
    assert_eq!(asked.len(), 2);
    let given = &eval(1)[0];
    let request = asked[0]["requests"][0].as_object().expect("an object");
    for key in ["prompt", "target_new", "rephrase_prompt"] {
        assert_eq!(request[key], given[key], "{key}");
    }
    assert_eq!(request["templated"]["prompt"], given["prompt"]);
    for absent in [
        "image",
        "image_rephrase",
        "mloc_image",
        "m_loc",
        "mloc_q",
        "m_loc_q",
    ] {
        assert!(!request.contains_key(absent), "{absent}");
    }
    assert!(!has_null(&asked[0]));
}

#[test]
fn published_text_models_are_edited() {
    let Some(models) = fixtures() else { return };
    let dir = folder();
    let requests = |n: usize| -> Vec<Value> {
        let words = ["a man", "old", "a wise person", "kind"];
        let of = |(at, word): (usize, &&str)| {
            json!({
                "id": at, "prompt": format!("The person in room {at} is"), "target_new": word,
                "rephrase_prompt": format!("In room {at} there is"),
                "locality_prompt": "Two and two is", "locality_ground_truth": "four",
                "split": if at < n { "eval" } else { "train" },
            })
        };
        words
            .iter()
            .cycle()
            .take(n + 6)
            .enumerate()
            .map(of)
            .collect()
    };
    let every = ["gpt2", "llama3", "qwen2"].map(|name| (name, &EDITORS[..]));
    let others = ["gpt_neo", "llama2", "opt"].map(|name| (name, &["ft-l"][..]));
    for (name, editors) in every.into_iter().chain(others) {
        let model = models.join(name);
        let model = model.to_str().expect("UTF-8");
        for editor in editors.iter().copied() {
            let more = ["--model", model, "--editor", editor, "--json"];
            let output = edit(dir.path(), &requests(2), &more);
            let found = object(&output);
            let cell = &found["cells"][0];
            assert_eq!(cell["failed"], 0, "{editor} on {name}: {cell}");
            for line in records(dir.path(), &found, 0)
                .iter()
                .filter(|_| editor == "ft-l")
            {
                let (before, after) = (target(line, "before"), target(line, "after"));
                assert!(after[0] > before[0], "{name}: {after:?} {before:?}");
            }
        }
    }
}
