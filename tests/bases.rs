//! What the never-edited model answers is computed once, and a new column without any model.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use support::{bench, cells, edit_json, folder, json, run_folder, run_in, status, stderr};

/// Questions on one model, eight records, said in detail.
const ARGS: [&str; 11] = [
    "run",
    "--suite",
    "debias-edit",
    "--model",
    "tiny-blip2",
    "--task",
    "vqa",
    "--limit",
    "8",
    "--json",
    "-v",
];

/// What is said when the base model is asked.
const ASKED: &str = "tiny-blip2 vqa+eval base: filtering";

fn args(editor: &str) -> Vec<&str> {
    [&ARGS[..], &["--editor", editor]].concat()
}

/// The files of base answers below `dir`, without what only says what they cost.
fn bases(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = cells(&dir.join("results/base"));
    files.retain(|name, _| !name.ends_with(".lock"));
    files
}

#[test]
fn editors_share_the_answers_of_the_base() {
    let dir = folder();
    let first = run_in(dir.path(), &args("nothing"));
    assert!(stderr(&first).contains(ASKED), "{}", stderr(&first));
    let stored = bases(dir.path());
    assert_eq!(stored.len(), 2, "a cell and its lines: {:?}", stored.keys());

    let second = run_in(dir.path(), &args("ft-l"));
    assert!(!stderr(&second).contains(ASKED), "{}", stderr(&second));
    assert_eq!(bases(dir.path()), stored);

    let alone = folder();
    json(&run_in(alone.path(), &args("ft-l")));
    let of_both = json(&second)["run"].as_str().expect("a folder").to_owned();
    assert_eq!(
        cells(&dir.path().join(of_both)),
        cells(&run_folder(&alone.path().join("results"))),
        "shared answers change no byte"
    );
}

#[test]
fn two_processes_ask_the_base_once() {
    let dir = folder();
    let start = |editor: &str| {
        bench()
            .args(args(editor))
            .current_dir(dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("bench starts")
    };
    let children = [start("nothing"), start("random")];
    let outputs = children.map(|child| child.wait_with_output().expect("bench ends"));
    for output in &outputs {
        assert_eq!(status(output), 0, "{}", stderr(output));
    }
    let asked = outputs
        .iter()
        .filter(|output| stderr(output).contains(ASKED));
    assert_eq!(asked.count(), 1);
}

#[test]
fn damaged_answers_are_asked_for_again() {
    let dir = folder();
    json(&run_in(dir.path(), &args("nothing")));
    let stored = bases(dir.path());
    let lines = stored.keys().find(|name| name.ends_with(".jsonl"));
    let lines = dir
        .path()
        .join("results/base/cells")
        .join(lines.expect("lines"));
    let text = fs::read_to_string(&lines).expect("readable");
    fs::write(&lines, &text[..text.len() / 2]).expect("writable");
    let again = run_in(dir.path(), &args("ft-l"));
    assert!(
        stderr(&again).contains("the base model is asked again"),
        "{}",
        stderr(&again)
    );
    assert_eq!(bases(dir.path()), stored);
}

/// As if the columns had been defined after the run.
fn forget_columns(cell: &mut Value) {
    for part in ["metrics", "versions"] {
        let columns = cell[part].as_object_mut().expect("columns");
        columns.retain(|name, _| name != "balance" && name != "ties");
    }
    cell["versions"]["bias"] = 0.into();
    cell["metrics"]["bias"]["value"] = 0.125.into();
}

#[test]
fn a_new_column_costs_no_pass() {
    let dir = folder();
    let first = json(&run_in(dir.path(), &args("ft-l")));
    let run = run_folder(&dir.path().join("results"));
    let stored = cells(&run);
    for name in stored.keys().filter(|name| name.ends_with(".json")) {
        edit_json(&run.join("cells").join(name), forget_columns);
    }
    let output = run_in(dir.path(), &args("ft-l"));
    let said = stderr(&output);
    assert!(
        said.contains(
            "Measured 1 cell again from stored lines, without a model: balance, bias, ties is new or changed."
        ),
        "{said}"
    );
    assert_eq!(
        json(&output)["cells"][0]["metrics"],
        first["cells"][0]["metrics"]
    );
    assert_eq!(cells(&run), stored, "kept as if they had always been there");
    let text = fs::read_to_string(run.join("run.json")).expect("run.json");
    let text: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(text["provenance"]["passes"], 0);
}
