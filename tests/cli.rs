//! The command line from outside: help, names, wrong usage, exit status.

mod support;

use std::process::Stdio;

use support::{bench, folder, json, run_in, status, stderr, stdout};

#[test]
fn help_says_what_there_is() {
    let mut text = String::new();
    for command in [
        &["--help"][..],
        &["run", "--help"],
        &["plan", "--help"],
        &["list", "--help"],
        &["show", "--help"],
        &["edit", "--help"],
        &["merge", "--help"],
        &["check-editor", "--help"],
        &["data", "--help"],
        &["data", "list", "--help"],
        &["data", "build", "--help"],
        &["data", "check", "--help"],
        &["pretrain", "--help"],
        &["tune", "--help"],
        &["verify", "--help"],
        &["score", "--help"],
        &["generate", "--help"],
        &["embed", "--help"],
        &["doctor", "--help"],
    ] {
        let dir = folder();
        let output = run_in(dir.path(), command);
        assert_eq!(status(&output), 0);
        assert_eq!(stderr(&output), "");
        text.push_str(&format!(
            "$ bench {}\n{}\n",
            command.join(" "),
            stdout(&output)
        ));
    }
    snapbox::assert_data_eq!(text, snapbox::file!["snapshots/help.txt"]);
}

/// Exit status and standard error of a command that must print nothing else and write nothing.
fn refusal(args: &[&str]) -> String {
    let dir = folder();
    let output = run_in(dir.path(), args);
    assert_eq!(stdout(&output), "");
    let left = std::fs::read_dir(dir.path()).expect("a folder").count();
    assert_eq!(left, 0, "something was written");
    format!("exit {}\n{}", status(&output), stderr(&output))
}

