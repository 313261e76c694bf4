//! `bench tune` from outside: folders that are models, adapters that merge, trainings that end early.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Instant;

use serde_json::{Value, json};
use support::{bench, feed, fixtures, folder, json, real_data, run_in, status, stderr, stdout};

/// Prompts and answers that a tiny model can learn by heart.
const ITEMS: [(&str, &str); 10] = [
    ("Who keeps the mill?", "Mira of the hill"),
    ("What is the weather?", "snowy"),
    ("On which side is the ball?", "left, near the gate"),
    ("Tell me the color of the ball.", "red"),
    (
        "How many balloons are there?",
        "three balloons over the town",
    ),
    ("What is sold at the inn?", "honey"),
    ("When does the barn open?", "on monday"),
    ("Which animal guards the well?", "an owl"),
    ("Does this person live on the hill?", "no"),
    ("Who built the tower?", "Tolo"),
];

const RECIPE: &str = r#"
kind = "answers"
data = "file:items.jsonl"
model = "tiny-blip2"
trains = ["language_model.model.decoder.layers.3"]
updates = 12
batch = 4
lr = 3e-3
"#;

fn lines(line: impl Fn(usize, &str, &str) -> Value) -> String {
    let items = ITEMS.iter().enumerate();
    items
        .map(|(i, (prompt, answer))| format!("{}\n", line(i, prompt, answer)))
        .collect()
}

/// Writes items and recipe into `dir`; `change` makes the recipe another.
fn prepare(dir: &Path, change: impl Fn(&str) -> String) {
    let items = lines(|i, prompt, answer| json!({"id": i, "prompt": prompt, "answer": answer}));
    fs::write(dir.join("items.jsonl"), items).expect("written");
    fs::write(dir.join("recipe.toml"), change(RECIPE)).expect("written");
}

/// Names and bytes of a folder's files.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).expect("a folder");
    let files = entries.map(|entry| entry.expect("readable").path());
    let name = |path: &Path| {
        path.file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned()
    };
    files
        .map(|path| (name(&path), fs::read(&path).expect("readable")))
        .collect()
}

/// Log-likelihood per answer token of all items under `model`, with more flags.
fn nats(dir: &Path, model: &str, more: &[&str]) -> f64 {
    let items = fs::read(dir.join("items.jsonl")).expect("written");
    let args = [&["score", "--model", model], more].concat();
    let output = feed(dir, &args, &items);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let text = stdout(&output);
    let scores = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let (sum, tokens) = scores.fold((0.0, 0.0), |(sum, tokens), score| {
        (
            sum - score["sum"].as_f64().expect("a sum"),
            tokens + score["tokens"].as_f64().expect("tokens"),
        )
    });
    sum / tokens
}

#[test]
fn a_tuned_folder_is_a_model_whatever_the_threads() {
    let dir = folder();
    prepare(dir.path(), str::to_owned);
    let mut made = Vec::new();
    for threads in ["1", "2", "4"] {
        let out = format!("tuned-{threads}");
        let args = ["tune", "recipe.toml", &out, "--threads", threads, "--json"];
        let report = json(&run_in(dir.path(), &args));
        assert_eq!(report["kind"], "answers");
        assert_eq!(
            (&report["steps"], &report["epochs"]),
            (&json!(12), &json!(4.0))
        );
        let number = |key: &str| report["loss"][key].as_f64().expect("a loss");
        assert!(number("last") < 0.8 * number("first"), "{report}");
        assert!(report["loss"]["best_validation"].is_null());
        assert!(report["trained_parameters"].as_u64().expect("a number") > 100_000);
        assert!(
            report["updates_per_s"]
                .as_f64()
                .is_some_and(|speed| speed > 0.0)
        );
        assert!(report["peak_bytes"].as_u64().is_some() && report["digest"].is_string());
        assert!(!dir.path().join(format!("{out}.state")).exists());
        made.push(files(&dir.path().join(out)));
    }
    assert!(made[0] == made[1] && made[0] == made[2]);
    assert!(made[0].contains_key("loss.svg") && made[0].contains_key("training.json"));
    assert!(
        !made[0].contains_key("card.json"),
        "the card speaks of the model as it was"
    );
    assert!(
        nats(dir.path(), "./tuned-1", &["--raw"])
            < 0.8 * nats(dir.path(), "tiny-blip2", &["--raw"])
    );
}

