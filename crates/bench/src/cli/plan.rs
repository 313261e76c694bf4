//! `bench plan`: what `run` would do, without doing it.

use anyhow::Context;
use comfy_table::Table as Grid;
use debias_core::{Cell, Split};
use debias_edit::Learns;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Selection, Session};
use crate::planner::{Planned, PlannedEditor};
use crate::results::artifacts::Identity;
use crate::results::history::History;
use crate::results::store::Lookup;
use crate::terminal::exit::Exit;
use crate::terminal::interrupt::Interrupt;

/// Show what `run` would compute: cells, hits, misses, cost, merged settings
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bench plan --suite debias-edit
  bench plan --suite debias-edit --preset paper --set ft-v.steps=5 --json")]
pub struct Args {
    #[command(flatten)]
    selection: Selection,
}

/// An artifact that a cell needs.
#[derive(Debug, Serialize)]
struct TrainedPart {
    key: String,
    status: &'static str,
}

/// A cell as planned.
#[derive(Debug, Serialize)]
struct Row {
    key: String,
    status: &'static str,
    model: String,
    task: String,
    dataset: String,
    editor: String,
    seed: u64,
    /// Records that may be edited, before the model's own filter.
    candidates: usize,
    /// What the editor trains first, for editors that train; the merged model of a merge.
    trained_part: Option<TrainedPart>,
    /// Worker seconds, from cells finished here before; absent when there are none.
    estimated_s: Option<f64>,
}

impl Args {
    pub(super) fn execute(self, session: Session) -> anyhow::Result<Exit> {
        let planned = Planned::new(&self.selection.request()?, &Interrupt::default())?;
        for warning in planned.recipe_warnings() {
            session.printer.warn(&warning);
        }
        let history = History::read(&self.selection.common.out);
        let rows = planned
            .shard
            .cells
            .iter()
            .map(|cell| row(&planned, cell, &history))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let hits = rows.iter().filter(|row| row.status == "hit").count();
        let missing = || rows.iter().filter(|row| row.status != "hit");
        let estimated: Option<f64> = missing().map(|row| row.estimated_s).sum();
        match session.json {
            true => session.print_json(&json!({
                "format": debias_core::FORMAT,
                "suite": planned.suite.name,
                "edition": planned.suite.edition,
                "run": planned.folder.path().display().to_string(),
                "hits": hits,
                "misses": rows.len() - hits,
                "estimated_s": estimated,
                "config": planned.config(),
                "cells": rows,
            }))?,
            false => {
                let cost = match estimated {
                    Some(seconds) => format!("about {seconds:.0} worker seconds"),
                    None => "cost unknown until such cells have run here once".to_owned(),
                };
                let text = format!(
                    "{}\n\n{} cells: {hits} hits, {} misses, {cost}.\nRun folder: {}\n\nSettings:\n{}",
                    grid(&rows),
                    rows.len(),
                    rows.len() - hits,
                    planned.folder.path().display(),
                    settings(&planned.config(), "  "),
                );
                session.printer.result(&text)?;
            }
        }
        Ok(Exit::Done)
    }
}

fn row(planned: &Planned, cell: &Cell, history: &History) -> anyhow::Result<Row> {
    let status = match planned.folder.get(cell)? {
        Lookup::Hit(_) | Lookup::Measured(..) => "hit",
        Lookup::Miss => "miss",
        Lookup::Failed(_) => "failed",
        Lookup::Damaged(_) => "damaged",
    };
    let mut candidates = 0;
    if let Some(data) = planned.data.iter().find(|data| data.seed == cell.seed) {
        let task = cell.benchmark.task().context("a suite edits")?;
        let records = data.collection.records(task)?;
        candidates = records
            .iter()
            .filter(|record| record.split == Split::Eval)
            .count()
            .min(planned.limit.unwrap_or(usize::MAX));
    }
    Ok(Row {
        key: cell.key().to_string(),
        status,
        model: cell.model.id.clone(),
        task: cell.benchmark.part(),
        dataset: cell.dataset.id.clone(),
        editor: cell.variant.name().to_owned(),
        seed: cell.seed,
        candidates,
        trained_part: trained_part(planned, cell),
        estimated_s: history.estimate(cell, candidates),
    })
}

/// The artifact of a cell that is a merge, or whose editor trains parts of its own, unless they are
/// given as a file.
fn trained_part(planned: &Planned, cell: &Cell) -> Option<TrainedPart> {
    let of_model = planned.models.iter().find(|m| m.identity == cell.model)?;
    let part = |identity: Identity| TrainedPart {
        status: planned.artifacts.status(&identity),
        key: identity.key(),
    };
    if let Some(merge) = of_model.merge(cell) {
        return Some(part(merge.made.identity(cell.seed)));
    }
    let own = |e: &&PlannedEditor| e.editor.card().id == cell.variant.name();
    let editor = of_model.editors.iter().find(own)?;
    let trains = editor.learns == Learns::Parts;
    let given = editor.settings.get("trained").is_some_and(Value::is_string);
    (trains && !given).then(|| part(Identity::of(cell)))
}

fn grid(rows: &[Row]) -> String {
    let mut grid = Grid::new();
    grid.load_preset(comfy_table::presets::NOTHING);
    grid.set_header([
        "Key",
        "Status",
        "Model",
        "Task",
        "Dataset",
        "Editor",
        "Seed",
        "Records",
        "Trained part",
    ]);
    for row in rows {
        grid.add_row([
            row.key[..12].to_owned(),
            row.status.to_owned(),
            row.model.clone(),
            row.task.clone(),
            row.dataset.clone(),
            row.editor.clone(),
            row.seed.to_string(),
            format!("<= {}", row.candidates),
            match &row.trained_part {
                Some(part) => format!("{} {}", &part.key[..12], part.status),
                None => String::new(),
            },
        ]);
    }
    grid.trim_fmt()
}

/// `key = value` lines, tables indented below their name.
fn settings(value: &Value, indent: &str) -> String {
    let Value::Object(map) = value else {
        return value.to_string();
    };
    let lines: Vec<_> = map
        .iter()
        .map(|(key, value)| match value {
            Value::Object(inner) if inner.is_empty() => format!("{indent}{key}: none"),
            Value::Object(_) => {
                format!(
                    "{indent}{key}:\n{}",
                    settings(value, &format!("{indent}  "))
                )
            }
            Value::String(text) if text.contains('\n') => {
                let lines: Vec<_> = text.lines().map(|l| format!("{indent}  {l}")).collect();
                format!("{indent}{key}:\n{}", lines.join("\n"))
            }
            scalar => format!("{indent}{key} = {scalar}"),
        })
        .collect();
    lines.join("\n")
}