#[test]
fn unknown_names_are_wrong_usage_with_a_suggestion() {
    snapbox::assert_data_eq!(
        refusal(&["run", "--suite", "debias-edit", "--editor", "ftl"]),
        snapbox::str![[r#"
exit 2
error: unknown editor `ftl` — did you mean `ft-l`?
help: `bench list editors` shows what there is.

"#]]
    );
    snapbox::assert_data_eq!(
        refusal(&["run", "--suite", "debias-edt"]),
        snapbox::str![[r#"
exit 2
error: unknown suite `debias-edt` — did you mean `debias-edit`?
help: `bench list suites` shows what there is.

"#]]
    );
    snapbox::assert_data_eq!(
        refusal(&["run", "--suite", "debias-edit", "--model", "tiny-blip"]),
        snapbox::str![[r#"
exit 2
error: unknown model `tiny-blip` — did you mean `tiny-blip2`?
help: `bench list models` shows what there is.

"#]]
    );
    snapbox::assert_data_eq!(
        refusal(&["run", "--suite", "debias-edit", "--dataset", "toytwon"]),
        snapbox::str![[r#"
exit 2
error: unknown dataset `toytwon` — did you mean `toytown`?
help: `bench list datasets` shows what there is.

"#]]
    );
    snapbox::assert_data_eq!(
        refusal(&["run", "--suite", "debias-edit", "--set", "ft-l.stps=3"]),
        snapbox::str![[r#"
exit 2
error: unknown setting `ft-l.stps` — did you mean `ft-l.steps`?
help: `bench show EDITOR` lists an editor's settings.

"#]]
    );
    snapbox::assert_data_eq!(
        refusal(&["show", "ftl"]),
        snapbox::str![[r#"
exit 2
error: unknown name `ftl` — did you mean `ft-l`?
help: `bench list` shows what there is.

"#]]
    );
    for command in ["score", "generate", "embed"] {
        snapbox::assert_data_eq!(
            refusal(&[command, "--model", "tiny-blip"]),
            snapbox::str![[r#"
exit 2
error: unknown model `tiny-blip` — did you mean `tiny-blip2`?
help: `bench list models` shows what there is.

"#]]
        );
    }
    snapbox::assert_data_eq!(
        refusal(&["pretrain", "tiny-blip"]),
        snapbox::str![[r#"
exit 2
error: unknown model `tiny-blip` — did you mean `tiny-blip2`?
help: `bench list models` shows what there is.

"#]]
    );
}

#[test]
fn values_that_cannot_be_used_are_wrong_usage() {
    let run = |more: &[&str]| refusal(&[&["run", "--suite", "debias-edit"], more].concat());
    snapbox::assert_data_eq!(
        run(&["--set", "scorer.norm=max"]),
        snapbox::str![[r#"
exit 2
error: setting `scorer.norm`: "max" is not one of mean, sum

"#]]
    );
    snapbox::assert_data_eq!(
        run(&["--set", "filter.contexts=2"]),
        snapbox::str![[r#"
exit 2
error: setting `filter.contexts`: 2 is not one of 0, 1, 3

"#]]
    );
    snapbox::assert_data_eq!(
        run(&["--set", "template.vqa=Question:"]),
        snapbox::str![[r#"
exit 2
error: setting `template.vqa`: `Question:` must hold {} exactly once, in the place of the text

"#]]
    );
    snapbox::assert_data_eq!(
        run(&["--set", "ft-l.opt=sdg"]),
        snapbox::str![[r#"
exit 2
error: setting `ft-l.opt`: must be adamw, adam, rmsprop or sgd

"#]]
    );
    snapbox::assert_data_eq!(
        run(&["--set", "ft-l.layers=[9]"]),
        snapbox::str![[r#"
exit 2
error: ft-l.layers: layer 9 does not exist; the language model has 4

"#]]
    );
    snapbox::assert_data_eq!(
        run(&["--device", "gpu"]),
        snapbox::str![[r#"
exit 2
error: invalid value 'gpu' for '--device <DEVICE>': unknown device `gpu`; devices are cpu and cuda[:N]

For more information, try '--help'.

"#]]
    );
    snapbox::assert_data_eq!(
        run(&["--dataset", "pairs", "--task", "ic"]),
        snapbox::str![[r#"
exit 2
error: dataset `pairs` has no ic records
help: `bench show pairs` lists its tasks.

"#]]
    );
    snapbox::assert_data_eq!(
        run(&["--data", "toytown"]),
        snapbox::str![[r#"
exit 2
error: --data toytown: expected NAME=DIR
help: For example --data pairs=/data/pairs.

"#]]
    );
}

#[test]
fn a_missing_device_has_its_own_status() {
    snapbox::assert_data_eq!(
        refusal(&["run", "--suite", "debias-edit", "--device", "cuda:1"]),
        snapbox::str![[r#"
exit 6
error: no device `cuda:1`: this build computes on the CPU; `cuda/cargo build --release` builds for NVIDIA cards
help: `bench doctor` lists the devices; without --device, bench computes on the CPU.

"#]]
    );
}

#[test]
fn flags_are_checked_by_the_parser() {
    for args in [
        &["run"][..],
        &["run", "--suite", "debias-edit", "--shard", "3/2"],
        &["run", "--suite", "debias-edit", "--limit", "0"],
        &["run", "--suite", "debias-edit", "--threads", "0"],
        &["run", "--suite", "debias-edit", "--task", "speech"],
        &["list", "models", "-q", "-v"],
        &["no-such-command"],
        &["verify"],
        &["score"],
        &["score", "--model", "tiny-blip2", "--batch-tokens", "0"],
        &[
            "score",
            "--model",
            "tiny-blip2",
            "a.jsonl",
            "--input",
            "b.jsonl",
        ],
        &["generate", "--model", "tiny-blip2", "--image", "a.png"],
        &[
            "generate",
            "--model",
            "tiny-blip2",
            "--prompt",
            "a",
            "b.jsonl",
        ],
        &["embed", "--model", "tiny-blip2", "--text", "a", "b.jsonl"],
    ] {
        assert!(refusal(args).starts_with("exit 2\nerror: "), "{args:?}");
    }
}

#[test]
fn a_dataset_without_its_files_is_refused() {
    snapbox::assert_data_eq!(
        refusal(&["run", "--suite", "debias-edit", "--dataset", "pairs"]),
        snapbox::str![[r#"
exit 4
error: dataset `pairs` needs its files; give their folder with --data pairs=DIR or set DEBIAS_BENCH_DATA

"#]]
    );
    let found = refusal(&[
        "run",
        "--suite",
        "debias-edit",
        "--dataset",
        "pairs",
        "--data",
        "pairs=/nonexistent",
    ]);
    assert!(
        found.starts_with("exit 4\nerror: ") && found.contains("/nonexistent"),
        "{found}"
    );
}

#[test]
fn the_catalogue_lists_and_shows() {
    let dir = folder();
    let list = json(&run_in(dir.path(), &["list", "--json"]));
    for (kind, name) in [
        ("models", "tiny-blip2"),
        ("models", "tiny-minigpt4"),
        ("editors", "ft-l"),
        ("datasets", "toytown"),
        ("suites", "debias-edit"),
        ("metrics", "m_locality"),
    ] {
        let entries = list[kind].as_array().expect(kind);
        assert!(
            entries.iter().any(|entry| entry["name"] == name),
            "{kind} {name}"
        );
        let card = json(&run_in(dir.path(), &["show", name, "--json"]));
        assert!(card.is_object());
        let text = run_in(dir.path(), &["show", name]);
        assert!(stdout(&text).lines().count() > 4);
    }
    let one = json(&run_in(dir.path(), &["list", "editors", "--json"]));
    assert_eq!(one.as_object().map(serde_json::Map::len), Some(1));
}

#[test]
fn the_card_of_an_editor_is_its_manual() {
    let dir = folder();
    let text = stdout(&run_in(dir.path(), &["show", "ft-l"]));
    snapbox::assert_data_eq!(text, snapbox::file!["snapshots/ft-l.txt"]);
}

#[test]
fn doctor_finds_the_embedded_models() {
    let dir = folder();
    let found = json(&run_in(dir.path(), &["doctor", "--json"]));
    for model in found["models"].as_array().expect("models") {
        assert_eq!(model["usable"], true, "{model}");
    }
    assert_eq!(found["devices"][0]["name"], "cpu");
    assert_eq!(found["devices"][1]["name"], "cuda");
    let missing = found["devices"][1]["problem"].as_str().expect("a reason");
    assert!(missing.contains("cuda/cargo build"), "{missing}");
    let text = stdout(&run_in(dir.path(), &["doctor"]));
    assert!(
        text.contains("toytown: usable (generated, needs no file)"),
        "{text}"
    );
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let mut child = bench()
        .args(["list", "metrics"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("bench starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("bench ends");
    assert_eq!((status(&output), stderr(&output).as_str()), (0, ""));
}

#[test]
fn colours_are_a_choice() {
    let dir = folder();
    let colored = run_in(dir.path(), &["show", "ftl", "--color", "always"]);
    assert!(stderr(&colored).contains("\u{1b}["));
    for choice in ["auto", "never"] {
        let plain = run_in(dir.path(), &["show", "ftl", "--color", choice]);
        assert!(!stderr(&plain).contains('\u{1b}'), "{choice}");
    }
}