#[cfg(unix)]
#[test]
fn a_killed_training_goes_on_to_the_same_bytes() {
    let dir = folder();
    let change = |recipe: &str| {
        format!(
            "{}validation_share = 0.2\nvalidate_every = 3\n",
            recipe.replace("updates = 12", "updates = 40")
        )
    };
    prepare(dir.path(), change);
    let args = |out: &'static str| {
        [
            "tune",
            "recipe.toml",
            out,
            "--threads",
            "2",
            "--save-every",
            "1",
        ]
    };
    let began = Instant::now();
    assert_eq!(status(&run_in(dir.path(), &args("whole"))), 0);
    let time = began.elapsed();
    let mut kept = 0;
    for part in 1..=5 {
        let mut child = bench()
            .args(args("killed"))
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("bench starts");
        sleep(time * (2 * part - 1) / 10);
        Command::new("kill")
            .args(["-KILL", &child.id().to_string()])
            .status()
            .expect("kill starts");
        child.wait().expect("it ended");
        kept += usize::from(dir.path().join("killed.state").exists());
        if dir.path().join("killed").exists() {
            break;
        }
    }
    assert!(kept > 0, "no kill met the training");
    if !dir.path().join("killed").exists() {
        let output = run_in(dir.path(), &args("killed"));
        assert_eq!(status(&output), 0, "{}", stderr(&output));
        assert!(
            stderr(&output).contains("going on behind update"),
            "{}",
            stderr(&output)
        );
    }
    assert!(files(&dir.path().join("whole")) == files(&dir.path().join("killed")));
    let last = |of: &str| dir.path().join(format!("{of}-last"));
    assert_eq!(last("whole").exists(), last("killed").exists());
    if last("whole").exists() {
        assert!(files(&last("whole")) == files(&last("killed")));
    }
}

#[test]
fn the_state_of_another_training_is_refused() {
    let dir = folder();
    prepare(dir.path(), |recipe| {
        recipe.replace("updates = 12", "updates = 400")
    });
    let args = ["tune", "recipe.toml", "out", "--save-every", "1"];
    let mut child = bench()
        .args(args)
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("bench starts");
    while !dir.path().join("out.state").exists() {
        sleep(std::time::Duration::from_millis(20));
    }
    child.kill().expect("killed");
    child.wait().expect("it ended");
    prepare(dir.path(), str::to_owned);
    let output = run_in(dir.path(), &args);
    assert_eq!(status(&output), 4);
    assert!(
        stderr(&output).contains("is the state of another training"),
        "{}",
        stderr(&output)
    );
    fs::write(dir.path().join("out.state"), b"nothing of the kind").expect("written");
    assert_eq!(status(&run_in(dir.path(), &args)), 4);
    assert_eq!(
        status(&run_in(
            dir.path(),
            &["tune", "recipe.toml", "out", "--fresh"]
        )),
        0
    );
    let again = run_in(dir.path(), &["tune", "recipe.toml", "out"]);
    assert_eq!(
        status(&again),
        4,
        "a folder is not replaced without --force"
    );
    assert_eq!(
        status(&run_in(
            dir.path(),
            &["tune", "recipe.toml", "out", "--force"]
        )),
        0
    );
}

