//! `bench run` from outside: the contract of its JSON, the run folder, resume, threads, shards.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use support::{cells, folder, json, run_folder, run_in, status, stderr, stdout};

/// A small run: one model, questions, eight records, every editor.
const SMALL: [&str; 12] = [
    "run",
    "--suite",
    "debias-edit",
    "--model",
    "tiny-blip2",
    "--task",
    "vqa",
    "--limit",
    "8",
    "--set",
    "train.steps=4",
    "--json",
];

/// The editors of the suite.
const EVERY: [&str; 8] = [
    "nothing", "random", "ft-l", "ft-v", "ike", "serac", "ke", "mend",
];

fn small(dir: &Path, more: &[&str]) -> Value {
    json(&run_in(dir, &[&SMALL[..], more].concat()))
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn the_json_object_has_the_contracts_shape() {
    let dir = folder();
    let object = small(dir.path(), &[]);
    assert_eq!(
        keys(&object),
        BTreeSet::from(["format", "suite", "edition", "run", "cells"])
    );
    assert_eq!(object["format"], "1.0");
    assert_eq!(object["suite"], "debias-edit");
    let cells = object["cells"].as_array().expect("cells");
    let editors: Vec<_> = cells.iter().map(|cell| cell["editor"].clone()).collect();
    assert_eq!(editors, EVERY);
    for cell in cells {
        for field in [
            "key",
            "status",
            "error",
            "model",
            "task",
            "dataset",
            "editor",
            "train_bias",
            "eval_bias",
            "batch",
            "mode",
            "side",
            "seed",
            "n",
            "metrics",
            "cost",
            "records",
        ] {
            assert!(cell.get(field).is_some(), "{field}");
        }
        assert_eq!(
            (&cell["status"], &cell["error"]),
            (&"done".into(), &Value::Null)
        );
        assert_eq!(
            keys(&cell["cost"]),
            BTreeSet::from(["prepare_s", "edit_s", "score_s", "peak_bytes"])
        );
        for (name, estimate) in cell["metrics"].as_object().expect("metrics") {
            let number = |field: &str| estimate[field].as_f64().expect("a number");
            assert!(
                number("low") <= number("value") && number("value") <= number("high"),
                "{name}"
            );
            assert_eq!(
                keys(estimate),
                BTreeSet::from(["value", "low", "high", "n"])
            );
        }
        check_records(dir.path(), &object, cell);
    }
}

/// Every line of a cell's records has both sides, three contexts and two localities.
fn check_records(dir: &Path, object: &Value, cell: &Value) {
    let run = dir.join(object["run"].as_str().expect("a folder"));
    let path = run.join(cell["records"].as_str().expect("a file"));
    let text = fs::read_to_string(path).expect("the lines are there");
    assert_eq!(cell["n"], text.lines().count());
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(
            keys(&line),
            BTreeSet::from(["id", "bias_type", "before", "after"])
        );
        for side in ["before", "after"] {
            for context in ["prompt", "rephrase", "image_rephrase"] {
                for answer in ["y_more", "y_less"] {
                    let score = &line[side][context][answer];
                    assert!(score["sum"].is_f64() && score["mean"].is_f64());
                }
            }
            for locality in ["t_locality", "m_locality"] {
                let score = &line[side][locality];
                assert!(score["positions"].is_u64() && score["top1_kept"].is_u64());
            }
        }
    }
}

#[test]
fn the_controls_hold() {
    let dir = folder();
    let object = small(dir.path(), &["--editor", "nothing"]);
    let metrics = &object["cells"][0]["metrics"];
    for (name, exact) in [
        ("reliability", 0.0),
        ("t_generality", 0.0),
        ("v_generality", 0.0),
        ("t_locality", 1.0),
        ("m_locality", 1.0),
        ("tloc_kl_all", 0.0),
        ("mloc_kl_all", 0.0),
    ] {
        assert_eq!(metrics[name]["value"], exact, "{name}");
        assert_eq!(metrics[name]["low"], exact, "{name}");
    }
}

#[test]
fn a_vision_edit_leaves_text_alone() {
    let dir = folder();
    let object = small(dir.path(), &["--editor", "ft-v"]);
    let metrics = &object["cells"][0]["metrics"];
    assert_eq!(metrics["t_locality"]["value"], 1.0);
    assert_eq!(metrics["tloc_kl_all"]["value"], 0.0);
}

