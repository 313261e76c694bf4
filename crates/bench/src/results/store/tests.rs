//! A stored cell is whole, verified, and free of timings.

use super::*;
use crate::fixture::{cell, lines};
use debias_core::FilterCounts;
use serde_json::{Value, json};

fn plan() -> Plan {
    Plan::new(vec![cell("ft-l")])
}

fn result(cell: &Cell, edit_s: f64) -> CellResult {
    let pending = CellResult::pending(cell, FilterCounts::default());
    CellResult {
        cost: Some(Cost {
            edit_s,
            ..Cost::default()
        }),
        ..measured(pending, &lines()).expect("finite")
    }
}

/// A folder that holds the one cell of [`plan`].
fn stored() -> (tempfile::TempDir, RunFolder, Cell) {
    let out = tempfile::tempdir().expect("a temporary folder");
    let folder = RunFolder::of(out.path(), "suite", &plan());
    let cell = cell("ft-l");
    folder
        .put(&result(&cell, 1.5), &lines(), &[])
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
        .put(&result(&cell, 1.5), &lines(), one)
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
        .put(&result(&cell, 99.0), &lines(), &[])
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
    folder.put(&failed, &[], &[]).expect("stored");
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
        text.replacen("\"2.0\"", "\"3.0\"", 1)
    });
    let error = folder.get(&cell).expect_err("newer");
    let (exit, help) = crate::terminal::failure::classify(&error);
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
    assert_eq!(crate::terminal::failure::classify(&error).0, Exit::Refused);
    assert!(error.to_string().starts_with("cannot write results below"));
}

/// Changes the JSON of the stored cell.
fn rewrite(folder: &RunFolder, cell: &Cell, change: impl Fn(&mut Value)) {
    damage(folder, cell, "json", |text| {
        let mut value: Value = serde_json::from_str(&text).expect("JSON");
        change(&mut value);
        value.to_string()
    });
}

#[test]
fn a_new_column_is_measured_from_the_stored_lines() {
    let (_out, folder, cell) = stored();
    rewrite(&folder, &cell, |stored| {
        for part in ["metrics", "versions"] {
            let columns = stored[part].as_object_mut().expect("columns");
            columns.remove("balance").expect("it was measured");
        }
    });
    let whole = result(&cell, 1.5);
    let Lookup::Measured(found, again) = folder.get(&cell).expect("readable") else {
        panic!("the column is missing");
    };
    assert_eq!(*found, whole);
    assert_eq!(again, Again::Columns(vec!["balance".to_owned()]));
    folder.keep(&found, &again).expect("kept");
    assert_eq!(
        folder.get(&cell).expect("readable"),
        Lookup::Hit(Box::new(whole))
    );
}

#[test]
fn a_column_of_a_newer_bench_is_refused_with_status_5() {
    let (_out, folder, cell) = stored();
    rewrite(&folder, &cell, |stored| {
        stored["versions"]["reliability"] = json!(99)
    });
    let error = folder.get(&cell).expect_err("newer");
    assert_eq!(
        crate::terminal::failure::classify(&error).0,
        Exit::NewerFormat
    );
    assert!(
        error.to_string().contains("`reliability` is of version 99"),
        "{error}"
    );
}

#[test]
fn a_cell_of_format_1_is_found_by_the_key_it_had() {
    let (out, folder, cell) = stored();
    let lines = fs::read(folder.file(&cell.key(), "jsonl")).expect("stored");
    let described = earlier::description(&cell).expect("an edit");
    assert_eq!(
        (&described["task"], &described["batch"]),
        (&json!("vqa"), &json!(1))
    );
    let key = sha256_hex(debias_core::canonical_json(&described).as_bytes());
    let old = out.path().join("suite-of-format-1/cells");
    fs::create_dir_all(&old).expect("a folder");
    let file = |extension: &str| old.join(format!("{key}.{extension}"));
    let stored = json!({
        "format": "1.0",
        "cell": described,
        "records_sha256": sha256_hex(&lines),
        "key": key,
        "status": "done",
        "error": null,
        "filter": FilterCounts::default(),
    });
    fs::write(file("json"), stored.to_string()).expect("written");
    fs::write(file("jsonl"), &lines).expect("written");
    fs::write(file("run.json"), json!(Cost::default()).to_string()).expect("written");

    let fresh = RunFolder::of(out.path(), "another", &plan());
    let Lookup::Measured(found, again) = fresh.get(&cell).expect("readable") else {
        panic!("format 1 is not found");
    };
    assert_eq!(found.metrics, result(&cell, 0.0).metrics);
    fresh.keep(&found, &again).expect("kept");
    assert_eq!(fresh.get(&cell).expect("readable"), Lookup::Hit(found));
    assert_eq!(
        fresh.lines(&result(&cell, 0.0)).expect("readable"),
        self::lines()
    );
}

#[test]
fn a_claim_keeps_others_waiting_until_it_is_dropped() {
    let out = tempfile::tempdir().expect("a temporary folder");
    let folder = RunFolder::of_bases(out.path());
    let key = cell("ft-l").key();
    let claim = folder.claim(&key).expect("free");
    let (sent, received) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _second = folder.claim(&key).expect("free in the end");
            sent.send(()).expect("somebody listens");
        });
        let waiting = received.recv_timeout(std::time::Duration::from_millis(200));
        assert!(waiting.is_err(), "the second has what the first holds");
        drop(claim);
        received.recv().expect("the second goes on");
    });
}
