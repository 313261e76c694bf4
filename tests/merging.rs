//! Mergers in a suite, from outside: rows beside the editors, merged folders as artifacts, a chart.

mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::{cells, folder, json, run_folder, run_in, status, stderr, stdout};

/// Two mergers, one of them fed with a merge, and one editor.
const SUITE: &str = r#"
    name = "mine"
    edition = "1"
    title = "Merges"
    models = ["tiny-blip2"]
    tasks = ["vqa"]
    editors = ["nothing"]
    dataset = "toytown"

    [merging]
    towards = "inverse"
    grid = { alpha = [0, 0.5] }

    [[intermediates]]
    name = "inverse"
    recipe = """
    merge_method: task_arithmetic
    base_model: ${model}
    models:
      - model: tiny-blip2-amplified
        parameters: { weight: -1 }
    """

    [[mergers]]
    name = "slerp"
    recipe = """
    merge_method: slerp
    base_model: ${model}
    models:
      - model: inverse
    parameters: { t: ${alpha} }
    """

    [[mergers]]
    name = "karcher"
    recipe = """
    merge_method: karcher
    models:
      - model: ${model}
      - model: tiny-blip2-inverted
    """
"#;

/// `mine.toml` in a folder of its own.
fn suite(text: &str) -> tempfile::TempDir {
    let dir = folder();
    fs::write(dir.path().join("mine.toml"), text).expect("writable");
    dir
}

const RUN: [&str; 6] = ["run", "--suite", "mine.toml", "--limit", "4", "--json"];

fn run(dir: &Path, more: &[&str]) -> Value {
    json(&run_in(dir, &[&RUN[..], more].concat()))
}

fn row<'a>(object: &'a Value, name: &str) -> &'a Value {
    let cells = object["cells"].as_array().expect("cells");
    let found = cells.iter().find(|cell| cell["editor"] == name);
    found.unwrap_or_else(|| panic!("{name} is no row of {object}"))
}

fn metric(cell: &Value, name: &str) -> f64 {
    cell["metrics"][name]["value"].as_f64().expect(name)
}

#[test]
fn merges_are_rows_of_the_same_table() {
    let dir = suite(SUITE);
    let object = run(dir.path(), &[]);
    let cells_now = object["cells"].as_array().expect("cells");
    let names: Vec<_> = cells_now.iter().map(|cell| &cell["editor"]).collect();
    let rows = [
        "nothing",
        "slerp α=0",
        "slerp α=0.5",
        "karcher α=0",
        "karcher α=0.5",
    ];
    assert_eq!(names, rows);
    for cell in cells_now {
        assert_eq!(cell["status"], "done", "{}", cell["error"]);
        assert_eq!(cell["n"], 4);
    }

    // All of the base is the base: no number moves.
    let base = row(&object, "slerp α=0");
    assert_eq!(
        base["merge"]["moved"],
        serde_json::json!({"relative": 0.0, "ratio": 0.0})
    );
    for (name, expected) in [
        ("bias", 1.0),
        ("reliability", 0.0),
        ("t_locality", 1.0),
        ("mloc_kl", 0.0),
    ] {
        assert_eq!(metric(base, name), expected, "{name}");
    }
    let nothing = row(&object, "nothing");
    for name in ["neutral_accuracy", "fact_accuracy", "margin_after"] {
        assert_eq!(metric(base, name), metric(nothing, name), "{name}");
    }

    // Half way to the inverse the bias is less, and what is known stays.
    let half = row(&object, "slerp α=0.5");
    let ratio = half["merge"]["moved"]["ratio"].as_f64().expect("a ratio");
    assert!((ratio - 0.5).abs() < 0.02, "{ratio}");
    assert!(metric(half, "margin_after") > metric(nothing, "margin_after"));
    assert_eq!(
        metric(half, "neutral_accuracy_before"),
        metric(nothing, "neutral_accuracy")
    );

    // karcher has no place for α: one model, two rows.
    let karcher = |alpha: &str| row(&object, &format!("karcher α={alpha}")).clone();
    assert_eq!(karcher("0")["metrics"], karcher("0.5")["metrics"]);
    assert_eq!(
        karcher("0")["merge"]["artifact"],
        karcher("0.5")["merge"]["artifact"]
    );
    assert_ne!(karcher("0")["key"], karcher("0.5")["key"]);

    check_folder(dir.path(), half);
}

/// What a run with merges leaves behind.
fn check_folder(dir: &Path, half: &Value) {
    let results = dir.join("results");
    let chart = fs::read_to_string(run_folder(&results).join("merges.svg")).expect("a chart");
    assert!(chart.starts_with("<svg") && chart.contains("karcher"));
    let key = half["merge"]["artifact"].as_str().expect("a key");
    let artifact = results.join("artifacts").join(key);
    assert!(artifact.join("card.json").is_file());
    let model = artifact.join("model");
    let asked = [
        "generate",
        "--prompt",
        "Who keeps the bridge?",
        "--model",
        model.to_str().expect("a path"),
    ];
    assert_eq!(
        status(&run_in(dir, &asked)),
        0,
        "a merged folder is a model"
    );
}