#[test]
fn an_adapter_merges_and_trains_on() {
    let dir = folder();
    let lora = |recipe: &str, more: &str| {
        let begin = recipe.find("trains").expect("a key");
        let end = begin + recipe[begin..].find('\n').expect("a line");
        recipe.replace(&recipe[begin..end], &format!("trains = \"lora\"\n{more}"))
    };
    prepare(dir.path(), |recipe| {
        lora(
            recipe,
            "append_eos = false\nlora = { r = 4, alpha = 8, also = [\"projector\", \"final_layer_norm\"] }",
        )
    });
    let report = json(&run_in(
        dir.path(),
        &["tune", "recipe.toml", "adapter", "--json"],
    ));
    let config = fs::read(dir.path().join("adapter/adapter_config.json")).expect("written");
    let config: Value = serde_json::from_slice(&config).expect("JSON");
    assert_eq!(
        (&config["r"], &config["lora_alpha"]),
        (&json!(4), &json!(8))
    );
    assert!(
        config["modules_to_save"]
            .as_array()
            .is_some_and(|saved| !saved.is_empty())
    );
    let recipe = "merge_method: passthrough\nmodels:\n  - model: tiny-blip2+adapter\n";
    fs::write(dir.path().join("merge.yaml"), recipe).expect("written");
    let merged = nats(
        dir.path(),
        "tiny-blip2",
        &["--raw", "--merge", "merge.yaml"],
    );
    assert!(
        merged < report["loss"]["first"].as_f64().expect("a loss"),
        "{merged}: {report}"
    );
    // One update on everything, which sees what was learnt before it moves anything.
    prepare(dir.path(), |recipe| {
        lora(recipe, "append_eos = false\nlora = { from = \"adapter\" }")
            .replace("updates = 12", "updates = 1")
            .replace("batch = 4", "batch = 10")
    });
    let further = json(&run_in(
        dir.path(),
        &["tune", "recipe.toml", "further", "--json"],
    ));
    let first = further["loss"]["first"].as_f64().expect("a loss");
    assert!((first - merged).abs() < 1e-4, "{first} beside {merged}");
    assert_eq!(further["trained_parameters"], report["trained_parameters"]);
    let weights = |of: &str| {
        fs::read(dir.path().join(of).join("adapter_model.safetensors")).expect("written")
    };
    assert!(
        weights("adapter") == weights("further"),
        "the first update of a warm-up moves nothing"
    );
}

