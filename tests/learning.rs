//! Editors that learn: artifacts that are kept and used again, batches, sequences and gaps.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{folder, json, run_folder, run_in, status, stderr};

const MEND: [&str; 14] = [
    "--suite",
    "debias-edit",
    "--task",
    "vqa",
    "--editor",
    "mend",
    "--limit",
    "6",
    "--set",
    "train.steps=4",
    "--set",
    "train.val_every=2",
    "--json",
    "-q",
];

fn run(dir: &Path, more: &[&str]) -> Value {
    json(&run_in(dir, &[&["run"], &MEND[..], more].concat()))
}

fn artifacts(dir: &Path) -> Vec<PathBuf> {
    let folder = dir.join("results/artifacts");
    let entries = fs::read_dir(folder).expect("artifacts");
    entries
        .map(|entry| entry.expect("readable").path())
        .collect()
}

#[test]
fn what_was_learned_is_kept_listed_and_used_again() {
    let dir = folder();
    let blip2 = ["--model", "tiny-blip2"];
    let plan = || {
        let plan = run_in(dir.path(), &[&["plan"], &MEND[..], &blip2].concat());
        json(&plan)["cells"][0]["trained_part"]["status"].clone()
    };
    assert_eq!(plan(), "missing");
    let first = run(dir.path(), &blip2);
    assert_eq!(plan(), "ready");
    let kept = artifacts(dir.path());
    assert_eq!(kept.len(), 1);
    for file in [
        "best.safetensors",
        "last.safetensors",
        "history.json",
        "curve.svg",
    ] {
        assert!(kept[0].join(file).is_file(), "{file}");
    }
    assert!(
        !kept[0].join("state.safetensors").exists(),
        "it came to its end"
    );
    let curve = run_folder(&dir.path().join("results")).join("training/tiny-blip2-vqa-mend.svg");
    assert!(curve.is_file());
    // Another scorer is another cell, and, because records are admitted by it, another training;
    // batches share what was learned.
    let batched = run(
        dir.path(),
        &[&blip2[..], &["--batch", "2", "--batch", "4"]].concat(),
    );
    assert_eq!(artifacts(dir.path()).len(), 1);
    let cells = batched["cells"].as_array().expect("cells");
    let modes: Vec<_> = cells
        .iter()
        .map(|cell| (&cell["batch"], &cell["mode"]))
        .collect();
    assert_eq!(
        modes,
        [
            (&2.into(), &"joint".into()),
            (&2.into(), &"sequential".into()),
            (&4.into(), &"joint".into()),
            (&4.into(), &"sequential".into()),
        ]
    );
    let of_four = &cells[3];
    assert_eq!(
        of_four["n"], 4,
        "the last group of two is left out of the metrics"
    );
    let retention = of_four["retention"].as_array().expect("a curve");
    let after: Vec<_> = retention
        .iter()
        .map(|kept| kept["edits_after"].clone())
        .collect();
    assert_eq!(after, [0, 1, 2, 3]);

    let gaps = run(
        dir.path(),
        &[&blip2[..], &["--gap", "0", "--gap", "2"]].concat(),
    );
    let counts = gaps["cells"].as_array().expect("cells").iter();
    let counts: Vec<_> = counts.map(|cell| (&cell["gap"], &cell["n"])).collect();
    assert_eq!(counts, [(&0.into(), &6.into()), (&2.into(), &4.into())]);
    assert_eq!(first["cells"][0]["n"], 6);
}

#[test]
fn parts_of_another_model_are_refused_and_the_run_goes_on() {
    let dir = folder();
    run(dir.path(), &["--model", "tiny-blip2"]);
    let part = artifacts(dir.path())[0].join("best.safetensors");
    let given = format!("mend.trained={}", part.display());
    let both = [
        "--model",
        "tiny-minigpt4",
        "--editor",
        "nothing",
        "--set",
        &given,
    ];
    let output = run_in(dir.path(), &[&["run"], &MEND[..], &both].concat());
    assert_eq!(status(&output), 3, "{}", stderr(&output));
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let error = found["cells"][0]["error"].as_str().expect("a reason");
    assert!(error.contains("trained for another model"), "{error}");
    assert_eq!(found["cells"][1]["status"], "done");
}

#[test]
fn a_site_that_the_model_lacks_is_refused_with_the_nearest_name() {
    let dir = folder();
    let sites = r#"mend.sites=["language_model.model.decoder.layers.3.fc1.wieght"]"#;
    let more = ["--model", "tiny-blip2", "--set", sites];
    let output = run_in(dir.path(), &[&["run"], &MEND[..], &more].concat());
    assert_ne!(status(&output), 0);
    let text = stderr(&output);
    assert!(
        text.contains("did you mean `language_model.model.decoder.layers.3.fc1.weight`"),
        "{text}"
    );
}

#[test]
fn biasedit_runs_beside_the_editors_of_the_suite_and_brings_answers_together() {
    let dir = folder();
    let args = [
        "run",
        "--suite",
        "debias-edit",
        "--model",
        "tiny-blip2",
        "--task",
        "vqa",
        "--editor",
        "biasedit",
        "--limit",
        "8",
        "--set",
        "biasedit.steps=20",
        "--json",
        "-q",
    ];
    let object = json(&run_in(dir.path(), &args));
    let metrics = &object["cells"][0]["metrics"];
    let value = |name: &str| metrics[name]["value"].as_f64().expect("a number");
    assert!(
        value("balance") < 0.5 * value("balance_before"),
        "{metrics}"
    );
    assert!(value("t_locality") > 0.9, "{metrics}");
}
