//! The report as the paper's table: rows are editors grouped by model, one block per task.

use comfy_table::{Cell, Row};
use debias_core::{CellResult, Estimate, Status, Task, metrics::HEADLINE};

use super::grid::{empty_grid, lines, right};
use super::{Exporter, Report, closing_sentence, merges};

/// The table for people.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Columns of the terminal; `None` when there is none, which is taken as wide.
    pub width: Option<usize>,
}

impl Exporter for Table {
    fn export(&self, report: &Report) -> String {
        let tasks: Vec<Task> = Task::ALL
            .into_iter()
            .filter(|task| report.run.cells.iter().any(|cell| cell.task == *task))
            .collect();
        let side_by_side = grid(report, &tasks);
        let columns = side_by_side.lines().map(|line| line.chars().count()).max();
        let mut parts: Vec<String> = match self.width < columns && self.width.is_some() {
            true => tasks.iter().map(|task| grid(report, &[*task])).collect(),
            false => vec![side_by_side],
        };
        parts.push(
            "Percent with 95% intervals (paired bootstrap over records). bench list metrics explains the columns; --json has them all."
                .to_owned(),
        );
        parts.extend(merges::section(report));
        if let Some(stand_in) = &report.stand_in {
            parts.push(format!("* measured on {stand_in}"));
        }
        parts.extend(report.remarks.iter().cloned());
        parts.extend(editors_say(report));
        parts.extend(failures(report));
        parts.extend(closing_sentence(report));
        parts.push(format!("Results: {}", report.run.run));
        parts.join("\n\n")
    }
}

/// What tells two rows of one model apart.
fn row_name(cell: &CellResult, seeds: bool) -> String {
    let mut name = cell.editor.clone();
    if cell.batch > 1 {
        name.push_str(&format!(" x{}", cell.batch));
    }
    if let Some(mode) = cell.mode {
        name.push_str(&format!(" {}", mode.name()));
    }
    if let Some(gap) = cell.gap {
        name.push_str(&format!(" {gap}"));
    }
    let parts = [&cell.side, &cell.train_bias, &cell.eval_bias];
    for part in parts.into_iter().flatten() {
        name.push_str(&format!(" {part}"));
    }
    if seeds {
        name.push_str(&format!(" seed {}", cell.seed));
    }
    name
}

fn grid(report: &Report, tasks: &[Task]) -> String {
    let cells = &report.run.cells;
    let seeds = cells.iter().any(|cell| cell.seed != cells[0].seed);
    let mut rows: Vec<(&str, String)> = Vec::new();
    for cell in cells {
        let row = (cell.model.as_str(), row_name(cell, seeds));
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    let mut grid = empty_grid();
    grid.set_header(header(report, tasks));
    let mut above = "";
    for (model, name) in &rows {
        if *model != above {
            grid.add_row([model]);
            above = model;
        }
        let mut row = Row::from([format!("  {name}")]);
        for task in tasks {
            let cell = cells.iter().find(|cell| {
                cell.task == *task && cell.model == *model && row_name(cell, seeds) == *name
            });
            for text in block(cell) {
                row.add_cell(right(text));
            }
        }
        grid.add_row(row);
    }
    lines(&mut grid)
}

fn header(report: &Report, tasks: &[Task]) -> Row {
    let mut row = Row::new();
    row.add_cell(Cell::new("\nEditor"));
    for task in tasks {
        let title = task.name().to_uppercase();
        row.add_cell(right(format!("{title}\nn")));
        for name in HEADLINE {
            let label = match name {
                "reliability" => "\nRel.",
                "t_generality" => "\nT-Gen.",
                "v_generality" => "\nV-Gen.",
                "t_locality" => "\nT-Loc.",
                _ if report.stand_in.is_some() => "\nM-Loc.*",
                _ => "\nM-Loc.",
            };
            row.add_cell(right(label));
        }
    }
    row
}

/// The number of records and the five metrics of one cell.
fn block(cell: Option<&CellResult>) -> Vec<String> {
    let empty = |text: &str| {
        let mut block = vec![text.to_owned()];
        block.resize(1 + HEADLINE.len(), String::new());
        block
    };
    match cell {
        None => empty("-"),
        Some(cell) if cell.status == Status::Failed => empty("failed"),
        Some(cell) => std::iter::once(cell.n.to_string())
            .chain(HEADLINE.iter().map(|name| match cell.metrics.get(*name) {
                Some(estimate) => percent(estimate),
                None => "-".to_owned(),
            }))
            .collect(),
    }
}

pub(super) fn percent(estimate: &Estimate) -> String {
    // `100` in place of `100.0` keeps the widest interval short.
    let end = |x: f64| match format!("{:.1}", 100.0 * x).as_str() {
        "100.0" => "100".to_owned(),
        text => text.to_owned(),
    };
    let (low, high) = (end(estimate.low), end(estimate.high));
    format!("{:.1}\n{low}–{high}", 100.0 * estimate.value)
}

/// What editors say about their cells, each sentence once.
fn editors_say(report: &Report) -> Option<String> {
    let mut said: Vec<&str> = Vec::new();
    let remarks = report.run.cells.iter().flat_map(|cell| &cell.remarks);
    for remark in remarks {
        if !said.contains(&remark.as_str()) {
            said.push(remark);
        }
    }
    (!said.is_empty()).then(|| said.join("\n"))
}

/// One line per failed cell and per cell with failed records.
fn failures(report: &Report) -> Option<String> {
    let name = |cell: &CellResult| format!("{} {} {}", cell.model, cell.task.name(), cell.editor);
    let lines: Vec<_> = report
        .run
        .cells
        .iter()
        .filter_map(|cell| match &cell.error {
            Some(error) => Some(format!("failed: {}: {error}", name(cell))),
            None if cell.failed > 0 => Some(format!(
                "{}: {} records could not be edited and are not averaged; see {}",
                name(cell),
                cell.failed,
                cell.records
            )),
            None => None,
        })
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests;
