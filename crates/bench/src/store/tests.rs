//! A stored cell is whole, verified, and free of timings.

use super::*;
use crate::fixture::{cell, lines};
use debias_core::{FilterCounts, measure, metrics, seed};

fn plan() -> Plan {
    Plan::new(vec![cell("ft-l")])
}

fn result(cell: &Cell, edit_s: f64) -> CellResult {
    let lines = lines();
    let rng = seed::stream(0, &["test"]);
    CellResult {
        n: lines.len(),
        metrics: measure(metrics::all(), &lines, cell.protocol.norm, rng).expect("finite"),
        cost: Some(Cost {
            edit_s,
            ..Cost::default()
        }),
        ..CellResult::pending(cell, FilterCounts::default())
    }
}

/// A folder that holds the one cell of [`plan`].
fn stored() -> (tempfile::TempDir, RunFolder, Cell) {
    let out = tempfile::tempdir().expect("a temporary folder");
    let folder = RunFolder::of(out.path(), "suite", &plan());
    let cell = cell("ft-l");
    folder
        .put(&cell, &result(&cell, 1.5), &lines(), &[])
        .expect("stored");
    (out, folder, cell)
}

fn damage(folder: &RunFolder, cell: &Cell, extension: &str, change: impl Fn(String) -> String) {
    let path = folder.file(&cell.key(), extension);
    let text = fs::read_to_string(&path).expect("stored");
    fs::write(&path, change(text)).expect("writable");
}

fn damaged(folder: &RunFolder, cell: &Cell) -> String {
    match folder.get(cell).expect("readable") {
        Lookup::Damaged(problem) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_each_record_cost_stands_beside_the_cell() {
    let (_out, folder, cell) = stored();
    let cost = RecordCost {
        id: "a".to_owned(),
        edit_s: 0.25,
        score_s: 0.5,
        bytes: Some(4096),
        peak_bytes: 1 << 20,
    };
    let one = std::slice::from_ref(&cost);
    folder
        .put(&cell, &result(&cell, 1.5), &lines(), one)
        .expect("stored");
    let text = fs::read(folder.file(&cell.key(), "run.json")).expect("stored");
    let found: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    assert_eq!(found["edit_s"], 1.5);
    let found: Vec<RecordCost> =
        serde_json::from_value(found["per_record"].clone()).expect("one cost per record");
    assert_eq!(found, [cost]);
}

#[test]
fn what_was_stored_is_found_again() {
    let (_out, folder, cell) = stored();
    let expected = Lookup::Hit(Box::new(result(&cell, 1.5)));
    assert_eq!(folder.get(&cell).expect("readable"), expected);
    assert_eq!(
        folder.lines(&result(&cell, 0.0)).expect("readable"),
        lines()
    );
}

#[test]
fn another_cell_is_a_miss() {
    let (_out, folder, _) = stored();
    assert_eq!(folder.get(&cell("ft-v")).expect("readable"), Lookup::Miss);
}

#[test]
fn timings_do_not_change_the_stored_bytes() {
    let (_out, folder, cell) = stored();
    let bytes = |extension| fs::read(folder.file(&cell.key(), extension)).expect("stored");
    let (json, jsonl) = (bytes("json"), bytes("jsonl"));
    folder
        .put(&cell, &result(&cell, 99.0), &lines(), &[])
        .expect("stored again");
    assert_eq!((bytes("json"), bytes("jsonl")), (json, jsonl));
}

#[test]
fn damaged_files_are_noticed() {
    let (_out, folder, cell) = stored();
    damage(&folder, &cell, "jsonl", |text| text.replacen("-2", "-3", 1));
    assert!(damaged(&folder, &cell).contains("not those it was computed from"));

    let (_out, folder, cell) = stored();
    damage(&folder, &cell, "json", |text| {
        text[..text.len() / 2].to_owned()
    });
    assert!(damaged(&folder, &cell).contains("EOF while parsing"));

    let (_out, folder, cell) = stored();
    damage(&folder, &cell, "json", |text| {
        text.replacen("\"seed\": 0", "\"seed\": 1", 1)
    });
    assert!(damaged(&folder, &cell).contains("it belongs to another cell"));

    let (_out, folder, cell) = stored();
    fs::remove_file(folder.file(&cell.key(), "run.json")).expect("there");
    assert!(damaged(&folder, &cell).contains("its cost cannot be read"));
}

#[test]
fn a_failure_is_stored_and_tried_again() {
    let (_out, folder, cell) = stored();
    let failed = CellResult::failed(&cell, FilterCounts::default(), "no gradient".to_owned());
    folder.put(&cell, &failed, &[], &[]).expect("stored");
    let found = folder.get(&cell).expect("readable");
    let expected = CellResult {
        cost: Some(Cost::default()),
        ..failed
    };
    assert_eq!(found, Lookup::Failed(Box::new(expected)));
}

#[test]
fn a_newer_format_is_refused_with_status_5() {
    let (_out, folder, cell) = stored();
    damage(&folder, &cell, "json", |text| {
        text.replacen("\"1.0\"", "\"2.0\"", 1)
    });
    let error = folder.get(&cell).expect_err("newer");
    let (exit, help) = crate::failure::classify(&error);
    assert_eq!(exit, Exit::NewerFormat);
    assert!(help.is_some_and(|help| help.starts_with("Upgrade bench")));
}

#[test]
fn the_folder_is_named_by_the_plan() {
    let folder = RunFolder::of(Path::new("results"), "debias-edit", &plan());
    let name = folder.path().file_name().and_then(|name| name.to_str());
    let expected = format!("debias-edit-{}", &plan().digest()[..12]);
    assert_eq!(name, Some(expected.as_str()));
}

#[test]
fn checking_leaves_no_trace_and_a_file_is_no_folder() {
    let out = tempfile::tempdir().expect("a temporary folder");
    let folder = RunFolder::of(&out.path().join("deep/er"), "suite", &plan());
    folder.check_writable().expect("writable");
    assert_eq!(fs::read_dir(out.path()).expect("there").count(), 0);

    let file = out.path().join("file");
    fs::write(&file, "x").expect("writable");
    let error = RunFolder::of(&file, "suite", &plan())
        .check_writable()
        .expect_err("a file");
    assert_eq!(crate::failure::classify(&error).0, Exit::Refused);
    assert!(error.to_string().starts_with("cannot write results below"));
}