#[test]
fn the_same_again_computes_nothing_and_threads_change_nothing() {
    let dir = suite(SUITE);
    let first = run(dir.path(), &["--threads", "1"]);
    let before = cells(&run_folder(&dir.path().join("results")));
    let again = run_in(dir.path(), &[&RUN[..], &["--threads", "2"]].concat());
    assert_eq!(
        json(&again)["cells"].as_array().map(Vec::len),
        first["cells"].as_array().map(Vec::len)
    );
    assert_eq!(cells(&run_folder(&dir.path().join("results"))), before);

    let other = suite(SUITE);
    run(other.path(), &["--threads", "2"]);
    assert_eq!(cells(&run_folder(&other.path().join("results"))), before);
}

#[test]
fn a_recipe_that_changes_is_another_cell() {
    let key = |text: &str| {
        let dir = suite(text);
        let plan = [
            "plan",
            "--suite",
            "mine.toml",
            "--merger",
            "slerp",
            "--json",
        ];
        json(&run_in(dir.path(), &plan))["cells"][1]["key"].clone()
    };
    let plain = key(SUITE);
    assert_eq!(plain, key(SUITE));
    assert_ne!(
        plain,
        key(&SUITE.replace("weight: -1", "weight: -2")),
        "what it is made from counts"
    );
    assert_ne!(plain, key(&SUITE.replace("0.5]", "0.6]")));
    let of_other = SUITE.replace("tiny-blip2-amplified", "tiny-blip2-inverted");
    assert_ne!(plain, key(&of_other), "the models that are merged count");
}

#[test]
fn flags_narrow_to_rows() {
    let dir = suite(SUITE);
    let names = |more: &[&str]| -> Vec<String> {
        let plan = ["plan", "--suite", "mine.toml", "--json"];
        let object = json(&run_in(dir.path(), &[&plan[..], more].concat()));
        let cells = object["cells"].as_array().expect("cells");
        cells
            .iter()
            .map(|cell| cell["editor"].as_str().expect("a name").to_owned())
            .collect()
    };
    assert_eq!(names(&["--merger", "slerp"]), ["slerp α=0", "slerp α=0.5"]);
    assert_eq!(names(&["--editor", "nothing"]), ["nothing"]);
    let both = names(&["--editor", "nothing", "--merger", "slerp"]);
    assert_eq!(both, ["nothing", "slerp α=0", "slerp α=0.5"]);

    let unknown = run_in(
        dir.path(),
        &["plan", "--suite", "mine.toml", "--merger", "slrp"],
    );
    assert_eq!(status(&unknown), 2);
    assert!(stderr(&unknown).contains("unknown merger `slrp` — did you mean `slerp`?"));
}

#[test]
fn bad_recipes_are_refused_before_any_work() {
    let refused = |from: &str, to: &str| {
        let dir = suite(&SUITE.replace(from, to));
        let output = run_in(dir.path(), &RUN);
        assert!([2, 4].contains(&status(&output)), "{}", stdout(&output));
        assert!(!dir.path().join("results").join("artifacts").exists());
        stderr(&output)
    };
    assert!(refused("${alpha}", "${alhpa}").contains("did you mean `${alpha}`?"));
    assert!(refused("merge_method: slerp", "merge_method: slrp").contains("slerp"));
    assert!(refused("model: inverse", "model: invers").contains("did you mean `inverse`?"));
    assert!(
        refused("name = \"inverse\"", "name = \"tiny-blip2\"").contains("rename the intermediate")
    );
}

#[test]
fn what_a_recipe_holds_in_vain_is_said_once() {
    let dir = suite(&SUITE.replace("merge_method: slerp", "name: mine\n    merge_method: slerp"));
    let output = run_in(
        dir.path(),
        &["plan", "--suite", "mine.toml", "--limit", "4"],
    );
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let said = stderr(&output);
    assert_eq!(said.matches("`name` has no effect").count(), 1, "{said}");
}

#[test]
fn a_merge_that_cannot_be_made_fails_its_rows_alone() {
    // The two models share neither shapes nor tokenizer.
    let dir = suite(&SUITE.replace("tiny-blip2-inverted", "tiny-minigpt4"));
    let output = run_in(dir.path(), &RUN);
    assert_eq!(status(&output), 3, "{}", stderr(&output));
    let object: Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(row(&object, "slerp α=0.5")["status"], "done");
    let failed = row(&object, "karcher α=0");
    assert_eq!(failed["status"], "failed");
    assert!(
        failed["error"]
            .as_str()
            .is_some_and(|error| !error.is_empty())
    );
}

#[test]
fn the_embedded_suite_plans() {
    let dir = folder();
    let object = json(&run_in(
        dir.path(),
        &["plan", "--suite", "debias-merge", "--json"],
    ));
    let cells = object["cells"].as_array().expect("cells");
    for merger in [
        "linear", "slerp", "nuslerp", "karcher", "ties", "della", "nearswap",
    ] {
        for alpha in ["0.1", "0.2", "0.3", "0.4", "0.5"] {
            let name = format!("{merger} α={alpha}");
            assert_eq!(
                cells.iter().filter(|cell| cell["editor"] == name).count(),
                2,
                "{name}"
            );
        }
    }
}