#[test]
fn the_same_command_again_computes_nothing() {
    let dir = folder();
    let first = small(dir.path(), &["--editor", "ft-l"]);
    let folder = run_folder(&dir.path().join("results"));
    let written = || fs::metadata(folder.join("run.json")).and_then(|file| file.modified());
    let before = written().expect("run.json");
    assert_eq!(small(dir.path(), &["--editor", "ft-l"]), first);
    assert_eq!(written().expect("run.json"), before);
    let fresh = small(dir.path(), &["--editor", "ft-l", "--fresh"]);
    assert_ne!(written().expect("run.json"), before);
    assert_eq!(fresh["cells"][0]["metrics"], first["cells"][0]["metrics"]);
}

#[test]
fn run_json_is_the_object_with_its_provenance() {
    let dir = folder();
    let object = small(dir.path(), &["--editor", "ft-l"]);
    let folder = run_folder(&dir.path().join("results"));
    let text = fs::read_to_string(folder.join("run.json")).expect("run.json");
    let mut stored: Value = serde_json::from_str(&text).expect("JSON");
    let provenance = stored["provenance"].take();
    stored.as_object_mut().map(|map| map.remove("provenance"));
    assert_eq!(stored, object);
    let chart = fs::read_to_string(folder.join("chart.svg")).expect("chart.svg");
    for shown in ["<svg", "tiny-blip2, VQA (8 records)", "ft-l", "m-locality"] {
        assert!(chart.contains(shown), "{shown}");
    }
    for field in [
        "bench", "device", "threads", "host", "config", "models", "data", "seeds", "started",
        "finished",
    ] {
        assert!(!provenance[field].is_null(), "{field}");
    }
    assert_eq!(
        provenance["config"]["editors"]["tiny-blip2"]["ft-l"]["steps"],
        15
    );
}

#[test]
fn threads_and_shards_and_repetition_change_no_byte() {
    let whole = folder();
    small(whole.path(), &["--threads", "1"]);
    let expected = cells(&run_folder(&whole.path().join("results")));
    assert_eq!(expected.len(), 2 * EVERY.len());

    let threaded = folder();
    small(threaded.path(), &["--threads", "3"]);
    assert!(cells(&run_folder(&threaded.path().join("results"))) == expected);

    let sharded = folder();
    for shard in ["1/3", "2/3", "3/3"] {
        small(sharded.path(), &["--shard", shard]);
    }
    let run = run_folder(&sharded.path().join("results"));
    assert!(cells(&run) == expected);
    let text = fs::read_to_string(run.join("run.json")).expect("run.json");
    let stored: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(stored["cells"].as_array().map(Vec::len), Some(EVERY.len()));
}

/// Smaller chunks change last bits at most, and the number of threads not even those.
#[test]
fn a_limit_on_memory_makes_chunks_smaller() {
    let dir = folder();
    let wide = small(dir.path(), &[]);
    let limited = |threads| {
        let dir = folder();
        let found = small(dir.path(), &["--max-memory", "20MiB", "--threads", threads]);
        let run = run_folder(&dir.path().join("results"));
        let text = fs::read_to_string(run.join("run.json")).expect("run.json");
        let stored: Value = serde_json::from_str(&text).expect("JSON");
        let chunk = stored["provenance"]["groups"][0]["chunk"].as_u64();
        (found, chunk.expect("a number"), cells(&run))
    };
    let (narrow, chunk, bytes) = limited("1");
    assert!((1..8).contains(&chunk), "{chunk} records at a time");
    assert!(limited("3").2 == bytes);
    let rows = |object: &Value| object["cells"].as_array().cloned().expect("cells");
    for (wide, narrow) in rows(&wide).iter().zip(&rows(&narrow)) {
        assert_ne!(wide["key"], narrow["key"]);
        let metric = |cell: &Value| cell["metrics"]["reliability"]["value"].as_f64();
        assert_eq!(metric(wide), metric(narrow), "{}", narrow["editor"]);
    }
    let refused = run_in(
        dir.path(),
        &[&SMALL[..], &["--max-memory", "1MiB"]].concat(),
    );
    assert_eq!(status(&refused), 6);
    assert!(stderr(&refused).contains("--max-memory"));
}

