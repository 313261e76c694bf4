//! What an evaluation says: one table per benchmark, one object for machines.

use comfy_table::{Cell as GridCell, Row};
use debias_core::{CellResult, Column, Estimate, FORMAT, ItemLine, Status, records_path};
use debias_data::benchmarks::undefined;
use serde_json::{Map, Value, json};

use super::grid::{empty_grid, lines, right};
use super::{percent, printed};
use crate::planner::{PlannedBenchmark, PlannedEval};

/// One table per benchmark, what must be said of it, and one sentence per model.
///
/// # Errors
/// Stored lines that cannot be read.
pub fn table(planned: &PlannedEval, cells: &[CellResult]) -> String {
    let mut sections = Vec::new();
    for benchmark in &planned.benchmarks {
        let asked = |cell: &&CellResult| cell.cell.benchmark == benchmark.identity;
        let cells: Vec<&CellResult> = cells.iter().filter(asked).collect();
        sections.push(grid(benchmark, &cells));
        sections.extend(notes(benchmark, &cells));
        let done = cells.iter().filter(|cell| cell.status == Status::Done);
        sections.extend(done.filter_map(|cell| {
            let said = benchmark.benchmark.sentence(&cell.metrics)?;
            Some(format!("{}: {said}", name(cell)))
        }));
    }
    sections.push(
        "Percent with 95% intervals (bootstrap over clusters of items). `bench show NAME` explains a benchmark; --json has all columns."
            .to_owned(),
    );
    sections.push(format!("Results: {}", planned.folder.path().display()));
    sections.join("\n\n")
}

/// What a row is called: the model, and its variant unless it is the model as it is.
fn name(cell: &CellResult) -> String {
    match cell.row() {
        "base" => cell.model().to_owned(),
        row => format!("{} {row}", cell.model()),
    }
}

/// Rows are models and their variants, columns the benchmark's headline.
fn grid(planned: &PlannedBenchmark, cells: &[&CellResult]) -> String {
    let headline = planned.benchmark.headline();
    let title = match planned.identity.part() {
        part if part.is_empty() => planned.identity.id.clone(),
        part => format!("{} ({part})", planned.identity.id),
    };
    let mark = if planned.opened.official { "" } else { "*" };
    let mut header = Row::from([GridCell::new(format!("{title}{mark}")), right("n")]);
    for column in headline {
        header.add_cell(right(column.replace('.', "\n")));
    }
    let mut grid = empty_grid();
    grid.set_header(header);
    for cell in cells {
        let mut row = Row::from([GridCell::new(name(cell)), right(cell.n)]);
        for column in headline {
            row.add_cell(right(match cell.metrics.get(*column) {
                _ if cell.status == Status::Failed => "failed".to_owned(),
                Some(estimate) => percent(estimate),
                None => "-".to_owned(),
            }));
        }
        grid.add_row(row);
    }
    lines(&mut grid)
}

/// What must be said of the items and the answers, each sentence once.
fn notes(planned: &PlannedBenchmark, cells: &[&CellResult]) -> Vec<String> {
    let mut notes = Vec::new();
    if !planned.opened.official {
        notes.push("* Not the benchmark as released; see the notes.".to_owned());
    }
    if let Some(limit) = cells.iter().find_map(|cell| cell.cell.limit) {
        notes.push(format!(
            "Limited to {limit} of each stratum; not comparable with whole runs."
        ));
    }
    for cell in cells {
        if let Some(error) = &cell.error {
            notes.push(format!("failed: {}: {error}", name(cell)));
        } else if cell.failed > 0 {
            let (failed, records) = (cell.failed, records_path(&cell.key()));
            let name = name(cell);
            notes.push(format!(
                "{name}: {failed} items have no answer and do not count; see {records}"
            ));
        }
        for remark in &cell.remarks {
            let of_data = planned.opened.notes.contains(remark);
            let said = match of_data {
                true => format!("Note: {remark}."),
                false => format!("{}: {remark}.", name(cell)),
            };
            if !notes.contains(&said) {
                notes.push(said);
            }
        }
    }
    notes
}

/// The object of the command-line contract: that of `run`, every column of the benchmark in each cell,
/// `null` with its reason where it is not defined.
///
/// # Errors
/// Stored lines that cannot be read.
pub fn json(planned: &PlannedEval, cells: &[CellResult]) -> anyhow::Result<Value> {
    let mut list = Vec::with_capacity(cells.len());
    for cell in cells {
        let mut object = printed(cell)?;
        if let Some(benchmark) = planned.benchmark(&cell.cell) {
            let lines = planned.folder.lines(cell)?;
            object["metrics"] = metrics(benchmark, cell, &lines);
            object["official"] = json!(benchmark.opened.official);
            object["notes"] = json!(benchmark.opened.notes);
        }
        list.push(object);
    }
    Ok(json!({
        "format": FORMAT,
        "suite": null,
        "edition": null,
        "run": planned.folder.path().display().to_string(),
        "cells": list,
    }))
}

/// A metric as it is printed: its estimate, or why these lines leave it undefined.
pub fn metric(column: &Column, estimate: Option<&Estimate>, lines: &[ItemLine]) -> Value {
    match estimate {
        Some(estimate) => json!(estimate),
        None => json!({
            "value": null,
            "low": null,
            "high": null,
            "n": 0,
            "reason": undefined(column, lines),
        }),
    }
}

fn metrics(planned: &PlannedBenchmark, cell: &CellResult, lines: &[ItemLine]) -> Value {
    let columns = planned.benchmark.columns().iter();
    let metrics: Map<String, Value> = columns
        .map(|column| {
            let value = metric(column, cell.metrics.get(column.id), lines);
            (column.id.to_owned(), value)
        })
        .collect();
    Value::Object(metrics)
}
