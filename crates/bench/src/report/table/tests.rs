//! The table and the sentence on a run of two models.

use std::collections::BTreeMap;

use debias_core::{
    BenchmarkIdentity, CellResult, FilterCounts, Norm, Task, measure, metrics, seed,
};

use serde_json::{Value, json};

use crate::fixture::{cell, lines, scores};
use crate::report::{Exporter, Json, Report, RunObject, Table, closing_sentence};

fn report() -> Report {
    let mut cells = Vec::new();
    let mut all = BTreeMap::new();
    for model in ["tiny-blip2", "tiny-minigpt4"] {
        for task in Task::PICTURED {
            for editor in ["nothing", "ft-l", "random"] {
                let mut cell = cell(editor);
                cell.model.id = model.to_owned();
                cell.benchmark = BenchmarkIdentity::editing(task);
                let mut lines = lines();
                if editor != "ft-l" {
                    for line in &mut lines {
                        line.after = Some(scores(-1.0, 10).into());
                    }
                }
                let filter = FilterCounts::default();
                let result = match (model, task, editor) {
                    ("tiny-minigpt4", Task::Ic, "ft-l") => {
                        CellResult::failed(&cell, filter, "the loss is not finite".to_owned())
                    }
                    _ => CellResult {
                        n: lines.len(),
                        metrics: measure(
                            metrics::all(),
                            &lines,
                            Norm::Mean,
                            seed::stream(0, &["t"]),
                        )
                        .expect("finite"),
                        ..CellResult::pending(&cell, filter)
                    },
                };
                all.insert(result.key(), lines);
                cells.push(result);
            }
        }
    }
    Report {
        run: RunObject::new(
            Some(("debias-edit", "2026.1")),
            "results/x".to_owned(),
            cells,
        ),
        lines: all,
        norm: Norm::Mean,
        stand_in: None,
        remarks: vec!["The groups are invented and depict nobody.".to_owned()],
    }
}

#[test]
fn a_wide_terminal_shows_both_blocks_side_by_side() {
    snapbox::assert_data_eq!(
        Table { width: None }.export(&report()),
        snapbox::file!["snapshots/table.txt"]
    );
}

#[test]
fn a_narrow_terminal_shows_one_block_below_the_other() {
    let text = Table { width: Some(80) }.export(&report());
    let longest = text
        .lines()
        .take_while(|line| !line.starts_with("Percent"))
        .map(|line| line.chars().count())
        .max();
    assert!(longest.is_some_and(|longest| longest <= 80), "{text}");
    assert_eq!(text.matches("V-Gen.").count(), 2);
}

#[test]
fn stand_in_locality_is_marked() {
    let report = Report {
        stand_in: Some("pairs-neutral (stand-in)".to_owned()),
        ..report()
    };
    let text = Table { width: None }.export(&report);
    assert!(
        text.contains("M-Loc.*") && text.contains("\n* measured on pairs-neutral (stand-in)\n")
    );
}

#[test]
fn the_sentence_names_the_best_editor_that_is_no_control() {
    let sentence = closing_sentence(&report()).expect("numbers");
    assert!(
        sentence.starts_with("ft-l makes the unbiased answer the likelier one on 75.0% ["),
        "{sentence}"
    );
    assert!(
        sentence
            .ends_with("(12 records, 2 models; a random change of the same norm reaches 0.0%).")
    );
    let mut controls = report();
    controls.run.cells.retain(|cell| cell.row() == "nothing");
    let sentence = closing_sentence(&controls).expect("numbers");
    assert!(sentence.starts_with("nothing makes"), "{sentence}");
    controls.run.cells.clear();
    assert_eq!(closing_sentence(&controls), None);
}

#[test]
fn json_is_one_object_with_plain_fields() {
    let report = report();
    let read: Value = serde_json::from_str(&Json.export(&report)).expect("JSON");
    assert_eq!(read["format"], "1.0");
    let (cell, result) = (&read["cells"][1], &report.run.cells[1]);
    let key = result.key();
    assert_eq!(
        (
            &cell["model"],
            &cell["task"],
            &cell["editor"],
            &cell["batch"]
        ),
        (
            &json!("tiny-blip2"),
            &json!("ic"),
            &json!("ft-l"),
            &json!(1)
        )
    );
    assert_eq!(
        cell["benchmark"],
        json!({"id": "debias-edit", "version": 1, "parts": ["ic"]})
    );
    assert_eq!(cell["variant"]["kind"], "edit");
    assert_eq!(cell["records"], format!("cells/{key}.jsonl"));
    let reliability = result.metrics["reliability"];
    assert_eq!(cell["metrics"]["reliability"], json!(reliability));
}