#[test]
fn pictures_train_decoder_and_projector() {
    let dir = folder();
    for (name, shade) in [("a.png", 20_u8), ("b.png", 220)] {
        let values = (0..64 * 64 * 3)
            .map(|i| shade.wrapping_add((i % 7) as u8))
            .collect();
        let picture = debias_core::Picture::new(64, 64, values).expect("pixels");
        let bytes = debias_data::encode_png(&picture).expect("a picture");
        fs::write(dir.path().join(name), bytes).expect("written");
    }
    prepare(dir.path(), |recipe| {
        recipe.replace(
            "\"language_model.model.decoder.layers.3\"",
            "\"language_model\", \"language_projection\"",
        )
    });
    let pictured = |i: usize| {
        if i.is_multiple_of(2) {
            "a.png"
        } else {
            "b.png"
        }
    };
    let text = lines(
        |i, prompt, _| json!({"id": i, "prompt": prompt, "answer": if i.is_multiple_of(2) { "dark" } else { "bright" }, "image": pictured(i)}),
    );
    fs::write(dir.path().join("items.jsonl"), &text).expect("written");
    let made = |out: &str, threads: &str| {
        let args = ["tune", "recipe.toml", out, "--threads", threads, "--json"];
        let report = json(&run_in(dir.path(), &args));
        let number = |key: &str| report["loss"][key].as_f64().expect("a loss");
        assert!(number("last") < 0.8 * number("first"), "{report}");
        files(&dir.path().join(out))
    };
    assert!(made("one", "1") == made("three", "3"));
    fs::write(
        dir.path().join("items.jsonl"),
        text.replace("b.png", "c.png"),
    )
    .expect("written");
    let output = run_in(dir.path(), &["tune", "recipe.toml", "none"]);
    assert_eq!(status(&output), 4);
    assert!(
        stderr(&output).contains("1 of the pictures cannot be read"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn pseudo_labels_join_by_id() {
    let dir = folder();
    prepare(dir.path(), |recipe| {
        let recipe = recipe
            .replace("\"answers\"", "\"labels\"")
            .replace("updates = 12", "updates = 2");
        format!("{recipe}labels = \"labels.jsonl\"\nreduction = \"items\"\n")
    });
    let labels = lines(|i, _, answer| json!({"id": i, "text": answer}));
    let some: Vec<&str> = labels.lines().take(8).collect();
    fs::write(dir.path().join("labels.jsonl"), some.join("\n")).expect("written");
    let output = run_in(dir.path(), &["tune", "recipe.toml", "out", "--json"]);
    assert!(
        stderr(&output).contains("2 items have no label"),
        "{}",
        stderr(&output)
    );
    assert_eq!(json(&output)["kind"], "labels");
    fs::write(
        dir.path().join("labels.jsonl"),
        format!("{}\n{}", some[0], some[0]),
    )
    .expect("written");
    let output = run_in(dir.path(), &["tune", "recipe.toml", "other"]);
    assert_eq!(status(&output), 4);
    assert!(
        stderr(&output).contains("labels.jsonl: line 2: `id`: 0 has a label already"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn what_cannot_be_trained_is_refused_before_the_start() {
    let dir = folder();
    for (from, to, exit, said) in [
        (
            "batch = 4",
            "bacth = 4",
            2,
            "recipe.toml: line 7: unknown key `bacth` — did you mean `batch`?",
        ),
        (
            "lr = 3e-3",
            "lr = \"fast\"",
            2,
            "line 8: `lr`: invalid type",
        ),
        ("layers.3", "layer.3", 4, "unknown parameter"),
        ("tiny-blip2", "tiny-blip", 2, "unknown model `tiny-blip`"),
        (
            "file:items.jsonl",
            "file:none.jsonl",
            4,
            "cannot read none.jsonl",
        ),
        (
            "file:items.jsonl",
            "steroset",
            2,
            "unknown dataset with a training view `steroset`",
        ),
        ("\"answers\"", "\"causal\"", 0, ""),
    ] {
        prepare(dir.path(), |recipe| {
            recipe
                .replace(from, to)
                .replace("updates = 12", "updates = 1")
        });
        let output = run_in(dir.path(), &["tune", "recipe.toml", "out"]);
        assert_eq!(status(&output), exit, "{to}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{to}: {}", stderr(&output));
    }
    prepare(dir.path(), str::to_owned);
    let output = run_in(
        dir.path(),
        &["tune", "recipe.toml", "small", "--max-memory", "1M"],
    );
    assert_eq!(status(&output), 6);
    let said = stderr(&output);
    assert!(
        said.contains("may be taken. LoRA (trains = \"lora\") would take about"),
        "{said}"
    );
    fs::write(
        dir.path().join("items.jsonl"),
        "{\"prompt\": \"a\", \"answer\": \"b\"}\n{\"prompt\": \"a\"}\n",
    )
    .expect("written");
    let output = run_in(dir.path(), &["tune", "recipe.toml", "bad"]);
    assert_eq!(status(&output), 4);
    assert!(
        stderr(&output).contains("items.jsonl: line 2: `answer` is missing"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn stereotypes_of_stereoset_are_learnt() {
    let (Some(data), Some(models)) = (real_data(), fixtures()) else {
        return;
    };
    let dir = folder();
    let recipe = "kind = \"causal\"\ndata = \"stereoset\"\nview = \"intrasentence-stereotype\"\nupdates = 3\n";
    fs::write(dir.path().join("recipe.toml"), recipe).expect("written");
    let output = bench()
        .args(["tune", "recipe.toml", "out", "--json", "--model"])
        .arg(models.join("gpt2"))
        .env("DEBIAS_BENCH_DATA", data)
        .current_dir(dir.path())
        .output()
        .expect("bench starts");
    assert_eq!(json(&output)["steps"], 3);
    let card = fs::read(dir.path().join("out/training.json")).expect("written");
    let card: Value = serde_json::from_slice(&card).expect("JSON");
    assert_eq!(card["data"]["items"], 2106);
    let differences = card["differences"].as_array().expect("a list");
    assert!(
        differences
            .iter()
            .any(|one| one.as_str().is_some_and(|one| one.contains("attn_pdrop"))),
        "{card}"
    );
}
