//! `bench check-editor` from outside: what it prints, and what its exit status says.

mod support;

use serde_json::Value;
use support::{folder, json, run_in, status, stderr, stdout};

/// The quickest check of an editor: one model, three records.
fn quick<'a>(name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let check = [
        "check-editor",
        name,
        "--model",
        "tiny-blip2",
        "--limit",
        "3",
    ];
    [&check[..], more].concat()
}

fn verdicts<'v>(report: &'v Value, id: &str) -> &'v str {
    let findings = report["models"][0]["findings"]
        .as_array()
        .expect("findings");
    let finding = findings.iter().find(|finding| finding["id"] == id);
    finding.expect(id)["verdict"].as_str().expect("a verdict")
}

#[test]
fn an_editor_that_conforms_passes_in_another_process_too() {
    let dir = folder();
    let report = json(&run_in(dir.path(), &quick("ft-l", &["--json"])));
    assert_eq!(report["ok"], true, "{report:#}");
    assert_eq!(report["editor"], "ft-l");
    assert_eq!(report["models"][0]["model"], "tiny-blip2");
    let findings = report["models"][0]["findings"]
        .as_array()
        .expect("findings");
    assert_eq!(findings.len(), 20);
    let determinism = findings[3]["detail"].as_str().expect("a detail");
    assert!(determinism.contains("in another process"), "{determinism}");
    assert_eq!(verdicts(&report, "C7"), "passed");
    assert_eq!(verdicts(&report, "C6"), "not_applicable");
    let left = std::fs::read_dir(dir.path()).expect("a folder").count();
    assert_eq!(left, 0, "a check writes nothing");
}

#[test]
fn the_table_says_why_a_property_does_not_apply() {
    let dir = folder();
    let output = run_in(dir.path(), &quick("nothing", &[]));
    assert_eq!((status(&output), stderr(&output).as_str()), (0, ""));
    let text = stdout(&output);
    assert!(text.starts_with("nothing on tiny-blip2, vqa: "), "{text}");
    assert!(
        text.contains("C7   effect               n. a.   it is a control"),
        "{text}"
    );
    assert!(text.contains(" 0 failed, "), "{text}");
}

#[test]
fn a_missing_property_is_exit_status_1() {
    let dir = folder();
    let still = ["--set", "ft-l.lr=0", "--json"];
    let output = run_in(dir.path(), &quick("ft-l", &still));
    assert_eq!(status(&output), 1);
    let report: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(report["ok"], false);
    assert_eq!(
        verdicts(&report, "C5"),
        "failed",
        "parameters are declared and keep their values"
    );
    assert_eq!(verdicts(&report, "C7"), "failed", "no margin moves");
}

#[test]
fn names_and_settings_are_checked_first() {
    let dir = folder();
    for (args, message) in [
        (
            quick("ftl", &[]),
            "unknown editor `ftl` — did you mean `ft-l`?",
        ),
        (
            quick("ft-l", &["--set", "ft-l.stps=1"]),
            "unknown setting `ft-l.stps`",
        ),
        (
            quick("ft-l", &["--set", "ft-l.layers=[9]"]),
            "layer 9 does not exist",
        ),
    ] {
        let output = run_in(dir.path(), &args);
        assert_eq!(status(&output), 2, "{args:?}");
        assert!(stderr(&output).contains(message), "{}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
}