/// Half the digits: every editor still runs, the control still holds to the bit, and FT-L still
/// reaches its target, because what it changes is kept in f32.
#[test]
fn numbers_of_half_the_width_change_scores_a_little() {
    let dir = folder();
    let wide = small(dir.path(), &[]);
    let narrow = small(dir.path(), &["--dtype", "bf16"]);
    let rows = |object: &Value| object["cells"].as_array().cloned().expect("cells");
    for (wide, narrow) in rows(&wide).iter().zip(&rows(&narrow)) {
        let editor = narrow["editor"].as_str().expect("a name");
        assert_eq!(narrow["status"], "done", "{editor}");
        assert_ne!(wide["key"], narrow["key"], "{editor}");
        let metric = |cell: &Value, name: &str| cell["metrics"][name]["value"].as_f64();
        if editor == "nothing" {
            assert_eq!(metric(narrow, "t_locality"), Some(1.0));
            assert_eq!(metric(narrow, "m_locality"), Some(1.0));
        }
        if editor == "ft-l" {
            assert!(metric(narrow, "reliability") >= Some(0.85), "{narrow}");
        }
    }
}

#[test]
fn damage_is_noticed_and_repaired() {
    let dir = folder();
    small(dir.path(), &["--editor", "ft-l"]);
    let run = run_folder(&dir.path().join("results"));
    let expected = cells(&run);
    for name in expected.keys() {
        let path = run.join("cells").join(name);
        let text = fs::read_to_string(&path).expect("readable");
        fs::write(&path, &text[..text.len() / 2]).expect("writable");
        let output = run_in(dir.path(), &[&SMALL[..], &["--editor", "ft-l"]].concat());
        assert_eq!(status(&output), 0);
        assert!(
            stderr(&output).contains("the cell is computed again"),
            "{}",
            stderr(&output)
        );
        assert!(cells(&run) == expected, "{name}");
    }
}

#[test]
fn a_newer_format_is_left_alone() {
    let dir = folder();
    small(dir.path(), &["--editor", "nothing"]);
    let run = run_folder(&dir.path().join("results"));
    for (name, bytes) in cells(&run) {
        if name.ends_with(".json") {
            let text = String::from_utf8(bytes).expect("UTF-8");
            let newer = text.replacen("\"format\": \"2.0\"", "\"format\": \"9.0\"", 1);
            fs::write(run.join("cells").join(&name), newer).expect("writable");
        }
    }
    let before = cells(&run);
    let output = run_in(dir.path(), &[&SMALL[..], &["--editor", "nothing"]].concat());
    assert_eq!(status(&output), 5);
    assert!(
        stderr(&output).contains("has format 9.0"),
        "{}",
        stderr(&output)
    );
    assert!(cells(&run) == before);
}

#[test]
fn the_plan_knows_what_is_there() {
    let dir = folder();
    let plan = |more: &[&str]| {
        let mut args = vec!["plan"];
        args.extend(&SMALL[1..]);
        args.extend(more);
        json(&run_in(dir.path(), &args))
    };
    let before = plan(&[]);
    assert_eq!((&before["hits"], &before["misses"]), (&0.into(), &8.into()));
    assert_eq!(before["estimated_s"], Value::Null);
    assert!(
        !dir.path().join("results").exists(),
        "a plan writes nothing"
    );
    small(dir.path(), &["--shard", "1/2"]);
    let after = plan(&[]);
    assert_eq!((&after["hits"], &after["misses"]), (&4.into(), &4.into()));
    assert_eq!(after["run"], before["run"]);
    assert_eq!(
        plan(&["--set", "ft-l.steps=3"])["hits"],
        0,
        "a setting is part of the plan"
    );
    assert_eq!(after["config"]["protocol"]["norm"], "mean");
}

#[test]
fn settings_change_the_numbers_they_name() {
    let dir = folder();
    let metric = |more: &[&str], name: &str| {
        let object = small(dir.path(), &[&["--editor", "ft-l"], more].concat());
        object["cells"][0]["metrics"][name]["value"]
            .as_f64()
            .expect("a number")
    };
    // No step: the base model, exactly.
    assert_eq!(metric(&["--set", "ft-l.steps=0"], "reliability"), 0.0);
    assert_eq!(metric(&["--set", "ft-l.steps=0"], "m_locality"), 1.0);
    assert!(metric(&[], "margin_after") > metric(&["--set", "ft-l.steps=1"], "margin_after"));
    let by_sum = metric(&["--set", "scorer.norm=sum"], "reliability");
    assert_eq!(
        by_sum,
        metric(&["--set", "scorer.norm=sum"], "reliability_sum")
    );
}

#[test]
fn a_suite_of_ones_own_is_a_file() {
    let dir = folder();
    let suite = "name = 'mine'\nedition = '1'\ntitle = 'Mine.'\nmodels = ['tiny-minigpt4']\n\
                 tasks = ['ic']\neditors = ['nothing', 'ft-l']\ndataset = 'toytown'\n\
                 seeds = [1, 2]\n[settings.ft-l]\nsteps = 2\n[settings.scorer]\nnorm = 'sum'\n";
    fs::write(dir.path().join("mine.toml"), suite).expect("writable");
    let args = ["--suite", "mine.toml", "--limit", "4", "--json"];
    let object = json(&run_in(dir.path(), &[&["run"], &args[..]].concat()));
    let seeds: Vec<_> = object["cells"]
        .as_array()
        .expect("cells")
        .iter()
        .map(|cell| (cell["seed"].clone(), cell["n"].clone()))
        .collect();
    let four = |seed: u64| (Value::from(seed), Value::from(4));
    assert_eq!(seeds, [four(1), four(1), four(2), four(2)]);
    let plan = [&["plan"], &args[..], &["--set", "ft-l.steps=3"]].concat();
    let config = json(&run_in(dir.path(), &plan))["config"].take();
    assert_eq!(
        config["editors"]["tiny-minigpt4"]["ft-l"]["steps"], 3,
        "the command line goes last"
    );
    assert_eq!(config["protocol"]["norm"], "sum");
}

#[test]
fn the_papers_protocol_learns_from_the_training_split() {
    let dir = folder();
    let object = small(dir.path(), &["--preset", "paper", "--editor", "ft-l"]);
    let cell = &object["cells"][0];
    assert_eq!(cell["status"], "done", "{}", cell["error"]);
    assert!(cell["cost"]["prepare_s"].as_f64().expect("seconds") > 0.0);
    assert!(
        cell["metrics"]["m_locality"]["value"]
            .as_f64()
            .expect("a number")
            < 1.0
    );
}

#[test]
fn a_shard_without_cells_is_no_failure() {
    let dir = folder();
    let object = small(dir.path(), &["--editor", "nothing", "--shard", "1/9"]);
    assert_eq!(object["cells"].as_array().map(Vec::len), Some(0));
}

#[test]
fn an_editor_that_diverges_fails_its_cell_and_nothing_else() {
    let dir = folder();
    let args = [
        &SMALL[..],
        &[
            "--editor",
            "nothing",
            "--editor",
            "ft-l",
            "--set",
            "ft-l.lr=1e30",
            "--set",
            "ft-l.opt=sgd",
        ],
    ]
    .concat();
    let output = run_in(dir.path(), &args);
    assert_eq!(status(&output), 3, "{}", stderr(&output));
    let object: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(object["cells"][0]["status"], "done");
    assert_eq!(object["cells"][1]["status"], "failed");
    let error = object["cells"][1]["error"].as_str().expect("an error");
    assert!(error.contains("not finite"), "{error}");
    let folder = run_folder(&dir.path().join("results"));
    let text = fs::read_to_string(folder.join("run.json")).expect("run.json");
    assert!(!text.contains("NaN") && !text.contains("inf"));
}

#[test]
fn the_table_ends_with_a_sentence_and_the_folder() {
    let dir = folder();
    let output = run_in(dir.path(), &SMALL[..9]);
    assert_eq!(status(&output), 0);
    let text = stdout(&output);
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
    assert!(
        lines[lines.len() - 1].starts_with("Results: results/debias-edit-"),
        "{text}"
    );
    assert!(
        lines[lines.len() - 2].contains("of the image-locality ranks"),
        "{text}"
    );
    assert_eq!(
        stderr(&output).lines().count(),
        EVERY.len(),
        "one line per finished cell"
    );
    let quiet = run_in(dir.path(), &[&SMALL[..9], &["-q"]].concat());
    assert_eq!((stdout(&quiet), stderr(&quiet)), (text, String::new()));
}
